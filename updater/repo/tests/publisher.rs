//! What a publisher does, seen by the files that result and by the machine's own client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod support;

use berth_repo::{Built, Done, RepoError, Repository, SecretKey, Setup};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use support::*;

#[test]
fn from_nothing_to_a_machine_that_fetches() {
    let publisher = Publisher::new();
    let mut machine = publisher.machine();
    assert_eq!(machine.version(0), "1.0");
    publisher.publish("1.1", 3);
    assert_eq!(machine.version(3), "1.1");
    let parts = machine.fetch(3).unwrap();
    for (file, content) in ["berth.efi", "root.erofs", "root.verity"].iter().zip(parts) {
        assert_eq!(content, fs::read(publisher.path("build-1.1").join(file)).unwrap(), "{file}");
    }
    let verified = publisher.verified(3).unwrap();
    assert_eq!(verified.channels, [("x86-64/stable".to_owned(), "1.1".to_owned())]);
    // Two releases of three parts, and the channel.
    assert_eq!(verified.targets.len(), 7);
    let roles: Vec<_> = verified
        .roles
        .iter()
        .map(|role| (role.role.as_str(), role.version, role.keys.len(), role.threshold))
        .collect();
    assert_eq!(
        roles,
        [
            ("root", 1, 3, 2),
            ("timestamp", 3, 1, 1),
            ("snapshot", 3, 1, 1),
            ("targets", 1, 3, 2),
            ("releases", 3, 1, 1)
        ]
    );
}

#[test]
fn secret_keys_are_in_files_of_their_owner_and_nowhere_else() {
    let publisher = Publisher::new();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&publisher.key_folder()), 0o700);
    let names = ["root-1", "root-2", "root-3", "releases", "online"];
    for name in names {
        let path = publisher.key_folder().join(format!("{name}.key"));
        assert_eq!(mode(&path), 0o600, "{name}");
        let text = fs::read_to_string(&path).unwrap();
        let secret = text.lines().nth(1).unwrap().to_owned();
        for folder in ["metadata", "targets"] {
            for entry in fs::read_dir(publisher.repo().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    assert!(!fs::read_to_string(path).unwrap().contains(&secret));
                }
            }
        }
    }
    assert_eq!(fs::read_dir(publisher.key_folder()).unwrap().count(), names.len());
    // Once more, over what is there: nothing is touched.
    let setup = Setup { root_keys: 3, threshold: 2 };
    let before = fs::read(publisher.metadata("1.root.json")).unwrap();
    let error = Repository::init(&publisher.repo(), &publisher.path("other"), setup, day(0)).unwrap_err();
    assert!(matches!(error, RepoError::Exists { .. }));
    assert!(!publisher.path("other").exists());
    let error =
        Repository::init(&publisher.path("second"), &publisher.key_folder(), setup, day(0)).unwrap_err();
    assert!(error.to_string().contains("root-1.key exists already"), "{error}");
    assert_eq!(fs::read(publisher.metadata("1.root.json")).unwrap(), before);
    for (root_keys, threshold) in [(3, 0), (1, 2), (0, 0), (17, 2)] {
        let setup = Setup { root_keys, threshold };
        assert!(Repository::init(&publisher.path("x"), &publisher.path("y"), setup, day(0)).is_err());
    }
}

#[test]
fn a_build_that_does_not_hold_together_is_not_published() {
    let publisher = Publisher::new();
    let spoil = |file: &str, change: fn(&mut Vec<u8>)| {
        let build = publisher.build("2.0");
        let mut content = fs::read(build.join(file)).unwrap();
        change(&mut content);
        fs::write(build.join(file), content).unwrap();
        Built::open(&build).expect_err(file).to_string()
    };
    assert!(spoil("root.erofs", |bytes| bytes[9000] ^= 1).contains("is not the verity tree of the root"));
    assert!(spoil("root.erofs", |bytes| bytes.truncate(4096)).contains("of a root of another size"));
    assert!(spoil("root.verity", |bytes| bytes[5000] ^= 1).contains("is not the verity tree of the root"));
    assert!(spoil("root.verity", Vec::clear).contains("no verity superblock"));
    assert!(spoil("berth.efi", |bytes| bytes.truncate(40)).contains("is not the UKI that starts this root"));
    assert!(spoil("release.json", |bytes| bytes.truncate(40)).contains("release.json: byte "));
    let other = |bytes: &mut Vec<u8>| {
        *bytes = String::from_utf8(bytes.clone()).unwrap().replace("berth", "barge").into()
    };
    assert!(spoil("release.json", other).contains("a release of \"barge\""));
    let twisted = |bytes: &mut Vec<u8>| {
        *bytes = String::from_utf8(bytes.clone()).unwrap().replace("2.0", "../2").into()
    };
    assert!(spoil("release.json", twisted).contains("\"version\" is missing, or cannot be one"));
}

