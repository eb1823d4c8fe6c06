//! The pretended kernel and clock, and a machine on them.

use super::super::*;
use crate::run::generations::{Recipe, Write};
use crate::run::kernel::Order;
use berth_units::control::{FromWorker, Reply, Request, ToWorker};
use berth_units::generation::Generation;
use berth_units::lifecycle::Exit;
use berth_units::model::{
    Check, DiskRule, InstallSettings, MachineConfig, NetworkMode, RestartPolicy, SYSTEM_IMAGE, SystemGrants,
};
use std::collections::BTreeMap;

/// What is left of a process in the pretended kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Process {
    Waits,
    Runs,
}

#[derive(Debug, Default)]
pub struct Fake {
    pub inbox: VecDeque<Input>,
    pub processes: BTreeMap<String, Process>,
    pub images: BTreeSet<String>,
    /// Units that do not care about the stop signal.
    pub stubborn: BTreeSet<String>,
    /// Units that are not even killed by the kernel.
    pub immortal: BTreeSet<String>,
    pub refuse: BTreeMap<String, String>,
    /// Units whose checks fail, and why.
    pub sick: BTreeMap<String, String>,
    pub connected: BTreeSet<String>,
    pub told: Vec<(String, String)>,
    pub said: Vec<String>,
    pub calls: Vec<String>,
    pub halted: Option<Halt>,
    /// The next time, the boot records cannot be written.
    pub confirm_fails: bool,
    /// The next time, the trial cannot be written.
    pub trial_fails: bool,
    /// The next time, what is remembered of trials cannot be kept.
    pub trials_fail: bool,
    /// As last kept.
    pub trials: String,
    /// Version and root hash of what is in the other slot.
    pub other: Option<(String, String)>,
    pub next_pid: i32,
    /// The history on the pretended disk.
    pub records: BTreeMap<u64, Generation>,
    pub texts: BTreeMap<u64, Vec<u8>>,
    pub current: Option<u64>,
    pub committed: Option<u64>,
    /// The next time, a generation cannot be written.
    pub write_fails: bool,
    /// Late answers to operators.
    pub answers: BTreeMap<u64, Reply>,
    /// How the clock was moved: by nanoseconds, at once.
    pub clock: Vec<(i64, bool)>,
}

