//! Known ways out of containers, each tried by a container that wants to. Where a door can be opened by what a plan says,
//! it is, to show that the way leads somewhere and that this check would see it.

use crate::driver::{Bench, DEADLINE, Ended, Finished, ready};
use berth_units::launch::{Bind, Caps, Plan};
use berth_units::notify::{self, Listener, Notice};
use nix::libc;
use nix::poll::PollFlags;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Starts under which somebody swaps links.
const SWAPPED_STARTS: usize = 20;

/// CVE-2019-5736: the program that starts a container is written to by way of `/proc/self/exe`, which an image makes its
/// command.
pub fn own_program(bench: &Bench) {
    let run = |plan: &mut Plan| {
        plan.argv = ["/proc/self/exe", "probe", "reopen"].map(str::to_owned).to_vec();
        bench.run(plan)
    };
    let mut plan = bench.plan(&[]);
    let seen = run(&mut plan);
    assert_eq!((seen.fact("again"), seen.fact("by a copy")), ("EACCES", "EACCES"));
    // With the host's users it is only that the program runs that keeps it from being written to.
    plan.id_base = None;
    plan.caps = Caps::ALL;
    let seen = run(&mut plan);
    assert_eq!((seen.fact("again"), seen.fact("by a copy")), ("ETXTBSY", "ETXTBSY"));
}

/// CVE-2024-21626: a descriptor of a host's folder is left open, and the working folder is its name in `/proc`.
pub fn leaked_descriptors(bench: &Bench) {
    let links = bench.extra_layer("fds");
    let _ = symlink("/proc/self/fd", links.join("own"));
    let mut plan = bench.plan(&["facts"]);
    bench.add_layer(&mut plan, "fds");
    // What the host has open, folders too.
    let _folders: Vec<_> = (0..16).map(|_| fs::File::open("/").unwrap()).collect();
    assert_eq!(bench.run(&plan).fact("fds"), "0 1 2");
    for n in 3..24 {
        for folder in ["/proc/self/fd", "/proc/thread-self/fd", "/own"] {
            plan.cwd = format!("{folder}/{n}");
            let reason = bench.fails(&plan);
            assert!(reason.contains(&plan.cwd), "{reason}");
        }
        plan.cwd = format!("/proc/self/fd/{n}/../../etc");
        assert!(bench.start_in(&plan, bench.cgroup()).is_err());
    }
    // One that is given on purpose is there, so the check above would have seen others.
    plan.cwd = "/".into();
    plan.fds = vec![("folder".into(), fs::File::open("/").unwrap().into())];
    assert_eq!(bench.run(&plan).fact("fds"), "0 1 2 3");
}

/// CVE-2025-31133: what is to be hidden is covered by the image's own `/dev/null`, a link to what it wants to write to.
pub fn masks(bench: &Bench) {
    let image = bench.extra_layer("null");
    fs::create_dir_all(image.join("dev")).unwrap();
    for name in ["null", "zero", "console", "pts", "shm"] {
        let _ = symlink("/proc/sys/kernel/core_pattern", image.join("dev").join(name));
    }
    let mut plan = bench.plan(&["masks"]);
    bench.add_layer(&mut plan, "null");
    let hidden = |seen: &Finished| {
        let count = |word: &str| seen.output.lines().filter(|line| line.ends_with(word)).count();
        assert_eq!(count("= seen"), 0, "{}", seen.output);
        assert!(count("= hidden") > 5, "nothing is there to be hidden: {}", seen.output);
        assert_eq!(seen.fact("write /proc/sys/kernel/core_pattern").replace("EACCES", "EROFS"), "EROFS");
    };
    hidden(&bench.run(&plan));
    // A volume that has such links, in the place of /dev.
    let volume = bench.dir().join("devices");
    fs::create_dir_all(&volume).unwrap();
    let _ = symlink("/proc/sys/kernel/core_pattern", volume.join("null"));
    plan.binds = vec![Bind { writable: true, ..Bind::of(volume, "/dev") }];
    match bench.start_in(&plan, bench.cgroup()) {
        Ok(running) => hidden(&running.end()),
        // It has no input then; that it is opened with its own rights only is what counts.
        Err(reason) => assert_eq!(reason, "arrange descriptors: EACCES: Permission denied"),
    }
    plan.binds.clear();
    // The door: nothing is masked for a privileged unit.
    plan.id_base = None;
    plan.caps = Caps::ALL;
    plan.privileged = true;
    let seen = bench.run(&plan);
    assert!(seen.output.contains("= seen"), "{}", seen.output);
    assert_eq!(seen.fact("write /proc/sys/kernel/core_pattern"), "ok");
}

