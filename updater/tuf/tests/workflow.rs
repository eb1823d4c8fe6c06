//! Every step of the client's workflow, each with what must be refused there. The TUF project's suite is run besides
//! (`.ci/tuf-conformance`); here are the bounds and the cases that it does not have.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod support;

use berth_tuf::metadata::Envelope;
use berth_tuf::time::{Clock, Time};
use berth_tuf::{Client, Error, hex, limits};
use std::io::Read;
use support::*;

fn refused(disk: &mut Memory, repo: &mut Repo) -> String {
    refresh(disk, repo, 0).expect_err("it was taken").to_string()
}

/// A machine that has seen the repository as it is.
fn machine(repo: &mut Repo) -> Memory {
    let mut disk = Memory::default();
    refresh(&mut disk, repo, 0).unwrap();
    disk
}

#[test]
fn what_is_asked_for_and_kept() {
    let mut repo = Repo::new();
    let mut disk = machine(&mut repo);
    assert_eq!(repo.server.asked, ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]);
    assert_eq!(versions(&disk), [Some(1); 4]);
    // With nothing new, only the newest root and timestamp are asked for.
    repo.server.asked.clear();
    refresh(&mut disk, &mut repo, 0).unwrap();
    assert_eq!(repo.server.asked, ["2.root.json", "timestamp.json"]);
}

// §5.3: the root.

#[test]
fn roots_are_followed_one_by_one() {
    let mut repo = Repo::new();
    let mut disk = machine(&mut repo);
    // One key is replaced, then another: nobody who knows version 1 knows two keys of version 3.
    *at(&mut repo.root, &["keys"]) = keys(&[1, 2, 4, 11, 12, 13]);
    *at(&mut repo.root, &["roles", "root"]) = authority(&[1, 2, 4], 2);
    repo.next_root();
    *at(&mut repo.root, &["keys"]) = keys(&[2, 4, 5, 11, 12, 13]);
    *at(&mut repo.root, &["roles", "root"]) = authority(&[2, 4, 5], 2);
    repo.root_keys = vec![1, 2, 4];
    repo.next_root();
    repo.root_keys = vec![4, 5];
    // An old one that has expired is no obstacle.
    repo.next_root();
    refresh(&mut disk, &mut repo, 0).unwrap();
    assert_eq!(kept(&disk, "root"), Some(4));
}

#[test]
fn a_root_that_too_few_signed() {
    // By the old keys, by the new keys, by one of each; by one key twice under two names.
    for signers in [&[1, 2][..], &[4, 5], &[1, 4], &[1]] {
        let mut repo = Repo::new();
        let mut disk = machine(&mut repo);
        *at(&mut repo.root, &["keys"]) = keys(&[4, 5, 11, 12, 13]);
        *at(&mut repo.root, &["roles", "root"]) = authority(&[4, 5], 2);
        repo.root_keys = signers.to_vec();
        repo.next_root();
        let why = refused(&mut disk, &mut repo);
        assert!(why.starts_with("2.root.json: signed by "), "{why}");
        assert_eq!(kept(&disk, "root"), Some(1));
    }
}

#[test]
fn a_root_of_another_version() {
    let mut repo = Repo::new();
    let mut disk = machine(&mut repo);
    for version in [1, 3, u64::MAX / 2] {
        *at(&mut repo.root, &["version"]) = version.into();
        repo.server.metadata.insert("2.root.json".into(), sign(&repo.root, &[1, 2]));
        assert_eq!(
            refused(&mut disk, &mut repo),
            format!("2.root.json: says it is version {version}, not 2")
        );
    }
}

#[test]
fn of_several_roots_the_last_one_must_be_valid() {
    let mut repo = Repo::new();
    *at(&mut repo.root, &["expires"]) = day(1);
    repo.next_root();
    *at(&mut repo.root, &["expires"]) = day(400);
    repo.next_root();
    let mut disk = Memory::default();
    refresh(&mut disk, &mut repo, 5).unwrap();
    *at(&mut repo.root, &["expires"]) = day(1);
    repo.next_root();
    let why = refresh(&mut disk, &mut repo, 5).unwrap_err().to_string();
    assert!(
        why.starts_with("root.json: valid until 2026-11-30T00:00:00Z only, and it is 2026-12-04"),
        "{why}"
    );
    // It is kept all the same (§5.3.8 comes before §5.3.10), and the next one mends it.
    assert_eq!(kept(&disk, "root"), Some(4));
    *at(&mut repo.root, &["expires"]) = day(400);
    repo.next_root();
    refresh(&mut disk, &mut repo, 5).unwrap();
}

