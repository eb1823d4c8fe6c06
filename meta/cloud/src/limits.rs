//! Every bound of this crate, with its unit and its reason.

use std::time::Duration;

/// A service that is there accepts a connection at once; a network that is just being attached drops packets.
pub const CONNECT: Duration = Duration::from_secs(3);
/// One request, from the connection to the last byte. A link-local service answers in milliseconds; 16 KiB of user data too.
pub const REQUEST: Duration = Duration::from_secs(10);
/// Headers of an answer.
pub const HEADERS: usize = 64;
/// Bytes of all of them, hyper's least is 8 KiB.
pub const HEAD_BYTES: usize = 16 * 1024;
/// Bytes of a short answer: an id, a name, a token, a list, a key.
pub const WORD_BYTES: usize = 64 * 1024;
/// Bytes of all metadata of an instance of GCE, which takes 512 KiB of attributes; escaped as JSON.
pub const DOCUMENT_BYTES: usize = 4 << 20;
/// Keys that are asked for one by one.
pub const KEYS: usize = 64;
/// Network cards whose addresses are asked for.
pub const CARDS: usize = 16;
/// How often it is begun anew because the instance became another one in the middle.
pub const ROUNDS: usize = 5;
/// Bytes of what one failed request is said to have been.
pub const WHY_BYTES: usize = 200;
