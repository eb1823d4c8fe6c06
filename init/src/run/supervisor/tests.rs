//! The supervisor on a pretended kernel with a pretended clock: units from start to stop, health, rescue.

mod apply;
mod config;
pub(super) mod fake;
mod generations;
mod images;
mod install;
mod transient;
mod update;

use super::*;
use berth_units::control::{Drive, FromWorker, Reply, Request};
use berth_units::lifecycle::Exit;
use fake::*;

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
fn a_unit_that_notifies_is_healthy_when_it_says_so() {
    let mut machine = Machine::boot("*web!\nproxy<web:ready");
    machine.seconds(30);
    assert_eq!((machine.state("web"), machine.state("proxy")), (State::Running, State::Waiting));
    let say = |machine: &mut Machine, text: &str| {
        let notice = berth_units::notify::Notice::parse(text.as_bytes());
        machine.give(Input::Noticed { unit: "web".into(), notice });
        let Some(Reply::Units(units)) = machine.supervisor.ask(&Request::Ps, machine.now, &mut machine.k)
        else {
            panic!()
        };
        units.iter().find(|unit| unit.name == "web").unwrap().reason.clone()
    };
    assert_eq!(say(&mut machine, "STATUS=loading"), "it has not said READY=1; loading");
    assert_eq!(say(&mut machine, "READY=1\nSTATUS="), "");
    assert_eq!((machine.state("web"), machine.state("proxy")), (State::Healthy, State::Running));
    assert_eq!(say(&mut machine, "RELOADING=1"), "reloading");
    assert_eq!(machine.state("web"), State::Healthy);
    assert_eq!(say(&mut machine, "READY=1"), "");
    assert_eq!(say(&mut machine, "STOPPING=1"), "stopping");
    machine.exit("web", Exit::Code(0));
    machine.seconds(1);
    // What an earlier run said counts for nothing.
    assert_eq!(machine.state("web"), State::Running);
    machine.seconds(61);
    assert!(machine.said("not ready after 1m: it has not said READY=1"), "{:#?}", machine.k.said);
}

#[test]
fn boot_records_that_could_not_be_written_are_written_later() {
    let mut machine = Machine::boot("*web");
    machine.k.confirm_fails = true;
    machine.ready(NET);
    machine.ready(API);
    machine.seconds(3);
    assert_eq!((machine.called("confirm"), machine.supervisor.is_confirmed()), (1, false));
    machine.pass(limits::CONFIRM_AGAIN);
    assert_eq!((machine.called("confirm"), machine.supervisor.is_confirmed()), (2, true));
}

