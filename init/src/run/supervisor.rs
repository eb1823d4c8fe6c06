//! What is to happen: every unit's life, the workers, the config, the judgement on this boot, the way down. Pure:
//! inputs and the time come in, the [`Kernel`] carries out; nothing here waits, reads or writes.
//!
//! ```text
//!   Input ──▶ handle ──▶ events ──▶ Life::step ──▶ effects ──▶ Kernel
//!                ▲          ▲            │
//!   deadlines ─ tick      look ◀── a state changed: waiting units, store, judgement, way down
//! ```
//!
//! Invariants: a unit's life changes only in [`Supervisor::step`]; what an effect brings about comes back as an
//! event in the queue, never by recursion; each pass handles a bounded number of events.

mod apply;
mod checks;
mod clock;
mod collect;
mod config;
mod devices;
mod effects;
mod fetch;
mod generations;
mod glance;
mod health;
mod idle;
mod images;
mod install;
mod jobs;
mod plumbing;
mod reload;
mod status;
mod stop;
#[cfg(test)]
mod tests;
mod transient;
mod trial;
mod update;
mod waiting;

pub use apply::Trial;
use clock::Clock;
pub use status::refuse;

use super::ids::Ids;
use super::kernel::{Halt, Input, Kernel};
use super::{console, limits, text};
use berth_units::control::{ConfigStatus, StepTime};
use berth_units::graph::Graph;
use berth_units::health::{self as unit_health, Checks};
use berth_units::image::PreparedImage;
use berth_units::instances;
use berth_units::lifecycle::{Event, Life, State};
use berth_units::model::{Instance, MachineConfig, MachineNetwork, Origin, RegistrySettings, Unit};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

/// The network agent's unit.
pub const NET: &str = "net";
/// The metadata reader's unit.
pub const META: &str = "meta";
/// The unit that asks a cloud's metadata service.
pub const CLOUD: &str = "cloud";
/// The image store's unit.
pub const STORE: &str = "store";
/// The unit that asks registries.
pub const FETCH: &str = "fetch";
/// The unit that asks for the time.
pub const TIME: &str = "time";
/// The API server's unit.
pub const API: &str = "api";
/// The unit that gets updates and writes the other slot.
pub const UPDATE: &str = "update";

/// The unit that puts Berth on a disk.
pub const INSTALL: &str = "install";

/// What the boot found out, as far as it matters here.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The OS's version.
    pub version: String,
    /// `a`, `b`, or `-` where there are no slots.
    pub slot: String,
    /// The running system's verity root hash, hex.
    pub root_hash: String,
    /// The machine's name so far.
    pub hostname: String,
    /// 32 hex digits, the same for ever.
    pub machine_id: String,
    /// SMBIOS's UUID, 32 hex digits, if its maker has set one.
    pub uuid: Option<String>,
    /// How long a cloud's metadata service may take to answer.
    pub metadata_deadline: Duration,
    /// The slot that does not run: `a` or `b`.
    pub other_slot: String,
    /// It runs from the installation medium.
    pub medium: bool,
    /// Nothing is installed in this start, whatever the config says.
    pub installs_nothing: bool,
    /// Why this machine takes no updates, if it does not.
    pub no_update: Option<String>,
    /// Why the state is a temporary one, if it is.
    pub state_trouble: Option<String>,
    /// The slot is on trial: if it does not become healthy, the other one is there.
    pub on_trial: bool,
    /// The boot record says that the other slot is on trial, tries left or not.
    pub trial_left: bool,
    /// And it was started, or refused.
    pub tried: bool,
    /// What is known of the other slot's last start, one sentence.
    pub other_went: String,
    /// This boot is a rescue, and why.
    pub rescue: Option<String>,
    /// Time from the start of the main loop until the slot has to be healthy.
    pub health_deadline: Duration,
}

/// Checks the text of a machine config as a whole, given the system's units.
pub type Check = fn(&[u8], &[Unit]) -> Result<MachineConfig, Refused>;

/// A config that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong with it.
    pub report: String,
    /// What of it makes the machine reachable, as a config; empty: nothing.
    pub salvage: Vec<u8>,
}

/// One unit and what became of it.
#[derive(Debug)]
struct Run {
    unit: Unit,
    life: Life,
    checks: Checks,
    image: Option<PreparedImage>,
    pid: Option<i32>,
    /// The present run's setup began.
    forked: Option<Duration>,
    /// The present run's program was exec'd.
    started: Option<Duration>,
    /// The container waits for its network until then.
    attach_by: Option<Duration>,
    address: Option<IpAddr>,
    /// Why the last start failed.
    detail: String,
    /// What a worker, or a unit that notifies, says about itself.
    says: String,
    exits: VecDeque<String>,
    /// Runs since boot that the kernel ended for want of memory.
    oom_kills: u32,
    /// It has run since boot.
    ran: bool,
    /// What it becomes once it is down, by another config.
    becomes: Option<apply::Becomes>,
}

