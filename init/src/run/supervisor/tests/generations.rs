//! The history of a machine.

use super::super::generations::Change;
use super::apply::send;
use super::*;
use crate::run::generations::Kept;
use berth_units::control::ConfigChange;
use berth_units::generation::{Generation, History, Verdict, What};

fn history(machine: &mut Machine) -> History {
    match machine.supervisor.ask(&Request::History, machine.now, &mut machine.k) {
        Some(Reply::History(history)) => *history,
        other => panic!("{other:?}"),
    }
}

fn states(machine: &mut Machine) -> Vec<(u64, Verdict)> {
    history(machine).generations.iter().map(|g| (g.number, g.state)).collect()
}

fn found(config: &str) -> Machine {
    let mut machine = Machine::new(facts());
    machine.begin(None);
    machine.has_address();
    machine.ready(NET);
    machine.ready(API);
    machine.worker(META, FromWorker::Hello);
    machine.give(Input::Worker {
        unit: META.into(),
        message: super::fake::found("fw_cfg", Vec::new()),
        text: Some(config.into()),
    });
    machine.exit(META, Exit::Code(0));
    machine
}

/// The same disk, another boot.
fn again(before: &Machine) -> Machine {
    let mut machine = Machine::new(facts());
    machine.supervisor.set_history(Kept {
        current: before.k.current,
        last: before.k.records.keys().next_back().copied().unwrap_or_default(),
        generations: before.k.records.values().cloned().collect(),
    });
    machine.k.records = before.k.records.clone();
    machine.k.texts = before.k.texts.clone();
    (machine.k.current, machine.k.committed) = (before.k.current, before.k.committed);
    let config = before.k.current.map(|number| String::from_utf8(before.k.texts[&number].clone()).unwrap());
    machine.begin(config.as_deref());
    machine.has_address();
    machine.ready(NET);
    machine.ready(API);
    machine
}

#[test]
fn a_first_config_is_tried_until_the_boot_is_healthy() {
    let mut machine = found("*web");
    assert_eq!(states(&mut machine), [(1, Verdict::Trying)]);
    assert_eq!((machine.k.current, machine.k.committed), (Some(1), None));
    machine.seconds(5);
    assert_eq!(states(&mut machine), [(1, Verdict::Committed)]);
    assert_eq!((machine.k.current, machine.k.committed), (Some(1), Some(1)));
    let Generation { what, why, slot, version, root_hash, images, made, .. } = machine.k.records[&1].clone();
    assert_eq!(
        (what, why.as_str(), slot.as_str(), version.as_str()),
        (What::Config, "found by fw_cfg", "a", "0.1.0")
    );
    assert_eq!((root_hash.len(), made), (64, 1_795_507_200));
    assert_eq!(images["example.org/web:1"], format!("sha256:{}", "0".repeat(64)), "known by then");
}

#[test]
fn each_config_is_a_generation_and_the_one_before_is_superseded() {
    let mut machine = found("web");
    machine.seconds(5);
    send(&mut machine, "web\nnew", None, false);
    machine.seconds(5);
    assert_eq!(states(&mut machine), [(1, Verdict::Superseded), (2, Verdict::Committed)]);
    assert_eq!((machine.k.current, machine.k.committed), (Some(2), Some(2)));
    let told = history(&mut machine);
    assert_eq!((told.in_force, told.generations[1].why.as_str()), (Some(2), "sent by an operator"));
    let mut machine = again(&machine);
    machine.seconds(5);
    assert_eq!(states(&mut machine), [(1, Verdict::Superseded), (2, Verdict::Committed)]);
    assert_eq!(machine.supervisor.history.before().unwrap().number, 1);
}

