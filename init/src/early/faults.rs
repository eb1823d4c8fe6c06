//! Switches that make PID 1 misbehave, for the fault matrix. Only in builds with the feature `faults`; no shipped
//! image has it.
//!
//! `berth.fault=KIND:STAGE:STEP` on the kernel's command line strikes when that step has been recorded and not yet
//! begun. KIND: `crash` (PID 1 is gone, as after a wild pointer), `panic`, `hang` (for ever, without petting the
//! watchdog). Besides the steps of both tables: `loop:turn`, each turn of the event loop, `loop:confirm`, before
//! this boot is called healthy, and `shutdown:unmount`, in the last child.
//!
//! `crash:state:identity` strikes only when that step reads the state partition, as if PID 1 died of what lies there.
//!
//! `berth.fault=sick:unit:NAME` makes every check of a unit fail.
//!
//! `berth.fault=freeze:main:repair` stops what repairs the state partition in the middle of it, and
//! `berth.repair-limit=SECONDS` is how long that may take.

use super::{Cmdline, files};
use std::path::Path;
use std::time::Duration;

/// Whether the command line asks for this.
fn asked(kind: &str, stage: &str, step: &str) -> bool {
    Cmdline::read().get("berth.fault") == Some(format!("{kind}:{stage}:{step}").as_str())
}

/// Freezes the container of a boot step, if it runs by now.
pub fn freeze(unit: &str, cgroup: &Path, runs: bool) {
    if runs && asked("freeze", "main", unit) {
        let _ = files::poke(cgroup.join("cgroup.freeze"), "1");
    }
}

/// Instead of the ten minutes.
pub fn repair_limit() -> Option<Duration> {
    Cmdline::read().number("berth.repair-limit").map(|seconds| Duration::from_secs(seconds.into()))
}

/// A look at this unit finds it sick, whatever it is.
pub fn is_sick(unit: &str) -> bool {
    asked("sick", "unit", unit)
}

/// Misbehaves if the command line says so.
pub fn strike(stage: &str, step: &str) {
    let cmdline = Cmdline::read();
    let Some(fault) = cmdline.get("berth.fault") else { return };
    let mut words = fault.splitn(3, ':');
    let kind = words.next();
    if words.next() != Some(stage) || words.next() != Some(step) {
        return;
    }
    match kind {
        Some("crash") => {
            // What the kernel makes of a fault in PID 1 and of its exit is the same: it panics.
            #[allow(clippy::exit)]
            std::process::exit(139);
        }
        #[allow(clippy::panic)]
        Some("panic") => panic!("asked to panic in step {step}"),
        Some("hang") => loop {
            nix::unistd::pause();
        },
        _ => {}
    }
}
