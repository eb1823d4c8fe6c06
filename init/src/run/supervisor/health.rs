//! The judgement on this boot: healthy once every system unit that is to run, and every unit marked
//! `required_for_boot`, is healthy. Healthy in time → the slot is marked good. Not in time → on trial: the reason is
//! kept and the machine reboots into the other slot; on the good slot: said, and judged again when things change
//! (a start that never becomes healthy is counted by the loader, and three of them end in rescue). A rescue that can be
//! reached is healthy, and the next start is a normal one.

use super::idle::ON_DEMAND;
use super::{API, NET, Run, Supervisor};
use crate::run::kernel::{Halt, Kernel};
use crate::run::{console, limits, text};
use berth_units::lifecycle::State;
use std::time::Duration;

/// How it stands.
#[derive(Debug, Default)]
pub(super) enum Health {
    /// Not begun.
    #[default]
    Unknown,
    /// Judged at the latest then.
    Pending {
        /// On the clock of `now`.
        by: Duration,
    },
    /// The time is over and it was not healthy.
    Degraded,
    /// Healthy; the records are being written.
    Healthy,
    /// Healthy, but the records could not be written.
    Unwritten {
        /// When to try again.
        again: Duration,
    },
    /// The records say so.
    Confirmed,
}

impl Health {
    pub(super) fn next(&self) -> Option<Duration> {
        match self {
            Self::Pending { by } => Some(*by),
            Self::Unwritten { again } => Some(*again),
            _ => None,
        }
    }

    /// The boot is over, one way or the other.
    pub(super) fn is_settled(&self) -> bool {
        !matches!(self, Self::Pending { .. })
    }

    pub(super) fn is_confirmed(&self) -> bool {
        matches!(self, Self::Confirmed)
    }
}

impl Supervisor {
    pub(super) fn look_at_health(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.stopping.is_some() || !self.config.is_settled() {
            return;
        }
        self.look_at_ready(now, k);
        if !matches!(self.health, Health::Pending { .. } | Health::Degraded) {
            return;
        }
        let well = self.units.values().all(|run| !counts(run) || is_well(run));
        if self.has_settled(well, now) {
            self.trying.end();
            self.health = Health::Healthy;
            k.confirm();
        }
    }

    /// The records are written, or not.
    pub(super) fn confirmed(&mut self, result: Result<(), String>, now: Duration, k: &mut dyn Kernel) {
        if !matches!(self.health, Health::Healthy) {
            return;
        }
        let slot = &self.facts.slot;
        match result {
            Ok(()) => {
                self.health = Health::Confirmed;
                k.say(if self.facts.rescue.is_some() {
                    console::slot_rescued(slot)
                } else {
                    console::slot_good(slot, now)
                });
                self.commit_config(k);
                self.pass_trial(k);
                self.plan_collection(now);
                self.plan_updates(now);
                self.plan_glance(now);
            }
            // Unconfirmed, a good start counts as a bad one.
            Err(why) => {
                k.say(console::slot_not_written(slot, &text::bounded(&why, limits::TEXT_BYTES)));
                self.health = Health::Unwritten { again: now.saturating_add(limits::CONFIRM_AGAIN) };
            }
        }
    }

    /// Every unit has had its first try: the boot's last line.
    fn look_at_ready(&mut self, now: Duration, k: &mut dyn Kernel) {
        // A unit that waits for one that has failed its first try has had its own.
        let busy = |run: &Run| {
            matches!(run.life.state, State::Preparing | State::Starting | State::Stopping | State::Killing)
        };
        if !self.said_ready && self.events.is_empty() && !self.units.values().any(busy) {
            self.said_ready = true;
            if !self.addresses.is_empty() {
                self.start_rest(k);
            }
            let up = self.users().filter(|run| run.life.state.is_up()).count();
            k.say(console::ready(self.first_container, now, up, self.users().count()));
        }
    }

    pub(super) fn tick_health(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.stopping.is_some() || self.health.next().is_none_or(|by| by > now) {
            return;
        }
        if matches!(self.health, Health::Unwritten { .. }) {
            self.health = Health::Healthy;
            k.confirm();
            return;
        }
        self.health = Health::Degraded;
        let reason = format!(
            "not healthy after {} s: {}",
            now.saturating_sub(self.judged_from).as_secs(),
            self.ill(now)
        );
        if self.facts.on_trial {
            // A version that could still tell that it is sick has had its try.
            let judged = self.is_judged();
            self.fail_trial(&reason, k);
            k.condemn(&reason, judged);
            k.say(console::slot_failed(&self.facts.slot, &reason));
            self.halt(Halt::Reboot, "the slot failed its trial", limits::SHUTDOWN_BROKEN, now, k);
        } else {
            k.step_failed(&reason);
            k.say(console::slot_degraded(&self.facts.slot, &reason));
        }
    }

    /// Who is not well, and why.
    pub(super) fn ill(&self, now: Duration) -> String {
        let mut ill: Vec<String> = Vec::new();
        if !self.config.is_settled() {
            ill.push("the machine config is still being looked for".into());
        }
        if let Some(why) = self.facts.state_trouble.as_ref().filter(|_| self.facts.on_trial) {
            ill.push(format!("the state is a temporary one ({why})"));
        }
        if self.config.is_settled() && self.lacks_config() {
            ill.push(format!("the machine config that the units came from is {}", self.config_status.state));
        }
        let sick = self.units.values().filter(|run| counts(run) && !is_well(run));
        let of_trial = self.sick_of_trial();
        for run in sick.chain(of_trial.into_iter().filter(|run| !counts(run))) {
            let reason = match run.life.state {
                State::Waiting => {
                    self.waits_for(&run.unit).map(|other| format!("for {other}")).unwrap_or_default()
                }
                _ => run.reason(now),
            };
            ill.push(if reason.is_empty() {
                format!("{} is {}", run.unit.name, run.life.state)
            } else {
                format!("{} is {} ({reason})", run.unit.name, run.life.state)
            });
        }
        if ill.is_empty() {
            "everything was well, but not long enough in one go".into()
        } else {
            ill.join(", ")
        }
    }
}

/// The slot's health depends on it. Without those that run on demand a machine comes up all the same; whoever needs an image of the
/// store's is counted by itself.
pub(super) fn counts(run: &Run) -> bool {
    match run.unit.name.as_str() {
        name if ON_DEMAND.contains(&name) => false,
        NET | API => true,
        _ if run.is_system() => run.life.wanted(),
        _ => run.unit.required_for_boot && run.unit.enabled,
    }
}

pub(super) fn is_well(run: &Run) -> bool {
    match run.life.state {
        State::Healthy => true,
        State::Finished => run.life.last_exit == Some(berth_units::lifecycle::Exit::Code(0)),
        _ => false,
    }
}
