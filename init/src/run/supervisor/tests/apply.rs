//! Another config while the machine runs.

use super::*;
use berth_units::control::ConfigChange;

pub(super) fn send(machine: &mut Machine, text: &str, confirm: Option<u64>, only_look: bool) -> Reply {
    let confirm = confirm.map(Duration::from_secs);
    let reply = machine.supervisor.apply_config(
        Some(text.as_bytes().to_vec()),
        Trial { confirm, only_look },
        machine.now,
        &mut machine.k,
    );
    machine.settle();
    reply
}

fn change(reply: Reply) -> ConfigChange {
    match reply {
        Reply::ConfigChange(change) => *change,
        other => panic!("{other:?}"),
    }
}

fn kind(reply: Reply) -> String {
    match reply {
        Reply::Error { kind, .. } => kind,
        other => panic!("{other:?}"),
    }
}

/// A machine that was found healthy.
fn healthy(config: &str) -> Machine {
    Machine::boot(config).healthy(5)
}

#[test]
fn what_differs_is_changed_and_nothing_else() {
    let mut machine = healthy("web\ndb\nold");
    // A look changes nothing.
    let look = change(send(&mut machine, "web\ndb+\nnew", None, true));
    assert_eq!((look.added, look.removed), (vec!["new".to_owned()], vec!["old".to_owned()]));
    assert_eq!(look.changed[0].unit, "db");
    assert_eq!((look.changed[0].tables.join(" "), look.changed[0].restarts), ("health".to_owned(), true));
    assert_eq!((machine.called("store config"), machine.state("old")), (0, State::Healthy));

    let done = change(send(&mut machine, "web\ndb+\nnew", None, false));
    assert_eq!(done.changed.len(), 1);
    machine.seconds(5);
    assert_eq!(machine.called("store config"), 1);
    assert!(!machine.supervisor.has("old"));
    assert!(machine.said("old      is not in the config any more"));
    assert_eq!(
        (machine.called("launch web"), machine.called("launch db"), machine.called("launch new")),
        (1, 2, 1)
    );
    for unit in ["web", "db", "new"] {
        assert_eq!(machine.state(unit), State::Healthy, "{unit}");
    }
    // Once more the same: nothing.
    let again = change(send(&mut machine, "web\ndb+\nnew", None, false));
    assert_eq!((again.added, again.removed, again.changed), (vec![], vec![], vec![]));
    machine.seconds(5);
    assert_eq!(machine.called("launch db"), 2);
}

#[test]
fn a_change_of_order_or_of_instances_restarts_nobody() {
    let mut machine = healthy("web#2\ndb");
    let done = change(send(&mut machine, "web#3<db\ndb", None, false));
    assert_eq!(done.added, ["web.3"]);
    assert!(done.changed.iter().all(|change| !change.restarts), "{done:?}");
    machine.seconds(5);
    assert_eq!((machine.called("launch web.1"), machine.state("web.3")), (1, State::Healthy));
    let done = change(send(&mut machine, "web\ndb", None, false));
    assert_eq!((done.added, done.removed.len()), (vec!["web".to_owned()], 3));
    machine.seconds(5);
    assert!(!machine.supervisor.has("web.1"));
    assert_eq!(machine.state("web"), State::Healthy);
}

#[test]
fn what_does_not_check_changes_nothing_and_says_why() {
    let mut machine = healthy("web");
    let Reply::Error { kind, message } = send(&mut machine, "!AAAA!", None, false) else { panic!() };
    assert_eq!(kind, "bad-request");
    assert!(message.contains("unknown field"), "{message}");
    assert_eq!((machine.called("store config"), machine.state("web")), (0, State::Healthy));
}

#[test]
fn what_is_not_confirmed_goes_back() {
    let mut machine = healthy("web\ndb");
    change(send(&mut machine, "db+\nnew", Some(60), false));
    machine.seconds(10);
    assert!(!machine.supervisor.has("web"));
    assert_eq!((machine.state("new"), machine.called("store config")), (State::Healthy, 0));
    assert_eq!(kind(send(&mut machine, "db", None, false)), "busy");
    machine.seconds(55);
    assert!(machine.said("not confirmed in time: the one before is put back"));
    assert!(!machine.supervisor.has("new"));
    assert_eq!((machine.state("web"), machine.state("db")), (State::Healthy, State::Healthy));
    let Some(Reply::ConfigStatus(status)) =
        machine.supervisor.ask(&Request::ConfigStatus, machine.now, &mut machine.k)
    else {
        panic!()
    };
    assert_eq!((status.source.as_str(), status.unconfirmed_s), ("state", None));
    assert!(status.note.contains("not confirmed in time"), "{}", status.note);
}

