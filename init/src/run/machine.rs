//! The real kernel behind [`Kernel`]: descriptors, processes, files. Owns everything that the main loop watches.

mod kernel;
mod operators;

use super::checks::Looks;
use super::chores::{Chores, Job, Outcome};
use super::containers::Containers;
use super::devices::{self, Opened};
use super::execs::{self, Execs};
use super::generations::{self, Write};
use super::kernel::{Halt, Input, Kernel, Order};
use super::kmsg::{self, Clocks, KernelLog};
use super::last::Doing;
use super::notices::Notices;
use super::passed::Passed;
use super::peers::Peers;
use super::reactor::Reactor;
use super::supervisor::{META, NET, refuse};
use super::targets::{Disk, Target};
use super::{files, limits};
use crate::early::{Booted, Coldplug, Content, RecordStore, is_settled, modules, settle};
use berth_units::control::{ExecRequest, KERNEL_LOG, Reply, ToWorker};
use berth_units::image::PreparedImage;
use berth_units::model::{MachineNetwork, NetworkMode, Origin, SYSTEM_IMAGE, Sign, Unit};
use berth_units::paths;
use berth_updater::record::Record;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Features of the kernel that units need. Each set is loaded by one child, when the first unit needs it.
const FEATURES: [(&str, &[&str]); 5] = [
    (META, &["fw_cfg"]),
    (IMAGES, &["overlay"]),
    (BRIDGE, &["bridge", "nat"]),
    (VLAN, &["vlan"]),
    (BOND, &["bond"]),
];
/// The set for units with an image.
const IMAGES: &str = "images";
/// The set for units on the bridge.
const BRIDGE: &str = "bridge";
/// The sets for the network agent, where the machine config has such interfaces.
const VLAN: &str = "vlan";
const BOND: &str = "bond";

/// A start that waits for kernel modules.
#[derive(Debug)]
struct Held {
    unit: Unit,
    image: Option<PreparedImage>,
    id_base: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    /// What the boot found out.
    pub booted: Booted,
    /// What is watched.
    pub reactor: Reactor,
    /// The containers that exist.
    pub containers: Containers,
    /// Looks at them.
    pub looks: Looks,
    /// What they say of themselves.
    pub notices: Notices,
    /// Commands in them.
    pub execs: Execs,
    /// The control connections.
    pub peers: Peers,
    /// Short-lived children.
    pub chores: Chores,
    /// What happened and is not handled yet.
    pub inbox: VecDeque<Input>,
    /// Feature sets that are being loaded, and since when.
    loading: BTreeMap<&'static str, Duration>,
    /// Feature sets that are there.
    loaded: BTreeSet<&'static str>,
    held: BTreeMap<String, Held>,
    /// The network agent's config, which waits for modules.
    untold: Option<ToWorker>,
    /// Disks that are being opened for a unit.
    opening: BTreeMap<String, Opened>,
    /// The disk that was chosen for an installation.
    target: Option<PathBuf>,
    /// The newest texts that wait until an older one is kept, by who keeps them.
    next_texts: Vec<(Job, String)>,
    next_images: VecDeque<String>,
    next_generations: VecDeque<Write>,
    /// What children write their texts into.
    texts: Vec<(Job, Passed)>,
    step: String,
    next_step: Option<String>,
    condemned: bool,
    next_modaliases: Vec<String>,
    /// The boot record, as last read or written.
    pub record: Option<Record>,
    /// Why there is none.
    pub record_trouble: String,
    /// What is in the other slot (`None`: nothing), or why it is not known.
    pub other: Result<Option<Content>, String>,
    /// Archives that operators send, by job, until the store takes them.
    archives: BTreeMap<u64, OwnedFd>,
    /// The kernel's log, once somebody has asked for it.
    kernel_log: Option<KernelLog>,
    /// When the time was last kept for the next boot, or begun to be.
    clock_kept: Option<Duration>,
    /// The clock was set while that was being done: what is written then is of before.
    keep_clock_again: bool,
    /// What the state partition has.
    kept_s: Option<u64>,
    last: Option<Doing>,
    /// The last steps are done, or cannot be: the machine goes down now.
    pub down: Option<Halt>,
}

/// Since the kernel started.
pub fn now() -> Duration {
    crate::early::boot_times::since_kernel()
}

