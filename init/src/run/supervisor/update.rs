//! Taking an update, as far as an operator (or `[update] automatic`) says.
//!
//! ```text
//! check   asking ─▶ offer
//! fetch   asking ─▶ (disarming) ─▶ writing ─▶ written
//! apply   … written ─▶ arming ─▶ armed: the next start is into it
//! reboot  … armed ─▶ reboot
//! ```
//!
//! The unit `update` asks, checks and writes; it holds descriptors of the slot that does not run, and of the ESP. PID 1 sees to
//! it that nothing is started from a slot that is being written (disarming), and takes the one step that makes it bootable:
//! one sector, the boot record.

use super::generations::Change;
use super::{Supervisor, UPDATE, refuse};
use crate::run::console;
use crate::run::kernel::{Halt, Kernel};
use crate::run::trials::Trial;
use crate::run::{limits, text};
use berth_units::control::{Reply, ToWorker, UpdateOffer, UpdateOrder, UpdateSource, UpdateStatus};
use berth_units::generation::{Verdict, What};
use berth_units::lifecycle::State;
use berth_units::model::UpdateSettings;
use std::time::Duration;

/// How it stands.
#[derive(Debug, Default)]
pub(super) struct Update {
    /// `[update]`.
    pub(super) settings: UpdateSettings,
    order: Option<Order>,
    offer: Option<(UpdateOffer, Duration)>,
    /// In the other slot, read back and checked in this boot.
    written: Option<UpdateOffer>,
    /// The boot record says that the next start is into the other slot.
    armed: bool,
    error: String,
    /// When to see whether it is time to look by ourselves.
    look_at: Option<Duration>,
    /// When that was done last.
    looked: Option<Duration>,
}

/// What is being done.
#[derive(Debug)]
struct Order {
    what: UpdateOrder,
    again: bool,
    /// Nobody asked for it: it keeps to the window.
    by_itself: bool,
    stage: Stage,
    /// Without a sign of life until then, it is given up.
    by: Duration,
    done: u64,
    total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The repository is asked, once the worker is there.
    Asking,
    /// The boot record is to say that nothing is started from the other slot.
    Disarming,
    Writing,
    /// What the new version is judged by is to be on the disk.
    Noting,
    /// The boot record is to say that the other slot is started next.
    Arming,
}

impl Update {
    pub(super) fn next(&self) -> Option<Duration> {
        self.order.as_ref().map(|order| order.by).into_iter().chain(self.look_at).min()
    }
}

impl Supervisor {
    /// An operator's order.
    pub(super) fn order_update(
        &mut self,
        what: UpdateOrder,
        again: bool,
        now: Duration,
        k: &mut dyn Kernel,
    ) -> Reply {
        if let Some(why) = self.facts.no_update.clone() {
            return refuse("failed", why);
        }
        if let Some(why) = self.busy_with_update(what) {
            return refuse("busy", why);
        }
        self.begin_update(what, again, false, now, k);
        self.run_events(now, k);
        Reply::Done
    }

    fn busy_with_update(&self, what: UpdateOrder) -> Option<String> {
        if self.stopping.is_some() {
            return Some("the machine is going down".into());
        }
        if let Some(order) = &self.update.order {
            return Some(format!("\"{}\" is under way; see \"berth update status\"", order.what));
        }
        if what == UpdateOrder::Cancel && !self.update.armed {
            return Some("no update waits to be started".into());
        }
        if let Some(why) = self
            .facts
            .state_trouble
            .as_ref()
            .filter(|_| ![UpdateOrder::Check, UpdateOrder::Cancel].contains(&what))
        {
            return Some(format!(
                "the state is a temporary one ({why}): nobody would know what the new version has to prove"
            ));
        }
        if what != UpdateOrder::Check && !self.health.is_confirmed() {
            let why = if self.is_judged() {
                "the version that runs is on trial itself"
            } else {
                "this boot has not been found healthy, and an update would have nothing to fall back to"
            };
            return Some(format!("{why}; see \"berth update status\" and \"berth slots\""));
        }
        None
    }

    fn begin_update(
        &mut self,
        what: UpdateOrder,
        again: bool,
        by_itself: bool,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        self.update.error.clear();
        self.idle.forget(UPDATE);
        let by = now.saturating_add(limits::UPDATE_SILENCE);
        let stage = if what == UpdateOrder::Cancel { Stage::Disarming } else { Stage::Asking };
        self.update.order = Some(Order { what, again, by_itself, stage, by, done: 0, total: 0 });
        if stage == Stage::Disarming {
            return k.set_trial(false);
        }
        if what == UpdateOrder::Rollback {
            return self.try_other_slot(now, k);
        }
        self.want(UPDATE);
        self.ask_repository(k);
    }

