//! The installation medium, an ISO that is also a disk's image, and the seed: a machine config laid where a machine finds it at
//! its first start.
//!
//! The medium's partition table has, beside the ISO 9660 file system, an EFI system partition with the system's boot files in
//! its root folder ([`UKI`], [`ENV`], [`SUM`]), a root and its verity tree, and a seed. A CD has no partitions for the kernel;
//! there they are extents of the disc, found by the same table.
//!
//! A seed is a header of one sector, then the text: magic, length (8 bytes, little-endian), SHA-256 of the text, zeros. It is
//! written text first, header last; a header of zeros is no seed.

use crate::gpt::{GptError, Table};
use crate::guid::Guid;
use crate::layout::KIND_RECORD;
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// The UKI.
pub const UKI: &str = "berth.efi";
/// What GRUB on BIOS needs to know of it.
pub const ENV: &str = "berth.env";
/// The sums of both.
pub const SUM: &str = "berth.sum";

/// On the kernel's command line: started from the medium.
pub const WORD: (&str, &str) = ("berth.medium", "iso");

/// What sector 0 of a disk begins with while Berth is installed on it: nothing starts such a disk, and it is the installer's to
/// begin again.
pub const INSTALLING: &[u8] = b"Berth is being installed on this disk\n";

/// Where the seed lies in the boot record's partition of a disk, in bytes; on the medium its partition begins with it.
pub const SEED_AT: u64 = 64 << 10;
/// Bytes that a seed may have, header included: what is left of the boot record's partition.
pub const SEED_BYTES: u64 = (1 << 20) - SEED_AT;

const MAGIC: &[u8; 16] = b"Berth seed v1\0\0\0";
const HEADER: usize = 512;

/// Why there is no seed although there seems to be one.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Not readable.
    #[error("the seed is not read: {0}")]
    Io(#[from] io::Error),
    /// Neither empty nor a seed.
    #[error("what lies where a seed may be is no seed")]
    Other,
    /// Longer than the place.
    #[error("the config has {0} bytes, {max} at most fit", max = SEED_BYTES - HEADER as u64)]
    Long(u64),
    /// The text has another sum.
    #[error("the seed is damaged: its text does not have the sum that its header names")]
    Damaged,
}

/// Bytes of a sector of the medium's partition table, and of a disk image's, whatever the drive's are.
pub const SECTOR_BYTES: u32 = 512;

/// Where a config is laid, in bytes: on the medium, whose partition for it is of this `kind` ([`KIND_SEED`]), or in the image of a disk
/// (`KIND_RECORD`). `None` if it has no such partition.
///
/// [`KIND_SEED`]: crate::layout::KIND_SEED
pub fn seed_place(image: &mut (impl Read + Seek), kind: Guid) -> Result<Option<u64>, GptError> {
    let sector = u64::from(SECTOR_BYTES);
    let sectors = image.seek(SeekFrom::End(0))? / sector;
    let table = Table::read(image, SECTOR_BYTES, sectors)?.table;
    let within = if kind == KIND_RECORD { SEED_AT } else { 0 };
    Ok(table.by_kind(kind).map(|(_, part)| part.first * sector + within))
}

/// Header and text.
pub fn seed(text: &[u8]) -> Result<(Vec<u8>, &[u8]), SeedError> {
    let length = text.len() as u64;
    if length > SEED_BYTES - HEADER as u64 {
        return Err(SeedError::Long(length));
    }
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&length.to_le_bytes());
    header.extend_from_slice(&Sha256::digest(text));
    header.resize(HEADER, 0);
    Ok((header, text))
}

/// Writes it at that place of a disk or image; whoever calls syncs.
pub fn write_seed(disk: &impl FileExt, at: u64, text: &[u8]) -> Result<(), SeedError> {
    let (header, text) = seed(text)?;
    disk.write_all_at(text, at + HEADER as u64)?;
    Ok(disk.write_all_at(&header, at)?)
}

/// Takes it away, the text too: it may hold secrets.
pub fn erase_seed(disk: &impl FileExt, at: u64) -> io::Result<()> {
    disk.write_all_at(&vec![0; usize::try_from(SEED_BYTES).unwrap_or_default()], at)
}

/// What is there; `None` when nothing is.
pub fn read_seed(disk: &impl FileExt, at: u64) -> Result<Option<Vec<u8>>, SeedError> {
    let mut header = [0; HEADER];
    disk.read_exact_at(&mut header, at)?;
    if header.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let (magic, rest) = header.split_at(MAGIC.len());
    let (length, rest) = rest.split_at(8);
    if magic != MAGIC {
        return Err(SeedError::Other);
    }
    let length = length.iter().rev().fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
    if length > SEED_BYTES - HEADER as u64 {
        return Err(SeedError::Long(length));
    }
    let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
    disk.read_exact_at(&mut text, at + HEADER as u64)?;
    if rest.get(..32) != Some(Sha256::digest(&text).as_slice()) {
        return Err(SeedError::Damaged);
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> std::fs::File {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(1 << 20).unwrap();
        disk
    }

    #[test]
    fn a_seed_is_read_as_it_was_written_and_leaves_nothing() {
        let disk = disk();
        assert!(read_seed(&disk, SEED_AT).unwrap().is_none());
        let text = b"format = 1\n".repeat(1000);
        write_seed(&disk, SEED_AT, &text).unwrap();
        assert_eq!(read_seed(&disk, SEED_AT).unwrap().unwrap(), text);
        erase_seed(&disk, SEED_AT).unwrap();
        assert!(read_seed(&disk, SEED_AT).unwrap().is_none());
        let mut all = vec![1; 1 << 20];
        disk.read_exact_at(&mut all, 0).unwrap();
        assert!(all.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_is_no_seed_is_told_apart() {
        let disk = disk();
        assert!(matches!(write_seed(&disk, 0, &vec![b'x'; 1 << 20]), Err(SeedError::Long(_))));
        disk.write_all_at(&[7; 512], 0).unwrap();
        assert!(matches!(read_seed(&disk, 0), Err(SeedError::Other)));
        write_seed(&disk, 0, b"format = 1\n").unwrap();
        disk.write_all_at(b"F", 512).unwrap();
        assert!(matches!(read_seed(&disk, 0), Err(SeedError::Damaged)));
        disk.write_all_at(&u64::MAX.to_le_bytes(), 16).unwrap();
        assert!(matches!(read_seed(&disk, 0), Err(SeedError::Long(_))));
        disk.set_len(600).unwrap();
        write_seed(&disk, 0, &[b'x'; 100]).unwrap();
        disk.set_len(600).unwrap();
        assert!(matches!(read_seed(&disk, 0), Err(SeedError::Io(_))));
    }
}
