//! The wall clock. The unit `time` says by how much it is off; what is done about it is decided here, because what can set
//! the clock can make certificates valid that are not.
//!
//! * Not before the build of this system, whoever says so.
//! * Off by little: slewed, so that no time is there twice or never. Off by more: set, and said on the console.

use super::{Supervisor, TIME};
use crate::run::kernel::Kernel;
use crate::run::{console, limits};
use berth_units::control::{ClockStatus, ToWorker};
use std::time::Duration;

/// What the servers said last, and what was done.
#[derive(Debug, Default)]
pub(super) struct Clock {
    said: String,
    offset_ns: i64,
    at: Option<Duration>,
}

impl Supervisor {
    /// To the unit that asks, once the config is known.
    pub(super) fn tell_time(&self, k: &mut dyn Kernel) {
        if self.config.is_settled() && self.connected.contains(TIME) {
            k.tell(TIME, &ToWorker::Time { servers: self.time_servers.clone() }, None);
        }
    }

    /// What most servers agree on.
    pub(super) fn correct_clock(
        &mut self,
        offset_ns: i64,
        error_ns: i64,
        (agree, of): (u32, u32),
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        let wall = i128::try_from(k.wall().as_nanos()).unwrap_or(i128::MAX);
        let earliest = i128::try_from(k.earliest().as_nanos()).unwrap_or(i128::MAX);
        let at_once = offset_ns.unsigned_abs() > limits::CLOCK_SLEW_NS;
        let done = if wall.saturating_add(i128::from(offset_ns)) < earliest {
            Err("that is before this system was built".to_owned())
        } else {
            k.move_clock(offset_ns, error_ns, at_once)
        };
        let word = match &done {
            Ok(()) if at_once => "set".to_owned(),
            Ok(()) => "slewed".to_owned(),
            Err(why) => format!("not changed: {why}"),
        };
        let said = format!("off by {}, {word}; {agree} of {of} time servers agree", seconds(offset_ns));
        // Small corrections are daily work; refusals are said once.
        if at_once && (done.is_ok() || self.clock.said != said) {
            k.say(console::status("clock", &said));
        }
        self.clock = Clock { said, offset_ns, at: Some(now) };
    }

    /// For operators.
    pub fn clock_status(&self, now: Duration, k: &dyn Kernel) -> ClockStatus {
        ClockStatus {
            set: k.clock_is_set(),
            now_s: k.wall().as_secs(),
            said: self.clock.said.clone(),
            offset_ns: self.clock.at.map(|_| self.clock.offset_ns),
            ago_s: self.clock.at.map(|at| now.saturating_sub(at).as_secs()),
            kept_s: k.clock_kept(),
        }
    }
}

/// Nanoseconds in seconds, three places: `-0.012 s`.
fn seconds(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ms = ns.unsigned_abs() / 1_000_000;
    format!("{sign}{}.{:03} s", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake::Machine;
    use super::*;
    use berth_units::control::FromWorker;

    #[test]
    fn little_is_slewed_much_is_set_and_nothing_goes_before_the_build() {
        let mut machine = Machine::boot("web");
        let mut told = |offset_ns| {
            machine.worker(TIME, FromWorker::Clock { offset_ns, error_ns: 1_000_000, agree: 3, of: 4 });
            machine.supervisor.clock_status(machine.now, &machine.k)
        };
        assert_eq!(told(3_000_000).said, "off by 0.003 s, slewed; 3 of 4 time servers agree");
        assert_eq!(told(-86_400_000_000_000).said, "off by -86400.000 s, set; 3 of 4 time servers agree");
        // Ten years back: the pretended clock says 2026, the system was built in 2023.
        let status = told(-315_360_000_000_000_000);
        assert!(status.said.contains("not changed: that is before this system was built"), "{}", status.said);
        assert_eq!((status.set, status.ago_s), (true, Some(0)));
        assert_eq!(machine.k.clock, [(3_000_000, false), (-86_400_000_000_000, true)]);
        assert!(machine.said("clock    off by -86400.000 s, set; 3 of 4 time servers agree"));
        assert!(!machine.said("slewed"));
    }

    #[test]
    fn offsets_in_words() {
        assert_eq!(seconds(-12_345_678), "-0.012 s");
        assert_eq!(seconds(86_400_000_000_000), "86400.000 s");
        assert_eq!(seconds(i64::MIN), "-9223372036.854 s");
    }
}
