//! Small files of the kernel's and of ours, with a bound on what is read.

use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// At most `limit` bytes of a file as text; more is an error.
pub fn read(path: impl AsRef<Path>, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than it may be"));
    }
    Ok(text)
}

/// A one-line file of the kernel's, without the line feed; `None` when it cannot be read.
pub fn line(path: impl AsRef<Path>) -> Option<String> {
    read(path, super::limits::SMALL_FILE_BYTES).ok().map(|text| text.trim_end().to_owned())
}

/// Writes into a file of the kernel's that exists.
pub fn poke(path: impl AsRef<Path>, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

/// Replaces a file of ours: written beside, synced, renamed, and the folder synced. Blocks; for children. Two of them
/// (one that the boot left behind, one of the shutdown) may want to replace the same file: one waits for the other.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_with(path, || bytes, mode)
}

/// The same, with bytes that are made once nobody else is at it.
pub fn replace_with<B: AsRef<[u8]>>(path: &Path, bytes: impl FnOnce() -> B, mode: u32) -> io::Result<()> {
    let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let folder = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&beside)?;
    file.write_all(bytes().as_ref())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    folder.sync_all()
}

/// A folder's names survive a power cut. Blocks; for children.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_whole_and_read_with_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        replace(&path, b"one\n", 0o600).unwrap();
        replace(&path, b"twelve\n", 0o600).unwrap();
        assert_eq!(line(&path).unwrap(), "twelve");
        assert!(read(&path, 3).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_who_replace_the_same_file_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("random-seed");
        std::thread::scope(|scope| {
            for byte in *b"ab" {
                let path = &path;
                scope.spawn(move || (0..200).for_each(|_| replace(path, &[byte; 512], 0o600).unwrap()));
            }
        });
        assert_eq!(fs::read(&path).unwrap().len(), 512);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