#[test]
fn what_is_confirmed_stays() {
    let mut machine = healthy("web");
    change(send(&mut machine, "new", Some(60), false));
    machine.seconds(5);
    let confirm = machine.supervisor.ask(&Request::ConfigConfirm, machine.now, &mut machine.k);
    assert!(matches!(confirm, Some(Reply::Done)));
    machine.settle();
    machine.seconds(120);
    assert_eq!((machine.state("new"), machine.called("store config")), (State::Healthy, 1));
    let again = machine.supervisor.ask(&Request::ConfigConfirm, machine.now, &mut machine.k);
    assert!(matches!(again, Some(Reply::Error { .. })));
}

#[test]
fn a_stopped_unit_stays_stopped_when_it_changes() {
    let mut machine = healthy("web\ndb");
    let request = Request::Drive { unit: "db".into(), order: Drive::Stop };
    machine.supervisor.ask(&request, machine.now, &mut machine.k);
    machine.settle();
    change(send(&mut machine, "web\ndb+", None, false));
    machine.seconds(5);
    assert_eq!((machine.state("db"), machine.called("launch db")), (State::Stopped, 1));
}

#[test]
fn not_before_the_boot_is_judged_nor_on_the_way_down() {
    let mut machine = Machine::boot("web");
    assert_eq!(kind(send(&mut machine, "db", None, false)), "busy");
    let mut machine = healthy("web");
    machine.k.stubborn.insert("web".into());
    machine.halt(Halt::Reboot);
    assert_eq!(kind(send(&mut machine, "db", None, false)), "busy");
}

#[test]
fn the_machine_itself_follows_another_config_too() {
    let mut machine = healthy("web");
    machine.worker(TIME, FromWorker::Hello);
    let done = change(send(&mut machine, "web\n@192.0.2.1", Some(60), false));
    assert_eq!(done.machine, ["time servers"]);
    assert_eq!(machine.told(TIME, "\"servers\":[\"192.0.2.1\"]"), 1);
    let told = machine.told(TIME, "\"servers\":null");
    machine.seconds(61);
    assert_eq!(machine.told(TIME, "\"servers\":null"), told + 1, "and back");
}

#[test]
fn what_is_not_enabled_is_started_by_an_operator_only() {
    let mut machine = Machine::boot("web\n*db%").healthy(5);
    let drive = |machine: &mut Machine, order| {
        let request = Request::Drive { unit: "db".into(), order };
        assert!(matches!(machine.supervisor.ask(&request, machine.now, &mut machine.k), Some(Reply::Done)));
        machine.settle();
        machine.seconds(4);
    };
    assert_eq!((machine.state("db"), machine.called("launch db")), (State::Stopped, 0));
    assert_eq!(machine.supervisor.units["db"].reason(machine.now), "not enabled");
    drive(&mut machine, Drive::Start);
    assert!(machine.state("db").is_up());
    // A config that says the same of it leaves an operator's word.
    change(send(&mut machine, "web\n*db%+", None, false));
    machine.seconds(4);
    assert_eq!((machine.state("db").is_up(), machine.called("launch db")), (true, 2));
    // One that says something else is the newer word, and restarts nothing that may go on.
    let done = change(send(&mut machine, "web%\n*db+", None, false));
    assert!(done.changed.iter().all(|change| !change.restarts), "{done:?}");
    machine.seconds(4);
    assert_eq!((machine.state("web"), machine.state("db").is_up()), (State::Stopped, true));
    assert_eq!(machine.called("launch db"), 2);
    change(send(&mut machine, "web\n*db%", None, false));
    machine.seconds(4);
    assert_eq!((machine.state("web").is_up(), machine.state("db")), (true, State::Stopped));
    // Nor is what comes with a config.
    change(send(&mut machine, "web\n*db%\nnew%", None, false));
    machine.seconds(4);
    assert_eq!((machine.state("new"), machine.called("launch new")), (State::Stopped, 0));
}
