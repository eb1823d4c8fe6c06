//! The main stage: what the machine is, before anything runs on it.

use super::boot_times::{Timeline, now_us};
use super::handover::Handover;
use super::record::RecordStore;
use super::runner::{self, OnFailure, Step};
use super::{Booted, Coldplug, Firmware, Seed, State, Uevents};
use super::{clock, console, fail, files, identity, limits, mounts, reset, state, sysctl, wishes};
use crate::sys::child;
use crate::sys::early::{be_patient, ctrl_alt_del_as_signal, lock_memory, raise_open_files};
use berth_units::paths;
use berth_updater::assess;
use berth_updater::steps::{Status, StepRecord};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// The table.
pub const STEPS: [Step<Main>; 9] = [
    Step {
        name: "memory lock",
        needs: &[],
        limit: Duration::from_secs(5),
        on_failure: OnFailure::GoOn,
        run: |_| lock_memory().map(|()| String::new()).map_err(|error| error.to_string()),
    },
    Step {
        name: "kernel fs",
        needs: &[],
        limit: Duration::from_secs(1),
        on_failure: OnFailure::Reboot,
        run: kernel_file_systems,
    },
    Step {
        name: "cgroups",
        needs: &["kernel fs"],
        limit: Duration::from_secs(1),
        on_failure: OnFailure::Reboot,
        run: cgroups,
    },
    Step {
        name: "devices",
        needs: &["kernel fs"],
        limit: Duration::from_secs(1),
        on_failure: OnFailure::GoOn,
        run: devices,
    },
    Step {
        name: "sysctl",
        needs: &["kernel fs"],
        limit: Duration::from_secs(1),
        on_failure: OnFailure::GoOn,
        run: |_| sysctl::apply(),
    },
    Step {
        name: "state",
        needs: &["kernel fs", "cgroups"],
        limit: STATE_LIMIT.saturating_add(limits::REPAIR),
        on_failure: OnFailure::GoOn,
        run: mount_state,
    },
    Step {
        name: "identity",
        needs: &["state"],
        limit: Duration::from_secs(2),
        on_failure: OnFailure::GoOn,
        run: identify,
    },
    Step {
        name: "random seed",
        needs: &["state"],
        limit: Duration::from_secs(1),
        on_failure: OnFailure::GoOn,
        run: random_seed,
    },
    Step {
        name: "clock",
        needs: &["state"],
        limit: Duration::from_secs(1),
        on_failure: OnFailure::GoOn,
        run: |stage| clock::raise(&stage.os_release, stage.kept.clock.as_deref()),
    },
];

/// Mounting replays the journal and may grow the file system. A repair has its own limit, beside this one.
const STATE_LIMIT: Duration = Duration::from_secs(30);

/// What the steps learn.
#[derive(Debug)]
pub struct Main {
    handover: Handover,
    os_release: String,
    uevents: Option<Uevents>,
    coldplug: Option<Coldplug>,
    state: State,
    kept: Kept,
    hostname: String,
    seed: Option<Seed>,
}

/// What an earlier boot left about this machine.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    id: String,
    is_new: bool,
    /// How mixing the seed in went.
    seed: Result<String, String>,
    clock: Option<String>,
    /// A config was laid for this start, and is where meta finds it; or why it is not.
    seeded: Result<bool, String>,
}

impl Default for Kept {
    fn default() -> Kept {
        let seed = Err("the state was not read".into());
        Kept { id: String::new(), is_new: false, seed, clock: None, seeded: Ok(false) }
    }
}

impl runner::Stage for Main {
    const NAME: &'static str = "main";

    fn timeline(&mut self) -> &mut Timeline {
        &mut self.handover.timeline
    }

    fn degraded(&mut self, sentence: String) {
        self.handover.degraded.push(sentence);
    }
}

/// Runs the stage. Ends in [`Booted`], or not at all.
pub fn main_stage(mut handover: Handover) -> Booted {
    handover.timeline.main_at_us = Some(now_us());
    fail::keep(open_record(&mut handover));

    let mut stage = Main {
        os_release: files::read(paths::OS_RELEASE, limits::SMALL_FILE_BYTES).unwrap_or_default(),
        uevents: None,
        coldplug: None,
        state: State::Temporary { reason: "not tried".into() },
        kept: Kept::default(),
        hostname: String::new(),
        seed: None,
        handover,
    };
    runner::run(&STEPS, &mut stage);
    finish(stage)
}

fn open_record(handover: &mut Handover) -> RecordStore {
    let Some(path) = &handover.record else { return RecordStore::missing(handover.slot) };
    match RecordStore::resume(path, handover.slot, handover.boot) {
        Ok(record) => record,
        Err(error) => {
            handover.degraded.push(format!("boot record {}: {error}", path.display()));
            RecordStore::missing(handover.slot)
        }
    }
}

