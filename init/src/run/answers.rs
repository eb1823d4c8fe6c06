//! Answers that come from the machine itself rather than from the supervisor.

use super::kernel::Kernel as _;
use super::machine::{Machine, now};
use super::peers;
use super::supervisor::{API, Supervisor, Trial, refuse};
use super::{console, limits, text};
use crate::early::{Booted, Content, State, files};
use berth_units::control::{
    BootTimes, ExecRequest, ImageOrder, KERNEL_LOG, MachineStatus, OWN_LOG, Reply, Request, SlotStatus,
    SlotsStatus,
};
use berth_units::figures::kib;
use berth_updater::assess;
use berth_updater::layout::Slot;
use berth_updater::record::Record;
use berth_updater::steps::StepRecord;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Answers one question of a peer's, which came with these descriptors; others ride along with the answer. `None`: the
/// answer comes when a disk has been read.
pub fn answer(
    supervisor: &mut Supervisor,
    machine: &mut Machine,
    peer: u64,
    request: &Request,
    fds: Vec<OwnedFd>,
) -> Option<(Reply, Vec<OwnedFd>)> {
    let first = fds.into_iter().next();
    let alone = |reply| Some((reply, Vec::new()));
    match request {
        Request::ConfigApply { confirm_s, only_look } => {
            let text = peers::config_of(first, API);
            let trial = Trial::of(*confirm_s, *only_look);
            alone(supervisor.apply_config(text, trial, now(), machine))
        }
        Request::UnitsApply { confirm_s, only_look } => {
            let edit = peers::config_of(first, API);
            let trial = Trial::of(*confirm_s, *only_look);
            supervisor.edit_units(peer, edit, trial, machine).and_then(alone)
        }
        Request::Rollback { to, confirm_s, only_look } => {
            let trial = Trial::of(*confirm_s, *only_look);
            supervisor.roll_back(peer, *to, trial, machine).and_then(alone)
        }
        Request::Run { name } => {
            let text = peers::config_of(first, API);
            alone(supervisor.run_unit(name.as_deref(), text, now(), machine))
        }
        Request::Disks => {
            let listed = machine.list_disks(peer);
            listed.err().map(|why| refuse("failed", why)).and_then(alone)
        }
        Request::Reset { keep } => {
            let text = peers::config_of(first, API);
            let checked = text.as_deref().map_or(Ok(()), |text| supervisor.check_text(text));
            let refused = supervisor.is_stopping().then(|| "the machine is going down".to_owned());
            match refused.map_or(checked, Err) {
                Ok(()) => {
                    machine.reset(peer, *keep, text).err().map(|why| refuse("failed", why)).and_then(alone)
                }
                Err(why) => alone(refuse("failed", why)),
            }
        }
        Request::Volumes { inspect } => {
            let used = supervisor.volumes_in_use();
            let listed = machine.list_volumes(peer, inspect.clone(), used);
            listed.err().map(|why| refuse("failed", why)).and_then(alone)
        }
        Request::VolumeRemove { volume } => {
            if let Some(units) = supervisor.volumes_in_use().get(volume) {
                let message = format!("volume {volume} is used by {}", units.join(", "));
                return alone(refuse("busy", text::bounded(&message, limits::TEXT_BYTES)));
            }
            let removed = machine.remove_volume(peer, volume);
            removed.err().map(|why| refuse("failed", why)).and_then(alone)
        }
        Request::ConfigShow => {
            let shown = match supervisor.generation_in_force() {
                Ok(number) => machine.show_config(number, peer).map_err(|why| refuse("failed", why)),
                Err(why) => Err(refuse("failed", why)),
            };
            shown.err().and_then(alone)
        }
        _ => Some(at_once(supervisor, machine, request, first)),
    }
}

fn at_once(
    supervisor: &mut Supervisor,
    machine: &mut Machine,
    request: &Request,
    first: Option<OwnedFd>,
) -> (Reply, Vec<OwnedFd>) {
    if let (Request::Image { order: ImageOrder::Load }, Some(archive)) = (request, first) {
        machine.keep_archive(supervisor.next_job(), archive, |job| supervisor.is_job(job));
    }
    if let Some(reply) = supervisor.ask(request, now(), machine) {
        return (reply, Vec::new());
    }
    let reply = match request {
        Request::Logs { unit } => return logs(supervisor, machine, unit),
        Request::Exec(what) => return exec(supervisor, machine, what),
        Request::BootTimes => Reply::BootTimes(boot_times(supervisor, &machine.booted)),
        Request::Slots => Reply::Slots(slots(machine, supervisor.is_confirmed())),
        Request::Machine => Reply::Machine(status(supervisor, machine)),
        _ => refuse("bad-request", "this version does not know the question"),
    };
    (reply, Vec::new())
}

