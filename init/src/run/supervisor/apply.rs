//! Another config, put in force while the machine runs, because an operator says so.
//!
//! It is checked as a whole, kept, and then put in force: units that are gone stop, those that are new start, those that differ
//! in what a running container cannot take on stop and start again; nothing else is touched. With a time to be confirmed within it
//! is in force first and kept when it is confirmed; if it is not, the one before is put back, and a reboot meanwhile brings that one up, too. What
//! differs in the machine's own network is in force from the next boot.

use super::generations::{Change, Text};
use super::{Refused, Run, Supervisor, refuse};
use crate::run::generations::Recipe;
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::change;
use berth_units::control::{ConfigChange, ConfigStatus, Reply};
use berth_units::generation::Verdict;
use berth_units::graph::Graph;
use berth_units::instances;
use berth_units::lifecycle::Event;
use berth_units::model::{MachineConfig, Unit};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a config that an operator sent came from.
const SOURCE: &str = "operator";

/// Why its generation was made.
const SENT: &str = "sent by an operator";

/// Why one has to wait for another.
const COMES: &str = "another config is on its way; see \"berth config status\"";

/// How a config is put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trial {
    /// It goes back after this time unless it is confirmed.
    pub confirm: Option<Duration>,
    /// Not at all: it is only asked what it would change.
    pub only_look: bool,
}

impl Trial {
    /// As an operator asks for it.
    pub fn of(confirm_s: Option<u64>, only_look: bool) -> Self {
        Self { confirm: confirm_s.map(Duration::from_secs), only_look }
    }
}

/// A config whose text is being made out of what is on the disk.
#[derive(Debug)]
pub(super) struct Making {
    /// Who waits for the answer.
    peer: u64,
    /// For the history.
    why: String,
    trial: Trial,
    /// The generation out of which it is made, if that has to be the one in force.
    base: Option<u64>,
}

/// A config on its way to the disk, to be put in force then.
#[derive(Debug)]
pub(super) struct Applying {
    config: MachineConfig,
    sha256: String,
    number: u64,
}

/// A config in force that is to be confirmed.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    /// To be kept.
    text: Vec<u8>,
    /// Its generation.
    number: u64,
    /// To be put back, with its generation and what was said about it.
    before: MachineConfig,
    before_number: Option<u64>,
    status: ConfigStatus,
    until: Duration,
}

/// What a run becomes when it is down.
#[derive(Debug)]
pub(super) enum Becomes {
    /// Nothing.
    Nothing,
    /// This unit, started if the former was wanted.
    Unit(Box<Unit>, bool),
}

impl Supervisor {
    /// Checks a config, says what it would change, and unless it is only looked at puts it in force.
    pub fn apply_config(
        &mut self,
        config: Option<Vec<u8>>,
        trial: Trial,
        now: Duration,
        k: &mut dyn Kernel,
    ) -> Reply {
        let Some(text) = config else { return refuse("bad-request", "the config's text did not arrive") };
        self.apply_text(text, SENT, trial, now, k)
    }

    /// Changes some units of the config in force; `edit` is an [`Edit`](berth_units::config::edit::Edit) in JSON. `None`: the
    /// answer comes when the config has been read.
    pub fn edit_units(
        &mut self,
        peer: u64,
        edit: Option<Vec<u8>>,
        trial: Trial,
        k: &mut dyn Kernel,
    ) -> Option<Reply> {
        let Some(edit) = edit else { return Some(refuse("bad-request", "the units did not arrive")) };
        if self.config_status.reload.as_ref().is_some_and(|reload| reload.state == "kept") {
            let why = "another config comes into force at the next boot, and would be lost: reboot first, or \"berth config apply\" a whole one";
            return Some(refuse("busy", why));
        }
        let base = match self.generation_in_force() {
            Ok(base) => base,
            Err(why) => return Some(refuse("failed", why)),
        };
        let why = "units sent by an operator".to_owned();
        self.make(Recipe::Edited(base, edit), Making { peer, why, trial, base: Some(base) }, k)
    }

    /// Units of configs that are on their way, or may come back.
    pub(super) fn promised(&self) -> impl Iterator<Item = &Unit> {
        let applying = self.applying.iter().map(|applying| &applying.config);
        let before = self.unconfirmed.iter().map(|unconfirmed| &unconfirmed.before);
        applying.chain(before).flat_map(|config| &config.units)
    }

