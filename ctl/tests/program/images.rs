//! Images.

use super::*;

#[test]
fn images() {
    let (laptop, _fake) = acquainted();
    for words in [&["images"][..], &["image", "ls"]] {
        assert_eq!(
            laptop.prints(words),
            "\
NAME               DIGEST            SIZE  USED BY
example.org/kept:1  0123456789ab   2.0 KiB  no unit, kept until removed
example.org/web:1   0123456789ab  12.3 MiB  web
"
            .replace(
                "NAME               DIGEST            SIZE",
                "NAME                DIGEST            SIZE"
            )
        );
    }
    let list: Vec<serde_json::Value> = serde_json::from_str(&laptop.prints(&["images", "--json"])).unwrap();
    assert_eq!((&list[1]["used_by"][0], &list[1]["bytes"]), (&"web".into(), &12_897_484.into()));
}

#[test]
fn a_pull_tells_how_far_it_is() {
    let (laptop, fake) = acquainted();
    let half = || {
        let mut job = fake::job("pulling", "pulling, 1 of 2 MiB");
        (job.done, job.total) = (1 << 20, Some(2 << 20));
        job
    };
    fake.job_goes(vec![half(), fake::job("unpacking", ""), fake::job("done", "")]);
    let Output { code, out, err } = laptop.berth(&["pull", "example.org/new:1"]);
    assert_eq!((code, out.as_str()), (0, "example.org/new:1 is here\n"));
    assert_eq!(err, "pull example.org/new:1: pulling, 1.0 MiB of 2.0 MiB (50 %)\n");
    assert!(fake.asked().iter().any(|asked| asked.contains("Pull(\"example.org/new:1\")")));
    // Nobody reads along: one object, and nothing else.
    fake.job_goes(vec![half(), fake::job("failed", "image example.org/new:1 not pulled: registry says 404")]);
    let Output { code, out, err } = laptop.berth(&["pull", "example.org/new:1", "--json"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let job: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&job["state"], &job["id"]), (&"failed".into(), &7.into()));
    // The machine has forgotten it.
    let mut other = fake::job("done", "");
    other.id = 8;
    fake.job_goes(vec![other]);
    let Output { code, err, .. } = laptop.berth(&["pull", "example.org/new:1"]);
    assert!(code == 1 && err.contains("was restarted meanwhile"), "{err}");
}

#[test]
fn images_are_removed_by_name_and_all_at_once() {
    let (laptop, fake) = acquainted();
    let removed =
        |order: ImageOrder| fake.job_goes(vec![JobStatus { order, ..fake::job("done", "1 image") }]);
    removed(ImageOrder::Remove("a:1".into()));
    for words in [&["rmi", "a:1"][..], &["image", "rm", "a:1"]] {
        assert_eq!(laptop.prints(words), "a:1 is removed: 1 image\n");
    }
    assert!(fake.asked().iter().any(|asked| asked.contains("Remove(\"a:1\")")));
    removed(ImageOrder::Prune);
    assert_eq!(laptop.prints(&["image", "prune"]), "what no unit needs is removed: 1 image\n");
    assert_eq!(laptop.berth(&["rmi"]).code, 2);
    let refused = laptop.berth(&["rmi", "a b"]);
    assert!(refused.code == 1 && refused.err.contains("no image's name"), "{}", refused.err);
}

#[test]
fn an_archive_is_sent_from_a_file_or_a_pipe() {
    let (laptop, fake) = acquainted();
    let done = JobStatus { order: ImageOrder::Load, ..fake::job("done", "web:1, other:1") };
    fake.job_goes(vec![done]);
    let archive: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_be_bytes).collect();
    let file = laptop.folder.path().join("images.tar");
    fs::write(&file, &archive).unwrap();
    let file = file.to_str().unwrap();
    for words in [&["load", file][..], &["load", "-i", file], &["image", "load", file]] {
        let Output { code, out, .. } = laptop.berth(words);
        assert_eq!((code, out.as_str()), (0, "loaded: web:1, other:1\n"));
        assert!(fake.archive() == archive, "it came as something else");
    }
    let mut command = laptop.command(&["load", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &archive).unwrap();
    let output = child.wait_with_output().unwrap();
    let job: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&job["state"], &job["order"]), (&"done".into(), &"load".into()));
    assert!(fake.archive() == archive);

    let missing = laptop.berth(&["load", "/nonexistent.tar"]);
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("/nonexistent.tar cannot be read"), "{}", missing.err);
    assert_eq!(laptop.berth(&["load"]).code, 2);
}

#[test]
fn a_store_that_wants_no_more_is_heard() {
    let (laptop, fake) = acquainted();
    let full = "the archive was not taken: the state partition is full";
    fake.job_goes(vec![JobStatus { order: ImageOrder::Load, ..fake::job("failed", full) }]);
    fake.takes(100_000);
    let file = laptop.folder.path().join("images.tar");
    fs::write(&file, vec![7; 40 << 20]).unwrap();
    let Output { code, out, err } = laptop.berth(&["load", file.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (1, &*format!("load: failed: {full}\n")), "{err}");
    assert_eq!(fake.archive().len(), 100_000);
}
