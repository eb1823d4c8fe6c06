//! What a unit says of itself, as sd_notify(3) describes: datagrams of `KEY=value` lines to the socket that its environment
//! names in `NOTIFY_SOCKET`.
//!
//! Each unit has a socket of its own, so who floods it fills a queue of its own (ten datagrams, by the kernel's
//! `net.unix.max_dgram_qlen`) and waits there; PID 1 hears [`limits::NOTICES`] a second ([`Meter`]). A sender is
//! believed if its process is in the unit's cgroup, or below it, when its word is read: a process that has ended by then is
//! none that can be asked for. Descriptors that ride along are closed, which is also the answer to `BARRIER=1`.
//!
//! Heard are `READY=1`, `RELOADING=1`, `STOPPING=1` and `STATUS=`. What would have PID 1 keep something for the unit
//! (`FDSTORE=1`), follow another process (`MAINPID=`) or wait longer (`EXTEND_TIMEOUT_USEC=`) is not; nor `WATCHDOG=1`, which
//! nobody sends who has not been asked by `WATCHDOG_USEC`: that is what `[health]` is for.

use crate::{limits, sys};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What one datagram says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notice {
    /// `READY=1`: it has come up, or reloaded its configuration.
    pub ready: bool,
    /// `RELOADING=1`.
    pub reloading: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `STATUS=`, safe to show, at most [`limits::NOTICE_STATUS_BYTES`].
    pub status: Option<String>,
}

impl Notice {
    /// Reads one. What is not known, or no text, says nothing.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut notice = Self::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            match line {
                b"READY=1" => notice.ready = true,
                b"RELOADING=1" => notice.reloading = true,
                b"STOPPING=1" => notice.stopping = true,
                _ => {
                    let status =
                        line.strip_prefix(b"STATUS=").and_then(|text| std::str::from_utf8(text).ok());
                    notice.status = status.map(shown).or(notice.status);
                }
            }
        }
        notice
    }

    /// It says nothing that is heard.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `berth ps` shows from now on, if that changes.
    pub fn says(&self) -> Option<String> {
        let word = match self {
            Self { stopping: true, .. } => "stopping",
            Self { reloading: true, .. } => "reloading",
            _ => "",
        };
        match (&self.status, word) {
            (None, "") => self.ready.then(String::new),
            (None, word) => Some(word.to_owned()),
            (Some(status), "") => Some(status.clone()),
            (Some(status), word) => Some(format!("{word}: {status}")),
        }
    }
}

/// One line without what a terminal obeys.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if shown.len() + c.len_utf8() > limits::NOTICE_STATUS_BYTES {
            break;
        }
        shown.push(c);
    }
    shown
}

/// How much is heard.
#[derive(Debug, Default)]
pub struct Meter {
    /// When the present second began.
    began: Option<Duration>,
    heard: u32,
}

impl Meter {
    /// When the next one may be heard, if it may not be now.
    pub fn rest(&self, now: Duration) -> Option<Duration> {
        let over = self.began?.saturating_add(Duration::from_secs(1));
        (now < over && self.heard >= limits::NOTICES).then_some(over)
    }

    /// One has been heard.
    pub fn count(&mut self, now: Duration) {
        if self.began.is_none_or(|began| now >= began.saturating_add(Duration::from_secs(1))) {
            *self = Self { began: Some(now), heard: 0 };
        }
        self.heard = self.heard.saturating_add(1);
    }
}

