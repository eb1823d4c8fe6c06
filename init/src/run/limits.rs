//! Every bound of the main loop, with its unit and its reason.

use std::time::Duration;

/// How long meta may look for a machine config before the machine goes on without one: volumes on slow disks are
/// read in a second or two.
pub const CONFIG_SEARCH: Duration = Duration::from_secs(10);
/// How long a cloud's metadata service may take to answer: clouds say that a minute or two happen, and cloud-init's users wait as
/// long at most.
pub const METADATA_DEADLINE: Duration = Duration::from_secs(300);
/// What `berth.metadata_deadline=` may say, seconds.
pub const METADATA_DEADLINE_RANGE: std::ops::RangeInclusive<u64> = 1..=3600;
/// So long after a boot was found healthy, volumes are asked which instance they belong to.
pub const GLANCE_AFTER: Duration = Duration::from_secs(20);
/// A slot that is not healthy after this is not good. Slow disks and emulated CPUs need about 20 s.
pub const HEALTH_DEADLINE: Duration = Duration::from_secs(90);
/// After this, boot records that could not be written are tried again.
pub const CONFIRM_AGAIN: Duration = Duration::from_secs(10);
/// What `berth.health-deadline=` may say, seconds: long enough to boot at all, short enough to matter.
pub const HEALTH_DEADLINE_RANGE: std::ops::RangeInclusive<u64> = 5..=600;
/// The API and the other drivers start when every unit has had its first try and the machine has an address, or after
/// this: they take the processor time that a small machine needs for the first container.
pub const REST_HOLD: Duration = Duration::from_secs(2);
/// After its driver is loaded, a disk may take this long to appear (USB sticks wait a second by themselves).
pub const DEVICES_SETTLE: Duration = Duration::from_secs(3);
/// Nanoseconds: a clock that is off by more is set, not slewed. At the kernel's 0.5 ms in a second this takes a quarter of
/// an hour, and it is more than a network's whims make of a good clock.
pub const CLOCK_SLEW_NS: u64 = 500_000_000;
/// The floor of the next boot's clock is written at most so often, and whenever the clock is set.
pub const CLOCK_KEEP: Duration = Duration::from_secs(3600);
/// A slow disk writes one line in this time.
pub const CHILD_CLOCK: Duration = Duration::from_secs(30);
/// How long a started container waits for its network. The agent itself is up in well under a second; if it
/// crashed, it is back within two.
pub const ATTACH: Duration = Duration::from_secs(15);
/// How long a unit waits for the store: 10 GB from a slow disk.
pub const PREPARE: Duration = Duration::from_secs(900);
/// How long a unit waits for an image from a registry, counted anew with each byte that comes: the fetcher itself gives
/// a silent registry up earlier, and says which.
pub const FETCH_SILENCE: Duration = Duration::from_secs(300);
/// How long the store worker (and the fetcher) is kept with nothing to do: it holds memory, and read-only views of disks that may
/// have been unplugged.
pub const STORE_IDLE: Duration = Duration::from_secs(5);
/// What nothing needs is removed so long after a boot was found healthy: by then the machine has done what it was
/// started for.
pub const COLLECT_AFTER: Duration = Duration::from_secs(30);
/// And so much later when images are being made ready at that moment.
pub const COLLECT_AGAIN: Duration = Duration::from_secs(60);
/// How long that may take: tens of gigabytes of small files. Less than [`FETCH_SILENCE`], because nothing is fetched
/// meanwhile.
pub const COLLECT: Duration = Duration::from_secs(240);
/// How often it is begun in one boot, should the store die of it.
pub const COLLECT_TRIES: u32 = 3;
/// What operators have done with images is told until so many others have come.
pub const JOBS: usize = 32;
/// And so many of them at once.
pub const JOBS_AT_ONCE: usize = 8;
/// All units together have this long to stop. Longer than the default stop time-out, short enough for a UPS.
pub const SHUTDOWN: Duration = Duration::from_secs(60);
/// The same for a reboot because the slot is broken: nothing of it is worth waiting for.
pub const SHUTDOWN_BROKEN: Duration = Duration::from_secs(8);
/// After `cgroup.kill` of everything, before the last steps begin regardless.
pub const SHUTDOWN_KILL: Duration = Duration::from_secs(5);
/// The last child (clock, entropy, sync, unmount) has this long before the machine goes down without it.
pub const FINISH: Duration = Duration::from_secs(20);
/// How long others may keep the state from being unmounted before they are killed, and after.
pub const STATE_BUSY: Duration = Duration::from_secs(2);
/// How long disks that a worker may read have to be opened; its start waits for it.
pub const DISK_OPEN: Duration = Duration::from_secs(3);
/// The child that opens them.
pub const CHILD_DISKS: Duration = Duration::from_secs(5);
/// A short-lived child that stores a config or an id table: an fsync on a busy disk.
pub const CHILD_TARGET: Duration = Duration::from_secs(20);
/// Keeps a generation, or the like.
pub const CHILD_STORE: Duration = Duration::from_secs(20);
/// A child that removes what a transient unit wrote: gigabytes of small files. What is left is removed when the name is used again.
pub const CHILD_DISCARD: Duration = Duration::from_secs(240);
/// A short-lived child that writes the step record or the boot record: one sector.
pub const CHILD_RECORD: Duration = Duration::from_secs(10);
/// A child that loads kernel modules; some drivers wait for their device.
pub const CHILD_MODULES: Duration = Duration::from_secs(30);
/// The child that loads all other drivers, waiting for the boot to be over included.
pub const CHILD_COLDPLUG: Duration = Duration::from_secs(180);
/// A child that reads and writes the boot record and the step record, each flushed.
pub const CHILD_CONFIRM: Duration = Duration::from_secs(30);
/// A probe by Berth's own program says itself what was late; it is killed this long after that.
pub const PROBE_GRACE: Duration = Duration::from_secs(2);
/// How long an update waits for a sign of life: the worker itself gives a silent server up after two minutes, and says so.
pub const UPDATE_SILENCE: Duration = Duration::from_secs(240);
/// With `[update] automatic`, the first look after a boot was found healthy; up to 20 minutes are added, by the machine's id.
pub const UPDATE_FIRST: Duration = Duration::from_secs(300);
/// And at most so often after that.
pub const UPDATE_EVERY: Duration = Duration::from_secs(3600);
/// How often it is seen whether the window is open.
pub const UPDATE_LOOK: Duration = Duration::from_secs(300);
/// Bytes of a version: that of a root's label.
pub const VERSION_BYTES: usize = 16;
/// Bytes of what is remembered of trials: 32 versions in quarantine, 512 units that were well.
pub const TRIALS_BYTES: usize = 256 * 1024;
/// Lines of a sick unit's log that go into the reason for which a version is taken back, and bytes of each.
pub const LAST_LINES: usize = 3;
/// See [`LAST_LINES`].
pub const LAST_LINE_BYTES: usize = 120;
/// Commands that operators run in units at once.
pub const EXECS: usize = 16;
/// Exits remembered for each unit.
pub const EXITS: usize = 8;
/// Bytes of a reason, a status or an error that a worker or a launch reports; the rest is cut.
pub const TEXT_BYTES: usize = 1024;
/// Bytes of the config report that is kept and shown.
pub const REPORT_BYTES: usize = 48 * 1024;
/// Lines of the list of what was looked for.
pub const LOOKED_LINES: usize = 32;
/// Lines on what of a config has no effect; a `#cloud-config` has some dozens of keys.
pub const NOTES: usize = 64;
/// Life-cycle events handled in one pass; a livelock between units ends here and is logged.
pub const EVENTS_PER_PASS: usize = 20_000;
/// Steps of the timeline kept for `berth boot-times`.
pub const TIMELINE: usize = 200;
/// Messages queued for one control connection before it is dropped: every unit's attach, and some.
pub const QUEUE: usize = berth_units::limits::UNITS + 64;
/// Packets read from one connection in one pass, so that a chatty worker cannot starve the rest.
pub const PACKETS_PER_PASS: usize = 16;
/// An operator connection that asked nothing, or a peer that does not read, is dropped after this.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(10);
/// Bytes of a short-lived child's answer: an image's description, its layers' names escaped.
pub const ANSWER_BYTES: usize = 2 * berth_units::limits::IMAGE_INDEX_BYTES;
/// Children that look for images at once; each is one small read.
pub const IMAGE_CHILDREN: usize = 4;
/// Short-lived children at once.
pub const CHILDREN: usize = 32;
/// Devices that came up and wait for their drivers; a docking station has dozens.
pub const MODALIASES: usize = 512;
/// Panics caught in the main loop before the machine reboots in an orderly way.
pub const PANICS: u32 = 16;
/// System unit files read.
pub const SYSTEM_UNITS: usize = 32;
/// Bytes of the id table: a line for each unit that ever was.
pub const IDS_BYTES: usize = 1 << 20;
/// Generations that are kept, beside those in force and to go back to: a few weeks of changes.
pub const GENERATIONS: usize = 20;
/// Bytes of a generation's record: the names and digests of the images of [`berth_units::limits::UNITS`] units.
pub const RECORD_BYTES: usize = 1 << 19;
/// Writes of generations that wait for a slow disk.
pub const GENERATION_WRITES: usize = 16;
/// Volumes that are listed.
pub const VOLUMES: usize = 1000;
/// So long what lies in a volume is counted: less than an operator's connection waits.
pub const VOLUME_COUNT: Duration = Duration::from_secs(5);
/// Folders that wait to be counted.
pub const VOLUME_FOLDERS: usize = 100_000;
/// Units with an id range of their own, ever; the ranges must fit below 2^31.
pub const IDS: u32 = 30_000;