impl Kernel for Fake {
    fn launch(&mut self, order: &Order<'_>) -> Result<(), String> {
        let unit = order.unit.name.clone();
        self.calls.push(format!("launch {unit}"));
        if let Some(why) = self.refuse.get(&unit) {
            return Err(why.clone());
        }
        assert!(self.processes.insert(unit.clone(), Process::Waits).is_none(), "{unit} runs twice");
        self.next_pid += 1;
        self.inbox.push_back(Input::Plumb { unit, pid: self.next_pid });
        Ok(())
    }
    fn go(&mut self, unit: &str) {
        if self.processes.get(unit) == Some(&Process::Waits) {
            self.processes.insert(unit.into(), Process::Runs);
            self.inbox.push_back(Input::Started { unit: unit.into() });
        }
    }
    fn signal(&mut self, unit: &str, _: &str) {
        self.calls.push(format!("signal {unit}"));
        if !self.stubborn.contains(unit) && !self.immortal.contains(unit) {
            self.end(unit, Exit::Signal(15));
        }
    }
    fn kill(&mut self, unit: &str) {
        self.calls.push(format!("kill {unit}"));
        if self.immortal.contains(unit) {
            return;
        }
        match self.processes.remove(unit) {
            Some(Process::Runs) => {
                self.inbox.push_back(Input::Exited { unit: unit.into(), exit: Exit::Signal(9), oom: false });
            }
            Some(Process::Waits) => {
                self.inbox.push_back(Input::StartFailed { unit: unit.into(), reason: "killed".into() });
            }
            None => {}
        }
        self.inbox.push_back(Input::CgroupEmpty { unit: unit.into() });
    }
    fn choose_disk(&mut self, settings: &InstallSettings, id: &str) {
        self.calls.push(format!("choose disk {:?} for {id}", settings.disk));
    }
    fn config_kept(&mut self) {
        self.calls.push("config kept".into());
    }
    fn check(&mut self, order: &Order<'_>, check: &Check, _: Duration) {
        let unit = order.unit.name.clone();
        assert!(self.processes.contains_key(&unit), "a look at {unit}, which does not run");
        assert!(!matches!(check, Check::Command(words) if words.is_empty()));
        self.calls.push(format!("check {unit}"));
        let found = match self.sick.get(&unit) {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        };
        self.inbox.push_back(Input::Checked { unit, found });
    }
    fn forget(&mut self, unit: &str, all: bool) {
        assert!(!self.processes.contains_key(unit));
        self.calls.push(format!("forget {unit}{}", if all { " and all of it" } else { "" }));
        if all {
            self.inbox.push_back(Input::Discarded { unit: unit.into() });
        }
    }
    fn end_check(&mut self, unit: &str) {
        self.inbox.retain(|input| !matches!(input, Input::Checked { unit: of, .. } if of == unit));
    }
    fn cleanup(&mut self, unit: &str) {
        assert!(!self.processes.contains_key(unit));
        self.inbox.retain(|input| input.of_run() != Some(unit));
        self.calls.push(format!("cleanup {unit}"));
    }
    fn tell(&mut self, worker: &str, message: &ToWorker, netns_of: Option<&str>) -> bool {
        if let Some(unit) = netns_of {
            assert!(self.processes.contains_key(unit), "no namespace of {unit}");
        }
        let text = serde_json::to_string(message).unwrap();
        self.told.push((worker.into(), text));
        self.connected.contains(worker)
    }
    fn find_image(&mut self, reference: &str) {
        let found = self.images.contains(reference).then(|| {
            Box::new(PreparedImage {
                format: 1,
                reference: reference.into(),
                digest: format!("sha256:{}", "0".repeat(64)),
                layers: vec!["1".repeat(64)],
                entrypoint: vec!["/server".into()],
                cmd: vec!["--port".into(), "80".into()],
                env: Vec::new(),
                workdir: String::new(),
                user: String::new(),
                stop_signal: String::new(),
                layer_bytes: Vec::new(),
                kept: false,
            })
        });
        self.inbox.push_back(Input::Image { reference: reference.into(), found: Ok(found) });
    }
    fn write_generation(&mut self, write: Write) {
        let Write { record, config, current, committed } = write;
        let number = record.number;
        if let Some(text) = config {
            self.texts.insert(number, text);
        }
        if current && (self.current != Some(number)) {
            let bytes = self.texts[&number].len();
            self.calls.push(format!("store config of {bytes} bytes, {}", record.why));
        }
        self.current = if current { Some(number) } else { self.current };
        self.committed = if committed { Some(number) } else { self.committed };
        self.records.insert(number, record);
        let result = match std::mem::take(&mut self.write_fails) {
            true => Err("disk full".into()),
            false => Ok(()),
        };
        self.inbox.push_back(Input::GenerationWritten { number, result });
    }
    fn make_config(&mut self, recipe: Recipe) {
        let (Recipe::Of(number) | Recipe::Edited(number, _)) = &recipe;
        let text = self.texts.get(number).cloned().ok_or(format!("generation {number} is not kept any more"));
        // An "edit" is lines that come to the others.
        let made = text.map(|text| match &recipe {
            Recipe::Of(_) => text,
            Recipe::Edited(_, more) => [text, b"\n".to_vec(), more.clone()].concat(),
        });
        self.inbox.push_back(Input::ConfigMade(made));
    }
    fn answer(&mut self, peer: u64, reply: Reply) {
        assert!(self.answers.insert(peer, reply).is_none(), "{peer} is answered twice");
    }
    fn store_ids(&mut self, text: String) {
        self.calls.push(format!("store ids {}", text.lines().count()));
    }
    fn load_drivers(&mut self) {
        self.calls.push("load drivers".into());
    }
    fn boot_over(&mut self) {
        self.calls.push("boot over".into());
    }
    fn hostname(&mut self, name: &str) {
        self.calls.push(format!("hostname {name}"));
    }
    fn say(&mut self, line: String) {
        self.said.push(line);
    }
    fn step(&mut self, name: &str) {
        self.calls.push(format!("step {name}"));
    }
    fn step_failed(&mut self, reason: &str) {
        self.calls.push(format!("step failed: {reason}"));
    }
    fn confirm(&mut self) {
        self.calls.push("confirm".into());
        let result =
            if std::mem::take(&mut self.confirm_fails) { Err("disk is slow".into()) } else { Ok(()) };
        self.inbox.push_back(Input::Confirmed(result));
    }
    fn condemn(&mut self, reason: &str, broken: bool) {
        self.calls.push(format!("condemn {reason}, {broken}"));
    }
    fn set_trial(&mut self, on: bool) {
        self.calls.push(format!("set trial {on}"));
        let failed = std::mem::take(&mut self.trial_fails);
        self.inbox.push_back(Input::TrialSet(if failed { Err("disk is slow".into()) } else { Ok(()) }));
    }
    fn store_trials(&mut self, text: String) {
        let failed = std::mem::take(&mut self.trials_fail);
        if !failed {
            self.trials = text;
        }
        self.inbox.push_back(Input::TrialsKept(if failed { Err("no space".into()) } else { Ok(()) }));
    }
    fn other_slot(&self) -> Result<Option<(String, String)>, String> {
        Ok(self.other.clone())
    }
    fn other_slot_changed(&mut self) {
        self.calls.push("other slot changed".into());
    }
    fn finish(&mut self, halt: Halt) {
        assert!(self.halted.replace(halt).is_none(), "finished twice");
    }
    fn last_lines(&self, unit: &str) -> Vec<String> {
        vec![format!("{unit} listens"), format!("{unit} gives up")]
    }
    fn memory(&self, _: &str) -> Option<u64> {
        Some(1)
    }
    fn move_clock(&mut self, by_ns: i64, _: i64, at_once: bool) -> Result<(), String> {
        self.clock.push((by_ns, at_once));
        Ok(())
    }
    fn clock_is_set(&self) -> bool {
        !self.clock.is_empty()
    }
    fn clock_kept(&self) -> Option<u64> {
        None
    }
    fn earliest(&self) -> Duration {
        Duration::from_secs(1_700_000_000)
    }
    fn wall(&self) -> Duration {
        Duration::from_secs(1_795_507_200)
    }
}

