//! The real kernel behind [`Kernel`]: descriptors, processes, files. Owns everything that the main loop watches.

use super::checks::Looks;
use super::chores::{Chores, Job, Outcome};
use super::containers::Containers;
use super::devices::{self, Opened};
use super::execs::Execs;
use super::generations::{self, Recipe, Write};
use super::kernel::{Halt, Input, Kernel, Order};
use super::last::Doing;
use super::notices::Notices;
use super::peers::Peers;
use super::reactor::Reactor;
use super::supervisor::{API, META, refuse};
use super::{files, limits, volumes};
use crate::early::{Booted, Coldplug, Content, RecordStore, console, is_settled, modules, settle};
use berth_units::config::edit;
use berth_units::control::{ExecRequest, Reply, ToWorker, VolumeStatus, sealed};
use berth_units::image::PreparedImage;
use berth_units::logs::Stream;
use berth_units::model::{Check, NetworkMode, Origin, SYSTEM_IMAGE, Sign, Unit};
use berth_units::paths;
use berth_updater::assess;
use berth_updater::record::Record;
use berth_updater::steps::Status;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name of PID 1's own log.
pub const OWN_LOG: &str = "berth";

/// Features of the kernel that units need. Each set is loaded by one child, when the first unit needs it.
const FEATURES: [(&str, &[&str]); 3] =
    [(META, &["fw_cfg"]), (IMAGES, &["overlay"]), (BRIDGE, &["bridge", "nat"])];
