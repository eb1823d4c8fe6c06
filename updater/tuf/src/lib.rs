//! The client's side of The Update Framework, version 1.0: given a root that is trusted, it finds out which files a
//! repository really offers, whoever stands between. Section numbers in comments are those of the TUF specification.
//!
//! ```text
//!   fetch (a trait) ── bytes ──▶ json ──▶ metadata ──▶ client ──▶ state (a folder)
//!                                strict    typed        the workflow, §5.3 to §5.6
//!                                          key          search: delegations, §5.6.7
//!                                                          │
//!                                                          ▼
//!                                                       target: name, length, hashes, custom data; a reader that checks
//! ```
//!
//! What it may touch: the folder it is given, through [`state::Disk`]. It opens no connection and asks no clock: bytes
//! come from a [`fetch::Fetch`], the time from the caller. It must not be linked into PID 1.
//!
//! Invariants:
//! * nothing that a server says is used before a threshold of distinct keys signed it (but for finding the signatures);
//! * no size, count or depth that others decide is without a bound ([`limits`]);
//! * a power cut after any write to the state leaves one with which the client goes on, and which forgets no version
//!   that it has seen ([`state`]).

pub mod client;
pub mod error;
pub mod fetch;
pub mod json;
pub mod key;
pub mod limits;
pub mod metadata;
pub mod names;
pub mod release;
mod search;
pub mod state;
pub mod target;
pub mod time;

pub use client::Client;
pub use error::Error;

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hexadecimal in either case; none when it is not, or of an odd length.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

/// Entry point for fuzzing: takes any bytes, and must neither panic nor run away.
pub mod fuzz {
    pub use crate::metadata::fuzz as metadata;
}

#[cfg(test)]
mod tests;