impl Fake {
    pub fn end(&mut self, unit: &str, exit: Exit) {
        if self.processes.remove(unit) == Some(Process::Runs) {
            self.inbox.push_back(Input::Exited { unit: unit.into(), exit, oom: false });
            self.inbox.push_back(Input::CgroupEmpty { unit: unit.into() });
        }
    }
}

pub struct Machine {
    pub supervisor: Supervisor,
    pub k: Fake,
    pub now: Duration,
}

pub fn unit(name: &str) -> Unit {
    unit_with(name, "")
}

/// With these lines of a unit file besides.
fn unit_with(name: &str, more: &str) -> Unit {
    let text = format!("container.image = \"example.org/web:1\"\nnetwork.mode = \"host\"\n{more}");
    berth_units::schema::parse_unit(name, name, text.as_bytes(), Origin::Config).unwrap()
}

pub fn worker(name: &str) -> Unit {
    let mut unit = unit(name);
    unit.origin = Origin::System;
    unit.container.image = SYSTEM_IMAGE.into();
    unit.restart.limit = 0;
    if [META, CLOUD].contains(&name) {
        unit.restart.policy = RestartPolicy::No;
    }
    unit.system = Some(SystemGrants { control: true, ..SystemGrants::default() });
    unit
}

/// A "config" is a list of unit names, one a line, `name<other` for `requires`, `@HOST` for a time server, `automatic` for updates, `install` for an installation,
/// `+` for a check, a `!` behind for one that notifies, `#3`
/// for instances, `~` for the bridge, `@` for an image, `[instance]` and what follows for itself; `!KEY!KEY!` is refused, of which
/// `^KEY!KEY!` is left.
pub fn check(text: &[u8], _: &[Unit]) -> Result<MachineConfig, Refused> {
    let text = std::str::from_utf8(text).unwrap();
    if let Some(keys) = text.strip_prefix('!') {
        let salvage = format!("^{keys}").into_bytes();
        return Err(Refused { report: "berth.toml:1:1: unknown field\n  did you mean?".into(), salvage });
    }
    if let Some(keys) = text.strip_prefix('^') {
        let access_keys = keys.split_terminator('!').map(|key| format!("ssh-ed25519 {key}")).collect();
        return Ok(MachineConfig { access_keys, ..MachineConfig::default() });
    }
    let mut config = MachineConfig { hostname: Some("box".into()), ..MachineConfig::default() };
    config.access_keys = vec!["ssh-ed25519 AAAA me".into()];
    let (text, instance) = text.split_once("[instance]").map_or((text, None), |(text, of)| (text, Some(of)));
    config.instance = instance.map(|of| {
        let field = |name: &str| {
            let line = of.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line.map(|value| value.trim_end_matches('"').to_owned())
        };
        Instance {
            source: field("source").unwrap_or_default(),
            id: field("id"),
            uuid: field("uuid"),
            ..Instance::default()
        }
    });
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(server) = line.strip_prefix('@') {
            config.time_servers.get_or_insert_default().push(server.into());
            continue;
        }
        if line == "install" {
            config.install.disk = Some(DiskRule::Only);
            continue;
        }
        if line == "automatic" {
            config.update.automatic = true;
            continue;
        }
        let (name, requires) = line.split_once('<').map_or((line, None), |(n, r)| (n, Some(r)));
        let (name, image) = name.split_once('@').map_or((name, None), |(n, image)| (n, Some(image)));
        let plain = name.trim_matches(['*', '~', '+', '!', '%']);
        let (plain, instances) = plain.split_once('#').unwrap_or((plain, "1"));
        let mut more = format!("unit.instances = {instances}\n");
        if let Some(requires) = requires {
            more += &format!("unit.requires = [\"{requires}\"]\n");
        }
        if name.contains('!') {
            more += "ready.notify = true\n";
        }
        if name.contains('+') {
            more += "health.command = [\"/check\"]\n";
        }
        let mut unit = unit_with(plain, &more);
        unit.container.image = image.map_or(unit.container.image, str::to_owned);
        unit.required_for_boot = name.starts_with('*');
        unit.enabled = !name.contains('%');
        if name.contains('~') {
            unit.network.mode = NetworkMode::Bridge;
        }
        config.units.push(unit);
    }
    Ok(config)
}