    /// The worker is there, or there anew: it is asked again from the beginning, and finds what it had written.
    pub(super) fn ask_repository(&mut self, k: &mut dyn Kernel) {
        if !self.takes_work(UPDATE) {
            return;
        }
        let Some(order) = self.update.order.as_mut() else { return };
        match order.stage {
            Stage::Asking | Stage::Writing => order.stage = Stage::Asking,
            Stage::Disarming | Stage::Noting | Stage::Arming => return,
        }
        let settings = &self.update.settings;
        let source = UpdateSource {
            address: settings.address.clone(),
            root: settings.root.clone(),
            ca: settings.ca.clone(),
            channel: settings.channel.clone(),
            proxy: self.registries.proxy.clone(),
        };
        let message = ToWorker::UpdateCheck { source: Box::new(source), built_s: k.earliest().as_secs() };
        k.tell(UPDATE, &message, None);
    }

    /// This is what the repository has.
    pub(super) fn update_offered(&mut self, offer: UpdateOffer, now: Duration, k: &mut dyn Kernel) {
        let Some(order) = self.update.order.as_mut().filter(|order| order.stage == Stage::Asking) else {
            return;
        };
        let (what, again) = (order.what, order.again);
        order.by = now.saturating_add(limits::UPDATE_SILENCE);
        order.total = offer.bytes;
        k.say(console::update(&if offer.root_hash == self.facts.root_hash {
            format!("version {} is the newest", offer.version)
        } else {
            format!("version {} is offered", offer.version)
        }));
        self.update.offer = Some((offer.clone(), now));
        if what == UpdateOrder::Check || offer.root_hash == self.facts.root_hash {
            return self.update_over(now);
        }
        if let Some(known) = self.trying.trials.quarantined(&offer.root_hash).filter(|_| !again) {
            let why = format!(
                "version {} did not prove itself on this machine ({}); \"--again\" takes it all the same",
                known.version, known.reason
            );
            return self.update_failed(&why, now, k);
        }
        if self.update.armed && self.update.written.as_ref().is_some_and(|w| w.root_hash == offer.root_hash) {
            // It waits to be started already.
            self.update_over(now);
            if what == UpdateOrder::Reboot {
                self.halt(Halt::Reboot, "update", limits::SHUTDOWN, now, k);
            }
            return;
        }
        self.update.written = None;
        // Whatever a record says from here on, nothing may be started from what is being written.
        if let Some(order) = self.update.order.as_mut() {
            order.stage = Stage::Disarming;
        }
        k.set_trial(false);
    }

    /// The boot record was written, or not.
    pub(super) fn trial_set(&mut self, result: Result<(), String>, now: Duration, k: &mut dyn Kernel) {
        let Some(order) = self.update.order.as_mut() else { return };
        order.by = now.saturating_add(limits::UPDATE_SILENCE);
        let (what, stage, by_itself) = (order.what, order.stage, order.by_itself);
        if let Err(why) = result {
            // It may have been written all the same: the note stays, an operator can cancel, the next boot knows.
            self.update.armed |= stage == Stage::Arming;
            return self.update_failed(&why, now, k);
        }
        match stage {
            Stage::Disarming => {
                self.update.armed = false;
                self.drop_trial("called off before it was started", k);
                if what == UpdateOrder::Cancel {
                    k.say(console::update("is not started the next time"));
                    return self.update_over(now);
                }
                self.trying.trials.unproven =
                    self.update.offer.as_ref().map(|(offer, _)| offer.version.clone());
                k.store_trials(self.trying.trials.text());
                k.other_slot_changed();
                self.write_update(k);
            }
            Stage::Arming => {
                self.update.armed = true;
                let version = self.trying.trials.trial.as_ref().map_or("", |trial| &trial.version);
                k.say(console::update(&format!("version {version} is started the next time")));
                self.update_over(now);
                // One that took too long waits for the next window.
                let may = !by_itself || self.update.settings.window.holds(k.wall().as_secs());
                if may && matches!(what, UpdateOrder::Reboot | UpdateOrder::Rollback) {
                    self.halt(Halt::Reboot, "update", limits::SHUTDOWN, now, k);
                }
            }
            Stage::Asking | Stage::Writing | Stage::Noting => {}
        }
    }

