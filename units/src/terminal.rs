//! Terminals' sizes, and descriptors that do not block: what `berth exec` needs at both ends.

use crate::sys::process;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io;
use std::os::fd::BorrowedFd;

/// Reads and writes on it return at once.
pub fn non_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Sets a terminal's rows and columns; its foreground processes get SIGWINCH (ioctl_tty(2), TIOCSWINSZ).
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    process::set_window(terminal, rows, columns)
}

/// A terminal's rows and columns (TIOCGWINSZ).
pub fn size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    process::window(terminal)
}
