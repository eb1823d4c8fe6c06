//! The machine config: kept from an earlier boot, or looked for by meta; checked as a whole, kept, applied once.
//!
//! 1. A kept config that passes the check is applied, and its source is not asked again.
//! 2. A kept config that does not pass (this slot is older than the one that took it) is reported; no user units.
//! 3. None kept: meta looks for one, at most [`limits::CONFIG_SEARCH`]. What it finds is checked here again, applied,
//!    and kept beside: written, synced, renamed. Cut off in between, the next boot looks again and finds the same.
//! 4. Refused, none, or no answer: said on the console; the network comes up by DHCP, nobody has access, no units.

use super::{META, Run, Supervisor};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::graph::Graph;
use berth_units::lifecycle::{Event, State};
use berth_units::model::{MachineConfig, Unit};
use std::time::Duration;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not begun.
    Unread,
    /// Meta is looking.
    Reading {
        /// Since.
        from: Duration,
        /// At most until.
        by: Duration,
        /// What for.
        wait: Wait,
    },
    /// Decided, one way or the other.
    Settled,
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
            Self::Reading { by, .. } => Some(by),
            Self::Unread | Self::Settled => None,
        }
    }

    pub(super) fn is_settled(self) -> bool {
        self == Self::Settled
    }
}

impl Supervisor {
    pub(super) fn begin_config(&mut self, kept: Option<&[u8]>, now: Duration, k: &mut dyn Kernel) {
        match kept {
            Some(text) => match self.check_config(text) {
                Ok(config) => self.apply(config, text, "state", now, k),
                Err(report) => self.refuse("state", &report, now, k),
            },
            None if !self.units.contains_key(META) => {
                self.config_status.state = "none".into();
                self.give_up_config("nothing is looked for in this boot", now, k);
            }
            None => {
                self.config_status.state = "reading".into();
                self.config = Phase::Reading {
                    from: now,
                    by: now.saturating_add(limits::CONFIG_SEARCH),
                    wait: Wait::Meta,
                };
                self.want(META);
            }
        }
    }

    fn check_config(&self, text: &[u8]) -> Result<MachineConfig, String> {
        let system: Vec<Unit> =
            self.units.values().filter(|r| r.is_system()).map(|r| r.unit.clone()).collect();
        (self.check)(text, &system)
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
        let Some(config_text) = config else {
            return self.refuse(&source, "the text did not arrive; see \"berth logs meta\"", now, k);
        };
        match self.check_config(&config_text) {
            Ok(config) => {
                k.store_config(&config_text, &source);
                self.apply(config, &config_text, &source, now, k);
            }
            Err(report) => self.refuse(&source, &report, now, k),
        }
    }

    pub(super) fn config_refused(
        &mut self,
        source: String,
        report: &str,
        looked: Vec<String>,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        if self.looked(looked) {
            self.refuse(&text::bounded(&source, limits::TEXT_BYTES), report, now, k);
        }
    }

    pub(super) fn config_none(&mut self, looked: Vec<String>, now: Duration, k: &mut dyn Kernel) {
        if !self.looked(looked) {
            return;
        }
        match self.config {
            Phase::Reading { from, .. } if self.devices.may_come(now) => {
                let by = now.saturating_add(limits::CONFIG_SEARCH);
                self.config = Phase::Reading { from, by, wait: Wait::Disks };
                k.load_drivers();
            }
            _ => self.no_config(now, k),
        }
    }

