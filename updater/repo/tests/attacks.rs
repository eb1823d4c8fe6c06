//! Somebody between the repository and the machine, or in possession of its keys: each attack that the TUF
//! specification names (§1.5.2), and those of the house, against the machine's client and a real repository.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod support;

use berth_repo::SecretKey;
use berth_tuf::fetch::Folder;
use berth_tuf::json::Value;
use berth_tuf::{Error, hex, limits};
use ring::digest::{SHA256, digest};
use std::fs;
use support::*;

const FAR: u64 = 1 << 40;

/// Writes forged metadata of a role with targets, and a snapshot and a timestamp that list it: what somebody with the
/// online key can do.
fn list(publisher: &Publisher, online: &SecretKey, role: &str, bytes: &[u8], version: u64) {
    let newest = |kind: &str| {
        let versions = fs::read_dir(publisher.repo().join("metadata")).unwrap().filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(&format!(".{kind}.json"))?.parse::<u64>().ok()
        });
        versions.max().unwrap()
    };
    fs::write(publisher.metadata(&format!("{version}.{role}.json")), bytes).unwrap();
    let last = newest("snapshot");
    let snapshot = publisher.forge(&format!("{last}.snapshot.json"), &[online], |signed| {
        *at(signed, &["version"]) = (last + 1).into();
        *at(signed, &["meta", &format!("{role}.json")]) = listed(version, bytes);
    });
    fs::write(publisher.metadata(&format!("{}.snapshot.json", last + 1)), &snapshot).unwrap();
    let timestamp = publisher.forge("timestamp.json", &[online], |signed| {
        let version = at(signed, &["version"]);
        *version = (version.as_u64().unwrap() + 1).into();
        *at(signed, &["meta", "snapshot.json"]) = listed(last + 1, &snapshot);
    });
    fs::write(publisher.metadata("timestamp.json"), timestamp).unwrap();
}

fn listed(version: u64, bytes: &[u8]) -> Value {
    let sha256: Value = hex(digest(&SHA256, bytes).as_ref()).into();
    Value::from([("version", version.into()), ("hashes", Value::from([("sha256", sha256)]))])
}

/// Changes what the releases say, as somebody with the keys of releases and server can.
fn with_releases(publisher: &Publisher, change: impl FnOnce(&mut Value)) {
    let bytes = publisher.forge("2.releases.json", &[&publisher.key("releases")], |signed| {
        *at(signed, &["version"]) = 3.into();
        change(signed);
    });
    list(publisher, &publisher.key("online"), "releases", &bytes, 3);
}

#[test]
fn rollback() {
    let publisher = Publisher::new();
    let before = publisher.snapshot("before");
    publisher.publish("1.1", 1);
    let mut machine = publisher.machine();
    assert_eq!(machine.version(1), "1.1");
    let disk = machine.disk.clone();
    machine.server = Folder::new(&before);
    let error = machine.refuses(1);
    assert!(matches!(error, Error::Rollback { known: 3, found: 2, .. }), "{error}");
    assert_eq!(format!("{:?}", machine.disk), format!("{disk:?}"));
    // The honest server is still believed.
    machine.server = Folder::new(&publisher.repo());
    assert_eq!(machine.version(1), "1.1");
}

#[test]
fn freeze() {
    let publisher = Publisher::new();
    let mut machine = publisher.machine();
    let frozen = publisher.snapshot("frozen");
    publisher.publish("1.1", 1);
    machine.server = Folder::new(&frozen);
    // Nothing new can be told from nothing new shown, until the timestamp ends.
    assert_eq!(machine.version(13), "1.0");
    let error = machine.refuses(14);
    assert!(matches!(&error, Error::Expired { file, .. } if file == "timestamp.json"), "{error}");
    // Setting the machine's clock back does not thaw it further than the last good refresh.
    assert_eq!(machine.version(0), "1.0");
    machine.server = Folder::new(&publisher.repo());
    assert_eq!(machine.version(14), "1.1");
}

