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
    let failed = || FromWorker::PrepareFailed {
        reference: "example.org/web:1".into(),
        error: "not found".into(),
        absent: true,
    };
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
    let failed =
        || FromWorker::PrepareFailed { reference: reference(), error: "not found".into(), absent: true };
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
    let failed = FromWorker::PrepareFailed {
        reference: "example.org/web:1".into(),
        error: "not found".into(),
        absent: true,
    };
    machine.worker(STORE, failed);
    assert_eq!(machine.state("web"), State::Backoff);
    machine.give(Input::DisksChanged);
    machine.seconds(1);
    assert_eq!(machine.called("launch store"), 2);
    machine.ready(STORE);
    assert_eq!(machine.told(STORE, "example.org/web:1"), 2);
}

fn with_fetcher() -> Machine {
    let mut machine = Machine::with_system(facts(), &[FETCH]);
    machine.k.images.clear();
    machine.begin(Some("web\nother"));
    machine.ready(STORE);
    machine
}

fn reference() -> String {
    "example.org/web:1".into()
}

fn absent() -> FromWorker {
    FromWorker::PrepareFailed { reference: reference(), error: "not found".into(), absent: true }
}

#[test]
fn what_is_nowhere_here_is_asked_for_at_its_registry() {
    let mut machine = with_fetcher();
    machine.worker(STORE, absent());
    assert_eq!(machine.state("web"), State::Preparing);
    machine.ready(FETCH);
    assert_eq!(
        machine.told(FETCH, "registries"),
        1,
        "it knows how registries are reached before it is asked"
    );
    assert_eq!(machine.told(FETCH, "example.org/web:1"), 0, "nobody is asked without an address");
    machine.has_address();
    assert_eq!(machine.told(FETCH, "example.org/web:1"), 1, "one reference is asked for once");
    // As long as more comes, nobody loses patience.
    for done in 1..10 {
        machine.seconds(limits::FETCH_SILENCE.as_secs() - 1);
        let progress =
            FromWorker::FetchProgress { reference: reference(), done: done << 20, total: Some(10 << 20) };
        machine.worker(FETCH, progress);
        assert_eq!(machine.state("web"), State::Preparing);
    }
    assert_eq!(machine.why("web"), "pulling, 9 of 10 MiB");
    machine.worker(FETCH, FromWorker::Fetched { reference: reference(), digest: String::new() });
    machine.ready(STORE);
    machine.k.images.insert(reference());
    machine.worker(STORE, FromWorker::Prepared { reference: reference() });
    assert!(machine.state("web").is_up() && machine.state("other").is_up());
    machine.seconds(10);
    assert_eq!((machine.state(STORE), machine.state(FETCH)), (State::Stopped, State::Stopped));
}

#[test]
fn a_registry_that_is_away_is_asked_again() {
    let mut machine = with_fetcher();
    machine.has_address();
    machine.worker(STORE, absent());
    machine.ready(FETCH);
    let error = "image example.org/web:1 not pulled: example.org does not answer";
    machine.worker(FETCH, FromWorker::FetchFailed { reference: reference(), error: error.into() });
    assert_eq!(machine.state("web"), State::Backoff);
    assert!(machine.said("example.org does not answer"));
    machine.seconds(1);
    machine.worker(STORE, absent());
    assert_eq!(machine.told(FETCH, "example.org/web:1"), 2);
    // It crashes, and comes back.
    machine.give(Input::WorkerGone { unit: FETCH.into() });
    machine.exit(FETCH, Exit::Code(101));
    machine.seconds(1);
    machine.ready(FETCH);
    assert_eq!(machine.told(FETCH, "example.org/web:1"), 3);
    // It says nothing for too long.
    machine.seconds(limits::FETCH_SILENCE.as_secs() + 1);
    assert!(machine.said("nothing has come for"));
}

#[test]
fn what_cannot_be_used_is_not_asked_for_and_nothing_is_asked_for_twice_in_vain() {
    let mut machine = with_fetcher();
    machine.has_address();
    let error = "it is for linux/arm64".to_owned();
    machine.worker(STORE, FromWorker::PrepareFailed { reference: reference(), error, absent: false });
    assert_eq!((machine.state("web"), machine.called("launch fetch")), (State::Backoff, 0));
    machine.seconds(1);
    machine.worker(STORE, absent());
    machine.ready(FETCH);
    machine.worker(FETCH, FromWorker::Fetched { reference: reference(), digest: String::new() });
    machine.worker(STORE, absent());
    assert_eq!(machine.state("web"), State::Backoff, "fetched, and still not found");
}
