//! A config that was laid for this start: on the installation medium, or by the installer on a new disk. It is copied to where the
//! unit `meta` looks first, and taken from the disk once it is kept as the machine's config. [`berth_updater::medium`] has its form.

use super::files;
use super::handover::Handover;
use berth_units::paths;
use berth_updater::medium;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// Where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    device: PathBuf,
    at: u64,
    /// The medium's stays: whoever starts from it again finds it again.
    stays: bool,
}

impl Seed {
    /// Where this machine's may lie.
    pub fn of(handover: &Handover) -> Option<Seed> {
        match (handover.medium, &handover.record) {
            (Some(at), _) => Some(Seed { device: handover.disk.clone(), at, stays: true }),
            (None, Some(record)) => Some(Seed { device: record.clone(), at: medium::SEED_AT, stays: false }),
            (None, None) => None,
        }
    }

    /// Copies it, if there is one, to where meta looks. Blocks; for a child.
    pub fn lay(&self) -> Result<bool, String> {
        let about = |error: &dyn std::fmt::Display| {
            format!("the config that was laid on {} is not used: {error}", self.device.display())
        };
        let device = File::open(&self.device).map_err(|error| about(&error))?;
        let Some(text) = medium::read_seed(&device, self.at).map_err(|error| about(&error))? else {
            return Ok(false);
        };
        files::replace(Path::new(paths::SEED), &text, 0o400).map_err(|error| about(&error))?;
        Ok(true)
    }

    /// Lays a config for the next start, in the boot record's partition. Blocks; for a child.
    pub fn put(record: &Path, text: &[u8]) -> Result<(), String> {
        let about = |error: &dyn std::fmt::Display| format!("{}: {error}", record.display());
        let device = OpenOptions::new().write(true).open(record).map_err(|error| about(&error))?;
        medium::write_seed(&device, medium::SEED_AT, text).map_err(|error| about(&error))?;
        device.sync_all().map_err(|error| about(&error))
    }

    /// Takes it from the disk: the config has been kept. Blocks; for a child.
    pub fn take(&self) -> Result<(), String> {
        if self.stays {
            return Ok(());
        }
        let device = OpenOptions::new().write(true).open(&self.device);
        device
            .and_then(|device| medium::erase_seed(&device, self.at).and_then(|()| device.sync_all()))
            .map_err(|error| {
                format!("the config that was laid on {} is still there: {error}", self.device.display())
            })
    }
}
