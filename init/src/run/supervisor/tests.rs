//! The supervisor on a pretended kernel with a pretended clock.

use super::*;
use berth_units::control::{FromWorker, Reply, Request, ToWorker};
use berth_units::lifecycle::Exit;
use berth_units::model::{
    Container, MachineConfig, Network, NetworkMode, Resources, Restart, RestartPolicy, SYSTEM_IMAGE,
    SystemGrants,
};
use std::collections::BTreeMap;

/// What is left of a process in the pretended kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Process {
    Waits,
    Runs,
}

#[derive(Debug, Default)]
struct Fake {
    inbox: VecDeque<Input>,
    processes: BTreeMap<String, Process>,
    images: BTreeSet<String>,
    /// Units that do not care about the stop signal.
    stubborn: BTreeSet<String>,
    /// Units that are not even killed by the kernel.
    immortal: BTreeSet<String>,
    refuse: BTreeMap<String, String>,
    connected: BTreeSet<String>,
    told: Vec<(String, String)>,
    said: Vec<String>,
    calls: Vec<String>,
    halted: Option<Halt>,
    next_pid: i32,
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
    fn cleanup(&mut self, unit: &str) {
        assert!(!self.processes.contains_key(unit));
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
            })
        });
        self.inbox.push_back(Input::Image { reference: reference.into(), found: Ok(found) });
    }
    fn store_config(&mut self, text: &[u8], source: &str) {
        self.calls.push(format!("store config of {} bytes from {source}", text.len()));
        self.inbox.push_back(Input::ConfigStored(Ok(())));
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
        self.inbox.push_back(Input::Confirmed(Ok(())));
    }
    fn condemn(&mut self, reason: &str, broken: bool) {
        self.calls.push(format!("condemn {reason}, {broken}"));
    }
    fn finish(&mut self, halt: Halt) {
        assert!(self.halted.replace(halt).is_none(), "finished twice");
    }
    fn memory(&self, _: &str) -> Option<u64> {
        Some(1)
    }
    fn wall(&self) -> Duration {
        Duration::from_secs(1_795_507_200)
    }
}

impl Fake {
    fn end(&mut self, unit: &str, exit: Exit) {
        if self.processes.remove(unit) == Some(Process::Runs) {
            self.inbox.push_back(Input::Exited { unit: unit.into(), exit, oom: false });
            self.inbox.push_back(Input::CgroupEmpty { unit: unit.into() });
        }
    }
}

struct Machine {
    supervisor: Supervisor,
    k: Fake,
    now: Duration,
}

fn unit(name: &str) -> Unit {
    Unit {
        name: name.into(),
        origin: Origin::Config,
        description: String::new(),
        after: Vec::new(),
        requires: Vec::new(),
        required_for_boot: false,
        container: Container {
            image: "example.org/web:1".into(),
            command: None,
            args: None,
            env: BTreeMap::new(),
            workdir: None,
            user: None,
            read_only: false,
            tmpfs: BTreeMap::new(),
        },
        network: Network { mode: NetworkMode::Host, ports: Vec::new() },
        resources: Resources::default(),
        restart: Restart::default(),
        system: None,
        places: berth_units::model::Places::default(),
    }
}

fn worker(name: &str) -> Unit {
    let mut unit = unit(name);
    unit.origin = Origin::System;
    unit.container.image = SYSTEM_IMAGE.into();
    unit.restart.limit = 0;
    if name == META {
        unit.restart.policy = RestartPolicy::No;
    }
    unit.system = Some(SystemGrants { control: true, ..SystemGrants::default() });
    unit
}

/// A "config" is a list of unit names, one a line, `name<other` for `requires`; `!KEY!KEY!` is refused.
fn check(text: &[u8], _: &[Unit]) -> Result<MachineConfig, Refused> {
    let text = std::str::from_utf8(text).unwrap();
    if let Some(keys) = text.strip_prefix('!') {
        let keys = keys.split_terminator('!').map(|key| format!("ssh-ed25519 {key}")).collect();
        return Err(Refused { report: "berth.toml:1:1: unknown field\n  did you mean?".into(), keys });
    }
    let mut config = MachineConfig { hostname: Some("box".into()), ..MachineConfig::default() };
    config.access_keys = vec!["ssh-ed25519 AAAA me".into()];
    for line in text.lines() {
        let (name, requires) = line.split_once('<').map_or((line, None), |(n, r)| (n, Some(r)));
        let mut unit = unit(name.trim_matches(['*', '~']));
        unit.requires = requires.map(str::to_owned).into_iter().collect();
        unit.required_for_boot = name.starts_with('*');
        if name.ends_with('~') {
            unit.network.mode = NetworkMode::Bridge;
        }
        config.units.push(unit);
    }
    Ok(config)
}

