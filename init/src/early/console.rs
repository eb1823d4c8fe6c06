//! Lines for whoever watches: the consoles that the kernel uses, and the kernel's log.
//!
//! PID 1 does not wait for a console: what a slow serial line, or one that nobody reads, does not take at once is kept
//! (bounded) and goes out with the next line, with the event loop's next turns ([`flush`]), or at the end ([`drain`]).

use crate::sys::early as sys;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Bytes kept for one console that does not take them: a minute of a line at 9,600 baud. Of more, the new lines are
/// dropped, and their number is said once there is room.
const WAITING: usize = 64 << 10;
/// How long a short-lived child waits for a console: it has nobody to leave its words to.
const CHILD_WAITS: Duration = Duration::from_millis(200);
/// How long the last words may take to leave the machine, driver and wire included.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often is looked whether a console takes more, while somebody does wait.
const LOOK: Duration = Duration::from_millis(5);
/// Consoles at most.
const CONSOLES: usize = 4;

/// A console, and what it has not taken yet.
struct Console {
    file: File,
    waiting: Vec<u8>,
    dropped: u64,
}

impl Console {
    fn new(file: File) -> Self {
        Self { file, waiting: Vec::new(), dropped: 0 }
    }

    fn say(&mut self, text: &str) {
        self.push(text);
        self.flush();
    }

    fn push(&mut self, text: &str) {
        if self.dropped > 0 {
            let note =
                format!("         ({} lines that this console did not take are left out)\r\n", self.dropped);
            if self.waiting.len() + note.len() + text.len() + 2 > WAITING {
                self.dropped += 1;
                return;
            }
            self.waiting.extend_from_slice(note.as_bytes());
            self.dropped = 0;
        }
        if self.waiting.len() + text.len() + 2 > WAITING {
            self.dropped += 1;
            return;
        }
        self.waiting.extend_from_slice(text.as_bytes());
        self.waiting.extend_from_slice(b"\r\n");
    }

    /// Writes what the console takes now. A console that is gone takes nothing any more, and keeps nothing.
    fn flush(&mut self) {
        let mut done = 0;
        while done < self.waiting.len() {
            match self.file.write(&self.waiting[done..]) {
                Ok(count) if count > 0 => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => done = self.waiting.len(),
            }
        }
        self.waiting.drain(..done);
    }
}

struct Sinks {
    consoles: Vec<Console>,
    kmsg: Option<File>,
    /// Whoever keeps lines for later; its children inherit them, and must not say them again.
    owner: u32,
}

impl Sinks {
    fn flush(&mut self) {
        self.consoles.iter_mut().for_each(Console::flush);
    }

    fn pending(&self) -> bool {
        self.consoles.iter().any(|console| !console.waiting.is_empty())
    }

    fn wait(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        self.flush();
        while self.pending() && Instant::now() < end {
            std::thread::sleep(LOOK);
            self.flush();
        }
    }
}

static SINKS: Mutex<Option<Sinks>> = Mutex::new(None);

/// (Re)opens the consoles named in `/sys/class/tty/console/active` and the kernel's log. Until then, lines go to
/// standard error, which the kernel has opened.
pub fn open() {
    let active = super::files::line("/sys/class/tty/console/active").unwrap_or_default();
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let names = active.split_ascii_whitespace().take(CONSOLES);
    let mut files: Vec<File> = names.filter_map(|name| options.open(format!("/dev/{name}")).ok()).collect();
    if files.is_empty() {
        files.extend(options.open("/dev/console").ok());
    }
    // Unlimited, or a burst of step lines would be dropped.
    let _ = super::files::poke("/proc/sys/kernel/printk_devkmsg", "on\n");
    let kmsg = OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC).open("/dev/kmsg").ok();
    if let Ok(mut sinks) = SINKS.lock() {
        let mut consoles: Vec<Console> = files.into_iter().map(Console::new).collect();
        // Opened anew under the new root: what the old ones had not taken goes on.
        for (new, old) in consoles.iter_mut().zip(sinks.take().into_iter().flat_map(|old| old.consoles)) {
            (new.waiting, new.dropped) = (old.waiting, old.dropped);
        }
        *sinks = Some(Sinks { consoles, kmsg, owner: std::process::id() });
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
    let child = sinks.owner != std::process::id();
    for console in &mut sinks.consoles {
        if child {
            console.waiting.clear();
        }
        console.say(text);
    }
    if child {
        sinks.wait(CHILD_WAITS);
    }
}

/// Offers the consoles what they have not taken yet; says whether something is left.
pub fn flush() -> bool {
    with(|sinks| {
        sinks.flush();
        sinks.pending()
    })
}

/// Before the machine goes: waits until everything has left it, for a little while.
pub fn drain() {
    with(|sinks| {
        let end = Instant::now() + LAST_WORDS;
        sinks.wait(LAST_WORDS);
        let unsent = |console: &Console| sys::unsent(&console.file).is_ok_and(|bytes| bytes > 0);
        while sinks.consoles.iter().any(unsent) && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
        false
    });
}

fn with(work: impl FnOnce(&mut Sinks) -> bool) -> bool {
    SINKS.lock().is_ok_and(|mut sinks| sinks.as_mut().is_some_and(work))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::io::Read;
    use std::os::fd::OwnedFd;

    /// A console that takes as much as a pipe does.
    fn console() -> (File, Console) {
        let (reader, writer) = std::io::pipe().unwrap();
        for fd in [&OwnedFd::from(reader.try_clone().unwrap()), &OwnedFd::from(writer.try_clone().unwrap())] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        }
        (File::from(OwnedFd::from(reader)), Console::new(File::from(OwnedFd::from(writer))))
    }

    fn take(reader: &mut File) -> String {
        let mut text = Vec::new();
        let _ = reader.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_is_not_taken_waits_and_what_is_too_much_is_counted() {
        let (mut reader, mut console) = console();
        let line = "x".repeat(998);
        for _ in 0..200 {
            console.say(&line);
        }
        // A pipe holds 64 KiB, and as much waits.
        assert!(console.waiting.len() > WAITING - 1000 && console.waiting.len() <= WAITING);
        let mut seen = String::new();
        while !console.waiting.is_empty() {
            seen.push_str(&take(&mut reader));
            console.flush();
        }
        seen.push_str(&take(&mut reader));
        let whole = seen.lines().filter(|seen| *seen == line).count();
        assert_eq!(seen.len(), whole * 1000, "lines are whole");
        console.say("again");
        let note = format!(
            "         ({} lines that this console did not take are left out)\r\nagain\r\n",
            200 - whole
        );
        assert_eq!(take(&mut reader), note);
    }

    #[test]
    fn a_console_that_is_gone_keeps_nothing() {
        let (reader, mut console) = console();
        drop(reader);
        console.say("nobody");
        assert!(console.waiting.is_empty());
    }
}
