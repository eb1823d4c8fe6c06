//! Tells when a segment has grown.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use tokio::net::unix::pipe::Receiver;

/// Room for events of one file, which have no names: 16 bytes each, and the same one again is not queued.
const EVENTS_BYTES: usize = 256;

/// A watch of one file, `inotify(7)`. The kernel asks for the right to read the file's inode, beside the descriptor: PID 1's log
/// segments can be read by all users, who do not see their folder.
///
/// An inotify descriptor is read as a pipe is: whole events, or `EAGAIN`.
pub struct Watch(Receiver);

impl Watch {
    /// What is written from now on is told.
    pub fn of(file: &File) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // The descriptor's own file, wherever it lies and whether or not it has a name still.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY)?;
        Ok(Self(Receiver::from_owned_fd_unchecked(inotify.into())?))
    }

    /// Waits until something was written since the last call, or the making. Can be dropped at any time.
    pub async fn written(&self) {
        let mut events = [0; EVENTS_BYTES];
        while self.0.readable().await.is_ok() {
            match self.0.try_read(&mut events) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(1..) => return,
                Ok(0) | Err(_) => break,
            }
        }
        // It tells nothing any more.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::Duration;
    use tokio::time::timeout;

    /// Without a deadline of its own the test would hang, not fail.
    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "current_thread")]
    async fn a_write_is_told_even_if_the_file_has_no_name_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("current");
        let mut writer = File::create(&path).unwrap();
        let watch = Watch::of(&File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        for _ in 0..3 {
            writer.write_all(b"x\n").unwrap();
            timeout(DEADLINE, watch.written()).await.unwrap();
        }
        let nothing = timeout(Duration::from_millis(1), watch.written()).await;
        assert!(nothing.is_err(), "told without a write");
    }
}
