//! The machine config: kept from an earlier boot, or looked for by meta; checked as a whole, kept, applied once.
//!
//! 1. A kept config that passes the check is applied, and its source is not asked again, unless it says that it is another
//!    machine's: its `[instance]` has another SMBIOS UUID. Then the sources are asked before any of it is applied.
//! 2. A kept config that does not pass (this slot is older than the one that took it) is reported; no user units.
//! 3. None kept: meta looks for one, at most [`limits::CONFIG_SEARCH`]. What it finds is checked here again, applied,
//!    and kept beside: written, synced, renamed. Cut off in between, the next boot looks again and finds the same.
//! 4. It finds none, and the firmware says that this is a cloud: the network comes up by DHCP, and the unit `cloud` asks
//!    there, until [`Facts::metadata_deadline`](super::Facts::metadata_deadline).
//! 5. Refused, none, or no answer: said on the console; the network comes up by DHCP, no units. Of a refused config the host's
//!    name, the network and the keys that are beyond doubt are used until another one is applied; it is not kept, and the next
//!    boot looks again. Of another machine, the kept config is used if nothing was found.

use super::generations::{Change, Text};
use super::glance::Glance;
use super::reload::Found;
use super::{CLOUD, META, Refused, Run, Supervisor, health};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::control::ToWorker;
use berth_units::diag::Report;
use berth_units::generation::Verdict;
use berth_units::graph::Graph;
use berth_units::instances;
use berth_units::lifecycle::{Event, State};
use berth_units::model::{Instance, MachineConfig, MachineNetwork, Unit};
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
    /// Cloud's answer; nothing is nearer.
    Cloud,
}

/// What meta or cloud says beside its answer.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Where it looked, one line each.
    pub(super) looked: Vec<String>,
    /// What of a config has no effect, one line each.
    pub(super) notes: Vec<String>,
}

impl Phase {
    pub(super) fn next(self) -> Option<Duration> {
        match self {
            Self::Reading(search) | Self::Again(search) => Some(search.by),
            Self::Unread | Self::Settled => None,
        }
    }

    /// The network is needed to go on.
    pub(super) fn asks_cloud(self) -> bool {
        matches!(self, Self::Reading(search) | Self::Again(search) if search.wait == Wait::Cloud)
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
        let looks = self.units.contains_key(META);
        match kept.map(|text| (text, self.check_config(text))) {
            Some((text, Ok(config))) => match config.instance.clone().filter(|_| looks) {
                Some(of) if self.is_another(&of) => {
                    k.say(console::config_of_another(&instance(&of)));
                    let number = self.history.in_force.take();
                    self.kept_of_another = Some((text.to_vec(), config, number));
                    self.search(now);
                }
                _ => self.apply(config, text, "state", now, k),
            },
            Some((_, Err(refused))) => self.refuse("state", refused, now, k),
            None if !looks => {
                self.config_status.state = "none".into();
                self.give_up_config("nothing is looked for in this boot", now, k);
            }
            None => self.search(now),
        }
    }

    fn search(&mut self, now: Duration) {
        self.config_status.state = "reading".into();
        self.config = Phase::Reading(Search::begin(now));
        self.want(META);
    }

    /// The kept config was made for a machine with another UUID. Where one of them is not known, it is this machine's.
    fn is_another(&self, of: &Instance) -> bool {
        matches!((&of.uuid, &self.facts.uuid), (Some(then), Some(now)) if then != now)
    }

    /// Meta or cloud is there, and is told what to do.
    pub(super) fn tell_searcher(&mut self, unit: &str, now: Duration, k: &mut dyn Kernel) {
        let Some(search) = self.config.search().copied() else {
            if unit == META && self.glance == Glance::Asked {
                k.tell(META, &ToWorker::Glance, None);
            }
            return;
        };
        let uuid = self.facts.uuid.clone();
        match (unit, search.wait, self.cloud.clone()) {
            (META, Wait::Meta, _) => _ = k.tell(META, &ToWorker::Look { uuid }, None),
            (CLOUD, Wait::Cloud, Some(cloud)) => {
                let left = search.by.saturating_sub(now).saturating_sub(limits::CONFIG_SEARCH);
                // Up to whole seconds: none is lost to the start.
                let deadline_s = left.saturating_add(Duration::from_millis(999)).as_secs().max(1);
                k.tell(CLOUD, &ToWorker::AskCloud { cloud, uuid, deadline_s }, None);
            }
            _ => {}
        }
    }

    pub(super) fn check_config(&self, text: &[u8]) -> Result<MachineConfig, Refused> {
        (self.check)(text, &self.system_units())
    }

