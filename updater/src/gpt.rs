//! The GUID partition table: read either copy, write both, mend one from the other, grow the last partition.
//!
//! UEFI 2.10 §5.3. A table is 128 entries of 128 bytes between two headers, each with two CRCs: the primary in
//! sectors 1–33, the backup in the disk's last 33. Linux and GRUB's BIOS core read only the primary, so a machine
//! with a broken one must mend it before it can be trusted to boot again.

use crate::guid::Guid;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes of one entry; the specification allows more, no tool writes more.
const ENTRY_BYTES: usize = ENTRY_BYTES_FIELD as usize;
/// The same, as the header has it.
const ENTRY_BYTES_FIELD: u32 = 128;
/// Entries accepted in a table that we did not write; 128 is what everybody writes. Bounds what is read: 128 KiB.
const ENTRIES_MAX: u32 = 1024;
/// Entries in a table that we make.
const ENTRIES: u32 = 128;
/// Bytes of the header proper.
const HEADER_BYTES: usize = HEADER_BYTES_FIELD as usize;
/// The same, as the header has it.
const HEADER_BYTES_FIELD: u32 = 92;

/// Why a table, or one copy of it, is not used.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// No header there.
    #[error("no partition table: signature \"EFI PART\" is missing")]
    Signature,
    /// A field that no sound header has.
    #[error("partition table header: {0}")]
    Header(&'static str),
    /// The header's CRC.
    #[error("partition table header is damaged (CRC is {found:08x}, should be {expected:08x})")]
    HeaderCrc {
        /// Of the bytes.
        found: u32,
        /// In the header.
        expected: u32,
    },
    /// The entries' CRC.
    #[error("partition table entries are damaged (CRC is {found:08x}, should be {expected:08x})")]
    EntriesCrc {
        /// Of the bytes.
        found: u32,
        /// In the header.
        expected: u32,
    },
    /// An entry that contradicts the header or another one.
    #[error("partition {number}: {what}")]
    Entry {
        /// From 1.
        number: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Neither copy is usable.
    #[error("no usable partition table: primary: {primary}; backup: {backup}")]
    Neither {
        /// The first copy's trouble.
        primary: Box<GptError>,
        /// The second's.
        backup: Box<GptError>,
    },
    /// The disk is smaller than the table needs.
    #[error("disk of {0} sectors is too small for a partition table")]
    TooSmall(u64),
    /// Reading or writing failed.
    #[error("partition table: {0}")]
    Io(#[from] io::Error),
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for, see [`crate::layout`].
    pub kind: Guid,
    /// Which one it is.
    pub uuid: Guid,
    /// First sector.
    pub first: u64,
    /// Last sector, inclusive.
    pub last: u64,
    /// Attribute bits.
    pub attributes: u64,
    /// Label, at most 36 UTF-16 units.
    pub label: String,
}

impl Partition {
    /// Sectors.
    pub fn sectors(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// A checked table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Bytes of a sector: 512 or 4096.
    pub sector_bytes: u32,
    /// Sectors of the disk when the table was written (the backup header lies in the last one).
    pub disk_sectors: u64,
    /// The disk's own GUID.
    pub disk: Guid,
    /// First sector that a partition may use.
    pub first_usable: u64,
    /// Last sector that a partition may use.
    pub last_usable: u64,
    /// Entry `i` is partition number `i + 1`.
    pub entries: Vec<Option<Partition>>,
}

/// What [`Table::read`] found.
#[derive(Debug)]
pub struct Found {
    /// The table of the primary if that is sound, else of the backup.
    pub table: Table,
    /// Trouble with the primary copy; [`Table::write`] mends it.
    pub primary: Option<GptError>,
    /// Trouble with the backup copy.
    pub backup: Option<GptError>,
}

impl Table {
    /// An empty table for a disk of that many sectors.
    pub fn new(disk: Guid, sector_bytes: u32, disk_sectors: u64) -> Result<Table, GptError> {
        let mut table = Table {
            sector_bytes,
            disk_sectors,
            disk,
            first_usable: 0,
            last_usable: 0,
            entries: vec![None; ENTRIES as usize],
        };
        let reserved = table.entry_sectors() + 1;
        if !matches!(sector_bytes, 512 | 4096) || disk_sectors < 2 * reserved + 2 {
            return Err(GptError::TooSmall(disk_sectors));
        }
        table.first_usable = 1 + reserved;
        table.last_usable = disk_sectors - 1 - reserved;
        Ok(table)
    }

    /// Reads both copies of a disk of `disk_sectors` sectors. The primary wins when both are sound.
    pub fn read(
        disk: &mut (impl Read + Seek),
        sector_bytes: u32,
        disk_sectors: u64,
    ) -> Result<Found, GptError> {
        if !matches!(sector_bytes, 512 | 4096) || disk_sectors < 3 {
            return Err(GptError::TooSmall(disk_sectors));
        }
        let at_end = disk_sectors - 1;
        match read_copy(disk, sector_bytes, 1, disk_sectors) {
            Ok((table, alternate)) => {
                let backup = match read_copy(disk, sector_bytes, alternate, disk_sectors) {
                    Ok((copy, _)) if copy.entries == table.entries => None,
                    Ok(_) => Some(GptError::Header("the two copies differ")),
                    Err(error) => Some(error),
                };
                Ok(Found { table, primary: None, backup })
            }
            Err(primary) => match read_copy(disk, sector_bytes, at_end, disk_sectors) {
                Ok((table, _)) => Ok(Found { table, primary: Some(primary), backup: None }),
                Err(backup) => {
                    Err(GptError::Neither { primary: Box::new(primary), backup: Box::new(backup) })
                }
            },
        }
    }

    /// Writes both copies, the backup first and `sync` between them: a power cut at any byte leaves one that is
    /// sound. The boot code in sector 0 stays; its protective partition is set to the disk's size.
    pub fn write<D: Read + Write + Seek>(
        &self,
        disk: &mut D,
        mut sync: impl FnMut(&mut D) -> io::Result<()>,
    ) -> Result<(), GptError> {
        let bytes = u64::from(self.sector_bytes);
        let entries = self.entry_bytes();
        let last = self.disk_sectors - 1;
        let backup_entries = last - self.entry_sectors();

        write_at(disk, backup_entries * bytes, &entries)?;
        write_at(disk, last * bytes, &self.header(last, 1, backup_entries, &entries))?;
        sync(disk)?;
        write_at(disk, 2 * bytes, &entries)?;
        write_at(disk, bytes, &self.header(1, last, 2, &entries))?;
        self.write_protective(disk)?;
        sync(disk)?;
        Ok(())
    }

    /// The disk is larger than the table thinks: moves the backup to the end and extends the last partition (by
    /// position) up to it, rounded down to whole MiB. Returns the number of the partition when it grew. Nothing is
    /// written; a disk that shrank is an error.
    pub fn grow(&mut self, disk_sectors: u64) -> Result<Option<usize>, GptError> {
        let reserved = self.entry_sectors() + 1;
        let Some(last_usable) = disk_sectors.checked_sub(1 + reserved) else {
            return Err(GptError::TooSmall(disk_sectors));
        };
        let Some(index) = (0..self.entries.len())
            .filter(|&i| self.entries[i].is_some())
            .max_by_key(|&i| self.entries[i].as_ref().map(|entry| entry.last))
        else {
            return Ok(None);
        };
        let Some(entry) = self.entries[index].as_mut() else { return Ok(None) };
        if last_usable < entry.last {
            return Err(GptError::TooSmall(disk_sectors));
        }
        self.disk_sectors = disk_sectors;
        self.last_usable = last_usable;
        let mib = u64::from((1 << 20) / self.sector_bytes);
        let end = (last_usable + 1) / mib * mib;
        if end > entry.last + 1 {
            entry.last = end - 1;
            return Ok(Some(index + 1));
        }
        Ok(None)
    }

    /// All partitions with their numbers.
    pub fn partitions(&self) -> impl Iterator<Item = (usize, &Partition)> {
        self.entries.iter().enumerate().filter_map(|(i, entry)| entry.as_ref().map(|entry| (i + 1, entry)))
    }

    /// The first partition of that type.
    pub fn by_kind(&self, kind: Guid) -> Option<(usize, &Partition)> {
        self.partitions().find(|(_, partition)| partition.kind == kind)
    }

    /// The partition with that UUID.
    pub fn by_uuid(&self, uuid: Guid) -> Option<(usize, &Partition)> {
        self.partitions().find(|(_, partition)| partition.uuid == uuid)
    }

    /// The first partition with that type and label.
    pub fn by_label(&self, kind: Guid, label: &str) -> Option<(usize, &Partition)> {
        self.partitions().find(|(_, partition)| partition.kind == kind && partition.label == label)
    }

    /// Sectors of the entries of one copy.
    fn entry_sectors(&self) -> u64 {
        (self.entries.len() * ENTRY_BYTES).div_ceil(self.sector_bytes as usize) as u64
    }

    fn entry_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for entry in &self.entries {
            let start = bytes.len();
            if let Some(partition) = entry {
                bytes.extend_from_slice(&partition.kind.0);
                bytes.extend_from_slice(&partition.uuid.0);
                bytes.extend_from_slice(&partition.first.to_le_bytes());
                bytes.extend_from_slice(&partition.last.to_le_bytes());
                bytes.extend_from_slice(&partition.attributes.to_le_bytes());
                for unit in partition.label.encode_utf16().take(36) {
                    bytes.extend_from_slice(&unit.to_le_bytes());
                }
            }
            bytes.resize(start + ENTRY_BYTES, 0);
        }
        bytes
    }

    fn header(&self, here: u64, alternate: u64, entries_at: u64, entries: &[u8]) -> Vec<u8> {
        let mut header = Vec::with_capacity(self.sector_bytes as usize);
        header.extend_from_slice(b"EFI PART");
        header.extend_from_slice(&0x0001_0000u32.to_le_bytes());
        header.extend_from_slice(&HEADER_BYTES_FIELD.to_le_bytes());
        header.extend_from_slice(&[0; 8]);
        for number in [here, alternate, self.first_usable, self.last_usable] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header.extend_from_slice(&self.disk.0);
        header.extend_from_slice(&entries_at.to_le_bytes());
        header.extend_from_slice(&u32::try_from(self.entries.len()).unwrap_or(ENTRIES_MAX).to_le_bytes());
        header.extend_from_slice(&ENTRY_BYTES_FIELD.to_le_bytes());
        header.extend_from_slice(&crc32(entries).to_le_bytes());
        let crc = crc32(&header);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        header.resize(self.sector_bytes as usize, 0);
        header
    }

    fn write_protective(&self, disk: &mut (impl Read + Write + Seek)) -> Result<(), GptError> {
        let mut sector = vec![0; self.sector_bytes as usize];
        disk.seek(SeekFrom::Start(0))?;
        disk.read_exact(&mut sector)?;
        let old = sector.clone();
        let sectors = u32::try_from(self.disk_sectors - 1).unwrap_or(u32::MAX);
        // One entry of type 0xEE over the whole disk; the CHS values are the ones for "beyond CHS".
        sector[446..510].fill(0);
        sector[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
        sector[454..458].copy_from_slice(&1u32.to_le_bytes());
        sector[458..462].copy_from_slice(&sectors.to_le_bytes());
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        if sector != old {
            write_at(disk, 0, &sector)?;
        }
        Ok(())
    }
}

/// Reads and checks the copy whose header is in sector `here`; also says where the other one should be.
fn read_copy(
    disk: &mut (impl Read + Seek),
    sector_bytes: u32,
    here: u64,
    disk_sectors: u64,
) -> Result<(Table, u64), GptError> {
    if here == 0 || here >= disk_sectors {
        return Err(GptError::Header("the other copy would lie outside the disk"));
    }
    let mut sector = vec![0; sector_bytes as usize];
    read_at(disk, here * u64::from(sector_bytes), &mut sector)?;
    if &sector[..8] != b"EFI PART" {
        return Err(GptError::Signature);
    }
    if u32_at(&sector, 8) != 0x0001_0000 || u32_at(&sector, 12) as usize != HEADER_BYTES {
        return Err(GptError::Header("unknown revision or size"));
    }
    let expected = u32_at(&sector, 16);
    let mut zeroed = sector[..HEADER_BYTES].to_vec();
    zeroed[16..20].fill(0);
    let found = crc32(&zeroed);
    if found != expected {
        return Err(GptError::HeaderCrc { found, expected });
    }
    let (alternate, first_usable, last_usable) =
        (u64_at(&sector, 32), u64_at(&sector, 40), u64_at(&sector, 48));
    let (entries_at, count) = (u64_at(&sector, 72), u32_at(&sector, 80));
    if u64_at(&sector, 24) != here {
        return Err(GptError::Header("it says that it lies elsewhere"));
    }
    if u32_at(&sector, 84) as usize != ENTRY_BYTES || count == 0 || count > ENTRIES_MAX {
        return Err(GptError::Header("unusual number or size of entries"));
    }
    if first_usable > last_usable || last_usable >= disk_sectors || first_usable < 2 {
        return Err(GptError::Header("usable sectors outside the disk"));
    }
    let entry_sectors = (count as usize * ENTRY_BYTES).div_ceil(sector_bytes as usize) as u64;
    if entries_at < 2 || entries_at > disk_sectors.saturating_sub(entry_sectors) {
        return Err(GptError::Header("entries outside the disk"));
    }

    let mut bytes = vec![0; count as usize * ENTRY_BYTES];
    read_at(disk, entries_at * u64::from(sector_bytes), &mut bytes)?;
    let (found, expected) = (crc32(&bytes), u32_at(&sector, 88));
    if found != expected {
        return Err(GptError::EntriesCrc { found, expected });
    }
    let entries = bytes.chunks_exact(ENTRY_BYTES).map(parse_entry).collect::<Vec<_>>();
    check_entries(&entries, first_usable, last_usable)?;
    let (primary, backup) = if here == 1 { (1, alternate) } else { (alternate, here) };
    if primary != 1 || backup <= last_usable || backup >= disk_sectors {
        return Err(GptError::Header("the other copy would lie outside the disk"));
    }
    let disk = guid_at(&sector, 56);
    let table = Table { sector_bytes, disk_sectors: backup + 1, disk, first_usable, last_usable, entries };
    Ok((table, alternate))
}

fn parse_entry(bytes: &[u8]) -> Option<Partition> {
    let kind = guid_at(bytes, 0);
    if kind.is_zero() {
        return None;
    }
    let units: Vec<u16> = bytes[56..128]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|&unit| unit != 0)
        .collect();
    Some(Partition {
        kind,
        uuid: guid_at(bytes, 16),
        first: u64_at(bytes, 32),
        last: u64_at(bytes, 40),
        attributes: u64_at(bytes, 48),
        label: String::from_utf16_lossy(&units),
    })
}

/// Each inside the usable sectors, and no two on the same one.
fn check_entries(entries: &[Option<Partition>], first_usable: u64, last_usable: u64) -> Result<(), GptError> {
    let mut taken: Vec<(u64, u64, usize)> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(partition) = entry else { continue };
        let number = index + 1;
        if partition.first > partition.last {
            return Err(GptError::Entry { number, what: "it ends before it starts" });
        }
        if partition.first < first_usable || partition.last > last_usable {
            return Err(GptError::Entry { number, what: "it lies outside the usable sectors" });
        }
        taken.push((partition.first, partition.last, number));
    }
    taken.sort_unstable();
    match taken.windows(2).find(|pair| pair[1].0 <= pair[0].1) {
        Some(pair) => Err(GptError::Entry { number: pair[1].2, what: "it overlaps another one" }),
        None => Ok(()),
    }
}

fn read_at(disk: &mut (impl Read + Seek), at: u64, into: &mut [u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(at))?;
    disk.read_exact(into)
}

fn write_at(disk: &mut (impl Write + Seek), at: u64, bytes: &[u8]) -> io::Result<()> {
    disk.seek(SeekFrom::Start(at))?;
    disk.write_all(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |number, &byte| (number << 8) | u32::from(byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

fn guid_at(bytes: &[u8], at: usize) -> Guid {
    let mut guid = [0; 16];
    guid.copy_from_slice(&bytes[at..at + 16]);
    Guid(guid)
}

/// CRC-32 as in IEEE 802.3, bit by bit: a table costs more than hashing 17 KiB four times a boot.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
#[path = "gpt_tests.rs"]
mod tests;
