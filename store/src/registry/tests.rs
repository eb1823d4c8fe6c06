//! The power cut after each number of the procedure in `folder`, and the worker's side of the protocol.

use super::*;
use crate::build::{ImageBuilder, LayerBuilder};
use crate::layout::Layout;
use crate::prepare::Store;
use berth_units::control::client::Client;
use berth_units::control::{FromWorker, ToInit, ToWorker, packet};
use berth_units::model::{Registry, RegistrySettings};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::os::fd::AsFd;

#[allow(dead_code)]
#[path = "../../tests/registry/mock.rs"]
mod mock;

#[test]
fn a_cut_after_any_step_leaves_no_image_or_a_whole_one() {
    let layer = |text: &str| LayerBuilder::new().file("a", 0o644, text);
    let image = ImageBuilder::new("demo/web:1").layer(&layer("one")).unwrap().layer(&layer("two")).unwrap();
    let repository = mock::Repository::new("demo/web", "1", image.layout());
    let serving = repository.clone();
    let mock = mock::Mock::plain(move |seen| serving.answer(seen));
    let reference = format!("{}/demo/web:1", mock.host);
    let settings = || RegistrySettings {
        registries: [(mock.host.clone(), Registry { plain_http: true, ..Registry::default() })].into(),
        ..RegistrySettings::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let prepare = |folder: &std::path::Path, state: &std::path::Path| {
        let layouts = [Layout::path(folder).unwrap()];
        Store::open(state).unwrap().prepare(&layouts, &[], &reference).map(|outcome| outcome.image.digest)
    };
    // Steps 2 and 3 are taken four times: manifest, config, two layers.
    let blobs = (1..=4).flat_map(|blob| [(2, blob), (3, blob)]);
    for cut in [(1, 1)].into_iter().chain(blobs).chain([(4, 1), (5, 1)]) {
        let dir = tempfile::tempdir().unwrap();
        let (folder, state) = (dir.path().join("fetched"), dir.path().join("images"));
        let fetch = |fetcher: &Fetcher| {
            fetcher.set(settings());
            runtime.block_on(fetcher.fetch(&reference, &|_| false, &|_| ()))
        };
        let first = Fetcher::open(&folder, Pace::default()).unwrap();
        if cut.0 > 1 {
            first.folder.cut_after.set(cut);
            fetch(&first).unwrap_err();
        }
        drop(first);
        // What is there after the cut is the whole image, or none.
        match prepare(&folder, &state) {
            Ok(digest) => assert!(cut.0 == 5 && digest == repository.tag("1")),
            Err(_) => assert!(cut.0 < 5, "{cut:?}: not found"),
        }
        let again = Fetcher::open(&folder, Pace::default()).unwrap();
        assert_eq!(fetch(&again).unwrap().digest.to_string(), repository.tag("1"));
        assert_eq!(prepare(&folder, &state).unwrap(), repository.tag("1"), "{cut:?}");
    }
}

fn hear(init: &std::os::fd::OwnedFd) -> FromWorker {
    match packet::recv(init.as_fd(), &mut packet::buffer()).unwrap() {
        (ToInit::Worker(message), _) => message,
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn pid_1_asks_for_several_images_and_each_is_answered() {
    let image = |name: &str| {
        let layer = LayerBuilder::new().file("a", 0o644, name);
        mock::Repository::new(name, "1", ImageBuilder::new(name).layer(&layer).unwrap().layout())
    };
    let (quick, slow) = (image("quick"), image("slow"));
    let digests = [quick.tag("1"), slow.tag("1")];
    // The first one asked for is not answered before the second one is done.
    let (done, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let mock = mock::Mock::plain(move |seen| {
        if seen.path.contains("/slow/manifests") {
            held.lock().unwrap().recv().unwrap();
        }
        if seen.path.contains("/slow/") { slow.answer(seen) } else { quick.answer(seen) }
    });
    let registry = Registry { plain_http: true, ..Registry::default() };
    let settings = RegistrySettings {
        registries: [(mock.host.clone(), registry)].into(),
        ..RegistrySettings::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("fetched");
    let (ours, init) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let index = dir.path().join("index");
    let worker = std::thread::spawn({
        let folder = folder.clone();
        move || worker::serve(Client::from_fd(ours), &folder, &index, Pace::default())
    });
    assert!(matches!(hear(&init), FromWorker::Ready));
    let say = |message: ToWorker| packet::send(init.as_fd(), &message, &[]).unwrap();
    say(ToWorker::Registries { settings });
    let [slow, quick, none] = ["slow:1", "quick:1", "none:1"].map(|name| format!("{}/{name}", mock.host));
    // Twice, as after a crash of nobody: one answer.
    for reference in [&slow, &slow, &quick] {
        say(ToWorker::Fetch { reference: reference.clone() });
    }
    let answer = || loop {
        match hear(&init) {
            FromWorker::FetchProgress { done, total, .. } => assert!(total.is_some_and(|t| done <= t)),
            answer => return answer,
        }
    };
    for (wanted, expected) in [(&quick, &digests[0]), (&slow, &digests[1])] {
        let FromWorker::Fetched { reference, digest } = answer() else { panic!("{wanted} not fetched") };
        assert_eq!((&reference, &digest), (wanted, expected));
        let _ = done.send(());
    }
    say(ToWorker::Fetch { reference: none.clone() });
    let FromWorker::FetchFailed { reference, error } = answer() else { panic!("fetched") };
    assert_eq!(reference, none);
    let expected =
        format!("image {none} not pulled: registry says 404 (not known here); it has no tag 1 in none");
    assert_eq!(error, expected);
    drop(init);
    worker.join().unwrap().unwrap();
    for (reference, digest) in [(&quick, &digests[0]), (&slow, &digests[1])] {
        let store = Store::open(&dir.path().join("images")).unwrap();
        let outcome = store.prepare(&[Layout::path(&folder).unwrap()], &[], reference).unwrap();
        assert_eq!(&outcome.image.digest, digest);
    }
}