    /// What is wrong with this text of a config, if anything is.
    pub fn check_text(&self, text: &[u8]) -> Result<(), String> {
        self.check_config(text).map(drop).map_err(|refused| refused.report)
    }

    pub(super) fn system_units(&self) -> Vec<Unit> {
        self.units.values().filter(|run| run.is_system()).map(|run| run.unit.clone()).collect()
    }

    /// Another config is being looked for, or written to the disk.
    pub(super) fn config_comes(&self) -> bool {
        self.storing_config.is_some() || self.config != Phase::Settled
    }

    /// It is this worker that is waited for.
    fn awaits(&mut self, unit: &str) -> bool {
        let stopping = self.stopping.is_some();
        self.config
            .search()
            .is_some_and(|search| (search.wait == Wait::Cloud) == (unit == CLOUD) && !stopping)
    }

    /// `text`: the config itself, or what is used of one that was refused.
    pub(super) fn config_found(
        &mut self,
        (unit, source): (&str, &str),
        told: Told,
        text: Option<Vec<u8>>,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        if !self.awaits(unit) {
            return;
        }
        self.looked(unit, told);
        let source = text::bounded(source, limits::TEXT_BYTES);
        let Some(text) = text else {
            let report = format!("the text did not arrive; see \"berth logs {unit}\"");
            let refused = Refused { report, salvage: Vec::new() };
            return self.searched(Found::Refused { source, refused }, now, k);
        };
        self.searched(Found::Text { text, source }, now, k);
    }

    pub(super) fn config_refused(
        &mut self,
        (unit, source): (&str, &str),
        refused: Refused,
        told: Told,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        if self.awaits(unit) {
            self.looked(unit, told);
            let source = text::bounded(source, limits::TEXT_BYTES);
            self.searched(Found::Refused { source, refused }, now, k);
        }
    }

    pub(super) fn config_none(
        &mut self,
        unit: &str,
        told: Told,
        cloud: Option<String>,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        if !self.awaits(unit) {
            return;
        }
        self.looked(unit, told);
        if unit == CLOUD {
            return self.searched(Found::Nothing, now, k);
        }
        self.cloud = cloud.map(|name| text::bounded(&name, limits::TEXT_BYTES));
        let may_come = self.devices.may_come(now);
        match self.config.search().filter(|_| may_come) {
            Some(search) => {
                search.by = now.saturating_add(limits::CONFIG_SEARCH);
                search.wait = Wait::Disks;
                k.load_drivers();
            }
            None => self.nothing_near(now, k),
        }
    }

    /// Neither the firmware nor a disk has a config.
    fn nothing_near(&mut self, now: Duration, k: &mut dyn Kernel) {
        let deadline = self.facts.metadata_deadline;
        let known = self.units.contains_key(CLOUD);
        let Some(cloud) = self.cloud.clone().filter(|_| known) else {
            return self.searched(Found::Nothing, now, k);
        };
        let Some(search) = self.config.search() else { return };
        search.wait = Wait::Cloud;
        // It gives up by itself before.
        search.by = now.saturating_add(deadline).saturating_add(limits::CONFIG_SEARCH);
        k.say(console::cloud_asked(&cloud, deadline));
        // That a cloud is slow is no fault of this slot.
        if let health::Health::Pending { by } = &mut self.health {
            *by = by.saturating_add(deadline);
        }
        self.tell_network(k);
        self.want(CLOUD);
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
                    self.kept_of_another = None;
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
            Found::Refused { source, refused } => {
                self.kept_of_another = None;
                self.refuse(&source, refused, now, k);
            }
            Found::Nothing if self.kept_of_another.is_some() => self.keep_to_another("nothing found", now, k),
            Found::Failed(why) if self.kept_of_another.is_some() => self.keep_to_another(&why, now, k),
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
        for note in &self.config_status.notes {
            k.say(console::config_note(note));
        }
        self.settle_config(MachineConfig::default(), now, k);
    }

    /// The config that another machine has left is all there is.
    fn keep_to_another(&mut self, why: &str, now: Duration, k: &mut dyn Kernel) {
        let Some((text, config, number)) = self.kept_of_another.take() else { return };
        self.history.in_force = number;
        self.config_status.note = format!(
            "it was kept by another machine (its UUID differs from this one's); looked for again: {why}"
        );
        k.say(console::config_note(&self.config_status.note));
        for line in &self.config_status.looked {
            k.say(console::report(line));
        }
        self.apply(config, &text, "state", now, k);
    }