/// The set for units with an image.
const IMAGES: &str = "images";
/// The set for units on the bridge.
const BRIDGE: &str = "bridge";

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
    /// Disks that are being opened for a unit.
    opening: BTreeMap<String, Opened>,
    next_ids: Option<String>,
    next_trials: Option<String>,
    next_images: VecDeque<String>,
    next_generations: VecDeque<Write>,
    /// What children write their texts into.
    texts: Vec<(Job, File)>,
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
    /// When the time was kept for the next boot.
    clock_kept: Option<Duration>,
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
            opening: BTreeMap::new(),
            next_ids: None,
            next_trials: None,
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
            clock_kept: None,
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
    }

    /// Launches the units that wait for nothing any more.
    fn launch_held(&mut self) {
        for (name, held) in std::mem::take(&mut self.held) {
            if needs(&held.unit).any(|set| self.loading.contains_key(set))
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
        let inside = self.containers.inside(order)?;
        self.execs.begin(&mut self.reactor, &inside, request)
    }

    /// Begins to open the disks that the unit may read; whether there is something to wait for.
    fn opens_disks(&mut self, unit: &Unit) -> bool {
        let grants = unit.system.as_ref().filter(|_| unit.origin == Origin::System);
        let Some(grants) = grants.filter(|grants| grants.block_devices || grants.other_slot) else {
            return false;
        };
        let other_slot = grants.other_slot.then(|| self.booted.slot.other());
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
        let work = move || match other_slot {
            Some(slot) => devices::open_slot(&own, slot, &to),
            None => devices::open_foreign(&own, &to),
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
            let wanted = reference.clone();
            let work = move || match files::image(Path::new(paths::STATE_IMAGES), &wanted)? {
                Some(image) => serde_json::to_string(&image).map_err(|error| error.to_string()),
                None => Ok(String::new()),
            };
            self.start(Job::Image(reference), limits::CHILD_STORE, work);
        }
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

    /// Has a child make a text that is too long for its answer: it goes into memory that both have.
    fn make_text(&mut self, job: Job, work: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<(), String> {
        let text = memfd_create("text", MFdFlags::MFD_CLOEXEC).map_err(|error| error.to_string())?;
        let mut file = File::from(text.try_clone().map_err(|error| error.to_string())?);
        let work = move || {
            let bytes = work()?;
            file.write_all(&bytes).map(|()| String::new()).map_err(|error| error.to_string())
        };
        self.chores.start(&mut self.reactor, job.clone(), limits::CHILD_STORE, now(), work)?;
        self.texts.push((job, text.into()));
        Ok(())
    }

    /// What it has made.
    fn made_text(&mut self, job: &Job, outcome: Outcome) -> Result<Vec<u8>, String> {
        let at = self.texts.iter().position(|(of, _)| of == job);
        let text = at.map(|at| self.texts.remove(at).1);
        outcome?;
        let mut text = text.ok_or("the text got lost")?;
        let mut bytes = Vec::new();
        text.rewind()
            .and_then(|()| text.take(berth_units::limits::CONFIG_BYTES as u64 + 1).read_to_end(&mut bytes))
            .map_err(|error| error.to_string())?;
        if bytes.len() > berth_units::limits::CONFIG_BYTES {
            return Err(format!("a config has at most {} bytes", berth_units::limits::CONFIG_BYTES));
        }
        Ok(bytes)
    }

    /// Shows an operator the config of a generation.
    pub fn show_config(&mut self, number: u64, peer: u64) -> Result<(), String> {
        let work = move || {
            let text = generations::config_of(Path::new(paths::STATE_CONFIG), number)?;
            edit::without_secrets(&text).map(String::into_bytes)
        };
        self.make_text(Job::ShowConfig(peer), work)
    }

    /// Lists the volumes for an operator, or one of them with its size.
    pub fn list_volumes(
        &mut self,
        peer: u64,
        inspect: Option<String>,
        used: BTreeMap<String, Vec<String>>,
    ) -> Result<(), String> {
        let name = inspect.clone();
        let work = move || {
            let folder = Path::new(paths::STATE_VOLUMES);
            let list = match &name {
                Some(name) => volumes::inspect(folder, name, &used)?,
                None => volumes::list(folder, &used)?,
            };
            serde_json::to_vec(&list).map_err(|error| error.to_string())
        };
        self.make_text(Job::Volumes(peer, inspect), work)
    }

    fn volumes_listed(&mut self, job: &Job, outcome: Outcome) {
        let Job::Volumes(peer, inspect) = job else { return };
        let list = self.made_text(job, outcome);
        let list = list.and_then(|text| {
            serde_json::from_slice::<Vec<VolumeStatus>>(&text).map_err(|error| error.to_string())
        });
        let reply = match (list, inspect) {
            (Ok(list), Some(name)) if list.is_empty() => no_volume(name),
            (Ok(list), _) => Reply::Volumes(list),
            (Err(why), _) => refuse("failed", why),
        };
        self.answer(*peer, reply);
    }

    /// Removes a volume that no unit uses for an operator.
    pub fn remove_volume(&mut self, peer: u64, name: &str) -> Result<(), String> {
        if !berth_units::schema::is_unit_name(name) {
            return Err("this is no volume's name".into());
        }
        let of = name.to_owned();
        let work = move || {
            let there = volumes::remove(Path::new(paths::STATE_VOLUMES), &of)?;
            Ok(if there { "removed".to_owned() } else { String::new() })
        };
        let job = Job::RemoveVolume(peer, name.to_owned());
        self.chores.start(&mut self.reactor, job, limits::CHILD_STORE, now(), work)
    }

    fn volume_removed(&mut self, peer: u64, name: &str, outcome: Outcome) {
        let reply = match outcome {
            Ok(found) if found.is_empty() => no_volume(name),
            Ok(_) => Reply::Done,
            Err(why) => refuse("failed", why),
        };
        if matches!(reply, Reply::Done) {
            self.say(super::console::volume_removed(name));
            if !self.chores.busy(&Job::EmptyTrash) {
                let work = || volumes::empty_trash(Path::new(paths::STATE_VOLUMES)).map(|()| String::new());
                self.start(Job::EmptyTrash, limits::CHILD_DISCARD, work);
            }
        }
        self.answer(peer, reply);
    }

    fn config_shown(&mut self, peer: u64, outcome: Outcome) {
        let text = self.made_text(&Job::ShowConfig(peer), outcome);
        let text =
            text.and_then(|text| sealed::sealed("berth.toml", &text).map_err(|error| error.to_string()));
        let (reply, fds) = match text {
            Ok(fd) => (Reply::ConfigText, vec![fd]),
            Err(why) => (refuse("failed", format!("the config is not shown: {why}")), Vec::new()),
        };
        self.peers.reply(&mut self.reactor, peer, &reply, fds, now());
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

    /// Keeps an archive for a job that is about to begin, and lets those go whose jobs are over.
    pub fn keep_archive(&mut self, job: u64, archive: OwnedFd, is_job: impl Fn(u64) -> bool) {
        self.archives.retain(|job, _| is_job(*job));
        self.archives.insert(job, archive);
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
                if let Some(text) = self.next_ids.take() {
                    self.store_ids(text);
                }
            }
            Job::Trial => {
                self.read_record();
                self.inbox.push_back(Input::TrialSet(outcome.map(|_| ())));
            }
            Job::Trials => {
                complain("what is known of trials is not kept", &outcome);
                match self.next_trials.take() {
                    Some(text) => self.store_trials(text),
                    None => self.inbox.push_back(Input::TrialsKept(outcome.map(|_| ()))),
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
            Job::Clock => complain("time not kept for the next boot", &outcome),
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

fn no_volume(name: &str) -> Reply {
    let name = super::text::bounded(name, limits::TEXT_BYTES);
    refuse("not-found", format!("there is no volume {name:?}; \"berth volume ls\" lists them"))
}

fn complain(what: &str, outcome: &Outcome) {
    if let Err(why) = outcome {
        log::warn!("{what}: {why}");
    }
}

/// The sets of features without which the unit cannot start.
fn needs(unit: &Unit) -> impl Iterator<Item = &'static str> {
    let image = (unit.container.image != SYSTEM_IMAGE).then_some(IMAGES);
    let bridge = (unit.network.mode == NetworkMode::Bridge).then_some(BRIDGE);
    let meta = (unit.name == META).then_some(META);
    [image, bridge, meta].into_iter().flatten()
}

impl Kernel for Machine {
    fn launch(&mut self, order: &Order<'_>) -> Result<(), String> {
        let unit = order.unit;
        if unit.name == API && self.record.is_none() {
            self.read_record();
        }
        if unit.name == API && self.other.is_err() {
            self.read_other_slot();
        }
        // All of them are asked for before one is waited for.
        let opens = self.opens_disks(unit);
        if needs(unit).filter(|set| !self.has_features(set)).count() > 0 || opens {
            let held = Held { unit: unit.clone(), image: order.image.cloned(), id_base: order.id_base };
            self.held.insert(unit.name.clone(), held);
            return Ok(());
        }
        self.launch_now(order)
    }

    fn go(&mut self, unit: &str) {
        self.inbox.extend(self.containers.go(unit));
    }

    fn signal(&mut self, unit: &str, stop_signal: &str) {
        self.containers.signal(unit, berth_units::signals::number(stop_signal).unwrap_or(libc::SIGTERM));
    }

    fn kill(&mut self, unit: &str) {
        self.held.remove(unit);
        self.opening.remove(unit);
        self.containers.kill(unit, &mut self.inbox);
    }

    fn forget(&mut self, unit: &str, all: bool) {
        self.containers.forget(unit);
        if all {
            let folder = Path::new(paths::STATE_UNITS).join(unit);
            self.start(Job::Discard(unit.to_owned()), limits::CHILD_DISCARD, move || {
                let gone = berth_units::launch::discard(&folder);
                gone.map(|()| String::new()).map_err(|error| format!("{}: {error}", folder.display()))
            });
        }
    }

    fn check(&mut self, order: &Order<'_>, check: &Check, timeout: Duration) {
        #[cfg(feature = "faults")]
        if crate::early::faults::is_sick(&order.unit.name) {
            let unit = order.unit.name.clone();
            return self.inbox.push_back(Input::Checked { unit, found: Err("sick, as asked for".into()) });
        }
        let inside = self.containers.inside(order);
        let begun =
            inside.and_then(|inside| self.looks.begin(&mut self.reactor, &inside, check, timeout, now()));
        if let Err(why) = begun {
            let unit = order.unit.name.clone();
            self.inbox.push_back(Input::Checked { unit, found: Err(why) });
        }
    }

    fn end_check(&mut self, unit: &str) {
        self.looks.forget(&mut self.reactor, unit);
    }

    fn cleanup(&mut self, unit: &str) {
        self.end_check(unit);
        self.execs.forget(&mut self.reactor, unit);
        self.inbox.retain(|input| input.of_run() != Some(unit));
        let wall = self.wall();
        self.notices.close(&mut self.reactor, unit);
        self.containers.cleanup(&mut self.reactor, unit, wall);
    }

    fn tell(&mut self, worker: &str, message: &ToWorker, netns_of: Option<&str>) -> bool {
        let fds = match (netns_of, message) {
            (Some(unit), _) => self.containers.network(unit),
            (None, ToWorker::Load { job }) => self.archives.remove(job).map(|archive| vec![archive]),
            (None, _) => Some(Vec::new()),
        };
        let Some(fds) = fds else { return false };
        self.peers.tell(&mut self.reactor, worker, message, fds, now())
    }

    fn find_image(&mut self, reference: &str) {
        self.has_features(IMAGES);
        self.next_images.push_back(reference.to_owned());
        self.find_images();
    }

    fn write_generation(&mut self, write: Write) {
        if self.next_generations.len() >= limits::GENERATION_WRITES {
            let result = Err("the disk is too slow: others wait to be written".into());
            self.inbox.push_back(Input::GenerationWritten { number: write.record.number, result });
            return;
        }
        self.next_generations.push_back(write);
        self.write_generations();
    }

    fn make_config(&mut self, recipe: Recipe) {
        let work = move || recipe.make(Path::new(paths::STATE_CONFIG));
        if let Err(why) = self.make_text(Job::MakeConfig, work) {
            self.inbox.push_back(Input::ConfigMade(Err(why)));
        }
    }

    fn answer(&mut self, peer: u64, reply: Reply) {
        self.peers.reply(&mut self.reactor, peer, &reply, Vec::new(), now());
    }

    fn store_ids(&mut self, text: String) {
        if self.chores.busy(&Job::Ids) {
            self.next_ids = Some(text);
        } else {
            self.start(Job::Ids, limits::CHILD_STORE, || files::keep_ids(&text));
        }
    }

    fn set_trial(&mut self, on: bool) {
        let record = &self.booted.record;
        let work = || record.set_trial(on).map(|()| String::new());
        if let Err(error) =
            self.chores.start(&mut self.reactor, Job::Trial, limits::CHILD_CONFIRM, now(), work)
        {
            self.chore_ended(Job::Trial, Err(error));
        }
    }

    fn store_trials(&mut self, text: String) {
        if self.chores.busy(&Job::Trials) {
            self.next_trials = Some(text);
        } else {
            self.start(Job::Trials, limits::CHILD_STORE, || files::keep_trials(&text));
        }
    }

    fn other_slot(&self) -> Result<Option<(String, String)>, String> {
        let content = self.other.as_ref().map_err(Clone::clone)?;
        Ok(content.as_ref().map(|content| (content.version.clone(), content.root_hash.clone())))
    }

    fn other_slot_changed(&mut self) {
        self.read_other_slot();
    }

    fn load_drivers(&mut self) {
        if let Some(coldplug) = &self.booted.coldplug {
            coldplug.devices_now();
            // The child ends, and that is how we know, when it hears that the boot is over.
            coldplug.boot_over();
        }
    }

    fn boot_over(&mut self) {
        if let Some(coldplug) = &self.booted.coldplug {
            coldplug.boot_over();
        }
    }

    fn hostname(&mut self, name: &str) {
        if let Err(error) = nix::unistd::sethostname(name) {
            log::error!("host name {name:?} not set: {error}");
        }
    }

    fn say(&mut self, line: String) {
        console::line(&line);
        let wall = self.wall();
        if let Some(writer) = self.containers.log(OWN_LOG) {
            writer.feed(Stream::Stdout, format!("{line}\n").as_bytes(), wall);
        }
    }

    fn step(&mut self, name: &str) {
        self.step = name.to_owned();
        if self.condemned {
            return;
        }
        if self.chores.busy(&Job::Step) {
            self.next_step = Some(name.to_owned());
            return;
        }
        let record = &mut self.booted.record;
        let work = || {
            record.step("main", name, Status::Running, "");
            Ok(String::new())
        };
        if let Err(error) = self.chores.start(&mut self.reactor, Job::Step, limits::CHILD_RECORD, now(), work)
        {
            log::warn!("step record not written: {error}");
        }
    }

    fn step_failed(&mut self, reason: &str) {
        self.next_step = None;
        self.chores.kill_all(&mut self.reactor, &Job::Step);
        let (record, step) = (&mut self.booted.record, &self.step);
        let work = || {
            record.step("main", step, Status::Failed, reason);
            Ok(String::new())
        };
        if let Err(error) = self.chores.start(&mut self.reactor, Job::Step, limits::CHILD_RECORD, now(), work)
        {
            log::warn!("step record not written: {error}");
        }
    }

    fn confirm(&mut self) {
        #[cfg(feature = "faults")]
        crate::early::faults::strike("loop", "confirm");
        self.step = "healthy".into();
        self.next_step = None;
        // A step that is still being written must not come after.
        self.chores.kill_all(&mut self.reactor, &Job::Step);
        let (record, slot, start) = (&mut self.booted.record, self.booted.slot, self.booted.start);
        let work = || {
            let (now, _) = record.read();
            match assess::after(start, now.as_ref(), slot, assess::Event::Healthy) {
                assess::Action::Write(next) => record.write(&next)?,
                assess::Action::Reboot | assess::Action::Stay => {}
            }
            record.step("main", "healthy", Status::Ok, "");
            Ok(record_text(record).unwrap_or_default())
        };
        if let Err(error) =
            self.chores.start(&mut self.reactor, Job::Confirm, limits::CHILD_CONFIRM, now(), work)
        {
            self.chore_ended(Job::Confirm, Err(error));
        }
    }

    fn condemn(&mut self, reason: &str, broken: bool) {
        if self.condemned {
            return;
        }
        self.condemned = true;
        self.next_step = None;
        // What they would still write must not come after.
        self.chores.kill_all(&mut self.reactor, &Job::Step);
        self.chores.kill_all(&mut self.reactor, &Job::Confirm);
        self.chores.kill_all(&mut self.reactor, &Job::Trial);
        let (record, slot, step) = (&mut self.booted.record, self.booted.slot, &self.step);
        let work = || {
            record.step("main", step, Status::Failed, reason);
            record.last_words(Status::Failed, reason);
            match record.read().0.filter(|_| broken).and_then(|now| assess::distrust(&now, slot)) {
                Some(next) => record.write(&next).map(|()| String::new()),
                None => Ok(String::new()),
            }
        };
        if let Err(error) =
            self.chores.start(&mut self.reactor, Job::Condemn, limits::CHILD_CONFIRM, now(), work)
        {
            log::error!("step record not written: {error}");
        }
    }

    fn finish(&mut self, halt: Halt) {
        let state = self.booted.state.clone();
        let doing = Doing::nothing();
        let shared = doing.share();
        self.last = Some(doing);
        let work = move || super::last::last_steps(&state, &shared);
        if let Err(error) = self.chores.start(&mut self.reactor, Job::Last(halt), limits::FINISH, now(), work)
        {
            self.chore_ended(Job::Last(halt), Err(error));
        }
    }

    fn last_lines(&self, unit: &str) -> Vec<String> {
        self.containers.last_lines(unit)
    }

    fn memory(&self, unit: &str) -> Option<u64> {
        self.containers.memory(unit)
    }

    fn move_clock(&mut self, by_ns: i64, error_ns: i64, at_once: bool) -> Result<(), String> {
        crate::sys::early::move_clock(by_ns, error_ns / 1000, at_once).map_err(|error| error.to_string())?;
        let due = self.clock_kept.is_none_or(|at| now().saturating_sub(at) >= limits::CLOCK_KEEP);
        if (at_once || due) && !self.chores.busy(&Job::Clock) {
            self.clock_kept = Some(now());
            self.start(Job::Clock, limits::CHILD_CLOCK, crate::early::clock::save);
        }
        Ok(())
    }

    fn clock_is_set(&self) -> bool {
        berth_units::clock::is_set()
    }

    fn earliest(&self) -> Duration {
        self.booted.built
    }

    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
