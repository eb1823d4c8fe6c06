//! What the machine and its units use: gathered from PID 1's list, from cgroups, and from `/proc` and `/sys`.
//!
//! PID 1 knows states, restarts and who died for want of memory; the rest the kernel tells anybody who may read the
//! files: the unit `api` has cgroups mounted read-only and needs no right for them. So PID 1 is asked no more for a
//! scrape than for `berth ps`, and its memory does not grow with what is counted.
//!
//! A file that is absent or cannot be read leaves its figures out: a kernel may lack a controller, and a unit may end
//! while it is looked at.

mod cgroup;
mod machine;
mod network;

use berth_units::control::UnitStatus;
use berth_units::model::Origin;
use berth_units::paths;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the kernel tells it.
#[derive(Debug, Clone)]
pub struct Sources {
    /// All of the machine's cgroups.
    pub cgroups: PathBuf,
    /// procfs.
    pub proc: PathBuf,
    /// sysfs, of the machine's network namespace.
    pub sys: PathBuf,
    /// A folder on the state partition.
    pub state: PathBuf,
}

/// `GET /v1/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The machine as a whole.
    pub machine: Machine,
    /// Each unit, the system's too, by name.
    pub units: Vec<Unit>,
}

/// The machine as a whole. Counters since the kernel started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Seconds since the kernel started.
    pub uptime_s: Option<u64>,
    /// When that was, seconds since 1970 by the clock as it is now.
    pub boot_time_s: Option<u64>,
    /// Processors.
    pub cpus: Option<u64>,
    /// Where processor time went, microseconds: `user`, `nice`, `system`, `idle`, `iowait`, `irq`, `softirq`, `steal`.
    pub cpu_us: BTreeMap<String, u64>,
    /// Average number of tasks that run or wait, in thousandths: over 1, 5 and 15 minutes.
    pub load_milli: Option<[u64; 3]>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes that programs can still have.
    pub memory_available: Option<u64>,
    /// Of the state partition, bytes.
    pub state: Option<Space>,
    /// Time in which tasks had to wait for something.
    pub pressure: Pressure,
    /// What went over each interface of the machine, units' ports not counted.
    pub interfaces: BTreeMap<String, Traffic>,
}

/// Room in a file system, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// In all.
    pub size: u64,
    /// Not used yet.
    pub available: u64,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// Name.
    pub name: String,
    /// System unit or the user's.
    pub origin: Origin,
    /// Image reference.
    pub image: String,
    /// A word of the life cycle.
    pub state: String,
    /// Seconds since its container started, if it runs.
    pub uptime_s: Option<u64>,
    /// Restarts since boot.
    pub restarts: u32,
    /// Runs since boot that ended for want of memory.
    pub oom_kills: u32,
    /// What its present container uses; nothing if there is none.
    pub usage: Option<Usage>,
    /// What went between it and the bridge since its present container started.
    pub network: Option<Traffic>,
}

/// What a container uses and has used since it was started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in its programs, microseconds.
    pub cpu_user_us: Option<u64>,
    /// Processor time in the kernel, microseconds.
    pub cpu_system_us: Option<u64>,
    /// Time in which it was held back by `cpus`, microseconds.
    pub cpu_throttled_us: Option<u64>,
    /// Bytes now, files in memory counted.
    pub memory: Option<u64>,
    /// Of these, files that the kernel would drop first.
    pub memory_inactive_file: Option<u64>,
    /// The most that it has used.
    pub memory_peak: Option<u64>,
    /// `memory`, if it is limited.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// `pids`.
    pub pids_limit: Option<u64>,
    /// What went to and from disks.
    pub io: Option<Io>,
    /// Time in which its tasks had to wait for something.
    pub pressure: Pressure,
}

impl Usage {
    /// Processor time, microseconds.
    pub fn cpu_us(&self) -> Option<u64> {
        self.cpu_user_us?.checked_add(self.cpu_system_us?)
    }

    /// Memory that is really needed, bytes: as Docker shows it.
    pub fn memory_in_use(&self) -> Option<u64> {
        Some(self.memory?.saturating_sub(self.memory_inactive_file.unwrap_or(0)))
    }
}