#[test]
fn what_can_wait_waits_for_an_address_and_not_for_ever() {
    let mut machine = Machine::new(facts());
    machine.begin(Some("web"));
    assert_eq!((machine.called("launch api"), machine.called("boot over")), (0, 0));
    machine.has_address();
    assert_eq!((machine.called("launch api"), machine.called("boot over")), (1, 1));

    let mut machine = Machine::new(facts());
    machine.begin(Some("web"));
    machine.pass(limits::REST_HOLD);
    assert_eq!((machine.called("launch api"), machine.called("boot over")), (1, 1));
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
fn names_lead_to_who_is_in_service() {
    let mut machine = Machine::boot("web~\ndb~\nproxy");
    let names = |machine: &Machine| {
        let told = machine.k.told.iter().filter(|(worker, _)| worker == NET);
        let told: Vec<_> =
            told.filter_map(|(_, text)| text.strip_prefix(r#"{"message":"names","names":"#)).collect();
        (told.len(), told.last().map_or_else(String::new, |text| text.trim_end_matches('}').to_owned()))
    };
    machine.ready(NET);
    assert_eq!(names(&machine), (1, r#"{"db":[],"proxy":[],"web":[]"#.to_owned()));
    let at = |what: &str| machine.k.told.iter().position(|(_, text)| text.contains(what)).unwrap();
    assert!(at("\"names\"") < at("\"attach\""));
    for unit in ["web", "db"] {
        let address = "10.88.0.2".parse().unwrap();
        machine.worker(NET, FromWorker::Attached { unit: unit.into(), address });
    }
    assert_eq!((machine.state("web"), names(&machine).0), (State::Running, 1), "it may yet fail");
    machine.seconds(3);
    assert_eq!((machine.state("web"), machine.state("proxy")), (State::Healthy, State::Healthy));
    assert_eq!(names(&machine), (3, r#"{"db":["db"],"proxy":[],"web":["web"]"#.to_owned()));

    machine.exit("web", Exit::Code(1));
    assert_eq!(names(&machine), (4, r#"{"db":["db"],"proxy":[],"web":[]"#.to_owned()));
    machine.exit("proxy", Exit::Code(1));
    assert_eq!(names(&machine).0, 4, "it has no name to lose");

    machine.give(Input::WorkerGone { unit: NET.into() });
    machine.exit("db", Exit::Code(1));
    assert_eq!(names(&machine).0, 4, "nobody listens");
    machine.exit(NET, Exit::Signal(11));
    machine.seconds(1);
    machine.ready(NET);
    assert_eq!(names(&machine), (5, r#"{"db":[],"proxy":[],"web":[]"#.to_owned()));
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
fn operators_stop_start_and_restart_units() {
    let mut machine = Machine::boot("web");
    let drive = |machine: &mut Machine, unit: &str, order| {
        let request = Request::Drive { unit: unit.into(), order };
        let reply = machine.supervisor.ask(&request, machine.now, &mut machine.k);
        machine.settle();
        match reply {
            Some(Reply::Done) => String::new(),
            Some(Reply::Error { kind, .. }) => kind,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(drive(&mut machine, "web", Drive::Stop), "");
    machine.seconds(3600);
    assert_eq!(machine.state("web"), State::Stopped, "until somebody starts it");
    assert!(machine.said("stop asked for by an operator"));
    assert_eq!(drive(&mut machine, "web", Drive::Start), "");
    assert!(machine.state("web").is_up());
    assert_eq!(drive(&mut machine, "web", Drive::Start), "", "what runs is left alone");
    assert_eq!(machine.called("launch web"), 2);
    assert_eq!(drive(&mut machine, "web", Drive::Restart), "");
    assert!(machine.state("web").is_up());
    assert_eq!(machine.called("launch web"), 3);
    assert_eq!(drive(&mut machine, "wbe", Drive::Stop), "not-found");
    assert_eq!(drive(&mut machine, NET, Drive::Stop), "denied");
    machine.halt(Halt::Reboot);
    assert_eq!(drive(&mut machine, "web", Drive::Start), "busy");
}

#[test]
fn id_ranges_are_kept_before_they_are_used() {
    let machine = Machine::boot("web\nother");
    let stored = machine.k.calls.iter().position(|call| call.starts_with("store ids")).unwrap();
    let launched = machine.k.calls.iter().position(|call| call.starts_with("launch")).unwrap();
    assert!(stored < launched);
    assert_ne!(machine.supervisor.ids.get("web"), machine.supervisor.ids.get("other"));
}

/// What `berth ps` shows of a unit whose checks fail, and who is told.
#[test]
fn what_is_sick_leaves_the_answers_is_restarted_and_comes_back() {
    let mut machine = Machine::boot("web+~");
    machine.ready(NET);
    let address = "10.88.0.2".parse().unwrap();
    machine.worker(NET, FromWorker::Attached { unit: "web".into(), address });
    assert_eq!(machine.state("web"), State::Running, "it has not been looked at");
    machine.seconds(1);
    assert_eq!(machine.state("web"), State::Healthy);
    assert_eq!(machine.told(NET, r#""names":{"web":["web"]}"#), 1);

    machine.k.sick.insert("web".into(), "answered 500".into());
    machine.seconds(19);
    assert_eq!((machine.state("web"), machine.why("web")), (State::Healthy, "answered 500".into()));
    machine.k.sick.clear();
    machine.seconds(12);
    assert_eq!(machine.why("web"), "", "one good look and all is forgotten");

    machine.k.sick.insert("web".into(), "answered 500".into());
    machine.k.stubborn.insert("web".into());
    machine.seconds(30);
    assert_eq!(machine.state("web"), State::Stopping);
    assert_eq!(machine.told(NET, r#""names":{"web":[]}"#), 2, "before it has ended");
    assert!(
        machine.said("web      sick: unhealthy (3 checks in a row failed: answered 500)"),
        "{:#?}",
        machine.k.said
    );
    machine.k.sick.clear();
    machine.seconds(10);
    let backoff = "backoff: unhealthy, restart 1 in 1 s (3 checks in a row failed: answered 500)";
    assert!(machine.said(backoff), "{:#?}", machine.k.said);
    machine.seconds(2);
    let address = "10.88.0.2".parse().unwrap();
    machine.worker(NET, FromWorker::Attached { unit: "web".into(), address });
    machine.seconds(1);
    assert_eq!((machine.state("web"), machine.called("launch web")), (State::Healthy, 2));
    assert_eq!(machine.told(NET, r#""names":{"web":["web"]}"#), 2);
}

#[test]
fn what_waits_for_a_ready_unit_waits_for_its_check() {
    let mut machine = Machine::new(facts());
    machine.k.sick.insert("db".into(), "starting up".into());
    machine.begin(Some("web<db:ready\ndb+"));
    machine.has_address();
    machine.seconds(20);
    assert_eq!((machine.state("db"), machine.state("web")), (State::Running, State::Waiting));
    assert_eq!(machine.why("web"), "for db to be ready");
    assert_eq!(machine.why("db"), "starting up");
    machine.k.sick.clear();
    machine.seconds(20);
    assert_eq!((machine.state("db"), machine.state("web")), (State::Healthy, State::Healthy));
}

#[test]
fn instances_live_for_themselves_and_answer_to_one_name() {
    let mut machine = Machine::boot("proxy<web:ready\nweb#3+~");
    assert!(!machine.supervisor.has("web"));
    machine.ready(NET);
    for number in 1..=3u8 {
        let unit = format!("web.{number}");
        let address = format!("10.88.0.{}", number + 1).parse().unwrap();
        machine.worker(NET, FromWorker::Attached { unit, address });
    }
    machine.seconds(3);
    assert_eq!(machine.state("proxy"), State::Healthy);
    let all = r#""names":{"proxy":[],"web":["web.1","web.2","web.3"]}"#;
    assert_eq!(machine.told(NET, all), 1, "{:#?}", machine.k.told);
    machine.exit("web.2", Exit::Code(1));
    assert_eq!(machine.told(NET, r#""web":["web.1","web.3"]}"#), 1);
    assert_eq!(machine.state("web.1"), State::Healthy);
    machine.seconds(1);
    let address = "10.88.0.3".parse().unwrap();
    machine.worker(NET, FromWorker::Attached { unit: "web.2".into(), address });
    machine.seconds(3);
    assert_eq!(machine.told(NET, all), 2);

    // An operator means all of them, or one.
    for (unit, stopped) in [("web.3", 1), ("web", 3)] {
        let request = Request::Drive { unit: unit.into(), order: Drive::Stop };
        assert!(matches!(machine.supervisor.ask(&request, machine.now, &mut machine.k), Some(Reply::Done)));
        machine.settle();
        let down = |n: &u8| machine.state(&format!("web.{n}")) == State::Stopped;
        assert_eq!((1..=3).filter(down).count(), stopped);
    }
}

#[test]
fn on_the_way_down_nobody_is_looked_at() {
    let mut machine = Machine::boot("web+");
    machine.seconds(1);
    machine.k.stubborn.insert("web".into());
    let looks = machine.called("check web");
    machine.halt(Halt::Reboot);
    machine.seconds(5);
    assert_eq!(machine.called("check web"), looks);
}
