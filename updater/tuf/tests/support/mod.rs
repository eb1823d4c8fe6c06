//! A repository in memory whose every part a test can spoil before it is signed, and after.
#![allow(dead_code, reason = "each test program uses its part")]

use berth_tuf::fetch::{Fetch, FetchError};
use berth_tuf::json::Value;
use berth_tuf::state::Disk;
use berth_tuf::time::{Clock, Time};
use berth_tuf::{Client, Error, hex, names};
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};

/// 2026-11-29T00:00:00Z.
pub const TODAY: u64 = 1_795_910_400;
pub const DAY: u64 = 86_400;

pub fn day(days: u64) -> Value {
    Time::from_seconds(TODAY + days * DAY).to_string().into()
}

/// A key pair, the same for the same number.
pub struct Pair(Ed25519KeyPair);

impl Pair {
    pub fn new(number: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap())
    }

    pub fn object(&self) -> Value {
        let public: Value = hex(self.0.public_key().as_ref()).into();
        Value::from([
            ("keytype", "ed25519".into()),
            ("scheme", "ed25519".into()),
            ("keyval", Value::from([("public", public)])),
        ])
    }

    pub fn id(&self) -> String {
        hex(digest(&SHA256, &self.object().canonical()).as_ref())
    }

    pub fn signature(&self, message: &[u8]) -> String {
        hex(self.0.sign(message).as_ref())
    }
}

pub fn envelope(signed: &Value, signatures: Vec<(String, String)>) -> Vec<u8> {
    let one = |(keyid, sig): (String, String)| Value::from([("keyid", keyid.into()), ("sig", sig.into())]);
    let signatures: Vec<Value> = signatures.into_iter().map(one).collect();
    Value::from([("signatures", signatures.into()), ("signed", signed.clone())]).to_json()
}

pub fn sign(signed: &Value, numbers: &[u8]) -> Vec<u8> {
    let message = signed.canonical();
    let sign = |number: &u8| (Pair::new(*number).id(), Pair::new(*number).signature(&message));
    envelope(signed, numbers.iter().map(sign).collect())
}

/// The member at a path, made when it is not there.
pub fn at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(value, |value, name| {
        if *value == Value::Null {
            *value = Value::Object(BTreeMap::new());
        }
        match value {
            Value::Object(members) => members.entry((*name).to_owned()).or_insert(Value::Null),
            _ => panic!("{name} of what is no object"),
        }
    })
}

pub fn authority(numbers: &[u8], threshold: u64) -> Value {
    let ids: Vec<String> = numbers.iter().map(|number| Pair::new(*number).id()).collect();
    Value::from([("keyids", ids.into()), ("threshold", threshold.into())])
}

pub fn keys(numbers: &[u8]) -> Value {
    Value::Object(
        numbers.iter().map(|number| (Pair::new(*number).id(), Pair::new(*number).object())).collect(),
    )
}

pub fn header(kind: &str, version: u64, expires: Value) -> Value {
    Value::from([
        ("_type", kind.into()),
        ("spec_version", "1.0.34".into()),
        ("version", version.into()),
        ("expires", expires),
    ])
}

pub fn targets(version: u64, names: &[&str]) -> Value {
    let mut targets = header("targets", version, day(90));
    let one = |name: &&str| ((*name).to_owned(), described(content(name).as_bytes()));
    *at(&mut targets, &["targets"]) = Value::Object(names.iter().map(one).collect());
    targets
}

/// A delegation to role by key, about names that fit.
pub fn delegation(role: &str, key: u8, terminating: bool, paths: &[&str]) -> Value {
    let mut value = authority(&[key], 1);
    *at(&mut value, &["name"]) = role.into();
    *at(&mut value, &["terminating"]) = terminating.into();
    *at(&mut value, &["paths"]) = paths.to_vec().into();
    value
}

pub fn delegate(targets: &mut Value, numbers: &[u8], roles: Vec<Value>) {
    *at(targets, &["delegations"]) = Value::from([("keys", keys(numbers)), ("roles", roles.into())]);
}

/// What the target of a name holds.
pub fn content(name: &str) -> String {
    format!("content of {name}")
}

