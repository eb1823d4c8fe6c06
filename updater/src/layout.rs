//! The disk: which partitions, in which order, with which types, labels and sizes. The one place for each.
//!
//! Order on disk = partition number: 1 `bios` (1 MiB, GRUB's i386-pc core), 2 `esp` (GRUB's UEFI core and the UKI
//! of both slots), 3 `record` (boot record and step record), 4 `root-a`, 5 `verity-a`, 6 `root-b`, 7 `verity-b`,
//! 8 `state` (last, so that it can grow).

use crate::gpt::{GptError, Partition, Table};
use crate::guid::Guid;

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// One partition of a Berth disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1; also its place on the disk.
    pub number: u32,
    /// Label in the partition table.
    pub label: &'static str,
    /// Type in the partition table.
    pub kind: Guid,
    /// Bytes in a fresh image, a multiple of 1 MiB. The last one grows to the disk's end.
    pub bytes: u64,
}

/// BIOS boot partition: GRUB's core for BIOS.
pub const KIND_BIOS: Guid = Guid::from_u128(0x21686148_6449_6e6f_744e_656564454649);
/// EFI system partition.
pub const KIND_ESP: Guid = Guid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
/// Boot record: a type of our own, as no standard has one.
pub const KIND_RECORD: Guid = Guid::from_u128(0x3e1b0a5c_52d7_4c7e_9d0f_6265727468a1);
/// Root, x86-64 (Discoverable Partitions Specification).
pub const KIND_ROOT: Guid = Guid::from_u128(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
/// Verity data of a root, x86-64 (Discoverable Partitions Specification).
pub const KIND_VERITY: Guid = Guid::from_u128(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5);
/// State: generic Linux data, told by its label. (The specification's `/var` type asks for a UUID made from the
/// machine's id, which an image does not have yet.)
pub const KIND_STATE: Guid = Guid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);

/// Where a machine config is laid on an installation medium: a type of our own. See [`crate::medium`].
pub const KIND_SEED: Guid = Guid::from_u128(0x9d0c4b1e_7f52_4a39_8c1d_6265727468a2);

/// All partitions, in order. A UKI is about 14 MB and a root about 20 MB, so two kernels and each slot can grow
/// more than fourfold; a tree of verity sums is 1/127 of its root.
pub const PARTS: [Part; 8] = [
    Part { number: 1, label: "bios", kind: KIND_BIOS, bytes: MIB },
    Part { number: 2, label: "esp", kind: KIND_ESP, bytes: 160 * MIB },
    Part { number: 3, label: "record", kind: KIND_RECORD, bytes: MIB },
    Part { number: 4, label: "root-a", kind: KIND_ROOT, bytes: 128 * MIB },
    Part { number: 5, label: "verity-a", kind: KIND_VERITY, bytes: 2 * MIB },
    Part { number: 6, label: "root-b", kind: KIND_ROOT, bytes: 128 * MIB },
    Part { number: 7, label: "verity-b", kind: KIND_VERITY, bytes: 2 * MIB },
    Part { number: 8, label: "state", kind: KIND_STATE, bytes: 192 * MIB },
];

/// The EFI system partition.
pub const ESP: Part = PARTS[1];
/// The boot record's.
pub const RECORD: Part = PARTS[2];
/// The state's.
pub const STATE: Part = PARTS[7];

/// Bytes of the smallest disk with sectors of 512 bytes, and of an image: all partitions of a fresh image, and both copies of the table.
pub const DISK_BYTES: u64 = 616 * MIB;
/// Bytes of the ESP on a disk whose sectors have 4,096 bytes: a FAT32 has at least 65,525 clusters, and none is smaller.
const ESP_BYTES_4096: u64 = 288 * MIB;

/// Bytes of a partition of a fresh disk with such sectors.
pub fn bytes_of(part: Part, sector_bytes: u32) -> u64 {
    if part == ESP && sector_bytes > 512 { ESP_BYTES_4096 } else { part.bytes }
}

/// Bytes of the smallest disk with such sectors.
pub fn disk_bytes(sector_bytes: u32) -> u64 {
    DISK_BYTES + bytes_of(ESP, sector_bytes) - ESP.bytes
}

