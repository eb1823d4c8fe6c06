//! What the main loop asks of the kernel.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a descriptor that a system call has just returned by number; `None` if it is not one.
pub fn owned(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD touches no memory and fails on a number that is not open. The caller has the number from the
    // system call that made it, so nobody else owns it.
    (fd >= 0 && unsafe { libc::fcntl(fd, libc::F_GETFD) } != -1).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}
