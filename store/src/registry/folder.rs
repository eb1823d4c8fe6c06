//! The folder that is filled: an OCI image layout, in which nothing has its final name before it is complete.
//!
//! The procedure; a power cut at any point leaves the folder without the image or with all of it:
//!
//! 1. what an earlier run left in `tmp/` and nobody can go on with is removed (at start);
//! 2. a blob is written to `tmp/<hex>.part`; when its size and digest are right, it is synced;
//! 3. it is renamed to `blobs/sha256/<hex>`, and that folder is synced. 2 and 3 for each blob: first the index and
//!    the manifest, then the config, then the layers;
//! 4. the new `index.json`, which names the image, is written to `tmp/` and synced;
//! 5. it is renamed to its name, and the folder is synced: from here on the store finds the image.
//!
//! An image is forgotten in the same way: steps 4 and 5 without it, and then (6) the blobs that only it needed go, one by
//! one. What a cut leaves of them nobody names, and it goes with the leftovers of a day ago.
//!
//! A part that was cut off is gone on with, after it has been hashed again.

use super::error::Error;
use crate::digest::{Digest, Hasher};
use crate::durable::{self, sync_folder};
use crate::error::reason;
use crate::layout::{Layout, blob_path};
use crate::limits;
use crate::oci::{Descriptor, ImageConfig, Index, Manifest};
use crate::reference::Reference;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const INDEX: &str = "index.json";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The folder.
pub struct Folder {
    root: PathBuf,
    #[cfg(test)]
    pub(crate) cut_after: std::cell::Cell<(u8, u32)>,
}

/// A blob under way.
pub struct Part {
    file: File,
    hasher: Hasher,
    /// Bytes that are there.
    pub len: u64,
}

impl Folder {
    /// Opens the folder, making it where it is not there (step 1).
    pub fn open(root: &Path) -> Result<Self, Error> {
        let failed = |e: io::Error| failed(format!("{} not made ready", root.display()), &e);
        for folder in ["tmp", "blobs/sha256"] {
            fs::create_dir_all(root.join(folder)).map_err(failed)?;
        }
        let folder = Self {
            root: root.to_owned(),
            #[cfg(test)]
            cut_after: std::cell::Cell::default(),
        };
        folder.clear_tmp().map_err(failed)?;
        let marker = br#"{"imageLayoutVersion":"1.0.0"}"#;
        if fs::read(root.join("oci-layout")).ok().as_deref() != Some(marker) {
            folder.replace("oci-layout", marker).map_err(failed)?;
        }
        Ok(folder)
    }

