//! What the client keeps, in one folder:
//!
//! | file | what |
//! |---|---|
//! | `root.json`, `timestamp.json`, `snapshot.json`, `targets.json` | the metadata that is trusted, byte for byte |
//! | `ROLE.json` | that of delegated roles, their names encoded |
//! | `rotation` | the version of a root with which timestamp and snapshot are to be forgotten |
//! | `seen` | the latest time at which a refresh went well, seconds since 1970 |
//! | `anchor` | SHA-256 of the trusted root that this began with |
//! | `new` | a file being written |
//!
//! Each file is written as `new`, synced, renamed, and the folder synced, so each is the old or the new one. What two
//! files say together is put in an order in which every prefix is a state to go on from:
//!
//! 1. A root that replaces keys of timestamp or snapshot (§5.3.11): `rotation` first, then the root, then the two are
//!    removed, then `rotation`. Whoever opens the folder finishes this when the root is there, and drops it when not.
//! 2. Timestamp, snapshot, targets: in this order, each checked by the one before. A newer one above an older one is
//!    what §5 expects; what does not fit is fetched again.
//! 3. Whatever cannot be read is as if it were not there, but for `root.json`, in whose place the anchor steps.

use crate::error::Error;
use crate::time::Time;
use crate::{limits, names};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A folder, as far as the state needs one. Each of the operations that change it is one that a power cut can come
/// after.
pub trait Disk {
    /// A file's content; none if it is not there or longer than the limit.
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>>;
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file anew, or over an old one, and syncs its content.
    fn create(&mut self, name: &str, content: &[u8]) -> io::Result<()>;
    /// Gives a file another name, over what had it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; it may be gone.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Makes names that were given or removed last.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the folder if it is not there; the one above must be.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed(&path.display().to_string(), &error))
            }
            _ => Ok(Self(path.to_owned())),
        }
    }
}

impl Disk for Folder {
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match fs::File::open(self.0.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content)?;
        Ok((content.len() as u64 <= limit).then_some(content))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
        fs::read_dir(&self.0)?.filter_map(|entry| name(entry).transpose()).collect()
    }

    fn create(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = fs::File::create(self.0.join(name))?;
        file.write_all(content)?;
        file.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}

/// A folder in memory, for whoever only wants to look.
#[derive(Debug, Clone, Default)]
pub struct Memory(std::collections::BTreeMap<String, Vec<u8>>);

impl Disk for Memory {
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(name).filter(|content| content.len() as u64 <= limit).cloned())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }

    fn create(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.0.insert(name.to_owned(), content.to_vec());
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let content = self.0.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.0.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.remove(name);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const NEW: &str = "new";
const ROTATION: &str = "rotation";
const SEEN: &str = "seen";
const ANCHOR: &str = "anchor";
const ROOT: &str = "root.json";

fn failed(what: &str, error: &io::Error) -> Error {
    let why = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the state partition is full".to_owned(),
        _ => error.to_string(),
    };
    Error::State { what: what.to_owned(), why }
}

/// The state, on whatever keeps it.
#[derive(Debug)]
pub struct State<D> {
    disk: D,
}

impl<D: Disk> State<D> {
    /// Opens it, with what a cut left to be done still to do: see [`Self::settle`].
    pub fn new(disk: D) -> Self {
        Self { disk }
    }

    /// The folder.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Gives the folder back.
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// What a bad block holds is not there: it is fetched again, and written elsewhere.
    fn read(&self, name: &str, limit: u64) -> Option<Vec<u8>> {
        self.disk.read(name, limit).ok().flatten()
    }

    fn write(&mut self, name: &str, content: &[u8]) -> Result<(), Error> {
        let steps = self.disk.create(NEW, content).and_then(|()| self.disk.rename(NEW, name));
        steps.and_then(|()| self.disk.sync()).map_err(|error| failed(name, &error))
    }

    fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.disk.remove(name).and_then(|()| self.disk.sync()).map_err(|error| failed(name, &error))
    }

    fn number(&self, name: &str) -> Option<u64> {
        String::from_utf8(self.read(name, limits::NOTE_BYTES)?).ok()?.trim().parse().ok()
    }

    /// The trusted root, if there is one.
    pub fn root(&self) -> Option<Vec<u8>> {
        self.read(ROOT, limits::ROOT_BYTES)
    }

    /// Keeps a root of a version. With `forget`, timestamp and snapshot go (steps of point 1 above).
    pub fn keep_root(&mut self, bytes: &[u8], version: u64, forget: bool) -> Result<(), Error> {
        if forget {
            self.write(ROTATION, version.to_string().as_bytes())?;
        }
        self.write(ROOT, bytes)?;
        if forget { self.settle(version) } else { Ok(()) }
    }

    /// Finishes what a cut left half done, given the version of the trusted root.
    pub fn settle(&mut self, root: u64) -> Result<(), Error> {
        let Some(from) = self.number(ROTATION) else { return Ok(()) };
        if root >= from {
            self.remove(&names::role_file("timestamp"))?;
            self.remove(&names::role_file("snapshot"))?;
        }
        self.remove(ROTATION)
    }

    /// A role's metadata, if there is some; not the root's.
    pub fn role(&self, role: &str, limit: u64) -> Option<Vec<u8>> {
        self.read(&names::role_file(role), limit)
    }

    /// Keeps a role's metadata.
    pub fn keep_role(&mut self, role: &str, bytes: &[u8]) -> Result<(), Error> {
        self.write(&names::role_file(role), bytes)
    }

    /// Removes the metadata of roles that are not listed any more.
    pub fn prune(&mut self, listed: impl Fn(&str) -> bool) -> Result<(), Error> {
        let known: Vec<String> = names::TOP_LEVEL.into_iter().map(names::role_file).collect();
        for file in self.disk.list().map_err(|error| failed("its folder", &error))? {
            let stale = file.ends_with(".json") && !known.contains(&file) && !listed(&file);
            if stale {
                self.remove(&file)?;
            }
        }
        Ok(())
    }

    /// The latest time at which a refresh went well.
    pub fn seen(&self) -> Time {
        Time::from_seconds(self.number(SEEN).unwrap_or_default())
    }

    /// A refresh went well at this time.
    pub fn keep_seen(&mut self, now: Time) -> Result<(), Error> {
        self.write(SEEN, now.seconds().to_string().as_bytes())
    }

    /// SHA-256 of the root that this began with, in hexadecimal.
    pub fn anchor(&self) -> Option<String> {
        Some(String::from_utf8(self.read(ANCHOR, limits::NOTE_BYTES)?).ok()?.trim().to_owned())
    }

    /// Notes the root that this began with.
    pub fn keep_anchor(&mut self, hash: &str) -> Result<(), Error> {
        self.write(ANCHOR, hash.as_bytes())
    }
}