pub fn described(content: &[u8]) -> Value {
    let sha256: Value = hex(digest(&SHA256, content).as_ref()).into();
    Value::from([("length", (content.len() as u64).into()), ("hashes", Value::from([("sha256", sha256)]))])
}

/// What the server has, and what was asked of it.
#[derive(Default, Clone)]
pub struct Server {
    pub metadata: BTreeMap<String, Vec<u8>>,
    pub targets: BTreeMap<String, Vec<u8>>,
    pub asked: Vec<String>,
    /// A file that never ends.
    pub endless: Option<String>,
}

impl Fetch for Server {
    fn metadata(&mut self, file: &str, _: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        self.asked.push(file.to_owned());
        if self.endless.as_deref() == Some(file) {
            return Ok(Box::new(io::repeat(b' ')));
        }
        self.metadata.get(file).map(|bytes| Box::new(&bytes[..]) as Box<dyn Read>).ok_or(FetchError::Missing)
    }

    fn target(&mut self, path: &str, from: u64, _: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        self.asked.push(path.to_owned());
        if self.endless.as_deref() == Some(path) {
            return Ok(Box::new(io::repeat(b' ')));
        }
        let bytes = self.targets.get(path).ok_or(FetchError::Missing)?;
        let mut reader = Cursor::new(bytes);
        reader.set_position(from);
        Ok(Box::new(reader))
    }
}

/// Keys: root 1, 2 and 3 (two must sign), timestamp 11, snapshot 12, targets 13.
pub struct Repo {
    pub root: Value,
    pub root_keys: Vec<u8>,
    pub timestamp: Value,
    pub timestamp_key: u8,
    pub snapshot: Value,
    pub snapshot_key: u8,
    /// Roles with targets, and whose key signs them.
    pub targets: BTreeMap<String, (Value, u8)>,
    pub server: Server,
}

impl Repo {
    pub fn new() -> Self {
        let mut root = header("root", 1, day(365));
        *at(&mut root, &["consistent_snapshot"]) = true.into();
        *at(&mut root, &["keys"]) = keys(&[1, 2, 3, 11, 12, 13]);
        *at(&mut root, &["roles"]) = Value::from([
            ("root", authority(&[1, 2, 3], 2)),
            ("timestamp", authority(&[11], 1)),
            ("snapshot", authority(&[12], 1)),
            ("targets", authority(&[13], 1)),
        ]);
        let mut repo = Self {
            root,
            root_keys: vec![1, 2],
            timestamp: header("timestamp", 1, day(7)),
            timestamp_key: 11,
            snapshot: header("snapshot", 1, day(30)),
            snapshot_key: 12,
            targets: BTreeMap::from([("targets".to_owned(), (targets(1, &["a"]), 13))]),
            server: Server::default(),
        };
        repo.publish_root();
        repo.publish();
        repo
    }

    pub fn anchor(&self) -> Vec<u8> {
        self.server.metadata["1.root.json"].clone()
    }

    pub fn publish_root(&mut self) {
        let file = names::versioned_file(version(&self.root), "root");
        self.server.metadata.insert(file, sign(&self.root, &self.root_keys));
    }

    /// Signs the root's next version.
    pub fn next_root(&mut self) {
        *at(&mut self.root, &["version"]) = (version(&self.root) + 1).into();
        self.publish_root();
    }

    /// Signs everything below the root, with the versions that it has.
    pub fn publish(&mut self) {
        for (role, (value, key)) in self.targets.clone() {
            let bytes = sign(&value, &[key]);
            self.put(&role, version(&value), &bytes);
            let mut listed = listed(version(&value), &bytes);
            *at(&mut listed, &["length"]) = (bytes.len() as u64).into();
            *at(&mut self.snapshot, &["meta", &format!("{role}.json")]) = listed;
            for name in at(&mut value.clone(), &["targets"]).as_object().unwrap().keys() {
                let content = content(name).into_bytes();
                let hash = hex(digest(&SHA256, &content).as_ref());
                let path = match name.rsplit_once('/') {
                    Some((folder, file)) => format!("{folder}/{hash}.{file}"),
                    None => format!("{hash}.{name}"),
                };
                self.server.targets.insert(path, content.clone());
                self.server.targets.insert(name.clone(), content);
            }
        }
        self.publish_snapshot();
    }