/// Meta has found a config; its text rides along.
pub fn found(source: &str, looked: Vec<String>) -> FromWorker {
    FromWorker::ConfigFound { source: source.into(), looked, notes: Vec::new() }
}

/// Meta has found none.
pub fn none(looked: Vec<String>) -> FromWorker {
    FromWorker::ConfigNone { looked, notes: Vec::new(), cloud: None }
}

pub fn facts() -> Facts {
    Facts {
        medium: false,
        installs_nothing: false,
        version: "0.1.0".into(),
        slot: "a".into(),
        root_hash: "a".repeat(64),
        other_slot: "b".into(),
        no_update: None,
        state_trouble: None,
        trial_left: false,
        tried: false,
        other_went: String::new(),
        hostname: "berth".into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        uuid: Some("1".repeat(32)),
        metadata_deadline: Duration::from_secs(30),
        on_trial: false,
        rescue: None,
        health_deadline: Duration::from_secs(90),
    }
}

impl Machine {
    pub fn new(facts: Facts) -> Self {
        Self::with_system(facts, &[])
    }

    /// With these beside the usual system units.
    pub fn with_system(facts: Facts, more: &[&str]) -> Self {
        let units = [NET, META, CLOUD, STORE, API, UPDATE].iter().chain(more).copied().map(worker).collect();
        let supervisor = Supervisor::new(facts, check, units);
        let k = Fake { images: ["example.org/web:1".to_owned()].into(), ..Fake::default() };
        let mut machine = Self { supervisor, k, now: Duration::from_secs(1) };
        machine.supervisor.drivers_loaded(Duration::ZERO);
        machine.now += limits::DEVICES_SETTLE;
        machine
    }

