//! Files and folders out of a unit and into it. In these tests the unit's root is the machine's own.

use super::*;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

struct Places {
    laptop: Laptop,
    fake: Fake,
    folder: tempfile::TempDir,
}

impl Places {
    /// With a tree `tree` and an empty folder `empty`.
    fn new() -> Self {
        let (laptop, fake) = acquainted();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("tree/sub")).unwrap();
        fs::create_dir(at("empty")).unwrap();
        fs::write(at("tree/run"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(at("tree/run"), fs::Permissions::from_mode(0o750)).unwrap();
        fs::write(at("tree/sub/large"), vec![7; 1_000_000]).unwrap();
        symlink("sub/large", at("tree/link")).unwrap();
        Self { laptop, fake, folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn here(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    fn unit(&self, name: &str) -> String {
        format!("web:{}", self.here(name))
    }

    fn is_tree(&self, name: &str) {
        let at = |file: &str| self.at(name).join(file);
        assert_eq!(fs::read(at("sub/large")).unwrap(), vec![7; 1_000_000], "{name}");
        assert_eq!(fs::metadata(at("run")).unwrap().mode() & 0o7777, 0o750, "{name}");
        assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("sub/large"), "{name}");
        let time = |path: PathBuf| fs::metadata(path).unwrap().mtime();
        assert_eq!(time(at("run")), time(self.at("tree/run")), "{name}");
    }

    fn refused(&self, words: &[&str]) -> String {
        let Output { code, out, err } = self.laptop.berth(words);
        assert_eq!((code, out.as_str()), (2, ""), "{words:?}");
        err
    }
}

#[test]
fn folders_are_copied_both_ways() {
    let places = Places::new();
    let (here, unit) = (|name: &str| places.here(name), |name: &str| places.unit(name));
    let copies = [
        (unit("tree"), here("out"), "out"),
        (unit("tree"), here("empty"), "empty/tree"),
        (unit("tree/."), here("out"), "out"),
        (here("tree"), unit("in"), "in"),
        (here("tree/."), unit("in"), "in"),
        (here("tree"), unit("in"), "in/tree"),
    ];
    for (from, to, result) in copies {
        assert_eq!(places.laptop.prints(&["cp", &from, &to]), "", "{from} to {to}");
        places.is_tree(result);
    }
    // Files, and a link as what it leads to.
    places.laptop.prints(&["cp", &unit("tree/run"), &here("file")]);
    places.laptop.prints(&["cp", &here("file"), &unit("empty/")]);
    assert_eq!(fs::read(places.at("empty/file")).unwrap(), b"#!/bin/sh\n");
    places.laptop.prints(&["cp", "-L", &unit("tree/link"), &here("followed")]);
    assert!(fs::symlink_metadata(places.at("followed")).unwrap().is_file());
    let text = places.laptop.prints(&["cp", "--json", &unit("tree"), &here("counted")]);
    let copied: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&copied["bytes"], &copied["entries"]), (&1_000_010.into(), &5.into()));
}

#[test]
fn a_tar_goes_through_a_pipe() {
    let places = Places::new();
    let out = places.laptop.command(&["cp", &places.unit("tree"), "-"]).output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    let mut into = places.laptop.command(&["cp", "-", &places.unit("empty")]);
    let mut into = into.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    into.stdin.take().unwrap().write_all(&out.stdout).unwrap();
    let into = into.wait_with_output().unwrap();
    assert!(into.status.success() && into.stderr.is_empty(), "{}", String::from_utf8_lossy(&into.stderr));
    places.is_tree("empty/tree");
    // Cut short, it is said what is there.
    let mut cut = places.laptop.command(&["cp", "-", &places.unit("tree/sub")]);
    let mut cut = cut.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cut.stdin.take().unwrap().write_all(&out.stdout[..600]).unwrap();
    let cut = cut.wait_with_output().unwrap();
    let why = String::from_utf8(cut.stderr).unwrap();
    assert!(!cut.status.success() && why.contains("it did not arrive whole; 1 file or folder was"), "{why}");
}

#[test]
fn what_cannot_be_copied_is_said() {
    let places = Places::new();
    let (here, unit) = (|name: &str| places.here(name), |name: &str| places.unit(name));
    let absent = unit("absent");
    let why = places.refused(&["cp", &absent, &here("out")]);
    assert_eq!(why, format!("berth: web: {}: No such file or directory (os error 2)\n", here("absent")));
    let why = places.refused(&["cp", &unit("tree"), &here("tree/run")]);
    assert!(why.contains("is a folder, and") && why.contains("tree/run a file"), "{why}");
    let why = places.refused(&["cp", &here("tree"), &unit("tree/run")]);
    assert!(why.starts_with("berth: web: ") && why.contains("is a folder, and"), "{why}");
    let why = places.refused(&["cp", &here("tree"), &unit("absent/x")]);
    assert!(why.contains("there is no folder"), "{why}");
    let why = places.refused(&["cp", &here("tree"), "web:"]);
    assert!(why.contains("a path is missing"), "{why}");
    let why = places.refused(&["cp", "-", &unit("tree/run")]);
    assert!(why.contains("is no folder; an archive"), "{why}");
    for (from, to) in [("web:/a", "web:/b"), ("/a", "/b")] {
        assert!(places.refused(&["cp", from, to]).contains("one side is UNIT:PATH"));
    }
    // Nothing is begun where there is no place for it, and nothing of the machine is asked.
    let why = places.refused(&["cp", &unit("tree"), &here("absent/x")]);
    assert!(why.contains("there is no folder"), "{why}");
    // Pipes and the like are left out.
    nix::unistd::mkfifo(&places.at("tree/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (from, to, who) in [(unit("tree"), here("x"), "web: "), (here("tree"), unit("y"), "")] {
        let Output { code, err, .. } = places.laptop.berth(&["cp", &from, &to]);
        let said = format!("berth: {who}not copied: {} (a pipe)\n", here("tree/pipe"));
        assert_eq!((code, err), (0, said));
    }
}

#[test]
fn a_unit_that_lies_writes_nothing_else() {
    let places = Places::new();
    let entry = |kind: tar::EntryType, path: &str, link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let (file, folder, link) = (tar::EntryType::Regular, tar::EntryType::Directory, tar::EntryType::Symlink);
    let out = places.here("tree");
    let lies = [
        (entry(file, "conf/../../tree/evil", ""), "would lead out"),
        ([entry(link, "conf/out", &out), entry(file, "conf/out/evil", "")].concat(), "is no folder"),
        (entry(file, "/evil", ""), "an absolute name"),
        (entry(file, "conf/\x1b[2J", ""), "it did not arrive whole"),
    ];
    for (number, (lie, word)) in lies.into_iter().enumerate() {
        places.fake.stream_is([entry(folder, "conf", ""), lie].concat());
        let to = places.here(&format!("empty/{number}"));
        let why = places.refused(&["cp", "web:/etc/conf", &to]);
        assert!(why.contains(word) && why.contains("copied to") && !why.contains('\x1b'), "{why}");
        assert!(!places.at("tree/evil").exists());
    }
}
