//! FAT12, FAT16 and FAT32 with long names, as far as finding one file in the root folder needs it.
//!
//! After Microsoft's "FAT: General Overview of On-Disk Format" (1.03). Which of the three a volume is follows from
//! its number of clusters, except that a volume without the 16-bit table size is FAT32, as Linux has it: small FAT32
//! volumes exist.

use crate::disk::{Disk, DiskError, u16_at, u32_at};
use crate::limits;
use std::collections::HashSet;

/// A FAT volume.
pub struct Fat<'a> {
    disk: &'a Disk,
    width: Width,
    cluster: u64,
    clusters: u32,
    fat_at: u64,
    fat_len: u64,
    root: Root,
    data_at: u64,
    boot_label: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

#[derive(Debug, Clone, Copy)]
enum Root {
    Area { at: u64, len: u64 },
    Chain(u32),
}

/// An entry of the root folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    name: String,
    folder: bool,
    first: u32,
    size: u32,
}

const ENTRY: usize = 32;
const ATTR_LABEL: u8 = 0x08;
const ATTR_FOLDER: u8 = 0x10;
const ATTR_LONG: u8 = 0x0f;

impl<'a> Fat<'a> {
    /// Reads the boot sector; `None` if this is no FAT volume.
    pub fn open(disk: &'a Disk) -> Result<Option<Self>, DiskError> {
        if disk.size() < 512 {
            return Ok(None);
        }
        let boot = disk.read(0, 512)?;
        let sector = u64::from(u16_at(&boot, 11));
        let per_cluster = boot[13];
        let reserved = u64::from(u16_at(&boot, 14));
        let fats = u64::from(boot[16]);
        let jump = boot[0] == 0xeb || boot[0] == 0xe9;
        if u16_at(&boot, 510) != 0xaa55
            || !jump
            || !matches!(sector, 512 | 1024 | 2048 | 4096)
            || !per_cluster.is_power_of_two()
            || reserved == 0
            || !(1..=2).contains(&fats)
            || boot[21] < 0xf0
        {
            return Ok(None);
        }
        let either = |short: usize, long: usize| match u16_at(&boot, short) {
            0 => u64::from(u32_at(&boot, long)),
            n => u64::from(n),
        };
        let total = either(19, 32);
        let fat_sectors = either(22, 36);
        let root_sectors = (u64::from(u16_at(&boot, 17)) * ENTRY as u64).div_ceil(sector);
        let data_sector = reserved + fats * fat_sectors + root_sectors;
        if fat_sectors == 0 || total <= data_sector {
            return Ok(None);
        }
        let clusters = (total - data_sector) / u64::from(per_cluster);
        let width = match clusters {
            _ if u16_at(&boot, 22) == 0 => Width::ThirtyTwo,
            0..4085 => Width::Twelve,
            4085..65_525 => Width::Sixteen,
            _ => return Ok(None),
        };
        let Ok(clusters) = u32::try_from(clusters) else { return Ok(None) };
        let extended = if width == Width::ThirtyTwo { 66 } else { 38 };
        let boot_label =
            if boot[extended] == 0x29 { label(&boot[extended + 5..extended + 16]) } else { String::new() };
        Ok(Some(Self {
            disk,
            width,
            cluster: u64::from(per_cluster) * sector,
            clusters,
            fat_at: reserved * sector,
            fat_len: fat_sectors * sector,
            root: if width == Width::ThirtyTwo {
                Root::Chain(u32_at(&boot, 44))
            } else {
                Root::Area { at: (reserved + fats * fat_sectors) * sector, len: root_sectors * sector }
            },
            data_at: data_sector * sector,
            boot_label,
        }))
    }

