//! Starts real containers and looks at them from inside and outside. Needs root and a cgroup v2 hierarchy; the program
//! is its own container image. Run it on a machine, or as `/init` of an initramfs: then it mounts what it needs, loads
//! the modules in `/modules`, also checks the limits, and powers the machine off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::exit)]

#[path = "launch_check/attempts.rs"]
mod attempts;
#[path = "launch_check/driver.rs"]
mod driver;
#[path = "launch_check/enter.rs"]
mod enter;
#[path = "launch_check/escapes.rs"]
mod escapes;
#[path = "launch_check/guest.rs"]
mod guest;
#[path = "launch_check/probe.rs"]
mod probe;
#[path = "launch_check/rights.rs"]
mod rights;
#[path = "launch_check/start.rs"]
mod start;

use berth_units::launch::{Caps, Root};
use berth_units::model::NetworkMode;
use driver::{Bench, Ended};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

const BASE: u32 = berth_units::limits::ID_BASE;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == "probe") {
        std::process::exit(probe::run(&args[2..]));
    }
    let in_guest = std::process::id() == 1;
    if in_guest && std::panic::catch_unwind(guest::prepare).is_err() {
        println!("the guest is not ready");
        guest::power_off();
    }
    let cgroup = if in_guest { "/sys/fs/cgroup/units" } else { "/sys/fs/cgroup/unified/berth-check" };
    let bench = Bench::new(cgroup.as_ref(), in_guest);
    let mut failed = 0;
    for (name, check) in CHECKS {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&bench)));
        println!("check {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(outcome.is_err());
    }
    println!("checks: {} passed, {failed} failed", CHECKS.len() - failed);
    if in_guest {
        guest::power_off();
    }
    drop(bench);
    std::process::exit(i32::from(failed > 0));
}

type Check = fn(&Bench);
const CHECKS: &[(&str, Check)] = &[
    ("isolation", isolation),
    ("ids and layers", ids_and_layers),
    ("network modes", network_modes),
    ("users", users),
    ("read-only root and tmpfs", read_only_root),
    ("system unit", system_unit),
    ("images with hostile links", hostile_links),
    ("failures say what and where", failures),
    ("giving up", giving_up),
    ("signals and the cgroup's end", signals),
    ("limits", limits),
    ("descriptors", descriptors),
    ("secrets", secrets),
    ("mounts and devices", rights::mounts_and_devices),
    ("setuid programs", rights::setuid_programs),
    ("privileged", rights::privileged),
    ("reading and writing a disk", rights::disk),
    ("entering", enter::as_the_unit),
    ("entering as somebody else", enter::as_somebody_else),
    ("entering that fails", enter::failures),
    ("what is seen of those that enter", enter::seen_from_inside),
    ("the end of those that enter", enter::ends),
    ("the starter's own program", escapes::own_program),
    ("leaked descriptors", escapes::leaked_descriptors),
    ("masks", escapes::masks),
    ("links that are swapped", escapes::swapped_links),
    ("helpers of the kernel", escapes::helpers_of_the_kernel),
    ("exhaustion", escapes::exhaustion),
    ("notifications", escapes::notifications),
    ("time", time),
];

/// What a container with all defaults can see and do.
fn isolation(bench: &Bench) {
    let run = bench.probe(&["facts"]);
    assert_eq!(run.fact("pid"), "1");
    assert_eq!(run.fact("processes"), "1");
    assert_eq!(run.fact("cgroup"), "0::/");
    shut_in(&run);
}