    /// More disks may be there than when meta looked.
    pub(super) fn look_for_config_again(&mut self, now: Duration, k: &mut dyn Kernel) {
        if let Phase::Reading { from, by, wait: Wait::Disks } = self.config
            && self.stopping.is_none()
        {
            self.config = Phase::Reading { from, by, wait: Wait::Again };
            self.look_at_config(now, k);
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
        let reading = matches!(self.config, Phase::Reading { .. }) && self.stopping.is_none();
        if reading {
            let lines = looked.iter().take(limits::LOOKED_LINES);
            self.config_status.looked = lines.map(|line| text::bounded(line, limits::TEXT_BYTES)).collect();
        }
        reading
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

    fn refuse(&mut self, source: &str, report: &str, now: Duration, k: &mut dyn Kernel) {
        let report = text::bounded_lines(report, limits::REPORT_BYTES);
        self.config_status.state = "refused".into();
        self.config_status.source = source.to_owned();
        k.say(console::config_refused(source));
        for line in report.lines() {
            k.say(console::report(line));
        }
        self.config_status.report = report;
        self.settle_config(MachineConfig::default(), now, k);
    }

    fn give_up_config(&mut self, why: &str, now: Duration, k: &mut dyn Kernel) {
        k.say(console::config_gave_up(why));
        self.config_status.report = why.to_owned();
        self.settle_config(MachineConfig::default(), now, k);
    }

    /// Puts a config in force, the default one too.
    fn settle_config(&mut self, config: MachineConfig, now: Duration, k: &mut dyn Kernel) {
        if let Phase::Reading { from, .. } = self.config {
            self.note_time("machine config", from, now, &self.config_status.state.clone());
        }
        self.config = Phase::Settled;
        self.look_again = true;
        if let Some(name) = config.hostname.filter(|name| *name != self.hostname) {
            k.hostname(&name);
            k.say(console::hostname(&name));
            self.hostname = name;
        }
        self.network = config.network;
        self.keys = config.access_keys;
        self.tell_network(k);
        self.tell_access(k);
        if self.facts.rescue.is_some() {
            return;
        }
        for unit in config.units {
            let name = unit.name.clone();
            // The check refuses a name that a system unit has; a unit of the OS is never replaced.
            if let std::collections::btree_map::Entry::Vacant(entry) = self.units.entry(name.clone()) {
                entry.insert(Run::new(unit));
                self.want(&name);
            }
        }
        match Graph::new(self.units.values().map(|run| &run.unit)) {
            Ok(graph) => self.graph = graph,
            // The check has looked at that.
            Err(report) => log::error!("the order of the units is ignored: {report}"),
        }
    }

    pub(super) fn config_stored(&mut self, result: Result<(), String>, k: &mut dyn Kernel) {
        if let Err(why) = result {
            let why = text::bounded(&why, limits::TEXT_BYTES);
            k.say(console::config_not_stored(&why));
            self.config_status.report = format!("applied, but not kept: {why}");
        }
    }

    /// Meta that ended without an answer will give none; meta that is to look again is started when it has ended.
    pub(super) fn look_at_config(&mut self, now: Duration, k: &mut dyn Kernel) {
        let Phase::Reading { from, by, wait } = self.config else { return };
        let Some(run) = self.units.get(META).filter(|_| self.stopping.is_none()) else { return };
        let ended = matches!(run.life.state, State::Failed | State::Finished);
        match wait {
            Wait::Again if ended => {
                self.config = Phase::Reading { from, by, wait: Wait::Meta };
                self.want(META);
            }
            Wait::Meta if ended && !self.events.iter().any(|(unit, _)| unit == META) => {
                self.config_status.state = "none".into();
                let reason = run.reason(now);
                let reason = if reason.is_empty() { "no reason" } else { &reason };
                let why = format!("meta ended without an answer: {reason}");
                self.give_up_config(&why, now, k);
            }
            Wait::Meta | Wait::Disks | Wait::Again => {}
        }
    }

    pub(super) fn tick_config(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.stopping.is_some() || self.config.next().is_none_or(|by| by > now) {
            return;
        }
        if matches!(self.config, Phase::Reading { wait: Wait::Disks | Wait::Again, .. }) {
            return self.no_config(now, k);
        }
        self.config_status.state = "none".into();
        self.event(META, Event::Stop);
        let why = format!("meta gave no answer within {} s", limits::CONFIG_SEARCH.as_secs());
        self.give_up_config(&why, now, k);
    }
}
