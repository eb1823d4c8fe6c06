//! Disks that are still to come. The boot loads what it needs to reach its own disk; drivers for everything else come
//! later, when somebody looks for something and does not find it, or when the boot is over. Until then "not found" is
//! no answer yet: meta and the store look again with what has come.

use super::Supervisor;
use crate::run::kernel::Kernel;
use crate::run::limits;
use std::time::Duration;

/// What is known.
#[derive(Debug)]
pub(super) struct Devices {
    /// Drivers are still to be loaded.
    loading: bool,
    /// They are loaded, but what they drive may take until then to come up.
    until: Option<Duration>,
    /// Counts disks that came or went.
    pub(super) generation: u32,
}

impl Default for Devices {
    fn default() -> Self {
        Self { loading: true, until: None, generation: 0 }
    }
}

impl Devices {
    /// Something may still come.
    pub(super) fn may_come(&self, now: Duration) -> bool {
        self.loading || self.until.is_some_and(|until| until > now)
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.until
    }
}

impl Supervisor {
    /// Every driver is loaded.
    pub(super) fn drivers_loaded(&mut self, now: Duration) {
        self.devices.loading = false;
        self.devices.until = Some(now.saturating_add(limits::DEVICES_SETTLE));
    }

    /// A disk came or went.
    pub(super) fn disks_changed(&mut self) {
        self.devices.generation = self.devices.generation.wrapping_add(1);
    }

    /// Looks again for what was not found: when drivers are loaded, and once more when nothing further is to come.
    pub(super) fn look_again_on_disks(&mut self, now: Duration, k: &mut dyn Kernel) {
        self.look_for_config_again(now, k);
        self.look_for_images_again(now, k);
    }

    pub(super) fn tick_devices(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.devices.until.is_some_and(|until| until <= now) {
            self.devices.until = None;
            self.look_again_on_disks(now, k);
        }
    }
}
