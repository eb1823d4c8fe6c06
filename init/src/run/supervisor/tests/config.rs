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
            message: found("fw_cfg", vec!["smbios: none".into()]),
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
                message: found("smbios", vec![]),
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
            message: found("fw_cfg", vec!["smbios: none".into()]),
            text: Some(text.into()),
        }),
        None => machine.worker(META, none(vec!["smbios: none".into()])),
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
    assert_eq!(machine.k.told.len(), told + 4, "meta alone, four times");
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
    machine.worker(META, none(vec!["nothing".into()]));
    machine.exit(META, Exit::Code(0));
    assert_eq!(machine.called("load drivers"), 1);
    assert_eq!(machine.state(META), State::Finished);
    machine.give(Input::DisksChanged);
    machine.give(Input::DriversLoaded);
    assert_eq!(machine.called("launch meta"), 2);
    machine.worker(META, FromWorker::Hello);
    machine.give(Input::Worker {
        unit: META.into(),
        message: found("nocloud (sr0)", vec![]),
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
        machine.worker(META, none(vec!["smbios: no strings".into()]));
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
    machine.worker(META, none(vec![]));
    machine.exit(META, Exit::Code(0));
    machine.seconds(11);
    assert!(machine.supervisor.config.is_settled());
}

const OTHER: &str =
    "web\n[instance]\nsource = \"ec2\"\nid = \"i-old\"\nuuid = \"22222222222222222222222222222222\"\n";

fn status(machine: &mut Machine) -> ConfigStatus {
    match machine.supervisor.ask(&Request::ConfigStatus, machine.now, &mut machine.k) {
        Some(Reply::ConfigStatus(status)) => status,
        other => panic!("{other:?}"),
    }
}

/// Meta has found nothing, and says which cloud this is.
fn in_a_cloud(kept: Option<&str>) -> Machine {
    let mut machine = Machine::new(facts());
    machine.begin(kept);
    machine.ready(NET);
    machine.ready(API);
    machine.worker(META, FromWorker::Hello);
    assert_eq!(machine.told(META, "\"uuid\":\"11111111111111111111111111111111\""), 1);
    machine.worker(
        META,
        FromWorker::ConfigNone {
            looked: vec!["smbios: none".into()],
            notes: vec![],
            cloud: Some("ec2".into()),
        },
    );
    machine.exit(META, Exit::Code(0));
    machine
}

#[test]
fn a_cloud_is_asked_over_a_network_that_its_config_may_change() {
    let mut machine = in_a_cloud(None);
    assert_eq!(machine.state(CLOUD), State::Running);
    assert!(machine.said("config   none here; the firmware says that this is ec2: asked for 30 s at most"));
    assert_eq!((machine.told(NET, "configure"), machine.told(API, "access")), (1, 0));
    machine.worker(CLOUD, FromWorker::Hello);
    assert_eq!(machine.told(CLOUD, "\"cloud\":\"ec2\",\"uuid\":\"1111"), 1);
    assert_eq!(machine.told(CLOUD, "\"deadline_s\":30"), 1);
    // Meta has had its say.
    machine.give(Input::Worker {
        unit: META.into(),
        message: found("smbios", vec![]),
        text: Some("late".into()),
    });
    assert!(!machine.supervisor.config.is_settled());
    machine.give(Input::Worker {
        unit: CLOUD.into(),
        message: FromWorker::ConfigFound {
            source: "ec2".into(),
            looked: vec!["ec2: instance i-1".into()],
            notes: vec!["a key of kind ssh-rsa cannot be used".into()],
        },
        text: Some("web\n[instance]\nsource = \"ec2\"\nid = \"i-1\"\n".into()),
    });
    machine.exit(CLOUD, Exit::Code(0));
    assert!(machine.state("web").is_up());
    assert_eq!((machine.told(NET, "configure"), machine.told(API, "access")), (2, 1));
    let status = status(&mut machine);
    assert_eq!((status.source.as_str(), status.instance.as_str()), ("ec2", "i-1 (ec2)"));
    assert_eq!(status.looked, ["smbios: none", "ec2: instance i-1"]);
    assert_eq!(status.notes, ["a key of kind ssh-rsa cannot be used"]);
    assert!(machine.said("config   a key of kind ssh-rsa cannot be used"));
    machine.seconds(3);
    assert!(machine.supervisor.is_confirmed());
}

#[test]
fn a_cloud_that_is_silent_or_dies_leaves_a_machine_that_can_be_reached() {
    for way in ["silent", "dies", "says none"] {
        let mut machine = in_a_cloud(None);
        machine.worker(CLOUD, FromWorker::Hello);
        match way {
            "dies" => machine.exit(CLOUD, Exit::Signal(11)),
            "silent" => machine.seconds(41),
            _ => {
                machine.worker(CLOUD, none(vec!["ec2: 169.254.169.254: refused".into()]));
                assert!(machine.said("config   none found") && machine.said("169.254.169.254: refused"));
            }
        }
        assert!(machine.supervisor.config.is_settled(), "{way}");
        assert_eq!(machine.told(API, "access"), 1);
        machine.seconds(3);
        assert!(machine.supervisor.is_confirmed(), "{way}: the slot is not to blame");
        assert_eq!(machine.called("store config"), 0, "the next boot looks again");
    }
}

#[test]
fn a_slow_cloud_is_no_fault_of_the_slot() {
    let mut machine =
        Machine::new(Facts { metadata_deadline: Duration::from_secs(300), on_trial: true, ..facts() });
    machine.begin(None);
    machine.ready(NET);
    machine.ready(API);
    machine.worker(META, FromWorker::Hello);
    machine.worker(META, FromWorker::ConfigNone { looked: vec![], notes: vec![], cloud: Some("gce".into()) });
    machine.exit(META, Exit::Code(0));
    machine.worker(CLOUD, FromWorker::Hello);
    machine.seconds(299);
    assert_eq!(machine.k.halted, None);
    machine.worker(CLOUD, none(vec![]));
    machine.exit(CLOUD, Exit::Code(0));
    machine.seconds(3);
    assert!(machine.supervisor.is_confirmed());
}

#[test]
fn a_config_of_this_instance_is_not_asked_for_again_and_another_ones_is() {
    let mine = OTHER.replace("2222", "1111");
    for kept in [mine.as_str(), "web\n[instance]\nsource = \"nocloud\"\n"] {
        let machine = Machine::boot(kept);
        assert_eq!(machine.called("launch meta"), 0);
        assert!(machine.state("web").is_up());
    }
    let mut machine = in_a_cloud(Some(OTHER));
    assert!(machine.said("config   kept, but of another machine, i-old (ec2): looked for anew"));
    assert!(!machine.supervisor.has("web"), "nothing of the other's is in force before");
    machine.worker(CLOUD, FromWorker::Hello);
    let text = Some("new\n[instance]\nsource = \"ec2\"\nid = \"i-new\"\n".into());
    machine.give(Input::Worker { unit: CLOUD.into(), message: found("ec2", vec![]), text });
    assert!(machine.state("new").is_up() && !machine.supervisor.has("web"));
    assert_eq!(machine.called("store config"), 1);
}

#[test]
fn of_another_instance_that_finds_nothing_the_kept_config_is_used_and_that_is_said() {
    let mut machine = in_a_cloud(Some(OTHER));
    machine.worker(CLOUD, FromWorker::Hello);
    machine.worker(CLOUD, none(vec!["ec2: 169.254.169.254: refused".into()]));
    assert!(machine.state("web").is_up());
    assert!(machine.said("config   it was kept by another machine"), "{:#?}", machine.k.said);
    let status = status(&mut machine);
    assert_eq!((status.state.as_str(), status.source.as_str()), ("applied", "state"));
    assert!(status.note.contains("UUID") && status.looked.len() == 2, "{status:?}");
}

#[test]
fn of_another_instance_whose_config_is_refused_nothing_of_the_kept_one_is_used() {
    let mut machine = in_a_cloud(Some(OTHER));
    machine.worker(CLOUD, FromWorker::Hello);
    machine.give(Input::Worker {
        unit: CLOUD.into(),
        message: FromWorker::ConfigRefused {
            source: "ec2".into(),
            report: "bad".into(),
            looked: vec![],
            notes: vec![],
        },
        text: Some("^one!".into()),
    });
    assert!(!machine.supervisor.has("web"));
    assert_eq!(machine.supervisor.keys, ["ssh-ed25519 one"]);
    assert!(machine.supervisor.generation_in_force().is_err(), "its units are not edited either");
}

#[test]
fn a_config_that_is_sent_keeps_what_the_instance_is() {
    let mut machine = Machine::boot(&OTHER.replace("2222", "1111")).healthy(3);
    for (text, id) in
        [("other", "i-old (ec2)"), ("third\n[instance]\nsource = \"ec2\"\nid = \"i-own\"\n", "i-own (ec2)")]
    {
        let reply = machine.supervisor.apply_config(
            Some(text.into()),
            Trial::of(None, false),
            machine.now,
            &mut machine.k,
        );
        assert!(matches!(reply, Reply::ConfigChange(_)), "{reply:?}");
        machine.settle();
        assert_eq!(status(&mut machine).instance, id);
        machine.seconds(3);
    }
    let kept = machine.k.current.and_then(|number| machine.k.texts.get(&number)).unwrap();
    assert!(String::from_utf8_lossy(kept).contains("i-own"));
}

#[test]
fn a_volume_that_belongs_to_another_instance_now_is_told_after_the_boot() {
    use berth_units::control::SeenInstance;
    let seen =
        |id: &str| SeenInstance { source: "nocloud".into(), place: "nocloud (vdb)".into(), id: id.into() };
    let kept = "web\n[instance]\nsource = \"nocloud\"\nid = \"i-1\"\n";
    for (found, told) in [
        (vec![seen("i-1")], false),
        (vec![seen("i-2")], true),
        (vec![seen("i-2"), seen("i-1")], false),
        (vec![], false),
    ] {
        let mut machine = Machine::boot(kept).healthy(3);
        assert_eq!(machine.called("launch meta"), 0, "no boot waits for it");
        machine.pass(limits::GLANCE_AFTER);
        assert_eq!(machine.called("launch meta"), 1);
        machine.worker(META, FromWorker::Hello);
        assert_eq!(machine.told(META, "glance"), 1);
        machine.worker(META, FromWorker::Instances { seen: found });
        machine.worker(META, FromWorker::Ready);
        machine.exit(META, Exit::Code(0));
        let line = "nocloud (vdb) says that this is instance \"i-2\" now, not \"i-1\"; \"berth config reload\" takes what it says";
        assert_eq!(machine.said(line), told);
        assert_eq!(status(&mut machine).notes, if told { vec![line.to_owned()] } else { vec![] });
        machine.seconds(200);
        assert_eq!(machine.called("launch meta"), 1);
    }
    // Nobody else's config is looked at.
    for other in [
        "web",
        "web\n[instance]\nsource = \"ec2\"\nid = \"i-1\"\n",
        "web\n[instance]\nsource = \"nocloud\"\n",
    ] {
        let mut machine = Machine::boot(other).healthy(3);
        machine.seconds(200);
        assert_eq!(machine.called("launch meta"), 0);
    }
}
