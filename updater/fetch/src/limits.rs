//! Every bound of this crate, with its unit and its reason. How long connecting and headers may take, and the least that
//! must arrive in half a minute, are the registry client's: `berth_store::limits`.

use std::time::Duration;

/// A file of metadata must be there whole after so long.
pub const METADATA: Duration = Duration::from_secs(120);
/// A target's content must arrive at this pace on average, bytes a second, or a server could hold an update up for ever
/// by dripping. Slower than any line that machines hang on: a release of 40 MB then takes three hours.
pub const BYTES_PER_SECOND: u64 = 4096;
/// What a target may take beyond that: servers that have to wake up.
pub const GRACE: Duration = Duration::from_secs(60);
/// Tries of one request that ends with a cut line or a time limit before its first byte.
pub const TRIES: u32 = 3;
/// The pause before the second try; each further one is twice as long.
pub const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of a repository's address.
pub const ADDRESS_BYTES: usize = 2048;
