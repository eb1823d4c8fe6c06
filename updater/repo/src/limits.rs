//! Every bound of this crate, with its unit and its reason; what clients take is bounded in `berth_tuf::limits`.

/// Bytes of a key file; ours have 119.
pub const KEY_BYTES: u64 = 16 * 1024;
/// Key files in one folder.
pub const KEY_FILES: usize = 256;
/// Bytes of the description that a build leaves beside a release's parts.
pub const FACTS_BYTES: u64 = 64 * 1024;
/// Root keys of a new repository, at most: more than a threshold of people can be brought together.
pub const ROOT_KEYS: u8 = 16;
/// Days that a root, and the top role of targets, are valid: they are signed by people who have to meet.
pub const ROOT_DAYS: u64 = 365;
/// Days that releases are valid: whoever publishes signs them again at least as often.
pub const RELEASES_DAYS: u64 = 90;
/// Days that a snapshot is valid.
pub const SNAPSHOT_DAYS: u64 = 30;
/// Days that a timestamp is valid: so long can somebody between hide that there is something newer.
pub const TIMESTAMP_DAYS: u64 = 14;
