//! The registry client: `berth worker fetch` brings an image from its registry into a folder, from which the store
//! takes it.
//!
//! It is a worker of its own. It has the network and no privilege at all (users of its own, no capability), and can
//! write one folder; the store, which makes files for any user, has no network and reads that folder. So nobody
//! holds both.
//!
//! ```text
//! worker ── reference ──▶ fetch ── manifest, config, layers ──▶ http ──▶ registry, token server, redirects
//!    ▲ settings             │ place: which host                  │ auth, challenge
//!    │                      ▼
//!   PID 1                 folder: tmp/ → blobs/, index.json
//! ```
//!
//! A registry is believed nothing: each blob counts by its digest, from the pin or the manifest downwards, and what
//! it decides has a bound ([`crate::limits`]).

mod answer;
mod auth;
mod challenge;
mod document;
mod error;
mod fetch;
mod folder;
mod http;
mod place;
mod reason;
pub mod web;
mod worker;

pub use error::Error;
pub use fetch::{Fetched, Fetcher, Progress};
pub(crate) use folder::Folder;
pub use worker::run;

use crate::limits;
use std::time::Duration;

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Until a connection is there.
    pub connect: Duration,
    /// Until an answer's headers are there.
    pub header: Duration,
    /// In which at least a KiB of a body must arrive.
    pub stall: Duration,
    /// The first pause after a failed try; each further one is twice as long.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(limits::CONNECT_SECONDS),
            header: Duration::from_secs(limits::HEADER_SECONDS),
            stall: Duration::from_secs(limits::STALL_SECONDS),
            pause: Duration::from_secs(1),
        }
    }
}

/// For fuzzing: what registries and token servers send, and what operators give as credentials.
pub fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    challenge::fuzz(&text);
    auth::fuzz(&text);
    fetch::fuzz(bytes);
}

#[cfg(test)]
mod tests;