/// As whichever process of it.
fn shut_in(run: &driver::Finished) {
    let fact = |key: &str| run.fact(key);
    assert_eq!(fact("uid"), "0");
    assert_eq!(fact("hostname"), "check");
    assert_eq!(fact("status NoNewPrivs"), "1");
    assert_eq!(fact("status Seccomp"), "2");
    let caps = format!("{:016x}", Caps::DEFAULT.0);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(fact(&format!("status {set}")), caps, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(fact(&format!("status {set}")), "0000000000000000", "{set}");
    }
    assert_eq!(fact("status SigBlk"), "0000000000000000");
    // Rust's own runtime ignores SIGPIPE.
    assert_eq!(fact("status SigIgn"), "0000000000001000");
    assert_eq!(fact("fds"), "0 1 2");
    assert_eq!(fact("interfaces"), "lo");
    assert_eq!(fact("loopback"), "up");
    assert_eq!(fact("low port"), "ok");
    assert_eq!(fact("dev"), "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
    assert_eq!(fact("open /dev/null"), "ok");
    assert_eq!(fact("open /dev/stdout"), "ok");
    assert_eq!(fact("openpty"), "ok");
    assert_eq!(fact("root mounts"), "1", "nothing of the host's mounts is left");
    for (attempt, error) in [
        ("mknod", "EPERM"),
        ("mount tmpfs", "EPERM"),
        ("unshare user", "EPERM"),
        ("unshare mount", "EPERM"),
        ("write /proc/sys/kernel/panic", "EROFS"),
        ("write /proc/irq/default_smp_affinity", "EROFS"),
        ("write /sys/fs/cgroup/cgroup.procs", "EROFS"),
        ("write /sys/kernel/rcu_expedited", "EROFS"),
        ("write /etc/resolv.conf", "EROFS"),
        ("read /proc/keys", "0 bytes"),
        ("list /sys/firmware", "0 entries"),
        ("sethostname", "EPERM"),
        ("connect", "ENOENT"),
        ("write /file", "ok"),
        ("chown /file", "ok"),
        ("chown outside range", "EINVAL"),
    ] {
        // The host's own files are refused by their owner even before they are by the mount.
        let got =
            if error == "EROFS" { fact(attempt).replace("EACCES", error) } else { fact(attempt).to_owned() };
        assert_eq!(got, error, "{attempt}");
    }
    // Not every kernel has it.
    assert!(["0 bytes", "ENOENT"].contains(&fact("read /proc/kcore")));
    assert_eq!(fact("env HOME"), "/root");
    assert_eq!(fact("env HOSTNAME"), "check");
    assert_eq!(fact("cwd"), "/");
    assert!(fact("limit nofile").starts_with("1024 "));
    assert_eq!(fact("oom_score_adj"), "0");
}

fn ids_and_layers(bench: &Bench) {
    let mut plan = bench.plan(&["sleep"]);
    plan.hostname = "layered".into();
    let mut running = bench.start(&plan);
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
    let uid = status.lines().find(|l| l.starts_with("Uid:")).unwrap();
    assert_eq!(uid.split_whitespace().nth(1).unwrap(), BASE.to_string(), "root inside is {BASE} outside");
    running.signal(nix::libc::SIGKILL);
    running.end();

    let run = bench.probe(&["layers"]);
    assert_eq!(run.fact("owner /bottom"), "0:0 bottom");
    assert_eq!(run.fact("owner /both"), "0:0 top");
    assert_eq!(run.fact("owner /alice"), "1000:1000 hers");
    assert_eq!(run.fact("owner /removed"), "ENOENT", "whiteout");
    assert_eq!(run.fact("owner /opaque/old"), "ENOENT", "opaque folder");
    assert_eq!(run.fact("owner /opaque/new"), "0:0 new");
    assert_eq!(run.fact("kept"), "no");
    // On disk the writable layer holds the container's own ids, and survives a restart of the same image.
    let written = bench.unit_dir().join("upper/written");
    assert_eq!((fs::metadata(&written).unwrap().uid(), fs::metadata(&written).unwrap().gid()), (7, 8));
    assert_eq!(bench.probe(&["layers"]).fact("kept"), "yes");
    let mut plan = bench.plan(&["layers"]);
    if let Root::Image { digest, .. } = &mut plan.root {
        digest.push('x');
    }
    assert_eq!(bench.run(&plan).fact("kept"), "no", "another image begins anew");
    // The layer itself is untouched.
    assert!(bench.layer(0).join("removed").exists());
}

fn network_modes(bench: &Bench) {
    let host_interfaces = fs::read_dir("/sys/class/net").unwrap().count();
    let mut plan = bench.plan(&["facts"]);
    plan.network = NetworkMode::Host;
    let run = bench.run(&plan);
    assert_eq!(run.fact("interfaces").split(' ').count(), host_interfaces);
    assert!(!run.had_netns);
    assert_ne!(run.fact("write /sys/kernel/rcu_expedited"), "ok");
    plan.network = NetworkMode::None;
    let run = bench.run(&plan);
    assert_eq!(run.fact("interfaces"), "lo");
    assert!(run.had_netns);
}

fn users(bench: &Bench) {
    let mut plan = bench.plan(&["facts"]);
    plan.user = "alice".into();
    plan.cwd = "/home/alice/new".into();
    let run = bench.run(&plan);
    assert_eq!((run.fact("uid"), run.fact("gid"), run.fact("groups")), ("1000", "1000", "50"));
    assert_eq!(run.fact("status CapEff"), "0000000000000000");
    assert_eq!(run.fact("status CapPrm"), "0000000000000000");
    assert_eq!(run.fact("env HOME"), "/home/alice");
    assert_eq!(run.fact("open /dev/stdout"), "ok");
    assert_eq!(run.fact("low port"), "ok");
    assert_eq!(run.fact("cwd"), "/home/alice/new");
    assert_eq!(run.fact("write /file"), "EACCES");
    plan.user = "bob".into();
    assert!(bench.fails(&plan).contains("the image has no user \"bob\""));
}

fn read_only_root(bench: &Bench) {
    let mut plan = bench.plan(&["facts"]);
    plan.read_only = true;
    plan.tmpfs = vec![("/scratch/deep".into(), 65_536)];
    if let Root::Image { writable, .. } = &mut plan.root {
        *writable = None;
    }
    let run = bench.run(&plan);
    assert_eq!(run.fact("write /file"), "EROFS");
    assert_eq!(run.fact("write /scratch/deep/file"), "ok");
    assert_eq!(run.fact("fill /scratch/deep/big"), "ENOSPC");
    assert_eq!(run.fact("open /dev/null"), "ok");
}

/// A worker: the verified root, host users, one capability, binds.
fn system_unit(bench: &Bench) {
    let mut plan = bench.system_plan(&["facts"]);
    let socket = bench.dir().join("control.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    plan.id_base = None;
    plan.caps = Caps(1 << Caps::number("NET_ADMIN").unwrap());
    plan.network = NetworkMode::Host;
    let run = bench.run(&plan);
    assert_eq!(run.fact("uid"), "0");
    assert_eq!(run.fact("status CapEff"), "0000000000001000");
    assert_eq!(run.fact("status CapBnd"), "0000000000001000");
    for (attempt, outcome) in [
        ("write /file", "EROFS"),
        ("write /etc/file", "EROFS"),
        ("write /run/file", "ok"),
        ("write /tmp/file", "ok"),
        ("write /var/lib/check/file", "ok"),
        ("mknod", "EROFS"),
        ("connect", "ok"),
        ("list /var/lib/berth", "ENOENT"),
        ("write /proc/sys/kernel/panic", "EROFS"),
        ("write /proc/sys/net/ipv4/ip_forward", "ok"),
    ] {
        assert_eq!(run.fact(attempt), outcome, "{attempt}");
    }
    assert_eq!(run.fact("root mounts"), "1");
    assert!(bench.unit_dir().join("data/file").exists());

    // The same with users of its own.
    plan.id_base = Some(BASE);
    plan.caps = Caps::DEFAULT;
    plan.network = NetworkMode::None;
    plan.binds.retain(|b| !b.source.starts_with("/proc"));
    let run = bench.run(&plan);
    assert_eq!(run.fact("connect"), "ok");
    assert_eq!(run.fact("write /var/lib/check/file"), "ok");
    assert_eq!(fs::metadata(bench.unit_dir().join("data/file")).unwrap().uid(), 0);
}

fn hostile_links(bench: &Bench) {
    let outside = bench.dir().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), "host").unwrap();
    let evil = bench.extra_layer("evil");
    symlink(&outside, evil.join("etc")).unwrap();
    symlink("../../../../../../../..", evil.join("sys")).unwrap();
    symlink("/proc/self/fd", evil.join("work")).unwrap();
    let mut plan = bench.plan(&["facts"]);
    bench.add_layer(&mut plan, "evil");
    let reason = bench.fails(&plan);
    assert!(reason.contains("link to nowhere"), "{reason}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);

    fs::remove_file(evil.join("etc")).unwrap();
    fs::create_dir(evil.join("etc")).unwrap();
    symlink(outside.join("secret"), evil.join("etc/hosts")).unwrap();
    fs::remove_file(evil.join("sys")).unwrap();
    symlink("/bin/probe", evil.join("proc")).unwrap();
    let reason = bench.fails(&plan);
    assert!(reason.contains("/proc"), "{reason}");
    fs::remove_file(evil.join("proc")).unwrap();
    plan.cwd = "/work/3".into();
    let reason = bench.fails(&plan);
    assert!(reason.contains("/work/3"), "{reason}");
    plan.cwd = "/".into();
    assert_eq!(bench.run(&plan).fact("uid"), "0");
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "host");
}

