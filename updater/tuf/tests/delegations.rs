//! §5.6.7: who is asked about a target, in which order, and who is not believed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod support;

use berth_tuf::json::Value;
use berth_tuf::target::Target;
use berth_tuf::{Client, Error, hex, limits};
use ring::digest::{SHA256, digest};
use support::*;

/// A repository whose top role has these delegations; each delegated role offers `name`, by key 20.
fn repo(roles: Vec<Value>, offers: &[(&str, &[&str])]) -> Repo {
    let mut repo = Repo::new();
    delegate(repo.top(), &[20, 21], roles);
    for (role, names) in offers {
        repo.targets.insert((*role).to_owned(), (targets(1, names), 20));
    }
    repo.next();
    repo
}

fn find(repo: &mut Repo, name: &str) -> Result<Option<Target>, Error> {
    let mut client = Client::open(Memory::default(), &repo.anchor(), &clock(0)).unwrap();
    client.refresh(&mut repo.server).unwrap();
    repo.server.asked.clear();
    client.target(&mut repo.server, name)
}

fn found_in(repo: &mut Repo, name: &str) -> Option<String> {
    find(repo, name).unwrap().map(|target| target.role)
}

#[test]
fn the_first_one_that_knows_it_is_believed() {
    let both = || vec![delegation("one", 20, false, &["x/*"]), delegation("two", 20, false, &["x/*"])];
    let mut first = repo(both(), &[("one", &["x/a"]), ("two", &["x/a", "x/b"])]);
    assert_eq!(found_in(&mut first, "x/a").as_deref(), Some("one"));
    assert_eq!(found_in(&mut first, "x/b").as_deref(), Some("two"));
    assert_eq!(first.server.asked, ["2.one.json", "2.two.json"]);
    assert_eq!(found_in(&mut first, "x/c"), None);
    assert_eq!(found_in(&mut first, "y/a"), None);
    assert!(first.server.asked.is_empty());
    // The top role goes before all.
    *at(first.top(), &["targets", "x/a"]) = described(b"from the top");
    first.next();
    assert_eq!(found_in(&mut first, "x/a").as_deref(), Some("targets"));
}

#[test]
fn nobody_is_asked_after_a_terminating_one() {
    let roles = vec![delegation("one", 20, true, &["x/*"]), delegation("two", 20, false, &["*", "x/*"])];
    let mut repo = repo(roles, &[("one", &["x/a"]), ("two", &["x/b", "y"])]);
    assert_eq!(found_in(&mut repo, "x/a").as_deref(), Some("one"));
    assert_eq!(found_in(&mut repo, "x/b"), None);
    assert_eq!(found_in(&mut repo, "y").as_deref(), Some("two"));
}

#[test]
fn a_role_speaks_only_of_what_it_was_given() {
    let roles = vec![delegation("one", 20, false, &["x/*"])];
    let mut repo = repo(roles, &[("one", &["x/a", "kernel"])]);
    assert_eq!(found_in(&mut repo, "kernel"), None);
    // A role below it cannot be given more.
    delegate(
        &mut repo.targets.get_mut("one").unwrap().0,
        &[20],
        vec![delegation("deep", 20, false, &["*", "x/*"])],
    );
    repo.targets.insert("deep".to_owned(), (targets(1, &["kernel", "x/deep"]), 20));
    repo.next();
    assert_eq!(found_in(&mut repo, "kernel"), None);
    assert_eq!(found_in(&mut repo, "x/deep").as_deref(), Some("deep"));
}

#[test]
fn by_beginnings_of_hashes() {
    let hash = hex(digest(&SHA256, b"some/file").as_ref());
    for (prefix, is) in [(&hash[..2], true), ("", true), (&hash[..], true), (&hash[1..3], false)] {
        let mut role = delegation("one", 20, false, &[]);
        let Value::Object(members) = &mut role else { panic!() };
        members.remove("paths");
        *at(&mut role, &["path_hash_prefixes"]) = vec![prefix].into();
        let mut repo = repo(vec![role], &[("one", &["some/file"])]);
        assert_eq!(found_in(&mut repo, "some/file").is_some(), is, "{prefix}");
    }
}

