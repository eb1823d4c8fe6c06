//! What operators are told: the bodies of [`super::Reply`], which the API passes on as they are (`docs/api.md`).

use crate::model::{NetworkMode, Origin, Port};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One line of `berth ps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Name.
    pub name: String,
    /// System unit or the user's.
    pub origin: Origin,
    /// State in words, as [`crate::lifecycle`] names it (`running`, `healthy`, `backoff`, …).
    pub state: String,
    /// One sentence on why, empty when all is well: `exit code 1, restart 3 in 4 s`.
    pub reason: String,
    /// Image reference.
    pub image: String,
    /// Seconds since the container started, if it runs.
    pub uptime_s: Option<u64>,
    /// Restarts since boot.
    pub restarts: u32,
    /// Runs since boot that the kernel ended because memory was short: the unit's own, or the machine's.
    #[serde(default)]
    pub oom_kills: u32,
    /// Main process in PID 1's namespace.
    pub pid: Option<i32>,
    /// `memory.current`, bytes.
    pub memory: Option<u64>,
    /// Address on the bridge, if attached.
    pub address: Option<IpAddr>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Whatever isolation was given up, in words: `host network`, `host users`, `CAP_NET_ADMIN`.
    pub privileges: Vec<String>,
}

/// `berth inspect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitDetail {
    /// What `ps` shows.
    pub status: UnitStatus,
    /// `unit.description`.
    pub description: String,
    /// `unit.after`.
    pub after: Vec<String>,
    /// `unit.requires`.
    pub requires: Vec<String>,
    /// `unit.required_for_boot`.
    pub required_for_boot: bool,
    /// Manifest digest of the image in use, if prepared.
    pub digest: Option<String>,
    /// The command line that runs.
    pub command: Vec<String>,
    /// `network.mode`.
    pub network: NetworkMode,
    /// First host uid of its range, if it has one.
    pub uid_base: Option<u32>,
    /// Its cgroup.
    pub cgroup: String,
    /// How the last run ended, if one has: its exit code; killed by a signal, 128 and the signal's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// It is in no config, and gone when the machine starts again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transient: bool,
    /// The last exits, newest last, at most eight: `2026-11-24T08:00:00Z exit code 1`.
    pub exits: Vec<String>,
}

/// `berth machine`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Host name in force.
    pub hostname: String,
    /// 32 hex digits, the same over updates and reboots.
    pub machine_id: String,
    /// OS version (`os-release` IMAGE_VERSION).
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// Seconds since the kernel started.
    pub uptime_s: u64,
    /// Addresses with their interface: `("eth0", "10.0.2.15/24")`.
    pub addresses: Vec<(String, String)>,
    /// Memory of the machine, KiB.
    pub memory_kib: u64,
    /// Memory still to be had, KiB (`MemAvailable`).
    pub memory_available_kib: u64,
    /// Resident memory of PID 1, KiB (`VmRSS`).
    pub pid1_rss_kib: u64,
    /// Empty, or why the state partition is a temporary one.
    pub state_problem: String,
    /// What this start did to the state partition: grown, repaired, made. Empty when nothing.
    #[serde(default)]
    pub state_note: String,
    /// How far the clock can be trusted.
    #[serde(default)]
    pub clock: ClockStatus,
}

/// The machine's clock.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClockStatus {
    /// It was right within the last hours, by time servers. If not, it runs on from what the hardware said.
    pub set: bool,
    /// Seconds since 1970, by this clock.
    pub now_s: u64,
    /// What came of the servers' last word: `off by 0.003 s, slewed; 3 of 4 time servers agree`. Empty before the first.
    pub said: String,
    /// By how much the clock was off then, nanoseconds to be added.
    pub offset_ns: Option<i64>,
    /// Seconds since then.
    pub ago_s: Option<u64>,
    /// What the state partition has for the next start, seconds since 1970: that start's clock is never behind it. None
    /// before this start has kept it.
    #[serde(default)]
    pub kept_s: Option<u64>,
}

/// `berth boot-times`. Times in microseconds since power-on as far as it is known (else since the kernel started).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct BootTimes {
    /// Firmware, until the loader; absent where it cannot be told.
    pub firmware_us: Option<u64>,
    /// Loader, until the kernel; includes firmware where only the sum is known.
    pub loader_us: Option<u64>,
    /// Kernel, until the initrd stage.
    pub kernel_us: u64,
    /// Initrd stage, until the main stage.
    pub initrd_us: u64,
    /// Every step, in order of start.
    pub steps: Vec<StepTime>,
    /// Kernel start until the first user container's process ran.
    pub first_container_us: Option<u64>,
}

