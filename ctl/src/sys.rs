//! The one call that needs `unsafe`: how wide is the terminal?

use std::os::fd::{AsFd, AsRawFd as _};

/// Columns of the terminal behind `fd`, if it is one and knows.
pub fn terminal_columns(fd: impl AsFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open for as long as `fd` is borrowed, and TIOCGWINSZ writes one `winsize`, which
    // `size` is, and keeps no reference to it (ioctl_tty(2)).
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
