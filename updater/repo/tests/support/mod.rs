//! A publisher with a folder, builds that look like real ones, and a machine that follows.
#![allow(dead_code, reason = "each test program uses its part")]

use berth_repo::{Built, Done, Keys, Published, RepoError, Repository, SecretKey, Setup, verify};
use berth_tuf::fetch::{Fetch, FetchError, Folder};
use berth_tuf::json::{self, Value};
use berth_tuf::release::{ARCHITECTURE, CHANNEL, Offer};
use berth_tuf::state::Memory;
use berth_tuf::time::{Clock, Time};
use berth_tuf::{Client, Error};
use berth_updater::verity;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// 2026-11-29T00:00:00Z.
pub const TODAY: u64 = 1_795_910_400;

pub fn day(days: u64) -> Time {
    Time::from_seconds(TODAY + days * 86_400)
}

/// A publisher: `repo/`, `keys/` (everything), and builds.
pub struct Publisher {
    folder: tempfile::TempDir,
}

impl Publisher {
    /// With a repository of two of three root keys, and version 1.0 published on day 0.
    pub fn new() -> Self {
        let publisher = Self { folder: tempfile::tempdir().unwrap() };
        let setup = Setup { root_keys: 3, threshold: 2 };
        let done = Repository::init(&publisher.repo(), &publisher.key_folder(), setup, day(0)).unwrap();
        assert!(done.waiting.is_empty());
        publisher.publish("1.0", 0);
        publisher
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    pub fn metadata(&self, file: &str) -> PathBuf {
        self.repo().join("metadata").join(file)
    }

    pub fn key_folder(&self) -> PathBuf {
        self.path("keys")
    }

    pub fn key(&self, name: &str) -> SecretKey {
        SecretKey::load(&self.key_folder().join(format!("{name}.key"))).unwrap()
    }

    pub fn keys(&self, names: &[&str]) -> Keys {
        Keys::of(names.iter().map(|name| self.key(name)).collect())
    }

    pub fn all_keys(&self) -> Keys {
        Keys::load(&[self.key_folder()]).unwrap()
    }

    /// What a build of a version leaves.
    pub fn build(&self, version: &str) -> PathBuf {
        let folder = self.path(&format!("build-{version}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let root: Vec<u8> = version.bytes().cycle().take(5 * verity::BLOCK).collect();
        let mut tree = Vec::new();
        let hash = verity::build(&mut &root[..], 5, [7; 16], b"salt", &mut tree).unwrap();
        let hash = verity::to_hex(&hash);
        fs::write(folder.join("root.erofs"), &root).unwrap();
        fs::write(folder.join("root.verity"), &tree).unwrap();
        fs::write(folder.join("berth.efi"), format!("MZ kernel {version} quiet roothash={hash} panic=3"))
            .unwrap();
        let facts = format!(
            r#"{{"product":"berth","version":"{version}","architecture":"x86-64","built":{TODAY},"root_hash":"{hash}"}}"#
        );
        fs::write(folder.join("release.json"), facts).unwrap();
        folder
    }

    pub fn try_publish(&self, version: &str, keys: &Keys, days: u64) -> Result<Published, RepoError> {
        let built = Built::open(&self.build(version))?;
        Repository::open(&self.repo())?.publish_release(&built, CHANNEL, keys, day(days))
    }

    pub fn publish(&self, version: &str, days: u64) {
        let published = self.try_publish(version, &self.keys(&["releases", "online"]), days).unwrap();
        assert!(published.done.waiting.is_empty(), "{:?}", published.done);
    }

    pub fn sign(&self, keys: &[&str], days: u64) -> Result<Done, RepoError> {
        Repository::open(&self.repo())?.sign(&self.keys(keys), day(days))
    }

    /// Replaces a key by a new one, with all keys at hand.
    pub fn rotate(&self, old: &str, new: &str, days: u64) -> Done {
        let (id, key) =
            (self.key(old).id(), SecretKey::create(&self.key_folder().join(format!("{new}.key"))).unwrap());
        Repository::open(&self.repo()).unwrap().rotate(&id, &key, &self.all_keys(), day(days)).unwrap()
    }

    /// The latest root's version.
    pub fn verified(&self, days: u64) -> Result<berth_repo::Verified, RepoError> {
        verify(&self.repo(), None, day(days))
    }

    /// A copy of all that readers see now.
    pub fn snapshot(&self, name: &str) -> PathBuf {
        let to = self.path(name);
        copy(&self.repo(), &to);
        to
    }

    pub fn machine(&self) -> Machine {
        let anchor = fs::read(self.metadata("1.root.json")).unwrap();
        Machine { anchor, disk: Memory::default(), server: Folder::new(&self.repo()) }
    }

    /// Changes what a file says and signs it with keys, as a thief of these can.
    pub fn forge(&self, file: &str, keys: &[&SecretKey], change: impl FnOnce(&mut Value)) -> Vec<u8> {
        forge(&fs::read(self.metadata(file)).unwrap(), keys, change)
    }
}

pub fn forge(bytes: &[u8], keys: &[&SecretKey], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut signed = json::parse(bytes).unwrap().get("signed").unwrap().clone();
    change(&mut signed);
    let message = signed.canonical();
    let one =
        |key: &&SecretKey| Value::from([("keyid", key.id().into()), ("sig", key.sign(&message).into())]);
    let signatures: Vec<Value> = keys.iter().map(one).collect();
    Value::from([("signatures", signatures.into()), ("signed", signed)]).to_json()
}

/// The member at a path.
pub fn at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(value, |value, name| match value {
        Value::Object(members) => members.get_mut(*name).unwrap_or_else(|| panic!("no {name}")),
        _ => panic!("{name} of what is no object"),
    })
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A machine that follows the repository; by default from the publisher's own folder.
pub struct Machine {
    pub anchor: Vec<u8>,
    pub disk: Memory,
    pub server: Folder,
}

impl Machine {
    /// Looks for what it should have.
    pub fn check(&mut self, days: u64) -> Result<Option<Offer>, Error> {
        let mut server = self.server.clone();
        self.check_at(&mut server, days)
    }

    pub fn check_at(&mut self, server: &mut dyn Fetch, days: u64) -> Result<Option<Offer>, Error> {
        let clock = Clock { now: day(days), built: Time::default() };
        let mut client = Client::open(self.disk.clone(), &self.anchor, &clock)?;
        let found = client.refresh(server).and_then(|()| client.offer(server, ARCHITECTURE, CHANNEL));
        self.disk = client.into_disk();
        found
    }

    /// The version that it is offered.
    pub fn version(&mut self, days: u64) -> String {
        self.check(days).unwrap().unwrap().release.version
    }

    /// Why it takes nothing.
    pub fn refuses(&mut self, days: u64) -> Error {
        self.check(days).expect_err("it was taken")
    }

    /// Fetches all parts of what it is offered.
    pub fn fetch(&mut self, days: u64) -> io::Result<Vec<Vec<u8>>> {
        let mut server = self.server.clone();
        let clock = Clock { now: day(days), built: Time::default() };
        let mut client = Client::open(self.disk.clone(), &self.anchor, &clock).unwrap();
        client.refresh(&mut server).unwrap();
        let offer = client.offer(&mut server, ARCHITECTURE, CHANNEL).unwrap().unwrap();
        let parts = [&offer.uki, &offer.root, &offer.verity].map(|part| {
            let mut content = Vec::new();
            client.open_target(&mut server, part).unwrap().read_to_end(&mut content).map(|_| content)
        });
        parts.into_iter().collect()
    }
}

/// A server whose files go on for ever after what they hold: all of them, or the one named.
pub struct Endless {
    pub inner: Folder,
    pub file: String,
    pub given: u64,
}

struct Counted<'a>(Box<dyn Read + 'a>, &'a mut u64);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        *self.1 += count as u64;
        Ok(count)
    }
}

impl Fetch for Endless {
    fn metadata(&mut self, file: &str, limit: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        let reader = self.inner.metadata(file, limit)?;
        if file != self.file {
            return Ok(reader);
        }
        Ok(Box::new(Counted(Box::new(reader.chain(io::repeat(b' '))), &mut self.given)))
    }

    fn target(&mut self, path: &str, from: u64, limit: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        let reader = self.inner.target(path, from, limit)?;
        Ok(Box::new(Counted(Box::new(reader.chain(io::repeat(0))), &mut self.given)))
    }
}