/// The table of a fresh disk of so many sectors. The last partition has the size that it has in an image. `name` gives the UUIDs, of
/// the disk (`"disk"`) and of each partition by its label.
pub fn fresh_table(
    sector_bytes: u32,
    disk_sectors: u64,
    name: impl Fn(&str) -> Guid,
) -> Result<Table, GptError> {
    let mut table = Table::new(name("disk"), sector_bytes, disk_sectors)?;
    let mut next = MIB / u64::from(sector_bytes);
    for part in PARTS {
        let length = bytes_of(part, sector_bytes) / u64::from(sector_bytes);
        let last = next + length - 1;
        if last > table.last_usable {
            return Err(GptError::TooSmall(disk_sectors));
        }
        let (kind, label) = (part.kind, part.label.to_owned());
        let entry = Partition { kind, uuid: name(part.label), first: next, last, attributes: 0, label };
        if let Some(place) = table.entries.get_mut(part.number as usize - 1) {
            *place = Some(entry);
        }
        next += length;
    }
    Ok(table)
}

/// UUIDs of a slot's root and verity partition, by the Discoverable Partitions Specification: the first and the last
/// 128 bits of the root hash.
pub fn slot_uuids(root: &crate::verity::RootHash) -> (Guid, Guid) {
    let half = |at: usize| root[at..at + 16].iter().fold(0u128, |n, &byte| (n << 8) | u128::from(byte));
    (Guid::from_u128(half(0)), Guid::from_u128(half(16)))
}

/// One of the two places for an OS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// Partitions 4 and 5.
    A,
    /// Partitions 6 and 7.
    B,
}

impl Slot {
    /// Both, in order.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// `"a"` or `"b"`, as in the record, labels and file names.
    pub const fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    /// The one that is not this.
    pub const fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// Its root partition.
    pub const fn root(self) -> Part {
        match self {
            Slot::A => PARTS[3],
            Slot::B => PARTS[5],
        }
    }

    /// Its partition of verity sums.
    pub const fn verity(self) -> Part {
        match self {
            Slot::A => PARTS[4],
            Slot::B => PARTS[6],
        }
    }

    /// Reads [`Slot::name`].
    pub fn parse(name: &str) -> Option<Slot> {
        match name {
            "a" => Some(Slot::A),
            "b" => Some(Slot::B),
            _ => None,
        }
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_and_sizes_are_whole_mib() {
        for (i, part) in PARTS.iter().enumerate() {
            assert_eq!(part.number as usize, i + 1);
            assert_eq!(part.bytes % MIB, 0);
        }
        assert_eq!(DISK_BYTES, PARTS.iter().map(|part| part.bytes).sum::<u64>() + 2 * MIB);
        assert_eq!((RECORD.label, STATE.label), ("record", "state"));
        for slot in Slot::ALL {
            assert_eq!(slot.root().label, format!("root-{slot}"));
            assert_eq!(slot.verity().label, format!("verity-{slot}"));
            // 129 bytes of sums for each 127 blocks, rounded up, plus the superblock.
            assert!(slot.verity().bytes > slot.root().bytes / 126 + 4096);
        }
    }

    #[test]
    fn a_fresh_table_fits_the_smallest_disk_and_no_smaller_one() {
        let table = |bytes: u32, of: u64| fresh_table(bytes, of / u64::from(bytes), Guid::named);
        let smallest = table(512, DISK_BYTES).unwrap();
        assert_eq!(smallest.partitions().count(), PARTS.len());
        assert!(table(512, DISK_BYTES - 2 * MIB).is_err());
        let large = table(4096, 1 << 30).unwrap();
        let esp = large.entries[1].as_ref().unwrap();
        assert!(esp.first * 4096 == 2 * MIB && esp.sectors() > 65_525, "{esp:?}");
    }

    #[test]
    fn uuids_are_the_printed_halves_of_the_hash() {
        let hash: Vec<u8> = (0..32).collect();
        let (root, verity) = slot_uuids(&hash.try_into().unwrap());
        assert_eq!(root.to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(verity.to_string(), "10111213-1415-1617-1819-1a1b1c1d1e1f");
    }
}