#[test]
fn more_roots_than_one_refresh_takes() {
    let mut repo = Repo::new();
    for _ in 0..limits::ROOTS {
        repo.next_root();
    }
    let mut disk = Memory::default();
    assert!(refused(&mut disk, &mut repo).contains("256 roots at once"));
    refresh(&mut disk, &mut repo, 0).unwrap();
    assert_eq!(kept(&disk, "root"), Some(limits::ROOTS + 1));
}

#[test]
fn an_anchor_that_is_none() {
    let mut repo = Repo::new();
    let anchors = [vec![], b"{}".to_vec(), sign(&repo.root, &[1]), sign(&repo.root, &[11, 12]), {
        let mut bytes = repo.anchor();
        bytes.truncate(bytes.len() - 1);
        bytes
    }];
    for anchor in anchors {
        let error = Client::open(Memory::default(), &anchor, &clock(0)).unwrap_err();
        assert!(error.to_string().starts_with("trusted root: "), "{error}");
    }
    assert!(repo.server.asked.is_empty());
    refresh(&mut Memory::default(), &mut repo, 0).unwrap();
}

#[test]
fn another_anchor_counts_unless_it_is_an_older_one_of_the_same_repository() {
    let open = |disk: &Memory, anchor: &[u8]| {
        let mut client = Client::open(disk.clone(), anchor, &clock(0)).unwrap();
        let version = berth_tuf::metadata::Role::header(client.root()).version;
        (version, client.refresh(&mut Server::default()).is_err(), client.into_disk()).clone()
    };
    let mut ours = Repo::new();
    *at(&mut ours.root, &["x-berth-repository"]) = "ours".into();
    ours.publish_root();
    ours.next_root();
    ours.next_root();
    let [first, .., third] =
        [1, 2, 3].map(|version| ours.server.metadata[&format!("{version}.root.json")].clone());
    let mut disk = Memory::default();
    refresh(&mut disk, &mut ours, 0).unwrap();
    // A newer system brings version 3, an older one version 1 again: what was reached stays.
    let (version, _, disk) = open(&disk, &third);
    assert_eq!((version, kept(&disk, "timestamp")), (3, Some(1)));
    let (version, _, disk) = open(&disk, &first);
    assert_eq!((version, kept(&disk, "timestamp")), (3, Some(1)));
    // Another repository: nothing of this one's versions counts there.
    let mut theirs = Repo::new();
    *at(&mut theirs.root, &["x-berth-repository"]) = "theirs".into();
    theirs.publish_root();
    let (version, _, disk) = open(&disk, &theirs.anchor());
    assert_eq!((version, kept(&disk, "timestamp")), (1, None));
}

// §5.4: the timestamp.

#[test]
fn a_timestamp_that_is_not_one() {
    let mut repo = Repo::new();
    let mut disk = machine(&mut repo);
    repo.server.metadata.remove("timestamp.json");
    assert_eq!(refused(&mut disk, &mut repo), "timestamp.json: not there");
    repo.timestamp_key = 12;
    repo.next_timestamp();
    assert_eq!(refused(&mut disk, &mut repo), "timestamp.json: signed by 0 of the keys that count, 1 must");
    repo.timestamp_key = 11;
    *at(&mut repo.timestamp, &["_type"]) = "snapshot".into();
    repo.publish_timestamp();
    assert_eq!(refused(&mut disk, &mut repo), "timestamp.json: is of type \"snapshot\", not \"timestamp\"");
    *at(&mut repo.timestamp, &["_type"]) = "timestamp".into();
    *at(&mut repo.timestamp, &["spec_version"]) = "2.0.0".into();
    repo.publish_timestamp();
    assert!(refused(&mut disk, &mut repo).contains("follows version \"2.0.0\""));
    assert_eq!(versions(&disk), [Some(1); 4]);
}

#[test]
fn the_same_timestamp_again_with_other_content_changes_nothing() {
    let mut repo = Repo::new();
    let mut disk = machine(&mut repo);
    let before = disk.clone();
    *at(&mut repo.timestamp, &["meta", "snapshot.json", "version"]) = 9.into();
    repo.publish_timestamp();
    refresh(&mut disk, &mut repo, 0).unwrap();
    assert_eq!(disk.files, before.files);
}