    /// Puts an earlier generation's config in force again. `None` as above.
    pub fn roll_back(
        &mut self,
        peer: u64,
        to: Option<u64>,
        trial: Trial,
        k: &mut dyn Kernel,
    ) -> Option<Reply> {
        let number = to.or_else(|| self.history.before().map(|generation| generation.number));
        let Some(number) = number else {
            let message = "there is no other config to go back to; \"berth history\" lists what there was";
            return Some(refuse("not-found", message));
        };
        if self.history.get(number).is_none() {
            let message =
                format!("there is no generation {number}; \"berth history\" lists those that are kept");
            return Some(refuse("not-found", message));
        }
        let why = format!("back to generation {number}");
        self.make(Recipe::Of(number), Making { peer, why, trial, base: None }, k)
    }

    fn make(&mut self, recipe: Recipe, making: Making, k: &mut dyn Kernel) -> Option<Reply> {
        let busy = match self.making {
            Some(_) => Some(COMES.to_owned()),
            None if making.trial.only_look => None,
            None => self.busy_with_config(),
        };
        if let Some(busy) = busy {
            return Some(refuse("busy", busy));
        }
        self.making = Some(making);
        k.make_config(recipe);
        None
    }

    /// The text is there, or not.
    pub(super) fn config_made(&mut self, result: Result<Vec<u8>, String>, now: Duration, k: &mut dyn Kernel) {
        let Some(Making { peer, why, trial, base }) = self.making.take() else { return };
        let reply = match result {
            Err(why) => refuse("bad-request", text::bounded_lines(&why, limits::REPORT_BYTES)),
            Ok(_) if base.is_some() && base != self.history.in_force => {
                refuse("busy", "another config has come into force meanwhile; try again")
            }
            Ok(text) => self.apply_text(text, &why, trial, now, k),
        };
        k.answer(peer, reply);
    }