    /// Boots with a kept config.
    pub fn boot(config: &str) -> Self {
        let mut machine = Self::new(facts());
        machine.begin(Some(config));
        machine.has_address();
        machine
    }

    /// The rest of a boot that is found healthy, after so many seconds.
    pub fn healthy(mut self, seconds: u64) -> Self {
        self.ready(NET);
        self.ready(API);
        self.seconds(seconds);
        assert!(self.supervisor.is_confirmed());
        self
    }

    pub fn has_address(&mut self) {
        let addresses = vec![("eth0".to_owned(), "192.0.2.1/24".to_owned())];
        self.give(Input::Worker {
            unit: NET.into(),
            message: FromWorker::Addresses { addresses },
            text: None,
        });
    }

    pub fn begin(&mut self, config: Option<&str>) {
        self.supervisor.begin(config.map(str::as_bytes), self.now, &mut self.k);
        self.settle();
    }

    pub fn settle(&mut self) {
        let mut rounds = 0;
        while let Some(input) = self.k.inbox.pop_front() {
            self.supervisor.handle(input, self.now, &mut self.k);
            rounds += 1;
            assert!(rounds < 10_000, "never settles");
        }
    }

    pub fn give(&mut self, input: Input) {
        self.k.inbox.push_back(input);
        self.settle();
    }

    pub fn worker(&mut self, unit: &str, message: FromWorker) {
        if matches!(message, FromWorker::Hello) {
            self.k.connected.insert(unit.into());
        }
        self.give(Input::Worker { unit: unit.into(), message, text: None });
    }

    pub fn ready(&mut self, unit: &str) {
        if self.state(unit) == State::Stopped {
            self.pass(limits::REST_HOLD);
        }
        self.worker(unit, FromWorker::Hello);
        self.worker(unit, FromWorker::Ready);
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.supervisor.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.supervisor.tick(self.now, &mut self.k);
            self.settle();
            assert!(self.supervisor.next_deadline().is_none_or(|at| at > self.now), "the loop would spin");
        }
        self.now = end;
    }

    pub fn seconds(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    pub fn exit(&mut self, unit: &str, exit: Exit) {
        self.k.end(unit, exit);
        self.settle();
    }

    pub fn why(&mut self, unit: &str) -> String {
        match self.supervisor.ask(&Request::Ps, self.now, &mut self.k) {
            Some(Reply::Units(units)) => units.into_iter().find(|status| status.name == unit).unwrap().reason,
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&self, unit: &str) -> State {
        self.supervisor.units[unit].life.state
    }

    pub fn said(&self, text: &str) -> bool {
        self.k.said.iter().any(|line| line.contains(text))
    }

    pub fn called(&self, text: &str) -> usize {
        self.k.calls.iter().filter(|call| call.starts_with(text)).count()
    }

    pub fn told(&self, worker: &str, text: &str) -> usize {
        self.k.told.iter().filter(|(to, what)| to == worker && what.contains(text)).count()
    }

    pub fn halt(&mut self, halt: Halt) {
        self.give(Input::Halt { halt, why: "test".into() });
    }
}
