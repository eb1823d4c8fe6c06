//! The boot's timeline: each step with its start, its length and what became of it.

use super::limits;
use crate::sys::early::cycles;
use berth_units::control::{BootTimes, StepTime};
use std::time::Duration;

/// Counters older than this were not reset with the machine, so they say nothing about this boot.
const PLAUSIBLE_US: u64 = 30 * 60 * 1_000_000;

/// Steps so far, and what came before them.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Timeline {
    /// When the initrd stage began, microseconds since the kernel started.
    pub initrd_at_us: u64,
    /// When the main stage began.
    pub main_at_us: Option<u64>,
    /// The processor's cycle counter at `initrd_at_us`.
    pub cycles: u64,
    /// Steps, in order of start.
    pub steps: Vec<StepTime>,
}

/// Time since the kernel started (its clock counts from there).
pub fn since_kernel() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The same in whole microseconds.
pub fn now_us() -> u64 {
    u64::try_from(since_kernel().as_micros()).unwrap_or(u64::MAX)
}

impl Timeline {
    /// At the first line of the initrd stage.
    pub fn begin() -> Timeline {
        Timeline { initrd_at_us: now_us(), main_at_us: None, cycles: cycles(), steps: Vec::new() }
    }

    /// Adds a finished step. `outcome` is empty when it is simply done.
    pub fn add(&mut self, stage: &str, name: &str, start_us: u64, outcome: &str) {
        if self.steps.len() < limits::TIMELINE_STEPS {
            self.steps.push(StepTime {
                stage: stage.to_owned(),
                name: name.to_owned(),
                start_us,
                took_us: now_us().saturating_sub(start_us),
                outcome: outcome.to_owned(),
            });
        }
    }

    /// What `berth boot-times` shows.
    pub fn report(&self, first_container_us: Option<u64>) -> BootTimes {
        let main_at = self.main_at_us.unwrap_or_else(now_us);
        let before_kernel = self.before_kernel_us();
        let firmware =
            firmware_us().filter(|&firmware| before_kernel.is_none_or(|before| firmware <= before));
        BootTimes {
            firmware_us: firmware,
            loader_us: before_kernel.map(|before| before - firmware.unwrap_or_default()),
            kernel_us: self.initrd_at_us,
            initrd_us: main_at.saturating_sub(self.initrd_at_us),
            steps: self.steps.clone(),
            first_container_us,
        }
    }

    /// From power-on to the kernel's first instructions: what the cycle counter had counted by then. Its rate is
    /// taken from how far it got since the initrd stage began.
    fn before_kernel_us(&self) -> Option<u64> {
        let elapsed_us = u128::from(now_us().checked_sub(self.initrd_at_us)?);
        let elapsed = u128::from(cycles().checked_sub(self.cycles)?);
        if elapsed_us < 100_000 || elapsed == 0 {
            return None;
        }
        let at_initrd_us = u64::try_from(u128::from(self.cycles) * elapsed_us / elapsed).ok()?;
        at_initrd_us.checked_sub(self.initrd_at_us).filter(|&us| us > 0 && us < PLAUSIBLE_US)
    }
}

/// Firmware's own figure (ACPI FPDT), where it keeps one.
fn firmware_us() -> Option<u64> {
    let text = super::files::line("/sys/firmware/acpi/fpdt/boot/bootloader_launch_ns")?;
    text.parse::<u64>().ok().map(|ns| ns / 1000).filter(|&us| us > 0 && us < PLAUSIBLE_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_adds_up() {
        let mut timeline =
            Timeline { initrd_at_us: 1_000, main_at_us: Some(5_000), cycles: u64::MAX, steps: Vec::new() };
        timeline.add("main", "state", 6_000, "temporary");
        let report = timeline.report(Some(9));
        assert_eq!((report.kernel_us, report.initrd_us, report.first_container_us), (1_000, 4_000, Some(9)));
        assert_eq!(report.loader_us, None);
        assert_eq!(report.steps[0].outcome, "temporary");
    }

    #[test]
    fn it_is_bounded() {
        let mut timeline = Timeline::default();
        for _ in 0..1000 {
            timeline.add("main", "x", 0, "");
        }
        assert_eq!(timeline.steps.len(), limits::TIMELINE_STEPS);
    }
}
