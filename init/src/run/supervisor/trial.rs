//! A new version proves itself, or does not.
//!
//! | where | when | what follows |
//! |---|---|---|
//! | the new slot, on trial | what was well before is so again, for `[update] settle` in one go | the slot is committed |
//! | | the boot's deadline, and twice that time, have passed | the verdict is kept, no try is left, reboot |
//! | the old slot | it runs although the other one was on trial | the version is quarantined, with the reason |
//! | | the units that were sick are so here, too | the verdict is withdrawn |
//!
//! A version that can say nothing (a panic, a hang, a power cut) leaves its tries and the step record.

use super::{Run, Supervisor, health};
use crate::run::kernel::Kernel;
use crate::run::trials::{Sick, Trial, Trials};
use crate::run::{console, limits, text};
use berth_units::generation::Verdict;
use std::collections::BTreeMap;
use std::time::Duration;

/// The judging of this boot.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// What is on trial, and what became of others.
    pub(super) trials: Trials,
    /// All has been well since then, with so many restarts of each unit.
    well: Option<(Duration, BTreeMap<String, u32>)>,
    /// Units that were sick in the slot that failed: how they are here is looked at then.
    compare: Option<Compare>,
}

#[derive(Debug)]
struct Compare {
    root_hash: String,
    version: String,
    units: Vec<String>,
    at: Duration,
}

impl Judge {
    pub(super) fn next(&self, settle: Duration) -> Option<Duration> {
        let settled = self.well.as_ref().map(|(since, _)| since.saturating_add(settle));
        settled.into_iter().chain(self.compare.as_ref().map(|compare| compare.at)).min()
    }

    /// Nothing more is waited for.
    pub(super) fn end(&mut self) {
        self.well = None;
    }

    /// The version that runs is on trial.
    pub(super) fn trial(&self, slot: &str) -> Option<&Trial> {
        self.trials.trial.as_ref().filter(|trial| trial.slot == slot)
    }
}

impl Supervisor {
    /// What earlier boots have left. Comes before [`Supervisor::begin`].
    pub fn set_trials(&mut self, trials: Trials) {
        self.trying.trials = trials;
    }

    /// What of the last trial can be told at the start of a boot.
    pub(super) fn begin_judging(&mut self, now: Duration, k: &mut dyn Kernel) {
        let Some(trial) = self.trying.trials.trial.clone() else { return };
        if trial.slot == self.facts.slot {
            // Judged when this boot is.
            return;
        }
        if self.facts.no_update.is_some() {
            // Started by somebody else than the loader, who knows nothing of trials.
            return;
        }
        self.trying.trials.trial = None;
        let version = &trial.version;
        if !self.facts.tried {
            if self.facts.trial_left {
                k.set_trial(false);
            }
            let why = "the machine went down before it could be put on trial";
            self.judge(trial.generation, Verdict::Reverted, why, k);
            self.trying.trials.last = format!("version {version} was not started: {why}");
        } else {
            let verdict = trial.verdict.clone();
            let reason = verdict.as_ref().map_or(&self.facts.other_went, |verdict| &verdict.reason).clone();
            let at = k.wall().as_secs();
            self.judge(trial.generation, Verdict::Reverted, &reason, k);
            self.trying.trials.put_in_quarantine(&trial, &reason, at);
            self.trying.trials.last = format!(
                "version {version} did not prove itself: {reason}; {} runs again",
                self.facts.version
            );
            let units = verdict.map(|verdict| verdict.units).unwrap_or_default();
            if !units.is_empty() {
                let at = now.saturating_add(self.facts.health_deadline);
                self.trying.compare =
                    Some(Compare { root_hash: trial.root_hash, version: trial.version, units, at });
            }
        }
        k.say(console::update(&self.trying.trials.last));
        k.store_trials(self.trying.trials.text());
    }

    /// The config is known, and with it how long a version has to be well.
    pub(super) fn allow_for_trial(&mut self) {
        let settle = self.update.settings.settle;
        if self.is_judged()
            && let health::Health::Pending { by } = &mut self.health
        {
            *by = by.saturating_add(2 * settle);
        }
        if let Some(compare) = &mut self.trying.compare {
            compare.at = compare.at.saturating_add(settle);
        }
    }

    /// The version that runs has to prove itself.
    pub(super) fn is_judged(&self) -> bool {
        self.facts.on_trial && self.trying.trial(&self.facts.slot).is_some()
    }

    /// There was a config before, and this version has none: it refused it, or found none.
    pub(super) fn lacks_config(&self) -> bool {
        let before = self.trying.trial(&self.facts.slot).is_some_and(|trial| trial.configured);
        before && self.config_status.state != "applied"
    }

    /// Units that a version is judged by.
    fn asked_of_trial(&self) -> impl Iterator<Item = &Run> {
        let before = self.trying.trial(&self.facts.slot).map_or(&[][..], |trial| &trial.units);
        self.units.values().filter(|run| health::counts(run) || before.contains(&run.unit.name))
    }