fn facts() -> Facts {
    Facts {
        version: "0.1.0".into(),
        slot: "a".into(),
        hostname: "berth".into(),
        on_trial: false,
        rescue: None,
        health_deadline: Duration::from_secs(90),
    }
}

impl Machine {
    fn new(facts: Facts) -> Self {
        let units = [NET, META, STORE, API].map(worker).to_vec();
        let supervisor = Supervisor::new(facts, check, units);
        let k = Fake { images: ["example.org/web:1".to_owned()].into(), ..Fake::default() };
        let mut machine = Self { supervisor, k, now: Duration::from_secs(1) };
        machine.supervisor.drivers_loaded(Duration::ZERO);
        machine.now += limits::DEVICES_SETTLE;
        machine
    }

    /// Boots with a kept config.
    fn boot(config: &str) -> Self {
        let mut machine = Self::new(facts());
        machine.begin(Some(config));
        machine
    }

    fn begin(&mut self, config: Option<&str>) {
        self.supervisor.begin(config.map(str::as_bytes), self.now, &mut self.k);
        self.settle();
    }

    fn settle(&mut self) {
        let mut rounds = 0;
        while let Some(input) = self.k.inbox.pop_front() {
            self.supervisor.handle(input, self.now, &mut self.k);
            rounds += 1;
            assert!(rounds < 10_000, "never settles");
        }
    }

    fn give(&mut self, input: Input) {
        self.k.inbox.push_back(input);
        self.settle();
    }

    fn worker(&mut self, unit: &str, message: FromWorker) {
        if matches!(message, FromWorker::Hello) {
            self.k.connected.insert(unit.into());
        }
        self.give(Input::Worker { unit: unit.into(), message, text: None });
    }

    fn ready(&mut self, unit: &str) {
        if self.state(unit) == State::Stopped {
            self.pass(limits::API_HOLD);
        }
        self.worker(unit, FromWorker::Hello);
        self.worker(unit, FromWorker::Ready);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.supervisor.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.supervisor.tick(self.now, &mut self.k);
            self.settle();
            assert!(self.supervisor.next_deadline().is_none_or(|at| at > self.now), "the loop would spin");
        }
        self.now = end;
    }

    fn seconds(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    fn exit(&mut self, unit: &str, exit: Exit) {
        self.k.end(unit, exit);
        self.settle();
    }

    fn state(&self, unit: &str) -> State {
        self.supervisor.units[unit].life.state
    }

    fn said(&self, text: &str) -> bool {
        self.k.said.iter().any(|line| line.contains(text))
    }

    fn called(&self, text: &str) -> usize {
        self.k.calls.iter().filter(|call| call.starts_with(text)).count()
    }

    fn told(&self, worker: &str, text: &str) -> usize {
        self.k.told.iter().filter(|(to, what)| to == worker && what.contains(text)).count()
    }

    fn halt(&mut self, halt: Halt) {
        self.give(Input::Halt { halt, why: "test".into() });
    }
}

#[test]
fn a_unit_starts_when_what_it_requires_runs_and_the_slot_becomes_good() {
    let mut machine = Machine::boot("*web<db\ndb");
    assert_eq!(machine.state("db"), State::Running);
    assert_eq!(machine.state("web"), State::Running);
    let at = |what: &str| machine.k.calls.iter().position(|call| call == what).unwrap();
    assert!(at("launch db") < at("launch web"));
    assert!(at("step start unit db") < at("launch db"));
    machine.ready(NET);
    machine.ready(API);
    assert_eq!(machine.called("confirm"), 0);
    machine.seconds(3);
    assert_eq!(machine.state("web"), State::Healthy);
    assert_eq!(machine.called("confirm"), 1);
    assert!(machine.supervisor.is_confirmed());
    assert!(machine.said("slot     a is good, everything healthy at 6.00 s"), "{:#?}", machine.k.said);
    assert!(machine.said("web      running (image example.org/web:1)"));
    assert!(machine.said("ready    first container at 4.00 s, 2 of 2 units up"));
    assert_eq!(machine.called("launch meta"), 0, "the source is not consulted again");
}