/// Runs a command in a unit of the user's.
fn exec(supervisor: &Supervisor, machine: &mut Machine, what: &ExecRequest) -> (Reply, Vec<OwnedFd>) {
    let refused = |reply| (reply, Vec::new());
    let is_text = |text: &String| !text.contains('\0');
    if what.copy.as_ref().is_some_and(|copy| !copy.words().iter().all(is_text)) {
        return refused(refuse("bad-request", "there are no such paths"));
    }
    if what.copy.is_none() && what.command.first().is_none_or(String::is_empty) {
        return refused(refuse("bad-request", "no program to run was named"));
    }
    if supervisor.is_system(&what.unit) {
        let message = format!("{} is a system unit: there is nothing in it that could be run", what.unit);
        return refused(refuse("denied", message));
    }
    let Some(order) = supervisor.order_of(&what.unit) else { return refused(supervisor.no_unit(&what.unit)) };
    match machine.exec(&order, what) {
        Ok(fds) => {
            machine.say(match &what.copy {
                Some(copy) => console::copied(&what.unit, copy),
                None => console::entered(&what.unit, &what.command),
            });
            (Reply::Exec, fds)
        }
        Err(why) => refused(refuse("failed", why)),
    }
}

fn logs(supervisor: &Supervisor, machine: &mut Machine, unit: &str) -> (Reply, Vec<OwnedFd>) {
    if unit == KERNEL_LOG {
        if let Err(error) = machine.keep_kernel_log() {
            return (refuse("failed", format!("the kernel's log cannot be read: {error}")), Vec::new());
        }
    } else if !supervisor.has(unit) && unit != OWN_LOG {
        return (supervisor.no_unit(unit), Vec::new());
    }
    let Some(writer) = machine.containers.log(unit) else {
        return (
            refuse("failed", format!("the log of {unit} is not kept; see \"berth logs berth\"")),
            Vec::new(),
        );
    };
    match writer.open_segments() {
        Ok(segments) => {
            let fds: Vec<OwnedFd> = segments.into_iter().map(OwnedFd::from).collect();
            (Reply::Log { generation: writer.generation(), segments: fds.len() }, fds)
        }
        Err(error) => (refuse("failed", format!("log of {unit}: {error}")), Vec::new()),
    }
}

fn boot_times(supervisor: &Supervisor, booted: &Booted) -> BootTimes {
    let (steps, first) = supervisor.timeline();
    let mut report = booted.timeline.report(first.map(micros));
    report.steps.extend_from_slice(steps);
    report.steps.sort_by_key(|step| step.start_us);
    report
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn slots(machine: &Machine, confirmed: bool) -> SlotsStatus {
    let (booted, record) = (&machine.booted, &machine.record);
    let rescue = match booted.start {
        assess::Start::Rescue { starts } => Some(rescue_reason(booted.slot, starts)),
        _ => None,
    };
    let one = |slot: Slot| {
        let running = slot == booted.slot;
        let step = if running { booted.previous_step.as_ref() } else { booted.other_step.as_ref() };
        let said = record.as_ref().map(|record| record.said.as_str()).unwrap_or_default();
        let spent = record.as_ref().and_then(|r| r.trial).is_some_and(|t| t.slot == slot && t.tries == 0);
        let spent = (spent && !running).then(|| format!("{slot}-{}", assess::SPENT));
        let (said, last) = (spent.as_deref().unwrap_or(said), last_start(step));
        // A start that left no step is one in which the kernel never handed over.
        let silent = (said.ends_with(assess::SPENT) && said.starts_with(slot.name()) && last.is_none())
            .then(|| "its kernel never came as far as init".to_owned());
        let reason = [refused(slot, said), last, silent].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let content = machine.other.as_ref().ok().and_then(Option::as_ref).filter(|_| !running);
        let unread = machine.other.as_ref().err().filter(|_| !running && reason.is_empty()).cloned();
        let state = match record {
            _ if running && confirmed => "good",
            Some(record) if record.good == slot => "good",
            Some(record) if record.trial.is_some_and(|trial| trial.slot == slot && trial.tries > 0) => {
                "trial"
            }
            None if running => "good",
            _ if running || !reason.is_empty() => "failed",
            _ if unread.is_some() => "unknown",
            _ if content.is_none() => "empty",
            _ => "spare",
        };
        let told = |own: &str, other: fn(&Content) -> &str| match running {
            true => own.to_owned(),
            false => content.map(other).unwrap_or_default().to_owned(),
        };
        SlotStatus {
            name: slot.name().into(),
            state: state.into(),
            version: told(&booted.version, |other| &other.version),
            root_hash: told(&booted.root_hash, |other| &other.root_hash),
            reason: match unread {
                Some(why) => why,
                None if running && reason.is_empty() => machine.record_trouble.clone(),
                None => reason,
            },
        }
    };
    SlotsStatus {
        running: booted.slot.name().into(),
        good: record.as_ref().map(|record| record.good.name().into()),
        trial: record.as_ref().and_then(|r| r.trial).map(|trial| (trial.slot.name().into(), trial.tries)),
        starts: record.as_ref().map_or(0, |record| record.starts),
        confirmed,
        rescue,
        panic: crate::early::pstore::last_words(),
        record_note: booted.record_trouble.clone(),
        firmware: booted.firmware.name().into(),
        slots: Slot::ALL.map(one).into(),
    }
}

/// How the slot that does not run fared when it was on trial, as far as the records and the firmware can tell.
pub fn went(slot: Slot, record: Option<&Record>, step: Option<&StepRecord>) -> String {
    let said = record.map(|record| record.said.as_str()).unwrap_or_default();
    let panic = crate::early::pstore::last_words();
    let panic = panic.as_deref().and_then(panic_line).map(|line| format!("its kernel said \"{line}\""));
    let silent = "its kernel never came as far as init".to_owned();
    let step = last_start(step).or_else(|| step.is_none().then_some(silent));
    let all: Vec<String> = [refused(slot, said).or(step), panic].into_iter().flatten().collect();
    if all.is_empty() { "it went down without a word".into() } else { all.join("; ") }
}

/// The line that says why, of a kernel's last words.
fn panic_line(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains("Kernel panic"))?;
    let from = line.find("Kernel panic")?;
    Some(text::bounded(line.get(from..)?, 200))
}

