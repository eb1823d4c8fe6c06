//! A state partition that was never formatted, and how it is told: by PID 1, which then has a file system made, and by
//! the worker that makes it, which looks again before it writes.
//!
//! Blank is what has only zeros where a superblock could be, and no other signature ([`crate::signatures`]). The worker writes these sectors after all others are on
//! the disk, so a power cut leaves a partition that is still blank, or one that is whole (e2fsck puts back whichever
//! superblock is missing).

use crate::signatures;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where an ext4 with blocks of 4 KiB has its superblock and the first of its copies, bytes from the start: groups
/// 0, 1, 3, 5 and 7 (`sparse_super`) of 128 MiB.
pub const SUPERBLOCKS: [u64; 5] = [1024, 1 << 27, 3 << 27, 5 << 27, 7 << 27];
/// Bytes at both ends of a partition in which whatever lies there is told by its signature ([`crate::signatures`]).
const SIGNATURES: u64 = 2 << 20;
/// Bytes that are zeroed where a copy of a superblock may be: a sector of any disk.
const COPY: u64 = 4096;

/// What has to be zero of a partition of that many bytes for it to be blank: places and lengths.
pub fn places(bytes: u64) -> impl Iterator<Item = (u64, u64)> {
    let ends = [0, bytes.saturating_sub(SIGNATURES)].map(|at| (at, SIGNATURES.min(bytes)));
    let copies = SUPERBLOCKS.into_iter().map(|at| (at - at % COPY, COPY));
    ends.into_iter().chain(copies.filter(move |(at, length)| at + length <= bytes))
}

/// Bytes of a superblock that decide: a sector, which a disk writes as a whole or not at all. The magic is in it.
pub const SECTOR: usize = 512;

/// Whether the partition of that many bytes is blank.
pub fn is_blank(partition: &File, bytes: u64) -> io::Result<bool> {
    let mut sector = [0; SECTOR];
    for at in [0, SECTOR as u64].into_iter().chain(SUPERBLOCKS) {
        if at + SECTOR as u64 > bytes {
            continue;
        }
        partition.read_exact_at(&mut sector, at)?;
        if sector.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
    }
    Ok(signatures::foreign(partition, bytes)?.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_in_these_places_make_anything_blank() {
        let bytes = 192 << 20;
        let file = tempfile::tempfile().unwrap();
        for at in (0..bytes).step_by(1 << 20) {
            file.write_all_at(&[0xa5; 1 << 20], at).unwrap();
        }
        assert!(!is_blank(&file, bytes).unwrap());
        for (at, length) in places(bytes) {
            file.write_all_at(&vec![0; usize::try_from(length).unwrap()], at).unwrap();
        }
        assert!(is_blank(&file, bytes).unwrap());
        assert_eq!(places(1 << 20).filter(|(at, length)| at + length > 1 << 20).count(), 0);
    }

    #[test]
    fn one_byte_in_a_superblock_is_enough() {
        let file = tempfile::tempfile().unwrap();
        let bytes = 192 << 20;
        file.set_len(bytes).unwrap();
        assert!(is_blank(&file, bytes).unwrap());
        file.write_all_at(b"data", 1 << 20).unwrap();
        assert!(is_blank(&file, bytes).unwrap());
        for at in [0, 1023, 1024 + 0x38, (1 << 27) + 0x38] {
            file.write_all_at(&[1], at).unwrap();
            assert!(!is_blank(&file, bytes).unwrap(), "{at}");
            file.write_all_at(&[0], at).unwrap();
        }
        // btrfs leaves all of that free.
        file.write_all_at(b"_BHRfS_M", (64 << 10) + 64).unwrap();
        assert!(!is_blank(&file, bytes).unwrap());
        assert!(is_blank(&file, 0).unwrap());
    }
}
