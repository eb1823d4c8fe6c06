//! Files as far as the kernel has them in memory. PID 1 waits for no disk: what would have to be read from one is for a
//! child.

use crate::sys::{self, mount};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Content of a regular file of at most `limit` bytes. `None`: a child has to look, whatever the reason.
pub fn read(path: &Path, limit: usize) -> Option<Vec<u8>> {
    // The time of access would be a write.
    let file = open(path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOATIME)?;
    let about = file.metadata().ok().filter(|about| about.is_file())?;
    let size = usize::try_from(about.len()).ok().filter(|size| *size <= limit)?;
    // One byte of room is left when all has been read, or the file has grown meanwhile.
    let mut bytes = vec![0; size + 1];
    // Less than all: the rest of it is not in memory.
    (sys::read_at_hand(file.as_fd(), &mut bytes).ok()? == size).then(|| {
        bytes.truncate(size);
        bytes
    })
}

/// It is a folder; false if a child has to look.
pub fn is_folder(path: &Path) -> bool {
    open(path, libc::O_PATH | libc::O_DIRECTORY).is_some()
}

/// Nothing on the way may be a link.
fn open(path: &Path, flags: libc::c_int) -> Option<File> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    mount::open_at_hand(&path, flags).ok().map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        std::fs::write(path.join("small"), "words").unwrap();
        std::fs::write(path.join("empty"), "").unwrap();
        std::os::unix::fs::symlink("small", path.join("link")).unwrap();
        let read = |name: &str, limit| read(&path.join(name), limit);
        assert_eq!(read("small", 5), Some(b"words".to_vec()));
        assert_eq!(read("small", 4), None, "longer than what is wanted");
        assert_eq!(read("empty", 5), Some(Vec::new()));
        assert_eq!((read("link", 5), read("none", 5), read(".", 5)), (None, None, None));
        assert!(is_folder(&path) && !is_folder(&path.join("small")) && !is_folder(&path.join("none")));
    }
}
