//! The image store: the only code of Berth that reads image bytes.
//!
//! `berth worker store` runs `run` as a system unit. PID 1 asks it for an image by reference; it finds the image in
//! an OCI layout or archive (inside the OS image, or on an attached disk that holds nothing else), checks every
//! digest from the index down to the last layer's content, unpacks each layer once into the state partition, and
//! leaves a small checked description for PID 1 ([`berth_units::image`]).
//!
//! ```text
//! worker ── reference ──▶ find ── manifest, config ──▶ prepare ── layer ──▶ unpack ── entry ──▶ tree
//!    │ places                │ layout, oci               │ digests             │ tarball, path    one folder,
//!    ▼                       ▼                           ▼                     ▼                  no way out
//!  disks, OS image       blobs by digest             tmp/ → layers/, index/   what an entry may be
//!    │
//!    └─ what is needed ──▶ collect: the rest of layers/, index/ and what was fetched goes
//! ```
//!
//! What the unit needs: read-only descriptors of the disks (`BERTH_BLOCK_FDS`), its folder on the state partition,
//! and CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP in the host's user namespace, to make files that belong to any
//! user. It needs no network and no device node.
//!
//! [`mkstate`] is another, smaller worker: it unpacks the empty state file system. `berth cp` reads its streams with [`tarball`]
//! and [`path`].
//!
//! Invariants:
//! * nothing has its final name before it is complete, checked and synced (`prepare`);
//! * nothing is written outside the folder of the layer being unpacked, whatever the archive says (`tree`);
//! * every size, count and depth that an image decides has a bound (`limits`).

mod below;
mod bytes;
mod collect;
pub mod digest;
mod durable;
mod error;
mod find;
mod layout;
mod limits;
mod load;
pub mod mkstate;
mod oci;
pub mod path;
mod prepare;
mod reference;
pub mod registry;
mod show;
mod sys;
pub mod tarball;
mod tree;
mod unpack;
mod worker;
mod zstd;

pub use worker::run;

#[cfg(any(test, feature = "build"))]
pub mod build;

/// Entry points for fuzzing: each takes any bytes, writes nothing, and must neither panic nor run away.
pub mod fuzz {
    pub use crate::find::fuzz as archive;
    pub use crate::oci::fuzz as json;
    pub use crate::registry::fuzz as registry;
    pub use crate::tarball::fuzz as tar;
    pub use crate::zstd::fuzz as zstd;
}
