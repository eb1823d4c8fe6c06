//! Health: who is looked at when, and what follows from it. The rules are in [`berth_units::health`]; the life of a unit
//! decides what becomes of an unhealthy one.

use super::Supervisor;
use crate::run::kernel::{Kernel, Order};
use crate::run::{limits, text};
use berth_units::health::{Due, Verdict};
use berth_units::lifecycle::{Event, State};
use berth_units::notify::Notice;
use std::time::Duration;

impl Supervisor {
    /// A unit's program runs now, or does not any more (or is to end).
    pub(super) fn watch_health(&mut self, name: &str, before: State, now: Duration, k: &mut dyn Kernel) {
        let Some(run) = self.units.get_mut(name) else { return };
        match (before.is_running(), run.life.state.is_running()) {
            (false, true) => run.checks.begin(&run.unit, now),
            (true, false) => {
                run.checks.end();
                k.end_check(name);
            }
            _ => {}
        }
    }

    /// When the next look is due.
    pub(super) fn next_check(&self) -> Option<Duration> {
        self.units.values().filter_map(|run| run.checks.deadline(&run.unit)).min()
    }

    pub(super) fn tick_checks(&mut self, now: Duration, k: &mut dyn Kernel) {
        let due = |run: &super::Run| run.checks.deadline(&run.unit).is_some_and(|at| at <= now);
        let names: Vec<String> =
            self.units.iter().filter(|(_, run)| due(run)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(run) = self.units.get_mut(&name) else { continue };
            match run.checks.due(&run.unit, now) {
                Some(Due::Look { check, timeout }) => {
                    let id_base = self.ids.get(&name).unwrap_or_default();
                    let order = Order { unit: &run.unit, image: run.image.as_ref(), id_base };
                    k.check(&order, &check, timeout);
                }
                Some(Due::Late(why)) => self.unhealthy(&name, &why),
                None => {}
            }
        }
    }

    /// A look has ended.
    pub(super) fn checked(&mut self, name: &str, found: Result<(), String>, now: Duration) {
        let Some(run) = self.units.get_mut(name) else { return };
        match run.checks.seen(&run.unit, found, now) {
            Verdict::AsBefore => {}
            Verdict::Healthy => self.event(name, Event::BecameHealthy),
            Verdict::Unhealthy(why) => self.unhealthy(name, &why),
        }
    }

    /// It says something of itself.
    pub(super) fn noticed(&mut self, name: &str, notice: &Notice, now: Duration) {
        let Some(run) = self.units.get_mut(name) else { return };
        if let Some(says) = notice.says() {
            run.says = says;
        }
        if notice.ready && run.checks.said_ready(&run.unit, now) == Verdict::Healthy {
            self.event(name, Event::BecameHealthy);
        }
    }

    fn unhealthy(&mut self, name: &str, why: &str) {
        let Some(run) = self.units.get_mut(name) else { return };
        // What is left running may end of something else.
        if !run.unit.health.as_ref().is_some_and(|health| health.tolerant) {
            run.detail = text::bounded(why, limits::TEXT_BYTES);
        }
        self.event(name, Event::BecameUnhealthy);
    }
}