fn failures(bench: &Bench) {
    let fails = |argv: &[&str]| {
        let mut plan = bench.plan(&[]);
        plan.argv = argv.iter().map(|s| (*s).to_owned()).collect();
        bench.fails(&plan)
    };
    assert_eq!(fails(&["/bin/none"]), "exec \"/bin/none\": /bin/none does not exist in the image");
    assert!(fails(&["none"]).starts_with("exec \"none\": no such program in PATH (/usr/local/sbin:"));
    assert!(fails(&["/etc/passwd"]).contains("may not be executed"));
    assert!(fails(&["/bin/rubbish"]).contains("no program for this machine"));
    assert!(fails(&["/bin/script"]).contains("interpreter"));
    assert!(fails(&["/opaque"]).contains("may not be executed"));
    let mut plan = bench.plan(&["facts"]);
    plan.cwd = "/both/x".into();
    assert!(bench.fails(&plan).contains("/both/x"));
    let mut plan = bench.plan(&["facts"]);
    if let Root::Image { layers, .. } = &mut plan.root {
        layers.push("/nowhere/layer".into());
    }
    let reason = bench.fails(&plan);
    assert!(reason.contains("/nowhere/layer") && reason.contains("No such file"), "{reason}");
}

/// PID 1 forgets the start: what waits goes away by itself.
fn giving_up(bench: &Bench) {
    let plan = bench.plan(&["sleep"]);
    let cgroup = bench.cgroup();
    let mut starting = berth_units::launch::spawn(&plan, &cgroup).unwrap();
    let (pid, _) = driver::created(&mut starting);
    let setup = starting.setup_pid;
    drop(starting);
    assert_eq!(driver::wait(setup), Ended::Code(0));
    assert_eq!(driver::wait(pid), Ended::Code(0));
    assert!(!cgroup.populated().unwrap());
    cgroup.remove().unwrap();
}