#[test]
fn what_is_not_confirmed_is_in_the_history_with_its_reason() {
    let mut machine = found("web");
    machine.seconds(5);
    send(&mut machine, "new", Some(10), false);
    machine.seconds(5);
    assert_eq!((history(&mut machine).in_force, machine.k.current), (Some(2), Some(1)));
    let cut = again(&machine);
    machine.seconds(6);
    assert_eq!(states(&mut machine), [(1, Verdict::Committed), (2, Verdict::Reverted)]);
    assert_eq!(machine.k.records[&2].reason, "it was not confirmed in time");
    assert_eq!(machine.k.committed, Some(1));

    // The same with the power cut meanwhile.
    let mut cut = cut;
    cut.seconds(5);
    assert_eq!(states(&mut cut), [(1, Verdict::Committed), (2, Verdict::Reverted)]);
    assert_eq!(cut.k.records[&2].reason, "the machine was started again before it was confirmed");
    assert!(cut.state("web").is_up());

    machine.seconds(5);
    send(&mut machine, "new", Some(10), false);
    machine.supervisor.ask(&Request::ConfigConfirm, machine.now, &mut machine.k);
    machine.settle();
    assert_eq!(states(&mut machine)[2], (3, Verdict::Committed));
    assert_eq!((machine.k.current, machine.k.committed), (Some(3), Some(3)));
}

#[test]
fn what_could_not_be_written_is_neither_in_force_nor_in_the_history() {
    let mut machine = found("web");
    machine.seconds(5);
    machine.k.write_fails = true;
    send(&mut machine, "new", None, false);
    assert!(machine.said("is not in force, it cannot be kept: disk full"));
    assert_eq!(
        (states(&mut machine), history(&mut machine).in_force),
        (vec![(1, Verdict::Committed)], Some(1))
    );
    // Its number may be on the disk.
    send(&mut machine, "new", None, false);
    assert_eq!(states(&mut machine), [(1, Verdict::Superseded), (3, Verdict::Committed)]);
}

#[test]
fn a_change_of_the_system_goes_its_own_way() {
    let mut machine = found("web");
    machine.seconds(5);
    let update = |state| Change {
        what: What::System,
        why: "update".into(),
        slot: "b".into(),
        version: "0.2.0".into(),
        root_hash: "cd".repeat(32),
        state,
    };
    let number = machine.supervisor.record(update(Verdict::Trying), None, &mut machine.k);
    machine.settle();
    assert_eq!(machine.k.records[&2].config_sha256, machine.k.records[&1].config_sha256);
    send(&mut machine, "web\nnew", None, false);
    // The next boot still knows it, and its end leaves the config alone.
    let mut machine = again(&machine);
    machine.seconds(5);
    let told = history(&mut machine).generations;
    let trying = told.iter().rfind(|g| g.what == What::System && g.state == Verdict::Trying);
    assert_eq!(trying.unwrap().number, number);
    machine.supervisor.judge(number, Verdict::Reverted, "its kernel panicked", &mut machine.k);
    machine.settle();
    assert_eq!((machine.k.current, machine.k.committed), (Some(3), Some(3)));
    let number = machine.supervisor.record(update(Verdict::Committed), None, &mut machine.k);
    machine.settle();
    assert_eq!((number, machine.k.current), (4, Some(3)));
    let told = history(&mut machine);
    assert_eq!(
        told.generations.iter().map(|g| (g.what, g.state)).collect::<Vec<_>>(),
        [
            (What::Config, Verdict::Superseded),
            (What::System, Verdict::Reverted),
            (What::Config, Verdict::Committed),
            (What::System, Verdict::Committed)
        ]
    );
    assert_eq!(told.generations[1].reason, "its kernel panicked");
}

