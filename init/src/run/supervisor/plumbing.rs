//! Workers: who is connected, what each is told, what it answers; and the network of bridged units.
//!
//! A worker can crash and come back at any time. Whatever it has to know is told again after its Hello: the agent
//! gets the network config and every unit that needs plumbing, the API its keys, the store what is to be prepared.

use super::collect::Collected;
use super::config::Told;
use super::{API, CLOUD, FETCH, INSTALL, META, NET, Refused, STORE, Supervisor, TIME, UPDATE};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::control::{FromWorker, ToWorker, UpdateOffer};
use berth_units::lifecycle::{Event, State};
use berth_units::model::{NetworkMode, Unit};
use std::collections::BTreeMap;
use std::time::Duration;

impl Supervisor {
    /// The container exists; plumb it, then let it go.
    pub(super) fn plumb(&mut self, name: &str, pid: i32, now: Duration, k: &mut dyn Kernel) {
        let Some(run) = self.units.get_mut(name).filter(|run| run.life.state == State::Starting) else {
            return;
        };
        run.pid = Some(pid);
        if run.unit.network.mode == NetworkMode::Bridge {
            run.attach_by = Some(now.saturating_add(limits::ATTACH));
            self.attach(name, k);
        } else {
            k.go(name);
        }
    }

    fn attach(&self, name: &str, k: &mut dyn Kernel) {
        let Some(run) = self.units.get(name).filter(|_| self.connected.contains(NET)) else { return };
        let message = ToWorker::Attach { unit: name.to_owned(), ports: run.unit.network.ports.clone() };
        k.tell(NET, &message, Some(name));
    }

    pub(super) fn detach(&self, name: &str, k: &mut dyn Kernel) {
        let bridged = self.units.get(name).is_some_and(|run| run.unit.network.mode == NetworkMode::Bridge);
        if bridged && self.connected.contains(NET) {
            k.tell(NET, &ToWorker::Detach { unit: name.to_owned() }, None);
        }
    }

    pub(super) fn tick_attach(&mut self, now: Duration) {
        let late: Vec<String> = self
            .units
            .iter()
            .filter(|(_, run)| run.attach_by.is_some_and(|by| by <= now))
            .map(|(name, _)| name.clone())
            .collect();
        let agent = if self.connected.contains(NET) { "did not answer" } else { "is not running" };
        for name in late {
            let why = format!("no network after {} s: the network agent {agent}", limits::ATTACH.as_secs());
            self.start_failed(&name, &why);
        }
    }

    /// A worker's message. Which ones a unit may send was checked by the control server.
    pub(super) fn worker(
        &mut self,
        unit: &str,
        message: FromWorker,
        config_text: Option<Vec<u8>>,
        now: Duration,
        k: &mut dyn Kernel,
    ) {
        let short = |text: &str| text::bounded(text, limits::TEXT_BYTES);
        match message {
            FromWorker::Hello => self.hello(unit, now, k),
            FromWorker::Ready => self.event(unit, Event::BecameHealthy),
            FromWorker::Status { text } => {
                let text = short(&text);
                if let Some(run) = self.units.get_mut(unit).filter(|run| run.says != text) {
                    k.say(console::status(unit, &text));
                    run.says = text;
                }
            }
            FromWorker::Prepared { reference } => self.prepared(&reference, now, k),
            FromWorker::PrepareFailed { reference, error, absent } => {
                self.not_prepared(&reference, &short(&error), absent, now, k);
            }
            FromWorker::Collected { images, layers, bytes, trouble } => {
                self.collected(&Collected { images, layers, bytes, trouble }, now, k);
            }
            FromWorker::Loaded { job, images, error } => {
                let images: Vec<String> = images.iter().map(|image| short(image)).collect();
                self.loaded(job, &images, error.as_deref().map(short), now);
            }
            FromWorker::Fetched { reference, .. } => self.fetched(&reference, now, k),
            FromWorker::FetchFailed { reference, error } => self.not_fetched(&reference, &short(&error), now),
            FromWorker::FetchProgress { reference, done, total } => {
                self.fetching.progress(&reference, done, total, now);
                self.jobs.progress(&reference, done, total);
            }
            FromWorker::UpdateOffer(offer) => self.update_offered(bounded(offer), now, k),
            FromWorker::UpdateProgress { done, total } => self.update_progress(done, total, now),
            FromWorker::UpdateWritten { root_hash } => self.update_written(&root_hash, now, k),
            FromWorker::UpdateFailed { error } => self.update_failed(&short(&error), now, k),
            FromWorker::InstallProgress { step, done, total } => {
                self.install_progress(&short(&step), done, total, k);
            }
            FromWorker::Installed => self.installed(now, k),
            FromWorker::InstallFailed { error } => self.install_failed(&error, k),
            FromWorker::Addresses { addresses } => {
                let addresses: Vec<_> =
                    addresses.iter().take(64).map(|(i, a)| (short(i), short(a))).collect();
                if addresses != self.addresses {
                    k.say(console::addresses(&addresses));
                    self.addresses = addresses;
                }
                if !self.addresses.is_empty() {
                    self.send_fetch(now, k);
                    if self.said_ready {
                        self.start_rest(k);
                    }
                }
            }
            FromWorker::Clock { offset_ns, error_ns, agree, of } => {
                self.correct_clock(offset_ns, error_ns, (agree, of), now, k);
            }
            FromWorker::Attached { unit, address } => {
                let Some(run) = self.units.get_mut(&unit).filter(|run| run.life.state.has_run()) else {
                    return;
                };
                run.address = Some(address);
                if run.attach_by.take().is_some() {
                    k.go(&unit);
                }
            }
            FromWorker::AttachFailed { unit, error } => {
                let Some(run) = self.units.get(&unit) else { return };
                let why = format!("no network: {}", short(&error));
                if run.attach_by.is_some() {
                    self.start_failed(&unit, &why);
                } else if run.life.state.has_run() {
                    k.say(console::status(&unit, &why));
                }
            }
            FromWorker::ConfigFound { source, looked, notes } => {
                self.config_found((unit, &source), Told { looked, notes }, config_text, now, k);
            }
            FromWorker::ConfigRefused { source, report, looked, notes } => {
                let refused = Refused { report, salvage: config_text.unwrap_or_default() };
                self.config_refused((unit, &source), refused, Told { looked, notes }, now, k);
            }
            FromWorker::ConfigNone { looked, notes, cloud } => {
                self.config_none(unit, Told { looked, notes }, cloud, now, k);
            }
            FromWorker::Instances { seen } => self.seen(&seen, k),
            FromWorker::ApiKey { fingerprint, port } => {
                k.say(console::api(port, &short(&fingerprint)));
            }
        }
    }