    /// Units that were well before the update and are not now. One that the config has no more is not missed.
    pub(super) fn sick_of_trial(&self) -> Vec<&Run> {
        let Some(trial) = self.trying.trial(&self.facts.slot) else { return Vec::new() };
        let runs = trial.units.iter().filter_map(|name| self.units.get(name));
        runs.filter(|run| !health::is_well(run)).collect()
    }

    /// Whether all that is to be well has been so for long enough; `well`: all that every boot is judged by is.
    pub(super) fn has_settled(&mut self, well: bool, now: Duration) -> bool {
        if self.facts.on_trial && self.facts.state_trouble.is_some() {
            // Nothing is known here of what was well before; the old version may still reach it.
            return false;
        }
        if !self.is_judged() {
            return well;
        }
        if !well || self.lacks_config() || !self.sick_of_trial().is_empty() {
            self.trying.well = None;
            return false;
        }
        let restarts: BTreeMap<String, u32> =
            self.asked_of_trial().map(|run| (run.unit.name.clone(), run.life.restarts)).collect();
        match &self.trying.well {
            Some((since, before)) if *before == restarts => {
                now >= since.saturating_add(self.update.settings.settle)
            }
            _ => {
                self.trying.well = Some((now, restarts));
                self.update.settings.settle.is_zero()
            }
        }
    }

    /// The version on trial has failed: what is known goes to the state partition.
    pub(super) fn fail_trial(&mut self, reason: &str, k: &mut dyn Kernel) {
        self.trying.end();
        if self.trying.trial(&self.facts.slot).is_none() {
            return;
        }
        let sick = self.asked_of_trial().filter(|run| !health::is_well(run));
        let units: Vec<String> = sick.map(|run| run.unit.name.clone()).collect();
        if let Some(trial) = &mut self.trying.trials.trial {
            let words =
                units.iter().map(|unit| (unit, k.last_lines(unit))).find(|(_, lines)| !lines.is_empty());
            let words = words.map(|(unit, lines)| format!("; the last of {unit}: {}", lines.join(" / ")));
            let reason = format!("{reason}{}", words.unwrap_or_default());
            let reason = text::bounded(&reason, limits::TEXT_BYTES);
            trial.verdict = Some(Sick { reason, units });
            k.store_trials(self.trying.trials.text());
        }
    }

    /// The running slot is committed.
    pub(super) fn pass_trial(&mut self, k: &mut dyn Kernel) {
        if self.trying.trial(&self.facts.slot).is_none() {
            return;
        }
        if let Some(trial) = self.trying.trials.trial.take() {
            self.trying.trials.let_go(&trial.root_hash);
            self.trying.trials.unproven = None;
            self.judge(trial.generation, Verdict::Committed, "", k);
            if let Some(root_hash) = &trial.back_from {
                let left =
                    Trial { version: trial.from.clone(), root_hash: root_hash.clone(), ..trial.clone() };
                let at = k.wall().as_secs();
                self.trying.trials.put_in_quarantine(&left, "an operator went back from it", at);
            }
            self.trying.trials.last = format!("version {} took the place of {}", trial.version, trial.from);
            k.say(console::update(&self.trying.trials.last));
            k.store_trials(self.trying.trials.text());
        }
    }

    /// What is waited for, for operators.
    pub(super) fn judging(&self, now: Duration) -> String {
        if !self.is_judged() || self.health.is_settled() {
            return String::new();
        }
        let settle = self.update.settings.settle;
        match &self.trying.well {
            Some((since, _)) => {
                let left = since.saturating_add(settle).saturating_sub(now);
                format!("everything is well; has to be so for {} s more", left.as_secs() + 1)
            }
            None => format!("waits for what was well before: {}", self.ill(now)),
        }
    }

    pub(super) fn tick_trial(&mut self, now: Duration, k: &mut dyn Kernel) {
        if let Some((since, _)) = &self.trying.well
            && since.saturating_add(self.update.settings.settle) <= now
        {
            self.look_again = true;
        }
        let Some(compare) = self.trying.compare.take_if(|compare| compare.at <= now) else { return };
        if self.stopping.is_some() || self.facts.rescue.is_some() || self.config_status.state != "applied" {
            return;
        }
        // Sick with the old version as well: the new one was not to blame.
        let sick = |name: &String| self.units.get(name).is_none_or(|run| !health::is_well(run));
        if compare.units.iter().all(sick) {
            self.trying.trials.let_go(&compare.root_hash);
            self.trying.trials.last = format!(
                "version {} was taken back because of {}, which is as sick with {}: it was not to blame and may be taken again",
                compare.version,
                compare.units.join(", "),
                self.facts.version
            );
            k.say(console::update(&self.trying.trials.last));
            k.store_trials(self.trying.trials.text());
        }
    }

    /// Units that are well now, and that somebody wants.
    pub(super) fn well_units(&self) -> Vec<String> {
        let well = |run: &&Run| {
            health::is_well(run) && (run.life.wanted() || run.life.state == super::State::Finished)
        };
        self.users().filter(well).map(|run| run.unit.name.clone()).collect()
    }
}
