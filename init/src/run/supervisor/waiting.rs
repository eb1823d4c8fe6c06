//! Units that wait for others.

use super::Supervisor;
use berth_units::graph::{self, Deps};
use berth_units::lifecycle::{Event, State};
use berth_units::model::{Dependency, Unit, Until};

impl Supervisor {
    /// The states of a unit's instances; of one without several, its own.
    fn states_of(&self, service: &str) -> Vec<State> {
        self.runs_of(service).map(|run| run.life.state).collect()
    }

    /// Units that wait: what they wait for may be there, or never come.
    pub(super) fn look_at_waiting(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let mut events = Vec::new();
        for (name, run) in self.units.iter().filter(|(_, run)| run.life.state == State::Waiting) {
            match self.graph.deps_state(run.unit.service(), |other| self.states_of(other)) {
                Deps::Ready => events.push((name.clone(), Event::DepsReady, String::new())),
                Deps::Waiting => {}
                Deps::Failed => {
                    let hopeless = |to: &&Dependency| graph::is_hopeless(to.until, &self.states_of(&to.unit));
                    let failed = run.unit.requires.iter().find(hopeless).map_or("", |to| &to.unit);
                    events.push((name.clone(), Event::DepsFailed, format!("unit {failed}")));
                }
            }
        }
        for (name, event, detail) in events {
            if let Some(run) = self.units.get_mut(&name).filter(|_| !detail.is_empty()) {
                run.detail = detail;
            }
            self.event(&name, event);
        }
    }

    /// The first unit that this one still waits for, for messages: `db`, `db to be ready`.
    pub(super) fn waits_for(&self, unit: &Unit) -> Option<String> {
        let missing = |to: &&Dependency| !graph::has_come(to.until, &self.states_of(&to.unit));
        let coming = |to: &&Dependency| {
            self.runs_of(&to.unit).any(|run| run.life.wanted() && run.life.state != State::Failed)
        };
        let required = unit.requires.iter().find(missing);
        let to = required.or_else(|| unit.after.iter().find(|to| missing(to) && coming(to)))?;
        Some(match to.until {
            Until::Started => to.unit.clone(),
            Until::Ready => format!("{} to be ready", to.unit),
            Until::Completed => format!("{} to complete", to.unit),
        })
    }
}
