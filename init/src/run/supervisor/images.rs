//! Images: found in the store's index, or made ready by the store worker, which runs only while there is something
//! to do. So each time it sees the disks that are attached at that moment, and its memory is free afterwards.

use super::{STORE, Supervisor};
use crate::run::kernel::Kernel;
use crate::run::{limits, text};
use berth_units::control::ToWorker;
use berth_units::image::PreparedImage;
use berth_units::lifecycle::{Event, State};
use berth_units::model::SYSTEM_IMAGE;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the store has to do.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Reference → until when.
    by_reference: BTreeMap<String, Duration>,
    /// Being looked up in the index.
    looking: BTreeSet<String>,
    /// The store says that it is there.
    prepared: BTreeSet<String>,
    /// Asked on the present connection.
    asked: BTreeSet<String>,
    /// Something was not found; the store looks again when more disks are there.
    for_disks: bool,
    /// Which disks the present store was given ([`super::devices::Devices::generation`]).
    pub(super) disks_of_store: u32,
}

impl Wanted {
    pub(super) fn next(&self) -> Option<Duration> {
        self.by_reference.values().copied().min()
    }

    /// An image is being looked for.
    pub(super) fn is_busy(&self) -> bool {
        !self.by_reference.is_empty() || !self.looking.is_empty()
    }
}

impl Supervisor {
    /// The image of a unit in [`State::Preparing`].
    pub(super) fn find_image(&mut self, name: &str, k: &mut dyn Kernel) {
        let Some(run) = self.units.get(name) else { return };
        if run.unit.container.image == SYSTEM_IMAGE {
            return self.event(name, Event::ImageReady);
        }
        let reference = run.unit.container.image.clone();
        // The answer is for all that wait for it.
        if self.images.looking.insert(reference.clone()) {
            k.find_image(&reference);
        }
    }

    /// What the index says.
    pub(super) fn image_found(
        &mut self,
        reference: &str,
        found: Result<Option<Box<PreparedImage>>, String>,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        self.images.looking.remove(reference);
        self.look_again = true;
        let prepared = self.images.prepared.remove(reference);
        match found {
            Ok(Some(image)) => {
                for name in self.waiting_for_image(reference) {
                    if let Some(run) = self.units.get_mut(&name) {
                        run.image = Some((*image).clone());
                    }
                    self.event(&name, Event::ImageReady);
                }
            }
            Ok(None) if prepared => {
                self.image_failed(reference, "the store said that it is ready, but it is not in the index");
            }
            Err(why) if prepared => self.image_failed(reference, &why),
            Ok(None) => self.ask_store(reference, now, k),
            Err(why) => {
                log::warn!("{reference}: prepared anew: {why}");
                self.ask_store(reference, now, k);
            }
        }
    }

    pub(super) fn ask_store(&mut self, reference: &str, now: Duration, k: &mut dyn Kernel) {
        if !self.units.contains_key(STORE) {
            return self.image_failed(reference, "this system has no image store (unit \"store\")");
        }
        if self.fetching.is_at(reference) {
            return;
        }
        self.idle.forget(STORE);
        self.images.by_reference.entry(reference.to_owned()).or_insert(now.saturating_add(limits::PREPARE));
        if self.images.for_disks {
            return;
        }
        let stale = self.images.disks_of_store != self.devices.generation;
        if stale
            && !self.jobs.loads()
            && self.images.asked.is_empty()
            && self.units.get(STORE).is_some_and(|run| run.life.state.has_run())
        {
            // It holds descriptors of the disks that were there when it started.
            self.event(STORE, Event::Stop);
            self.want(STORE);
            return;
        }
        self.want(STORE);
        self.send_prepare(k);
    }

    /// Asks what was not asked yet on the present connection.
    pub(super) fn send_prepare(&mut self, k: &mut dyn Kernel) {
        // A store that is on its way out answers nothing any more.
        if !self.takes_work(STORE) || self.images.for_disks {
            return;
        }
        for reference in self.images.by_reference.keys() {
            if !self.images.asked.contains(reference) {
                let pulled = self.jobs.unpacks(reference);
                let message = ToWorker::Prepare { reference: reference.clone(), pulled };
                if k.tell(STORE, &message, None) {
                    self.images.asked.insert(reference.clone());
                }
            }
        }
    }

