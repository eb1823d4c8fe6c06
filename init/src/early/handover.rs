//! What the initrd stage tells the main stage: one JSON file in `/run`.

use super::{Firmware, Timeline, files, limits};
use berth_units::paths;
use berth_updater::layout::Slot;
use berth_updater::steps::StepRecord;
use std::path::PathBuf;

/// The file's content.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Handover {
    /// The slot that was found.
    pub slot: Slot,
    /// Root hash, hex.
    pub root_hash: String,
    /// How the kernel was started.
    pub firmware: Firmware,
    /// The boot disk's device.
    pub disk: PathBuf,
    /// The boot record partition's, if there is one.
    pub record: Option<PathBuf>,
    /// Counts this slot's starts.
    pub boot: u64,
    /// What the step record said before this start, as its sector: the format has one parser.
    pub previous_step: Option<Vec<u8>>,
    /// Descriptor, period and name of the armed watchdog.
    pub watchdog: Option<(i32, u32, String)>,
    /// Steps so far.
    pub timeline: Timeline,
    /// What went wrong and did not stop the boot.
    pub degraded: Vec<String>,
}

impl Handover {
    /// Writes it.
    pub fn write(&self) -> Result<(), String> {
        let text = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        std::fs::create_dir_all(paths::RUN)
            .and_then(|()| std::fs::write(paths::HANDOVER, text))
            .map_err(|error| format!("{}: {error}", paths::HANDOVER))
    }

    /// Reads it.
    pub fn read() -> Result<Handover, String> {
        let text = files::read(paths::HANDOVER, limits::HANDOVER_BYTES)
            .map_err(|error| format!("{}: {error}; was the initrd stage left out?", paths::HANDOVER))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", paths::HANDOVER))
    }

    /// This slot's step record before this start.
    pub fn previous_step(&self) -> Option<StepRecord> {
        self.previous_step.as_deref().and_then(StepRecord::parse)
    }
}
