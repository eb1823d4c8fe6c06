//! Updates: asked for, written, tried, committed, taken back.

use super::*;
use crate::run::trials::{Sick, Trial, Trials};
use berth_units::control::{UpdateOffer, UpdateOrder, UpdateStatus};
use berth_units::generation::{Generation, Verdict, What};

const SETTLE: u64 = 120;

fn offer(version: &str) -> UpdateOffer {
    UpdateOffer {
        address: "https://updates.example.org".into(),
        version: version.into(),
        built_s: 1_795_000_000,
        root_hash: version.repeat(64),
        bytes: 1000,
    }
}

fn order(machine: &mut Machine, order: UpdateOrder) -> Reply {
    let request = Request::Update { order, again: false };
    let reply = machine.supervisor.ask(&request, machine.now, &mut machine.k).unwrap();
    machine.settle();
    reply
}

fn status(machine: &mut Machine) -> UpdateStatus {
    match machine.supervisor.ask(&Request::UpdateStatus, machine.now, &mut machine.k) {
        Some(Reply::Update(status)) => *status,
        other => panic!("{other:?}"),
    }
}

fn history(machine: &mut Machine) -> Vec<Generation> {
    match machine.supervisor.ask(&Request::History, machine.now, &mut machine.k) {
        Some(Reply::History(history)) => history.generations,
        other => panic!("{other:?}"),
    }
}