impl Run {
    fn new(unit: Unit) -> Self {
        Self {
            life: Life::new(unit_health::proof(&unit)),
            checks: Checks::default(),
            unit,
            image: None,
            pid: None,
            forked: None,
            started: None,
            attach_by: None,
            address: None,
            detail: String::new(),
            says: String::new(),
            exits: VecDeque::new(),
            oom_kills: 0,
            ran: false,
            becomes: None,
        }
    }

    /// Nothing of it exists and nothing will.
    fn is_down(&self) -> bool {
        !self.life.wanted() && !self.life.state.has_run()
    }

    fn is_system(&self) -> bool {
        self.unit.origin == Origin::System
    }

    /// `Life::reason` with what is known beyond it.
    fn reason(&self, now: Duration) -> String {
        let mut reason = self.life.reason(now);
        if reason.is_empty() && self.life.state == State::Stopped && !self.unit.enabled {
            reason = "not enabled".into();
        }
        match (reason.is_empty(), self.detail.is_empty()) {
            (false, false) => format!("{reason} ({})", self.detail),
            _ => reason,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Supervisor {
    facts: Facts,
    check: Check,
    units: BTreeMap<String, Run>,
    graph: Graph,
    events: VecDeque<(String, Event)>,
    /// A state changed: look at what depends on states.
    look_again: bool,
    /// Units whose worker connection is open.
    connected: BTreeSet<String>,
    config: config::Phase,
    config_status: ConfigStatus,
    /// The generation whose config is on its way to the state partition.
    storing_config: Option<u64>,
    history: generations::Generations,
    /// A config whose text is being made.
    making: Option<apply::Making>,
    /// Transient units that are gone, whose files are being removed.
    discarding: BTreeSet<String>,
    applying: Option<apply::Applying>,
    /// Units of a config that is in force, which start once those that it does not have are down.
    coming: Vec<Unit>,
    unconfirmed: Option<apply::Unconfirmed>,
    network: MachineNetwork,
    keys: Vec<String>,
    /// What a cloud or a volume said of this machine.
    instance: Option<Instance>,
    /// The cloud that the firmware says this is.
    cloud: Option<String>,
    glance: glance::Glance,
    /// The kept config and its generation, should it be another machine's.
    kept_of_another: Option<(Vec<u8>, MachineConfig, Option<u64>)>,
    hostname: String,
    addresses: Vec<(String, String)>,
    idle: idle::Idle,
    images: images::Wanted,
    fetching: fetch::Fetching,
    collecting: collect::Collecting,
    jobs: jobs::Jobs,
    registries: RegistrySettings,
    time_servers: Option<Vec<String>>,
    clock: Clock,
    devices: devices::Devices,
    health: health::Health,
    trying: trial::Judge,
    /// When the judging of this boot began.
    judged_from: Duration,
    update: update::Update,
    install: install::Install,
    stopping: Option<stop::Stopping>,
    ids: Ids,
    timeline: Vec<StepTime>,
    first_container: Option<Duration>,
    said_ready: bool,
    /// What can wait for the first containers (the API, the other drivers) has not been started yet, and is then.
    rest_at: Option<Duration>,
}

impl Supervisor {
    /// A machine on which nothing has started yet.
    pub fn new(facts: Facts, check: Check, system_units: Vec<Unit>) -> Self {
        let graph = Graph::new(&system_units).unwrap_or_else(|report| {
            log::error!("the system's units do not fit together, their order is ignored: {report}");
            Graph::default()
        });
        let units = system_units.into_iter().map(|unit| (unit.name.clone(), Run::new(unit))).collect();
        Self {
            hostname: facts.hostname.clone(),
            facts,
            check,
            units,
            graph,
            events: VecDeque::new(),
            look_again: false,
            connected: BTreeSet::new(),
            config: config::Phase::Unread,
            config_status: ConfigStatus::default(),
            storing_config: None,
            history: generations::Generations::default(),
            making: None,
            discarding: BTreeSet::new(),
            applying: None,
            coming: Vec::new(),
            unconfirmed: None,
            network: MachineNetwork::default(),
            keys: Vec::new(),
            instance: None,
            cloud: None,
            glance: glance::Glance::default(),
            kept_of_another: None,
            addresses: Vec::new(),
            idle: idle::Idle::default(),
            images: images::Wanted::default(),
            fetching: fetch::Fetching::default(),
            collecting: collect::Collecting::default(),
            jobs: jobs::Jobs::default(),
            registries: RegistrySettings::default(),
            time_servers: None,
            clock: Clock::default(),
            devices: devices::Devices::default(),
            health: health::Health::default(),
            trying: trial::Judge::default(),
            judged_from: Duration::ZERO,
            update: update::Update::default(),
            install: install::Install::default(),
            stopping: None,
            ids: Ids::default(),
            timeline: Vec::new(),
            first_container: None,
            said_ready: false,
            rest_at: None,
        }
    }

    /// What the state holds could not be read.
    pub fn state_is_lost(&mut self, why: &str) {
        self.facts.state_trouble.get_or_insert_with(|| why.to_owned());
    }

    /// The id table that an earlier boot kept.
    pub fn set_ids(&mut self, ids: Ids) {
        self.ids = ids;
    }

    /// Starts everything. `applied`: the machine config in force, if one was kept.
    pub fn begin(&mut self, applied: Option<&[u8]>, now: Duration, k: &mut dyn Kernel) {
        k.say(console::hello(&self.facts.version, &self.facts.slot, &self.hostname));
        if let Some(reason) = &self.facts.rescue {
            k.say(console::rescue(reason));
            k.step("rescue");
        }
        self.judged_from = now;
        self.health = health::Health::Pending { by: now.saturating_add(self.facts.health_deadline) };
        self.begin_judging(now, k);
        self.want(NET);
        self.rest_at = Some(now.saturating_add(limits::REST_HOLD));
        // Who comes in to a rescue should not have to wait.
        if self.facts.rescue.is_some() {
            self.want(API);
        }
        self.begin_history(k);
        self.begin_config(applied, now, k);
        // Anything else that the OS ships runs from the start, too, except what is started on demand.
        if self.facts.rescue.is_none() {
            let others: Vec<String> =
                self.units.iter().filter(|(_, run)| run.is_system()).map(|u| u.0.clone()).collect();
            for name in others
                .iter()
                .filter(|name| ![NET, API, TIME].iter().chain(&idle::ON_DEMAND).any(|other| other == name))
            {
                self.want(name);
            }
        }
        self.run_events(now, k);
    }

    /// Takes in one input.
    pub fn handle(&mut self, input: Input, now: Duration, k: &mut dyn Kernel) {
        match input {
            Input::Plumb { unit, pid } => self.plumb(&unit, pid, now, k),
            Input::Started { unit } => self.started(&unit, now),
            Input::StartFailed { unit, reason } => self.start_failed(&unit, &reason),
            Input::Exited { unit, exit, oom } => {
                if let Some(run) = self.units.get_mut(&unit) {
                    if oom {
                        run.oom_kills = run.oom_kills.saturating_add(1);
                        run.detail = text::out_of_memory(run.unit.resources.memory);
                    }
                    if run.exits.len() >= limits::EXITS {
                        run.exits.pop_front();
                    }
                    run.exits.push_back(format!("{} {}", text::timestamp(k.wall()), text::exit(exit)));
                    self.event(&unit, Event::Exited(exit));
                }
            }
            Input::CgroupEmpty { unit } => self.event(&unit, Event::CgroupEmpty),
            Input::Checked { unit, found } => self.checked(&unit, found, now),
            Input::Noticed { unit, notice } => self.noticed(&unit, &notice, now),
            Input::Worker { unit, message, text } => self.worker(&unit, message, text, now, k),
            Input::WorkerGone { unit } => self.worker_gone(&unit, now, k),
            Input::Image { reference, found } => self.image_found(&reference, found, now, k),
            Input::DriversLoaded => {
                self.drivers_loaded(now);
                self.look_again_on_disks(now, k);
            }
            Input::DisksChanged => self.disks_changed(),
            Input::GenerationWritten { number, result } => self.generation_written(number, result, k),
            Input::DiskChosen(chosen) => self.disk_chosen(chosen, k),
            Input::Discarded { unit } => {
                self.discarding.remove(&unit);
            }
            Input::ConfigMade(result) => self.config_made(result, now, k),
            Input::Confirmed(result) => self.confirmed(result, now, k),
            Input::TrialSet(result) => self.trial_set(result, now, k),
            Input::TrialsKept(result) => self.trials_kept(result, now, k),
            Input::Halt { halt, why } => self.halt(halt, &why, limits::SHUTDOWN, now, k),
            Input::Broken { reason } => self.broken(&reason, now, k),
        }
        self.run_events(now, k);
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration, k: &mut dyn Kernel) {
        let due: Vec<String> = self
            .units
            .iter()
            .filter(|(_, run)| run.life.deadline().is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.event(&name, Event::Timer);
        }
        if self.rest_at.is_some_and(|at| at <= now) {
            self.start_rest(k);
        }
        self.tick_attach(now);
        self.tick_checks(now, k);
        self.tick_devices(now, k);
        self.tick_idle(now);
        self.tick_images(now);
        self.tick_fetch(now);
        self.tick_collection(now, k);
        self.tick_config(now, k);
        self.tick_glance(now);
        self.tick_revert(now, k);
        self.tick_trial(now, k);
        self.tick_update(now, k);
        self.tick_health(now, k);
        self.tick_stop(now, k);
        self.run_events(now, k);
    }

    /// When [`Supervisor::tick`] has to be called next.
    pub fn next_deadline(&self) -> Option<Duration> {
        let units = self.units.values().flat_map(|run| [run.life.deadline(), run.attach_by]).flatten();
        let boot = [
            self.config.next(),
            self.glance.next(),
            self.health.next(),
            self.rest_at,
            self.devices.next(),
            self.collecting.next(),
            self.trying.next(self.update.settings.settle),
            self.update.next(),
        ];
        // On the way down nobody waits for the boot any more.
        let boot = boot.into_iter().flatten().filter(|_| self.stopping.is_none());
        units
            .chain(self.next_check())
            .chain(self.next_revert())
            .chain(boot)
            .chain(self.idle.next())
            .chain(self.images.next())
            .chain(self.fetching.next())
            .chain(self.next_stop())
            .min()
    }

    /// The last pass ended before everything was done.
    pub fn has_work(&self) -> bool {
        self.look_again || !self.events.is_empty()
    }

    /// The machine is on its way down.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// A unit's name, if there is such a unit and it may speak as a worker.
    pub fn is_worker(&self, unit: &str) -> bool {
        self.units.get(unit).and_then(|run| run.unit.system.as_ref()).is_some_and(|grants| grants.control)
    }

    /// There is such a unit.
    pub fn has(&self, unit: &str) -> bool {
        self.units.contains_key(unit)
    }

    /// Starts it, unless the config says that only an operator does.
    fn want(&mut self, unit: &str) {
        if self.units.get(unit).is_some_and(|run| run.unit.enabled) {
            self.event(unit, Event::Start);
        }
    }

    /// Every unit has had its first try, and the machine an address.
    fn start_rest(&mut self, k: &mut dyn Kernel) {
        if self.rest_at.take().is_some() && self.stopping.is_none() {
            self.want(API);
            self.want(TIME);
            k.boot_over();
        }
    }

    fn event(&mut self, unit: &str, event: Event) {
        self.events.push_back((unit.to_owned(), event));
    }

    fn run_events(&mut self, now: Duration, k: &mut dyn Kernel) {
        for _ in 0..limits::EVENTS_PER_PASS {
            if let Some((unit, event)) = self.events.pop_front() {
                self.step(&unit, event, now, k);
            } else if std::mem::take(&mut self.look_again) {
                self.look_at_changes(k);
                self.look_at_waiting();
                self.look_at_store(now, k);
                self.look_at_fetcher();
                self.look_at_updater(now, k);
                self.look_at_installer(now, k);
                self.look_at_sweeps(now, k);
                self.send_loads(k);
                self.look_at_config(now, k);
                self.look_at_health(now, k);
                self.look_at_stop(now, k);
            } else {
                return;
            }
        }
        log::error!("units keep changing each other's state; {} events put off", self.events.len());
        self.look_again = true;
    }

    fn step(&mut self, name: &str, event: Event, now: Duration, k: &mut dyn Kernel) {
        let Some(run) = self.units.get_mut(name) else { return };
        let before = run.life.state;
        let effects = run.life.step(&run.unit.restart, event, now);
        let after = run.life.state;
        for effect in effects {
            self.carry_out(name, effect, now, k);
        }
        if after != before {
            self.watch_health(name, before, now, k);
            self.tell_state(name, after, now, k);
            self.served(name, before, after, k);
        }
    }

    /// The user's units.
    fn users(&self) -> impl Iterator<Item = &Run> {
        self.units.values().filter(|run| !run.is_system())
    }

    /// The unit of this name, or its instances.
    fn runs_of(&self, name: &str) -> impl Iterator<Item = &Run> {
        let from = self.units.range::<str, _>((Bound::Included(name), Bound::Unbounded));
        from.take_while(move |(other, _)| other.starts_with(name))
            .filter(move |(other, _)| instances::is_of(other, name))
            .map(|(_, run)| run)
    }

    /// This worker is there, and is not about to end.
    fn takes_work(&self, worker: &str) -> bool {
        self.connected.contains(worker) && self.units.get(worker).is_some_and(|run| run.life.wanted())
    }

    /// This slot cannot go on. What is known goes to the step record first.
    fn broken(&mut self, reason: &str, now: Duration, k: &mut dyn Kernel) {
        if self.stopping.is_some() {
            return;
        }
        self.fail_trial(reason, k);
        k.condemn(reason, true);
        k.say(console::slot_broken(&self.facts.slot, reason));
        self.halt(Halt::Reboot, reason, limits::SHUTDOWN_BROKEN, now, k);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