impl Machine {
    /// Nothing runs yet.
    pub fn new(booted: Booted, reactor: Reactor) -> Self {
        Self {
            booted,
            reactor,
            containers: Containers::default(),
            looks: Looks::default(),
            notices: Notices::default(),
            execs: Execs::default(),
            peers: Peers::default(),
            chores: Chores::default(),
            inbox: VecDeque::new(),
            loading: BTreeMap::new(),
            loaded: BTreeSet::new(),
            held: BTreeMap::new(),
            untold: None,
            opening: BTreeMap::new(),
            target: None,
            next_texts: Vec::new(),
            next_images: VecDeque::new(),
            next_generations: VecDeque::new(),
            texts: Vec::new(),
            step: "event loop".into(),
            next_step: None,
            condemned: false,
            next_modaliases: Vec::new(),
            record: None,
            record_trouble: String::new(),
            other: Err("not read yet".into()),
            archives: BTreeMap::new(),
            kernel_log: None,
            clock_kept: None,
            keep_clock_again: false,
            kept_s: None,
            last: None,
            down: None,
        }
    }

    /// Begins to load a set of features, unless it is there or on its way; whether it is there.
    fn has_features(&mut self, set: &'static str) -> bool {
        if self.loaded.contains(set) {
            return true;
        }
        let features =
            FEATURES.iter().find(|(name, _)| *name == set).map_or(&[][..], |(_, features)| features);
        let work = move || {
            let mut modules = modules::Modules::open().map_err(|error| error.to_string())?;
            let failed: Vec<String> = features
                .iter()
                .filter_map(|feature| modules.load_feature(feature).err().map(|e| format!("{feature}: {e}")))
                .collect();
            if features.contains(&"bridge") {
                // The kernel has no such switch for one interface; the network agent's filter lets pass only what
                // comes from units or goes to them. A kernel without IPv6 has none at all.
                let _ = crate::early::files::poke("/proc/sys/net/ipv6/conf/all/forwarding", "1\n");
            }
            if failed.is_empty() { Ok(String::new()) } else { Err(failed.join("; ")) }
        };
        if let Entry::Vacant(entry) = self.loading.entry(set) {
            entry.insert(now());
            self.start(Job::Feature(set), limits::CHILD_MODULES, work);
        }
        // At once, if the child could not even be started.
        !self.loading.contains_key(set)
    }

    /// A child has loaded the set, or not: a unit whose start then fails says what it lacks.
    fn features_loaded(&mut self, set: &'static str, outcome: &Outcome) {
        complain("kernel modules for units", outcome);
        if outcome.is_ok() {
            self.loaded.insert(set);
        }
        if let Some(start) = self.loading.remove(set) {
            let start_us = u64::try_from(start.as_micros()).unwrap_or(u64::MAX);
            let outcome = outcome.as_ref().err().map_or("", String::as_str);
            self.booted.timeline.add("main", &format!("modules for {set}"), start_us, outcome);
        }
        self.launch_held();
        if let Some(message) = self.untold.take() {
            self.tell_agent(message);
        }
    }

    /// Hands the network agent its config as soon as the kernel has what its interfaces are made of; without, the agent
    /// says what it could not make.
    fn tell_agent(&mut self, message: ToWorker) -> bool {
        let ToWorker::Configure { network, .. } = &message else { return false };
        if interfaces(network).any(|set| self.loading.contains_key(set)) {
            self.untold = Some(message);
            return true;
        }
        self.peers.tell(&mut self.reactor, NET, &message, Vec::new(), now())
    }

    /// Launches the units that wait for nothing any more.
    fn launch_held(&mut self) {
        for (name, held) in std::mem::take(&mut self.held) {
            if needs(&held.unit).any(|set| self.loading.contains_key(set))
                || self.loses_volume(&held.unit)
                || self.chores.busy(&Job::Disks(name.clone()))
            {
                self.held.insert(name, held);
                continue;
            }
            let order = Order { unit: &held.unit, image: held.image.as_ref(), id_base: held.id_base };
            if let Err(reason) = self.launch_now(&order) {
                self.inbox.push_back(Input::StartFailed { unit: name.clone(), reason });
                self.inbox.push_back(Input::CgroupEmpty { unit: name });
            }
        }
    }

    fn launch_now(&mut self, order: &Order<'_>) -> Result<(), String> {
        let fds = self.opening.remove(&order.unit.name).map(Opened::take).unwrap_or_default();
        let unit = order.unit;
        if unit.ready.as_ref().is_some_and(|ready| ready.sign == Sign::Notify) {
            self.notices.open(&mut self.reactor, unit)?;
        }
        self.containers.launch(&mut self.reactor, order, fds)
    }