/// What went to and from disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Io {
    /// Bytes.
    pub read_bytes: u64,
    /// Bytes.
    pub written_bytes: u64,
    /// Requests.
    pub reads: u64,
    /// Requests.
    pub writes: u64,
}

/// Time lost by waiting (Documentation/accounting/psi.rst); nothing where the kernel does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// For a processor.
    pub cpu: Option<Waited>,
    /// For memory.
    pub memory: Option<Waited>,
    /// For disks.
    pub io: Option<Waited>,
}

/// Microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// At least one task waited.
    pub some_us: u64,
    /// All of them did, so nothing was done.
    pub full_us: u64,
}

/// What went over an interface, seen from whose it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// In.
    pub received_bytes: u64,
    /// In.
    pub received_packets: u64,
    /// Out.
    pub sent_bytes: u64,
    /// Out.
    pub sent_packets: u64,
}

impl Sources {
    /// On a machine, as the unit `api` sees it.
    pub fn machine() -> Self {
        Self {
            cgroups: paths::API_CGROUPS.into(),
            proc: "/proc".into(),
            sys: "/sys".into(),
            state: crate::server::DATA.into(),
        }
    }

    /// A unit's cgroup, as it is seen here.
    fn cgroup(&self, unit: &UnitStatus) -> PathBuf {
        let path = paths::cgroup(unit.origin, &unit.name);
        self.cgroups.join(path.strip_prefix(paths::CGROUP).unwrap_or(&path).trim_start_matches('/'))
    }

    /// Everything, for the units that PID 1 has told of. Blocks for as long as the kernel needs.
    pub fn gather(&self, units: &[UnitStatus]) -> Stats {
        let disks = cgroup::Disks::new(&self.sys);
        let (mut of_units, interfaces) = network::traffic(&self.sys);
        let unit = |unit: &UnitStatus| Unit {
            name: unit.name.clone(),
            origin: unit.origin,
            image: unit.image.clone(),
            state: unit.state.clone(),
            uptime_s: unit.uptime_s,
            restarts: unit.restarts,
            oom_kills: unit.oom_kills,
            usage: cgroup::usage(&self.cgroup(unit), &disks),
            network: of_units.remove(&unit.name),
        };
        let units = units.iter().map(unit).collect();
        Stats { machine: Machine { interfaces, ..machine::read(self) }, units }
    }
}

/// At most [`crate::limits::FIGURES_BYTES`] of a file of the kernel's.
fn text(path: &std::path::Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(crate::limits::FIGURES_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A file that holds one number; `max` is none.
fn number(path: &std::path::Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

/// `cpu`, `memory` and `io` with this end.
fn pressure(folder: &std::path::Path, end: &str) -> Pressure {
    let one = |resource: &str| waited(&text(&folder.join(format!("{resource}{end}")))?);
    Pressure { cpu: one("cpu"), memory: one("memory"), io: one("io") }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=12`, and the same for `full`.
fn waited(text: &str) -> Option<Waited> {
    let total = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        line.split_ascii_whitespace().find_map(|word| word.strip_prefix("total=")?.parse().ok())
    };
    // Older kernels have no "full" for the processor.
    Some(Waited { some_us: total("some ")?, full_us: total("full ").unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_as_the_kernel_writes_it() {
        let text = "some avg10=0.12 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(waited(text), Some(Waited { some_us: 1234, full_us: 7 }));
        assert_eq!(waited("some avg10=0.12 total=5\n"), Some(Waited { some_us: 5, full_us: 0 }));
        assert_eq!(waited(""), None);
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let empty = tempfile::tempdir().unwrap();
        let at = || empty.path().to_owned();
        let sources = Sources { cgroups: at(), proc: at(), sys: at(), state: at() };
        let stats = sources.gather(&[]);
        assert_eq!((stats.machine.memory, stats.machine.pressure), (None, Pressure::default()));
        assert!(stats.machine.state.is_some());
    }
}