    fn write_update(&mut self, k: &mut dyn Kernel) {
        let (Some(order), Some((offer, _))) = (self.update.order.as_mut(), &self.update.offer) else {
            return;
        };
        order.stage = Stage::Writing;
        let slot = self.facts.other_slot.clone();
        let running = self.facts.root_hash.clone();
        let message = ToWorker::UpdateWrite { root_hash: offer.root_hash.clone(), slot, running };
        // If it is not there, it is asked anew when it is.
        k.tell(UPDATE, &message, None);
    }

    pub(super) fn update_progress(&mut self, done: u64, total: u64, now: Duration) {
        if let Some(order) = self.update.order.as_mut().filter(|order| order.stage == Stage::Writing) {
            order.by = now.saturating_add(limits::UPDATE_SILENCE);
            (order.done, order.total) = (done, total);
        }
    }

    /// The other slot holds it.
    pub(super) fn update_written(&mut self, root_hash: &str, now: Duration, k: &mut dyn Kernel) {
        let Some((offer, _)) = self.update.offer.clone().filter(|(offer, _)| offer.root_hash == root_hash)
        else {
            return;
        };
        let Some(order) = self.update.order.as_mut() else { return };
        if order.stage != Stage::Writing {
            return;
        }
        let what = order.what;
        k.say(console::update(&format!(
            "version {} is written to slot {} and checked",
            offer.version, self.facts.other_slot
        )));
        k.other_slot_changed();
        self.update.written = Some(offer.clone());
        if what == UpdateOrder::Fetch {
            return self.update_over(now);
        }
        let why = format!("update from {}", offer.address);
        self.arm(offer.version, offer.root_hash, why, None, now, k);
    }

    /// What is in the other slot is tried again.
    fn try_other_slot(&mut self, now: Duration, k: &mut dyn Kernel) {
        if let Some(version) = &self.trying.trials.unproven {
            let why = format!(
                "slot {} was overwritten by version {version}, which has never stayed on this machine; \"berth update reboot\" \
                 goes on with updates",
                self.facts.other_slot
            );
            return self.update_failed(&why, now, k);
        }
        match k.other_slot() {
            Ok(Some((version, root_hash))) => {
                let why = format!("back from {}, by an operator", self.facts.version);
                let back_from = Some(self.facts.root_hash.clone());
                self.arm(version, root_hash, why, back_from, now, k);
            }
            Ok(None) => self.update_failed("there is nothing in the other slot to go back to", now, k),
            Err(why) => self.update_failed(&format!("the other slot cannot be read: {why}"), now, k),
        }
    }

    /// Has the other slot started next, on trial.
    fn arm(
        &mut self,
        version: String,
        root_hash: String,
        why: String,
        back_from: Option<String>,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        if let Some(order) = self.update.order.as_mut() {
            order.stage = Stage::Noting;
            order.by = now.saturating_add(limits::UPDATE_SILENCE);
        }
        let slot = self.facts.other_slot.clone();
        let change = Change {
            what: What::System,
            why,
            slot: slot.clone(),
            version: version.clone(),
            root_hash: root_hash.clone(),
            state: Verdict::Trying,
        };
        let generation = self.record(change, None, k);
        let (from, units) = (self.facts.version.clone(), self.well_units());
        let configured = self.config_status.state == "applied";
        self.trying.trials.trial = Some(Trial {
            generation,
            slot,
            version,
            root_hash,
            from,
            back_from,
            configured,
            units,
            verdict: None,
        });
        // First what the new version is judged by, then the step that starts it.
        k.store_trials(self.trying.trials.text());
    }

    /// What the new version is judged by is on the disk, or is not.
    pub(super) fn trials_kept(&mut self, result: Result<(), String>, now: Duration, k: &mut dyn Kernel) {
        let Some(order) = self.update.order.as_mut().filter(|order| order.stage == Stage::Noting) else {
            return;
        };
        match result {
            Ok(()) => {
                order.stage = Stage::Arming;
                order.by = now.saturating_add(limits::UPDATE_SILENCE);
                k.set_trial(true);
            }
            Err(why) => {
                self.drop_trial(&why, k);
                self.update_failed(&format!("not put on trial: {why}"), now, k);
            }
        }
    }

    /// What was to be tried is not.
    fn drop_trial(&mut self, why: &str, k: &mut dyn Kernel) {
        if let Some(trial) = self.trying.trials.trial.take() {
            self.judge(trial.generation, Verdict::Reverted, why, k);
            k.store_trials(self.trying.trials.text());
        }
    }

