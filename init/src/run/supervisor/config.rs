//! The machine config: kept from an earlier boot, or looked for by meta; checked as a whole, kept, applied once.
//!
//! 1. A kept config that passes the check is applied, and its source is not asked again.
//! 2. A kept config that does not pass (this slot is older than the one that took it) is reported; no user units.
//! 3. None kept: meta looks for one, at most [`limits::CONFIG_SEARCH`]. What it finds is checked here again, applied,
//!    and kept beside: written, synced, renamed. Cut off in between, the next boot looks again and finds the same.
//! 4. Refused, none, or no answer: said on the console; the network comes up by DHCP, no units. Who has a key in a
//!    refused config can ask what is wrong with it; it is not kept, and the next boot looks again.

use super::generations::{Change, Text};
use super::reload::Found;
use super::{META, Refused, Run, Supervisor};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::diag::Report;
use berth_units::generation::Verdict;
use berth_units::graph::Graph;
use berth_units::instances;
use berth_units::lifecycle::{Event, State};
use berth_units::model::{MachineConfig, MachineNetwork, Unit};
use std::time::Duration;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not begun.
    Unread,
    /// Meta is looking.
    Reading(Search),
    /// Decided, one way or the other.
    Settled,
    /// Decided, and an operator has meta look again.
    Again(Search),
}

/// A search by meta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Search {
    /// Since.
    from: Duration,
    /// At most until.
    by: Duration,
    /// What it waits for.
    wait: Wait,
}

impl Search {
    pub(super) fn begin(now: Duration) -> Self {
        Self { from: now, by: now.saturating_add(limits::CONFIG_SEARCH), wait: Wait::Meta }
    }
}

/// What the search waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Meta's answer.
    Meta,
    /// Disks that are still to come; meta has found nothing on those that are there.
    Disks,
    /// Meta's end, to be started again.
    Again,
}

impl Phase {
    pub(super) fn next(self) -> Option<Duration> {
        match self {
            Self::Reading(search) | Self::Again(search) => Some(search.by),
            Self::Unread | Self::Settled => None,
        }
    }

    pub(super) fn is_settled(self) -> bool {
        matches!(self, Self::Settled | Self::Again(_))
    }

    fn search(&mut self) -> Option<&mut Search> {
        match self {
            Self::Reading(search) | Self::Again(search) => Some(search),
            Self::Unread | Self::Settled => None,
        }
    }
}

impl Supervisor {
    pub(super) fn begin_config(&mut self, kept: Option<&[u8]>, now: Duration, k: &mut dyn Kernel) {
        match kept {
            Some(text) => match self.check_config(text) {
                Ok(config) => self.apply(config, text, "state", now, k),
                Err(refused) => self.refuse("state", refused, now, k),
            },
            None if !self.units.contains_key(META) => {
                self.config_status.state = "none".into();
                self.give_up_config("nothing is looked for in this boot", now, k);
            }
            None => {
                self.config_status.state = "reading".into();
                self.config = Phase::Reading(Search::begin(now));
                self.want(META);
            }
        }
    }

    pub(super) fn check_config(&self, text: &[u8]) -> Result<MachineConfig, Refused> {
        (self.check)(text, &self.system_units())
    }

    pub(super) fn system_units(&self) -> Vec<Unit> {
        self.units.values().filter(|run| run.is_system()).map(|run| run.unit.clone()).collect()
    }

    /// Another config is being looked for, or written to the disk.
    pub(super) fn config_comes(&self) -> bool {
        self.storing_config.is_some() || self.config != Phase::Settled
    }

    pub(super) fn config_found(
        &mut self,
        source: String,
        looked: Vec<String>,
        config: Option<Vec<u8>>,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        if !self.looked(looked) {
            return;
        }
        let source = text::bounded(&source, limits::TEXT_BYTES);
        let Some(text) = config else {
            let report = "the text did not arrive; see \"berth logs meta\"".to_owned();
            let refused = Refused { report, keys: Vec::new() };
            return self.searched(Found::Refused { source, refused }, now, k);
        };
        self.searched(Found::Text { text, source }, now, k);
    }

    pub(super) fn config_refused(
        &mut self,
        source: String,
        refused: Refused,
        looked: Vec<String>,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        if self.looked(looked) {
            let source = text::bounded(&source, limits::TEXT_BYTES);
            self.searched(Found::Refused { source, refused }, now, k);
        }
    }

