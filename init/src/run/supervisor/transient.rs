//! Transient units: run because an operator says so (`berth run`), in no config, and so gone when the machine starts again. Else
//! they are units as all others: the same checks, life cycle, limits, network and logs.

use super::apply::Becomes;
use super::{Run, Supervisor, refuse};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::config;
use berth_units::control::Reply;
use berth_units::graph::Graph;
use berth_units::lifecycle::Event;
use berth_units::model::{MachineConfig, Origin, Unit};
use berth_units::schema;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a unit without a name is called, with a number behind it.
const NAME: &str = "run";

impl Supervisor {
    /// Runs a unit, `text` being its file. Its name is the answer.
    pub fn run_unit(
        &mut self,
        name: Option<&str>,
        text: Option<Vec<u8>>,
        now: Duration,
        k: &mut dyn Kernel,
    ) -> Reply {
        let Some(text) = text else { return refuse("bad-request", "the unit's text did not arrive") };
        if self.is_stopping() {
            return refuse("busy", "the machine is going down");
        }
        if self.facts.rescue.is_some() {
            return refuse("failed", "this boot is a rescue, which runs no units; \"berth slots\" says why");
        }
        if self.users().count() + self.coming.len() >= berth_units::limits::UNITS {
            return refuse("busy", format!("there are {} units already", berth_units::limits::UNITS));
        }
        let name = name.map_or_else(|| self.free_name(), str::to_owned);
        if self.is_taken(&name) {
            let message = format!(
                "there is a unit {name:?} already; take another --name, or remove it: \"berth rm {name}\""
            );
            return refuse("bad-request", text::bounded(&message, limits::TEXT_BYTES));
        }
        let mut unit = match self.check_unit(&name, &text) {
            Ok(unit) => unit,
            Err(report) => return refuse("bad-request", text::bounded_lines(&report, limits::REPORT_BYTES)),
        };
        // The slot is not to blame for it.
        unit.required_for_boot = false;
        unit.transient = Some(k.wall().as_nanos());
        k.say(console::run(&name, &unit.container.image));
        self.units.insert(name.clone(), Run::new(unit));
        // Those that are about to come, or to become others, keep their places.
        let all: Vec<Unit> =
            self.units.values().filter_map(Run::to_be).chain(&self.coming).cloned().collect();
        self.take_order(Graph::new(&all));
        self.want(&name);
        self.look_again = true;
        self.tell_names(k);
        self.run_events(now, k);
        Reply::Name(name)
    }

    /// Alone, and together with all units that there are.
    fn check_unit(&self, name: &str, text: &[u8]) -> Result<Unit, String> {
        let unit = schema::parse_unit(&format!("{name}.toml"), name, text, Origin::Config)
            .map_err(|report| report.to_string())?;
        if !unit.secrets.is_empty() || !unit.container.env_file.is_empty() {
            return Err("secrets and env_file are in the machine config, of which a transient unit is no part; put the \
                        unit into it: \"berth unit apply\""
                .to_owned());
        }
        if unit.instances > 1 {
            return Err(
                "a transient unit has one instance; put it into the machine config: \"berth unit apply\""
                    .into(),
            );
        }
        let mut all = self.config_in_force();
        all.units.extend(self.transients().map(|run| run.unit.clone()));
        all.units.push(unit.clone());
        let all = MachineConfig { units: all.units, ..MachineConfig::default() };
        config::check_together(&self.system_units(), &all).map_err(|report| report.to_string())?;
        Ok(unit)
    }

    /// Removes a transient unit, with all that it has written outside of volumes.
    pub(super) fn remove_unit(
        &mut self,
        name: &str,
        force: bool,
        now: Duration,
        k: &mut dyn Kernel,
    ) -> Reply {
        let Some(run) = self.units.get_mut(name) else { return self.no_unit(name) };
        if run.is_system() {
            return refuse("denied", format!("{name} is a system unit"));
        }
        if run.unit.transient.is_none() {
            let message = format!("{name} is in the machine's config; \"berth unit rm {name}\" takes it out");
            return refuse("bad-request", message);
        }
        if run.life.state.has_run() && !force {
            return refuse("busy", format!("{name} runs; stop it first, or remove it with -f"));
        }
        run.becomes = Some(Becomes::Nothing);
        self.event(name, Event::Stop);
        self.look_again = true;
        self.run_events(now, k);
        Reply::Done
    }

    /// Each volume that a unit names, and the units that do.
    pub fn volumes_in_use(&self) -> BTreeMap<String, Vec<String>> {
        let mut used: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let coming =
            self.units.values().flat_map(Run::is_and_becomes).chain(&self.coming).chain(self.promised());
        for unit in coming {
            for volume in &unit.container.volumes {
                let units = used.entry(volume.name.clone()).or_default();
                if !units.contains(&unit.name) {
                    units.push(unit.name.clone());
                }
            }
        }
        used
    }

    /// Those that there are.
    pub(super) fn transients(&self) -> impl Iterator<Item = &Run> {
        self.users().filter(|run| run.unit.transient.is_some())
    }

    /// The first of a config's units that is called as a transient one.
    pub(super) fn taken_by_transient(&self, config: &MachineConfig) -> Option<&str> {
        let names = self.transients().map(|run| &run.unit.name).chain(&self.discarding);
        names.map(String::as_str).find(|name| config.units.iter().any(|unit| unit.name == *name))
    }

    fn is_taken(&self, name: &str) -> bool {
        self.runs_of(name).next().is_some()
            || self.discarding.contains(name)
            || self.coming.iter().any(|unit| unit.service() == name)
            || self.promised().any(|unit| unit.name == name)
    }

    /// Names come back when they are free again: what is kept for each unit (an id range, a folder) does not grow with time.
    fn free_name(&self) -> String {
        let names = (1..=berth_units::limits::UNITS + 1).map(|number| format!("{NAME}-{number}"));
        names.into_iter().find(|name| !self.is_taken(name)).unwrap_or_else(|| NAME.to_owned())
    }
}
