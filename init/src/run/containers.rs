//! The containers that exist: their starts, processes, output and cgroups. Turns what the kernel says about them
//! into [`Input`]s, in an order that the supervisor can rely on: how a run ended comes before its cgroup is empty,
//! and nothing of a run comes after that.

use super::kernel::{Input, Order};
use super::reactor::{Reactor, Source, Watch};
use super::visit::Inside;
use super::{limits, text};
use berth_units::cgroup::{self, Cgroup};
use berth_units::disks;
use berth_units::launch::{self, Message, Place, Plan, Starting};
use berth_units::lifecycle::Exit;
use berth_units::logs::{LogWriter, Stream};
use berth_units::model::{IoMax, Resources};
use berth_units::paths;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Bytes of a unit's output taken in one pass, so that a chatty unit does not keep the others waiting.
const OUTPUT_BYTES: usize = 64 * 1024;
/// Bytes read at once.
const PART_BYTES: usize = 8 * 1024;

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until exec.
    Starting,
    /// The program runs.
    Running,
    /// How it ended has been said.
    Ended,
}

#[derive(Debug)]
struct Container {
    phase: Phase,
    cgroup: Cgroup,
    cgroup_watch: Option<Watch>,
    start: Option<(Starting, Option<Watch>)>,
    setup_pid: Option<i32>,
    main_pid: Option<i32>,
    pidfd: Option<OwnedFd>,
    netns: Option<OwnedFd>,
    netlink: Option<OwnedFd>,
    /// Standard output and error.
    output: [Option<(File, Option<Watch>)>; 2],
    /// `CgroupEmpty` was said.
    said_empty: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Containers {
    containers: BTreeMap<String, Container>,
    logs: BTreeMap<String, LogWriter>,
}

impl Containers {
    /// Starts a container; never waits. `fds` are handed to its program.
    pub fn launch(
        &mut self,
        reactor: &mut Reactor,
        order: &Order<'_>,
        fds: Vec<(String, OwnedFd)>,
    ) -> Result<(), String> {
        let unit = &order.unit.name;
        if self.containers.contains_key(unit) {
            return Err("its former run is not over".into());
        }
        let mut plan = Plan::new(order.unit, order.image, order.id_base, &Place::default())
            .map_err(|e| e.to_string())?;
        plan.fds = fds;
        let path = paths::cgroup(order.unit.origin, unit);
        let cgroup = Cgroup::create(Path::new(&path), &order.unit.resources)
            .map_err(|error| format!("cgroup {path}: {error}"))?;
        if let Err(error) = limit_io(&cgroup, &order.unit.resources) {
            let _ = cgroup.remove();
            return Err(error.to_string());
        }
        self.log(unit);
        let starting = match launch::spawn(&plan, &cgroup) {
            Ok(starting) => starting,
            Err(error) => {
                let _ = cgroup.remove();
                return Err(error.to_string());
            }
        };
        let watch = |result: std::io::Result<Watch>| {
            result.map_err(|error| log::error!("unit {unit} is not watched: {error}")).ok()
        };
        let cgroup_watch = watch(reactor.watch_changes(cgroup.events(), Source::Cgroup(unit.clone())));
        let start_watch = watch(reactor.watch(&starting.channel, Source::Start(unit.clone())));
        let mut output = [None, None];
        for (slot, (fd, error)) in
            output.iter_mut().zip([(&starting.stdout, false), (&starting.stderr, true)])
        {
            if let Ok(fd) = fd.try_clone() {
                let watch = watch(reactor.watch(&fd, Source::Output(unit.clone(), error)));
                *slot = Some((File::from(fd), watch));
            }
        }
        let container = Container {
            phase: Phase::Starting,
            setup_pid: Some(starting.setup_pid),
            cgroup,
            cgroup_watch,
            start: Some((starting, start_watch)),
            main_pid: None,
            pidfd: None,
            netns: None,
            netlink: None,
            output,
            said_empty: false,
        };
        self.containers.insert(unit.clone(), container);
        Ok(())
    }

    /// The container may exec.
    pub fn go(&mut self, unit: &str) -> Option<Input> {
        let container = self.containers.get_mut(unit)?;
        let (starting, _) = container.start.as_mut()?;
        let error = starting.go().err()?;
        Some(Input::StartFailed { unit: unit.to_owned(), reason: error.to_string() })
    }

