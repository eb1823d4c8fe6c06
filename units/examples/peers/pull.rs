//! `berth pull` and `podman pull` of one image from one registry, in turn, each from the call of the program to its end.
//!
//! Before each, both sides are as on a machine that does not have the image: it is removed on both, with its layers;
//! Berth's two workers have ended; everything is written, and nothing is in the page cache. Meanwhile another thread looks a few
//! times a second what the workers' cgroups hold.

use super::start::ready;
use super::{berth, in_turn, milliseconds, podman, version, whole_cgroup_tree};
use nix::poll::PollFlags;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The units of Berth that work at a pull; the first has the network, the second unpacks.
const WORKERS: [&str; 2] = ["/sys/fs/cgroup/system/fetch", "/sys/fs/cgroup/system/store"];
/// Both end when they have had nothing to do for five seconds.
const IDLE: Duration = Duration::from_secs(120);
/// Between two looks at what they hold.
const LOOK: Duration = Duration::from_millis(250);

/// The first round of each, in which podman makes its store, is not told.
pub fn pull(rounds: u32, image: &str) {
    println!("version podman {}", version("/usr/bin/podman"));
    whole_cgroup_tree();
    for round in 0..=rounds {
        let ours = || {
            let (took, held) = watched(|| timed(berth(&["pull", image])));
            run(berth(&["rmi", image]));
            (took, held)
        };
        let theirs = || {
            let took = timed(podman(&["pull", "--quiet", "--tls-verify=false", image]));
            run(podman(&["rmi", image]));
            took
        };
        let ((ours, held), theirs) = in_turn(round, ours, theirs);
        // Its other kind of store copies each layer whole for the next.
        assert!(Path::new("/data/podman/overlay-images").is_dir(), "podman does not stack layers here");
        if round > 0 {
            println!("pull berth {:.3}", milliseconds(ours));
            println!("pull podman {:.3}", milliseconds(theirs));
            println!("pull fetch peak {}", held.peak[0]);
            println!("pull store peak {}", held.peak[1]);
            println!("pull held {}", held.both);
        }
    }
}

/// Until the command has ended, from a quiet machine with cold caches.
fn timed(command: Command) -> Duration {
    WORKERS.iter().for_each(|worker| ended(worker));
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let begun = Instant::now();
    run(command);
    begun.elapsed()
}

/// Has to end well.
fn run(mut command: Command) {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Waits until no process is left in a cgroup, or the cgroup is gone.
fn ended(cgroup: &str) {
    let end = Instant::now() + IDLE;
    let Ok(mut events) = File::open(format!("{cgroup}/cgroup.events")) else { return };
    loop {
        let mut text = String::new();
        // A cgroup that is removed can be read no more.
        if events.rewind().and_then(|()| events.read_to_string(&mut text)).is_err()
            || text.contains("populated 0")
        {
            return;
        }
        ready(events.as_fd(), PollFlags::POLLPRI, end);
    }
}

/// What the workers have held at most, bytes.
#[derive(Default)]
struct Held {
    /// Of each, what the kernel charged it, page cache included (`memory.peak`).
    peak: [u64; 2],
    /// Of both at the same moment, without the page cache, which the kernel takes back when it is needed.
    both: u64,
}

/// Does the work, and watches the workers meanwhile. One ends when its part is done, and its cgroup with it.
fn watched<T>(work: impl FnOnce() -> T) -> (T, Held) {
    let (done, end) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let mut held = Held::default();
        loop {
            let last = end.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
            for (worker, peak) in WORKERS.iter().zip(&mut held.peak) {
                *peak = number(worker, "memory.peak").unwrap_or(0).max(*peak);
            }
            held.both = held.both.max(WORKERS.iter().map(|worker| without_cache(worker)).sum());
            if last {
                return held;
            }
        }
    });
    let result = work();
    drop(done);
    (result, watch.join().unwrap())
}

fn number(cgroup: &str, file: &str) -> Option<u64> {
    fs::read_to_string(format!("{cgroup}/{file}")).ok()?.trim().parse().ok()
}

fn without_cache(cgroup: &str) -> u64 {
    let stat = fs::read_to_string(format!("{cgroup}/memory.stat")).unwrap_or_default();
    let file = stat.lines().find_map(|line| line.strip_prefix("file ")?.parse::<u64>().ok()).unwrap_or(0);
    number(cgroup, "memory.current").unwrap_or(0).saturating_sub(file)
}