    /// The volume's labels: the boot sector's and the root folder's. Either may be missing, and tools that change
    /// one forget the other.
    pub fn labels(&self) -> Result<Vec<String>, DiskError> {
        let root = self.root_folder().map(|bytes| {
            let (entries, _) = bytes.as_chunks::<ENTRY>();
            let is_label =
                |e: &&[u8; ENTRY]| e[11] & 0x3f & ATTR_LONG != ATTR_LONG && e[11] & ATTR_LABEL != 0;
            entries
                .iter()
                .take_while(|e| e[0] != 0)
                .filter(|e| e[0] != 0xe5)
                .find(is_label)
                .map(|e| label(&e[..11]))
        });
        let mut labels = vec![self.boot_label.clone()];
        match root {
            Ok(label) => labels.extend(label),
            // With the right label in the boot sector, the damage will be told by whoever looks for a file.
            Err(e) if self.boot_label.is_empty() => return Err(e),
            Err(_) => {}
        }
        labels.retain(|label| !label.is_empty());
        Ok(labels)
    }

    /// Finds a file by its path from the root folder (`openstack/latest/user_data`), by long or short names, as FAT does: upper
    /// and lower case are the same.
    pub fn find(&self, path: &str) -> Result<Option<File>, DiskError> {
        let mut folder = self.root_folder()?;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            let found = files(&folder).into_iter().find(|file| file.name.eq_ignore_ascii_case(name));
            match found {
                Some(file) if names.peek().is_none() => return Ok(Some(file)),
                Some(file) if file.folder => folder = self.chain(file.first, limits::FOLDER_BYTES)?,
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Reads a file whole.
    pub fn read(&self, file: &File, most: u64) -> Result<Vec<u8>, DiskError> {
        if file.folder {
            return Err(DiskError::Unusable(format!("{} is a folder", file.name)));
        }
        if u64::from(file.size) > most {
            return Err(DiskError::Unusable(format!(
                "{} has {} bytes; at most {most} are read",
                file.name, file.size
            )));
        }
        if file.size == 0 {
            return Ok(Vec::new());
        }
        let size = usize::try_from(file.size).map_err(|_| DiskError::Budget)?;
        let mut bytes = self.chain(file.first, u64::from(file.size))?;
        if bytes.len() < size {
            return Err(DiskError::Damaged(format!(
                "{} has {size} bytes, but its clusters end after {}",
                file.name,
                bytes.len()
            )));
        }
        bytes.truncate(size);
        Ok(bytes)
    }

    fn root_folder(&self) -> Result<Vec<u8>, DiskError> {
        match self.root {
            Root::Area { at, len } => {
                // 65,535 entries are the format's most: 2 MiB. No config volume has them.
                let len = len.min(limits::FOLDER_BYTES);
                self.disk.read(at, usize::try_from(len).map_err(|_| DiskError::Budget)?)
            }
            Root::Chain(first) => self.chain(first, limits::FOLDER_BYTES),
        }
    }

    /// The clusters from `first` on, until `most` bytes are there or the chain ends.
    fn chain(&self, first: u32, most: u64) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::new();
        let mut seen = HashSet::new();
        let mut next = Some(first);
        while let Some(number) = next.filter(|_| (bytes.len() as u64) < most) {
            if number < 2 || number - 2 >= self.clusters {
                return Err(DiskError::Damaged(format!(
                    "a file leads to cluster {number}, which does not exist"
                )));
            }
            if !seen.insert(number) {
                return Err(DiskError::Damaged(format!("a file leads to cluster {number} twice")));
            }
            let at = self.data_at + u64::from(number - 2) * self.cluster;
            let len = usize::try_from(self.cluster).map_err(|_| DiskError::Budget)?;
            bytes.extend(self.disk.read(at, len)?);
            next = self.next(number)?;
        }
        Ok(bytes)
    }

    fn next(&self, number: u32) -> Result<Option<u32>, DiskError> {
        let number = u64::from(number);
        let (at, len) = match self.width {
            Width::Twelve => (number * 3 / 2, 2),
            Width::Sixteen => (number * 2, 2),
            Width::ThirtyTwo => (number * 4, 4),
        };
        if at + len > self.fat_len {
            return Err(DiskError::Damaged(format!("cluster {number} is not in the allocation table")));
        }
        let entry = self.disk.read(self.fat_at + at, usize::from(len == 4) * 2 + 2)?;
        let (value, bad) = match self.width {
            Width::Twelve if number % 2 == 0 => (u32::from(u16_at(&entry, 0) & 0xfff), 0xff7),
            Width::Twelve => (u32::from(u16_at(&entry, 0) >> 4), 0xff7),
            Width::Sixteen => (u32::from(u16_at(&entry, 0)), 0xfff7),
            Width::ThirtyTwo => (u32_at(&entry, 0) & 0x0fff_ffff, 0x0fff_fff7),
        };
        // `bad` marks a bad cluster, anything above it an end.
        if value == bad {
            Err(DiskError::Damaged("a file leads to a bad cluster".to_owned()))
        } else {
            Ok((value < bad).then_some(value))
        }
    }
}

/// A label, or a short name's part: padded with spaces.
fn label(bytes: &[u8]) -> String {
    let text: String =
        bytes.iter().map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '?' }).collect();
    let text = text.trim_end();
    if text == "NO NAME" { String::new() } else { text.to_owned() }
}

