//! Files as far as the kernel has them in memory. PID 1 waits for no disk: what would have to be read from one is for a
//! child.

use nix::libc;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
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
    let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: `part` describes `bytes`, which lives until after the call and is written by the kernel only.
    let got = unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, 0, libc::RWF_NOWAIT) };
    // Less than all: the rest of it is not in memory.
    (usize::try_from(got).ok()? == size).then(|| {
        bytes.truncate(size);
        bytes
    })
}

/// It is a folder; false if a child has to look.
pub fn is_folder(path: &Path) -> bool {
    open(path, libc::O_PATH | libc::O_DIRECTORY).is_some()
}

/// `openat2(2)`: fails where a name would have to be read from a disk (`RESOLVE_CACHED`), or leads through a link.
fn open(path: &Path, flags: libc::c_int) -> Option<File> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: `open_how` is three integers, for which zeroes are fine.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::try_from(flags | libc::O_CLOEXEC).ok()?;
    how.resolve = libc::RESOLVE_CACHED | libc::RESOLVE_NO_SYMLINKS;
    let size = size_of::<libc::open_how>();
    // SAFETY: `path` ends with a zero and `how` has that size; both live until after the call, which writes to neither.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), &raw const how, size) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Some(unsafe { File::from_raw_fd(fd) })
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