    /// Begins to run an operator's command in a unit.
    pub fn exec(&mut self, order: &Order<'_>, request: &ExecRequest) -> Result<Vec<OwnedFd>, String> {
        let inside = self.containers.inside(order).map_err(|why| match request.copy {
            Some(_) => execs::no_files(order.unit, &why),
            None => why,
        })?;
        self.execs.begin(&mut self.reactor, &inside, request)
    }

    /// Begins to open the disks that the unit may read; whether there is something to wait for.
    fn opens_disks(&mut self, unit: &Unit) -> bool {
        let grants = unit.system.as_ref().filter(|_| unit.origin == Origin::System);
        let Some(grants) =
            grants.filter(|grants| grants.block_devices || grants.other_slot || grants.install)
        else {
            return false;
        };
        let other_slot = grants.other_slot.then(|| self.booted.slot.other());
        let target = self.target.clone().filter(|_| grants.install);
        let (opened, to) = match Opened::new() {
            Ok(ends) => ends,
            Err(error) => {
                log::warn!("disks for {} not opened: {error}", unit.name);
                return false;
            }
        };
        self.opening.insert(unit.name.clone(), opened);
        let (own, job) = (self.booted.disk.clone(), Job::Disks(unit.name.clone()));
        self.chores.kill_all(&mut self.reactor, &job);
        let work = move || match (other_slot, target) {
            (_, Some(disk)) => devices::open_install(&own, &disk, &to),
            (Some(slot), None) => devices::open_slot(&own, slot, &to),
            (None, None) => devices::open_foreign(&own, &to),
        };
        let started = self.chores.start(&mut self.reactor, job, limits::CHILD_DISKS, now(), work);
        if let Err(error) = &started {
            log::warn!("disks for {} not opened: {error}", unit.name);
        }
        started.is_ok()
    }

    /// Looks for images that are wanted, a few at a time.
    fn find_images(&mut self) {
        while self.chores.count(|job| matches!(job, Job::Image(_))) < limits::IMAGE_CHILDREN {
            let Some(reference) = self.next_images.pop_front() else { return };
            let images = Path::new(paths::STATE_IMAGES);
            if let Some(image) = files::image_at_hand(images, &reference) {
                self.inbox.push_back(Input::Image { reference, found: Ok(Some(Box::new(image))) });
                continue;
            }
            let wanted = reference.clone();
            let work = move || match files::image(images, &wanted)? {
                Some(image) => serde_json::to_string(&image).map_err(|error| error.to_string()),
                None => Ok(String::new()),
            };
            self.start(Job::Image(reference), limits::CHILD_STORE, work);
        }
    }

    /// Has a child keep a text; if one is at it, when that has ended. Of several that wait only the newest is wanted.
    fn keep_text(&mut self, job: Job, text: String) {
        if self.chores.busy(&job) {
            self.next_texts.retain(|(of, _)| *of != job);
            return self.next_texts.push((job, text));
        }
        let keep = if job == Job::Ids { files::keep_ids } else { files::keep_trials };
        self.start(job, limits::CHILD_STORE, || keep(&text));
    }

    /// Goes on with the text that waits; whether there is one.
    fn keep_next(&mut self, job: &Job) -> bool {
        let Some(at) = self.next_texts.iter().position(|(of, _)| of == job) else { return false };
        let (job, text) = self.next_texts.remove(at);
        self.keep_text(job, text);
        true
    }

    /// Writes generations, one after the other.
    fn write_generations(&mut self) {
        if self.chores.count(|job| matches!(job, Job::Generation(_))) > 0 {
            return;
        }
        let Some(write) = self.next_generations.pop_front() else { return };
        let job = Job::Generation(write.record.number);
        self.start(job, limits::CHILD_STORE, move || {
            generations::write(Path::new(paths::STATE_CONFIG), &write).map(|()| String::new())
        });
    }

    /// Reads the boot record, for those who ask about it: a sick disk must not hang the answer.
    fn read_record(&mut self) {
        let record = &self.booted.record;
        let work = || record_text(record);
        if let Err(error) =
            self.chores.start(&mut self.reactor, Job::Record, limits::CHILD_RECORD, now(), work)
        {
            self.record_trouble = error;
        }
    }

    /// Reads what is in the other slot, for the same reason in a child.
    fn read_other_slot(&mut self) {
        let (disk, slot) = (self.booted.disk.clone(), self.booted.slot.other());
        let work = move || {
            Content::read(&disk, slot).map(|content| content.map(|c| c.to_text()).unwrap_or_default())
        };
        self.start(Job::OtherSlot, limits::CHILD_RECORD, work);
    }