    /// The start's channel is readable.
    pub fn start_ready(&mut self, reactor: &mut Reactor, unit: &str, inbox: &mut VecDeque<Input>) {
        while let Some(container) = self.containers.get_mut(unit) {
            let Some((starting, _)) = container.start.as_mut() else { return };
            let unit = unit.to_owned();
            match starting.receive() {
                Ok(None) => return,
                Ok(Some(Message::Created { pid, pidfd, netns, netlink })) => {
                    container.main_pid = Some(pid);
                    container.pidfd = Some(pidfd);
                    container.netns = netns;
                    container.netlink = netlink;
                    inbox.push_back(Input::Plumb { unit, pid });
                }
                Ok(Some(Message::Running)) => {
                    container.phase = Phase::Running;
                    container.end_start(reactor);
                    inbox.push_back(Input::Started { unit });
                }
                Ok(Some(Message::Failed { step, error })) => {
                    container.fail(reactor, unit, format!("{step}: {error}"), inbox);
                }
                Err(error) => container.fail(reactor, unit, error.to_string(), inbox),
            }
        }
    }

    /// A child of PID 1 has ended. False if it is none of these.
    pub fn reaped(
        &mut self,
        reactor: &mut Reactor,
        pid: i32,
        exit: Exit,
        inbox: &mut VecDeque<Input>,
    ) -> bool {
        let is_mine = |c: &Container| c.setup_pid == Some(pid) || c.main_pid == Some(pid);
        let unit = match self.containers.iter().find(|(_, container)| is_mine(container)) {
            Some((unit, _)) => unit.clone(),
            // Its start may not have told us of it yet.
            None => {
                let starting: Vec<String> = self.starting();
                for unit in starting {
                    self.start_ready(reactor, &unit, inbox);
                }
                match self.containers.iter().find(|(_, container)| is_mine(container)) {
                    Some((unit, _)) => unit.clone(),
                    None => return false,
                }
            }
        };
        // What was said before the end comes first.
        self.start_ready(reactor, &unit, inbox);
        let Some(container) = self.containers.get_mut(&unit) else { return true };
        if container.main_pid == Some(pid) {
            container.main_pid = None;
            container.pidfd = None;
            match container.phase {
                Phase::Starting => {
                    let reason = format!("its process ended before its program ran: {}", text::exit(exit));
                    container.fail(reactor, unit.clone(), reason, inbox);
                }
                Phase::Running => {
                    container.phase = Phase::Ended;
                    let oom = container.cgroup.oom_kills() > 0;
                    inbox.push_back(Input::Exited { unit: unit.clone(), exit, oom });
                }
                Phase::Ended => {}
            }
        } else {
            container.setup_pid = None;
            if container.phase == Phase::Starting && container.main_pid.is_none() {
                let reason = format!("the setup process ended too early: {}", text::exit(exit));
                container.fail(reactor, unit.clone(), reason, inbox);
            }
        }
        self.look_at_cgroup(&unit, inbox);
        true
    }

    fn starting(&self) -> Vec<String> {
        let starting = |(_, container): &(&String, &Container)| container.start.is_some();
        self.containers.iter().filter(starting).map(|(unit, _)| unit.clone()).collect()
    }

    /// Says that the cgroup is empty, once, when it is and every process was reaped.
    pub fn look_at_cgroup(&mut self, unit: &str, inbox: &mut VecDeque<Input>) {
        let Some(container) = self.containers.get_mut(unit) else { return };
        let populated = container.cgroup.populated().unwrap_or_else(|error| {
            log::error!("cgroup of unit {unit}: {error}");
            false
        });
        if !populated
            && container.main_pid.is_none()
            && container.setup_pid.is_none()
            && !container.said_empty
        {
            container.said_empty = true;
            inbox.push_back(Input::CgroupEmpty { unit: unit.to_owned() });
        }
    }

    /// Kills everything in the unit's cgroup. `CgroupEmpty` follows, also if there was nothing.
    pub fn kill(&mut self, unit: &str, inbox: &mut VecDeque<Input>) {
        let Some(container) = self.containers.get_mut(unit) else {
            inbox.push_back(Input::CgroupEmpty { unit: unit.to_owned() });
            return;
        };
        if let Err(error) = container.cgroup.kill() {
            log::error!("unit {unit} not killed: {error}");
        }
        container.said_empty = false;
        self.look_at_cgroup(unit, inbox);
    }

    /// Sends a signal to the main process. By its pidfd: a number may be somebody else's by now.
    pub fn signal(&self, unit: &str, signal: i32) {
        let Some(pidfd) = self.containers.get(unit).and_then(|container| container.pidfd.as_ref()) else {
            return;
        };
        if let Err(error) = launch::signal(pidfd.as_fd(), signal) {
            log::warn!("unit {unit}: signal {signal} not sent: {error}");
        }
    }

    /// Nothing of the run is left: takes the rest of its output, closes and removes everything.
    pub fn cleanup(&mut self, reactor: &mut Reactor, unit: &str, now: Duration) {
        for error in [false, true] {
            self.output_ready(reactor, unit, error, now);
        }
        let Some(mut container) = self.containers.remove(unit) else { return };
        container.end_start(reactor);
        for (file, watch) in container.output.into_iter().flatten() {
            if let Some(watch) = watch {
                reactor.forget(&file, watch);
            }
        }
        if let Some(writer) = self.logs.get_mut(unit) {
            writer.flush(now);
        }
        if let Some(watch) = container.cgroup_watch.take() {
            reactor.forget(container.cgroup.events(), watch);
        }
        let path = container.cgroup.path().to_owned();
        if let Err(error) = container.cgroup.remove() {
            log::warn!("cgroup {} not removed: {error}", path.display());
        }
    }

