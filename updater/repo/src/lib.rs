//! The publisher's side of updates: keys, signatures, releases. Operators use it by `berth repo …`; no machine links it.
//!
//! ```text
//!   keys (files, 0600) ──┐
//!   what `image` built ──┼─▶ publish, rotate, sign ──▶ documents ──▶ layout: DIR/metadata, DIR/targets, DIR/staged
//!   time ────────────────┘                                                     │
//!                                                          verify ◀────────────┘ by the client of machines, berth-tuf
//! ```
//!
//! The format is written down in `docs/decisions.md` ("An update repository, and what a release says").
//!
//! Invariants:
//! * a secret key is written once, readable by its owner alone, and never shown; no file of a key is written over;
//! * a reader of the folder finds the old state or the new one: `timestamp.json` comes last, by a rename;
//! * what lacks signatures is never where readers look: it waits in `staged/`.

mod documents;
mod error;
mod keys;
mod layout;
mod limits;
mod publish;
mod repository;
mod verify;

pub use error::RepoError;
pub use keys::{Keys, SecretKey};
pub use publish::{Built, Published};
pub use repository::{Done, Repository, Setup};
pub use verify::{RoleReport, Verified, verify, verify_at};
