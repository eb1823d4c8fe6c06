//! Switches that make PID 1 misbehave, for the fault matrix. Only in builds with the feature `faults`; no shipped
//! image has it.
//!
//! `berth.fault=KIND:STAGE:STEP` on the kernel's command line strikes when that step has been recorded and not yet
//! begun. KIND: `crash` (PID 1 is gone, as after a wild pointer), `panic`, `hang` (for ever, without petting the
//! watchdog).

use super::Cmdline;

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