#[test]
fn the_history_is_bounded_and_what_is_in_force_stays_in_it() {
    let mut machine = found("web");
    machine.seconds(5);
    for _ in 0..limits::GENERATIONS + 3 {
        let change = Change {
            what: What::System,
            why: "x".repeat(2000),
            slot: "b".into(),
            version: String::new(),
            root_hash: String::new(),
            state: Verdict::Reverted,
        };
        machine.supervisor.record(change, None, &mut machine.k);
    }
    machine.settle();
    let told = history(&mut machine);
    assert_eq!((told.generations.len(), told.generations[0].number), (limits::GENERATIONS, 1));
    let reply = serde_json::to_vec(&Reply::History(Box::new(told))).unwrap();
    assert!(reply.len() < berth_units::limits::MESSAGE_BYTES / 2, "{}", reply.len());
}

/// What an operator is told in the end.
fn late(machine: &mut Machine, peer: u64, at_once: Option<Reply>) -> Result<ConfigChange, String> {
    machine.settle();
    match at_once.or_else(|| machine.k.answers.remove(&peer)) {
        Some(Reply::ConfigChange(change)) => Ok(*change),
        Some(Reply::Error { message, .. }) => Err(message),
        other => panic!("{other:?}"),
    }
}

fn back(machine: &mut Machine, to: Option<u64>, trial: Trial) -> Result<ConfigChange, String> {
    let reply = machine.supervisor.roll_back(5, to, trial, &mut machine.k);
    late(machine, 5, reply)
}

#[test]
fn an_earlier_config_is_put_in_force_again() {
    let mut machine = found("web");
    machine.seconds(5);
    assert!(back(&mut machine, None, Trial::default()).unwrap_err().contains("no other config"));
    send(&mut machine, "web\nnew", None, false);
    send(&mut machine, "web\nnewer", None, false);
    machine.seconds(5);
    let look = Trial { only_look: true, ..Trial::default() };
    assert_eq!(back(&mut machine, None, look).unwrap().removed, ["newer"]);
    assert_eq!(states(&mut machine).len(), 3, "a look changes nothing");
    assert_eq!(back(&mut machine, None, Trial::default()).unwrap().added, ["new"]);
    machine.seconds(5);
    assert!(machine.state("new").is_up() && !machine.supervisor.has("newer"));
    assert_eq!((machine.k.records[&4].why.as_str(), machine.k.current), ("back to generation 2", Some(4)));
    assert!(machine.said("config   back to generation 2, sha256:"));
    // Once more: what it came from.
    assert_eq!(back(&mut machine, None, look).unwrap().added, ["newer"]);
    assert!(back(&mut machine, Some(9), Trial::default()).unwrap_err().contains("no generation 9"));
    let trial = Trial { confirm: Some(Duration::from_secs(5)), only_look: false };
    back(&mut machine, Some(1), trial).unwrap();
    machine.seconds(2);
    assert!(!machine.supervisor.has("new"));
    machine.seconds(10);
    assert!(machine.state("new").is_up());
    assert_eq!(states(&mut machine)[4], (5, Verdict::Reverted));
}

#[test]
fn some_units_change_and_the_others_stay() {
    let mut machine = found("web");
    machine.seconds(5);
    let edit = |machine: &mut Machine, text: &str, trial| {
        let reply = machine.supervisor.edit_units(6, Some(text.into()), trial, &mut machine.k);
        late(machine, 6, reply)
    };
    let look = Trial { only_look: true, ..Trial::default() };
    assert_eq!(edit(&mut machine, "new", look).unwrap().added, ["new"]);
    assert_eq!(states(&mut machine).len(), 1);
    assert_eq!(edit(&mut machine, "new", Trial::default()).unwrap().added, ["new"]);
    machine.seconds(5);
    assert!(machine.state("new").is_up());
    assert_eq!((machine.called("launch web"), machine.k.texts[&2].as_slice()), (1, &b"web\nnew"[..]));
    assert_eq!(machine.k.records[&2].why, "units sent by an operator");
    // A machine whose config is on no disk has none that could be edited.
    let mut machine = Machine::boot("web");
    machine.ready(NET);
    machine.ready(API);
    machine.seconds(5);
    assert!(edit(&mut machine, "new", look).unwrap_err().contains("is not kept"));
}
