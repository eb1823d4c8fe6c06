//! The loop itself.

use super::answers::{self, answer, rescue_reason};
use super::chores::Job;
use super::devices::Buttons;
use super::ids::Ids;
use super::kernel::{Halt, Input};
use super::machine::{Machine, now};
use super::peers::{self, Said};
use super::reactor::{Reactor, Source};
use super::supervisor::{Facts, Supervisor};
use super::trials::Trials;
use super::{files, kept, last, limits, log as lines};
use crate::early::{Booted, State, Uevent, console, fail, identity};
use berth_units::control::FromWorker;
use berth_units::lifecycle::Exit;
use berth_units::paths;
use berth_updater::assess::{Start, was_tried};
use berth_updater::steps::Status;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt, listen, socket, sockopt,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

/// The longest wait, so that a lost deadline costs a minute and no more.
const IDLE: Duration = Duration::from_secs(60);
/// The shortest, so that a deadline that cannot be met does not become a spin.
const LEAST: Duration = Duration::from_millis(1);
/// How often a console that did not take its lines is offered them again.
const OFFER: Duration = Duration::from_millis(50);
/// New control connections taken in one pass.
const ACCEPTS: usize = 16;

struct Loop {
    supervisor: Supervisor,
    machine: Machine,
    signals: SignalFd,
    listener: OwnedFd,
    buttons: Buttons,
    panics: u32,
}

/// Runs the machine until it goes down.
pub fn main(booted: Booted) -> ! {
    lines::set_up();
    // Only errors of the kernel appear between our lines; the rest is in its log.
    let _ = crate::early::files::poke("/proc/sys/kernel/printk", "4 4 1 7\n");
    let mut everything = match Loop::new(booted) {
        Ok(everything) => everything,
        Err(error) => fail::die(Status::Failed, "event loop not started", &error.to_string()),
    };
    everything.begin();
    loop {
        everything.turn();
    }
}

