//! A further process in a running unit, on its way in and while it is there: what health checks and `berth exec` have in
//! common. It has a cgroup of its own below the unit's, so it can be ended with all that it started and nothing else.

use super::reactor::{Reactor, Source, Watch};
use berth_units::cgroup::Cgroup;
use berth_units::launch::{self, Entered, Entry, Message, Plan};
use berth_units::paths;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Where to go in.
#[derive(Debug)]
pub struct Inside<'a> {
    /// As the unit was started.
    pub plan: Plan,
    /// The unit's.
    pub cgroup: &'a Cgroup,
    /// Its first process.
    pub main: BorrowedFd<'a>,
}

/// What has happened on the way in.
#[derive(Debug)]
pub enum Step {
    /// Nothing new.
    None,
    /// Its program runs.
    Runs,
    /// It will not, and why.
    Failed(String),
}

/// See the module.
#[derive(Debug)]
pub struct Visit {
    cgroup: Cgroup,
    start: Option<(Entered, Option<Watch>)>,
    usher: Option<i32>,
    process: Option<i32>,
    /// The master of its terminal, until it is taken.
    pub terminal: Option<OwnedFd>,
}

impl Visit {
    /// Begins; never waits. `cgroup` is the name of its own below the unit's, `source` what wakes us to call
    /// [`Visit::step`].
    pub fn begin(
        reactor: &mut Reactor,
        inside: &Inside<'_>,
        cgroup: &str,
        entry: &Entry<'_>,
        source: Source,
    ) -> Result<Self, String> {
        let cgroup = inside.cgroup.child(cgroup).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => "an earlier one does not end, although it was killed".to_owned(),
            _ => error.to_string(),
        })?;
        let entered =
            launch::enter(&inside.plan, &cgroup, inside.main, entry).map_err(|error| error.to_string())?;
        let usher = Some(entered.usher_pid);
        let watch = watched(&inside.plan.unit, reactor.watch(&entered.channel, source));
        Ok(Self { cgroup, start: Some((entered, watch)), usher, process: None, terminal: None })
    }

    /// What its start's channel says.
    pub fn step(&mut self, reactor: &mut Reactor) -> Step {
        loop {
            let Some((entered, _)) = self.start.as_mut() else { return Step::None };
            let failed = match entered.receive() {
                Ok(None) => return Step::None,
                Ok(Some(Message::Created { pid, .. })) => {
                    self.process = Some(pid);
                    self.terminal = entered.terminal();
                    continue;
                }
                Ok(Some(Message::Running)) => {
                    self.end_start(reactor);
                    return Step::Runs;
                }
                Ok(Some(Message::Failed { step, error })) => format!("{step}: {error}"),
                Err(error) => error.to_string(),
            };
            self.end_start(reactor);
            return Step::Failed(failed);
        }
    }

    /// It is still on its way in.
    pub fn starts(&self) -> bool {
        self.start.is_some()
    }

    /// Whether this was its usher, who ends when it is in. Its number may be somebody else's from now on.
    pub fn buries_usher(&mut self, pid: i32) -> bool {
        self.usher.take_if(|usher| *usher == pid).is_some()
    }

    /// Its process, once it is known.
    pub fn process(&self) -> Option<i32> {
        self.process
    }

    /// Kills it, with what it has started. Whoever reaps gets the processes.
    pub fn end(mut self, reactor: &mut Reactor) {
        self.end_start(reactor);
        if let Err(error) = self.cgroup.kill() {
            log::error!("{} not killed: {error}", self.cgroup.path().display());
        }
        // It fails while they still die; the next one of the name, or the unit's own end, removes it.
        let _ = self.cgroup.remove();
    }

    fn end_start(&mut self, reactor: &mut Reactor) {
        if let Some((entered, Some(watch))) = self.start.take() {
            reactor.forget(&entered.channel, watch);
        }
    }
}

/// Berth's program, to be run in a container.
pub fn own_program() -> Result<OwnedFd, String> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(paths::BERTH, flags, Mode::empty()).map_err(|error| format!("{}: {error}", paths::BERTH))
}

/// A watch, or a complaint.
pub fn watched(unit: &str, watch: io::Result<Watch>) -> Option<Watch> {
    watch.map_err(|error| log::error!("a process in unit {unit} is not watched: {error}")).ok()
}