/// What GRUB left about a slot that it refused.
fn refused(slot: Slot, said: &str) -> Option<String> {
    let word = said.strip_prefix(slot.name())?.strip_prefix('-')?;
    Some(match word {
        "hash" => "the boot loader refused it: its kernel file does not match its hash".into(),
        "missing" => "the boot loader refused it: its kernel file is missing".into(),
        "start" => "the boot loader could not start its kernel".into(),
        "record" => "the boot loader did not try it: the try could not be counted".into(),
        assess::SPENT => "its tries were spent without its becoming healthy".into(),
        "worn" => "started six times without becoming healthy".into(),
        "unchecked" => "started unchecked: no slot's kernel file matched its hash".into(),
        other => format!("the boot loader refused it: {other}"),
    })
}

/// What its last start came to, unless it was in order.
fn last_start(step: Option<&StepRecord>) -> Option<String> {
    step.filter(|step| step.status != berth_updater::steps::Status::Ok).map(ToString::to_string)
}

/// Why a boot is a rescue.
pub fn rescue_reason(slot: Slot, starts: u32) -> String {
    format!("slot {slot} was started {} times without becoming healthy", starts.saturating_sub(1))
}

fn status(supervisor: &Supervisor, machine: &Machine) -> MachineStatus {
    let booted = &machine.booted;
    let memory = files::read("/proc/meminfo", 16 * 1024).unwrap_or_default();
    let own = files::read("/proc/self/status", 16 * 1024).unwrap_or_default();
    MachineStatus {
        hostname: supervisor.hostname().to_owned(),
        machine_id: booted.machine_id.clone(),
        version: booted.version.clone(),
        kernel: files::line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        uptime_s: now().as_secs(),
        addresses: supervisor.addresses().to_vec(),
        memory_kib: kib(&memory, "MemTotal").unwrap_or(0),
        memory_available_kib: kib(&memory, "MemAvailable").unwrap_or(0),
        pid1_rss_kib: kib(&own, "VmRSS").unwrap_or(0),
        state_problem: match &booted.state {
            State::Persistent { .. } => String::new(),
            State::Temporary { reason } => format!("state is temporary and will be lost: {reason}"),
        },
        state_note: match &booted.state {
            State::Persistent { note, .. } => note.clone(),
            State::Temporary { .. } => String::new(),
        },
        clock: supervisor.clock_status(now(), machine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_refused_in_words() {
        assert!(refused(Slot::B, "b-hash").unwrap().contains("does not match its hash"));
        assert_eq!(refused(Slot::A, "b-hash"), None);
        assert_eq!(refused(Slot::A, ""), None);
    }
}