    /// Notes where meta, or cloud after it, has looked.
    fn looked(&mut self, unit: &str, told: Told) {
        let bounded = |lines: Vec<String>, most| -> Vec<String> {
            lines.iter().take(most).map(|line| text::bounded(line, limits::TEXT_BYTES)).collect()
        };
        let lines = bounded(told.looked, limits::LOOKED_LINES);
        let notes = bounded(told.notes, limits::NOTES);
        let (looked, all_notes) =
            match self.config_status.reload.as_mut().filter(|_| self.config.is_settled()) {
                Some(reload) => (&mut reload.looked, &mut reload.notes),
                None => (&mut self.config_status.looked, &mut self.config_status.notes),
            };
        if unit != CLOUD {
            looked.clear();
            all_notes.clear();
        }
        looked.extend(lines);
        all_notes.extend(notes);
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
        for note in &self.config_status.notes {
            k.say(console::config_note(note));
        }
        if config.access_keys.is_empty() && config.instance.is_some() {
            "nobody can come in: neither the config nor the metadata has a usable access key"
                .clone_into(&mut self.config_status.note);
            k.say(console::config_note(&self.config_status.note));
        }
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
        for note in &self.config_status.notes {
            k.say(console::config_note(note));
        }
        let used = self.salvaged(&refused.salvage);
        let network = if used.network == MachineNetwork::default() { "" } else { ", as its network is" };
        self.config_status.note = match used.access_keys.len() {
            0 => "nobody can come in: no access key of it is beyond doubt".into(),
            1 => format!("1 access key of it is valid until a config is applied{network}"),
            count => format!("{count} access keys of it are valid until a config is applied{network}"),
        };
        k.say(console::config_note(&self.config_status.note));
        self.settle_config(used, now, k);
    }

    /// What of a refused config makes the machine reachable, and nothing else.
    fn salvaged(&self, text: &[u8]) -> MachineConfig {
        if text.is_empty() {
            return MachineConfig::default();
        }
        match self.check_config(text) {
            Ok(MachineConfig { hostname, access_keys, network, instance, .. }) => {
                MachineConfig { hostname, access_keys, network, instance, ..MachineConfig::default() }
            }
            Err(refused) => {
                log::warn!("what was to be used of the refused config is none: {}", refused.report);
                MachineConfig::default()
            }
        }
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
        self.config_status.instance = config.instance.as_ref().map(instance).unwrap_or_default();
        self.instance = config.instance;
        if self.facts.medium && !self.facts.installs_nothing {
            self.install.waiting = Some(config.install).filter(|install| install.disk.is_some());
        }
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
        self.install_by_config(k);
        if self.applied_stored(&result, k) || self.reload_stored(&result, k) {
            return;
        }
        if let Err(why) = result {
            let why = text::bounded(&why, limits::TEXT_BYTES);
            k.say(console::config_not_stored(&why));
            self.config_status.report = format!("applied, but not kept: {why}");
        }
    }

    /// Meta or cloud that ended without an answer will give none; meta that is to look again is started when it has ended.
    pub(super) fn look_at_config(&mut self, now: Duration, k: &mut dyn Kernel) {
        let (Some(search), None) = (self.config.search(), &self.stopping) else { return };
        let unit = if search.wait == Wait::Cloud { CLOUD } else { META };
        let Some(run) = self.units.get(unit) else { return };
        let ended = matches!(run.life.state, State::Failed | State::Finished);
        match search.wait {
            Wait::Again if ended => {
                search.wait = Wait::Meta;
                self.want(META);
            }
            // Unless its start is still in the queue.
            Wait::Meta | Wait::Cloud if ended && !self.events.iter().any(|(other, _)| other == unit) => {
                let reason = run.reason(now);
                let reason = if reason.is_empty() { "no reason" } else { &reason };
                let why = format!("{unit} ended without an answer: {reason}");
                self.searched(Found::Failed(why), now, k);
            }
            Wait::Meta | Wait::Disks | Wait::Again | Wait::Cloud => {}
        }
    }

    pub(super) fn tick_config(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.stopping.is_some() || self.config.next().is_none_or(|by| by > now) {
            return;
        }
        let Some(wait) = self.config.search().map(|search| search.wait) else { return };
        let (unit, limit) = match wait {
            Wait::Disks | Wait::Again => return self.nothing_near(now, k),
            Wait::Meta => (META, limits::CONFIG_SEARCH),
            Wait::Cloud => (CLOUD, self.facts.metadata_deadline),
        };
        self.event(unit, Event::Stop);
        let why = format!("{unit} gave no answer within {} s", limit.as_secs());
        self.searched(Found::Failed(why), now, k);
    }
}

/// An instance in words: `i-0123456789abcdef0 (ec2)`.
fn instance(instance: &Instance) -> String {
    match &instance.id {
        Some(id) => format!("{id} ({})", instance.source),
        None => format!("({})", instance.source),
    }
}