#[test]
fn a_failed_requirement_fails_the_unit() {
    let mut machine = Machine::new(facts());
    machine.k.refuse.insert("db".into(), "mount layer 1: no such file".into());
    machine.begin(Some("web<db\ndb"));
    assert_eq!((machine.state("db"), machine.state("web")), (State::Backoff, State::Waiting));
    machine.seconds(1200);
    assert_eq!((machine.state("db"), machine.state("web")), (State::Failed, State::Failed));
    assert!(machine.said("mount layer 1: no such file"));
    assert!(machine.said("a required unit failed (unit db)"));
    assert_eq!(machine.called("launch db"), 11, "ten restarts");
}

#[test]
fn a_crash_loop_is_slow_and_ends() {
    let mut machine = Machine::boot("web");
    for _ in 0..2000 {
        machine.exit("web", Exit::Code(1));
        machine.seconds(1);
    }
    assert_eq!(machine.state("web"), State::Failed);
    assert_eq!(machine.called("launch web"), 11);
    let Some(Reply::Units(units)) = machine.supervisor.ask(&Request::Ps, machine.now, &mut machine.k) else {
        panic!()
    };
    let web = units.iter().find(|unit| unit.name == "web").unwrap();
    assert!(web.reason.starts_with("exit code 1"), "{}", web.reason);
    let request = Request::Inspect { unit: "web".into() };
    let Some(Reply::Unit(web)) = machine.supervisor.ask(&request, machine.now, &mut machine.k) else {
        panic!()
    };
    assert_eq!(web.exits.len(), limits::EXITS);
    assert_eq!(web.exits[0], "2026-11-24T08:00:00Z exit code 1");
    assert_eq!(web.command, ["/server", "--port", "80"]);
}

#[test]
fn units_stop_in_reverse_order_users_first() {
    let mut machine = Machine::boot("web<db\ndb\ncache");
    machine.halt(Halt::Reboot);
    let order: Vec<&str> = machine.k.calls.iter().filter_map(|call| call.strip_prefix("signal ")).collect();
    let at = |unit: &str| order.iter().position(|u| *u == unit).unwrap();
    assert!(at("web") < at("db"));
    assert!(at("db") < at(NET) && at("cache") < at(API));
    assert_eq!(machine.k.halted, Some(Halt::Reboot));
    assert!(machine.said("stop     reboot: test"));
}

#[test]
fn a_stubborn_unit_is_killed_after_its_own_time() {
    let mut machine = Machine::boot("web");
    machine.k.stubborn.insert("web".into());
    machine.halt(Halt::Poweroff);
    machine.seconds(9);
    assert_eq!(machine.k.halted, None);
    machine.seconds(2);
    assert_eq!(machine.k.halted, Some(Halt::Poweroff));
}

#[test]
fn what_cannot_be_killed_does_not_keep_the_machine_up() {
    let mut machine = Machine::boot("web<db\ndb\nother");
    machine.k.immortal.insert("web".into());
    machine.halt(Halt::Poweroff);
    machine.seconds(59);
    assert_eq!(machine.k.halted, None);
    assert_eq!(machine.state("db"), State::Healthy, "web may still need it");
    assert_eq!(machine.state("other"), State::Stopped);
    machine.seconds(7);
    assert_eq!(machine.k.halted, Some(Halt::Poweroff));
    assert!(machine.said("killed, they did not stop in time"));
    machine.seconds(100);
}

#[test]
fn a_restarted_worker_is_told_everything_again() {
    let mut machine = Machine::boot("web~");
    assert_eq!(machine.state("web"), State::Starting);
    machine.ready(NET);
    machine.ready(API);
    assert_eq!((machine.told(NET, "\"configure\""), machine.told(NET, "\"attach\"")), (1, 1));
    assert_eq!(machine.told(API, "ssh-ed25519 AAAA me"), 1);
    let address = "10.88.0.2".parse().unwrap();
    machine.worker(NET, FromWorker::Attached { unit: "web".into(), address });
    assert_eq!(machine.state("web"), State::Running);

    machine.give(Input::WorkerGone { unit: NET.into() });
    machine.exit(NET, Exit::Signal(11));
    machine.seconds(1);
    machine.ready(NET);
    assert_eq!((machine.told(NET, "\"configure\""), machine.told(NET, "\"attach\"")), (2, 2));
    machine.worker(NET, FromWorker::Attached { unit: "web".into(), address });
    assert_eq!(machine.called("launch web"), 1, "web lives on");

    machine.exit("web", Exit::Code(0));
    assert_eq!(machine.told(NET, "\"detach\""), 1);
}

