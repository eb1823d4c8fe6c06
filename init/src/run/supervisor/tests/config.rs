//! Where a machine gets its config from, and what it does without one.

use super::super::*;
use super::fake::*;
use berth_units::control::{FromWorker, Reply, Request};
use berth_units::lifecycle::Exit;

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
    assert_eq!(machine.called("store config of 3 bytes, found by fw_cfg"), 1);
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
