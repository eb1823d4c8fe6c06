//! `clone3` as a fork with namespaces, pidfd and cgroup.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Exit code of a child whose closure panicked.
pub(crate) const PANICKED: i32 = 101;

/// libc's constant is too narrow.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Clones the calling process; the child runs `child` and exits with its result, never returning into the caller's
/// code. Returns the child's pid and pidfd.
///
/// `flags` are `CLONE_*` of namespaces and `CLONE_PARENT`; flags that would share memory, files or signal handlers
/// with the child are refused. In a process with several threads the child may find a lock (malloc's, for one) held
/// for ever: it would hang, not misbehave.
pub(crate) fn clone(
    flags: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> i32,
) -> io::Result<(i32, OwnedFd)> {
    const ALLOWED: libc::c_int = libc::CLONE_PARENT
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC;
    if flags & !ALLOWED != 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` consists of integers only; all zero is a valid value and means "default".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned() | libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut pidfd).addr() as u64;
    // With CLONE_PARENT the signal is the parent's own exit signal, and the kernel wants 0 here.
    args.exit_signal = if flags & libc::CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(dir) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(dir.as_raw_fd().unsigned_abs());
    }
    // SAFETY: neither CLONE_VM nor CLONE_FILES nor CLONE_SETTLS can be set (checked above), so the child is a copy with
    // its own memory on the same stack addresses, as after fork; `args` and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(PANICKED);
            // SAFETY: `_exit` only ends the process; nothing of the parent's (buffers, destructors) is to run here.
            unsafe { libc::_exit(code) }
        }
        pid => {
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel has stored a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok((i32::try_from(pid).unwrap_or(i32::MAX), pidfd))
        }
    }
}

/// Sends a signal to the process behind a pidfd.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call; a null siginfo is allowed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