#[test]
fn what_is_kept_and_cannot_be_read_is_fetched_again() {
    for role in ["timestamp", "snapshot", "targets", "root"] {
        for content in [&b""[..], b"{}", &[0; 4096]] {
            let mut repo = Repo::new();
            let mut disk = machine(&mut repo);
            let before = disk.clone();
            disk.files.insert(format!("{role}.json"), content.to_vec());
            refresh(&mut disk, &mut repo, 0).unwrap();
            assert_eq!(disk.files, before.files, "{role}");
        }
    }
}

// §5.5: the snapshot.

#[test]
fn a_snapshot_that_is_not_what_the_timestamp_lists() {
    let mut repo = Repo::new();
    let mut disk = machine(&mut repo);
    repo.next();
    let other = sign(&repo.snapshot, &[12, 13]);
    repo.server.metadata.insert("2.snapshot.json".into(), other);
    assert!(refused(&mut disk, &mut repo).starts_with("2.snapshot.json: its content is not what was signed"));
    // Signed by the timestamp's key as something else than it is: the version inside counts too.
    *at(&mut repo.snapshot, &["version"]) = 3.into();
    repo.publish_snapshot();
    *at(&mut repo.timestamp, &["meta", "snapshot.json", "version"]) = 2.into();
    repo.next_timestamp();
    let bytes = repo.server.metadata["3.snapshot.json"].clone();
    repo.server.metadata.insert("2.snapshot.json".into(), bytes);
    assert_eq!(refused(&mut disk, &mut repo), "2.snapshot.json: says it is version 3, not 2");
    assert_eq!(kept(&disk, "snapshot"), Some(1));
}

#[test]
fn a_snapshot_that_lists_less_or_older() {
    let mut repo = Repo::new();
    repo.next();
    *at(&mut repo.snapshot, &["meta", "extra.json", "version"]) = 4.into();
    repo.next_snapshot();
    let mut disk = machine(&mut repo);
    *at(&mut repo.snapshot, &["meta", "extra.json", "version"]) = 3.into();
    repo.next_snapshot();
    let why = refused(&mut disk, &mut repo);
    assert!(why.starts_with("4.snapshot.json: version 3 of extra is older than 4"), "{why}");
    let berth_tuf::json::Value::Object(meta) = at(&mut repo.snapshot, &["meta"]) else { panic!() };
    meta.remove("extra.json");
    repo.next_snapshot();
    assert_eq!(refused(&mut disk, &mut repo), "5.snapshot.json: no longer lists extra, which it did before");
}

#[test]
fn expired() {
    for (role, file) in
        [("timestamp", "timestamp.json"), ("snapshot", "2.snapshot.json"), ("targets", "2.targets.json")]
    {
        let mut repo = Repo::new();
        let mut disk = machine(&mut repo);
        let value = match role {
            "timestamp" => &mut repo.timestamp,
            "snapshot" => &mut repo.snapshot,
            _ => &mut repo.targets.get_mut("targets").unwrap().0,
        };
        *at(value, &["expires"]) = day(0);
        repo.next();
        let why = refused(&mut disk, &mut repo);
        assert!(why.starts_with(&format!("{file}: valid until 2026-11-29T00:00:00Z only")), "{why}");
        assert_eq!(kept(&disk, role), Some(1));
    }
}

#[test]
fn what_is_kept_expires_too() {
    let mut repo = Repo::new();
    let mut disk = machine(&mut repo);
    let error = refresh(&mut disk, &mut repo, 8).unwrap_err();
    assert!(matches!(error, Error::Expired { .. }), "{error}");
    // What has expired still says which versions have been seen, and something newer ends it.
    *at(&mut repo.timestamp, &["expires"]) = day(20);
    repo.next_timestamp();
    refresh(&mut disk, &mut repo, 8).unwrap();
}

// §5.6: targets.

