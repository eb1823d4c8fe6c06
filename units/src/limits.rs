//! Every bound of this crate, with its unit and its reason. `docs/limits.md` repeats this table for operators.

use std::time::Duration;

/// Bytes of one unit file or machine config. A config that needs more should mount files instead; PID 1 parses it
/// in memory.
pub const CONFIG_BYTES: usize = 1 << 20;
/// Bytes of a unit's name: it becomes a cgroup, a folder, a hostname and a DNS label (RFC 1035 allows 63).
pub const NAME_BYTES: usize = 63;
/// Units that one machine runs.
pub const UNITS: usize = 512;
/// Errors reported for one file; after so many, the rest is noise.
pub const DIAGNOSTICS: usize = 50;
/// Bytes of one control message. Fits the kernel's default socket buffer (212,992) with room to spare.
pub const MESSAGE_BYTES: usize = 128 * 1024;
/// Descriptors that ride along with one control message: log segments, a namespace and its socket, a config.
pub const MESSAGE_FDS: usize = 8;
/// Seconds that an operator connection waits for PID 1's answer. It never blocks, so a late one means a lost one.
pub const REPLY_SECONDS: i64 = 10;
/// Control connections open at once.
pub const CONNECTIONS: usize = 64;
/// Layers of one image; overlayfs takes 500 lowers, Docker 127.
pub const LAYERS: usize = 128;
/// Bytes of one image description read by PID 1.
pub const IMAGE_INDEX_BYTES: usize = 64 * 1024;
/// Bytes of an image's name: a registry's name, a path, a tag and a digest have 255, 255, 128 and 72.
pub const REFERENCE_BYTES: usize = 710;
/// Uids and gids in a unit's own range: 65,536, as in Docker, so `nobody` (65534) exists.
pub const ID_RANGE: u32 = 65_536;
/// First host uid of the first range; below are the host's own.
pub const ID_BASE: u32 = 1 << 20;
/// Bytes of one log segment; a unit keeps two, so at most twice this.
pub const LOG_SEGMENT_BYTES: u64 = 256 * 1024;
/// Bytes of one log line; longer ones are split.
pub const LOG_LINE_BYTES: usize = 16 * 1024;
/// From the fork of the setup child until the container's program runs: id-mapped mounts, network plumbing and exec
/// take milliseconds; a slow disk and an emulated CPU make seconds of them.
pub const START_LIMIT: Duration = Duration::from_secs(60);
/// The store is asked again for an image after so long, in case it was restarted and forgot; asking costs a message.
pub const PREPARE_AGAIN: Duration = Duration::from_secs(60);
/// A cgroup that is not empty is killed again after so long; also how long an exit status may come late.
pub const KILL_AGAIN: Duration = Duration::from_secs(2);
/// A unit that is no worker counts as healthy when it has run for so long: most programs that cannot work say so
/// within their first second.
pub const SETTLE: Duration = Duration::from_secs(2);
/// No restart follows sooner than this, whatever the unit says: a fork loop must not starve the machine.
pub const RESTART_MIN_DELAY: Duration = Duration::from_millis(100);
/// Restarts remembered for `limit` per `interval`; also the largest `limit`.
pub const RESTARTS_REMEMBERED: usize = 100;
/// Brackets, commas, dots, equals signs and line ends of one file. The parser needs up to 80 bytes for each; without
/// this bound a file of brackets alone would take 80 MB of a machine that has 128. Enough for 195 with each of
/// [`UNITS`] units.
pub const CONFIG_MARKS: usize = 100_000;
/// Up to this many bytes, every syntax error of a file is reported; of a longer one, the first. The parser keeps
/// each error it meets, and a file of errors only would cost a hundred times its size.
pub const RECOVER_BYTES: usize = 64 * 1024;
/// Entries of one list of names, ports, keys or addresses.
pub const LIST_ITEMS: usize = 512;
/// Longest time a field may say, except `stop_timeout`: a year.
pub const LONGEST_TIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Longest `stop_timeout`: a unit must not hold up a reboot for longer than a person would wait.
pub const LONGEST_STOP: Duration = Duration::from_secs(3600);
/// Bytes of the name of a secret, or of a file that the config carries.
pub const CONTENT_NAME_BYTES: usize = 128;
/// Smallest memory limit, bytes: below, not even a static program starts.
pub const SMALLEST_MEMORY: u64 = 1 << 20;
/// Smallest tmpfs, bytes: one page.
pub const SMALLEST_TMPFS: u64 = 4096;
/// Smallest `io_max`, bytes a second: one page; with less nothing is ever read.
pub const SMALLEST_IO_RATE: u64 = 4096;
/// Devices that one container can have: those of a large machine, its `/dev` in a privileged one.
pub const DEVICES: usize = 4096;
/// Largest size a field may say, bytes: 1 PiB, so that sums do not overflow.
pub const LARGEST_SIZE: u64 = 1 << 50;
/// Most tasks of one unit: the kernel's own limit on 64-bit machines.
pub const LARGEST_PIDS: u64 = 1 << 22;
/// Bytes that a health check reads of an HTTP answer; the first line is what counts.
pub const PROBE_BYTES: usize = 4096;
/// Instances of one unit.
pub const INSTANCES: u32 = 100;
/// Bytes that are kept of what a health check says; its last line is the reason.
pub const CHECK_OUTPUT_BYTES: usize = 4096;
/// Until a unit is healthy for the first time it is looked at after so long, then after twice as long each time, up to its
/// `interval`.
pub const FIRST_CHECK: Duration = Duration::from_millis(250);
/// The longest such pause while a port is waited for: a connection to loopback costs nothing.
pub const READY_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of one notification of a unit; longer ones are not heard.
pub const NOTICE_BYTES: usize = 4096;
/// Bytes of what a unit says of itself that are shown.
pub const NOTICE_STATUS_BYTES: usize = 256;
/// Notifications of one unit that are heard in a second; the rest wait in the kernel, and the unit with them.
pub const NOTICES: u32 = 32;
/// A check, or the pause between two of them, takes no less: each is a process of its own.
pub const SHORTEST_CHECK: Duration = Duration::from_millis(100);
/// One check takes no longer, nor does the pause between two.
pub const LONGEST_CHECK: Duration = Duration::from_secs(3600);