fn signals(bench: &Bench) {
    // Process 1 of a pid namespace ignores what it has no handler for, except from outside by SIGKILL.
    let mut running = bench.start(&bench.plan(&["term"]));
    running.wait_output("ready");
    running.signal(nix::libc::SIGTERM);
    assert_eq!(running.end().ended, Ended::Code(7));
    // Children left behind die with the pid namespace; a whole cgroup with cgroup.kill.
    let mut running = bench.start(&bench.plan(&["tree"]));
    running.wait_output("ready");
    assert!(running.cgroup.populated().unwrap());
    running.cgroup.kill().unwrap();
    running.wait_empty();
    assert_eq!(running.end().ended, Ended::Signal(nix::libc::SIGKILL));
}

fn limits(bench: &Bench) {
    if !bench.limited {
        // This host keeps its controllers in cgroup v1; the guest checks it.
        return;
    }
    let run = bench.probe(&["forks", "50"]);
    assert_eq!(run.fact("forks"), "EAGAIN");
    let mut running = bench.start(&bench.plan(&["eat"]));
    let usage = running.cgroup.usage();
    assert!(usage.memory.is_some() && usage.cpu_us.is_some() && usage.pids.is_some(), "{usage:?}");
    running.wait_empty();
    assert!(running.cgroup.oom_kills() > 0);
    assert_eq!(running.end().ended, Ended::Signal(nix::libc::SIGKILL));
    let read = |name: &str| fs::read_to_string(bench.cgroup().path().join(name)).unwrap().trim().to_owned();
    assert_eq!(read("memory.max"), driver::MEMORY.to_string());
    assert_eq!(read("memory.oom.group"), "1");
    assert_eq!(read("cpu.max"), "50000 100000");
    assert_eq!(read("pids.max"), "32");
}