#[test]
fn no_network_fails_the_start_with_its_reason_and_tries_again() {
    let mut machine = Machine::boot("web~");
    machine.seconds(16);
    assert!(machine.said("no network after 15 s: the network agent is not running"), "{:#?}", machine.k.said);
    machine.ready(NET);
    let error = "no free address".to_owned();
    machine.worker(NET, FromWorker::AttachFailed { unit: "web".into(), error });
    assert_eq!(machine.state("web"), State::Backoff);
    assert!(machine.said("no network: no free address"));
    machine.seconds(2);
    let address = "10.88.0.2".parse().unwrap();
    machine.worker(NET, FromWorker::Attached { unit: "web".into(), address });
    assert!(machine.state("web").is_up());
}

#[test]
fn the_store_runs_only_while_it_is_needed() {
    let mut machine = Machine::new(facts());
    machine.k.images.clear();
    machine.begin(Some("web\nother"));
    assert_eq!((machine.state("web"), machine.state(STORE)), (State::Preparing, State::Running));
    machine.ready(STORE);
    assert_eq!(machine.told(STORE, "example.org/web:1"), 1, "one reference is asked for once");
    machine.seconds(60);
    machine.give(Input::WorkerGone { unit: STORE.into() });
    machine.exit(STORE, Exit::Code(101));
    machine.seconds(1);
    machine.ready(STORE);
    assert_eq!(machine.told(STORE, "example.org/web:1"), 2, "and again after a crash");

    machine.k.images.insert("example.org/web:1".into());
    machine.worker(STORE, FromWorker::Prepared { reference: "example.org/web:1".into() });
    assert!(machine.state("web").is_up() && machine.state("other").is_up());
    machine.ready(NET);
    machine.ready(API);
    machine.seconds(10);
    assert_eq!(machine.state(STORE), State::Stopped);
    assert!(machine.supervisor.is_confirmed());
}

#[test]
fn an_image_that_cannot_be_had_is_tried_again() {
    let mut machine = Machine::new(facts());
    machine.k.images.clear();
    machine.begin(Some("web"));
    machine.ready(STORE);
    let failed =
        || FromWorker::PrepareFailed { reference: "example.org/web:1".into(), error: "not found".into() };
    machine.worker(STORE, failed());
    assert_eq!(machine.state("web"), State::Backoff);
    assert!(machine.said("not found"));
    machine.seconds(1);
    assert_eq!(machine.told(STORE, "example.org/web:1"), 2);
}

#[test]
fn a_found_config_is_kept_and_applied_once() {
    let mut machine = Machine::new(facts());
    machine.begin(None);
    assert_eq!(machine.state(META), State::Running);
    machine.ready(NET);
    machine.ready(API);
    assert_eq!(machine.told(NET, "configure"), 0, "not before the config is known");
    machine.worker(META, FromWorker::Hello);
    for name in ["web", "late"] {
        machine.give(Input::Worker {
            unit: META.into(),
            message: FromWorker::ConfigFound { source: "fw_cfg".into(), looked: vec!["smbios: none".into()] },
            text: Some(name.into()),
        });
    }
    machine.exit(META, Exit::Code(0));
    assert!(machine.state("web").is_up());
    assert!(!machine.supervisor.has("late"));
    assert_eq!(machine.called("store config of 3 bytes from fw_cfg"), 1);
    assert_eq!(machine.called("hostname box"), 1);
    assert_eq!((machine.told(NET, "configure"), machine.told(API, "me")), (1, 1));
    machine.seconds(3);
    assert!(machine.supervisor.is_confirmed());
    let Some(Reply::ConfigStatus(status)) =
        machine.supervisor.ask(&Request::ConfigStatus, machine.now, &mut machine.k)
    else {
        panic!()
    };
    assert_eq!((status.state.as_str(), status.source.as_str()), ("applied", "fw_cfg"));
    assert_eq!(status.looked, ["smbios: none"]);
}