    fn hello(&mut self, unit: &str, now: Duration, k: &mut dyn Kernel) {
        self.connected.insert(unit.to_owned());
        match unit {
            NET => {
                self.tell_network(k);
                self.tell_names(k);
                let plumbed: Vec<String> = self
                    .units
                    .iter()
                    .filter(|(_, run)| {
                        run.unit.network.mode == NetworkMode::Bridge
                            && run.pid.is_some()
                            && (run.life.state == State::Starting || run.life.state.is_running())
                    })
                    .map(|(name, _)| name.clone())
                    .collect();
                for name in plumbed {
                    self.attach(&name, k);
                }
            }
            API => self.tell_access(k),
            TIME => self.tell_time(k),
            STORE => {
                self.forget_asked();
                self.send_prepare(k);
                self.send_collection(k);
                self.send_loads(k);
            }
            FETCH => self.fetcher_said_hello(now, k),
            UPDATE => self.ask_repository(k),
            INSTALL => self.tell_installer(k),
            META | CLOUD => self.tell_searcher(unit, now, k),
            _ => {}
        }
    }

    pub(super) fn worker_gone(&mut self, unit: &str, now: Duration, k: &mut dyn Kernel) {
        self.connected.remove(unit);
        match unit {
            STORE => {
                self.forget_asked();
                self.collection_cut_off(now, k);
                self.loads_cut_off(false);
            }
            FETCH => self.fetching.forget_asked(),
            _ => {}
        }
    }

    /// To the agent, once the config is known, or has to be asked for in the network.
    pub(super) fn tell_network(&self, k: &mut dyn Kernel) {
        let known = self.config.is_settled() || self.config.asks_cloud();
        if known && self.connected.contains(NET) {
            let message = ToWorker::Configure {
                network: self.network.clone(),
                hostname: self.hostname.clone(),
                machine_id: self.facts.machine_id.clone(),
            };
            k.tell(NET, &message, None);
        }
    }

    /// To the agent: whose name is what. All of the user's units are in it, so that no name of one is asked of
    /// strangers; behind each are those that are in service and have an address.
    pub(super) fn tell_names(&self, k: &mut dyn Kernel) {
        if self.config.is_settled() && self.connected.contains(NET) {
            let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for run in self.users() {
                let serves = run.life.state == State::Healthy && run.unit.network.mode == NetworkMode::Bridge;
                for name in names_of(&run.unit) {
                    let behind = names.entry(name).or_default();
                    behind.extend(serves.then(|| run.unit.name.clone()));
                }
            }
            k.tell(NET, &ToWorker::Names { names }, None);
        }
    }

    /// A unit came into service, or left it.
    pub(super) fn served(&self, name: &str, before: State, after: State, k: &mut dyn Kernel) {
        let bridged = self
            .units
            .get(name)
            .is_some_and(|run| !run.is_system() && run.unit.network.mode == NetworkMode::Bridge);
        if bridged && (before == State::Healthy) != (after == State::Healthy) {
            self.tell_names(k);
        }
    }

    /// To the API, once the config is known.
    pub(super) fn tell_access(&self, k: &mut dyn Kernel) {
        if self.config.is_settled() && self.connected.contains(API) {
            let message = ToWorker::Access { keys: self.keys.clone(), hostname: self.hostname.clone() };
            k.tell(API, &message, None);
        }
    }
}

/// The names that lead to a unit.
fn names_of(unit: &Unit) -> Vec<String> {
    vec![unit.service().to_owned()]
}

/// An offer as it may be shown.
fn bounded(offer: UpdateOffer) -> UpdateOffer {
    UpdateOffer {
        address: text::bounded(&offer.address, limits::TEXT_BYTES),
        version: text::bounded(&offer.version, limits::VERSION_BYTES),
        root_hash: text::bounded(&offer.root_hash, 64),
        ..offer
    }
}