/// A folder of a shared volume becomes a link to the host's and back, while others are started that mount on it.
pub fn swapped_links(bench: &Bench) {
    let (volume, outside) = (bench.dir().join("volumes/shared"), bench.dir().join("goal"));
    fs::create_dir_all(volume.join("sub")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
    let link = volume.join("link");
    // Both as the container would have to write it, and as the host would.
    let climb = format!("../../../../../..{}", outside.display());
    symlink(climb, &link).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let swapping = threads.spawn(|| {
            let (mut swaps, sub) = (0_u64, volume.join("sub"));
            while !stop.load(Ordering::Relaxed) {
                let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                let at = nix::fcntl::AT_FDCWD;
                nix::fcntl::renameat2(at, &link, at, &sub, flags).unwrap();
                swaps += 1;
            }
            swaps
        });
        for n in 0..SWAPPED_STARTS {
            let mut plan = bench.plan(&["touch", "/data/sub/deep/file"]);
            let bind = |source: &Path, target: &str| Bind { writable: true, ..Bind::of(source, target) };
            plan.binds = vec![bind(&volume, "/data"), bind(&bench.layer(0), &format!("/data/sub/new{n}"))];
            plan.tmpfs = vec![(format!("/data/sub/tmp{n}"), 65_536)];
            // It may fail: what counts is where it does not go.
            if let Ok(running) = bench.start_in(&plan, bench.cgroup()) {
                running.end();
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(swapping.join().unwrap() > 0);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("goal"), "something was mounted outside");
}

/// A helper of the kernel's is named, which it would run as the host's root: core_pattern, modprobe, release_agent. Also with
/// the right to mount, over the container's own users.
pub fn helpers_of_the_kernel(bench: &Bench) {
    let mut plan = bench.plan(&["helpers"]);
    for more in ["", "SYS_ADMIN"] {
        plan.caps.0 |= Caps::number(more).map_or(0, |number| 1 << number);
        let seen = bench.run(&plan);
        for line in
            seen.output.lines().filter(|line| line.starts_with("open ") || line.starts_with("mount cgroup"))
        {
            assert!(!line.ends_with(" ok"), "with {more:?}: {line}");
        }
        // With the right to mount what is read-only can be made to be written to: what holds then is whose it is.
        let expected = if more.is_empty() { "EPERM" } else { "ok" };
        assert_eq!(seen.fact("remount"), expected);
    }
    // The door: the host's users.
    plan.id_base = None;
    plan.caps = Caps::ALL;
    plan.privileged = true;
    assert_eq!(bench.run(&plan).fact("open /proc/sys/kernel/core_pattern"), "ok");
}

/// A fork bomb, and processes that open all that they may: they end with their container, and others start meanwhile.
pub fn exhaustion(bench: &Bench) {
    if !bench.limited {
        return;
    }
    for what in ["bomb", "hoard"] {
        let mut plan = bench.plan(&[what]);
        plan.nofile = Some(100_000);
        let mut running = bench.start(&plan);
        running.wait_output("ready");
        let pids = running.cgroup.usage().pids.unwrap();
        assert!(pids <= 32, "{pids} processes");
        // The host has what it needs, also for another start in a cgroup of its own.
        let files: Vec<_> = (0..64).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        assert_eq!(files.len(), 64);
        let beside = bench.plan(&["facts"]);
        let other = bench.start_in(&beside, bench.beside()).unwrap().end();
        assert_eq!(other.ended, Ended::Code(0), "{}", other.errors);
        running.cgroup.kill().unwrap();
        running.wait_empty();
        assert_eq!(running.end().ended, Ended::Signal(libc::SIGKILL));
    }
}

/// Notifications: the container's own are told from others', and forging the sender takes a right.
pub fn notifications(bench: &Bench) {
    let path = bench.dir().join("notify");
    let listener = Listener::open(&path).unwrap();
    let mut plan = bench.plan(&["notify"]);
    plan.binds = vec![Bind::of(&path, "/run/notify.sock")];
    plan.user = "alice".into();
    let cgroup = bench.cgroup();
    let own = cgroup.path().strip_prefix("/sys/fs/cgroup").unwrap_or(cgroup.path()).to_owned();
    let own = format!("/{}", own.display());
    let mut running = bench.start_in(&plan, cgroup).unwrap();
    // It has said so much that there is no room for more, and nobody has listened yet.
    running.wait_output("flood = ");
    let believed = |sender: Option<i32>| {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", sender.unwrap())).unwrap_or_default();
        !bench.limited || notify::is_of(&text, &own)
    };
    ready(listener.as_fd(), PollFlags::POLLIN, Instant::now() + DEADLINE);
    let (notice, sender) = listener.receive().unwrap().unwrap();
    assert_eq!(notice, Notice { ready: true, status: Some("up".into()), ..Notice::default() });
    assert!(believed(sender));
    assert_eq!(sender, Some(running.pid));
    let mut flood = 0;
    while let Some((notice, sender)) = listener.receive().unwrap() {
        assert!(notice.is_empty() && believed(sender));
        flood += 1;
    }
    assert!(flood < 1000, "the queue has room for {flood}");
    // Descriptors that came along are closed: the other end says so.
    running.wait_output("barrier = closed");
    UnixDatagram::unbound().unwrap().send_to(b"READY=1", &path).unwrap();
    let (_, sender) = listener.receive().unwrap().unwrap();
    assert!(!bench.limited || !believed(sender), "the host's own process is none of the unit's");
    running.signal(libc::SIGKILL);
    let seen = running.end();
    assert_eq!(seen.fact("forge"), "EPERM");
    assert_eq!(seen.fact("flood"), "EAGAIN");
}