    pub(super) fn config_none(&mut self, looked: Vec<String>, now: Duration, k: &mut dyn Kernel) {
        if !self.looked(looked) {
            return;
        }
        let may_come = self.devices.may_come(now);
        match self.config.search().filter(|_| may_come) {
            Some(search) => {
                search.by = now.saturating_add(limits::CONFIG_SEARCH);
                search.wait = Wait::Disks;
                k.load_drivers();
            }
            None => self.searched(Found::Nothing, now, k),
        }
    }

    /// More disks may be there than when meta looked.
    pub(super) fn look_for_config_again(&mut self, now: Duration, k: &mut dyn Kernel) {
        let stopping = self.stopping.is_some();
        let search = self.config.search().filter(|search| search.wait == Wait::Disks && !stopping);
        if let Some(search) = search {
            search.wait = Wait::Again;
            self.look_at_config(now, k);
        }
    }

    /// The search has ended: at the first one's end the machine gets its config, at a later one's the next boot.
    fn searched(&mut self, found: Found, now: Duration, k: &mut dyn Kernel) {
        let found = match found {
            Found::Text { text, source } => match self.check_config(&text) {
                Ok(config) if !self.config.is_settled() => {
                    let change = Change::of_config(format!("found by {source}"), Verdict::Trying);
                    let of = Text { config: &config, text: &text, current: true };
                    let number = self.record(change, Some(&of), k);
                    (self.storing_config, self.history.in_force) = (Some(number), Some(number));
                    return self.apply(config, &text, &source, now, k);
                }
                Ok(config) => {
                    self.collecting.keep_for_next_boot(&config);
                    Found::Config { config: Box::new(config), text, source }
                }
                Err(refused) => Found::Refused { source, refused },
            },
            other => other,
        };
        if self.config.is_settled() {
            return self.reloaded(found, k);
        }
        match found {
            Found::Refused { source, refused } => self.refuse(&source, refused, now, k),
            Found::Nothing => self.no_config(now, k),
            Found::Failed(why) => {
                self.config_status.state = "none".into();
                self.give_up_config(&why, now, k);
            }
            Found::Text { .. } | Found::Config { .. } => {}
        }
    }

    fn no_config(&mut self, now: Duration, k: &mut dyn Kernel) {
        self.config_status.state = "none".into();
        k.say(console::config_none());
        for line in &self.config_status.looked {
            k.say(console::report(line));
        }
        self.settle_config(MachineConfig::default(), now, k);
    }

    /// Notes where meta has looked; false if nobody is waiting for the answer any more.
    fn looked(&mut self, looked: Vec<String>) -> bool {
        if self.config.search().is_none() || self.stopping.is_some() {
            return false;
        }
        let lines = looked.iter().take(limits::LOOKED_LINES);
        let lines = lines.map(|line| text::bounded(line, limits::TEXT_BYTES)).collect();
        match self.config_status.reload.as_mut().filter(|_| self.config.is_settled()) {
            Some(reload) => reload.looked = lines,
            None => self.config_status.looked = lines,
        }
        true
    }

    fn apply(
        &mut self,
        config: MachineConfig,
        config_text: &[u8],
        source: &str,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        self.config_status.state = "applied".into();
        self.config_status.source = source.to_owned();
        self.config_status.sha256 = text::sha256(config_text);
        k.say(console::config_applied(source, &self.config_status.sha256, config.units.len()));
        self.settle_config(config, now, k);
    }

    fn refuse(&mut self, source: &str, refused: Refused, now: Duration, k: &mut dyn Kernel) {
        let report = text::bounded_lines(&refused.report, limits::REPORT_BYTES);
        self.config_status.state = "refused".into();
        self.config_status.source = source.to_owned();
        k.say(console::config_refused(source));
        for line in report.lines() {
            k.say(console::report(line));
        }
        self.config_status.report = report;
        self.config_status.note = match refused.keys.len() {
            0 => "nobody can come in: no access key of it is beyond doubt".into(),
            1 => "1 access key of it is valid until a config is applied".into(),
            count => format!("{count} access keys of it are valid until a config is applied"),
        };
        k.say(console::config_note(&self.config_status.note));
        self.settle_config(MachineConfig { access_keys: refused.keys, ..MachineConfig::default() }, now, k);
    }