/// The files and folders among a folder's entries, long names put together.
fn files(bytes: &[u8]) -> Vec<File> {
    let (entries, _) = bytes.as_chunks::<ENTRY>();
    let mut all = Vec::new();
    let mut long = LongName::default();
    for entry in entries.iter().take_while(|e| e[0] != 0) {
        if entry[0] == 0xe5 {
            long = LongName::default();
        } else if entry[11] & 0x3f == ATTR_LONG {
            long.add(entry);
        } else {
            let name = std::mem::take(&mut long).finish(entry).unwrap_or_else(|| short_name(entry));
            if entry[11] & ATTR_LABEL == 0 {
                all.push(File {
                    name,
                    folder: entry[11] & ATTR_FOLDER != 0,
                    first: u32::from(u16_at(entry, 20)) << 16 | u32::from(u16_at(entry, 26)),
                    size: u32_at(entry, 28),
                });
            }
        }
    }
    all
}

fn short_name(entry: &[u8; ENTRY]) -> String {
    let (name, extension) = (label(&entry[..8]), label(&entry[8..11]));
    if extension.is_empty() { name } else { format!("{name}.{extension}") }
}

/// A long name lies in up to 20 entries before the short one, last piece first, tied to it by a checksum.
#[derive(Default)]
struct LongName {
    pieces: Vec<[u16; 13]>,
    expected: u8,
    checksum: u8,
}

impl LongName {
    fn add(&mut self, entry: &[u8; ENTRY]) {
        let order = entry[0];
        let number = order & 0x1f;
        if order & 0x40 != 0 && (1..=20).contains(&number) {
            *self = Self { pieces: Vec::new(), expected: number, checksum: entry[13] };
        }
        if self.expected == 0 || number != self.expected || entry[13] != self.checksum {
            *self = Self::default();
            return;
        }
        let mut piece = [0; 13];
        let offsets = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
        for (unit, at) in piece.iter_mut().zip(offsets) {
            *unit = u16_at(entry, at);
        }
        self.pieces.push(piece);
        self.expected -= 1;
        if self.expected == 0 {
            // Complete: anything but the short entry now would be out of order.
            self.expected = u8::MAX;
        }
    }

    fn finish(self, short: &[u8; ENTRY]) -> Option<String> {
        let sum = short[..11].iter().fold(0_u8, |sum, b| sum.rotate_right(1).wrapping_add(*b));
        if self.expected != u8::MAX || sum != self.checksum {
            return None;
        }
        let units: Vec<u16> = self.pieces.iter().rev().flatten().copied().take_while(|u| *u != 0).collect();
        Some(String::from_utf16_lossy(&units))
    }
}

/// For fuzzing: everything that is ever done with a volume.
pub fn fuzz(bytes: &[u8]) {
    let disk = Disk::from_bytes(bytes);
    if let Ok(Some(fat)) = Fat::open(&disk) {
        let _ = fat.labels();
        for path in ["user-data", "openstack/latest/user_data"] {
            if let Ok(Some(file)) = fat.find(path) {
                let _ = fat.read(&file, limits::ENCODED_BYTES);
            }
        }
    }
}

#[cfg(test)]
mod tests;
