//! Files that are there after a power cut, or not at all: written beside, synced, renamed, and the folder synced. Each
//! procedure says itself what comes between these.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Writes a new file and syncs it.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes what was renamed into the folder, or removed from it, last.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
