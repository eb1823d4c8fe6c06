//! Measures Berth beside Debian's crun (`peers start ROUNDS`) and podman (`peers run ROUNDS IMAGE`, `peers pull ROUNDS IMAGE`),
//! in one guest. A line for
//! each start on standard output, such as `start berth 12.345` and `start crun 45.678` in milliseconds, then `done`. What it
//! needs of the machine are all rights (a privileged unit with the machine's processes and network), a volume at `/data`,
//! the peers, and for crun the bundle's config at [`CONFIG`]; for `run` an image as [`ARCHIVE`] that Berth has too, and
//! for `run` and `pull` `berth` with a home in `/srv/home`. `bench units` makes the image, runs it and reads the lines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "peers/pull.rs"]
mod pull;
#[path = "launch_check/start.rs"]
mod start;

use berth_units::cgroup::{self, Cgroup};
use berth_units::launch::{self, Plan, Root};
use berth_units::model::Resources;
use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};
use nix::poll::PollFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::Value;
use start::{DEADLINE, created, plain, ready};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What crun is to run; its root and its cgroup are [`BUNDLE`]'s and [`CGROUPS`]'s.
const CONFIG: &str = "/srv/config.json";
/// The image of both sides' `run`, as an archive for podman.
const ARCHIVE: &str = "/srv/first.tar";
/// crun's bundle: the config and the mounted root.
const BUNDLE: &str = "/data/start/crun";
/// The prepared layer that both start from.
const LAYER: &str = "/data/start/layer";
/// Parent of both sides' cgroups.
const CGROUPS: &str = "/sys/fs/cgroup/peers";
/// The container's program: writes a byte and ends. It has no library and no run-time, so that the byte stands for its
/// first instruction: an ELF header, one segment, and
/// `write(1, "x", 1); exit(0)`.
const FIRST: [u8; 157] = first();

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["start", rounds] => start(rounds.parse().unwrap()),
        ["run", rounds, image] => run(rounds.parse().unwrap(), image),
        ["pull", rounds, image] => pull::pull(rounds.parse().unwrap(), image),
        _ => panic!("peers start ROUNDS | peers run ROUNDS IMAGE | peers pull ROUNDS IMAGE"),
    }
    println!("done");
}

/// In turn, from the call to the first byte; the first round of each, with cold caches, is not told.
fn start(rounds: u32) {
    println!("version crun {}", version("/usr/bin/crun"));
    whole_cgroup_tree();
    prepare();
    for round in 0..=rounds {
        let (berth, crun) = in_turn(round, berth_start, || crun_start(round));
        if round > 0 {
            println!("start berth {:.3}", milliseconds(berth));
            println!("start crun {:.3}", milliseconds(crun));
        }
    }
}

/// The last word of the first line that it says of itself.
fn version(program: &str) -> String {
    let out = Command::new(program).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().next().and_then(|line| line.split_whitespace().last()).unwrap_or("unknown").to_owned()
}

/// In turn, from the call of the program that an operator types to the first byte of the container's output. Both have
/// the image; the first round of each is not told.
fn run(rounds: u32, image: &str) {
    println!("version podman {}", version("/usr/bin/podman"));
    whole_cgroup_tree();
    assert!(
        podman(&["load", "--quiet", "--input", ARCHIVE]).stdout(Stdio::null()).status().unwrap().success()
    );
    for round in 0..=rounds {
        let mut ours = berth(&["run", "--rm", "--network", "host", image]);
        let mut theirs = podman(&["run", "--rm", "--log-driver", "k8s-file", "--network", "host"]);
        theirs.arg(image);
        let (ours, theirs) = in_turn(round, || first_byte(&mut ours), || first_byte(&mut theirs));
        if round > 0 {
            println!("run berth {:.3}", milliseconds(ours));
            println!("run podman {:.3}", milliseconds(theirs));
        }
    }
}

/// Does both; neither goes first always.
fn in_turn<A, B>(round: u32, ours: impl FnOnce() -> A, theirs: impl FnOnce() -> B) -> (A, B) {
    if round.is_multiple_of(2) {
        let ours = ours();
        (ours, theirs())
    } else {
        let theirs = theirs();
        (ours(), theirs)
    }
}

/// The operator's program, with a home.
fn berth(arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/berth");
    command.env("BERTH_HOME", "/srv/home").args(arguments);
    command
}

/// podman with its store on the volume: ext4, as Berth's own.
fn podman(arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/bin/podman");
    command.args(["--root", "/data/podman", "--runroot", "/run/podman", "--cgroup-manager", "cgroupfs"]);
    command.args(["--events-backend", "file"]).args(arguments).env("HOME", "/root");
    command
}

/// Starts it; from there to the first byte that it prints. It has to end well.
fn first_byte(command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut byte = [0; 1];
    let read = child.stdout.as_mut().unwrap().read_exact(&mut byte);
    let took = begun.elapsed();
    let ended = child.wait().unwrap();
    assert!(read.is_ok() && ended.success(), "{:?} printed nothing: {ended}", command.get_program());
    took
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The unit has its own part of the tree; crun needs to see the tree as on a machine where it is at home.
fn whole_cgroup_tree() {
    setns(File::open("/proc/1/ns/cgroup").unwrap(), CloneFlags::CLONE_NEWCGROUP).unwrap();
    let none: Option<&str> = None;
    // One file system is not mounted on itself.
    umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).unwrap();
    mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), none).unwrap();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    cgroup::delegate(CGROUPS.as_ref()).unwrap();
}

