//! One epoll, and what each descriptor in it is for. Whoever owns a descriptor forgets its watch before closing it:
//! a forked child may hold the same file a little longer, and a closed but still watched file would fire for ever.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// Events taken in one pass.
const EVENTS: usize = 64;

/// What a descriptor is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The signalfd.
    Signals,
    /// The control socket.
    Listener,
    /// A control connection.
    Peer(u64),
    /// A start in progress.
    Start(String),
    /// A unit's standard output or error.
    Output(String, bool),
    /// A unit's `cgroup.events`.
    Cgroup(String),
    /// What a unit says of itself.
    Notice(String),
    /// A look at a unit that begins.
    Check(String),
    /// What a look at a unit writes.
    CheckOutput(String),
    /// An operator's command that begins.
    Exec(u64),
    /// The socket of an operator's command.
    ExecPeer(u64),
    /// A short-lived child's answer.
    Chore(i32),
    /// Device events of the kernel.
    Uevents,
    /// The kernel's log.
    KernelLog,
    /// An input device with a power key.
    Button(u64),
}

/// A descriptor's registration.
#[derive(Debug, PartialEq, Eq)]
pub struct Watch(u64);

/// See the module.
#[derive(Debug)]
pub struct Reactor {
    epoll: Epoll,
    sources: HashMap<u64, Source>,
    last: u64,
}

impl Reactor {
    /// Nothing is watched yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, sources: HashMap::new(), last: 0 })
    }

    /// Fires while there is something to read, or the other end is gone.
    pub fn watch(&mut self, fd: impl AsFd, source: Source) -> io::Result<Watch> {
        self.add(fd, source, EpollFlags::EPOLLIN)
    }

    /// Fires when the file changes (kernfs: `cgroup.events`).
    pub fn watch_changes(&mut self, fd: impl AsFd, source: Source) -> io::Result<Watch> {
        self.add(fd, source, EpollFlags::EPOLLPRI)
    }

    fn add(&mut self, fd: impl AsFd, source: Source, flags: EpollFlags) -> io::Result<Watch> {
        self.last += 1;
        self.epoll.add(fd, EpollEvent::new(flags, self.last))?;
        self.sources.insert(self.last, source);
        Ok(Watch(self.last))
    }

    /// Says whether the descriptor is also to fire when it can be written to.
    pub fn watch_writing(&mut self, fd: impl AsFd, watch: &Watch, writing: bool) -> io::Result<()> {
        let flags = if writing { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, watch.0))?)
    }

    /// Ends a registration.
    pub fn forget(&mut self, fd: impl AsFd, watch: Watch) {
        self.sources.remove(&watch.0);
        // It fails only if the descriptor is not in the epoll, which is what is wanted.
        let _ = self.epoll.delete(fd);
    }

    /// Waits for events, at most `limit`. Some sources may be gone by the time they are handled.
    pub fn wait(&mut self, limit: Duration) -> Vec<Source> {
        let mut events = [EpollEvent::empty(); EVENTS];
        // Rounded up, or the last millisecond before a deadline would be spent spinning.
        let millis = limit.as_micros().div_ceil(1000).min(3_600_000);
        let timeout =
            EpollTimeout::try_from(i32::try_from(millis).unwrap_or(1000)).unwrap_or(EpollTimeout::ZERO);
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => {
                // Cannot happen with a valid epoll; waiting keeps the loop from spinning if it does.
                log::error!("epoll: {error}");
                std::thread::sleep(Duration::from_millis(100));
                0
            }
        };
        events.iter().take(count).filter_map(|event| self.sources.get(&event.data()).cloned()).collect()
    }

    /// Is this source still there?
    pub fn has(&self, watch: &Watch) -> bool {
        self.sources.contains_key(&watch.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_forgotten_does_not_fire() {
        let mut reactor = Reactor::new().unwrap();
        let (ours, mut theirs) = std::io::pipe().unwrap();
        let watch = reactor.watch(&ours, Source::Signals).unwrap();
        assert!(reactor.wait(Duration::ZERO).is_empty());
        theirs.write_all(b"x").unwrap();
        assert_eq!(reactor.wait(Duration::from_secs(5)), [Source::Signals]);
        reactor.forget(&ours, watch);
        assert!(reactor.wait(Duration::ZERO).is_empty());
    }
}