#[test]
fn a_refused_config_leaves_a_machine_with_a_network() {
    for kept in [true, false] {
        let mut machine = Machine::new(facts());
        machine.begin(kept.then_some("!one!two"));
        machine.ready(NET);
        machine.ready(API);
        if !kept {
            machine.worker(META, FromWorker::Hello);
            machine.give(Input::Worker {
                unit: META.into(),
                message: FromWorker::ConfigFound { source: "smbios".into(), looked: vec![] },
                text: Some("!one!two".into()),
            });
            machine.exit(META, Exit::Code(0));
        }
        assert!(machine.said("config   refused, from s"), "{:#?}", machine.k.said);
        assert!(machine.said("berth.toml:1:1: unknown field") && machine.said("  did you mean?"));
        assert_eq!((machine.told(NET, "configure"), machine.told(API, "access")), (1, 1));
        assert_eq!(machine.told(API, "[\"ssh-ed25519 one\",\"ssh-ed25519 two\"]"), 1);
        assert!(machine.said("config   2 access keys of it are valid until a config is applied"));
        assert_eq!(machine.called("hostname"), 0);
        assert!(machine.supervisor.is_confirmed(), "the slot is not to blame");
        assert_eq!(machine.called("store config"), 0);
    }
}

/// Meta's answer to an operator's "look again", as far as it is told at once.
fn look_again(machine: &mut Machine, answer: Option<&str>) -> ConfigStatus {
    let ask = |machine: &mut Machine, request| {
        let reply = machine.supervisor.ask(&request, machine.now, &mut machine.k);
        machine.settle();
        reply
    };
    assert!(matches!(ask(machine, Request::ConfigReload), Some(Reply::Done)));
    assert_eq!(machine.state(META), State::Running);
    let twice = ask(machine, Request::ConfigReload);
    assert!(matches!(twice, Some(Reply::Error { kind, .. }) if kind == "busy"));
    machine.worker(META, FromWorker::Hello);
    match answer {
        Some(text) => machine.give(Input::Worker {
            unit: META.into(),
            message: FromWorker::ConfigFound { source: "fw_cfg".into(), looked: vec!["smbios: none".into()] },
            text: Some(text.into()),
        }),
        None => machine.worker(META, FromWorker::ConfigNone { looked: vec!["smbios: none".into()] }),
    }
    machine.exit(META, Exit::Code(0));
    let Some(Reply::ConfigStatus(status)) = ask(machine, Request::ConfigStatus) else { panic!() };
    status
}

#[test]
fn an_operator_has_the_source_asked_again() {
    let mut machine = Machine::boot("web");
    machine.ready(NET);
    machine.ready(API);
    let told = machine.k.told.len();
    for (answer, state, report) in [
        (Some("!one"), "refused", "berth.toml:1:1: unknown field\n  did you mean?"),
        (None, "none", ""),
        (Some("other"), "kept", ""),
        (Some("other\nthird"), "kept", ""),
    ] {
        let status = look_again(&mut machine, answer);
        assert_eq!((status.state.as_str(), status.source.as_str()), ("applied", "state"));
        assert!(status.looked.is_empty() && status.report.is_empty(), "{status:?}");
        let reload = status.reload.unwrap();
        assert_eq!((reload.state.as_str(), reload.report.trim_end()), (state, report));
        assert_eq!(reload.looked, ["smbios: none"]);
        assert_eq!(machine.supervisor.keys, ["ssh-ed25519 AAAA me"], "the keys in force stay");
    }
    assert_eq!(machine.called("store config"), 2);
    assert!(machine.said("config   from fw_cfg, sha256:") && machine.said("in force from the next boot"));
    assert!(!machine.supervisor.has("other") && machine.state("web").is_up(), "nothing changes before that");
    assert_eq!(machine.k.told.len(), told);
    machine.seconds(100);
    assert_eq!(machine.called("launch meta"), 4);
}

#[test]
fn a_search_that_an_operator_wants_may_fail() {
    let mut machine = Machine::boot("web");
    let ask = |machine: &mut Machine, request| {
        let reply = machine.supervisor.ask(&request, machine.now, &mut machine.k);
        machine.settle();
        reply
    };
    ask(&mut machine, Request::ConfigReload);
    machine.seconds(11);
    machine.seconds(11);
    ask(&mut machine, Request::ConfigReload);
    machine.exit(META, Exit::Signal(11));
    let Some(Reply::ConfigStatus(status)) = ask(&mut machine, Request::ConfigStatus) else { panic!() };
    assert!(machine.said("config   not replaced: meta gave no answer within 10 s"), "{:#?}", machine.k.said);
    let report = status.reload.unwrap().report;
    assert!(report.starts_with("meta ended without an answer: "), "{report}");
    assert_eq!(status.state, "applied");
    machine.halt(Halt::Reboot);
    assert!(matches!(ask(&mut machine, Request::ConfigReload), Some(Reply::Error { .. })));
}