/// One layer with the program and the folders and files that a container mounts over; a root for crun made of it.
fn prepare() {
    let layer = Path::new(LAYER);
    for folder in ["bin", "dev", "etc", "proc", "sys", "run", "tmp"] {
        fs::create_dir_all(layer.join(folder)).unwrap();
    }
    for file in ["etc/passwd", "etc/group", "etc/resolv.conf", "etc/hosts", "etc/hostname"] {
        fs::write(layer.join(file), "root:x:0:\n").unwrap();
    }
    let program = layer.join("bin/first");
    fs::write(&program, FIRST).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for folder in ["rootfs", "upper", "work"] {
        fs::create_dir_all(Path::new(BUNDLE).join(folder)).unwrap();
    }
    fs::copy(CONFIG, Path::new(BUNDLE).join("config.json")).unwrap();
}

/// As PID 1 does it: the cgroup, the launcher, its two messages. It mounts the overlay itself.
fn berth_start() -> Duration {
    let plan = plan();
    let limits = limits();
    let begun = Instant::now();
    let cgroup = Cgroup::create(&Path::new(CGROUPS).join("berth"), &limits).unwrap();
    let mut starting = launch::spawn(&plan, &cgroup).unwrap();
    let (pid, _pidfd) = created(&mut starting);
    starting.go().unwrap();
    ready(starting.stdout.as_fd(), PollFlags::POLLIN, Instant::now() + DEADLINE);
    let took = begun.elapsed();
    let mut byte = [0; 2];
    let got = nix::unistd::read(&starting.stdout, &mut byte);
    if got != Ok(1) {
        panic!("the container did not start: {:?}", starting.receive());
    }
    for pid in [starting.setup_pid, pid] {
        waitpid(Pid::from_raw(pid), None).unwrap();
    }
    while cgroup.populated().unwrap() {
        std::thread::yield_now();
    }
    cgroup.remove().unwrap();
    took
}

/// `crun run` of the same layer; the overlay is mounted before the clock starts, which is in crun's favour.
fn crun_start(round: u32) -> Duration {
    let rootfs = format!("{BUNDLE}/rootfs");
    let layers = format!("lowerdir={LAYER},upperdir={BUNDLE}/upper,workdir={BUNDLE}/work");
    mount(Some("overlay"), rootfs.as_str(), Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
        .unwrap();
    let mut command = Command::new("/usr/bin/crun");
    command.args(["--root", "/run/crun", "--cgroup-manager", "cgroupfs", "run", "--bundle", BUNDLE]);
    let took = first_byte(command.arg(format!("peer{round}")));
    umount(rootfs.as_str()).unwrap();
    took
}

/// A unit with all defaults and no network.
fn plan() -> Plan {
    let root = Root::Image {
        layers: vec![LAYER.into()],
        writable: Some("/data/start/berth".into()),
        digest: "sha256:peer".into(),
    };
    Plan { state: "/data".into(), ..plain("peer", root, vec!["/bin/first".into()]) }
}

/// What the config says that crun is to limit.
fn limits() -> Resources {
    let config: Value = serde_json::from_slice(&fs::read(CONFIG).unwrap()).unwrap();
    let resources = &config["linux"]["resources"];
    let pids = u32::try_from(resources["pids"]["limit"].as_u64().unwrap()).unwrap();
    Resources { memory: Some(resources["memory"]["limit"].as_u64().unwrap()), pids, ..Resources::default() }
}

const fn first() -> [u8; 157] {
    // A file of 157 bytes is loaded whole at 4 MiB: 64 bytes of header, 56 of the segment's, 36 of code, the letter.
    const HEADER: [u8; 120] = [
        0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 64 bit, little-endian
        2, 0, 62, 0, 1, 0, 0, 0, 0x78, 0, 0x40, 0, 0, 0, 0, 0, // x86-64, entry
        64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // segments' headers, no sections
        0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0, //
        1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // loaded, readable and executable, from byte 0
        0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, //
        157, 0, 0, 0, 0, 0, 0, 0, 157, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0,
    ];
    const CODE: [u8; 37] = [
        0xb8, 1, 0, 0, 0, // mov eax, write
        0xbf, 1, 0, 0, 0, // mov edi, 1
        0x48, 0x8d, 0x35, 0x13, 0, 0, 0, // lea rsi, [rip + 19]
        0x89, 0xfa, // mov edx, edi
        0x0f, 0x05, // syscall
        0xb8, 60, 0, 0, 0, // mov eax, exit
        0x31, 0xff, // xor edi, edi
        0x0f, 0x05, // syscall
        0, 0, 0, 0, 0, 0, b'x',
    ];
    let mut file = [0; 157];
    let mut at = 0;
    while at < file.len() {
        file[at] = if at < HEADER.len() { HEADER[at] } else { CODE[at - HEADER.len()] };
        at += 1;
    }
    file
}