#[test]
fn targets_that_are_not_what_the_snapshot_lists() {
    let mut repo = Repo::new();
    let mut disk = machine(&mut repo);
    repo.next();
    let mut longer = repo.server.metadata["2.targets.json"].clone();
    longer.push(b' ');
    repo.server.metadata.insert("2.targets.json".into(), longer);
    assert!(refused(&mut disk, &mut repo).starts_with("2.targets.json: longer than "));
    repo.targets.get_mut("targets").unwrap().1 = 12;
    repo.next();
    assert_eq!(refused(&mut disk, &mut repo), "3.targets.json: signed by 0 of the keys that count, 1 must");
    let berth_tuf::json::Value::Object(meta) = at(&mut repo.snapshot, &["meta"]) else { panic!() };
    meta.clear();
    let mut disk = Memory::default();
    repo.publish_snapshot();
    assert_eq!(refused(&mut disk, &mut repo), "snapshot.json: does not list \"targets\"");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["../a", "/etc/passwd", "a/../../b", "a//b", "a\\b", "a\nb", ""] {
        let mut repo = Repo::new();
        let described = described(b"x");
        *at(repo.top(), &["targets", name]) = described;
        repo.next();
        let why = refused(&mut Memory::default(), &mut repo);
        assert!(why.starts_with(&format!("2.targets.json: target {name:?}: ")), "{why}");
    }
}

#[test]
fn a_repository_without_versions_in_its_names() {
    let mut repo = Repo::new();
    *at(&mut repo.root, &["consistent_snapshot"]) = false.into();
    repo.publish_root();
    let mut client = Client::open(Memory::default(), &repo.anchor(), &clock(0)).unwrap();
    client.refresh(&mut repo.server).unwrap();
    let target = client.target(&mut repo.server, "a").unwrap().unwrap();
    let mut text = String::new();
    client.open_target(&mut repo.server, &target).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, content("a"));
    assert_eq!(repo.server.asked, ["2.root.json", "timestamp.json", "snapshot.json", "targets.json", "a"]);
}

// Keys and signatures.

#[test]
fn one_key_under_two_names_counts_once() {
    let mut repo = Repo::new();
    // Key 4 again, its hexadecimal in capitals: another key id, the same key.
    let mut capitals = Pair::new(4).object();
    let public = at(&mut capitals, &["keyval", "public"]).as_str().unwrap().to_uppercase();
    *at(&mut capitals, &["keyval", "public"]) = public.into();
    *at(&mut repo.root, &["keys", &Pair::new(4).id()]) = Pair::new(4).object();
    *at(&mut repo.root, &["keys", "capitals"]) = capitals;
    let ids = vec![Pair::new(4).id(), "capitals".to_owned()];
    *at(&mut repo.root, &["roles", "timestamp"]) =
        berth_tuf::json::Value::from([("keyids", ids.into()), ("threshold", 2.into())]);
    repo.next_root();
    *at(&mut repo.timestamp, &["version"]) = 2.into();
    let signature = Pair::new(4).signature(&repo.timestamp.canonical());
    let twice = vec![(Pair::new(4).id(), signature.clone()), ("capitals".to_owned(), signature)];
    repo.server.metadata.insert("timestamp.json".into(), envelope(&repo.timestamp, twice));
    assert_eq!(
        refused(&mut Memory::default(), &mut repo),
        "timestamp.json: signed by 1 of the keys that count, 2 must"
    );
}

#[test]
fn what_stands_twice_is_refused() {
    let mut repo = Repo::new();
    let (id, signature) = (Pair::new(11).id(), Pair::new(11).signature(&repo.timestamp.canonical()));
    let twice = envelope(&repo.timestamp, vec![(id.clone(), signature.clone()), (id.clone(), signature)]);
    repo.server.metadata.insert("timestamp.json".into(), twice);
    assert_eq!(
        refused(&mut Memory::default(), &mut repo),
        format!("timestamp.json: has two signatures of key {id:?}")
    );
    let text = String::from_utf8(sign(&repo.timestamp, &[11])).unwrap();
    let twice = text.replace("\"version\":1", "\"version\":1,\"version\":1");
    repo.server.metadata.insert("timestamp.json".into(), twice.into());
    assert!(refused(&mut Memory::default(), &mut repo).contains("the same name twice in one object"));
    repo.publish();
    *at(&mut repo.root, &["roles", "snapshot"]) = authority(&[12, 12], 2);
    repo.next_root();
    assert!(refused(&mut Memory::default(), &mut repo).starts_with("2.root.json: a role that lists key"));
}

#[test]
fn a_role_without_threshold_is_refused() {
    let mut repo = Repo::new();
    *at(&mut repo.root, &["roles", "timestamp", "threshold"]) = 0.into();
    repo.next_root();
    assert_eq!(refused(&mut Memory::default(), &mut repo), "2.root.json: a role that takes no signature");
}

// Bounds.

#[test]
fn files_that_never_end() {
    for file in ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let mut repo = Repo::new();
        repo.server.endless = Some(file.to_owned());
        let why = refused(&mut Memory::default(), &mut repo);
        assert!(why.starts_with(&format!("{file}: longer than ")), "{why}");
    }
}