    fn clear_tmp(&self) -> io::Result<()> {
        let mut parts = Vec::new();
        for entry in fs::read_dir(self.root.join("tmp"))? {
            let (path, name) = entry.map(|e| (e.path(), e.file_name()))?;
            let is_part = name
                .to_str()
                .and_then(|n| n.strip_suffix(".part"))
                .is_some_and(|hex| Digest::from_hex(hex).is_some());
            match fs::symlink_metadata(&path) {
                Ok(meta) if is_part && meta.is_file() && !is_old(&meta) => {
                    parts.push((meta.modified().ok(), path));
                }
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path)?,
                _ => fs::remove_file(&path)?,
            }
        }
        parts.sort();
        let surplus = parts.len().saturating_sub(limits::PARTS);
        parts.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }

    /// Whether the blob is there. What has this name was checked before it got it.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::symlink_metadata(self.root.join(blob_path(digest)))
            .is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// A small blob that is there and sound.
    pub fn read(&self, digest: &Digest, most: u64) -> Option<Vec<u8>> {
        Layout::path(&self.root).ok()?.blob(digest, most).ok()
    }

    /// Puts a small blob there whose digest is right (steps 2 and 3).
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        if self.read(digest, bytes.len() as u64).is_some() {
            return Ok(());
        }
        let mut part = self.part(digest)?;
        self.restart(&mut part, digest)?;
        self.add(&mut part, digest, bytes)?;
        self.keep(part, digest)
    }

    /// Begins a blob, or goes on with it: what is there is hashed again.
    pub fn part(&self, digest: &Digest) -> Result<Part, Error> {
        let path = self.part_path(digest);
        let open = || -> io::Result<Part> {
            let mut file = File::options().read(true).append(true).create(true).open(&path)?;
            let (mut hasher, mut len, mut buffer) = (Hasher::default(), 0, vec![0; 64 * 1024]);
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(Part { file, hasher, len }),
                    n => {
                        hasher.update(&buffer[..n]);
                        len += n as u64;
                    }
                }
            }
        };
        open().map_err(|e| not_written(digest, &e))
    }

    /// Begins it anew.
    pub fn restart(&self, part: &mut Part, digest: &Digest) -> Result<(), Error> {
        part.file.set_len(0).and_then(|()| part.file.rewind()).map_err(|e| not_written(digest, &e))?;
        part.hasher = Hasher::default();
        part.len = 0;
        Ok(())
    }

    /// Adds bytes.
    pub fn add(&self, part: &mut Part, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        part.file.write_all(bytes).map_err(|e| not_written(digest, &e))?;
        part.hasher.update(bytes);
        part.len += bytes.len() as u64;
        Ok(())
    }

    /// The digest of what is there.
    pub fn found(&self, part: &Part) -> Digest {
        part.hasher.clone().digest()
    }

    /// Ends steps 2 and 3 for a part whose digest and size are right.
    pub fn keep(&self, part: Part, digest: &Digest) -> Result<(), Error> {
        let written = |e: io::Error| not_written(digest, &e);
        part.file.sync_all().map_err(written)?;
        self.done(2)?;
        fs::rename(self.part_path(digest), self.root.join(blob_path(digest))).map_err(written)?;
        sync_folder(&self.root.join("blobs/sha256")).map_err(written)?;
        self.done(3)
    }

    /// Names an image whose blobs are all there (steps 4 and 5); `top` is what the registry has under the name.
    pub fn name(&self, reference: &str, top: &Descriptor) -> Result<(), Error> {
        let parsed = Reference::parse(reference).map_err(Error::Reference)?;
        let mut entries = self.entries();
        let entry = json!({
            "mediaType": top.media_type(), "digest": top.digest.to_string(), "size": top.size,
            "annotations": { REF_NAME: reference },
        });
        if entries.contains(&entry) {
            return Ok(());
        }
        let is_other = |entry: &Value| {
            let name = entry["annotations"][REF_NAME].as_str().and_then(|name| Reference::parse(name).ok());
            name.is_some_and(|name| !name.is(&parsed))
        };
        entries.retain(is_other);
        entries.push(entry);
        self.write_entries(&entries)
    }

    /// Forgets images that nobody is to `keep`: first their names (steps 4 and 5), then the blobs that only they need.
    pub fn forget(&self, keep: &dyn Fn(&Reference) -> bool) -> Result<(), Error> {
        let is_kept = |entry: &Value| {
            let name = entry["annotations"][REF_NAME].as_str().and_then(|name| Reference::parse(name).ok());
            name.is_some_and(|name| keep(&name))
        };
        let (kept, dropped): (Vec<Value>, Vec<Value>) = self.entries().into_iter().partition(is_kept);
        if dropped.is_empty() {
            return Ok(());
        }
        let (needed, spent) = (self.reach_all(&kept), self.reach_all(&dropped));
        self.write_entries(&kept)?;
        let removed = |e: io::Error| failed(format!("{} not tidied up", self.root.display()), &e);
        for (digest, _) in spent.difference(&needed) {
            match fs::remove_file(self.root.join(blob_path(digest))) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(removed(e)),
                _ => self.done(6)?,
            }
        }
        Ok(())
    }

    /// Every blob that these images consist of.
    fn reach_all(&self, entries: &[Value]) -> BTreeSet<(Digest, bool)> {
        let mut reached = BTreeSet::new();
        for entry in entries {
            if let Ok(descriptor) = serde_json::from_value(entry.clone()) {
                self.reach(&descriptor, 0, &|_| false, &mut reached);
            }
        }
        reached
    }

    fn write_entries(&self, entries: &[Value]) -> Result<(), Error> {
        let index = json!({
            "schemaVersion": 2, "mediaType": crate::oci::INDEX_TYPES[0], "manifests": entries,
        });
        self.write_index(&index)
    }

    fn write_index(&self, index: &Value) -> Result<(), Error> {
        let written = |e: io::Error| failed(format!("{INDEX} not written"), &e);
        let bytes = serde_json::to_vec(index).map_err(|e| written(e.into()))?;
        let temporary = self.write_beside(INDEX, &bytes).map_err(written)?;
        self.done(4)?;
        fs::rename(temporary, self.root.join(INDEX)).map_err(written)?;
        sync_folder(&self.root).map_err(written)?;
        self.done(5)
    }

    /// Damaged entries count as none: what they named is fetched again.
    fn entries(&self) -> Vec<Value> {
        let bytes = fs::read(self.root.join(INDEX)).unwrap_or_default();
        let index: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        index["manifests"].as_array().cloned().unwrap_or_default()
    }

    /// Removes layers that the store has unpacked (`have`), and what no image names and nobody asked for in a while.
    pub fn tidy(&self, have: &dyn Fn(&Digest) -> bool) -> Result<(), Error> {
        let mut keep = BTreeSet::new();
        for entry in self.entries() {
            if let Ok(descriptor) = serde_json::from_value(entry) {
                self.reach(&descriptor, 0, have, &mut keep);
            }
        }
        let swept = |e: io::Error| failed(format!("{} not tidied up", self.root.display()), &e);
        for entry in fs::read_dir(self.root.join("blobs/sha256")).map_err(swept)? {
            let entry = entry.map_err(swept)?;
            let digest = entry.file_name().to_str().and_then(Digest::from_hex);
            let (wanted, spent) =
                digest.map_or((false, false), |d| (keep.contains(&(d, true)), keep.contains(&(d, false))));
            let old = entry.metadata().is_ok_and(|meta| is_old(&meta));
            if !wanted && (spent || old) {
                fs::remove_file(entry.path()).map_err(swept)?;
            }
        }
        Ok(())
    }

    /// What an image needs (`true`), and which of its layers have been unpacked (`false`).
    fn reach(
        &self,
        descriptor: &Descriptor,
        depth: usize,
        have: &dyn Fn(&Digest) -> bool,
        keep: &mut BTreeSet<(Digest, bool)>,
    ) {
        let first = keep.insert((descriptor.digest, true));
        if !first || depth > limits::INDEX_DEPTH {
            return;
        }
        let Some(bytes) = self.read(&descriptor.digest, limits::MANIFEST_BYTES) else { return };
        if descriptor.is_index() {
            let index = serde_json::from_slice::<Index>(&bytes);
            for child in index.iter().flat_map(|index| &index.manifests) {
                if self.has(&child.digest, child.size) {
                    self.reach(child, depth + 1, have, keep);
                }
            }
            return;
        }
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return };
        keep.insert((manifest.config.digest, true));
        let config = self.read(&manifest.config.digest, limits::CONFIG_BYTES);
        let config = config.and_then(|bytes| serde_json::from_slice::<ImageConfig>(&bytes).ok());
        let diff_ids = config.map(|config| config.rootfs.diff_ids).unwrap_or_default();
        for (i, layer) in manifest.layers.iter().enumerate() {
            let unpacked = diff_ids.get(i).is_some_and(have);
            keep.insert((layer.digest, !unpacked));
        }
    }

    fn part_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("tmp").join(format!("{}.part", digest.hex()))
    }

    fn write_beside(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let temporary = self.root.join("tmp").join(name);
        durable::write(&temporary, bytes).map(|()| temporary)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::rename(self.write_beside(name, bytes)?, self.root.join(name))?;
        sync_folder(&self.root)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    fn done(&self, _step: u8) -> Result<(), Error> {
        Ok(())
    }

    /// Tests cut the power after a step, at its first time or a later one.
    #[cfg(test)]
    fn done(&self, step: u8) -> Result<(), Error> {
        match self.cut_after.get() {
            (cut, 1) if cut == step => Err(Error::Folder("cut".to_owned())),
            (cut, times) if cut == step => {
                self.cut_after.set((cut, times.saturating_sub(1)));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn is_old(meta: &fs::Metadata) -> bool {
    let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    age.is_some_and(|age| age > Duration::from_secs(limits::LEFTOVER_SECONDS))
}

fn failed(what: String, error: &io::Error) -> Error {
    Error::Folder(format!("{what}: {}", reason(error)))
}

fn not_written(digest: &Digest, error: &io::Error) -> Error {
    failed(format!("blob {digest} not written"), error)
}
