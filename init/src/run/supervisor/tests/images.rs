//! The store, and images that come late or not at all.

use super::super::*;
use super::fake::*;
use berth_units::control::FromWorker;
use berth_units::lifecycle::Exit;

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