#[test]
fn more_than_the_client_counts() {
    let repo = Repo::new();
    let many = |count: usize| {
        envelope(&repo.timestamp, (0..count).map(|n| (n.to_string(), String::new())).collect())
    };
    assert!(Envelope::parse(&many(limits::KEYS)).is_ok());
    assert_eq!(Envelope::parse(&many(limits::KEYS + 1)).unwrap_err(), "has more than 256 signatures");
    let mut repo = Repo::new();
    for number in 0..limits::ROLES {
        *at(&mut repo.snapshot, &["meta", &format!("{number}.json"), "version"]) = 1.into();
    }
    repo.next_snapshot();
    assert_eq!(refused(&mut Memory::default(), &mut repo), "2.snapshot.json: lists more than 1024 roles");
}

// The clock.

#[test]
fn now_is_never_before_what_is_known_to_have_passed() {
    let mut repo = Repo::new();
    *at(&mut repo.timestamp, &["expires"]) = day(3);
    repo.next_timestamp();
    let mut disk = Memory::default();
    refresh(&mut disk, &mut repo, 2).unwrap();
    // The clock goes back: still day 2. A freeze ends when the timestamp does.
    let back = Client::open(disk.clone(), &repo.anchor(), &clock(0)).unwrap();
    assert_eq!(back.now(), Time::from_seconds(TODAY + 2 * DAY));
    // A system that was built on day 4 knows that the timestamp is over.
    let built = Clock { now: Time::default(), built: Time::from_seconds(TODAY + 4 * DAY) };
    let mut client = Client::open(disk, &repo.anchor(), &built).unwrap();
    assert!(matches!(client.refresh(&mut repo.server), Err(Error::Expired { .. })));
}

#[test]
fn a_clock_that_ran_ahead_delays_and_does_not_strand() {
    let mut repo = Repo::new();
    let mut disk = machine(&mut repo);
    // A year ahead: refused, and nothing of that time is kept.
    assert!(matches!(refresh(&mut disk, &mut repo, 365), Err(Error::Expired { .. })));
    refresh(&mut disk, &mut repo, 0).unwrap();
    // Six days ahead, while the timestamp holds: kept. With the next signature the machine goes on.
    refresh(&mut disk, &mut repo, 6).unwrap();
    *at(&mut repo.timestamp, &["expires"]) = day(8);
    repo.next_timestamp();
    refresh(&mut disk, &mut repo, 1).unwrap();
    assert_eq!(kept(&disk, "timestamp"), Some(2));
}

// §5.7: content.

#[test]
fn content_that_was_not_signed() {
    let mut repo = Repo::new();
    let mut client = Client::open(Memory::default(), &repo.anchor(), &clock(0)).unwrap();
    assert!(client.target(&mut repo.server, "a").unwrap_err().to_string().contains("not been refreshed"));
    client.refresh(&mut repo.server).unwrap();
    let target = client.target(&mut repo.server, "a").unwrap().unwrap();
    let path = target.path().unwrap();
    let good = content("a");
    let try_with = |content: &[u8]| {
        let mut server = repo.server.clone();
        server.targets.insert(path.clone(), content.to_vec());
        let mut reader = client.open_target(&mut server, &target).unwrap();
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).expect_err("it was taken").to_string();
        assert!(read.len() <= good.len());
        // And no end that looks good afterwards.
        assert!(reader.read(&mut [0; 8]).is_err());
        error
    };
    assert_eq!(try_with(b""), "a: it has 0 bytes, not the 12 that were signed");
    assert_eq!(try_with(&good.as_bytes()[1..]), "a: it has 11 bytes, not the 12 that were signed");
    assert_eq!(try_with(format!("{good}.").as_bytes()), "a: it has more than the 12 bytes that were signed");
    assert!(
        try_with(good.to_uppercase().as_bytes())
            .starts_with("a: its content is not what was signed (sha256 ")
    );
    repo.server.endless = Some(path.clone());
    let mut reader = client.open_target(&mut repo.server, &target).unwrap();
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    drop(reader);
    repo.server.endless = None;
    repo.server.targets.clear();
    assert!(matches!(client.open_target(&mut repo.server, &target), Err(Error::Missing { .. })));
    assert_eq!(
        path,
        format!("{}.a", hex(ring::digest::digest(&ring::digest::SHA256, good.as_bytes()).as_ref()))
    );
}
