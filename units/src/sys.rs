//! The crate's only `unsafe`: system calls that nix does not cover, behind functions that are safe to call with
//! any argument of their types.

pub(crate) mod clone;
pub(crate) mod mount;
pub(crate) mod process;

use crate::limits::MESSAGE_FDS;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What [`recv_with_fds`] got.
pub(crate) struct Received {
    /// Bytes written to the buffer; 0 at the end of the stream.
    pub(crate) bytes: usize,
    /// Descriptors, close-on-exec.
    pub(crate) fds: Vec<OwnedFd>,
    /// Who sent it, in this process's pid namespace, if the socket asks for that.
    pub(crate) sender: Option<i32>,
    /// The packet did not fit, or more than [`MESSAGE_FDS`] descriptors came.
    pub(crate) truncated: bool,
}

/// Descriptors that the kernel lets ride along with one packet. There is room for all of them, or a hostile peer
/// could make us leak those that did fit (nix does not show them once the list is cut short).
const SCM_MAX_FD: usize = 253;

/// `recvmsg` with descriptors.
pub(crate) fn recv_with_fds(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = cmsg_space!([RawFd; SCM_MAX_FD], UnixCredentials);
    loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Ok(message) => message,
            Err(nix::Error::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let (mut fds, mut sender) = (Vec::new(), None);
        if let Ok(control) = message.cmsgs() {
            for part in control {
                match part {
                    ControlMessageOwned::ScmRights(raw) => {
                        for fd in raw {
                            // SAFETY: the kernel has just installed this descriptor for us, and nobody else knows it.
                            fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
                        }
                    }
                    ControlMessageOwned::ScmCredentials(who) => sender = Some(who.pid()),
                    _ => {}
                }
            }
        }
        let truncated =
            fds.len() > MESSAGE_FDS || message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        return Ok(Received { bytes: message.bytes, fds, sender, truncated });
    }
}

/// Reads from the beginning of a file what the kernel has of it in memory (`RWF_NOWAIT`).
pub(crate) fn read_at_hand(file: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: `part` describes `buffer`, which is ours until after the call.
    let got = unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, 0, libc::RWF_NOWAIT) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// A copy, closed on exec, of a descriptor that this process was started with. One that is not open is an error.
pub(crate) fn inherited(fd: RawFd) -> io::Result<File> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC takes any number and touches no memory.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `copy` is a new descriptor that nothing else owns.
    Ok(unsafe { File::from_raw_fd(copy) })
}