#[test]
fn a_silent_or_crashed_meta_does_not_stop_the_boot() {
    for crash in [true, false] {
        let mut machine = Machine::new(facts());
        machine.begin(None);
        machine.ready(NET);
        machine.ready(API);
        if crash {
            machine.exit(META, Exit::Signal(11));
            assert!(machine.said("meta ended without an answer: "));
        } else {
            machine.seconds(11);
            assert!(machine.said("meta gave no answer within 10 s"));
        }
        assert_eq!(machine.told(NET, "configure"), 1);
        machine.seconds(3);
        assert!(machine.supervisor.is_confirmed());
        assert_eq!(machine.called("launch meta"), 1);
    }
}

#[test]
fn a_trial_that_is_not_healthy_in_time_reboots_with_the_reason() {
    let mut machine = Machine::new(Facts { on_trial: true, ..facts() });
    machine.k.refuse.insert("web".into(), "no such program".into());
    machine.begin(Some("*web"));
    machine.ready(NET);
    machine.ready(API);
    machine.seconds(120);
    assert_eq!(machine.called("confirm"), 0);
    let condemned = machine.k.calls.iter().find(|call| call.starts_with("condemn")).unwrap();
    assert!(condemned.contains("not healthy after 90 s: web is backoff"), "{condemned}");
    assert!(condemned.contains("no such program"), "{condemned}");
    assert_eq!(machine.k.halted, Some(Halt::Reboot));
}

#[test]
fn the_good_slot_stays_up_degraded_and_may_recover() {
    let mut machine = Machine::boot("web");
    machine.ready(NET);
    machine.seconds(91);
    assert!(
        machine.said("slot     a is degraded: not healthy after 90 s: api is running"),
        "{:#?}",
        machine.k.said
    );
    assert_eq!(machine.called("step failed: not healthy"), 1);
    assert_eq!(machine.k.halted, None);
    machine.ready(API);
    assert!(machine.supervisor.is_confirmed());
}

#[test]
fn rescue_runs_network_and_api_only() {
    let mut machine = Machine::new(Facts { rescue: Some("4 starts without health".into()), ..facts() });
    machine.begin(Some("*web"));
    machine.ready(NET);
    machine.ready(API);
    machine.seconds(5);
    assert!(!machine.supervisor.has("web"));
    assert_eq!(machine.called("launch"), 2);
    assert_eq!(machine.told(API, "ssh-ed25519 AAAA me"), 1, "the operator can come in");
    assert!(machine.said("rescue: 4 starts without health"));
    assert!(machine.said("the next start is a normal one"));
}

#[test]
fn a_root_that_does_not_verify_ends_the_boot() {
    let mut machine = Machine::boot("web");
    machine.k.immortal.insert("web".into());
    machine.give(Input::Broken { reason: "root block 5120 differs".into() });
    assert_eq!(machine.k.calls.last().map(String::as_str), Some("signal web"));
    assert_eq!(machine.called("condemn root block 5120 differs, true"), 1);
    machine.seconds(30);
    assert_eq!(machine.k.halted, Some(Halt::Reboot));
}

#[test]
fn operators_get_answers() {
    let mut machine = Machine::boot("web");
    let mut ask = |request: Request| {
        let reply = machine.supervisor.ask(&request, machine.now, &mut machine.k);
        machine.supervisor.run_events(machine.now, &mut machine.k);
        reply
    };
    let Some(Reply::Error { kind, message }) = ask(Request::Inspect { unit: "wbe".into() }) else { panic!() };
    assert_eq!(kind, "not-found");
    assert!(message.contains("did you mean \"web\"?"), "{message}");
    assert!(matches!(ask(Request::Reboot), Some(Reply::Done)));
    assert!(matches!(ask(Request::Poweroff), Some(Reply::Error { kind, .. }) if kind == "busy"));
    assert!(ask(Request::Slots).is_none());
}