    /// A unit has written something, or closed its output. `now` is the wall clock.
    pub fn output_ready(&mut self, reactor: &mut Reactor, unit: &str, error: bool, now: Duration) {
        let Some(container) = self.containers.get_mut(unit) else { return };
        let slot = &mut container.output[usize::from(error)];
        let Some((file, _)) = slot.as_mut() else { return };
        let stream = if error { Stream::Stderr } else { Stream::Stdout };
        let mut part = [0; PART_BYTES];
        for _ in 0..OUTPUT_BYTES / PART_BYTES {
            match file.read(&mut part) {
                Ok(count) if count > 0 => {
                    if let Some(writer) = self.logs.get_mut(unit) {
                        writer.feed(stream, &part[..count], now);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // Closed at the other end, or broken.
                Ok(_) | Err(_) => {
                    if let Some((file, Some(watch))) = slot.take() {
                        reactor.forget(&file, watch);
                    }
                    return;
                }
            }
        }
    }

    /// The unit's log, opened when it is first needed.
    pub fn log(&mut self, unit: &str) -> Option<&mut LogWriter> {
        if !self.logs.contains_key(unit) {
            match LogWriter::open(&Path::new(paths::LOGS).join(unit)) {
                Ok(writer) => {
                    self.logs.insert(unit.to_owned(), writer);
                }
                Err(error) => log::error!("log of unit {unit} not kept: {error}"),
            }
        }
        self.logs.get_mut(unit)
    }

    /// The newest lines of a unit's log.
    pub fn last_lines(&self, unit: &str) -> Vec<String> {
        let log = self.logs.get(unit);
        log.map(|log| log.last_lines(limits::LAST_LINES, limits::LAST_LINE_BYTES)).unwrap_or_default()
    }

    /// Drops a unit's log: nobody will write to it, nor ask for it.
    pub fn forget(&mut self, unit: &str) {
        self.logs.remove(unit);
        match std::fs::remove_dir_all(Path::new(paths::LOGS).join(unit)) {
            // It has never run.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => log::warn!("log of unit {unit} not removed: {error}"),
            Ok(()) => {}
        }
    }

    /// The unit's network namespace, and a routing socket opened inside it.
    pub fn network(&self, unit: &str) -> Option<Vec<OwnedFd>> {
        let container = self.containers.get(unit)?;
        let copies = [container.netns.as_ref()?, container.netlink.as_ref()?].map(OwnedFd::try_clone);
        copies.into_iter().collect::<Result<_, _>>().ok()
    }

    /// Where a further process can be started, if the unit's program runs. `order` is as it was launched.
    pub fn inside(&self, order: &Order<'_>) -> Result<Inside<'_>, String> {
        let plan = Plan::new(order.unit, order.image, order.id_base, &Place::default())
            .map_err(|error| error.to_string())?;
        let container = self.containers.get(&order.unit.name).filter(|c| c.phase == Phase::Running);
        let Some((container, main)) = container.and_then(|c| Some((c, c.pidfd.as_ref()?.as_fd()))) else {
            return Err(format!("{} does not run", order.unit.name));
        };
        Ok(Inside { plan, cgroup: &container.cgroup, main })
    }

    /// `memory.current`.
    pub fn memory(&self, unit: &str) -> Option<u64> {
        self.containers.get(unit)?.cgroup.usage().memory
    }
}

/// What a unit may read and write of the disk that the state is on.
fn limit_io(cgroup: &Cgroup, limits: &Resources) -> std::io::Result<()> {
    if limits.io_weight.is_none() && limits.io_max == IoMax::default() {
        return Ok(());
    }
    let disk = disks::under(Path::new(paths::STATE));
    if let (Some(disk), Some(_)) = (disk, limits.io_weight) {
        cgroup::share_disk(Path::new(paths::CGROUP), disk)?;
    }
    cgroup.limit_io(limits, disk)
}

impl Container {
    fn fail(&mut self, reactor: &mut Reactor, unit: String, reason: String, inbox: &mut VecDeque<Input>) {
        if self.phase == Phase::Starting {
            self.phase = Phase::Ended;
            self.end_start(reactor);
            inbox.push_back(Input::StartFailed { unit, reason });
        }
    }

    fn end_start(&mut self, reactor: &mut Reactor) {
        if let Some((starting, Some(watch))) = self.start.take() {
            reactor.forget(&starting.channel, watch);
        }
    }
}