#[test]
fn a_version_is_published_with_one_content() {
    let publisher = Publisher::new();
    // The same again is fine; another content under the same version is not.
    publisher.publish("1.0", 1);
    let build = publisher.build("1.0");
    let mut uki = fs::read(build.join("berth.efi")).unwrap();
    uki.push(b'x');
    fs::write(build.join("berth.efi"), uki).unwrap();
    let repository = Repository::open(&publisher.repo()).unwrap();
    let error =
        repository.publish_release(&Built::open(&build).unwrap(), "stable", &publisher.all_keys(), day(1));
    assert!(error.unwrap_err().to_string().contains("version 1.0 was published with another berth.efi"));
    // A channel can go back to what was there: the machine is offered it.
    publisher.publish("1.1", 2);
    publisher.publish("1.0", 3);
    let mut machine = publisher.machine();
    assert_eq!(machine.version(3), "1.0");
}

#[test]
fn signing_again_keeps_a_repository_alive() {
    let publisher = Publisher::new();
    let mut machine = publisher.machine();
    assert_eq!(machine.version(13), "1.0");
    assert!(matches!(machine.refuses(14), berth_tuf::Error::Expired { .. }));
    // Each day by the key on the server; the rest when half of its time has passed.
    publisher.sign(&["online"], 14).unwrap();
    assert_eq!(machine.version(27), "1.0");
    publisher.sign(&["online"], 80).unwrap();
    assert_eq!(machine.version(80), "1.0");
    publisher.sign(&["online"], 91).unwrap();
    let error = machine.refuses(91).to_string();
    assert!(error.starts_with("2.releases.json: valid until 2027-02-27"), "{error}");
    publisher.sign(&["online", "releases"], 91).unwrap();
    assert_eq!(machine.version(91), "1.0");
    let error = publisher.sign(&["releases"], 92).unwrap_err().to_string();
    assert!(error.starts_with("none of the keys given signs snapshot; its keys are "), "{error}");
    // The people come together once a year.
    publisher.sign(&["online", "releases", "root-1", "root-3"], 300).unwrap();
    publisher.sign(&["online", "releases"], 380).unwrap();
    assert_eq!(machine.version(380), "1.0");
    let roles: Vec<_> =
        publisher.verified(380).unwrap().roles.iter().map(|role| (role.role.clone(), role.version)).collect();
    assert_eq!(roles[0], ("root".to_owned(), 2));
    assert_eq!(roles[3], ("targets".to_owned(), 2));
}

