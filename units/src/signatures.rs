//! What a partition holds that is not ours: the signatures of other file systems, volume managers, RAID and
//! encryption. A partition with one of them is never repaired, however many old copies of an ext4 superblock lie
//! further in, and never taken for blank.
//!
//! Offsets and bytes are those of util-linux's libblkid (`libblkid/src/superblocks/*.c`), checked against the formats'
//! own headers. Magics shorter than four bytes are left out: noise has them too often.

use std::io;
use std::os::unix::fs::FileExt;

/// One row: `magic` stands at `at`, or at one of the `times` places that follow each other by `step` bytes.
#[derive(Debug, Clone, Copy)]
pub struct Signature {
    /// As a message names it.
    pub name: &'static str,
    /// The bytes.
    pub magic: &'static [u8],
    /// Bytes from the partition's start.
    pub at: u64,
    /// Bytes between places where it may stand.
    pub step: u64,
    /// How many places there are.
    pub times: u64,
}

const fn one(name: &'static str, at: u64, magic: &'static [u8]) -> Signature {
    Signature { name, magic, at, step: 0, times: 1 }
}

const fn many(name: &'static str, at: u64, step: u64, times: u64, magic: &'static [u8]) -> Signature {
    Signature { name, magic, at, step, times }
}

/// Magic of a Linux RAID superblock, little-endian.
const RAID: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];

