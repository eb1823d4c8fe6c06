//! The one call that neither std nor nix has in a safe form.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, RawFd};

/// A copy, closed on exec, of a descriptor that this process was started with. One that is not open is an error.
pub fn inherited(fd: RawFd) -> io::Result<File> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC takes any number and touches no memory.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `copy` is a new descriptor that nothing else owns.
    Ok(unsafe { File::from_raw_fd(copy) })
}
