//! Puts Berth from its installation medium onto a disk: `berth worker install`, a system unit that PID 1 starts in a live system
//! with two descriptors, the medium to be read and the disk to be written.
//!
//! The order of the writes, and what a power cut after each leaves:
//!
//! 1. Sector 0 becomes a note that an installation is under way ([`NOTE`]): no firmware starts this disk, which is now the
//!    installer's to begin again without a question.
//! 2. The rest of the old partition tables goes, then everything is written: GRUB, boot record, config, ESP, root, verity tree. Of
//!    the medium, the root's blocks are checked against the verity tree before they are written.
//! 3. All of it is read back from the disk: the root through its verity tree, the rest by its sums.
//! 4. The partition table, its backup first.
//! 5. Sector 0, one write, by which the disk is bootable for either firmware: UEFI asks for its protective entry, a BIOS for its code.

mod esp;
mod medium;
mod procedure;
mod worker;

pub use medium::{Media, open};
pub use procedure::{Order, Progress, install};
pub use worker::run;

/// What sector 0 of a disk begins with while Berth is installed on it.
pub use berth_updater::medium::INSTALLING as NOTE;

/// Why there is no Berth on the disk.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The medium.
    #[error("the installation medium could not be read ({what}): {why}; write it again, or use another one")]
    Medium {
        /// Which part.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The disk cannot be read or written.
    #[error(
        "the disk failed while {doing}: {error}; it is not bootable now. Try again, with another disk if it happens again"
    )]
    Disk {
        /// What was done.
        doing: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// The disk gives back something else.
    #[error(
        "the disk does not keep what is written to it: {0} was read back and is different; it is not bootable now. Replace it"
    )]
    ReadBack(&'static str),
    /// It has no room.
    #[error("the disk has {has} MiB; Berth needs {needs} MiB")]
    Small {
        /// MiB.
        has: u64,
        /// MiB.
        needs: u64,
    },
    /// The ESP.
    #[error("the ESP cannot be made: {0}")]
    Esp(&'static str),
    /// GRUB.
    #[error("{0}")]
    Bios(#[from] berth_updater::bios::BiosError),
    /// The config.
    #[error("the config for the new machine: {0}")]
    Seed(berth_updater::medium::SeedError),
}