/// One boot step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepTime {
    /// `initrd` or `main`.
    pub stage: String,
    /// Name in the step table.
    pub name: String,
    /// Since the kernel started.
    pub start_us: u64,
    /// How long it took.
    pub took_us: u64,
    /// Empty = done; else what went wrong and what was done about it.
    pub outcome: String,
}

/// `berth slots`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SlotsStatus {
    /// `a` or `b`.
    pub running: String,
    /// Slot in the record's `good` field.
    pub good: Option<String>,
    /// Slot on trial, with tries left.
    pub trial: Option<(String, u32)>,
    /// Starts of the good slot since it was last healthy.
    pub starts: u32,
    /// This boot was found healthy (and its slot marked good).
    pub confirmed: bool,
    /// This boot is a rescue, and why.
    pub rescue: Option<String>,
    /// What the kernel of an earlier start, of either slot, said when it panicked, if the firmware could keep it and
    /// this is the first start since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic: Option<String>,
    /// What was wrong with the boot record when this boot began, although it may have been mended since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_note: Option<String>,
    /// `uefi`, `bios` or `direct`.
    pub firmware: String,
    /// Slot A and slot B.
    pub slots: Vec<SlotStatus>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SlotStatus {
    /// `a` or `b`.
    pub name: String,
    /// `good`, `trial`, `empty`, `failed`, `spare` (it holds a system that nothing is known against), `unknown` (it
    /// could not be read).
    pub state: String,
    /// OS version, if known; of the slot that does not run its first 15 characters.
    pub version: String,
    /// Verity root hash, hex, if known.
    pub root_hash: String,
    /// Why it is not used, or what happened at its last start: `stopped in step "mount root": block 5120 differs`.
    pub reason: String,
}

/// `berth config status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// `applied`, `refused`, `none`, `reading`.
    pub state: String,
    /// Where it came from: `smbios`, `fw_cfg`, `nocloud (vdb)`, `state`.
    pub source: String,
    /// SHA-256 of the text, hex.
    pub sha256: String,
    /// What was looked for, in order, and what was found, one line each.
    pub looked: Vec<String>,
    /// What of it has no effect, or another one than its author may think, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The instance's id and who says so: `i-0123456789abcdef0 (ec2)`. Empty if nobody has said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// The checker's report, as `berth` prints it.
    pub report: String,
    /// What follows from it beside the state: whom a refused config lets in. Empty when there is nothing to add.
    #[serde(default)]
    pub note: String,
    /// Seconds until the config in force goes back, unless it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed_s: Option<u64>,
    /// The last time an operator had the source asked again, if any did since the machine started.
    #[serde(default)]
    pub reload: Option<ConfigReload>,
}

/// What another config changes (`berth config diff`, `apply`). Names of units; instances each for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfigChange {
    /// SHA-256 of the other config's text, hex.
    pub sha256: String,
    /// Units that start.
    pub added: Vec<String>,
    /// Units that stop and are gone; their volumes stay.
    pub removed: Vec<String>,
    /// Units that become others.
    pub changed: Vec<UnitChange>,
    /// What of the machine itself changes at once: `hostname`, `access keys`, `registries`, `time servers`.
    pub machine: Vec<String>,
    /// What is in force only from the next boot: `network`.
    pub next_boot: Vec<String>,
}

/// One unit in a [`ConfigChange`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnitChange {
    /// Unit name.
    pub unit: String,
    /// The tables that differ.
    pub tables: Vec<String>,
    /// It is stopped and started for that.
    pub restarts: bool,
}

/// One of `berth volume ls`, or `inspect`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// Units that name it, running or not.
    pub used_by: Vec<String>,
    /// Bytes that it takes on the disk, if they were counted.
    pub bytes: Option<u64>,
    /// They are all; else there was no time to count the rest.
    pub whole: bool,
}

/// What came of `berth config reload`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ConfigReload {
    /// `reading`, `keeping`; then `kept` (in force from the next boot), or `refused`, `none`, `failed`: nothing has
    /// changed.
    pub state: String,
    /// As in [`ConfigStatus`].
    pub source: String,
    /// As in [`ConfigStatus`].
    pub sha256: String,
    /// As in [`ConfigStatus`].
    pub looked: Vec<String>,
    /// As in [`ConfigStatus`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What is wrong with it, or what failed.
    pub report: String,
}