fn descriptors(bench: &Bench) {
    let mut plan = bench.plan(&["read-fds"]);
    for (name, text) in [("vdb", "first"), ("sr0", "second")] {
        let file = bench.dir().join(name);
        fs::write(&file, text).unwrap();
        plan.fds.push((name.into(), fs::File::open(&file).unwrap().into()));
    }
    let run = bench.run(&plan);
    assert_eq!(run.fact("env BERTH_BLOCK_FDS"), "vdb=3,sr0=4");
    assert_eq!((run.fact("fd 3"), run.fact("fd 4"), run.fact("fds")), ("first", "second", "0 1 2 3 4"));
}

/// In memory, for the unit's user alone, whatever the image has at that place.
fn secrets(bench: &Bench) {
    let image = bench.extra_layer("secrets");
    fs::create_dir_all(image.join("elsewhere")).unwrap();
    let _ = symlink("/elsewhere", image.join("run"));
    let mut plan = bench.plan(&["secrets"]);
    bench.add_layer(&mut plan, "secrets");
    plan.user = "alice".into();
    plan.secrets =
        vec![("password".into(), "hunter2".into()), ("long".into(), "x".repeat(5000).as_str().into())];
    let run = bench.run(&plan);
    assert_eq!(run.fact("password"), "1000:1000 400 hunter2");
    assert_eq!(run.fact("long"), format!("1000:1000 400 {}", "x".repeat(5000)));
    assert_eq!(run.fact("write"), "EROFS");
    assert!(run.fact("mount").starts_with("/elsewhere/secrets ro,nosuid,nodev,noexec"), "{}", run.output);
    assert!(run.fact("mount").contains("noswap"), "{}", run.output);
    // Nothing of it has come to the disk.
    assert_eq!(fs::read_dir(bench.unit_dir().join("upper/elsewhere/secrets")).unwrap().count(), 0);
    plan.user = String::new();
    plan.read_only = true;
    if let Root::Image { writable, .. } = &mut plan.root {
        *writable = None;
    }
    assert_eq!(bench.run(&plan).fact("password"), "0:0 400 hunter2");
}

/// Not a check but a figure: how long a start takes here.
fn time(bench: &Bench) {
    let mut best = u128::MAX;
    for _ in 0..20 {
        let plan = bench.plan(&["sleep"]);
        // A container that is throttled tells nothing.
        let cgroup = bench.unlimited();
        let begin = std::time::Instant::now();
        let mut running = bench.start_in(&plan, cgroup).unwrap();
        best = best.min(begin.elapsed().as_micros());
        running.signal(nix::libc::SIGKILL);
        running.end();
    }
    println!("start to exec: {best} µs (best of 20)");
}
