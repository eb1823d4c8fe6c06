//! The machine's history: what a change is called, which number it gets, and what became of it. Every change of the machine
//! is [`record`](Supervisor::record)ed before or as it takes effect, and [`judge`](Supervisor::judge)d when it is known
//! whether it stays. Two parts change, each for itself ([`What`]): the config, whose generation in force is told
//! here, and the system in the slots, of which this knows nothing but what it is told.
//!
//! ```text
//!   record ─▶ trying ─▶ judge ─▶ committed ─▶ (another one follows) ─▶ superseded
//!                          └───▶ reverted
//! ```
//!
//! On disk: [`crate::run::generations`].

use super::Supervisor;
use crate::run::generations::{Kept, Write};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::control::Reply;
use berth_units::generation::{Generation, History, Verdict, What};
use berth_units::model::{MachineConfig, SYSTEM_IMAGE};
use std::collections::BTreeMap;

/// Why a config that was tried is not in force after a boot.
const NOT_CONFIRMED: &str = "the machine was started again before it was confirmed";
/// Why one that was to stay is not.
const CUT_OFF: &str = "the power was cut before it was in force";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Generations {
    /// Oldest first.
    all: Vec<Generation>,
    /// The largest number that has been used.
    last: u64,
    /// The one whose config is in force; `None` if that was not kept.
    pub(super) in_force: Option<u64>,
}

/// A change of the machine.
#[derive(Debug)]
pub(super) struct Change {
    /// Its part.
    pub(super) what: What,
    /// Who or what wants it.
    pub(super) why: String,
    /// The slot that runs, or is to run; empty: this one, with its version and root hash.
    pub(super) slot: String,
    /// The system in it.
    pub(super) version: String,
    /// Its root hash, hex; may be empty.
    pub(super) root_hash: String,
    /// [`Verdict::Trying`], or [`Verdict::Committed`] if there is nothing to wait for.
    pub(super) state: Verdict,
}

/// A config that a generation is about.
pub(super) struct Text<'a> {
    pub(super) config: &'a MachineConfig,
    pub(super) text: &'a [u8],
    /// It is in force from now on, or from the next boot.
    pub(super) current: bool,
}

impl Change {
    /// Of the config, on the system that runs.
    pub(super) fn of_config(why: impl Into<String>, state: Verdict) -> Self {
        Self {
            what: What::Config,
            why: why.into(),
            slot: String::new(),
            version: String::new(),
            root_hash: String::new(),
            state,
        }
    }
}

impl Generations {
    pub(super) fn get(&self, number: u64) -> Option<&Generation> {
        self.all.iter().find(|generation| generation.number == number)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Generation> {
        self.all.iter_mut().find(|generation| generation.number == number)
    }

    /// Where "back" leads from the config in force: to the last one before it that stayed and was another.
    pub(super) fn before(&self) -> Option<&Generation> {
        let now = self.get(self.in_force?)?;
        self.all.iter().rev().find(|g| {
            g.what == What::Config
                && g.state == Verdict::Committed
                && g.number < now.number
                && g.config_sha256 != now.config_sha256
        })
    }

    /// As operators are told it.
    fn told(&self) -> History {
        let newest_system =
            self.all.iter().rev().find(|g| g.what == What::System && g.state == Verdict::Committed);
        let over = |g: &Generation| match g.what {
            What::Config => self.in_force.is_some_and(|now| g.number < now),
            What::System => newest_system.is_some_and(|newest| g.number < newest.number),
        };
        let generations = self.all.iter().map(|g| {
            let superseded = g.state != Verdict::Reverted && over(g);
            let state = if superseded { Verdict::Superseded } else { g.state };
            Generation { state, images: BTreeMap::new(), ..g.clone() }
        });
        History { in_force: self.in_force, generations: generations.collect() }
    }
}

impl Supervisor {
    /// The history that an earlier boot kept.
    pub fn set_history(&mut self, kept: Kept) {
        self.history = Generations { last: kept.last, in_force: kept.current, all: kept.generations };
    }

    /// What was not in force when the machine went down does not become so by itself.
    pub(super) fn begin_history(&mut self, k: &mut dyn Kernel) {
        let now = self.history.in_force.unwrap_or_default();
        let lost: Vec<(u64, &str)> = self
            .history
            .all
            .iter()
            .filter(|g| g.what == What::Config && g.number > now)
            .filter_map(|g| match g.state {
                Verdict::Trying => Some((g.number, NOT_CONFIRMED)),
                Verdict::Committed => Some((g.number, CUT_OFF)),
                _ => None,
            })
            .collect();
        for (number, why) in lost {
            self.judge(number, Verdict::Reverted, why, k);
        }
    }