    pub fn publish_snapshot(&mut self) {
        let bytes = sign(&self.snapshot, &[self.snapshot_key]);
        self.put("snapshot", version(&self.snapshot), &bytes);
        *at(&mut self.timestamp, &["meta"]) =
            Value::from([("snapshot.json", listed(version(&self.snapshot), &bytes))]);
        self.publish_timestamp();
    }

    pub fn publish_timestamp(&mut self) {
        let bytes = sign(&self.timestamp, &[self.timestamp_key]);
        self.server.metadata.insert("timestamp.json".to_owned(), bytes);
    }

    fn put(&mut self, role: &str, version: u64, bytes: &[u8]) {
        self.server.metadata.insert(names::versioned_file(version, role), bytes.to_vec());
        self.server.metadata.insert(names::role_file(role), bytes.to_vec());
    }

    /// Raises the version of everything below the root and signs it.
    pub fn next(&mut self) {
        for value in self.targets.values_mut().map(|(value, _)| value) {
            *at(value, &["version"]) = (version(value) + 1).into();
        }
        self.next_snapshot();
    }

    pub fn next_snapshot(&mut self) {
        *at(&mut self.snapshot, &["version"]) = (version(&self.snapshot) + 1).into();
        *at(&mut self.timestamp, &["version"]) = (version(&self.timestamp) + 1).into();
        self.publish();
    }

    pub fn next_timestamp(&mut self) {
        *at(&mut self.timestamp, &["version"]) = (version(&self.timestamp) + 1).into();
        self.publish_timestamp();
    }

    /// Adds a role that the top one delegates to.
    pub fn top(&mut self) -> &mut Value {
        &mut self.targets.get_mut("targets").unwrap().0
    }
}

pub fn version(value: &Value) -> u64 {
    value.get("version").and_then(Value::as_u64).unwrap()
}

fn listed(version: u64, bytes: &[u8]) -> Value {
    let sha256: Value = hex(digest(&SHA256, bytes).as_ref()).into();
    Value::from([("version", version.into()), ("hashes", Value::from([("sha256", sha256)]))])
}

/// A folder in memory. With `left`, the power goes after so many operations; the one that it goes in is done halfway.
#[derive(Default, Clone, Debug)]
pub struct Memory {
    pub files: BTreeMap<String, Vec<u8>>,
    pub left: Option<usize>,
    /// A file on a bad block.
    pub bad: Option<String>,
}

impl Memory {
    fn step(&mut self) -> io::Result<()> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl Disk for Memory {
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        if self.bad.as_deref() == Some(name) {
            return Err(io::Error::other("bad block"));
        }
        Ok(self.files.get(name).filter(|content| content.len() as u64 <= limit).cloned())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.keys().cloned().collect())
    }

    fn create(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let done = self.step();
        let torn = if done.is_ok() { content.len() } else { content.len() / 2 };
        if done.is_ok() || !self.files.contains_key(name) {
            self.files.insert(name.to_owned(), content[..torn].to_vec());
        }
        done
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        let content = self.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files.insert(to.to_owned(), content);
        // The old blocks are nobody's any more.
        self.bad.take_if(|bad| bad == to);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.step()?;
        self.files.remove(name);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.step()
    }
}

pub fn clock(days: u64) -> Clock {
    Clock { now: Time::from_seconds(TODAY + days * DAY), built: Time::default() }
}

/// One run of the client on a machine's folder: opens, refreshes.
pub fn refresh(disk: &mut Memory, repo: &mut Repo, days: u64) -> Result<(), Error> {
    let anchor = repo.anchor();
    let mut client = Client::open(disk.clone(), &anchor, &clock(days))?;
    let done = client.refresh(&mut repo.server);
    *disk = client.into_disk();
    done
}

/// The version of the file that the machine keeps.
pub fn kept(disk: &Memory, role: &str) -> Option<u64> {
    let bytes = disk.files.get(&names::role_file(role))?;
    Some(version(berth_tuf::json::parse(bytes).unwrap().get("signed").unwrap()))
}

/// The versions of the four, as kept.
pub fn versions(disk: &Memory) -> [Option<u64>; 4] {
    names::TOP_LEVEL.map(|role| kept(disk, role))
}