    /// A record's sector as text.
    fn take_record(&mut self, text: &str) {
        if let Ok(record) = Record::parse(text.as_bytes()) {
            self.record = Some(record);
            self.record_trouble.clear();
        }
    }

    /// Looks after the child that loads drivers for what was there at the start.
    pub fn adopt_coldplug(&mut self) {
        match self.booted.coldplug.as_mut().and_then(Coldplug::take_child) {
            Some(child) => {
                self.chores.adopt(&mut self.reactor, Job::Coldplug, child, limits::CHILD_COLDPLUG, now());
            }
            None => self.inbox.push_back(Input::DriversLoaded),
        }
    }

    /// Keeps the kernel's log from now on, and what the kernel has of it.
    pub fn keep_kernel_log(&mut self) -> std::io::Result<()> {
        // What is watched and not read would wake PID 1 for ever.
        if self.containers.log(KERNEL_LOG).is_none() {
            return Err(std::io::Error::other("there is no place for it"));
        }
        if self.kernel_log.is_none() {
            self.kernel_log = Some(KernelLog::open(&mut self.reactor)?);
        }
        self.take_kernel_log(kmsg::ALL);
        Ok(())
    }

    /// Takes what the kernel has said, at most so many records.
    pub fn take_kernel_log(&mut self, records: usize) {
        let clocks = Clocks { wall: self.wall(), kernel: now() };
        if let (Some(log), Some(writer)) = (&mut self.kernel_log, self.containers.log(KERNEL_LOG)) {
            log.take(writer, clocks, records);
        }
    }

    /// Keeps an archive for a job that is about to begin, and lets those go whose jobs are over.
    pub fn keep_archive(&mut self, job: u64, archive: OwnedFd, is_job: impl Fn(u64) -> bool) {
        self.archives.retain(|job, _| is_job(*job));
        self.archives.insert(job, archive);
    }

    /// The time is kept for the next boot; one child at a time, so that the newest is what stays.
    fn keep_clock(&mut self) {
        if self.chores.busy(&Job::Clock) {
            self.keep_clock_again = true;
            return;
        }
        self.clock_kept = Some(now());
        self.start(Job::Clock, limits::CHILD_CLOCK, crate::early::clock::save);
    }

    fn start(&mut self, job: Job, limit: Duration, work: impl FnOnce() -> Outcome) {
        if let Err(error) = self.chores.start(&mut self.reactor, job.clone(), limit, now(), work) {
            self.chore_ended(job, Err(error));
        }
    }

