//! Workers that run only while there is something for them to do: one that has done it is stopped a little later, unless
//! there is more by then.

use super::{CLOUD, FETCH, INSTALL, META, STORE, Supervisor, UPDATE};
use crate::run::limits;
use berth_units::lifecycle::Event;
use std::collections::BTreeMap;
use std::time::Duration;

/// Those workers. No slot's health depends on one: a machine comes up without it.
pub(super) const ON_DEMAND: [&str; 6] = [META, CLOUD, STORE, FETCH, UPDATE, INSTALL];

/// Who has nothing to do, and when each is stopped.
#[derive(Debug, Default)]
pub(super) struct Idle(BTreeMap<&'static str, Duration>);

impl Idle {
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.values().min().copied()
    }

    /// It has something to do, or will never do anything again.
    pub(super) fn forget(&mut self, worker: &str) {
        self.0.remove(worker);
    }

    /// It has done what there was to do.
    pub(super) fn begin(&mut self, worker: &'static str, now: Duration) {
        self.0.insert(worker, now.saturating_add(limits::STORE_IDLE));
    }
}

impl Supervisor {
    pub(super) fn tick_idle(&mut self, now: Duration) {
        let over: Vec<&str> =
            self.idle.0.iter().filter(|(_, at)| **at <= now).map(|(name, _)| *name).collect();
        for worker in over {
            self.idle.forget(worker);
            self.event(worker, Event::Stop);
        }
    }
}
