//! The way down: user units in reverse order of their dependencies, then system units, each with its own time-out
//! and all with one; then whatever is left is killed; then the last steps begin, whatever still hangs.

use super::{Run, Supervisor};
use crate::run::kernel::{Halt, Kernel};
use crate::run::{console, limits};
use berth_units::lifecycle::Event;
use std::time::Duration;

/// How far it has come.
#[derive(Debug)]
pub(super) struct Stopping {
    halt: Halt,
    /// Everything is killed then.
    kill_at: Duration,
    killed: bool,
    /// The last steps have begun.
    finished: bool,
}

impl Supervisor {
    /// Begins the way down; a second request changes nothing.
    pub(super) fn halt(&mut self, halt: Halt, why: &str, bound: Duration, now: Duration, k: &mut dyn Kernel) {
        if self.stopping.is_some() {
            return;
        }
        self.note_for_trial(k);
        k.say(console::halting(halt, why));
        self.stopping =
            Some(Stopping { halt, kill_at: now.saturating_add(bound), killed: false, finished: false });
        self.look_again = true;
    }

    pub(super) fn next_stop(&self) -> Option<Duration> {
        let stopping = self.stopping.as_ref().filter(|stopping| !stopping.finished)?;
        let kill_at = stopping.kill_at;
        Some(if stopping.killed { kill_at.saturating_add(limits::SHUTDOWN_KILL) } else { kill_at })
    }

    /// Tells the next units to stop, once those that depend on them are down.
    pub(super) fn look_at_stop(&mut self, _now: Duration, k: &mut dyn Kernel) {
        let Some(stopping) = self.stopping.as_ref().filter(|stopping| !stopping.finished) else { return };
        let halt = stopping.halt;
        let up: Vec<&Run> = self.units.values().filter(|run| !run.is_down()).collect();
        if up.is_empty() {
            k.say(console::halt_finish());
            return self.finish(halt, k);
        }
        let users = up.iter().any(|run| !run.is_system());
        let waited_for = |service: &str| {
            self.graph.dependents(service).any(|other| up.iter().any(|run| run.unit.service() == other))
        };
        let next: Vec<String> = up
            .iter()
            .filter(|run| run.life.wanted() && run.is_system() != users)
            .filter(|run| !waited_for(run.unit.service()))
            .map(|run| run.unit.name.clone())
            .collect();
        for name in next {
            self.event(&name, Event::Stop);
        }
    }

    pub(super) fn tick_stop(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.next_stop().is_none_or(|at| at > now) {
            return;
        }
        let Some(stopping) = self.stopping.as_mut() else { return };
        let (halt, killed) = (stopping.halt, std::mem::replace(&mut stopping.killed, true));
        let left: Vec<String> =
            self.units.values().filter(|r| !r.is_down()).map(|r| r.unit.name.clone()).collect();
        if killed {
            k.say(console::halt_killed(&left));
            return self.finish(halt, k);
        }
        for name in left {
            self.event(&name, Event::Stop);
            k.kill(&name);
        }
    }

    fn finish(&mut self, halt: Halt, k: &mut dyn Kernel) {
        if let Some(stopping) = self.stopping.as_mut() {
            stopping.finished = true;
        }
        k.finish(halt);
    }
}