    /// A child has ended.
    pub fn chore_ended(&mut self, job: Job, outcome: Outcome) {
        match job {
            Job::Generation(number) => {
                let result = outcome.map(|_| ());
                self.inbox.push_back(Input::GenerationWritten { number, result });
                self.write_generations();
            }
            Job::MakeConfig => {
                let made = self.made_text(&job, outcome);
                self.inbox.push_back(Input::ConfigMade(made));
            }
            Job::Volumes(..) => self.volumes_listed(&job, outcome),
            Job::RemoveVolume(peer, name) => self.volume_removed(peer, &name, outcome),
            Job::Seed => complain("a config with its secrets is left behind", &outcome),
            Job::Target => {
                let chosen = outcome.and_then(|text| {
                    serde_json::from_str::<Target>(&text).map_err(|error| format!("helper process: {error}"))
                });
                self.target = chosen.as_ref().ok().map(|target| Path::new("/dev").join(&target.disk.name));
                self.inbox.push_back(Input::DiskChosen(chosen.map(Box::new)));
            }
            Job::ListDisks(peer) => {
                let disks = outcome.and_then(|text| {
                    serde_json::from_str::<Vec<Disk>>(&text)
                        .map_err(|error| format!("helper process: {error}"))
                });
                let firmware = self.booted.firmware;
                let reply = match disks {
                    Ok(disks) => Reply::Disks(disks.iter().map(|disk| disk.status(firmware)).collect()),
                    Err(why) => refuse("failed", why),
                };
                self.answer(peer, reply);
            }
            Job::Reset(peer) => self.reset_asked(peer, outcome),
            Job::EmptyTrash => complain("removed volumes are still on the disk", &outcome),
            Job::ShowConfig(peer) => self.config_shown(peer, outcome),
            Job::Confirm => {
                if let Ok(text) = &outcome {
                    self.take_record(text);
                }
                self.inbox.push_back(Input::Confirmed(outcome.map(|_| ())));
            }
            Job::Record => match outcome {
                Ok(text) => self.take_record(&text),
                Err(why) => self.record_trouble = why,
            },
            Job::OtherSlot => self.other = outcome.map(|text| Content::parse(&text)),
            Job::Image(reference) => {
                let found = outcome.and_then(|text| match text.as_str() {
                    "" => Ok(None),
                    text => PreparedImage::parse(text.as_bytes()).map(|image| Some(Box::new(image))),
                });
                self.inbox.push_back(Input::Image { reference, found });
                self.find_images();
            }
            Job::Ids => {
                complain("id table not kept", &outcome);
                self.keep_next(&Job::Ids);
            }
            Job::Trial => {
                self.read_record();
                self.inbox.push_back(Input::TrialSet(outcome.map(|_| ())));
            }
            Job::Trials => {
                complain("what is known of trials is not kept", &outcome);
                if !self.keep_next(&Job::Trials) {
                    self.inbox.push_back(Input::TrialsKept(outcome.map(|_| ())));
                }
            }
            Job::Step | Job::Condemn => {
                complain("step record not written", &outcome);
                if let Some(step) = self.next_step.take() {
                    self.step(&step);
                }
            }
            Job::Hotplug => {
                complain("modules for new devices", &outcome);
                let more = std::mem::take(&mut self.next_modaliases);
                if !more.is_empty() {
                    self.hotplug(more);
                }
            }
            Job::Discard(unit) => {
                complain("what a unit wrote is not removed", &outcome);
                self.inbox.push_back(Input::Discarded { unit });
            }
            Job::Clock => {
                complain("time not kept for the next boot", &outcome);
                self.kept_s = outcome.ok().and_then(|text| text.parse().ok()).or(self.kept_s);
                if std::mem::take(&mut self.keep_clock_again) {
                    self.keep_clock();
                }
            }
            Job::Settle => complain("the kernel is not locked down", &outcome),
            Job::Disks(unit) => {
                match &outcome {
                    Ok(late) if late.is_empty() => {}
                    Ok(late) => self.say(format!("disk {late} did not open in time; {unit} goes without")),
                    Err(why) => self.say(format!("disks for {unit} not opened: {why}")),
                }
                self.launch_held();
            }
            Job::Feature(set) => self.features_loaded(set, &outcome),
            Job::Coldplug => {
                complain("drivers", &outcome);
                self.inbox.push_back(Input::DriversLoaded);
                // It does this as its last work but one, and may not have come so far.
                if !is_settled() {
                    self.start(Job::Settle, limits::CHILD_MODULES, || settle().map(|()| String::new()));
                }
            }
            Job::Last(halt) => {
                if let Err(why) = outcome {
                    let doing = self.last.take().map_or(String::new(), |doing| doing.read());
                    self.say(super::console::gave_up(&doing, &why));
                }
                self.down = Some(halt);
            }
        }
    }

    /// Modules for devices that came up.
    pub fn hotplug(&mut self, mut modaliases: Vec<String>) {
        if self.chores.busy(&Job::Hotplug) {
            let room = limits::MODALIASES.saturating_sub(self.next_modaliases.len());
            modaliases.truncate(room);
            self.next_modaliases.append(&mut modaliases);
            return;
        }
        match modules::hotplug(modaliases) {
            Ok(child) => {
                self.chores.adopt(&mut self.reactor, Job::Hotplug, child, limits::CHILD_MODULES, now());
            }
            Err(error) => log::warn!("modules for new devices: {error}"),
        }
    }
}

fn record_text(record: &RecordStore) -> Outcome {
    match record.read() {
        (Some(record), _) => String::from_utf8(record.to_sector().into()).map_err(|error| error.to_string()),
        (None, trouble) => Err(trouble.unwrap_or_else(|| "there is no boot record".into())),
    }
}

fn complain(what: &str, outcome: &Outcome) {
    if let Err(why) = outcome {
        log::warn!("{what}: {why}");
    }
}

/// The sets of features that the machine's own interfaces need.
fn interfaces(network: &MachineNetwork) -> impl Iterator<Item = &'static str> {
    let vlan = (!network.vlans.is_empty()).then_some(VLAN);
    let bond = (!network.bonds.is_empty()).then_some(BOND);
    [vlan, bond].into_iter().flatten()
}

/// The sets of features without which the unit cannot start.
fn needs(unit: &Unit) -> impl Iterator<Item = &'static str> {
    let image = (unit.container.image != SYSTEM_IMAGE).then_some(IMAGES);
    let bridge = (unit.network.mode == NetworkMode::Bridge).then_some(BRIDGE);
    let meta = (unit.name == META).then_some(META);
    [image, bridge, meta].into_iter().flatten()
}
