//! Lines for whoever watches: the consoles that the kernel uses, and the kernel's log.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

/// How long one line may wait for a slow serial line, milliseconds; then the rest of it is dropped. PID 1 must not
/// hang because nobody reads.
const WAIT_MS: u16 = 200;
/// Consoles at most.
const CONSOLES: usize = 4;

struct Sinks {
    consoles: Vec<File>,
    kmsg: Option<File>,
}

static SINKS: Mutex<Option<Sinks>> = Mutex::new(None);

/// (Re)opens the consoles named in `/sys/class/tty/console/active` and the kernel's log. Until then, lines go to
/// standard error, which the kernel has opened.
pub fn open() {
    let active = super::files::line("/sys/class/tty/console/active").unwrap_or_default();
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let names = active.split_ascii_whitespace().take(CONSOLES);
    let mut consoles: Vec<File> =
        names.filter_map(|name| options.open(format!("/dev/{name}")).ok()).collect();
    if consoles.is_empty() {
        consoles.extend(options.open("/dev/console").ok());
    }
    // Unlimited, or a burst of step lines would be dropped.
    let _ = super::files::poke("/proc/sys/kernel/printk_devkmsg", "on\n");
    let kmsg = OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC).open("/dev/kmsg").ok();
    if let Ok(mut sinks) = SINKS.lock() {
        *sinks = Some(Sinks { consoles, kmsg });
    }
}

/// One line, `subject` padded to a column of its own, to every console and to the kernel's log (there at a level that
/// the kernel does not print again).
pub fn say(subject: &str, sentence: impl Display) {
    line(&format!("{subject:<8} {sentence}"));
}

/// One line as it is.
pub fn line(text: &str) {
    let Ok(mut sinks) = SINKS.lock() else { return };
    let Some(sinks) = sinks.as_mut() else {
        let _ = writeln!(std::io::stderr(), "{text}");
        return;
    };
    if let Some(kmsg) = &mut sinks.kmsg {
        // <31>: facility "daemon", level "debug".
        let _ = kmsg.write_all(format!("<31>berth: {text}\n").as_bytes());
    }
    for console in &mut sinks.consoles {
        write_patiently(console, format!("{text}\r\n").as_bytes());
    }
}

fn write_patiently(console: &mut File, mut bytes: &[u8]) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    while !bytes.is_empty() {
        match console.write(bytes) {
            Ok(0) => return,
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let mut wait = [PollFd::new(console.as_fd(), PollFlags::POLLOUT)];
                if !matches!(poll(&mut wait, PollTimeout::from(WAIT_MS)), Ok(count) if count > 0) {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