#[test]
fn holders_of_root_keys_sign_one_after_the_other() {
    let publisher = Publisher::new();
    let mut machine = publisher.machine();
    machine.version(0);
    // Root key 3 is lost, one holder begins; nothing that readers see changes.
    let seen = publisher.snapshot("before");
    let new = SecretKey::create(&publisher.path("new.key")).unwrap();
    let keys = publisher.keys(&["root-1"]);
    let lost = publisher.key("root-3").id();
    let done = Repository::open(&publisher.repo()).unwrap().rotate(&lost[..12], &new, &keys, day(1)).unwrap();
    let lacking = vec![("root".to_owned(), 1, 2), ("targets".to_owned(), 1, 2)];
    assert_eq!(done, Done { waiting: lacking.clone(), ..Done::default() });
    for entry in fs::read_dir(seen.join("metadata")).unwrap() {
        let name = entry.unwrap().file_name();
        let now = fs::read(publisher.repo().join("metadata").join(&name)).unwrap();
        assert_eq!(fs::read(seen.join("metadata").join(&name)).unwrap(), now);
    }
    // What readers see is kept alive all the while, and releases come out.
    assert_eq!(publisher.sign(&["online"], 10).unwrap().waiting, lacking);
    assert_eq!(machine.version(20), "1.0");
    publisher.publish("1.1", 20);
    assert_eq!(machine.version(30), "1.1");
    let again = Repository::open(&publisher.repo()).unwrap().rotate(&lost, &new, &keys, day(20));
    assert!(again.unwrap_err().to_string().contains("waits for signatures"));
    // A signature that is none is found before anybody reads it.
    let staged = publisher.repo().join("staged/root.json");
    let honest = fs::read_to_string(&staged).unwrap();
    let spoilt = honest.replacen("\"sig\":\"", "\"sig\":\"00", 1);
    fs::write(&staged, spoilt).unwrap();
    let error = publisher.sign(&["root-2", "online"], 20).unwrap_err().to_string();
    assert_eq!(error, "the new root.json: signed by 1 of the keys that count, 2 must");
    assert_eq!(machine.version(30), "1.1");
    fs::write(&staged, honest).unwrap();
    // The second one has no other key with him; then the one with the server's finishes.
    let done = publisher.sign(&["root-2"], 21).unwrap();
    assert_eq!(done, Done { waiting: vec![("snapshot".to_owned(), 0, 1)], ..Done::default() });
    let done = publisher.sign(&["online"], 22).unwrap();
    assert!(done.waiting.is_empty() && done.published.contains(&("root".to_owned(), 2)));
    assert!(!publisher.repo().join("staged").exists());
    machine.version(22);
    let root = &publisher.verified(22).unwrap().roles[0];
    assert!(root.keys.contains(&new.id()) && !root.keys.contains(&lost) && root.keys.len() == 3);
    for wrong in ["", "abc", &lost[..12], "not a key"] {
        let error =
            Repository::open(&publisher.repo()).unwrap().rotate(wrong, &new, &publisher.all_keys(), day(23));
        assert!(error.unwrap_err().to_string().contains("not the beginning"), "{wrong}");
    }
}

#[test]
fn every_key_can_be_replaced_and_machines_follow() {
    let publisher = Publisher::new();
    let mut old = publisher.machine();
    old.version(0);
    for (number, name) in ["root-1", "releases", "online"].iter().enumerate() {
        publisher.rotate(name, &format!("{name}-new"), 1 + number as u64);
        let file = publisher.key_folder().join(format!("{name}.key"));
        fs::rename(&file, file.with_extension("old")).unwrap();
    }
    // From the first root on, with none in between missing, also for a machine that slept.
    assert_eq!(old.version(5), "1.0");
    let keys = publisher.all_keys();
    assert!(publisher.try_publish("1.1", &keys, 5).unwrap().done.waiting.is_empty());
    assert_eq!(old.version(5), "1.1");
    assert_eq!(publisher.machine().version(5), "1.1");
}

#[test]
fn verify_reads_every_byte() {
    let publisher = Publisher::new();
    let targets = publisher.repo().join("targets/x86-64/1.0");
    let file = fs::read_dir(&targets).unwrap().map(|entry| entry.unwrap().path());
    let root = file.into_iter().find(|path| path.to_string_lossy().ends_with(".root.erofs")).unwrap();
    let mut content = fs::read(&root).unwrap();
    content[100] ^= 1;
    fs::write(&root, content).unwrap();
    let error = publisher.verified(0).unwrap_err().to_string();
    assert!(error.contains("x86-64/1.0/root.erofs: its content is not what was signed"), "{error}");
    assert!(matches!(publisher.verified(20), Err(RepoError::Client(berth_tuf::Error::Expired { .. }))));
    let nowhere = berth_repo::verify(&publisher.path("nowhere"), None, day(0)).unwrap_err().to_string();
    assert!(nowhere.contains("is no update repository; \"berth repo init\" makes one"), "{nowhere}");
    // Somebody else's root does not vouch for this repository.
    let other = Publisher::new();
    let error =
        berth_repo::verify(&publisher.repo(), Some(&other.metadata("1.root.json")), day(0)).unwrap_err();
    assert!(error.to_string().starts_with("timestamp.json: signed by 0 of the keys that count"), "{error}");
}