    /// It cannot be done, or not now.
    pub(super) fn update_failed(&mut self, why: &str, now: Duration, k: &mut dyn Kernel) {
        if self.update.order.is_none() {
            return;
        }
        if self.update.order.as_ref().is_some_and(|order| order.stage == Stage::Writing) {
            k.other_slot_changed();
        }
        k.say(console::update(why));
        self.update.error = why.to_owned();
        self.update_over(now);
    }

    fn update_over(&mut self, now: Duration) {
        self.update.order = None;
        self.idle.begin(UPDATE, now);
        self.look_again = true;
    }

    /// What is well at the moment when the machine goes down has to be well again.
    pub(super) fn note_for_trial(&mut self, k: &mut dyn Kernel) {
        if !self.update.armed {
            return;
        }
        let units = self.well_units();
        if let Some(trial) = &mut self.trying.trials.trial {
            trial.units = units;
            k.store_trials(self.trying.trials.text());
        }
    }

    /// A worker that has failed for good answers nothing more.
    pub(super) fn look_at_updater(&mut self, now: Duration, k: &mut dyn Kernel) {
        let Some(run) = self.units.get(UPDATE).filter(|run| run.life.state == State::Failed) else { return };
        let why = format!("the unit {UPDATE} has failed: {}", run.life.reason(now));
        self.update_failed(&why, now, k);
    }

    pub(super) fn tick_update(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.update.order.as_ref().is_some_and(|order| order.by <= now) {
            let seconds = limits::UPDATE_SILENCE.as_secs();
            self.update_failed(&format!("given up: nothing has happened for {seconds} s"), now, k);
        }
        if self.update.look_at.is_some_and(|at| at <= now) {
            self.update.look_at = Some(now.saturating_add(limits::UPDATE_LOOK));
            self.look_for_update(now, k);
        }
    }

    /// By itself, if it is to.
    fn look_for_update(&mut self, now: Duration, k: &mut dyn Kernel) {
        let settings = &self.update.settings;
        let rested = self.update.looked.is_none_or(|at| now.saturating_sub(at) >= limits::UPDATE_EVERY);
        let may =
            rested && settings.automatic && settings.window.holds(k.wall().as_secs()) && k.clock_is_set();
        if may && self.facts.no_update.is_none() && self.busy_with_update(UpdateOrder::Reboot).is_none() {
            self.update.looked = Some(now);
            self.begin_update(UpdateOrder::Reboot, false, true, now, k);
        }
    }

    /// The boot is healthy: from now on updates may be taken, at a moment of the hour that is this machine's own.
    pub(super) fn plan_updates(&mut self, now: Duration) {
        let spread = self.facts.machine_id.bytes().fold(0_u64, |sum, byte| sum * 31 % 1200 + u64::from(byte));
        let first = limits::UPDATE_FIRST + Duration::from_secs(spread % 1200);
        self.update.look_at = Some(now.saturating_add(first));
    }

    /// `berth update status`.
    pub(super) fn update_status(&self, now: Duration) -> UpdateStatus {
        let update = &self.update;
        let order = update.order.as_ref();
        let judging = self.judging(now);
        let state = match order.map(|order| order.stage) {
            Some(Stage::Asking) => "checking",
            Some(Stage::Disarming | Stage::Writing) => "writing",
            Some(Stage::Noting | Stage::Arming) => "arming",
            None if update.armed => "armed",
            None if !judging.is_empty() => "assessing",
            None => "idle",
        };
        let offer = update.offer.as_ref().map(|(offer, _)| offer.clone());
        UpdateStatus {
            version: self.facts.version.clone(),
            state: state.into(),
            order: order.map(|order| order.what),
            done: order.map_or(0, |order| order.done),
            total: order.map_or(0, |order| order.total),
            up_to_date: offer.as_ref().is_some_and(|offer| offer.root_hash == self.facts.root_hash),
            offer,
            checked_ago_s: update.offer.as_ref().map(|(_, at)| now.saturating_sub(*at).as_secs()),
            written: update.written.as_ref().map(|offer| offer.version.clone()),
            error: text::bounded(&update.error, limits::TEXT_BYTES),
            assessing: judging,
            last: self.trying.trials.last.clone(),
            quarantine: self.trying.trials.quarantine.clone(),
            automatic: update.settings.automatic,
            window: update.settings.window.to_string(),
            channel: update.settings.channel.clone(),
        }
    }
}
