//! The power goes after each operation on the state's folder: the client goes on, and has forgotten no version.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod support;

use berth_tuf::{Client, Error};
use support::*;

/// A machine with history: two refreshes, a new root in between.
fn before() -> (Repo, Memory) {
    let mut repo = Repo::new();
    let mut disk = Memory::default();
    refresh(&mut disk, &mut repo, 0).unwrap();
    repo.next_root();
    repo.next();
    refresh(&mut disk, &mut repo, 1).unwrap();
    (repo, disk)
}

/// Cuts a refresh (at day 2) of what `change` made after each of its operations; `check` looks at each state.
/// Returns how many there were.
fn cut_everywhere(change: impl Fn(&mut Repo), check: impl Fn(&Memory, &mut Repo)) -> usize {
    for after in 0.. {
        let (mut repo, mut disk) = before();
        change(&mut repo);
        disk.left = Some(after);
        let done = refresh(&mut disk, &mut repo, 2);
        disk.left = None;
        check(&disk, &mut repo);
        let whole = done.is_ok();
        if let Err(error) = done {
            assert!(matches!(error, Error::State { .. }), "{after}: {error}");
        }
        refresh(&mut disk, &mut repo, 2).unwrap_or_else(|error| panic!("after {after}: {error}"));
        let mut uncut = before().1;
        refresh(&mut uncut, &mut repo, 2).unwrap();
        disk.files.remove("new");
        assert_eq!(disk.files, uncut.files, "after {after}");
        if whole {
            return after;
        }
    }
    unreachable!()
}

#[test]
fn an_ordinary_refresh() {
    let states = cut_everywhere(
        |repo| {
            repo.next_root();
            repo.next();
        },
        |disk, repo| {
            // What was seen before is never taken back: an attacker shows the state before.
            let (mut old, _) = before();
            old.server.metadata.insert("3.root.json".into(), repo.server.metadata["3.root.json"].clone());
            let mut disk = disk.clone();
            match refresh(&mut disk, &mut old, 2) {
                // Not further than the old state yet: it is no attack then.
                Ok(()) => assert_eq!(kept(&disk, "timestamp"), Some(2)),
                Err(error) => assert!(matches!(error, Error::Rollback { .. }), "{error}"),
            }
            assert!(kept(&disk, "timestamp") >= Some(2) && kept(&disk, "snapshot") >= Some(2));
        },
    );
    // Root, timestamp, snapshot, targets, time: three operations each.
    assert_eq!(states, 15);
}

#[test]
fn keys_are_replaced_after_a_theft() {
    // Whoever stole the online keys made versions that nobody can go beyond; the new keys begin again.
    let stolen = |repo: &mut Repo| {
        *at(&mut repo.timestamp, &["version"]) = (u64::MAX / 4).into();
        *at(&mut repo.snapshot, &["version"]) = (u64::MAX / 4).into();
        repo.publish();
    };
    let states = std::cell::Cell::new(0);
    for after in 0.. {
        let (mut repo, mut disk) = before();
        stolen(&mut repo);
        refresh(&mut disk, &mut repo, 1).unwrap();
        assert_eq!(kept(&disk, "timestamp"), Some(u64::MAX / 4));
        *at(&mut repo.root, &["keys"]) = keys(&[1, 2, 3, 13, 14, 15]);
        *at(&mut repo.root, &["roles", "timestamp"]) = authority(&[14], 1);
        *at(&mut repo.root, &["roles", "snapshot"]) = authority(&[15], 1);
        (repo.timestamp_key, repo.snapshot_key) = (14, 15);
        *at(&mut repo.timestamp, &["version"]) = 1.into();
        *at(&mut repo.snapshot, &["version"]) = 1.into();
        repo.next_root();
        repo.next();
        disk.left = Some(after);
        let whole = refresh(&mut disk, &mut repo, 2).is_ok();
        disk.left = None;
        refresh(&mut disk, &mut repo, 2).unwrap_or_else(|error| panic!("after {after}: {error}"));
        assert_eq!(versions(&disk), [Some(3), Some(2), Some(2), Some(3)], "after {after}");
        assert!(!disk.files.contains_key("rotation"), "after {after}");
        states.set(after);
        if whole {
            break;
        }
    }
    assert_eq!(states.get(), 15 + 3 + 3 * 2);
}

#[test]
fn a_new_root_alone_does_not_make_the_client_forget() {
    // The note of a rotation is there and the root is not: cut between the two. The versions still count.
    let (mut repo, mut disk) = before();
    disk.files.insert("rotation".into(), b"3".to_vec());
    let client = Client::open(disk.clone(), &repo.anchor(), &clock(1)).unwrap();
    disk = client.into_disk();
    assert!(!disk.files.contains_key("rotation"));
    assert_eq!(kept(&disk, "timestamp"), Some(2));
    let mut old = Repo::new();
    old.server.metadata.insert("2.root.json".into(), repo.server.metadata["2.root.json"].clone());
    assert!(matches!(refresh(&mut disk, &mut old, 1), Err(Error::Rollback { .. })));
    refresh(&mut disk, &mut repo, 1).unwrap();
}

#[test]
fn a_bad_block_under_any_file_is_got_over() {
    let (mut repo, disk) = before();
    for name in disk.files.keys() {
        let mut disk = Memory { bad: Some(name.clone()), ..disk.clone() };
        refresh(&mut disk, &mut repo, 2).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(versions(&disk), [Some(2), Some(2), Some(2), Some(2)], "{name}");
        assert_eq!(disk.bad, None, "{name}");
    }
}

#[test]
fn the_first_start() {
    for after in 0.. {
        let mut repo = Repo::new();
        let mut disk = Memory { left: Some(after), ..Memory::default() };
        let whole = refresh(&mut disk, &mut repo, 0).is_ok();
        disk.left = None;
        refresh(&mut disk, &mut repo, 0).unwrap_or_else(|error| panic!("after {after}: {error}"));
        assert_eq!(versions(&disk), [Some(1); 4]);
        if whole {
            break;
        }
    }
}

#[test]
fn a_real_folder_does_what_the_one_in_memory_does() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("update");
    let mut repo = Repo::new();
    let anchor = repo.anchor();
    let open = || Client::open(berth_tuf::state::Folder::open(&path).unwrap(), &anchor, &clock(0)).unwrap();
    open().refresh(&mut repo.server).unwrap();
    std::fs::write(path.join("new"), b"torn").unwrap();
    repo.next();
    open().refresh(&mut repo.server).unwrap();
    let mut memory = Memory::default();
    refresh(&mut memory, &mut repo, 0).unwrap();
    for (name, content) in &memory.files {
        assert_eq!(&std::fs::read(path.join(name)).unwrap(), content, "{name}");
    }
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), memory.files.len());
}
