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

fn healthy(config: &str) -> Machine {
    let mut machine = Machine::with_system(facts(), &[FETCH]);
    machine.begin(Some(config));
    machine.has_address();
    machine.ready(NET);
    machine.ready(API);
    machine.seconds(3);
    assert!(machine.supervisor.is_confirmed());
    machine
}

fn collected(images: u64) -> FromWorker {
    FromWorker::Collected { images, layers: 2 * images, bytes: 3 << 20, trouble: None }
}

#[test]
fn after_a_healthy_boot_the_store_removes_what_no_unit_needs() {
    let mut machine = healthy("web\nother");
    assert_eq!(machine.called("launch store"), 0);
    machine.pass(limits::COLLECT_AFTER);
    machine.ready(STORE);
    let layer = format!("\"layers\":[\"{}\"]", "1".repeat(64));
    assert_eq!(machine.told(STORE, "in-use"), 1, "one image, for both units");
    assert_eq!(machine.told(STORE, &layer), 1, "and what they run on");
    let last = machine.k.told.last().unwrap();
    assert_eq!((last.0.as_str(), last.1.as_str()), (STORE, r#"{"message":"collect"}"#));
    machine.seconds(60);
    assert!(machine.state(STORE).is_up(), "it is not idle");
    machine.worker(STORE, collected(1));
    assert!(machine.said("store    removed 1 image and 2 layers that nothing needs; 3 MiB more are free"));
    machine.seconds(10);
    assert_eq!(machine.state(STORE), State::Stopped);
    machine.seconds(10_000);
    assert_eq!(machine.told(STORE, "collect"), 1, "once a boot");
}

#[test]
fn nothing_is_removed_where_nobody_knows_what_is_needed() {
    let rescue = Facts { rescue: Some("worn".into()), ..facts() };
    for (facts, config) in [(rescue, Some("web")), (facts(), Some("!key!")), (facts(), None)] {
        let mut machine = Machine::new(facts);
        machine.begin(config);
        machine.ready(NET);
        machine.ready(API);
        if config.is_none() {
            machine.worker(META, FromWorker::Hello);
            machine.worker(META, FromWorker::ConfigNone { looked: Vec::new() });
            machine.exit(META, Exit::Code(0));
        }
        machine.seconds(3);
        assert!(machine.supervisor.is_confirmed());
        machine.seconds(1000);
        assert_eq!(machine.called("launch store"), 0);
    }
}

#[test]
fn what_the_next_boot_needs_stays() {
    let mut machine = healthy("web");
    assert!(matches!(
        machine.supervisor.ask(&berth_units::control::Request::ConfigReload, machine.now, &mut machine.k),
        Some(berth_units::control::Reply::Done)
    ));
    machine.settle();
    machine.worker(META, FromWorker::Hello);
    let found = FromWorker::ConfigFound { source: "fw_cfg".into(), looked: Vec::new() };
    machine.give(Input::Worker { unit: META.into(), message: found, text: Some("web\nnew@next:1".into()) });
    machine.pass(limits::COLLECT_AFTER);
    machine.ready(STORE);
    assert_eq!(machine.told(STORE, r#""reference":"next:1","layers":[]"#), 1);
}

#[test]
fn nothing_is_fetched_while_the_store_tidies_up() {
    let mut machine = healthy("web");
    machine.pass(limits::COLLECT_AFTER);
    machine.ready(STORE);
    machine.k.images.clear();
    machine.exit("web", Exit::Code(1));
    machine.seconds(1);
    machine.worker(STORE, absent());
    assert_eq!((machine.state("web"), machine.called("launch fetch")), (State::Preparing, 0));
    machine.worker(STORE, collected(0));
    assert!(!machine.said("removed 0"), "nothing is nothing to say");
    assert_eq!(machine.called("launch fetch"), 1);
    machine.ready(FETCH);
    assert_eq!(machine.told(FETCH, "example.org/web:1"), 1);
}

#[test]
fn a_store_that_dies_of_it_is_told_again_but_not_for_ever() {
    let mut machine = healthy("web");
    machine.pass(limits::COLLECT_AFTER);
    for time in 1..=limits::COLLECT_TRIES {
        machine.ready(STORE);
        assert_eq!(machine.told(STORE, "\"collect\""), time as usize);
        machine.k.connected.remove(STORE);
        machine.give(Input::WorkerGone { unit: STORE.into() });
        machine.exit(STORE, Exit::Code(101));
        machine.seconds(1);
    }
    assert!(machine.said("store    what nothing needs was not removed: the store ended before it was done"));
    machine.seconds(100);
    assert_eq!(machine.state(STORE), State::Stopped);

    let mut machine = healthy("web");
    machine.pass(limits::COLLECT_AFTER);
    machine.ready(STORE);
    machine.pass(limits::COLLECT + Duration::from_secs(15));
    assert!(machine.said("not removed: not done within 240 s"));
    assert_eq!(machine.state(STORE), State::Stopped);
    assert!(machine.state("web").is_up(), "and nothing that runs has noticed");
}