#[test]
fn mix_and_match() {
    let publisher = Publisher::new();
    publisher.publish("1.1", 1);
    // The newest timestamp and snapshot over the releases of before, and the other way round.
    for (from, to) in [("2.releases.json", "3.releases.json"), ("2.snapshot.json", "3.snapshot.json")] {
        let mixed = publisher.snapshot(&format!("mixed-{to}"));
        fs::copy(publisher.metadata(from), mixed.join("metadata").join(to)).unwrap();
        let mut machine = publisher.machine();
        machine.server = Folder::new(&mixed);
        let error = machine.refuses(1);
        assert!(matches!(&error, Error::Content { file, .. } if file == to), "{error}");
    }
    // The root of one release with the verity tree of another: told at the end of each part.
    let parts = publisher.repo().join("targets/x86-64");
    let part = |version: &str, ending: &str| {
        let files = fs::read_dir(parts.join(version)).unwrap().map(|entry| entry.unwrap().path());
        files.into_iter().find(|path| path.to_string_lossy().ends_with(ending)).unwrap()
    };
    fs::copy(part("1.0", "root.erofs"), part("1.1", "root.erofs")).unwrap();
    let error = publisher.machine().fetch(1).unwrap_err().to_string();
    assert!(error.starts_with("x86-64/1.1/root.erofs: its content is not what was signed"), "{error}");
}

#[test]
fn fast_forward() {
    let publisher = Publisher::new();
    let mut machine = publisher.machine();
    machine.version(0);
    // The server's key is stolen; versions are raised so far that every later honest one looks old.
    let stolen = publisher.key("online");
    let snapshot =
        publisher.forge("2.snapshot.json", &[&stolen], |signed| *at(signed, &["version"]) = FAR.into());
    fs::write(publisher.metadata(&format!("{FAR}.snapshot.json")), &snapshot).unwrap();
    let honest = fs::read(publisher.metadata("timestamp.json")).unwrap();
    let timestamp = forge(&honest, &[&stolen], |signed| {
        *at(signed, &["version"]) = FAR.into();
        *at(signed, &["meta", "snapshot.json"]) = listed(FAR, &snapshot);
    });
    fs::write(publisher.metadata("timestamp.json"), timestamp).unwrap();
    assert_eq!(machine.version(1), "1.0");
    // The publisher's own files are as they were. Its next release looks like the past …
    fs::write(publisher.metadata("timestamp.json"), honest).unwrap();
    fs::remove_file(publisher.metadata(&format!("{FAR}.snapshot.json"))).unwrap();
    publisher.publish("1.1", 2);
    assert!(matches!(machine.refuses(2), Error::Rollback { known: FAR, .. }));
    // … until the stolen key is replaced.
    publisher.rotate("online", "online-2", 3);
    assert_eq!(machine.version(3), "1.1");
}

#[test]
fn endless_data() {
    let publisher = Publisher::new();
    for (file, most) in [
        ("timestamp.json", limits::TIMESTAMP_BYTES),
        ("2.snapshot.json", limits::SNAPSHOT_BYTES),
        ("1.targets.json", limits::TARGETS_BYTES),
        ("2.releases.json", limits::TARGETS_BYTES),
    ] {
        let mut server = Endless { inner: Folder::new(&publisher.repo()), file: file.to_owned(), given: 0 };
        let error = publisher.machine().check_at(&mut server, 0).unwrap_err();
        assert!(matches!(&error, Error::Limit { file: named, .. } if named == file), "{error}");
        assert!(server.given <= most + 1, "{file}: {} bytes were read", server.given);
    }
    let mut server = Endless { inner: Folder::new(&publisher.repo()), file: String::new(), given: 0 };
    let clock = berth_tuf::time::Clock { now: day(0), built: day(0) };
    let anchor = publisher.machine().anchor;
    let mut client = berth_tuf::Client::open(berth_tuf::state::Memory::default(), &anchor, &clock).unwrap();
    client.refresh(&mut server).unwrap();
    let target = client.target(&mut server, "x86-64/1.0/root.erofs").unwrap().unwrap();
    let mut reader = client.open_target(&mut server, &target).unwrap();
    let error = std::io::copy(&mut reader, &mut std::io::sink()).unwrap_err().to_string();
    drop(reader);
    assert!(error.contains("it has more than the 20480 bytes that were signed"), "{error}");
    assert_eq!(server.given, target.length + 1);
}

#[test]
fn wrong_software() {
    // Other content under the right name.
    let publisher = Publisher::new();
    let folder = publisher.repo().join("targets/x86-64/1.0");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mut content = fs::read(&path).unwrap();
        let last = content.len() - 1;
        content[last] ^= 1;
        fs::write(path, content).unwrap();
    }
    let error = publisher.machine().fetch(0).unwrap_err().to_string();
    assert!(error.starts_with("x86-64/1.0/berth.efi: its content is not what was signed"), "{error}");
    // Another product's release, signed by the right keys.
    let publisher = Publisher::new();
    with_releases(&publisher, |signed| {
        *at(signed, &["targets", "x86-64/stable.json", "custom", "product"]) = "barge".into();
    });
    let error = publisher.machine().refuses(0).to_string();
    assert_eq!(error, "x86-64/stable.json: is a release of \"barge\", not of \"berth\"");
    // A part that somebody else offers than whoever named the release.
    let publisher = Publisher::new();
    with_releases(&publisher, |signed| {
        let Value::Object(targets) = at(signed, &["targets"]) else { panic!() };
        targets.remove("x86-64/1.0/berth.efi");
    });
    let error = publisher.machine().refuses(0).to_string();
    assert!(error.contains("x86-64/1.0/berth.efi is not offered by \"releases\""), "{error}");
}