fn finish(mut stage: Main) -> Booted {
    let uevents = match stage.uevents.take() {
        Some(uevents) => uevents,
        None => fail::die(Status::Failed, "no device events", "uevent socket not opened"),
    };
    let record = fail::take().unwrap_or_else(|| RecordStore::missing(stage.handover.slot));
    // A second one stays behind for the last words of a crash, wherever that will be.
    if let Ok(mut last_words) = RecordStore::resume(record.path(), stage.handover.slot, record.boot()) {
        last_words.expect_from("main", "event loop");
        fail::keep(last_words);
    }
    let (content, now) = record.read();
    let trouble = stage.handover.record_trouble.take().or(now);
    if let Some(trouble) = &trouble {
        console::say("record", trouble);
        stage.handover.degraded.push(trouble.clone());
    }
    let slot = stage.handover.slot;
    let counted = is_counted(&stage.handover);
    Booted {
        slot,
        built: Duration::from_secs(clock::build_time(&stage.os_release)),
        version: clock::value(&stage.os_release, "IMAGE_VERSION").unwrap_or("unknown").to_owned(),
        start: assess::start(content.as_ref(), slot, counted),
        other_step: record.read_step(slot.other()),
        previous_step: stage.handover.previous_step,
        root_hash: stage.handover.root_hash,
        firmware: stage.handover.firmware,
        disk: stage.handover.disk,
        medium: stage.handover.medium.is_some(),
        seed: stage.seed,
        record,
        state: stage.state,
        watchdog: stage.handover.watchdog,
        record_found: content,
        record_trouble: trouble,
        timeline: stage.handover.timeline,
        uevents,
        coldplug: stage.coldplug,
        cmdline: stage.handover.cmdline,
        machine_id: stage.kept.id,
        hostname: stage.hostname,
        degraded: stage.handover.degraded,
    }
}

/// The boot loader counted this start.
fn is_counted(handover: &Handover) -> bool {
    handover.firmware != Firmware::Direct && handover.medium.is_none()
}

fn kernel_file_systems(stage: &mut Main) -> Result<String, String> {
    mounts::make_private()?;
    // Each running unit holds eight.
    raise_open_files().map_err(|error| format!("limit of open files: {error}"))?;
    for api in &mounts::SECOND {
        mounts::api(api)?;
    }
    wishes::keep().map_err(|error| format!("ctrl-alt-del: {error}"))?;
    for folder in [paths::RUN, paths::META, paths::INSTALL] {
        std::fs::create_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
    }
    ctrl_alt_del_as_signal().map_err(|error| format!("ctrl-alt-del: {error}"))?;
    stage.uevents = Some(Uevents::open().map_err(|error| format!("uevent socket: {error}"))?);
    Ok(String::new())
}

/// All controllers for both parents of units. PID 1 itself stays in the root, which alone may hold both.
fn cgroups(_: &mut Main) -> Result<String, String> {
    let controllers = files::line(Path::new(paths::CGROUP).join("cgroup.controllers")).unwrap_or_default();
    let all: Vec<String> = controllers.split_ascii_whitespace().map(|name| format!("+{name}")).collect();
    let all = all.join(" ");
    for folder in [paths::CGROUP, paths::CGROUP_SYSTEM, paths::CGROUP_UNITS] {
        let _ = std::fs::create_dir(folder);
        files::poke(Path::new(folder).join("cgroup.subtree_control"), &all)
            .map_err(|error| format!("{folder}: controllers {all} not delegated: {error}"))?;
    }
    // Whatever units do, whoever wants to do something about it gets in. A kernel without it shares alike.
    let weight = limits::SYSTEM_CPU_WEIGHT.to_string();
    let _ = files::poke(Path::new(paths::CGROUP_SYSTEM).join("cpu.weight"), &weight);
    Ok(String::new())
}

/// Starts loading drivers, in a child that nobody waits for. Devices that come up by that are uevents.
fn devices(stage: &mut Main) -> Result<String, String> {
    stage.coldplug = Some(Coldplug::start(stage.handover.old_root.take())?);
    Ok(String::new())
}

fn mount_state(stage: &mut Main) -> Result<String, String> {
    if stage.handover.medium.is_some() {
        stage.state = state::in_memory();
        return Ok("in memory".into());
    }
    let ask = stage.handover.ask;
    if let Some(ask) = ask {
        console::say("state", format_args!("this machine is started anew, keeping {}", ask.keep().word()));
        if let Err(why) = reset::before(&stage.handover.disk, ask) {
            anew_failed(stage, &why);
        }
    }
    stage.state = if leaves_state_alone(&stage.handover) {
        state::leave_alone()
    } else {
        state::set_up(&stage.handover.disk, STATE_LIMIT)
    };
    if let (Some(ask), State::Persistent { .. }) = (ask, &stage.state) {
        let done = reset::after(ask).and_then(|()| {
            fail::with(|record| record.done_as_asked())
                .unwrap_or_else(|| Err("there is no boot record".into()))
        });
        if let Err(why) = done {
            anew_failed(stage, &why);
        }
    }
    match &stage.state {
        State::Persistent { note, .. } => Ok(note.clone()),
        State::Temporary { reason } => {
            let sentence = format!("state is temporary and will be lost: {reason}");
            console::say("state", &sentence);
            stage.handover.degraded.push(sentence.clone());
            Ok(sentence)
        }
    }
}