    /// Writes a change into the history, and gives its number. `text`: the config that it is about; without one, a copy of
    /// the config in force goes with it, so that a machine can go back to what ran together. What the disk says
    /// comes back as [`Input::GenerationWritten`](crate::run::kernel::Input::GenerationWritten); a failure is said on
    /// the console.
    pub(super) fn record(&mut self, change: Change, text: Option<&Text<'_>>, k: &mut dyn Kernel) -> u64 {
        self.history.last = self.history.last.saturating_add(1);
        let number = self.history.last;
        let (config_sha256, images) = match text {
            Some(of) => (text::sha256(of.text), self.images_of(of.config)),
            None => match self.history.in_force.and_then(|now| self.history.get(now)) {
                Some(now) => (now.config_sha256.clone(), now.images.clone()),
                None => (self.config_status.sha256.clone(), BTreeMap::new()),
            },
        };
        let own = change.slot.is_empty();
        let facts = &self.facts;
        let record = Generation {
            format: Generation::format(),
            number,
            made: k.wall().as_secs(),
            what: change.what,
            why: text::bounded(&change.why, limits::TEXT_BYTES),
            slot: if own { facts.slot.clone() } else { change.slot },
            version: if own { facts.version.clone() } else { change.version },
            root_hash: if own { facts.root_hash.clone() } else { change.root_hash },
            config_sha256,
            images,
            state: change.state,
            reason: String::new(),
        };
        self.history.all.push(record.clone());
        self.forget_old_generations();
        let current = text.is_some_and(|of| of.current);
        let committed = current && change.state == Verdict::Committed;
        k.write_generation(Write { record, config: text.map(|of| of.text.to_vec()), current, committed });
        number
    }

    /// Says what became of a change. A config that is committed is in force from then on, at the next boot too.
    pub(super) fn judge(&mut self, number: u64, state: Verdict, reason: &str, k: &mut dyn Kernel) {
        self.judge_with(number, state, reason, None, k);
    }

    /// The same, with the config's text, should it not be on the disk yet.
    pub(super) fn judge_with(
        &mut self,
        number: u64,
        state: Verdict,
        reason: &str,
        config: Option<Vec<u8>>,
        k: &mut dyn Kernel,
    ) {
        let Some(generation) = self.history.get_mut(number) else { return };
        generation.state = state;
        generation.reason = text::bounded(reason, limits::TEXT_BYTES);
        let record = generation.clone();
        let stays = record.what == What::Config && state == Verdict::Committed;
        k.write_generation(Write { record, config, current: stays, committed: stays });
    }

    /// This boot was found healthy: so is the config that came up with it, if it still has to show that.
    pub(super) fn commit_config(&mut self, k: &mut dyn Kernel) {
        let now = self.history.in_force.filter(|_| self.unconfirmed.is_none());
        let Some(now) = now.and_then(|now| self.history.get(now)) else { return };
        if now.state != Verdict::Trying || self.config_status.state != "applied" {
            return;
        }
        let (number, mut images) = (now.number, now.images.clone());
        for (reference, digest) in &mut images {
            if let Some(found) = self.digest_of(reference) {
                *digest = found;
            }
        }
        if let Some(generation) = self.history.get_mut(number) {
            generation.images = images;
        }
        self.judge(number, Verdict::Committed, "", k);
    }

    /// It is on the disk, or not. What never came there is no part of the history.
    pub(super) fn generation_written(&mut self, number: u64, result: Result<(), String>, k: &mut dyn Kernel) {
        if self.storing_config == Some(number) {
            if result.is_err() && self.unconfirmed.is_none() {
                self.history.all.retain(|generation| generation.number != number);
                self.history.in_force = self.history.in_force.filter(|now| *now != number);
            }
            return self.config_stored(result, k);
        }
        if let Err(why) = result {
            k.say(console::generation_not_written(number, &text::bounded(&why, limits::TEXT_BYTES)));
        }
    }

    /// `berth history`.
    pub(super) fn history(&self) -> Reply {
        Reply::History(Box::new(self.history.told()))
    }

    /// The images that the config before needs: it can be gone back to.
    pub(super) fn images_to_go_back_to(&self) -> impl Iterator<Item = &String> {
        self.history.before().into_iter().flat_map(|generation| generation.images.keys())
    }

    fn images_of(&self, config: &MachineConfig) -> BTreeMap<String, String> {
        let references = config.units.iter().map(|unit| &unit.container.image);
        let references = references.filter(|image| *image != SYSTEM_IMAGE);
        references.map(|image| (image.clone(), self.digest_of(image).unwrap_or_default())).collect()
    }

    fn digest_of(&self, reference: &str) -> Option<String> {
        let images = self.units.values().filter_map(|run| run.image.as_ref());
        images.into_iter().find(|image| image.reference == reference).map(|image| image.digest.clone())
    }

    fn forget_old_generations(&mut self) {
        let now = self.history.in_force;
        while self.history.all.len() > limits::GENERATIONS {
            let Some(old) = self.history.all.iter().position(|g| Some(g.number) != now) else { return };
            self.history.all.remove(old);
        }
    }
}