/// A unit's socket. Removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Makes the socket at `path`, anew if there is one.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        // For every user of the unit; nobody else sees it.
        std::fs::set_permissions(path, Permissions::from_mode(0o666))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// The next word, and the process that said it; `None`: there is none yet. What is too long says nothing.
    pub fn receive(&self) -> io::Result<Option<(Notice, Option<i32>)>> {
        let mut buffer = [0; limits::NOTICE_BYTES];
        match sys::recv_with_fds(self.socket.as_fd(), &mut buffer) {
            Ok(got) => {
                let text = buffer.get(..got.bytes).unwrap_or_default();
                let too_long = got.truncated && got.fds.is_empty();
                let notice = if too_long { Notice::default() } else { Notice::parse(text) };
                Ok(Some((notice, got.sender)))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Whoever holds the other end gets ECONNREFUSED in any case.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether a process is of the unit whose cgroup is `unit` (`/units/web`), by the text of its `/proc/<pid>/cgroup`.
pub fn is_of(cgroup: &str, unit: &str) -> bool {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    path.and_then(|path| path.strip_prefix(unit)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn what_is_heard() {
        let said = |text: &str| {
            let notice = Notice::parse(text.as_bytes());
            (notice.ready, notice.says())
        };
        assert_eq!(said("READY=1"), (true, Some(String::new())));
        assert_eq!(said("READY=1\nSTATUS=serving\n"), (true, Some("serving".into())));
        assert_eq!(said("STATUS=one\nSTATUS=two"), (false, Some("two".into())));
        assert_eq!(said("RELOADING=1\nMONOTONIC_USEC=5"), (false, Some("reloading".into())));
        assert_eq!(said("STOPPING=1\nSTATUS=closing files"), (false, Some("stopping: closing files".into())));
        assert_eq!(said("STATUS="), (false, Some(String::new())));
        for nothing in
            ["", "READY=0", "READY=11", "ready=1", "WATCHDOG=1", "MAINPID=1", "FDSTORE=1\nFDNAME=x", "\n\n="]
        {
            assert_eq!(said(nothing), (false, None), "{nothing:?}");
        }
        assert_eq!(said("STATUS=\u{1b}[31mred\u{7}\tü").1.unwrap(), "[31mredü");
        let long = Notice::parse(format!("STATUS={}", "ü".repeat(500)).as_bytes()).status.unwrap();
        assert_eq!(long.len(), limits::NOTICE_STATUS_BYTES);
        assert!(Notice::parse(b"STATUS=\xff\xfe").is_empty());
    }

    #[test]
    fn so_many_in_a_second() {
        let mut meter = Meter::default();
        let at = Duration::from_millis(2500);
        for _ in 0..limits::NOTICES {
            assert_eq!(meter.rest(at), None);
            meter.count(at);
        }
        let next = Duration::from_millis(3500);
        assert_eq!(meter.rest(at), Some(next));
        assert_eq!(meter.rest(next - Duration::from_millis(1)), Some(next));
        assert_eq!(meter.rest(next), None);
        meter.count(next);
        assert_eq!(meter.rest(next), None);
    }

    #[test]
    fn whose_process_it_is() {
        for (text, is) in [
            ("0::/units/web\n", true),
            ("0::/units/web/check\n", true),
            ("1:cpu:/units/web\n0::/units/web\n", true),
            ("0::/units/web2\n", false),
            ("0::/units\n", false),
            ("0::/system/web\n", false),
            ("1:cpu:/units/web\n", false),
            ("", false),
        ] {
            assert_eq!(is_of(text, "/units/web"), is, "{text:?}");
        }
    }

    #[test]
    fn a_socket_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify/web");
        let listener = Listener::open(&path).unwrap();
        // What an earlier run left behind is in nobody's way.
        std::mem::forget(listener);
        let listener = Listener::open(&path).unwrap();
        assert_eq!(listener.receive().unwrap(), None);
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"READY=1\nSTATUS=up", &path).unwrap();
        let (notice, pid) = listener.receive().unwrap().unwrap();
        assert!(notice.ready && notice.status.as_deref() == Some("up"));
        assert_eq!(pid, Some(std::process::id().cast_signed()));
        sender.send_to(&[b'x'; limits::NOTICE_BYTES + 1], &path).unwrap();
        assert!(listener.receive().unwrap().unwrap().0.is_empty());
        // Full, it holds up the sender, not the reader.
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0_u32;
        while sender.send_to(b"READY=1", &path).is_ok() {
            sent += 1;
            assert!(sent < 10_000);
        }
        drop(listener);
        assert!(!path.exists());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut text = b"STATUS=".to_vec();
            text.extend(&bytes);
            for notice in [Notice::parse(&bytes), Notice::parse(&text)] {
                let status = notice.status.unwrap_or_default();
                prop_assert!(status.len() <= limits::NOTICE_STATUS_BYTES && !status.chars().any(char::is_control));
            }
        }
    }
}
