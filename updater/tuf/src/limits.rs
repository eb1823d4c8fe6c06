//! Every bound of this crate, with its unit and its reason.

/// Bytes of a root. Real ones have 5 to 20 kB.
pub const ROOT_BYTES: u64 = 512 << 10;
/// Bytes of a timestamp, which names one file.
pub const TIMESTAMP_BYTES: u64 = 16 << 10;
/// Bytes of a snapshot, about 100 for each role.
pub const SNAPSHOT_BYTES: u64 = 1 << 20;
/// Bytes of the metadata of one role with targets; about 500 for each.
pub const TARGETS_BYTES: u64 = 2 << 20;
/// Roots fetched in one refresh. One a year is usual, and the next refresh goes on where this one ended.
pub const ROOTS: u64 = 256;
/// Objects, lists, texts and numbers of one file; each takes up to 100 bytes of memory.
pub const JSON_VALUES: usize = 60_000;
/// Objects and lists inside each other. TUF's own take seven.
pub const JSON_DEPTH: usize = 32;
/// Keys of one file, of one role, and signatures of one file: each may cost a verification (0.2 ms).
pub const KEYS: usize = 256;
/// Roles that a snapshot lists, and delegations of one role.
pub const ROLES: usize = 1024;
/// Roles looked into for one target, as in other clients.
pub const VISITS: usize = 32;
/// Bytes of a role's name, encoded as a file name: with version and ending it must be one (255).
pub const ROLE_NAME_BYTES: usize = 200;
/// Bytes of a target's name.
pub const TARGET_NAME_BYTES: usize = 1024;
/// Bytes of a pattern of target names.
pub const PATTERN_BYTES: usize = 1024;
/// Bytes of one target, whatever the metadata says: more than any slot holds.
pub const ARTIFACT_BYTES: u64 = 64 << 30;
/// Bits of an RSA key's modulus, at most: larger ones cost seconds.
pub const RSA_BITS: usize = 8192;
/// Bytes of a small file of the state (time, journal).
pub const NOTE_BYTES: u64 = 256;
/// Bytes of a release's version, of an architecture's and of a channel's name: the label of an erofs root has 15.
pub const VERSION_BYTES: usize = 15;