impl Loop {
    fn new(booted: Booted) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGPWR,
            Signal::SIGHUP,
            Signal::SIGPIPE,
        ] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let listener = control_socket(Path::new(paths::CONTROL_SOCKET))?;
        let mut reactor = Reactor::new()?;
        reactor.watch(&signals, Source::Signals)?;
        reactor.watch(&listener, Source::Listener)?;
        reactor.watch(booted.uevents.fd(), Source::Uevents)?;
        let units = files::system_units(Path::new(paths::SYSTEM_UNITS));
        let supervisor = Supervisor::new(facts(&booted), files::check, units);
        let machine = Machine::new(booted, reactor);
        Ok(Self { supervisor, machine, signals, listener, buttons: Buttons::default(), panics: 0 })
    }

    fn begin(&mut self) {
        let start = crate::early::boot_times::now_us();
        let kept = kept::read();
        let outcome = kept.trouble.as_deref().unwrap_or_default();
        self.machine.booted.timeline.add("main", "kept config", start, outcome);
        if !outcome.is_empty() {
            console::say("state", outcome);
        }
        self.supervisor.set_ids(Ids::parse(&kept.ids));
        self.supervisor.set_history(kept.history);
        if let Some(why) = &kept.trouble {
            self.supervisor.state_is_lost(why);
        }
        let trials = Trials::parse(&kept.trials).unwrap_or_else(|why| {
            let why = format!("{} {why}; trials are forgotten", paths::STATE_TRIALS);
            console::say("update", &why);
            self.supervisor.state_is_lost(&why);
            Trials::default()
        });
        self.supervisor.set_trials(trials);
        self.buttons.look(&mut self.machine.reactor);
        self.machine.adopt_coldplug();
        self.guarded("begin", |this| this.supervisor.begin(kept.config.as_deref(), now(), &mut this.machine));
        self.work();
    }

    fn turn(&mut self) {
        let panics = self.panics;
        let sources = self.machine.reactor.wait(self.patience());
        for source in sources {
            self.guarded("event", |this| this.event(&source));
        }
        self.guarded("deadlines", Self::deadlines);
        #[cfg(feature = "faults")]
        self.guarded("fault", |_| crate::early::faults::strike("loop", "turn"));
        self.work();
        if let Some(halt) = self.machine.down.filter(|_| !self.machine.chores.busy(&Job::Condemn)) {
            last::down(halt, self.machine.booted.watchdog.take());
        }
        if self.panics == panics {
            self.pet();
        }
    }

    /// How long nothing has to be done.
    fn patience(&self) -> Duration {
        if self.supervisor.has_work() || !self.machine.inbox.is_empty() {
            return LEAST;
        }
        let watchdog = self.machine.booted.watchdog.as_ref().map(|dog| now().saturating_add(dog.interval()));
        let offer = console::flush().then(|| now().saturating_add(OFFER));
        let deadlines = [
            offer,
            self.supervisor.next_deadline(),
            self.machine.chores.next(),
            self.machine.peers.next(),
            self.machine.looks.next(),
            self.machine.notices.next(),
            watchdog,
        ];
        match deadlines.into_iter().flatten().min() {
            Some(at) => at.saturating_sub(now()).clamp(LEAST, IDLE),
            None => IDLE,
        }
    }

    fn pet(&self) {
        if let Some(Err(error)) = self.machine.booted.watchdog.as_ref().map(crate::early::Watchdog::pet) {
            log::error!("watchdog not petted: {error}");
        }
    }

    /// Runs one piece of work; a panic in it ends only this piece.
    fn guarded(&mut self, what: &str, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_ok() {
            return;
        }
        self.panics += 1;
        let text = format!("init panicked in its event loop ({what}): {}", fail::take_panic());
        log::error!("{text}");
        if self.panics == limits::PANICS {
            let again = catch_unwind(AssertUnwindSafe(|| {
                self.supervisor.handle(Input::Broken { reason: text.clone() }, now(), &mut self.machine);
            }));
            if again.is_err() {
                fail::die(Status::Crashed, "init crashed", &text);
            }
        } else if self.panics > 2 * limits::PANICS {
            fail::die(Status::Crashed, "init crashed", &text);
        }
    }

    /// Hands over what has happened, until nothing is left.
    fn work(&mut self) {
        let mut bound = limits::EVENTS_PER_PASS;
        while let Some(input) = self.machine.inbox.pop_front() {
            self.guarded("input", |this| this.supervisor.handle(input, now(), &mut this.machine));
            bound -= 1;
            if bound == 0 {
                log::error!("{} inputs put off to the next turn", self.machine.inbox.len());
                return;
            }
        }
    }

    fn event(&mut self, source: &Source) {
        let machine = &mut self.machine;
        match source {
            Source::Signals => self.take_signals(),
            Source::Listener => self.accept(),
            Source::Peer(id) => {
                let said = machine.peers.ready(&mut machine.reactor, *id, now());
                self.hear(said);
            }
            Source::Start(unit) => {
                machine.containers.start_ready(&mut machine.reactor, unit, &mut machine.inbox)
            }
            Source::Output(unit, error) => {
                let wall = super::kernel::Kernel::wall(machine);
                machine.containers.output_ready(&mut machine.reactor, unit, *error, wall);
            }
            Source::Cgroup(unit) => machine.containers.look_at_cgroup(unit, &mut machine.inbox),
            Source::Notice(unit) => {
                machine.notices.ready(&mut machine.reactor, unit, now(), &mut machine.inbox);
            }
            Source::Check(unit) => {
                machine.looks.start_ready(&mut machine.reactor, unit, &mut machine.inbox);
            }
            Source::CheckOutput(unit) => machine.looks.output_ready(&mut machine.reactor, unit),
            Source::Exec(id) => machine.execs.start_ready(&mut machine.reactor, *id),
            Source::ExecPeer(id) => machine.execs.peer_ready(&mut machine.reactor, *id),
            Source::Chore(pid) => {
                if let Some((job, outcome)) = machine.chores.readable(&mut machine.reactor, *pid) {
                    machine.chore_ended(job, outcome);
                }
            }
            Source::Uevents => self.take_uevents(),
            Source::KernelLog => machine.take_kernel_log(super::kmsg::A_PASS),
            Source::Button(number) => {
                if self.buttons.pressed(&mut machine.reactor, *number) {
                    machine.inbox.push_back(Input::Halt { halt: Halt::Poweroff, why: "power button".into() });
                }
            }
        }
    }

    fn deadlines(&mut self) {
        let time = now();
        for (job, outcome) in self.machine.chores.tick(&mut self.machine.reactor, time) {
            self.machine.chore_ended(job, outcome);
        }
        let machine = &mut self.machine;
        machine.looks.tick(&mut machine.reactor, time, &mut machine.inbox);
        machine.notices.tick(&mut machine.reactor, time);
        let said = self.machine.peers.tick(&mut self.machine.reactor, time);
        self.hear(said);
        if self.supervisor.next_deadline().is_some_and(|at| at <= time) {
            self.supervisor.tick(time, &mut self.machine);
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            let halt = match Signal::try_from(number) {
                Ok(Signal::SIGINT) => Some((Halt::Reboot, "ctrl-alt-del")),
                Ok(Signal::SIGTERM) => Some((Halt::Reboot, "SIGTERM")),
                Ok(Signal::SIGPWR) => Some((Halt::Poweroff, "power failure")),
                _ => None,
            };
            if let Some((halt, why)) = halt {
                self.machine.inbox.push_back(Input::Halt { halt, why: why.into() });
            }
        }
        // One SIGCHLD may stand for many children.
        self.reap();
    }

    /// Every child that has ended, ours or an orphan.
    fn reap(&mut self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return,
                Ok(_) | Err(nix::Error::EINTR) => continue,
                Err(error) => {
                    log::error!("children not reaped: {error}");
                    return;
                }
            };
            let machine = &mut self.machine;
            let (reactor, inbox, pid) = (&mut machine.reactor, &mut machine.inbox, pid.as_raw());
            if !machine.looks.reaped(reactor, pid, exit, inbox) && !machine.execs.reaped(reactor, pid, exit) {
                machine.containers.reaped(reactor, pid, exit, inbox);
            }
        }
    }

    fn take_uevents(&mut self) {
        let mut modaliases = Vec::new();
        let mut look = false;
        for event in self.machine.booted.uevents.read() {
            match event {
                Uevent::Device { modalias } => {
                    modaliases.push(modalias);
                }
                Uevent::Corrupt { device, what } => {
                    self.machine.inbox.push_back(Input::Broken { reason: format!("{device}: {what}") });
                }
                Uevent::Overrun => {
                    look = true;
                    self.machine.inbox.push_back(Input::DisksChanged);
                    modaliases.extend(crate::early::modules::all_aliases());
                }
                Uevent::Block { action, name, .. } => {
                    // Our own devices, and changes of media, are no news to anybody.
                    if action != "change" && !name.starts_with("dm-") && !name.starts_with("loop") {
                        self.machine.inbox.push_back(Input::DisksChanged);
                    }
                }
                Uevent::Input => look = true,
                Uevent::Net { .. } => {}
            }
        }
        if !modaliases.is_empty() {
            self.machine.hotplug(modaliases);
        }
        if look {
            self.buttons.look(&mut self.machine.reactor);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS {
            let fd =
                match accept4(self.listener.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC) {
                    Ok(fd) => crate::sys::run::owned(fd),
                    Err(_) => return,
                };
            let Some(fd) = fd else { return };
            let unit = getsockopt(&fd, sockopt::PeerCredentials).ok().and_then(|peer| unit_of(peer.pid()));
            let Some(unit) = unit.filter(|unit| self.supervisor.is_worker(unit)) else {
                log::warn!("control connection of a process that is no worker closed");
                continue;
            };
            if let Err(error) = self.machine.peers.add(&mut self.machine.reactor, fd, &unit, now()) {
                log::warn!("control connection of {unit} closed: {error}");
            }
        }
    }

    fn hear(&mut self, said: Vec<Said>) {
        for said in said {
            match said {
                Said::Ask { peer, request, fds } => {
                    let answer = answer(&mut self.supervisor, &mut self.machine, peer, &request, fds);
                    if let Some((reply, fds)) = answer {
                        self.machine.peers.reply(&mut self.machine.reactor, peer, &reply, fds, now());
                    }
                }
                Said::Worker { unit, message, fds } => {
                    let text = match message {
                        FromWorker::ConfigFound { .. } | FromWorker::ConfigRefused { .. } => {
                            peers::config_of(fds.into_iter().next(), &unit)
                        }
                        _ => None,
                    };
                    self.machine.inbox.push_back(Input::Worker { unit, message, text });
                }
                Said::Gone { unit } => self.machine.inbox.push_back(Input::WorkerGone { unit }),
            }
        }
    }
}

