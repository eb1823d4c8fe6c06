//! A slot's files on the ESP: what they are called, and the sums by which GRUB knows that they belong together.
//!
//! | file | what | written |
//! |---|---|---|
//! | `EFI/berth/b.efi` | the UKI | before its sum |
//! | `EFI/berth/b.env` | what GRUB on BIOS needs of it, see [`crate::uki::env`] | before its sum |
//! | `EFI/berth/b.sum` | SHA-256 of both, as `sha256sum` writes them | last |
//!
//! GRUB starts no slot whose sums do not fit (but as a last resort), so a slot that is being written is one that it
//! passes over.

use crate::layout::Slot;
use crate::verity::to_hex;

/// The folder of both slots' files.
pub const FOLDER: &str = "EFI/berth";

/// One of a slot's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BootFile {
    /// The UKI.
    Uki,
    /// The environment block.
    Env,
    /// The sums of both.
    Sum,
}

impl BootFile {
    /// All, in the order in which they are written.
    pub const ALL: [BootFile; 3] = [BootFile::Uki, BootFile::Env, BootFile::Sum];

    /// The ending of its name.
    pub const fn ending(self) -> &'static str {
        match self {
            BootFile::Uki => "efi",
            BootFile::Env => "env",
            BootFile::Sum => "sum",
        }
    }

    /// Its name in [`FOLDER`].
    pub fn name(self, slot: Slot) -> String {
        format!("{slot}.{}", self.ending())
    }

    /// Its path on the ESP.
    pub fn path(self, slot: Slot) -> String {
        format!("{FOLDER}/{}", self.name(slot))
    }
}

/// The text of a slot's sums, for GRUB's `hashsum --check`.
pub fn sums(slot: Slot, uki: &[u8; 32], env: &[u8; 32]) -> String {
    sum_line(uki, &BootFile::Uki.path(slot)) + &sum_line(env, &BootFile::Env.path(slot))
}

/// One line of such a text.
pub fn sum_line(sum: &[u8; 32], path: &str) -> String {
    format!("{}  {path}\n", to_hex(sum))
}

/// Sums that fit no file: as long as real ones, so that they take their place without a change to the file system.
pub fn no_sums(slot: Slot) -> String {
    sums(slot, &[0; 32], &[0; 32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_what_sha256sum_writes() {
        let text = sums(Slot::B, &[0xab; 32], &[1; 32]);
        let expected =
            format!("{}  EFI/berth/b.efi\n{}  EFI/berth/b.env\n", "ab".repeat(32), "01".repeat(32));
        assert_eq!(text, expected);
        assert_eq!(no_sums(Slot::B).len(), text.len());
    }
}
