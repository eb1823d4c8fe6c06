//! Stages of the build that are kept: each is a folder named by the hash of what it was made from.
//!
//! A stage is made beside its place and renamed into it, so a folder that exists is complete. A lock file per kind
//! of stage keeps two builds from making the same one at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::run::Progress;
use crate::workspace;

/// Collects what a stage is made from.
pub struct Key(Sha256);

impl Key {
    /// `kind` and the source of the code that makes the stage are part of every key.
    pub fn new(kind: &str, code: &str) -> Key {
        Key(Sha256::new()).with(kind.as_bytes()).with(code.as_bytes())
    }

    /// Adds bytes, with their length, so that no two lists of inputs look the same.
    #[must_use]
    pub fn with(mut self, bytes: impl AsRef<[u8]>) -> Key {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a file's content, or everything below a folder, in order of names.
    pub fn with_path(mut self, path: &Path) -> Result<Key> {
        if path.is_dir() {
            for name in sorted_names(path)? {
                self = self.with(name.as_encoded_bytes()).with_path(&path.join(&name))?;
            }
            return Ok(self);
        }
        let bytes = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
        Ok(self.with(bytes))
    }

    /// Sixteen hex digits: names in a cache, not a defence.
    pub fn finish(self) -> String {
        hex(&self.0.finalize()).chars().take(16).collect()
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The names in a folder, sorted bytewise.
pub fn sorted_names(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("could not list {}", dir.display()))? {
        names.push(entry.with_context(|| format!("could not list {}", dir.display()))?.file_name());
    }
    names.sort();
    Ok(names)
}

/// Holds a lock file until dropped.
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Waits for the lock `name` in the cache.
pub fn lock(name: &str, progress: Progress<'_>) -> Result<Lock> {
    let dir = workspace::cache();
    fs::create_dir_all(&dir).with_context(|| format!("could not create {}", dir.display()))?;
    let path = dir.join(format!(".{name}.lock"));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("could not open {}", path.display()))?;
    if file.try_lock().is_err() {
        progress(&format!("waiting for another build ({name})"));
        file.lock().with_context(|| format!("could not lock {}", path.display()))?;
    }
    Ok(Lock(file))
}

/// The folder of stage `kind` with this key; `make` fills it when it is not there yet. Those of the same kind
/// that were not used for longest are removed, beyond `keep`.
pub fn stage(
    kind: &str,
    key: &str,
    keep: usize,
    progress: Progress<'_>,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let parent = workspace::cache().join(kind);
    let done = parent.join(key);
    if done.is_dir() {
        // Used now: not the next to be removed. (A cache of somebody else's cannot be marked; no harm.)
        let _ = File::open(&done).and_then(|dir| dir.set_modified(SystemTime::now()));
        return Ok(done);
    }
    let _lock = lock(kind, progress)?;
    if done.is_dir() {
        return Ok(done);
    }
    let half = parent.join(".new");
    unmount_below(&half)?;
    remove(&half)?;
    fs::create_dir_all(&half).with_context(|| format!("could not create {}", half.display()))?;
    make(&half)?;
    prune(&parent, keep)?;
    fs::rename(&half, &done).with_context(|| format!("could not move {} into place", half.display()))?;
    Ok(done)
}

/// Unmounts what a killed build has left mounted below a folder (`/proc`, `/sys`, `/dev/pts` of a tree that was being made): to
/// remove that with the folder would be to remove the host's.
fn unmount_below(dir: &Path) -> Result<()> {
    let mounted = || -> Vec<PathBuf> {
        let all = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        mount_points(&all).filter(|point| point.starts_with(dir)).collect()
    };
    // The newest first: they lie deepest.
    for point in mounted().into_iter().rev() {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&point).status();
    }
    match mounted().first() {
        None => Ok(()),
        Some(point) => {
            anyhow::bail!("{} is mounted, left by a build that was killed; unmount it", point.display())
        }
    }
}

/// Mount points in a mountinfo file (proc(5)): the fifth field, in which spaces are `\\040`.
fn mount_points(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(point.replace("\\040", " ").replace("\\134", "\\")))
}

/// Removes a folder and everything below, if it is there.
pub fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Leaves the newest `keep` stages, so that the next makes one more.
fn prune(parent: &Path, keep: usize) -> Result<()> {
    let mut stages = Vec::new();
    for name in sorted_names(parent)? {
        if name.as_encoded_bytes().first() != Some(&b'.') {
            let path = parent.join(name);
            let made = fs::symlink_metadata(&path)
                .and_then(|m| m.modified())
                .with_context(|| format!("could not read {}", path.display()))?;
            stages.push((made, path));
        }
    }
    stages.sort();
    let surplus = stages.len().saturating_sub(keep);
    stages.iter().take(surplus).try_for_each(|(_, path)| remove(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "this is how a test fails")]

    use super::*;

    #[test]
    fn mount_points_are_read_with_their_spaces() {
        let text =
            "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 0:5 / /a\\040b/proc ro,nosuid - proc proc ro\n\n";
        assert_eq!(mount_points(text).collect::<Vec<_>>(), [PathBuf::from("/"), PathBuf::from("/a b/proc")]);
        unmount_below(Path::new("/no/such/folder")).unwrap();
    }
}
