//! A machine is started anew: the boot record says so, for an operator it was written there, and this start does it
//! before the state is used. What asks for it is taken from the record last, so a cut in between only begins it again.

use super::state;
use crate::sys::child;
use crate::sys::early::{block_bytes, discard};
use berth_units::control::Keep;
use berth_units::{blank, paths};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// What the boot record asks of the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask(Keep);

impl Ask {
    /// To keep this.
    pub const fn of(keep: Keep) -> Ask {
        Ask(keep)
    }

    /// As the record has it.
    pub fn word(self) -> String {
        format!("reset-{}", self.0.word())
    }

    /// Reads [`Ask::word`].
    pub fn parse(word: &str) -> Option<Ask> {
        word.strip_prefix("reset-").and_then(Keep::parse).map(Ask)
    }

    /// What stays.
    pub const fn keep(self) -> Keep {
        self.0
    }
}

/// Removing what is not kept: images may be many files.
const REMOVE: Duration = Duration::from_secs(300);
/// Making the partition blank.
const BLANK: Duration = Duration::from_secs(60);

/// Before the state is mounted: a partition of which nothing is to stay is made blank, and a new file system is then made on it as on any
/// blank one.
pub fn before(disk: &Path, ask: Ask) -> Result<(), String> {
    if ask.keep() != Keep::Nothing {
        return Ok(());
    }
    let device = state::partition(disk)?;
    let work = || {
        let about = |error: std::io::Error| format!("{}: {error}", device.display());
        let partition = OpenOptions::new().read(true).write(true).open(&device).map_err(about)?;
        make_blank(&partition).map_err(about).map(|()| String::new())
    };
    child::run(BLANK, work).map(drop).map_err(|error| error.to_string())
}

fn make_blank(partition: &File) -> std::io::Result<()> {
    let bytes = block_bytes(partition)?;
    // Where the disk can, all of it is forgotten; else what says that there is a file system.
    let _ = discard(partition, bytes);
    for (at, length) in blank::places(bytes) {
        partition.write_all_at(&vec![0; usize::try_from(length).unwrap_or_default()], at)?;
    }
    partition.sync_all()
}

/// After the state is mounted: everything but the volumes is removed.
pub fn after(ask: Ask) -> Result<(), String> {
    if ask.keep() != Keep::Volumes {
        return Ok(());
    }
    let kept = Path::new(paths::STATE_VOLUMES);
    let work = || {
        let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let state = Path::new(paths::STATE);
        let entries = std::fs::read_dir(state).map_err(|error| failed(state, error))?;
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path != kept) {
            let folder = path.symlink_metadata().is_ok_and(|about| about.is_dir());
            let gone = if folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            gone.map_err(|error| failed(&path, error))?;
        }
        File::open(state).and_then(|folder| folder.sync_all()).map_err(|error| failed(state, error))?;
        Ok(String::new())
    };
    child::run(REMOVE, work).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for keep in [Keep::Volumes, Keep::Nothing] {
            assert_eq!(Ask::parse(&Ask::of(keep).word()), Some(Ask::of(keep)));
        }
        assert_eq!(Ask::parse(""), None);
        assert_eq!(Ask::parse("reset-"), None);
    }
}