#[test]
fn id_ranges_are_kept_before_they_are_used() {
    let machine = Machine::boot("web\nother");
    let stored = machine.k.calls.iter().position(|call| call.starts_with("store ids")).unwrap();
    let launched = machine.k.calls.iter().position(|call| call.starts_with("launch")).unwrap();
    assert!(stored < launched);
    assert_ne!(machine.supervisor.ids.get("web"), machine.supervisor.ids.get("other"));
}

#[test]
fn a_config_on_a_disk_that_comes_late_is_found() {
    let mut machine = Machine::new(facts());
    machine.supervisor.devices = devices::Devices::default();
    machine.begin(None);
    machine.worker(META, FromWorker::Hello);
    machine.worker(META, FromWorker::ConfigNone { looked: vec!["nothing".into()] });
    machine.exit(META, Exit::Code(0));
    assert_eq!(machine.called("load drivers"), 1);
    assert_eq!(machine.state(META), State::Finished);
    machine.give(Input::DisksChanged);
    machine.give(Input::DriversLoaded);
    assert_eq!(machine.called("launch meta"), 2);
    machine.worker(META, FromWorker::Hello);
    machine.give(Input::Worker {
        unit: META.into(),
        message: FromWorker::ConfigFound { source: "nocloud (sr0)".into(), looked: vec![] },
        text: Some("web".into()),
    });
    assert!(machine.state("web").is_up());
}

#[test]
fn no_config_anywhere_is_said_when_no_disk_can_come_any_more() {
    let mut machine = Machine::new(facts());
    machine.supervisor.devices = devices::Devices::default();
    machine.begin(None);
    let none = |machine: &mut Machine| {
        machine.worker(META, FromWorker::Hello);
        machine.worker(META, FromWorker::ConfigNone { looked: vec!["smbios: no strings".into()] });
        machine.exit(META, Exit::Code(0));
    };
    none(&mut machine);
    machine.give(Input::DriversLoaded);
    none(&mut machine);
    assert!(!machine.supervisor.config.is_settled());
    machine.pass(limits::DEVICES_SETTLE);
    none(&mut machine);
    assert!(machine.supervisor.config.is_settled());
    assert_eq!(machine.called("launch meta"), 3);
    assert!(machine.said("config   none found") && machine.said("smbios: no strings"));
}

#[test]
fn drivers_that_hang_do_not_keep_the_machine_without_a_network() {
    let mut machine = Machine::new(facts());
    machine.supervisor.devices = devices::Devices::default();
    machine.begin(None);
    machine.worker(META, FromWorker::Hello);
    machine.worker(META, FromWorker::ConfigNone { looked: vec![] });
    machine.exit(META, Exit::Code(0));
    machine.seconds(11);
    assert!(machine.supervisor.config.is_settled());
}

#[test]
fn an_image_on_a_disk_that_comes_late_is_found() {
    let mut machine = Machine::new(facts());
    machine.supervisor.devices = devices::Devices::default();
    machine.k.images.clear();
    machine.begin(Some("web"));
    machine.ready(STORE);
    let reference = || "example.org/web:1".to_owned();
    let failed = || FromWorker::PrepareFailed { reference: reference(), error: "not found".into() };
    machine.worker(STORE, failed());
    machine.give(Input::WorkerGone { unit: STORE.into() });
    assert_eq!((machine.state("web"), machine.state(STORE)), (State::Preparing, State::Stopped));
    machine.give(Input::DisksChanged);
    machine.give(Input::DriversLoaded);
    machine.ready(STORE);
    assert_eq!(machine.told(STORE, "example.org/web:1"), 2);
    machine.k.images.insert(reference());
    machine.worker(STORE, FromWorker::Prepared { reference: reference() });
    assert!(machine.state("web").is_up());
}

#[test]
fn an_idle_store_with_old_disks_is_replaced() {
    let mut machine = Machine::new(facts());
    machine.k.images.clear();
    machine.begin(Some("web"));
    machine.ready(STORE);
    let failed =
        FromWorker::PrepareFailed { reference: "example.org/web:1".into(), error: "not found".into() };
    machine.worker(STORE, failed);
    assert_eq!(machine.state("web"), State::Backoff);
    machine.give(Input::DisksChanged);
    machine.seconds(1);
    assert_eq!(machine.called("launch store"), 2);
    machine.ready(STORE);
    assert_eq!(machine.told(STORE, "example.org/web:1"), 2);
}