#[test]
fn metadata_of_another_architecture() {
    let publisher = Publisher::new();
    with_releases(&publisher, |signed| {
        let custom = at(signed, &["targets", "x86-64/stable.json", "custom"]);
        for (name, part) in [("uki", "berth.efi"), ("root", "root.erofs"), ("verity", "root.verity")] {
            *at(custom, &[name]) = format!("arm64/1.0/{part}").into();
        }
        *at(custom, &["architecture"]) = "arm64".into();
    });
    let error = publisher.machine().refuses(0).to_string();
    assert_eq!(error, "x86-64/stable.json: is for arm64, and this machine is x86-64");
}

#[test]
fn a_key_stolen_below_the_threshold() {
    let publisher = Publisher::new();
    let mut machine = publisher.machine();
    machine.version(0);
    // One of the root's keys, once and twice.
    let (thief, stolen) = (SecretKey::create(&publisher.path("thief.key")).unwrap(), publisher.key("root-1"));
    let mut root = publisher.forge("1.root.json", &[&stolen, &thief], |signed| {
        *at(signed, &["version"]) = 2.into();
        let Value::Object(keys) = at(signed, &["keys"]) else { panic!() };
        keys.insert(thief.id(), thief.public());
        let all = Value::from([("keyids", vec![thief.id()].into()), ("threshold", 1.into())]);
        *at(signed, &["roles", "timestamp"]) = all;
    });
    fs::write(publisher.metadata("2.root.json"), &root).unwrap();
    let error = machine.refuses(0).to_string();
    assert_eq!(error, "2.root.json: signed by 1 of the keys that count, 2 must");
    // The same signature again under the same id is refused outright.
    let text = String::from_utf8(root.clone()).unwrap();
    let (first, rest) = text.split_once("},{").unwrap();
    let once = first.trim_start_matches("{\"signatures\":[{");
    root = format!("{{\"signatures\":[{{{once}}},{{{once}}},{{{rest}").into();
    fs::write(publisher.metadata("2.root.json"), &root).unwrap();
    assert!(machine.refuses(0).to_string().starts_with("2.root.json: has two signatures of key"));
    fs::remove_file(publisher.metadata("2.root.json")).unwrap();
    // The key of releases without the server's: nobody lists what it signs.
    let forged = publisher.forge("2.releases.json", &[&publisher.key("releases")], |signed| {
        *at(signed, &["targets", "x86-64/stable.json", "custom", "built"]) = 1.into();
    });
    let honest = fs::read(publisher.metadata("2.releases.json")).unwrap();
    fs::write(publisher.metadata("2.releases.json"), forged).unwrap();
    let mut fresh = publisher.machine();
    assert!(matches!(fresh.refuses(0), Error::Content { .. }));
    fs::write(publisher.metadata("2.releases.json"), honest).unwrap();
    // The server's without that of releases: it cannot sign what it lists.
    let forged = publisher.forge("2.releases.json", &[&publisher.key("online")], |signed| {
        *at(signed, &["version"]) = 3.into();
    });
    list(&publisher, &publisher.key("online"), "releases", &forged, 3);
    let error = machine.refuses(0).to_string();
    assert_eq!(error, "3.releases.json: signed by 0 of the keys that count, 1 must");
}

