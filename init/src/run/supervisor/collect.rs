//! Images that nothing needs any more: removed by the store, once in a boot that was found healthy. What is needed
//! is said here: the image of every unit that there is, and of those that the next boot will have; and the layers on which
//! containers run now. Without a config in force, and in rescue, nobody knows what is needed, and nothing is removed.

use super::{STORE, Supervisor};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::control::ToWorker;
use berth_units::lifecycle::Event;
use berth_units::model::{MachineConfig, SYSTEM_IMAGE};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Collecting {
    phase: Phase,
    /// The store has died of it so often.
    deaths: u32,
    /// Images of a config that is in force from the next boot.
    next_boot: BTreeSet<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing to do, in this boot.
    #[default]
    Idle,
    /// When nobody wants an image at that moment.
    Due(Duration),
    /// The store is to do it, and has to be done by then.
    Wanted(Duration),
    /// The same, and it has been told.
    Asked(Duration),
}

/// What the store has done.
pub(super) struct Collected {
    pub(super) images: u64,
    pub(super) layers: u64,
    pub(super) bytes: u64,
    pub(super) trouble: Option<String>,
}

impl Collecting {
    pub(super) fn next(&self) -> Option<Duration> {
        match self.phase {
            Phase::Idle => None,
            Phase::Due(at) | Phase::Wanted(at) | Phase::Asked(at) => Some(at),
        }
    }

    /// The store has it to do. It works in the fetcher's folder then, so nothing is fetched meanwhile.
    pub(super) fn is_on(&self) -> bool {
        matches!(self.phase, Phase::Wanted(_) | Phase::Asked(_))
    }

    /// A config is kept for the next boot.
    pub(super) fn keep_for_next_boot(&mut self, config: &MachineConfig) {
        self.next_boot.extend(config.units.iter().map(|unit| unit.container.image.clone()));
    }
}

impl Supervisor {
    /// The boot was found healthy.
    pub(super) fn plan_collection(&mut self, now: Duration) {
        if self.facts.rescue.is_none() && self.config_status.state == "applied" {
            self.collecting.phase = Phase::Due(now.saturating_add(limits::COLLECT_AFTER));
        }
    }

    pub(super) fn tick_collection(&mut self, now: Duration, k: &mut dyn Kernel) {
        match self.collecting.phase {
            Phase::Due(at) if at <= now => {
                if self.stopping.is_some() || !self.units.contains_key(STORE) {
                    self.collecting.phase = Phase::Idle;
                } else if self.images.is_busy() || self.fetching.is_busy() {
                    self.collecting.phase = Phase::Due(now.saturating_add(limits::COLLECT_AGAIN));
                } else {
                    self.collecting.phase = Phase::Wanted(now.saturating_add(limits::COLLECT));
                    self.images.keep_store();
                    self.want(STORE);
                    self.send_collection(k);
                }
            }
            Phase::Wanted(by) | Phase::Asked(by) if by <= now => {
                self.give_up_collection(&format!("not done within {} s", limits::COLLECT.as_secs()), now, k);
            }
            _ => {}
        }
    }

    /// Tells the store, if it is there to be told.
    pub(super) fn send_collection(&mut self, k: &mut dyn Kernel) {
        let stays = self.units.get(STORE).is_some_and(|run| run.life.wanted());
        let Phase::Wanted(by) = self.collecting.phase else { return };
        if !self.connected.contains(STORE) || !stays {
            return;
        }
        self.collecting.phase = Phase::Asked(by);
        for (reference, layers) in self.needed() {
            if !k.tell(STORE, &ToWorker::InUse { reference, layers }, None) {
                self.collecting.phase = Phase::Wanted(by);
                return;
            }
        }
        k.tell(STORE, &ToWorker::Collect, None);
    }

    fn needed(&self) -> BTreeMap<String, Vec<String>> {
        let mut needed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for run in self.units.values().filter(|run| run.unit.container.image != SYSTEM_IMAGE) {
            let layers = needed.entry(run.unit.container.image.clone()).or_default();
            let image = run.image.as_ref().filter(|_| run.life.state.has_run());
            for layer in image.iter().flat_map(|image| &image.layers) {
                if !layers.contains(layer) {
                    layers.push(layer.clone());
                }
            }
        }
        for reference in &self.collecting.next_boot {
            needed.entry(reference.clone()).or_default();
        }
        needed
    }

    /// The store has done it.
    pub(super) fn collected(&mut self, done: &Collected, now: Duration, k: &mut dyn Kernel) {
        if !matches!(self.collecting.phase, Phase::Asked(_)) {
            return;
        }
        if done.images + done.layers > 0 {
            k.say(console::collected(done.images, done.layers, done.bytes));
        }
        if let Some(why) = &done.trouble {
            k.say(console::not_collected(&text::bounded(why, limits::TEXT_BYTES)));
        }
        self.collecting.phase = Phase::Idle;
        self.store_is_idle(now);
        self.start_fetches(now, k);
    }

    /// The store's connection is gone: another one has to be told again.
    pub(super) fn collection_cut_off(&mut self, now: Duration, k: &mut dyn Kernel) {
        let Phase::Asked(by) = self.collecting.phase else { return };
        self.collecting.phase = Phase::Wanted(by);
        self.collecting.deaths += 1;
        if self.collecting.deaths >= limits::COLLECT_TRIES {
            self.give_up_collection("the store ended before it was done; see \"berth logs store\"", now, k);
        } else if self.stopping.is_none() {
            // It may have been told to stop, for another reason.
            self.want(STORE);
        }
    }

    /// It cannot be done in this boot. What is half done, the store's next start tidies up.
    pub(super) fn give_up_collection(&mut self, why: &str, now: Duration, k: &mut dyn Kernel) {
        if !self.collecting.is_on() {
            return;
        }
        k.say(console::not_collected(why));
        self.collecting.phase = Phase::Idle;
        self.event(STORE, Event::Stop);
        if self.images.is_busy() && self.stopping.is_none() {
            self.want(STORE);
        }
        self.start_fetches(now, k);
    }
}