/// All that are looked for at a partition's start, the lowest offsets first.
pub const TABLE: [Signature; 43] = [
    one("an encrypted volume (LUKS)", 0, b"LUKS\xba\xbe"),
    one("an encrypted volume (BitLocker)", 3, b"-FVE-FS-"),
    many("an LVM physical volume", 0, 512, 4, b"LABELONE"),
    one("a Linux RAID member", 0, RAID),
    one("a dm-verity tree", 0, b"verity\0\0"),
    one("a dm-integrity volume", 0, b"integrt\0"),
    one("a VDO volume", 0, b"dmvdo001"),
    one("a Ceph volume", 0, b"bluestore block device"),
    one("an XFS file system", 0, b"XFSB"),
    one("a squashfs", 0, b"hsqs"),
    one("a cramfs", 0, &[0x45, 0x3d, 0xcd, 0x28]),
    one("a romfs", 0, b"-rom1fs-"),
    one("an NTFS file system", 3, b"NTFS    "),
    one("an exFAT file system", 3, b"EXFAT   "),
    one("a ReFS file system", 3, b"ReFS\0"),
    one("an APFS container", 32, b"NXSB"),
    one("a FAT file system", 54, b"FAT12   "),
    one("a FAT file system", 54, b"FAT16   "),
    one("a FAT file system", 82, b"FAT32   "),
    one("a partition table", 512, b"EFI PART"),
    one("a Stratis pool", 516, b"!Stra0tis\x86\xff\x02^Arh"),
    one("an f2fs file system", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    one("an erofs file system", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    one("a Linux RAID member", 4096, RAID),
    one("a bcache device", 4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    one(
        "a bcachefs file system",
        4096 + 24,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
    ),
    // At the end of a page, and there are machines with pages of 4 to 64 KiB.
    one("swap", (4 << 10) - 10, b"SWAPSPACE2"),
    one("swap", (8 << 10) - 10, b"SWAPSPACE2"),
    one("swap", (16 << 10) - 10, b"SWAPSPACE2"),
    one("swap", (32 << 10) - 10, b"SWAPSPACE2"),
    one("swap", (64 << 10) - 10, b"SWAPSPACE2"),
    one("a machine's memory (suspended to disk)", (4 << 10) - 10, b"S1SUSPEND"),
    one("a machine's memory (suspended to disk)", (4 << 10) - 10, b"S2SUSPEND"),
    one("a machine's memory (suspended to disk)", (4 << 10) - 10, b"ULSUSPEND"),
    one("a JFS file system", 32 << 10, b"JFS1"),
    many("an ISO 9660 image", (32 << 10) + 1, 2048, 16, b"CD001"),
    many("a UDF file system", (32 << 10) + 1, 2048, 16, b"NSR0"),
    one("a btrfs file system", (64 << 10) + 64, b"_BHRfS_M"),
    one("a ReiserFS file system", (64 << 10) + 52, b"ReIsEr"),
    one("a Reiser4 file system", 64 << 10, b"ReIsEr4"),
    one("a GFS2 file system", 64 << 10, &[0x01, 0x16, 0x19, 0x70]),
    one("a VMFS volume", 1 << 20, &[0x0d, 0xd0, 0x01, 0xc0]),
    // The ring of uberblocks of the first label, written by a machine of either byte order.
    many("a ZFS pool", 128 << 10, 1024, 128, &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0]),
];

/// Names what the partition of that many bytes holds, if it is signed as something else than ext4.
pub fn foreign(partition: &impl FileExt, bytes: u64) -> io::Result<Option<&'static str>> {
    for signature in &TABLE {
        for n in 0..signature.times {
            if stands(partition, bytes, signature.at + n * signature.step, signature.magic)? {
                return Ok(Some(signature.name));
            }
        }
    }
    // Linux RAID 1.0 and 0.90 keep their superblock at the end, at multiples of 4 and of 64 KiB.
    let ends = [
        (bytes / 512).checked_sub(16).map(|sector| (sector & !7) * 512),
        (bytes & !0xffff).checked_sub(0x1_0000),
    ];
    for at in ends.into_iter().flatten() {
        if stands(partition, bytes, at, RAID)? {
            return Ok(Some("a Linux RAID member"));
        }
    }
    Ok(None)
}

fn stands(partition: &impl FileExt, bytes: u64, at: u64, magic: &[u8]) -> io::Result<bool> {
    let mut found = [0; 32];
    let Some(found) = found.get_mut(..magic.len()) else { return Ok(false) };
    if at + magic.len() as u64 > bytes {
        return Ok(false);
    }
    partition.read_exact_at(found, at)?;
    Ok(*found == *magic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    const BYTES: u64 = 192 << 20;

    fn partition() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES).unwrap();
        file
    }

    #[test]
    fn each_is_found_at_each_of_its_places_and_nowhere_else() {
        for signature in &TABLE {
            for n in 0..signature.times {
                let (file, at) = (partition(), signature.at + n * signature.step);
                file.write_all_at(signature.magic, at).unwrap();
                assert_eq!(foreign(&file, BYTES).unwrap(), Some(signature.name), "at {at}");
                file.write_all_at(&[signature.magic[0] ^ 1], at).unwrap();
                assert_eq!(foreign(&file, BYTES).unwrap(), None, "{} at {at}", signature.name);
            }
        }
    }

    #[test]
    fn magics_are_long_enough_to_mean_something() {
        for signature in &TABLE {
            assert!((4..=32).contains(&signature.magic.len()), "{}", signature.name);
            assert!(signature.magic.iter().any(|&byte| byte != 0));
        }
    }

    #[test]
    fn raid_at_the_end_and_partitions_that_are_too_short() {
        for at in [BYTES - 8192, BYTES - 65536] {
            let file = partition();
            file.write_all_at(RAID, at).unwrap();
            assert_eq!(foreign(&file, BYTES).unwrap(), Some("a Linux RAID member"));
        }
        for bytes in [0, 511, 4096, 70_000] {
            assert_eq!(foreign(&partition(), bytes).unwrap(), None);
        }
    }

    #[test]
    fn an_ext4_is_none_of_them() {
        let file = partition();
        assert_eq!(foreign(&file, BYTES).unwrap(), None);
        file.write_all_at(&[0x53, 0xef], 1024 + 0x38).unwrap();
        assert_eq!(foreign(&file, BYTES).unwrap(), None);
    }
}
