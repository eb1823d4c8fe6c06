//! How far the UKI got, so that the next try goes on there: `sha256 bytes`, kept after what it speaks of was synced.
//!
//! A note is a hint and no more: what it says is there is hashed again, and a wrong one costs a download.

use crate::limits;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The notes of one slot.
#[derive(Debug)]
pub struct Notes {
    path: PathBuf,
}

impl Notes {
    /// In a folder.
    pub fn new(folder: &Path) -> Notes {
        Notes { path: folder.join("uki") }
    }

    /// How many bytes of the file with this hash were synced.
    pub fn read(&self, hash: &str) -> u64 {
        let read = || -> io::Result<String> {
            let mut text = String::new();
            File::open(&self.path)?.take(limits::NOTE_BYTES).read_to_string(&mut text)?;
            Ok(text)
        };
        let Ok(text) = read() else { return 0 };
        let bytes = text.strip_suffix('\n').and_then(|text| text.split_once(' '));
        bytes.filter(|(of, _)| *of == hash).and_then(|(_, bytes)| bytes.parse().ok()).unwrap_or(0)
    }

    /// Keeps how far it got. A folder that cannot be written costs a longer download after a cut, so it is no error.
    pub fn keep(&self, hash: &str, bytes: u64) {
        let beside = self.path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(format!("{hash} {bytes}\n").as_bytes())?;
            file.sync_data()?;
            fs::rename(&beside, &self.path)
        };
        if write().is_err() {
            let _ = fs::remove_file(&beside);
        }
    }

    /// Forgets.
    pub fn forget(&self) {
        let _ = fs::remove_file(&self.path);
    }
}
