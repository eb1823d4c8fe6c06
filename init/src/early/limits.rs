//! Bounds of the early stages, each with its unit and reason.

use std::time::Duration;

/// How long the initrd stage waits for the boot disk to appear. USB and SAS controllers take some seconds.
pub const DISK_WAIT: Duration = Duration::from_secs(30);
/// How long a disk may take to show its partition table and the top of a root; a sleeping one is asked again.
pub const DISK_ANSWER: Duration = Duration::from_secs(5);
/// How long drivers of the usual disks may take to load; a sick disk holds up its driver.
pub const FAST_DRIVERS: Duration = Duration::from_secs(5);
/// How long every driver that fits a device may take to load, as above.
pub const ALL_DRIVERS: Duration = Duration::from_secs(20);
/// How often disks that were late, or could not be read, are asked again.
pub const DISK_AGAIN: Duration = Duration::from_secs(1);
/// The watchdog's period, seconds, unless `berth.watchdog=` says otherwise: longer than any step may take, shorter
/// than an operator's patience.
pub const WATCHDOG_SECONDS: u32 = 60;
/// What `berth.watchdog=` may say, seconds.
pub const WATCHDOG_RANGE: std::ops::RangeInclusive<u32> = 5..=600;
/// Bytes of the kernel command line that are looked at (the kernel's own limit is 2,048 on x86).
pub const CMDLINE_BYTES: u64 = 4096;
/// Bytes of a small file of the kernel's (`modalias`, `uevent`, a sysctl).
pub const SMALL_FILE_BYTES: u64 = 4096;
/// Bytes of `modules.alias` and `modules.dep`; Debian's full ones are 1.5 MB.
pub const MODULE_INDEX_BYTES: u64 = 4 << 20;
/// After so long in the main stage the boot counts as over, whatever units still wait for.
pub const COLDPLUG_WAIT: Duration = Duration::from_secs(15);
/// The power button's driver waits so long for the boot to be over.
pub const BUTTONS_WAIT: Duration = Duration::from_secs(1);
/// Bytes of one kernel module; the largest of Debian's have 6 MB.
pub const MODULE_BYTES: u64 = 32 << 20;
/// Bytes of one uevent; the kernel's own buffer is 2,048.
pub const UEVENT_BYTES: usize = 4096;
/// Uevents read in one go before others get their turn.
pub const UEVENTS_AT_ONCE: usize = 64;
/// Bytes of the uevent socket's buffer: a machine with hundreds of devices, coldplugged at once.
pub const UEVENT_SOCKET_BYTES: usize = 1 << 20;
/// Block devices looked at when searching for the boot disk.
pub const DISKS: usize = 256;
/// Steps kept in the timeline: both tables and what the event loop adds.
pub const TIMELINE_STEPS: usize = 64;
/// Bytes of the random seed kept on the state partition, as much as the kernel's pool holds.
pub const SEED_BYTES: usize = 512;
/// Share of memory that a temporary state may take, percent: enough for a config and a small image.
pub const TEMPORARY_STATE_PERCENT: u32 = 25;
/// Bytes that must be free on a state partition that is used for the first time: config, keys, id table, folders.
pub const NEW_STATE_BYTES: u64 = 1 << 20;
/// A child that writes the boot record, or loads a module for a device that appeared.
pub const CHILD: Duration = Duration::from_secs(10);
/// How long the reason of a failing start may take to be written.
pub const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long a failing start leaves its reason on the screen before it reboots.
pub const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// Repairing the state partition, or making its first file system: e2fsck reads a terabyte's metadata in some minutes.
pub const REPAIR: Duration = Duration::from_secs(600);
/// Bytes of its log that a panicking kernel keeps in the firmware's variables: some dozen lines, in two or three of them.
pub const PANIC_BYTES: u32 = 4096;
/// Bytes of one record as it is read, and how many are; the kernel makes them as large as it was told.
pub const PANIC_RECORD_BYTES: u64 = 64 * 1024;
/// Records looked at, and deleted.
pub const PANIC_RECORDS: usize = 64;
/// Bytes of the text that is kept of a panic.
pub const PANIC_TEXT_BYTES: usize = 8 * 1024;
/// Lines before the panic's own that are kept.
pub const PANIC_LINES_BEFORE: usize = 8;
/// How often a repair that runs looks whether somebody asks for a reboot or a power-off.
pub const WISHES: Duration = Duration::from_secs(1);
/// Lines of each output of a repair that are kept and shown; e2fsck says one for each fault.
pub const REPAIR_LINES: usize = 30;
/// Bytes of such a line.
pub const REPAIR_LINE_BYTES: usize = 200;
/// How long a killed container may take to be gone, milliseconds; what is stuck in the kernel is left to the event loop.
pub const KILLED_MS: u16 = 1000;
/// The system's units together get so much of the processors when they are busy, against 100 of all others together (cgroup
/// `cpu.weight`). They use little, and the API and the network agent must not wait.
pub const SYSTEM_CPU_WEIGHT: u32 = 1000;