#[test]
fn another_key_than_the_delegations() {
    let mut repo = repo(vec![delegation("one", 21, false, &["x/*"])], &[("one", &["x/a"])]);
    let error = find(&mut repo, "x/a").unwrap_err();
    assert_eq!(error.to_string(), "2.one.json: signed by 0 of the keys that count, 1 must");
}

#[test]
fn circles_end() {
    let mut repo = repo(vec![delegation("one", 20, false, &["*"])], &[("one", &[])]);
    delegate(&mut repo.targets.get_mut("one").unwrap().0, &[20], vec![delegation("two", 20, false, &["*"])]);
    let mut two = targets(1, &[]);
    delegate(
        &mut two,
        &[20],
        vec![delegation("one", 20, false, &["*"]), delegation("two", 20, false, &["*"])],
    );
    repo.targets.insert("two".to_owned(), (two, 20));
    repo.next();
    assert_eq!(found_in(&mut repo, "x"), None);
    assert_eq!(repo.server.asked.len(), 2);
}

#[test]
fn no_more_roles_are_asked_than_the_bound() {
    let name = |number: usize| format!("role{number}");
    let roles = (0..=limits::VISITS).map(|number| delegation(&name(number), 20, false, &["*"])).collect();
    let mut repo = repo(roles, &[]);
    for number in 0..=limits::VISITS {
        repo.targets.insert(name(number), (targets(1, &[]), 20));
    }
    repo.next();
    let error = find(&mut repo, "x").unwrap_err();
    assert_eq!(error.to_string(), "target \"x\": more than 32 roles would have to be asked");
    assert_eq!(repo.server.asked.len(), limits::VISITS);
}

#[test]
fn delegations_that_are_refused() {
    let prefixes_too = || {
        let mut role = delegation("one", 20, false, &["*"]);
        *at(&mut role, &["path_hash_prefixes"]) = vec!["00"].into();
        role
    };
    for (roles, why) in [
        (vec![delegation("root", 20, false, &["*"])], "a role called \"root\""),
        (vec![delegation("timestamp", 20, false, &["*"])], "a role called \"timestamp\""),
        (vec![delegation("", 20, false, &["*"])], "whose name has 0 bytes"),
        (vec![delegation(&"/".repeat(100), 20, false, &["*"])], "whose name has 100 bytes"),
        (
            vec![delegation("a", 20, false, &["*"]), delegation("a", 20, false, &["*"])],
            "delegates to \"a\" twice",
        ),
        (vec![delegation("a", 20, false, &["[a-z]*"])], "\"paths\" has one that is not taken"),
        (vec![prefixes_too()], "has not one of"),
    ] {
        let mut repo = repo(roles, &[]);
        let mut disk = Memory::default();
        let error = refresh(&mut disk, &mut repo, 0).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn metadata_of_roles_that_are_gone_is_removed() {
    let mut repo = repo(vec![delegation("one/..", 20, false, &["*"])], &[("one/..", &["x"])]);
    let mut client = Client::open(Memory::default(), &repo.anchor(), &clock(0)).unwrap();
    client.refresh(&mut repo.server).unwrap();
    assert!(client.target(&mut repo.server, "x").unwrap().is_some());
    let mut disk = client.into_disk();
    assert!(disk.files.contains_key("one%2F...json"));
    // Only new snapshot keys can end a role (§5.5.5).
    *at(&mut repo.root, &["keys", &Pair::new(14).id()]) = Pair::new(14).object();
    *at(&mut repo.root, &["roles", "snapshot"]) = authority(&[14], 1);
    repo.next_root();
    repo.snapshot_key = 14;
    repo.targets.remove("one/..");
    *at(&mut repo.snapshot, &["meta"]) = Value::from([("targets.json", Value::Null)]);
    repo.next();
    refresh(&mut disk, &mut repo, 0).unwrap();
    assert!(!disk.files.contains_key("one%2F...json"));
}