    fn give_up_config(&mut self, why: &str, now: Duration, k: &mut dyn Kernel) {
        k.say(console::config_gave_up(why));
        self.config_status.report = why.to_owned();
        self.settle_config(MachineConfig::default(), now, k);
    }

    /// Puts a config in force, the default one too.
    fn settle_config(&mut self, config: MachineConfig, now: Duration, k: &mut dyn Kernel) {
        if let Phase::Reading(Search { from, .. }) = self.config {
            self.note_time("machine config", from, now, &self.config_status.state.clone());
        }
        self.config = Phase::Settled;
        self.look_again = true;
        let (network, units) = self.take_machine(config, k);
        self.network = network;
        self.tell_network(k);
        self.allow_for_trial();
        if self.facts.rescue.is_some() {
            return;
        }
        for unit in instances::expand(units) {
            let name = unit.name.clone();
            // The check refuses a name that a system unit has; a unit of the OS is never replaced.
            if let std::collections::btree_map::Entry::Vacant(entry) = self.units.entry(name.clone()) {
                entry.insert(Run::new(unit));
                self.want(&name);
            }
        }
        self.take_order(Graph::new(self.units.values().map(|run| &run.unit)));
        self.tell_names(k);
    }

    /// Puts in force what a config says of the machine itself, but for its network; that and the units are given back.
    pub(super) fn take_machine(
        &mut self,
        config: MachineConfig,
        k: &mut dyn Kernel,
    ) -> (MachineNetwork, Vec<Unit>) {
        if let Some(name) = config.hostname.filter(|name| *name != self.hostname) {
            k.hostname(&name);
            k.say(console::hostname(&name));
            self.hostname = name;
        }
        self.keys = config.access_keys;
        self.registries = config.registries;
        self.update.settings = config.update;
        self.time_servers = config.time_servers;
        self.tell_access(k);
        self.tell_time(k);
        self.tell_registries(k);
        (config.network, config.units)
    }

    /// The units' order from now on; the check has seen that there is one.
    pub(super) fn take_order(&mut self, order: Result<Graph, Report>) {
        match order {
            Ok(graph) => self.graph = graph,
            Err(report) => log::error!("the order of the units is ignored: {report}"),
        }
    }

    pub(super) fn config_stored(&mut self, result: Result<(), String>, k: &mut dyn Kernel) {
        self.storing_config = None;
        if result.is_ok() {
            k.config_kept();
        }
        if self.applied_stored(&result, k) || self.reload_stored(&result, k) {
            return;
        }
        if let Err(why) = result {
            let why = text::bounded(&why, limits::TEXT_BYTES);
            k.say(console::config_not_stored(&why));
            self.config_status.report = format!("applied, but not kept: {why}");
        }
    }

    /// Meta that ended without an answer will give none; meta that is to look again is started when it has ended.
    pub(super) fn look_at_config(&mut self, now: Duration, k: &mut dyn Kernel) {
        let (Some(search), None) = (self.config.search(), &self.stopping) else { return };
        let Some(run) = self.units.get(META) else { return };
        let ended = matches!(run.life.state, State::Failed | State::Finished);
        match search.wait {
            Wait::Again if ended => {
                search.wait = Wait::Meta;
                self.want(META);
            }
            // Unless its start is still in the queue.
            Wait::Meta if ended && !self.events.iter().any(|(unit, _)| unit == META) => {
                let reason = run.reason(now);
                let reason = if reason.is_empty() { "no reason" } else { &reason };
                let why = format!("meta ended without an answer: {reason}");
                self.searched(Found::Failed(why), now, k);
            }
            Wait::Meta | Wait::Disks | Wait::Again => {}
        }
    }

    pub(super) fn tick_config(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.stopping.is_some() || self.config.next().is_none_or(|by| by > now) {
            return;
        }
        if self.config.search().is_some_and(|search| search.wait != Wait::Meta) {
            return self.searched(Found::Nothing, now, k);
        }
        self.event(META, Event::Stop);
        let why = format!("meta gave no answer within {} s", limits::CONFIG_SEARCH.as_secs());
        self.searched(Found::Failed(why), now, k);
    }
}
