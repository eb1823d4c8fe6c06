//! The store, and images that come late or not at all.

use super::super::*;
use super::fake::*;
use berth_units::control::{FromWorker, ImageOrder, Reply, Request};
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
    machine.healthy(3)
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
    assert_eq!((last.0.as_str(), last.1.as_str()), (STORE, r#"{"message":"collect","sweep":"unneeded"}"#));
    machine.seconds(60);
    assert!(machine.state(STORE).is_up(), "it is not idle");
    machine.worker(STORE, collected(1));
    assert!(machine.said("store    removed what nothing needs: 1 image and 2 layers, 3 MiB are free again"));
    machine.seconds(10);
    assert_eq!(machine.state(STORE), State::Stopped);
    machine.seconds(10_000);
    assert_eq!(machine.told(STORE, "\"collect\""), 1, "once a boot");
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
            machine.worker(META, none(Vec::new()));
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
        machine.supervisor.ask(&Request::ConfigReload, machine.now, &mut machine.k),
        Some(Reply::Done)
    ));
    machine.settle();
    machine.worker(META, FromWorker::Hello);
    let found = found("fw_cfg", Vec::new());
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
    assert!(!machine.said("store    removed"), "nothing is nothing to say");
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

fn order(machine: &mut Machine, order: ImageOrder) -> Result<u64, String> {
    let reply = machine.supervisor.ask(&Request::Image { order }, machine.now, &mut machine.k);
    machine.settle();
    match reply {
        Some(Reply::Job(id)) => Ok(id),
        Some(Reply::Error { message, .. }) => Err(message),
        other => panic!("{other:?}"),
    }
}

fn job(machine: &mut Machine, id: u64) -> (String, String) {
    let Some(Reply::Jobs(jobs)) = machine.supervisor.ask(&Request::Jobs, machine.now, &mut machine.k) else {
        panic!()
    };
    let job = jobs.into_iter().find(|job| job.id == id).unwrap();
    (job.state, job.message)
}

fn is(state: &str, message: &str) -> (String, String) {
    (state.into(), message.into())
}

#[test]
fn an_operator_pulls_an_image() {
    let mut machine = healthy("web");
    let pull = || ImageOrder::Pull("new:1".into());
    let id = order(&mut machine, pull()).unwrap();
    assert_eq!(order(&mut machine, pull()), Ok(id), "one pull for both");
    machine.ready(FETCH);
    assert_eq!(job(&mut machine, id), is("pulling", "asking the registry"));
    machine.worker(FETCH, FromWorker::FetchProgress { reference: "new:1".into(), done: 1, total: Some(9) });
    let prune = order(&mut machine, ImageOrder::Prune).unwrap();
    assert_eq!(job(&mut machine, prune).0, "waiting");
    machine.worker(FETCH, FromWorker::Fetched { reference: "new:1".into(), digest: String::new() });
    machine.ready(STORE);
    assert_eq!(job(&mut machine, id).0, "unpacking");
    assert_eq!(machine.told(STORE, r#""reference":"new:1","pulled":true"#), 1);
    machine.k.images.insert("new:1".into());
    machine.worker(STORE, FromWorker::Prepared { reference: "new:1".into() });
    assert_eq!((job(&mut machine, id), job(&mut machine, prune).0), (is("done", ""), "removing".into()));
    machine.worker(STORE, collected(0));
    assert_eq!(job(&mut machine, prune).0, "done");

    let id = order(&mut machine, ImageOrder::Pull("none:1".into())).unwrap();
    let error = "image none:1 not pulled: registry says 404".to_owned();
    machine.worker(FETCH, FromWorker::FetchFailed { reference: "none:1".into(), error: error.clone() });
    assert_eq!(job(&mut machine, id), is("failed", &error));
    let id = order(&mut machine, ImageOrder::Pull("bad:1".into())).unwrap();
    machine.worker(FETCH, FromWorker::Fetched { reference: "bad:1".into(), digest: String::new() });
    let error = "image bad:1 not prepared: the state partition is full".to_owned();
    let failed = FromWorker::PrepareFailed { reference: "bad:1".into(), error: error.clone(), absent: false };
    machine.worker(STORE, failed);
    assert_eq!(job(&mut machine, id), is("failed", &error));
    assert!(order(&mut machine, ImageOrder::Pull("a b".into())).is_err());
    machine.seconds(20);
    assert_eq!((machine.state(STORE), machine.state(FETCH)), (State::Stopped, State::Stopped));
}

#[test]
fn an_operator_removes_images() {
    let mut machine = healthy("web");
    let id = order(&mut machine, ImageOrder::Remove("old:1".into())).unwrap();
    machine.ready(STORE);
    assert_eq!(machine.told(STORE, r#""sweep":{"one":"old:1"}"#), 1);
    let prune = order(&mut machine, ImageOrder::Prune).unwrap();
    machine.worker(STORE, collected(1));
    assert_eq!(job(&mut machine, id), is("done", "1 image and 2 layers, 3 MiB are free again"));
    let id = prune;
    assert_eq!(machine.told(STORE, r#""sweep":"all""#), 1);
    let trouble = Some("a layer not removed".to_owned());
    machine.worker(STORE, FromWorker::Collected { images: 0, layers: 0, bytes: 0, trouble });
    assert_eq!(job(&mut machine, id), is("failed", "a layer not removed"));

    let mut rescue = Machine::new(Facts { rescue: Some("worn".into()), ..facts() });
    rescue.begin(Some("web"));
    assert!(order(&mut rescue, ImageOrder::Prune).unwrap_err().contains("in rescue"));
}

#[test]
fn jobs_are_not_kept_for_ever() {
    let mut machine = healthy("web");
    for n in 0..3 * limits::JOBS {
        order(&mut machine, ImageOrder::Prune).unwrap();
        if n == 0 {
            machine.ready(STORE);
        }
        machine.worker(STORE, collected(0));
    }
    for n in 0..limits::JOBS_AT_ONCE {
        order(&mut machine, ImageOrder::Pull(format!("a{n}"))).unwrap();
    }
    assert!(order(&mut machine, ImageOrder::Pull("more".into())).unwrap_err().contains("under way"));
    let Some(Reply::Jobs(jobs)) = machine.supervisor.ask(&Request::Jobs, machine.now, &mut machine.k) else {
        panic!()
    };
    assert_eq!(jobs.len(), limits::JOBS);
}

#[test]
fn an_operator_loads_an_archive() {
    let mut machine = healthy("web");
    let id = order(&mut machine, ImageOrder::Load).unwrap();
    machine.ready(STORE);
    assert_eq!(machine.told(STORE, &format!(r#"{{"message":"load","job":{id}}}"#)), 1);
    machine.seconds(3600);
    assert_eq!((job(&mut machine, id), machine.state(STORE)), (is("loading", ""), State::Healthy));
    let images = vec!["a:1".to_owned(), "b:1".to_owned()];
    machine.worker(STORE, FromWorker::Loaded { job: id, images, error: None });
    assert_eq!(job(&mut machine, id), is("done", "a:1, b:1"));
    // It dies in the middle of the next one.
    let id = order(&mut machine, ImageOrder::Load).unwrap();
    assert_eq!(job(&mut machine, id).0, "loading");
    machine.k.connected.remove(STORE);
    machine.give(Input::WorkerGone { unit: STORE.into() });
    machine.exit(STORE, Exit::Code(101));
    assert!(job(&mut machine, id).1.contains("the store ended"));
    machine.seconds(100);
    assert_eq!(machine.told(STORE, r#""message":"load""#), 2, "nothing is read twice");
}
