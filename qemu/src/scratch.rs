//! Folders for what lives no longer than the process that needs it: sockets, metadata files, disks of tests.
//!
//! A folder goes when its [`Scratch`] is dropped, and, where the process asks for it ([`remove_on`]), when a signal ends
//! the process. A process that is killed outright can do nothing; so each folder holds a file that its process keeps
//! locked, and the next process to start removes every folder whose lock nobody holds any more.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::{emulate_default_handler, pipe};
use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

/// What ends a process from outside: Ctrl-C, `kill`, a terminal that is closed.
pub const ENDS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

const PREFIX: &str = "berth-";
const LOCK: &str = ".lock";
/// Another process's lock file that is younger may not be locked yet.
const YOUNG: Duration = Duration::from_secs(10);

/// The folders of this process.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder, there until it is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    // Locked as long as this process lives.
    _lock: File,
}

impl Scratch {
    /// Makes one; `kind` becomes part of its name. The first one of a process removes what dead processes left.
    pub fn new(kind: &str) -> Result<Scratch> {
        static SWEEP: Once = Once::new();
        let parent = std::env::temp_dir();
        SWEEP.call_once(|| sweep(&parent, YOUNG));
        Scratch::in_folder(&parent, kind)
    }

    fn in_folder(parent: &Path, kind: &str) -> Result<Scratch> {
        let folder = tempfile::Builder::new().prefix(&format!("{PREFIX}{kind}-")).tempdir_in(parent)?;
        let lock = File::create_new(folder.path().join(LOCK))?;
        lock.try_lock().context("the lock of a new folder is taken")?;
        let path = folder.keep();
        folders().push(path.clone());
        Ok(Scratch { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        folders().retain(|path| *path != self.path);
        // What cannot be removed now is tried again by the next process.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn folders() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the folders of dead processes.
fn sweep(parent: &Path, young: Duration) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        let age =
            lock.metadata().and_then(|about| about.modified()).ok().and_then(|made| made.elapsed().ok());
        if age.is_some_and(|age| age >= young) && lock.try_lock().is_ok() {
            // Another user's cannot be removed, and need not be.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// From now on, each of these signals removes this process's folders before it ends the process, as it does by default.
/// Machines end with the process. Asked for more than once, it is done once.
pub fn remove_on(signals: &'static [i32]) -> Result<()> {
    static ASKED: Once = Once::new();
    let mut done = Ok(());
    ASKED.call_once(|| done = signals.iter().try_for_each(|&signal| watch(signal)));
    done
}

fn watch(signal: i32) -> Result<()> {
    let (mut told, tell) = UnixStream::pair()?;
    pipe::register(signal, tell)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if told.read_exact(&mut [0]).is_ok() {
            // Held to the end, so that no folder is made meanwhile.
            let folders = folders();
            for path in folders.iter() {
                let _ = std::fs::remove_dir_all(path);
            }
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_the_dead_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = parent.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let alive = Scratch::in_folder(parent.path(), "test").unwrap();
        let (dead, unlocked, other) = (make("berth-test-dead"), make("berth-test-new"), make("other"));
        for folder in [&dead, &other] {
            std::fs::write(folder.join("file"), "x").unwrap();
            File::create(folder.join(LOCK)).unwrap();
        }
        sweep(parent.path(), YOUNG);
        assert!(dead.exists(), "it may be about to be locked");
        sweep(parent.path(), Duration::ZERO);
        assert!(!dead.exists() && alive.path().exists() && unlocked.exists() && other.exists());
        let path = alive.path().to_owned();
        drop(alive);
        assert!(!path.exists());
    }
}
