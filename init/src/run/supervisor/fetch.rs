//! Images that are nowhere on this machine: asked for at their registry, by a worker that runs only while there is
//! something to get. What it has got, the store then makes ready as if it lay on a disk.

use super::{FETCH, Supervisor};
use crate::run::kernel::Kernel;
use crate::run::limits;
use berth_units::control::ToWorker;
use berth_units::lifecycle::State;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the fetcher has to do.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    wanted: BTreeMap<String, Wanted>,
    /// Asked on the present connection.
    asked: BTreeSet<String>,
    /// Fetched, and not used yet: what the store then still does not find is asked for no second time.
    fetched: BTreeSet<String>,
}

/// One image on its way.
#[derive(Debug)]
struct Wanted {
    /// Without a sign of life until then, it is given up.
    by: Duration,
    done: u64,
    total: Option<u64>,
}

impl Fetching {
    pub(super) fn next(&self) -> Option<Duration> {
        self.wanted.values().map(|wanted| wanted.by).min()
    }

    /// Something is being fetched, or is to be.
    pub(super) fn is_busy(&self) -> bool {
        !self.wanted.is_empty()
    }

    pub(super) fn is_at(&self, reference: &str) -> bool {
        self.wanted.contains_key(reference)
    }

    pub(super) fn forget_asked(&mut self) {
        self.asked.clear();
    }

    pub(super) fn used(&mut self, reference: &str) {
        self.fetched.remove(reference);
    }

    /// More has come.
    pub(super) fn progress(&mut self, reference: &str, done: u64, total: Option<u64>, now: Duration) {
        if let Some(wanted) = self.wanted.get_mut(reference).filter(|wanted| done > wanted.done) {
            *wanted = Wanted { by: now.saturating_add(limits::FETCH_SILENCE), done, total };
        }
    }

    fn sentence(&self, reference: &str, collecting: bool, online: bool) -> Option<String> {
        let wanted = self.wanted.get(reference)?;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        Some(match (self.asked.contains(reference), wanted.done, wanted.total) {
            (false, ..) if collecting => "waiting until the store has removed what is needed no more".into(),
            (false, ..) if online => "the fetcher is starting".into(),
            (false, ..) => "waiting for an address to ask the registry from".into(),
            (true, 0, _) => "asking the registry".into(),
            (true, done, None) => format!("pulling, {} MiB so far", mib(done)),
            (true, done, Some(total)) => format!("pulling, {} of {} MiB", mib(done), mib(total)),
        })
    }
}

impl Supervisor {
    /// How far an image is that is being fetched, for `berth ps`.
    pub(super) fn how_far(&self, reference: &str) -> Option<String> {
        self.fetching.sentence(reference, self.collecting.is_on(), !self.addresses.is_empty())
    }

    /// Asks for an image that the store has not found; false when it cannot be had so.
    pub(super) fn fetch(&mut self, reference: &str, now: Duration, k: &mut dyn Kernel) -> bool {
        !self.fetching.fetched.remove(reference) && self.fetch_for_operator(reference, now, k)
    }

    /// Asks for an image in any case.
    pub(super) fn fetch_for_operator(&mut self, reference: &str, now: Duration, k: &mut dyn Kernel) -> bool {
        if !self.units.contains_key(FETCH) {
            return false;
        }
        if self.fetching.is_at(reference) {
            return true;
        }
        self.idle.forget(FETCH);
        let by = now.saturating_add(limits::FETCH_SILENCE);
        self.fetching.wanted.insert(reference.to_owned(), Wanted { by, done: 0, total: None });
        self.start_fetches(now, k);
        true
    }

    /// Gets the fetcher to do what there is to do, unless the store is at work in its folder.
    pub(super) fn start_fetches(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.fetching.is_busy() && !self.collecting.is_on() && self.stopping.is_none() {
            self.want(FETCH);
            self.send_fetch(now, k);
        }
    }

    /// Asks what was not asked yet on the present connection, once the machine has an address to ask from.
    pub(super) fn send_fetch(&mut self, now: Duration, k: &mut dyn Kernel) {
        if !self.takes_work(FETCH) || self.addresses.is_empty() || self.collecting.is_on() {
            return;
        }
        for (reference, wanted) in &mut self.fetching.wanted {
            if !self.fetching.asked.contains(reference)
                && k.tell(FETCH, &ToWorker::Fetch { reference: reference.clone() }, None)
            {
                wanted.by = now.saturating_add(limits::FETCH_SILENCE);
                self.fetching.asked.insert(reference.clone());
            }
        }
    }

    /// A fetcher has come up: it is told all it has to know, then what it is to get.
    pub(super) fn fetcher_said_hello(&mut self, now: Duration, k: &mut dyn Kernel) {
        self.fetching.forget_asked();
        self.tell_registries(k);
        self.send_fetch(now, k);
    }

    /// To the fetcher: how registries are reached.
    pub(super) fn tell_registries(&self, k: &mut dyn Kernel) {
        if self.connected.contains(FETCH) {
            k.tell(FETCH, &ToWorker::Registries { settings: self.registries.clone() }, None);
        }
    }

    /// It is there; the store's turn.
    pub(super) fn fetched(&mut self, reference: &str, now: Duration, k: &mut dyn Kernel) {
        if self.fetching.wanted.remove(reference).is_some() {
            self.fetch_answered(reference, now);
            self.fetching.fetched.insert(reference.to_owned());
            if self.jobs.pulled(reference) || !self.waiting_for_image(reference).is_empty() {
                self.ask_store(reference, now, k);
            }
        }
    }

    /// It cannot be had now.
    pub(super) fn not_fetched(&mut self, reference: &str, why: &str, now: Duration) {
        if self.fetching.wanted.remove(reference).is_some() {
            self.fetch_answered(reference, now);
            self.image_failed(reference, why);
        }
    }

    fn fetch_answered(&mut self, reference: &str, now: Duration) {
        self.fetching.asked.remove(reference);
        self.look_again = true;
        if self.fetching.wanted.is_empty() {
            self.idle.begin(FETCH, now);
        }
    }

    pub(super) fn tick_fetch(&mut self, now: Duration) {
        let late: Vec<String> =
            self.fetching.wanted.iter().filter(|(_, w)| w.by <= now).map(|(r, _)| r.clone()).collect();
        for reference in late {
            let seconds = limits::FETCH_SILENCE.as_secs();
            let why = if self.fetching.asked.contains(&reference) {
                format!("image {reference} not pulled: nothing has come for {seconds} s")
            } else {
                format!("image {reference} not pulled: the machine has had no address for {seconds} s")
            };
            self.not_fetched(&reference, &why, now);
        }
    }

    /// A fetcher that has failed for good answers nothing more.
    pub(super) fn look_at_fetcher(&mut self) {
        let Some(run) = self.units.get(FETCH).filter(|run| run.life.state == State::Failed) else { return };
        let why = format!("the fetcher has failed: {}", run.life.reason(Duration::ZERO));
        self.idle.forget(FETCH);
        self.fetching.asked.clear();
        for reference in std::mem::take(&mut self.fetching.wanted).into_keys() {
            self.image_failed(&reference, &why);
        }
    }
}
