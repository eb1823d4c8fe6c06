//! What can go wrong, in words for the operator: what, where, and the way out.

use crate::fat::EspError;
use std::io;

/// Why a release is not in its slot. Whatever it is, the slot is then one that the boot loader passes over, and nothing
/// else on the disk has changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Not a byte has been written.
    #[error(
        "the release's {part} has {bytes} bytes, and {place} has room for {room}; this machine needs a smaller release, or a disk that was installed anew with larger partitions"
    )]
    Size {
        /// `root`, `verity tree` or `UKI`.
        part: &'static str,
        /// How many it has.
        bytes: u64,
        /// Where it should go.
        place: String,
        /// What that holds, bytes.
        room: u64,
    },
    /// Signed, and no release that a machine could start. Nothing to be tried again: its publisher has to mend it.
    #[error("release {version} is not usable: {why}; its publisher has to publish another one")]
    Release {
        /// Which.
        version: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is what runs. An initrd finds its slot by the root hash, and two slots with the same one would be confused.
    #[error("release {version} is the one that runs; it is not written to slot {slot} as well")]
    Runs {
        /// Which.
        version: String,
        /// Where it was to be written.
        slot: berth_updater::layout::Slot,
    },
    /// The server, or the way to it. What is on the disk is used by the next try.
    #[error("the release's {part} was not fetched: {why}; the next try goes on where this one ended")]
    Fetch {
        /// `root`, `verity tree` or `UKI`.
        part: &'static str,
        /// What happened.
        why: String,
    },
    /// The server gives something that nobody signed. It was not written, or is not used.
    #[error(
        "the release's {part} as the server has it is not what was signed: {why}; it is not used. The server, or whoever stands between, has to be mended"
    )]
    Content {
        /// `root`, `verity tree` or `UKI`.
        part: &'static str,
        /// What differs, and where.
        why: String,
    },
    /// The disk.
    #[error("{place} could not be {what}: {source}; if it happens again, the disk is to be replaced")]
    Medium {
        /// Which partition.
        place: String,
        /// `read`, `written`, `synced`.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// What was written is not what is read.
    #[error(
        "{place} does not hold what was written to it: {why}; the slot is not made bootable. If it happens again, the disk is to be replaced"
    )]
    ReadBack {
        /// Which partition.
        place: String,
        /// What differs, and where.
        why: String,
    },
    /// The ESP's file system.
    #[error(transparent)]
    Esp(#[from] EspError),
}

impl ApplyError {
    /// Whether trying again later can help without anybody doing anything to this machine or the release: the network,
    /// or a server (a captive portal, a torn mirror) that gave other content.
    pub fn is_transient(&self) -> bool {
        matches!(self, ApplyError::Fetch { .. } | ApplyError::Content { .. })
    }
}