fn facts(booted: &Booted) -> Facts {
    let asked = booted.cmdline.number("berth.health-deadline").map(u64::from);
    let deadline = asked.filter(|seconds| limits::HEALTH_DEADLINE_RANGE.contains(seconds));
    let waits = booted.cmdline.number("berth.metadata_deadline").map(u64::from);
    let waits = waits.filter(|seconds| limits::METADATA_DEADLINE_RANGE.contains(seconds));
    let other = booted.slot.other();
    let record = booted.record_found.as_ref();
    Facts {
        version: booted.version.clone(),
        slot: booted.slot.name().into(),
        root_hash: booted.root_hash.clone(),
        other_slot: other.name().into(),
        medium: booted.medium,
        installs_nothing: booted.cmdline.get("berth.install") == Some("no"),
        no_update: no_update(booted),
        state_trouble: match &booted.state {
            State::Persistent { .. } => None,
            State::Temporary { reason } => Some(reason.clone()),
        },
        hostname: booted.hostname.clone(),
        machine_id: booted.machine_id.clone(),
        uuid: identity::smbios(),
        metadata_deadline: waits.map_or(limits::METADATA_DEADLINE, Duration::from_secs),
        on_trial: booted.start == Start::Trial,
        trial_left: record.and_then(|record| record.trial).is_some_and(|t| t.slot == other),
        tried: record.is_some_and(|record| was_tried(record, other)),
        other_went: answers::went(other, record, booted.other_step.as_ref()),
        rescue: match booted.start {
            Start::Rescue { starts } => Some(rescue_reason(booted.slot, starts)),
            _ => None,
        },
        health_deadline: deadline.map_or(limits::HEALTH_DEADLINE, Duration::from_secs),
    }
}

