//! The API server: the one way in for an operator.
//!
//! A system unit on the machine's network with its own user namespace and no capability. It may touch its data
//! folder ([`server::Settings::data`], where the machine's key lies) and PID 1's socket, and read what the store says of its
//! images and what the kernel counts ([`stats::Sources`]), nothing else. Used by the
//! multi-call program (`berth worker api`); the command line and the harness use [`keys`] and [`spki`], so that
//! both ends agree on what a key is.
//!
//! ```text
//!            TLS 1.3, bare keys           one packet each way
//! operator ───────────────────── api ─────────────────────── PID 1
//!   curl      HTTP/1.1, HTTP/2    │   log segments as descriptors
//!                                 └── /var/lib/api/machine-key
//! ```
//!
//! In the order in which a connection meets them: [`server`] (accept, deadlines) → [`tls`] (who is it: [`spki`],
//! [`keys`], [`identity`]) → [`routes`] (what is asked) → [`logs`] (the one answer that streams), [`stats`] and [`metrics`] (what
//! the kernel tells).
//!
//! Invariants:
//! * Nothing is said to a peer whose key is not authorised *now*: a key that is taken away loses its open
//!   connections, and sessions are never resumed.
//! * Of a certificate only the public key counts; names, dates and issuer are not looked at.
//! * Every wait has a deadline and every buffer a bound ([`limits`]); a peer that stalls costs one slot, and an
//!   unauthenticated one cannot keep out an operator.

mod config;
pub mod exec;
pub mod identity;
pub mod images;
mod install;
pub mod keys;
pub mod limits;
pub mod logs;
pub mod metrics;
mod respond;
pub mod routes;
pub mod run;
pub mod server;
pub mod spki;
pub mod stats;
pub mod tls;
mod upload;

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// `berth worker api`: serves until SIGTERM. What it prints is the unit's log.
pub fn run() -> ExitCode {
    let stop = UnixStream::pair().and_then(|(stop, tell)| {
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, tell)?;
        Ok(stop)
    });
    let served = match stop {
        Ok(stop) => server::serve(&server::Settings::machine(), stop),
        Err(error) => Err(server::ServeError::Runtime(error)),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
