//! Images that nothing needs any more: removed by the store, once in a boot that was found healthy, and when an operator
//! says so. What is needed is said here: the image of every unit that there is, and of those that the next boot will have;
//! and the layers on which containers run now. Without a config in force, and in rescue, nobody knows what is needed, and nothing is removed.

use super::{STORE, Supervisor};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::control::{Sweep, ToWorker};
use berth_units::lifecycle::Event;
use berth_units::model::{MachineConfig, SYSTEM_IMAGE};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Collecting {
    phase: Phase,
    /// When the boot's own sweep is due.
    due: Option<Duration>,
    /// What is swept, and for which job.
    sweep: Option<(Sweep, Option<u64>)>,
    /// Operators' sweeps that wait, with their jobs.
    queue: VecDeque<(Sweep, u64)>,
    /// The store has died of it so often.
    deaths: u32,
    /// Images of a config that is in force from the next boot.
    next_boot: BTreeSet<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing to do.
    #[default]
    Idle,
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
            Phase::Idle => self.due,
            Phase::Wanted(by) | Phase::Asked(by) => Some(by),
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
        if self.knows_what_is_needed() {
            self.collecting.due = Some(now.saturating_add(limits::COLLECT_AFTER));
        }
    }

    fn knows_what_is_needed(&self) -> bool {
        self.facts.rescue.is_none() && self.config_status.state == "applied"
    }

    /// Why images are never removed here.
    pub(super) fn never_sweeps(&self) -> Option<&'static str> {
        if !self.knows_what_is_needed() {
            Some("nothing is removed in rescue, or without a config: what is needed is not known then")
        } else if !self.units.contains_key(STORE) {
            Some("this system has no image store (unit \"store\")")
        } else {
            None
        }
    }

    /// An operator's sweep, as soon as no image is being pulled or unpacked.
    pub(super) fn queue_sweep(&mut self, sweep: Sweep, job: u64) {
        self.collecting.queue.push_back((sweep, job));
        self.look_again = true;
    }

    /// Nobody is at work on images.
    fn is_free_to_sweep(&self) -> bool {
        self.stopping.is_none()
            && self.collecting.phase == Phase::Idle
            && !self.images.is_busy()
            && !self.fetching.is_busy()
            && !self.jobs.loads()
    }

    pub(super) fn look_at_sweeps(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.is_free_to_sweep()
            && let Some((sweep, job)) = self.collecting.queue.pop_front()
        {
            self.jobs.begin_sweep(job);
            self.sweep(sweep, Some(job), now, k);
        }
    }

    /// Gets the store to do it.
    fn sweep(&mut self, sweep: Sweep, job: Option<u64>, now: Duration, k: &mut dyn Kernel) {
        self.collecting.phase = Phase::Wanted(now.saturating_add(limits::COLLECT));
        self.collecting.sweep = Some((sweep, job));
        self.collecting.deaths = 0;
        self.idle.forget(STORE);
        self.want(STORE);
        self.send_collection(k);
    }

    pub(super) fn tick_collection(&mut self, now: Duration, k: &mut dyn Kernel) {
        match self.collecting.phase {
            Phase::Idle if self.collecting.due.is_some_and(|at| at <= now) => {
                self.collecting.due = None;
                if self.is_free_to_sweep() && self.units.contains_key(STORE) {
                    self.sweep(Sweep::Unneeded, None, now, k);
                } else if self.stopping.is_none() {
                    self.collecting.due = Some(now.saturating_add(limits::COLLECT_AGAIN));
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
        let Phase::Wanted(by) = self.collecting.phase else { return };
        let Some((sweep, _)) = self.collecting.sweep.clone() else { return };
        if !self.takes_work(STORE) {
            return;
        }
        self.collecting.phase = Phase::Asked(by);
        let mut needed = self.needed();
        // What operators have removed is removed: it can be pulled again.
        if sweep == Sweep::Unneeded {
            let back = self.images_to_go_back_to().map(|reference| (reference.clone(), Vec::new()));
            for (reference, none) in back {
                needed.entry(reference).or_insert(none);
            }
        }
        for (reference, layers) in needed {
            if !k.tell(STORE, &ToWorker::InUse { reference, layers }, None) {
                self.collecting.phase = Phase::Wanted(by);
                return;
            }
        }
        k.tell(STORE, &ToWorker::Collect { sweep }, None);
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
        self.look_again = true;
        if let Some((_, Some(job))) = self.collecting.sweep.take() {
            let result = match &done.trouble {
                Some(why) => Err(why.as_str()),
                None => Ok(text::removed(done.images, done.layers, done.bytes)),
            };
            self.jobs.end_sweep(job, result);
        }
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
        self.look_again = true;
        if let Some((_, Some(job))) = self.collecting.sweep.take() {
            self.jobs.end_sweep(job, Err(why));
        }
        self.event(STORE, Event::Stop);
        if self.images.is_busy() && self.stopping.is_none() {
            self.want(STORE);
        }
        self.start_fetches(now, k);
    }
}