#[test]
fn keys_stolen_at_the_threshold_and_then_replaced() {
    let publisher = Publisher::new();
    let mut machine = publisher.machine();
    machine.version(0);
    let honest = publisher.snapshot("honest");
    // With the keys of releases and server somebody can say anything: that is what they are for.
    let stolen = [publisher.key("releases"), publisher.key("online")];
    with_releases(&publisher, |signed| {
        *at(signed, &["targets", "x86-64/stable.json", "custom", "built"]) = 1.into();
    });
    let offer = machine.check(1).unwrap().unwrap();
    assert_eq!(offer.release.built, 1);
    // The publisher, whose own files are untouched, replaces both.
    fs::remove_dir_all(publisher.repo()).unwrap();
    copy(&honest, &publisher.repo());
    publisher.rotate("releases", "releases-2", 2);
    publisher.rotate("online", "online-2", 2);
    assert_eq!(machine.check(2).unwrap().unwrap().release.built, TODAY);
    // What the thief signs now counts for nothing, with however high a version.
    let newest = fs::read(publisher.metadata("timestamp.json")).unwrap();
    let forged = forge(&newest, &[&stolen[1]], |signed| *at(signed, &["version"]) = FAR.into());
    fs::write(publisher.metadata("timestamp.json"), forged).unwrap();
    let error = machine.refuses(2).to_string();
    assert_eq!(error, "timestamp.json: signed by 0 of the keys that count, 1 must");

    // Two of the root's keys are stolen, and replaced before they are used: they make no third root.
    let publisher = Publisher::new();
    let mut machine = publisher.machine();
    machine.version(0);
    let stolen = [publisher.key("root-1"), publisher.key("root-2")];
    publisher.rotate("root-1", "root-4", 1);
    publisher.rotate("root-2", "root-5", 1);
    let forged = publisher.forge("3.root.json", &[&stolen[0], &stolen[1]], |signed| {
        *at(signed, &["version"]) = 4.into();
    });
    fs::write(publisher.metadata("4.root.json"), forged).unwrap();
    let error = machine.refuses(1).to_string();
    assert_eq!(error, "4.root.json: signed by 0 of the keys that count, 2 must");
}

#[test]
fn a_target_that_leads_out() {
    for name in ["../../etc/passwd", "x86-64/../../x", "/x86-64/stable.json", "x86-64//x", "x86-64/a\\..\\b"]
    {
        let publisher = Publisher::new();
        with_releases(&publisher, |signed| {
            let entry = at(signed, &["targets", "x86-64/stable.json"]).clone();
            let Value::Object(targets) = at(signed, &["targets"]) else { panic!() };
            targets.insert(name.to_owned(), entry);
        });
        let error = publisher.machine().refuses(0).to_string();
        assert!(error.starts_with(&format!("3.releases.json: target {name:?}: ")), "{error}");
    }
    // A release whose version would lead out.
    let publisher = Publisher::new();
    with_releases(&publisher, |signed| {
        *at(signed, &["targets", "x86-64/stable.json", "custom", "version"]) = "../1.0".into();
    });
    let error = publisher.machine().refuses(0).to_string();
    assert_eq!(error, "x86-64/stable.json: the release calls itself \"../1.0\"");
}

#[test]
fn duplicate_keys() {
    // A root whose role of timestamps needs two keys and lists one, under two ids.
    let publisher = Publisher::new();
    let online = publisher.key("online");
    let root =
        publisher.forge("1.root.json", &[&publisher.key("root-1"), &publisher.key("root-2")], |signed| {
            *at(signed, &["version"]) = 2.into();
            let Value::Object(keys) = at(signed, &["keys"]) else { panic!() };
            keys.insert("again".to_owned(), online.public());
            let twice = Value::from([
                ("keyids", vec![online.id(), "again".to_owned()].into()),
                ("threshold", 2.into()),
            ]);
            *at(signed, &["roles", "timestamp"]) = twice;
        });
    fs::write(publisher.metadata("2.root.json"), root).unwrap();
    let timestamp = String::from_utf8(fs::read(publisher.metadata("timestamp.json")).unwrap()).unwrap();
    let (signatures, rest) = timestamp.split_once("}]").unwrap();
    let one = signatures.trim_start_matches("{\"signatures\":[");
    let again = one.replace(&online.id(), "again");
    let twice = format!("{{\"signatures\":[{one}}},{again}}}]{rest}");
    fs::write(publisher.metadata("timestamp.json"), twice).unwrap();
    let error = publisher.machine().refuses(0).to_string();
    assert_eq!(error, "timestamp.json: signed by 1 of the keys that count, 2 must");
}

#[test]
fn deep_json() {
    for (text, why) in [
        ("[".repeat(15_000), "too deep"),
        ("{\"a\":".repeat(3_000), "too deep"),
        (format!("[{}0]", "0,".repeat(7_000)), "not an object"),
    ] {
        let publisher = Publisher::new();
        fs::write(publisher.metadata("timestamp.json"), text).unwrap();
        let error = publisher.machine().refuses(0).to_string();
        assert!(error.starts_with("timestamp.json: ") && error.contains(why), "{error}");
    }
}
