//! What the initrd stage tells the main stage.

use super::reset::Ask;
use super::{Cmdline, Firmware, Timeline, Watchdog};
use berth_updater::layout::Slot;
use berth_updater::steps::StepRecord;
use std::fs::File;
use std::path::PathBuf;

/// See the module.
#[derive(Debug)]
pub struct Handover {
    /// The slot that was found.
    pub slot: Slot,
    /// Root hash, hex.
    pub root_hash: String,
    /// The kernel's command line.
    pub cmdline: Cmdline,
    /// How the kernel was started.
    pub firmware: Firmware,
    /// The boot disk's device.
    pub disk: PathBuf,
    /// It is an installation medium, no disk; and where on it a config may lie, in bytes.
    pub medium: Option<u64>,
    /// The boot record partition's, if there is one.
    pub record: Option<PathBuf>,
    /// What the boot record asks of this start.
    pub ask: Option<Ask>,
    /// What was wrong with the boot record before anything was written to it.
    pub record_trouble: Option<String>,
    /// Counts this slot's starts.
    pub boot: u64,
    /// What the step record said before this start.
    pub previous_step: Option<StepRecord>,
    /// The armed watchdog.
    pub watchdog: Option<Watchdog>,
    /// The initrd's folder.
    pub old_root: Option<File>,
    /// Steps so far.
    pub timeline: Timeline,
    /// What went wrong and did not stop the boot.
    pub degraded: Vec<String>,
}
