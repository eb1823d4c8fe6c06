use super::*;
use crate::build::{ImageBuilder, LayerBuilder};
use berth_units::control::{Sweep, ToInit, packet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

fn demo(name: &str) -> ImageBuilder {
    ImageBuilder::new(name).layer(&LayerBuilder::new().file("a", 0o644, name)).unwrap()
}

fn pair() -> (Client, OwnedFd) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    (Client::from_fd(ours), theirs)
}

fn hear(init: &OwnedFd) -> FromWorker {
    let (said, _): (ToInit, _) = packet::recv(init.as_fd(), &mut packet::buffer()).unwrap();
    match said {
        ToInit::Worker(message) => message,
        ToInit::Request(other) => panic!("{other:?}"),
    }
}

#[test]
fn pid_1_asks_and_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let system = dir.path().join("system");
    std::fs::create_dir(&system).unwrap();
    demo("shipped:1").write_archive(&system.join("shipped.tar")).unwrap();
    std::fs::write(system.join("broken.tar"), vec![1; 600]).unwrap();
    std::fs::write(system.join("readme"), "no image").unwrap();
    let disk = dir.path().join("disk");
    demo("disk:1").write_archive(&disk).unwrap();
    let disk = std::fs::File::open(disk).unwrap();
    let other = tempfile::tempfile().unwrap();
    let fds = format!("vdb={},vdc={},vdd=999,nonsense", disk.as_raw_fd(), other.as_raw_fd());
    let (client, init) = pair();
    let state = dir.path().join("state");
    let fetched = dir.path().join("fetched");
    let worker = {
        let fetched = fetched.clone();
        std::thread::spawn(move || serve(client, &state, &Places::new(&system, &fetched, &fds)))
    };
    assert!(matches!(hear(&init), FromWorker::Ready));
    for name in ["shipped:1", "disk:1"] {
        packet::send(init.as_fd(), &ToWorker::Prepare { reference: name.into(), pulled: false }, &[])
            .unwrap();
        assert!(matches!(hear(&init), FromWorker::Status { text } if text.contains("1 layers, 1 of them")));
        assert!(matches!(hear(&init), FromWorker::Prepared { reference } if reference == name));
    }
    packet::send(init.as_fd(), &ToWorker::Prepare { reference: "absent:1".into(), pulled: false }, &[])
        .unwrap();
    let FromWorker::PrepareFailed { error, absent: true, .. } = hear(&init) else { panic!("prepared") };
    assert!(error.starts_with("image absent:1 not prepared: not found; there are: shipped:1"), "{error}");
    for problem in ["broken.tar", "disk vdd: Bad file descriptor", "disk nonsense"] {
        assert!(error.contains(problem), "{error}");
    }
    // It comes from a registry, and its layers are not kept twice.
    demo("absent:1").write_layout(&fetched).unwrap();
    let blobs = || std::fs::read_dir(fetched.join("blobs/sha256")).unwrap().count();
    let before = blobs();
    packet::send(init.as_fd(), &ToWorker::Prepare { reference: "absent:1".into(), pulled: false }, &[])
        .unwrap();
    assert!(matches!(hear(&init), FromWorker::Status { .. }));
    assert!(matches!(hear(&init), FromWorker::Prepared { .. }));
    assert_eq!(blobs(), before - 1);
    // Two of the three are needed no more.
    let say = |message: ToWorker| packet::send(init.as_fd(), &message, &[]).unwrap();
    say(ToWorker::InUse { reference: "disk:1".into(), layers: Vec::new() });
    say(ToWorker::Collect { sweep: Sweep::Unneeded });
    let FromWorker::Collected { images: 2, layers: 2, trouble: None, .. } = hear(&init) else { panic!() };
    assert_eq!(blobs(), 0);
    // The list is for one time.
    say(ToWorker::Collect { sweep: Sweep::Unneeded });
    assert!(matches!(hear(&init), FromWorker::Collected { images: 1, layers: 1, trouble: None, .. }));
    drop(init);
    worker.join().unwrap().unwrap();
}

#[test]
fn only_disks_that_begin_like_an_archive_are_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    demo("disk:1").write_archive(&dir.path().join("disk")).unwrap();
    let disk = std::fs::File::open(dir.path().join("disk")).unwrap();
    let blank = tempfile::tempfile().unwrap();
    blank.set_len(1 << 20).unwrap();
    let fds = format!("vdb={},vdc={}", disk.as_raw_fd(), blank.as_raw_fd());
    let (layouts, problems) = Places::new(&dir.path().join("none"), &dir.path().join("none"), &fds).look();
    assert_eq!((layouts.len(), problems.len()), (1, 0));
    assert_eq!(layouts[0].name, "disk vdb");
}

/// Sends an archive, and what the worker says of it.
fn load(init: &OwnedFd, job: u64, bytes: &[u8]) -> (Vec<String>, String) {
    use std::io::Write as _;
    let (theirs, mut ours) = std::io::pipe().unwrap();
    packet::send(init.as_fd(), &ToWorker::Load { job }, &[theirs.as_fd()]).unwrap();
    drop(theirs);
    // What is refused is not read to its end.
    let _ = ours.write_all(bytes);
    drop(ours);
    match hear(init) {
        FromWorker::Loaded { job: answered, images, error } if answered == job => {
            (images, error.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_archive_that_is_sent_is_kept_and_a_slow_one_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let none = dir.path().join("none");
    let (client, init) = pair();
    let worker = {
        let state = state.clone();
        std::thread::spawn(move || serve(client, &state, &Places::new(&none, &none, "")))
    };
    assert!(matches!(hear(&init), FromWorker::Ready));
    // One that never ends, as long as the others are sent.
    let (theirs, slow) = std::io::pipe().unwrap();
    packet::send(init.as_fd(), &ToWorker::Load { job: 1 }, &[theirs.as_fd()]).unwrap();
    drop(theirs);

    let web = demo("docker.io/demo/web:1").archive().unwrap();
    assert_eq!(load(&init, 2, &web), (vec!["docker.io/demo/web:1".to_owned()], String::new()));
    let other = demo("other:1").archive().unwrap();
    let other = crate::build::gzipped(&other).unwrap();
    assert_eq!(load(&init, 3, &other), (vec!["other:1".to_owned()], String::new()));
    let known: Vec<bool> = std::fs::read_dir(state.join("index"))
        .unwrap()
        .map(|file| crate::prepare::read(&file.unwrap().path()).unwrap().kept)
        .collect();
    assert_eq!(known, [true, true]);

    for (bytes, why) in [
        (&web[..web.len() - 1500], ""),
        (&[][..], "neither index.json"),
        (&b"not an archive at all, and longer than one header of a tar file would be; ".repeat(20)[..], ""),
        (&other[..other.len() / 2], "the archive was not taken"),
    ] {
        let (images, error) = load(&init, 4, bytes);
        assert!(images.is_empty() && !error.is_empty() && error.contains(why), "{error}");
    }
    // A unit's image, by another form of the name.
    packet::send(init.as_fd(), &ToWorker::Prepare { reference: "demo/web:1".into(), pulled: false }, &[])
        .unwrap();
    assert!(matches!(hear(&init), FromWorker::Status { .. }));
    assert!(matches!(hear(&init), FromWorker::Prepared { .. }));

    drop(slow);
    assert!(matches!(hear(&init), FromWorker::Loaded { job: 1, error: Some(_), .. }));
    assert_eq!(std::fs::read_dir(state.join("tmp")).unwrap().count(), 0);
    drop(init);
    worker.join().unwrap().unwrap();
}