/// Why the machine takes no updates, if it does not.
fn no_update(booted: &Booted) -> Option<String> {
    if booted.medium {
        return Some(
            "this machine runs from its installation medium; \"berth install\" puts it on a disk".into(),
        );
    }
    if booted.start == Start::Direct {
        return Some(
            "this machine's kernel comes from outside (direct boot), so a new system on its disk would never be \
             started; give it a new kernel, initrd and disk instead"
                .into(),
        );
    }
    (!booted.record.is_present())
        .then(|| "this disk has no boot record partition: write the image anew".into())
}

/// The listening control socket. Who may say what is decided by who connects; the file itself is open to all that can
/// see it, which are units with `control`.
fn control_socket(path: &Path) -> io::Result<OwnedFd> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let _ = std::fs::remove_file(path);
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o666))?;
    listen(&listener, Backlog::new(64)?)?;
    Ok(listener)
}

/// The system unit that a process belongs to.
fn unit_of(pid: i32) -> Option<String> {
    let text = crate::early::files::read(format!("/proc/{pid}/cgroup"), 4096).ok()?;
    unit_of_cgroup(&text)
}

/// `0::/system/net`, as PID 1 sees it; whatever the unit makes below its cgroup is the unit, too.
fn unit_of_cgroup(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/system/"))?;
    path.split('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_its_system_unit() {
        assert_eq!(unit_of_cgroup("0::/system/net\n").as_deref(), Some("net"));
        assert_eq!(unit_of_cgroup("0::/system/net/inner\n").as_deref(), Some("net"));
        for other in ["0::/units/net\n", "0::/\n", "1:cpu:/system/net\n", "0::/system/\n", ""] {
            assert_eq!(unit_of_cgroup(other), None, "{other}");
        }
    }
}
