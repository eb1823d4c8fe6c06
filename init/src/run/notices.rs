//! The sockets by which units say something of themselves ([`berth_units::notify`]). A unit that says more than is heard in
//! a second is not listened to until that second is over: its words wait in its own queue, and it with them.

use super::kernel::Input;
use super::reactor::{Reactor, Source, Watch};
use crate::early::files;
use berth_units::model::Unit;
use berth_units::notify::{Listener, Meter, is_of};
use berth_units::paths;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Bytes of `/proc/<pid>/cgroup`: one path, of as many parts as somebody may have made.
const CGROUP_BYTES: u64 = 8192;

#[derive(Debug)]
struct Ear {
    listener: Listener,
    watch: Option<Watch>,
    meter: Meter,
    /// Closed until then.
    rests_until: Option<Duration>,
    /// The unit's cgroup below the root of all.
    cgroup: String,
    /// It has been said that somebody was not believed.
    said: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Notices {
    ears: BTreeMap<String, Ear>,
}

impl Notices {
    /// Before the unit's start.
    pub fn open(&mut self, reactor: &mut Reactor, unit: &Unit) -> Result<(), String> {
        let path = Path::new(paths::NOTIFY).join(&unit.name);
        let cgroup = paths::cgroup(unit.origin, &unit.name);
        let cgroup = cgroup.strip_prefix(paths::CGROUP).unwrap_or(&cgroup);
        self.listen(reactor, &unit.name, &path, cgroup)
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    fn listen(&mut self, reactor: &mut Reactor, unit: &str, path: &Path, cgroup: &str) -> io::Result<()> {
        self.close(reactor, unit);
        let listener = Listener::open(path)?;
        let watch = reactor.watch(&listener, Source::Notice(unit.to_owned()))?;
        let ear = Ear {
            listener,
            watch: Some(watch),
            meter: Meter::default(),
            rests_until: None,
            cgroup: cgroup.to_owned(),
            said: false,
        };
        self.ears.insert(unit.to_owned(), ear);
        Ok(())
    }

    /// Its run is over.
    pub fn close(&mut self, reactor: &mut Reactor, unit: &str) {
        if let Some(mut ear) = self.ears.remove(unit) {
            ear.rest(reactor);
        }
    }

    /// There is something to be heard.
    pub fn ready(&mut self, reactor: &mut Reactor, unit: &str, now: Duration, inbox: &mut VecDeque<Input>) {
        let Some(ear) = self.ears.get_mut(unit) else { return };
        loop {
            if let Some(until) = ear.meter.rest(now) {
                ear.rests_until = Some(until);
                return ear.rest(reactor);
            }
            let (notice, sender) = match ear.listener.receive() {
                Ok(Some(word)) => word,
                Ok(None) => return,
                Err(error) => {
                    log::warn!("what unit {unit} says of itself is not heard any more: {error}");
                    return ear.rest(reactor);
                }
            };
            ear.meter.count(now);
            let cgroup = sender.and_then(|pid| files::read(format!("/proc/{pid}/cgroup"), CGROUP_BYTES).ok());
            if !cgroup.is_some_and(|text| is_of(&text, &ear.cgroup)) {
                if !std::mem::replace(&mut ear.said, true) {
                    log::warn!(
                        "unit {unit}: a notification was not believed; whoever sent it is no process of the unit, or not any more"
                    );
                }
            } else if !notice.is_empty() {
                inbox.push_back(Input::Noticed { unit: unit.to_owned(), notice });
            }
        }
    }

    /// When [`Notices::tick`] has to be called next.
    pub fn next(&self) -> Option<Duration> {
        self.ears.values().filter_map(|ear| ear.rests_until).min()
    }

    /// Listens again to those that have rested.
    pub fn tick(&mut self, reactor: &mut Reactor, now: Duration) {
        for (unit, ear) in &mut self.ears {
            if ear.rests_until.is_some_and(|until| until <= now) {
                ear.rests_until = None;
                ear.watch = reactor
                    .watch(&ear.listener, Source::Notice(unit.clone()))
                    .map_err(|error| {
                        log::warn!("what unit {unit} says of itself is not heard any more: {error}")
                    })
                    .ok();
            }
        }
    }
}

impl Ear {
    fn rest(&mut self, reactor: &mut Reactor) {
        if let Some(watch) = self.watch.take() {
            reactor.forget(&self.listener, watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_units::limits::NOTICES;
    use std::os::unix::net::UnixDatagram;

    struct Bench {
        reactor: Reactor,
        notices: Notices,
        inbox: VecDeque<Input>,
        folder: tempfile::TempDir,
    }

    impl Bench {
        /// A unit that is in this cgroup.
        fn new(cgroup: &str) -> Self {
            let (folder, mut reactor) = (tempfile::tempdir().unwrap(), Reactor::new().unwrap());
            let mut notices = Notices::default();
            notices.listen(&mut reactor, "web", &folder.path().join("web"), cgroup).unwrap();
            Self { reactor, notices, inbox: VecDeque::new(), folder }
        }

        /// As much as there is room for in the queue, at most that many.
        fn send(&self, text: &str, most: u32) -> u32 {
            let sender = UnixDatagram::unbound().unwrap();
            sender.set_nonblocking(true).unwrap();
            let path = self.folder.path().join("web");
            (0..most)
                .take_while(|_| sender.send_to(text.as_bytes(), &path).is_ok())
                .count()
                .try_into()
                .unwrap()
        }

        /// One turn of the main loop.
        fn turn(&mut self, now: Duration) {
            self.notices.tick(&mut self.reactor, now);
            for source in self.reactor.wait(Duration::ZERO) {
                assert_eq!(source, Source::Notice("web".into()));
                self.notices.ready(&mut self.reactor, "web", now, &mut self.inbox);
            }
        }
    }

    fn own_cgroup() -> String {
        let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().trim_end_matches('/').to_owned()
    }

    #[test]
    fn the_units_own_processes_are_believed() {
        let mut bench = Bench::new(&own_cgroup());
        assert_eq!(bench.send("READY=1", 1), 1);
        assert_eq!(bench.send("FDSTORE=1", 1), 1);
        bench.turn(Duration::ZERO);
        assert!(
            matches!(bench.inbox.pop_front(), Some(Input::Noticed { unit, notice }) if unit == "web" && notice.ready)
        );
        assert!(bench.inbox.is_empty());

        let mut bench = Bench::new("/units/other");
        assert_eq!(bench.send("READY=1", 2), 2);
        bench.turn(Duration::ZERO);
        assert!(bench.inbox.is_empty() && bench.notices.ears["web"].said);
    }

    /// A million notifications: the sender waits, PID 1 hears so many a second and does nothing in between.
    #[test]
    fn who_says_too_much_is_not_listened_to_for_a_while() {
        let mut bench = Bench::new(&own_cgroup());
        let (mut sent, mut now) = (0, Duration::from_millis(1));
        for second in 1..=3_u32 {
            loop {
                sent += bench.send("STATUS=again", 1_000_000);
                let before = bench.inbox.len();
                bench.turn(now);
                if bench.inbox.len() == before {
                    break;
                }
                now += Duration::from_millis(1);
            }
            assert_eq!(bench.inbox.len(), usize::try_from(NOTICES * second).unwrap());
            let next = bench.notices.next().unwrap();
            assert!(bench.reactor.wait(Duration::ZERO).is_empty(), "it is watched");
            bench.turn(next - Duration::from_millis(1));
            assert_eq!(bench.inbox.len(), usize::try_from(NOTICES * second).unwrap());
            now = next;
        }
        assert!(sent < 3 * NOTICES + 1000, "the kernel holds {sent}");
        bench.notices.close(&mut bench.reactor, "web");
        assert_eq!(bench.send("READY=1", 1), 0);
        assert_eq!(bench.notices.next(), None);
    }
}