fn anew_failed(stage: &mut Main, why: &str) {
    let sentence = format!("the machine was not started anew: {why}");
    console::say("state", &sentence);
    stage.handover.degraded.push(sentence);
}

/// See [`assess::without_state`]. Most starts follow one that ended well, and read nothing for it.
fn leaves_state_alone(handover: &Handover) -> bool {
    if !handover.previous_step.as_ref().is_some_and(StepRecord::died) {
        return false;
    }
    let (record, _) = fail::with(|record| record.read()).unwrap_or_default();
    let start = assess::start(record.as_ref(), handover.slot, is_counted(handover));
    assess::without_state(start, handover.previous_step.as_ref())
}

fn identify(stage: &mut Main) -> Result<String, String> {
    #[cfg(feature = "faults")]
    if matches!(stage.state, State::Persistent { .. }) {
        super::faults::strike("state", "identity");
    }
    let config = Seed::of(&stage.handover);
    // Read by a child, as any disk may hang: all that state and disk hold of who this machine is.
    let answer = child::run(limits::CHILD, || {
        let found = identity::machine_id();
        let seeded = config.as_ref().map_or(Ok(false), Seed::lay);
        let kept =
            Kept { id: found.id, is_new: found.is_new, seed: load_seed(), clock: clock::stored(), seeded };
        serde_json::to_string(&kept).map_err(|error| error.to_string())
    });
    let answer = answer.map_err(|error| error.to_string())?;
    stage.kept = serde_json::from_str(&answer).map_err(|error| format!("helper process: {error}"))?;
    match &stage.kept.seeded {
        Ok(true) => stage.seed = config,
        Ok(false) => {}
        Err(why) => {
            console::say("config", why);
            stage.handover.degraded.push(why.clone());
        }
    }
    stage.hostname = identity::default_hostname(&stage.kept.id);
    nix::unistd::sethostname(&stage.hostname).map_err(|error| format!("host name: {error}"))?;
    std::fs::write(identity::MACHINE_ID, format!("{}\n", stage.kept.id))
        .map_err(|error| format!("{}: {error}", identity::MACHINE_ID))?;
    Ok(if stage.kept.is_new { "new machine id".into() } else { String::new() })
}

/// Mixes the old seed in.
fn load_seed() -> Result<String, String> {
    match identity::load_seed() {
        Ok(()) => Ok(String::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok("none yet".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The old seed was mixed in with what else was read. What has to be written, a new seed among it, a child writes, and
/// nobody waits for it.
fn random_seed(stage: &mut Main) -> Result<String, String> {
    let work = || {
        let _ = be_patient();
        if stage.kept.is_new {
            identity::keep(&stage.kept.id)?;
        }
        identity::save_seed()?;
        clock::save()
    };
    child::start(work).map_err(|error| error.to_string())?;
    stage.kept.seed.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_comes_before() {
        runner::check(&STEPS).unwrap();
    }

    /// The page for operators is made from the tables. When it differs: run with `BERTH_BLESS=1`.
    #[test]
    fn the_docs_have_these_tables() {
        let page = format!(
            "# Boot steps\n\nMade from the tables in `init/src/early`; do not edit.\n\nWhat is being done is written \
             to the slot's step record before it is done, so that what died or hung in it can be named by whoever \
             runs next (`berth slots`). A step that \"goes on without\" is said on the console and in \
             `berth boot-times`.\n\nA limit is enforced where a step waits for a disk: what reads or writes one runs in a process \
             of its own, which is killed when its time is over, and the search for the boot disk ends by itself. What PID 1 does in its \
             own process nobody can stop from outside; there the limit is a promise. A step that was late says so in its outcome. One \
             that never ends is ended by the watchdog, which is fed between steps, and the step record says which it was.\n\nThe state step takes 30 s at most, and ten minutes more if the \
             state partition has to be repaired or made. Nothing after it begins meanwhile; the watchdog is fed, \
             ctrl-alt-del and the power button are heard.\n\n{}\n{}",
            runner::markdown("initrd", &super::super::initrd::STEPS),
            runner::markdown("main", &STEPS)
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/boot-steps.md");
        if std::env::var_os("BERTH_BLESS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), page);
    }
}