fn refused(reply: Reply) -> String {
    match reply {
        Reply::Error { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

/// A machine whose boot is healthy, with a worker that is there.
fn healthy(config: &str) -> Machine {
    Machine::boot(config).healthy(3)
}

fn ask(machine: &mut Machine, what: UpdateOrder, version: &str) {
    assert!(matches!(order(machine, what), Reply::Done));
    machine.worker(UPDATE, FromWorker::Hello);
    machine.worker(UPDATE, FromWorker::UpdateOffer(offer(version)));
}

/// The next boot of a machine with these trials.
fn next_boot(trials: &str, slot: &str, trial: bool, config: &str) -> Machine {
    let other_slot = if slot == "a" { "b" } else { "a" };
    let mut machine = Machine::new(Facts {
        slot: slot.into(),
        other_slot: other_slot.into(),
        on_trial: trial && slot == "b",
        trial_left: trial,
        tried: trial,
        other_went: "its kernel never came as far as init".into(),
        version: if slot == "b" { "2".into() } else { "0.1.0".into() },
        ..facts()
    });
    machine.supervisor.set_trials(Trials::parse(trials).unwrap());
    machine.begin(Some(config));
    machine.has_address();
    machine.ready(NET);
    machine.ready(API);
    machine
}

/// What is remembered when `units` were well before the reboot.
fn tried(units: &[&str]) -> String {
    let trial = Trial {
        generation: 1,
        slot: "b".into(),
        version: "2".into(),
        root_hash: "2".repeat(64),
        from: "0.1.0".into(),
        back_from: None,
        configured: true,
        units: units.iter().map(ToString::to_string).collect(),
        verdict: None,
    };
    let mut trials = Trials::default();
    trials.trial = Some(trial);
    trials.text()
}

#[test]
fn an_update_is_asked_for_written_and_started_the_next_time() {
    let mut machine = healthy("web\ndb+\nlazy");
    order(&mut machine, UpdateOrder::Check);
    assert_eq!(status(&mut machine).state, "checking");
    machine.worker(UPDATE, FromWorker::Hello);
    assert_eq!(machine.told(UPDATE, "update-check"), 1);
    machine.worker(UPDATE, FromWorker::UpdateOffer(offer("2")));
    assert_eq!(machine.called("set trial"), 0, "a check changes nothing");
    assert!(machine.said("update   version 2 is offered"));

    assert!(matches!(order(&mut machine, UpdateOrder::Reboot), Reply::Done));
    assert!(refused(order(&mut machine, UpdateOrder::Fetch)).contains("\"reboot\" is under way"));
    machine.worker(UPDATE, FromWorker::UpdateOffer(offer("2")));
    let at = |machine: &Machine, what: &str| machine.k.calls.iter().position(|call| call == what);
    assert!(at(&machine, "set trial false").is_some(), "nothing is started from what is being written");
    assert_eq!(machine.told(UPDATE, "update-write"), 1);
    assert!(machine.k.told.last().unwrap().1.contains("\"slot\":\"b\""));
    machine.worker(UPDATE, FromWorker::UpdateProgress { done: 10, total: 1000 });
    let seen = status(&mut machine);
    assert_eq!((seen.state.as_str(), seen.done, seen.total), ("writing", 10, 1000));
    assert_eq!(at(&machine, "set trial true"), None);
    // Another one is not what was asked for.
    machine.worker(UPDATE, FromWorker::UpdateWritten { root_hash: "3".repeat(64) });
    assert_eq!(at(&machine, "set trial true"), None);
    machine.worker(UPDATE, FromWorker::UpdateWritten { root_hash: "2".repeat(64) });
    assert!(at(&machine, "set trial true") > at(&machine, "set trial false"));
    assert!(machine.said("stop     reboot: update"));
    let kept = Trials::parse(&machine.k.trials).unwrap().trial.unwrap();
    assert_eq!((kept.slot.as_str(), kept.version.as_str(), kept.from.as_str()), ("b", "2", "0.1.0"));
    assert_eq!(kept.units, ["db", "lazy", "web"]);
    let system = history(&mut machine).into_iter().find(|g| g.what == What::System).unwrap();
    assert_eq!((system.version.as_str(), system.slot.as_str(), system.state), ("2", "b", Verdict::Trying));
    assert_eq!(
        (system.number, system.why.as_str()),
        (kept.generation, "update from https://updates.example.org")
    );
}

#[test]
fn what_runs_already_is_not_written() {
    let mut machine = healthy("web");
    ask(&mut machine, UpdateOrder::Reboot, "a");
    let seen = status(&mut machine);
    assert!(seen.up_to_date && seen.state == "idle" && seen.error.is_empty(), "{seen:?}");
    assert_eq!(machine.called("set trial"), 0);
    // The worker goes when it has nothing to do.
    machine.pass(limits::STORE_IDLE);
    assert_eq!(machine.called(&format!("signal {UPDATE}")), 1);
}

#[test]
fn only_what_is_well_is_to_be_well_again() {
    let mut machine = healthy("web\nsick+\nstopped\ncrashes");
    machine.k.sick.insert("sick".into(), "500".into());
    machine.seconds(300);
    machine.supervisor.ask(
        &Request::Drive { unit: "stopped".into(), order: Drive::Stop },
        machine.now,
        &mut machine.k,
    );
    machine.settle();
    machine.exit("crashes", Exit::Code(1));
    ask(&mut machine, UpdateOrder::Apply, "2");
    machine.worker(UPDATE, FromWorker::UpdateWritten { root_hash: "2".repeat(64) });
    assert_eq!(Trials::parse(&machine.k.trials).unwrap().trial.unwrap().units, ["web"]);
    assert_eq!(status(&mut machine).state, "armed");
    // It counts how things are when the machine goes down.
    machine.seconds(30);
    machine.halt(Halt::Poweroff);
    assert_eq!(Trials::parse(&machine.k.trials).unwrap().trial.unwrap().units, ["crashes", "web"]);
}

#[test]
fn an_update_that_waits_can_be_called_off() {
    let mut machine = healthy("web");
    assert!(refused(order(&mut machine, UpdateOrder::Cancel)).contains("no update waits"));
    ask(&mut machine, UpdateOrder::Apply, "2");
    machine.worker(UPDATE, FromWorker::UpdateWritten { root_hash: "2".repeat(64) });
    order(&mut machine, UpdateOrder::Cancel);
    let system = history(&mut machine).into_iter().find(|g| g.what == What::System).unwrap();
    assert_eq!(
        (system.state, system.reason.as_str()),
        (Verdict::Reverted, "called off before it was started")
    );
    assert_eq!(machine.k.calls.last().unwrap(), "set trial false");
    assert_eq!(Trials::parse(&machine.k.trials).unwrap().trial, None);
    assert_eq!(status(&mut machine).state, "idle");
}

#[test]
fn an_operator_goes_back_and_what_he_left_is_not_taken_again() {
    let mut machine = healthy("web");
    assert!(matches!(order(&mut machine, UpdateOrder::Rollback), Reply::Done));
    assert!(status(&mut machine).error.contains("nothing in the other slot"));
    machine.k.other = Some(("2".into(), "2".repeat(64)));
    order(&mut machine, UpdateOrder::Rollback);
    assert_eq!(machine.called("set trial true"), 1);
    assert!(machine.said("stop     reboot: update"));
    let mut machine = next_boot(&machine.k.trials.clone(), "b", true, "web");
    machine.seconds(15 + SETTLE);
    assert!(machine.said("version 2 took the place of 0.1.0"));
    let quarantine = status(&mut machine).quarantine;
    assert_eq!((quarantine[0].version.as_str(), quarantine[0].root_hash.len()), ("0.1.0", 64));
    assert_eq!(quarantine[0].reason, "an operator went back from it");
}

#[test]
fn a_record_that_cannot_be_written_leaves_everything_as_it_was() {
    let mut machine = healthy("web");
    assert!(matches!(order(&mut machine, UpdateOrder::Apply), Reply::Done));
    machine.worker(UPDATE, FromWorker::Hello);
    machine.k.trial_fails = true;
    machine.worker(UPDATE, FromWorker::UpdateOffer(offer("2")));
    assert_eq!(machine.told(UPDATE, "update-write"), 0, "it might still be started from there");
    assert!(status(&mut machine).error.contains("disk is slow"));
    ask(&mut machine, UpdateOrder::Apply, "2");
    machine.k.trial_fails = true;
    machine.worker(UPDATE, FromWorker::UpdateWritten { root_hash: "2".repeat(64) });
    // Perhaps it was written all the same: the note stays, and it can be called off.
    assert!(status(&mut machine).error.contains("disk is slow"));
    assert_eq!(status(&mut machine).state, "armed");
    assert!(Trials::parse(&machine.k.trials).unwrap().trial.is_some());
    order(&mut machine, UpdateOrder::Cancel);
    assert_eq!(Trials::parse(&machine.k.trials).unwrap().trial, None);
    // Without the note of what was well nothing is put on trial.
    ask(&mut machine, UpdateOrder::Apply, "2");
    let before = machine.called("set trial true");
    machine.k.trials_fail = true;
    machine.worker(UPDATE, FromWorker::UpdateWritten { root_hash: "2".repeat(64) });
    assert!(status(&mut machine).error.contains("not put on trial: no space"));
    assert_eq!(machine.called("set trial true"), before);
}

#[test]
fn who_takes_no_updates_says_so() {
    let mut machine = Machine::new(Facts { no_update: Some("direct boot".into()), ..facts() });
    machine.begin(Some("web"));
    assert_eq!(refused(order(&mut machine, UpdateOrder::Check)), "direct boot");
    let mut machine = Machine::boot("*web+");
    assert!(refused(order(&mut machine, UpdateOrder::Apply)).contains("not been found healthy"));
}

#[test]
fn a_worker_that_is_silent_or_dies_ends_nothing_but_the_order() {
    let mut machine = healthy("web");
    assert!(matches!(order(&mut machine, UpdateOrder::Fetch), Reply::Done));
    machine.pass(limits::UPDATE_SILENCE);
    assert!(status(&mut machine).error.contains("nothing has happened for 240 s"));
    // One that dies while it writes is asked anew, from the beginning.
    ask(&mut machine, UpdateOrder::Fetch, "2");
    machine.exit(UPDATE, Exit::Signal(9));
    machine.give(Input::WorkerGone { unit: UPDATE.into() });
    machine.seconds(2);
    machine.worker(UPDATE, FromWorker::Hello);
    machine.worker(UPDATE, FromWorker::UpdateOffer(offer("2")));
    assert_eq!(machine.told(UPDATE, "update-write"), 2);
    machine.worker(UPDATE, FromWorker::UpdateFailed { error: "the server is too slow".into() });
    assert!(machine.said("update   the server is too slow"));
}

#[test]
fn a_version_stays_when_all_has_been_well_for_long_enough() {
    let mut machine = next_boot(&tried(&["web", "db"]), "b", true, "web\ndb+");
    machine.seconds(15);
    assert_eq!((machine.called("confirm"), status(&mut machine).state.as_str()), (0, "assessing"));
    assert!(refused(order(&mut machine, UpdateOrder::Apply)).contains("on trial itself"));
    // A restart begins the time anew.
    machine.exit("web", Exit::Code(1));
    machine.seconds(SETTLE - 10);
    assert_eq!(machine.called("confirm"), 0);
    machine.seconds(30);
    assert_eq!(machine.called("confirm"), 1);
    assert!(machine.said("update   version 2 took the place of 0.1.0"));
    assert_eq!(Trials::parse(&machine.k.trials).unwrap().trial, None);
}

#[test]
fn a_version_under_which_a_unit_is_sick_is_taken_back() {
    let mut machine = next_boot(&tried(&["web", "db"]), "b", true, "web\ndb+");
    machine.k.sick.insert("db".into(), "connection refused".into());
    machine.seconds(90 + 2 * SETTLE);
    assert_eq!(machine.called("confirm"), 0);
    assert_eq!(machine.called("condemn not healthy after 330 s: db is "), 1, "{:#?}", machine.k.calls);
    assert!(machine.k.calls.iter().any(|call| call.starts_with("condemn") && call.ends_with(", true")));
    let kept = machine.k.trials.clone();
    let verdict = Trials::parse(&kept).unwrap().trial.unwrap().verdict.unwrap();
    assert_eq!(verdict.units, ["db"]);
    assert!(verdict.reason.ends_with("; the last of db: db listens / db gives up"), "{}", verdict.reason);

    // The old version runs again, and says why; the new one is not taken again unless told.
    let mut machine = next_boot(&kept, "a", true, "web\ndb+");
    assert!(machine.said("update   version 2 did not prove itself: not healthy after 330 s: db is "));
    machine.seconds(400);
    assert!(machine.supervisor.is_confirmed());
    let seen = status(&mut machine);
    assert_eq!(seen.quarantine.len(), 1);
    ask(&mut machine, UpdateOrder::Reboot, "2");
    assert!(status(&mut machine).error.contains("did not prove itself on this machine"));
    let again = Request::Update { order: UpdateOrder::Apply, again: true };
    assert!(matches!(machine.supervisor.ask(&again, machine.now, &mut machine.k), Some(Reply::Done)));
    machine.settle();
    machine.worker(UPDATE, FromWorker::UpdateOffer(offer("2")));
    assert_eq!(machine.told(UPDATE, "update-write"), 1);
}

#[test]
fn what_is_as_sick_with_the_old_version_was_not_the_new_ones_fault() {
    let mut trials = Trials::parse(&tried(&["db"])).unwrap();
    trials.trial.as_mut().unwrap().verdict =
        Some(Sick { reason: "db is unhealthy".into(), units: vec!["db".into()] });
    let mut machine = next_boot(&trials.text(), "a", true, "web\ndb+");
    machine.k.sick.insert("db".into(), "connection refused".into());
    assert_eq!(status(&mut machine).quarantine.len(), 1);
    machine.seconds(90 + SETTLE);
    assert!(machine.said("which is as sick with 0.1.0: it was not to blame"), "{:#?}", machine.k.said);
    assert_eq!(Trials::parse(&machine.k.trials).unwrap().quarantine, []);
}

#[test]
fn a_version_without_the_config_or_the_state_is_taken_back() {
    // It understands the config no more, so no unit is sick: none is there.
    let mut machine = next_boot(&tried(&["web"]), "b", true, "!AAAA me!");
    machine.seconds(90 + 2 * SETTLE);
    assert_eq!(machine.called("confirm"), 0);
    assert_eq!(
        machine.called("condemn not healthy after 330 s: the machine config"),
        1,
        "{:#?}",
        machine.k.calls
    );
    let mut machine = Machine::new(Facts {
        slot: "b".into(),
        other_slot: "a".into(),
        on_trial: true,
        state_trouble: Some("no driver".into()),
        ..facts()
    });
    machine.begin(Some("web"));
    machine.has_address();
    machine.ready(NET);
    machine.ready(API);
    machine.seconds(90);
    assert_eq!(machine.called("condemn not healthy after 90 s: the state is a temporary one (no driver)"), 1);
}

#[test]
fn what_was_sick_before_neither_counts_nor_delays() {
    let mut machine = next_boot(&tried(&["web"]), "b", true, "web\njunk");
    machine.k.refuse.insert("junk".into(), "no such file".into());
    for _ in 0..90 + 2 * SETTLE {
        machine.exit("junk", Exit::Code(1));
        machine.seconds(1);
    }
    assert_eq!(machine.called("confirm"), 1);
    assert!(machine.said("version 2 took the place of 0.1.0"));
}

#[test]
fn a_required_unit_that_is_as_sick_with_the_old_version_is_no_reason_either() {
    let mut machine = next_boot(&tried(&["web"]), "b", true, "web\n*db+");
    machine.k.sick.insert("db".into(), "connection refused".into());
    machine.seconds(90 + 2 * SETTLE);
    let kept = machine.k.trials.clone();
    assert_eq!(Trials::parse(&kept).unwrap().trial.unwrap().verdict.unwrap().units, ["db"]);
    let mut machine = next_boot(&kept, "a", true, "web\n*db+");
    machine.k.sick.insert("db".into(), "connection refused".into());
    machine.seconds(90 + SETTLE);
    assert!(machine.said("it was not to blame"), "{:#?}", machine.k.said);
}

#[test]
fn what_was_overwritten_is_not_gone_back_to() {
    let mut machine = healthy("web");
    machine.k.other = Some(("2".into(), "2".repeat(64)));
    ask(&mut machine, UpdateOrder::Fetch, "2");
    machine.worker(UPDATE, FromWorker::UpdateFailed { error: "the line broke".into() });
    order(&mut machine, UpdateOrder::Rollback);
    let error = status(&mut machine).error;
    assert!(error.contains("was overwritten by version 2, which has never stayed"), "{error}");
    assert_eq!(machine.called("set trial true"), 0);
}

#[test]
fn a_loader_that_never_tried_it_is_no_verdict() {
    let mut facts = Facts { trial_left: true, ..facts() };
    facts.tried = false;
    let mut machine = Machine::new(facts);
    machine.supervisor.set_trials(Trials::parse(&tried(&["web"])).unwrap());
    machine.begin(Some("web"));
    assert!(machine.said("version 2 was not started"));
    assert_eq!(machine.called("set trial false"), 1);
    assert_eq!(Trials::parse(&machine.k.trials).unwrap().quarantine, []);
}

#[test]
fn a_temporary_state_takes_no_updates() {
    let mut machine = Machine::new(Facts { state_trouble: Some("no disk".into()), ..facts() });
    machine.begin(Some("web"));
    assert!(
        refused(order(&mut machine, UpdateOrder::Apply)).contains("the state is a temporary one (no disk)")
    );
    assert!(matches!(order(&mut machine, UpdateOrder::Check), Reply::Done));
}

#[test]
fn an_update_that_waits_is_not_written_twice() {
    let mut machine = healthy("web");
    ask(&mut machine, UpdateOrder::Apply, "2");
    machine.worker(UPDATE, FromWorker::UpdateWritten { root_hash: "2".repeat(64) });
    for what in [UpdateOrder::Fetch, UpdateOrder::Apply, UpdateOrder::Reboot] {
        assert!(matches!(order(&mut machine, what), Reply::Done));
        machine.worker(UPDATE, FromWorker::UpdateOffer(offer("2")));
    }
    assert_eq!(machine.told(UPDATE, "update-write"), 1);
    assert_eq!(history(&mut machine).iter().filter(|g| g.what == What::System).count(), 1);
    assert!(machine.said("stop     reboot: update"));
    // Another one takes its place.
    let mut machine = healthy("web");
    ask(&mut machine, UpdateOrder::Apply, "2");
    machine.worker(UPDATE, FromWorker::UpdateWritten { root_hash: "2".repeat(64) });
    ask(&mut machine, UpdateOrder::Apply, "3");
    machine.worker(UPDATE, FromWorker::UpdateWritten { root_hash: "3".repeat(64) });
    assert_eq!(Trials::parse(&machine.k.trials).unwrap().trial.unwrap().version, "3");
}

#[test]
fn a_version_that_could_say_nothing_is_told_by_the_records() {
    let machine = next_boot(&tried(&["web"]), "a", true, "web");
    assert!(
        machine
            .said("version 2 did not prove itself: its kernel never came as far as init; 0.1.0 runs again")
    );
    assert_eq!(Trials::parse(&machine.k.trials).unwrap().quarantine.len(), 1);
    // The power went between the two writes: it was never tried.
    let machine = next_boot(&tried(&["web"]), "a", false, "web");
    assert!(machine.said("version 2 was not started"));
    assert_eq!(Trials::parse(&machine.k.trials).unwrap().quarantine, []);
    // And after the record, before the note: it is committed all the same.
    let mut machine = next_boot(&tried(&["web"]), "b", false, "web");
    machine.seconds(3);
    assert!(machine.said("version 2 took the place of 0.1.0"));
}

#[test]
fn automatic_updates_are_taken_when_the_clock_can_be_trusted() {
    let mut machine = healthy("web\nautomatic");
    machine.seconds(3600);
    assert_eq!(machine.called(&format!("launch {UPDATE}")), 0, "the clock is not set");
    machine.k.clock.push((0, true));
    let mut minutes = 0;
    while machine.called(&format!("launch {UPDATE}")) == 0 {
        machine.seconds(60);
        minutes += 1;
        assert!(minutes <= 60, "not within the hour");
    }
    machine.worker(UPDATE, FromWorker::Hello);
    machine.worker(UPDATE, FromWorker::UpdateOffer(offer("2")));
    machine.worker(UPDATE, FromWorker::UpdateWritten { root_hash: "2".repeat(64) });
    assert!(machine.said("stop     reboot: update"));
}
