//! Every bound of this crate, with its unit and its reason. `docs/limits.md` repeats this table for operators.

use std::time::Duration;

/// Bytes of a peer's certificate. One with a P-256 or Ed25519 key has about 300; names may make it larger.
pub const CERTIFICATE_BYTES: usize = 8 * 1024;
/// Bytes of one authorised key line; an unusable 16,384-bit RSA key has about 2,800, and is named as such.
pub const KEY_LINE_BYTES: usize = 8 * 1024;
/// Authorised keys looked at; the rest is reported as too many.
pub const KEYS: usize = 256;
/// Bytes of the machine's key file, and of its certificate's; a P-256 key in PKCS#8 has 138, the certificate about 340.
pub const MACHINE_KEY_BYTES: u64 = 1024;

/// Handshakes in progress. When one more comes, the oldest of the network that has most of them is dropped: whoever stalls
/// loses, not whoever is new, and not for what others do.
pub const HANDSHAKES: usize = 32;
/// A TLS handshake takes two round trips; a satellite link does it within this.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Authenticated connections open at once.
pub const CONNECTIONS: usize = 64;
/// Time for a request's header, from its first byte or from the end of the answer before.
pub const HEADER: Duration = Duration::from_secs(30);
/// A connection without a request in flight is closed after this.
pub const IDLE: Duration = Duration::from_secs(60);
/// Between asking a connection to finish and cutting it.
pub const GOODBYE: Duration = Duration::from_secs(5);
/// When the server is told to stop, connections have this long to get their answers and go.
pub const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// A peer that acknowledges nothing for this long is gone (`TCP_USER_TIMEOUT`), milliseconds.
pub const UNACKNOWLEDGED_MS: u32 = 60_000;
/// Bytes of a request's header, HTTP/1.1 and HTTP/2 alike. Routes and queries here are short.
pub const HEADER_BYTES: usize = 16 * 1024;
/// Header fields of one request.
pub const HEADER_FIELDS: usize = 64;
/// Bytes of a request's body. No request of this version has one; curl may send an empty form.
pub const BODY_BYTES: u64 = 4 * 1024;
/// Streams of one HTTP/2 connection.
pub const STREAMS: u32 = 32;
/// Ping an HTTP/2 peer that says nothing after this; it has [`GOODBYE`] to answer.
pub const PING: Duration = Duration::from_secs(30);

/// Questions to PID 1 at once; its own limit for everybody is four times as high.
pub const QUESTIONS: usize = 16;
/// Threads that wait for PID 1; with the two others they stay below the unit's task limit.
pub const THREADS: usize = 8;
/// An operator who sends an archive is given up when nothing of it comes for so long.
pub const UPLOAD_STALL: Duration = Duration::from_secs(60);
/// And when the store takes nothing of it for so long: it may have to be started first.
pub const UPLOAD_TAKEN: Duration = Duration::from_secs(120);
/// Archives under way at once.
pub const UPLOADS: usize = 4;
/// Images listed.
pub const IMAGES: usize = 4096;
/// Log streams at once, over all connections.
pub const LOG_STREAMS: usize = 32;
/// Commands in units at once, over all connections; PID 1's own limit.
pub const EXECS: usize = 16;
/// A command has this long to start.
pub const EXEC_START: Duration = Duration::from_secs(30);
/// So often something is sent to whoever has a command run, so that their end is noticed, and no gateway forgets them.
pub const EXEC_ALIVE: Duration = Duration::from_secs(25);
/// After a command's end, what it has written has this long to come; what still holds its output open was killed.
pub const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// A config has this long to arrive.
pub const CONFIG_UPLOAD: Duration = Duration::from_secs(60);
/// For how long a config may wait to be confirmed, seconds.
pub const CONFIRM_SECONDS: std::ops::RangeInclusive<u64> = 10..=86_400;
/// A followed log is looked at this often, besides when the kernel tells that it grew. A look is one `pread` of a file in memory.
pub const LOG_TICK: Duration = Duration::from_millis(200);
/// The first looks, each after twice the time of the one before until it is [`LOG_TICK`]; anew after each line: the
/// end of a unit is seen soon, and who writes on and on is not looked at for each line.
pub const LOG_TICK_FIRST: Duration = Duration::from_millis(20);
/// PID 1 is asked for fresh descriptors after so many looks that found nothing (5 s), in case the log was rotated
/// for another reason than its size.
pub const LOG_REASK_TICKS: u32 = 25;
/// Bytes of log read, and sent, at a time.
pub const LOG_CHUNK_BYTES: usize = 32 * 1024;

/// Bytes of one of the kernel's files of figures. `memory.stat` has about 2,000; `/proc/stat` has a line for each
/// processor and each interrupt.
pub const FIGURES_BYTES: u64 = 256 * 1024;
/// Interfaces whose counters are read: the machine's, and one for each unit.
pub const INTERFACES: usize = 1024;
/// Answers with everybody's figures at once; with 512 units one has about two megabytes.
pub const SCRAPES: usize = 4;

/// Lines per minute about peers that were turned away; a port scan must not fill the unit's log.
pub const REFUSALS_LOGGED: u32 = 20;