    /// The store's connection is new or gone.
    pub(super) fn forget_asked(&mut self) {
        self.images.asked.clear();
    }

    /// The store says that it is done.
    pub(super) fn prepared(&mut self, reference: &str, now: Duration, k: &mut dyn Kernel) {
        if self.images.by_reference.contains_key(reference) {
            self.answered(reference, now);
            self.jobs.end_pull(reference, Ok(()));
            self.images.prepared.insert(reference.to_owned());
            self.fetching.used(reference);
            self.images.looking.insert(reference.to_owned());
            k.find_image(reference);
        }
    }

    /// The store gave up.
    pub(super) fn not_prepared(
        &mut self,
        reference: &str,
        why: &str,
        absent: bool,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        let asked = self.images.by_reference.contains_key(reference);
        if asked && self.devices.may_come(now) && !self.jobs.unpacks(reference) {
            log::info!("{reference}: {why}; looked for again when all disks are there");
            self.images.asked.remove(reference);
            self.images.for_disks = true;
            k.load_drivers();
            if self.images.asked.is_empty() && !self.jobs.loads() {
                self.event(STORE, Event::Stop);
            }
            return;
        }
        self.answered(reference, now);
        if !(asked && absent && self.fetch(reference, now, k)) {
            self.image_failed(reference, why);
        }
    }

    /// More disks may be there than when the store looked.
    pub(super) fn look_for_images_again(&mut self, now: Duration, k: &mut dyn Kernel) {
        if std::mem::take(&mut self.images.for_disks) {
            for reference in self.images.by_reference.keys().cloned().collect::<Vec<_>>() {
                self.ask_store(&reference, now, k);
            }
        }
    }

    /// There is no image, and will be none.
    fn prepare_failed(&mut self, reference: &str, why: &str, now: Duration) {
        self.answered(reference, now);
        self.image_failed(reference, why);
    }

    fn answered(&mut self, reference: &str, now: Duration) {
        self.images.by_reference.remove(reference);
        self.images.asked.remove(reference);
        self.look_again = true;
        self.store_is_idle(now);
    }

    /// If it is: it is stopped a little later.
    pub(super) fn store_is_idle(&mut self, now: Duration) {
        if self.images.by_reference.is_empty() && !self.collecting.is_on() && !self.jobs.loads() {
            self.idle.begin(STORE, now);
        }
    }

    pub(super) fn image_failed(&mut self, reference: &str, why: &str) {
        self.jobs.end_pull(reference, Err(why));
        for name in self.waiting_for_image(reference) {
            if let Some(run) = self.units.get_mut(&name) {
                run.detail = text::bounded(why, limits::TEXT_BYTES);
            }
            self.event(&name, Event::ImageFailed);
        }
    }

    pub(super) fn waiting_for_image(&self, reference: &str) -> Vec<String> {
        self.units
            .iter()
            .filter(|(_, run)| run.life.state == State::Preparing && run.unit.container.image == reference)
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub(super) fn tick_images(&mut self, now: Duration) {
        let late: Vec<String> =
            self.images.by_reference.iter().filter(|(_, by)| **by <= now).map(|(r, _)| r.clone()).collect();
        for reference in late {
            let why = format!("not ready after {} s", limits::PREPARE.as_secs());
            self.prepare_failed(&reference, &why, now);
        }
    }

    /// A store that has failed for good answers nothing more.
    pub(super) fn look_at_store(&mut self, now: Duration, k: &mut dyn Kernel) {
        let Some(run) = self.units.get(STORE).filter(|run| run.life.state == State::Failed) else { return };
        let why = format!("the image store has failed: {}", run.life.reason(Duration::ZERO));
        self.idle.forget(STORE);
        self.images.asked.clear();
        for reference in std::mem::take(&mut self.images.by_reference).into_keys() {
            self.image_failed(&reference, &why);
        }
        self.give_up_collection(&why, now, k);
        self.loads_cut_off(true);
    }
}