    /// The generation whose config is in force.
    pub fn generation_in_force(&self) -> Result<u64, &'static str> {
        self.history.in_force.ok_or(
            "the config in force is not kept on this machine's disk; \"berth config status\" says where it came from",
        )
    }

    fn apply_text(
        &mut self,
        mut text: Vec<u8>,
        why: &str,
        Trial { confirm, only_look }: Trial,
        now: Duration,
        k: &mut dyn Kernel,
    ) -> Reply {
        let checked = match (self.check_config(&text), &self.instance) {
            (Ok(config), Some(instance)) if config.instance.is_none() => {
                text = instance.behind(&text);
                self.check_config(&text)
            }
            (checked, _) => checked,
        };
        let config = match checked {
            Ok(config) => config,
            Err(Refused { report, .. }) => {
                return refuse("bad-request", text::bounded_lines(&report, limits::REPORT_BYTES));
            }
        };
        if let Some(name) = self.taken_by_transient(&config) {
            let message = format!(
                "a transient unit is called {name}, as one of the config; \"berth rm -f {name}\" first"
            );
            return refuse("busy", message);
        }
        let change = self.change(&config, &text);
        if only_look {
            return Reply::ConfigChange(Box::new(change));
        }
        if let Some(busy) = self.busy_with_config() {
            return refuse("busy", busy);
        }
        // Neither what comes nor what may come back is to be swept away meanwhile.
        self.collecting.keep_for_next_boot(&config);
        self.config_status.report.clear();
        let sha256 = change.sha256.clone();
        k.say(console::config_sent(why, &sha256, confirm));
        match confirm {
            None => {
                let of = Text { config: &config, text: &text, current: true };
                let number = self.record(Change::of_config(why, Verdict::Committed), Some(&of), k);
                self.storing_config = Some(number);
                self.applying = Some(Applying { config, sha256, number });
            }
            Some(time) => {
                let before = self.config_in_force();
                self.collecting.keep_for_next_boot(&before);
                let of = Text { config: &config, text: &text, current: false };
                let number = self.record(Change::of_config(why, Verdict::Trying), Some(&of), k);
                let before_number = self.history.in_force.replace(number);
                self.unconfirmed = Some(Unconfirmed {
                    text,
                    number,
                    before,
                    before_number,
                    status: self.config_status.clone(),
                    until: now.saturating_add(time),
                });
                self.put_in_force(config, SOURCE, sha256, k);
            }
        }
        self.run_events(now, k);
        Reply::ConfigChange(Box::new(change))
    }

    /// An operator can still reach the machine.
    pub(super) fn confirm_config(&mut self, k: &mut dyn Kernel) -> Reply {
        if self.config_comes() {
            return refuse("busy", COMES);
        }
        let Some(unconfirmed) = self.unconfirmed.take() else {
            return refuse("bad-request", "no config waits to be confirmed");
        };
        k.say(console::config_confirmed());
        let Unconfirmed { number, text, .. } = unconfirmed;
        self.storing_config = Some(number);
        self.judge_with(number, Verdict::Committed, "", Some(text), k);
        Reply::Done
    }

    fn busy_with_config(&self) -> Option<String> {
        if let Some(run) = self.units.values().find(|run| run.becomes.is_some()) {
            return Some(format!("the last config is still being put in force: {} stops", run.unit.name));
        }
        let why = if self.stopping.is_some() {
            "the machine is going down"
        } else if self.collecting.is_on() {
            "images that nothing needs are being removed; try again in a moment"
        } else if self.unconfirmed.is_some() {
            "a config waits to be confirmed: \"berth config confirm\", or wait until it goes back"
        } else if self.config_comes() {
            COMES
        } else if !self.health.is_settled() {
            "this boot has not been found healthy yet; try again in a minute"
        } else {
            return None;
        };
        Some(why.to_owned())
    }

    /// What another config would change.
    fn change(&self, config: &MachineConfig, text: &[u8]) -> ConfigChange {
        let before = self.to_be();
        let after = instances::expand(config.units.clone());
        let mut change = change::units(before, &after);
        change.sha256 = text::sha256(text);
        if config.hostname.as_ref().is_some_and(|name| *name != self.hostname) {
            change.machine.push("hostname".into());
        }
        if config.access_keys != self.keys {
            change.machine.push("access keys".into());
        }
        if config.registries != self.registries {
            change.machine.push("registries".into());
        }
        if config.time_servers != self.time_servers {
            change.machine.push("time servers".into());
        }
        if config.update != self.update.settings {
            change.machine.push("updates".into());
        }
        if config.network != self.network {
            change.next_boot.push("network".into());
        }
        change
    }

    /// The config as it would have to be to make what is there.
    pub(super) fn config_in_force(&self) -> MachineConfig {
        let mut units: BTreeMap<String, Unit> = BTreeMap::new();
        for unit in self.to_be() {
            let name = unit.service().to_owned();
            units.entry(name.clone()).or_insert_with(|| Unit { name, instance_of: None, ..unit.clone() });
        }
        MachineConfig {
            hostname: Some(self.hostname.clone()),
            access_keys: self.keys.clone(),
            instance: self.instance.clone(),
            network: self.network.clone(),
            registries: self.registries.clone(),
            time_servers: self.time_servers.clone(),
            update: self.update.settings.clone(),
            units: units.into_values().collect(),
            ..MachineConfig::default()
        }
    }

    /// The config's units as they are, or become.
    fn to_be(&self) -> impl Iterator<Item = &Unit> {
        let of_config = self.users().filter(|run| run.unit.transient.is_none());
        of_config.filter_map(Run::to_be).chain(&self.coming)
    }

    fn put_in_force(&mut self, config: MachineConfig, source: &str, sha256: String, k: &mut dyn Kernel) {
        k.say(console::config_applied(source, &sha256, config.units.len()));
        self.config_status.state = "applied".into();
        self.config_status.source = source.to_owned();
        self.config_status.sha256 = sha256;
        self.config_status.report.clear();
        self.config_status.note.clear();
        self.config_status.notes.clear();
        let (_, units) = self.take_machine(config, k);
        if self.facts.rescue.is_some() {
            return;
        }
        let mut after: BTreeMap<String, Unit> =
            instances::expand(units).into_iter().map(|unit| (unit.name.clone(), unit)).collect();
        let transients: Vec<Unit> = self.transients().map(|run| run.unit.clone()).collect();
        let order = Graph::new(self.system_units().iter().chain(after.values()).chain(&transients));
        self.take_order(order);
        let of_config = self.users().filter(|run| run.unit.transient.is_none());
        let names: Vec<String> = of_config.map(|run| run.unit.name.clone()).collect();
        for name in names {
            self.change_unit(&name, after.remove(&name));
        }
        self.coming = after.into_values().collect();
        self.look_again = true;
        self.tell_names(k);
    }

    fn change_unit(&mut self, name: &str, after: Option<Unit>) {
        let Some(run) = self.units.get_mut(name) else { return };
        let before = match &run.becomes {
            Some(Becomes::Unit(unit, wanted)) => Some((unit.enabled, *wanted)),
            Some(Becomes::Nothing) => None,
            None => Some((run.unit.enabled, run.life.wanted())),
        };
        let wanted = match (before, &after) {
            (Some((enabled, wanted)), Some(unit)) if enabled == unit.enabled => wanted,
            // A change of `enabled` is an order, and what was to go and comes back is as new.
            (_, Some(unit)) => unit.enabled,
            (_, None) => false,
        };
        match after {
            None => run.becomes = Some(Becomes::Nothing),
            Some(unit) if run.becomes.is_none() && !change::restarts(&run.unit, &unit) => {
                run.unit = unit;
                if wanted != run.life.wanted() {
                    self.event(name, if wanted { Event::Start } else { Event::Stop });
                }
                return;
            }
            Some(unit) => run.becomes = Some(Becomes::Unit(Box::new(unit), wanted)),
        }
        self.event(name, Event::Stop);
    }

    /// Units that are down and are to be others.
    pub(super) fn look_at_changes(&mut self, k: &mut dyn Kernel) {
        if self.stopping.is_some() {
            return;
        }
        let ready: Vec<String> = self
            .units
            .iter()
            .filter(|(_, run)| run.becomes.is_some() && run.is_down())
            .map(|(name, _)| name.clone())
            .collect();
        for name in ready {
            let Some(run) = self.units.remove(&name) else { continue };
            match run.becomes {
                Some(Becomes::Unit(unit, wanted)) => {
                    self.units.insert(name.clone(), Run::new(*unit));
                    if wanted {
                        self.event(&name, Event::Start);
                    }
                }
                Some(Becomes::Nothing) | None => {
                    k.say(match run.unit.transient {
                        Some(_) => console::removed(&name),
                        None => console::unit_gone(&name),
                    });
                    let all = run.unit.transient.is_some();
                    if all {
                        self.discarding.insert(name.clone());
                        self.ids.release(&name);
                    }
                    k.forget(&name, all);
                }
            }
            self.look_again = true;
            self.tell_names(k);
        }
        // New units may have volumes and ports of those that go, and names of which something is still being removed.
        let going = self.units.values().any(|run| matches!(run.becomes, Some(Becomes::Nothing)));
        if going || self.coming.is_empty() {
            return;
        }
        let (later, now): (Vec<Unit>, Vec<Unit>) = std::mem::take(&mut self.coming)
            .into_iter()
            .partition(|unit| self.discarding.contains(&unit.name));
        self.coming = later;
        if now.is_empty() {
            return;
        }
        for unit in now {
            let name = unit.name.clone();
            self.units.insert(name.clone(), Run::new(unit));
            self.want(&name);
        }
        self.look_again = true;
        self.tell_names(k);
    }

    /// The config is on the disk, or not; false if nobody waits for that here.
    pub(super) fn applied_stored(&mut self, result: &Result<(), String>, k: &mut dyn Kernel) -> bool {
        let Some(Applying { config, sha256, number }) = self.applying.take() else { return false };
        match result {
            Ok(()) => {
                self.history.in_force = Some(number);
                self.put_in_force(config, SOURCE, sha256, k);
            }
            Err(why) => {
                let why = text::bounded(why, limits::TEXT_BYTES);
                k.say(console::config_not_applied(&why));
                self.config_status.report =
                    format!("the config that an operator sent is not in force, it cannot be kept: {why}");
            }
        }
        true
    }

    /// When the config in force goes back, unless it is confirmed.
    pub(super) fn next_revert(&self) -> Option<Duration> {
        self.unconfirmed.as_ref().map(|unconfirmed| unconfirmed.until)
    }

    pub(super) fn tick_revert(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.stopping.is_some() || self.next_revert().is_none_or(|until| until > now) {
            return;
        }
        let Some(unconfirmed) = self.unconfirmed.take() else { return };
        let Unconfirmed { text, number, before, before_number, status, .. } = unconfirmed;
        k.say(console::config_reverted());
        self.history.in_force = before_number;
        self.judge_with(number, Verdict::Reverted, "it was not confirmed in time", Some(text), k);
        self.put_in_force(before, &status.source, status.sha256.clone(), k);
        self.config_status = status;
        "the config that an operator sent was not confirmed in time, and went back"
            .clone_into(&mut self.config_status.note);
    }
}

impl Run {
    /// The unit that it is, and what it becomes.
    pub(super) fn is_and_becomes(&self) -> impl Iterator<Item = &Unit> {
        let becomes = match &self.becomes {
            Some(Becomes::Unit(unit, _)) => Some(unit.as_ref()),
            _ => None,
        };
        std::iter::once(&self.unit).chain(becomes)
    }

    /// The unit that it is, or becomes.
    pub(super) fn to_be(&self) -> Option<&Unit> {
        match &self.becomes {
            None => Some(&self.unit),
            Some(Becomes::Unit(unit, _)) => Some(unit),
            Some(Becomes::Nothing) => None,
        }
    }
}
