//! The ESP, for one purpose: to replace the three files of one slot in `EFI/berth`, and to touch nothing else.
//!
//! All of it is looked at first, and whatever is not one of these files is somebody else's: its clusters are never
//! written, nor its entries in FAT and folders. A file of ours is its chain of clusters as far as that is sound: until
//! it ends, or reaches a cluster that is free, invalid, somebody else's or there before.
//!
//! Writes come in an order in which a power cut leaves nothing behind that belongs to nobody:
//!
//! * a chain grows by linking first: the entry that leads to a free cluster, then that cluster's own. Cut, the chain
//!   breaks off at a free cluster, which is not part of it;
//! * a chain shrinks from its end;
//! * a new file's entry comes before its clusters;
//! * between two sectors of the FAT all is synced, and every copy of it gets the same sector.
//!
//! What a cut can leave is then a chain that breaks off, a size that does not fit it, copies of the FAT that differ, and
//! a wrong count of free clusters: all in or about the slot's own files, and put right by the next [`Esp::shape`] and
//! [`Esp::finish`].

mod folder;
mod geometry;
mod table;

use crate::limits;
use crate::medium::Medium;
use berth_updater::boot_files::BootFile;
use berth_updater::layout::Slot;
use folder::{ENTRY, Entry, Free};
use geometry::{Geometry, SECTOR, SECTOR_LEN};
use std::io;
use table::{END, Next, Owner, Table};

/// How many files a slot has.
const FILES: usize = BootFile::ALL.len();
/// Their names, as entries have them.
type SlotNames = [[u8; 11]; FILES];

/// Why the ESP is not written.
#[derive(Debug, thiserror::Error)]
pub enum EspError {
    /// Not a file system that is written here.
    #[error(
        "the ESP is not a FAT32 that can be written: {0}; this machine needs a disk that was installed anew"
    )]
    NotFat32(&'static str),
    /// Something in it contradicts itself.
    #[error(
        "the ESP is damaged: {0}; run fsck.fat on its second partition from another system, or install the disk anew"
    )]
    Damaged(String),
    /// No room.
    #[error(
        "the ESP has room for {room} bytes of slot {slot}, and the release needs {needed}; remove from it what is not Berth's, or install the disk anew"
    )]
    Full {
        /// Whose files.
        slot: Slot,
        /// What they would need, bytes.
        needed: u64,
        /// What they could have, bytes.
        room: u64,
    },
    /// The disk.
    #[error("the ESP could not be read: {0}; if it happens again, the disk is to be replaced")]
    Read(io::Error),
    /// The disk.
    #[error("the ESP could not be written: {0}; if it happens again, the disk is to be replaced")]
    Write(io::Error),
}

impl EspError {
    fn damaged(why: impl Into<String>) -> EspError {
        EspError::Damaged(why.into())
    }
}

/// A file of the slot.
#[derive(Debug, Default)]
struct File {
    entry: Option<Entry>,
    /// Its clusters, as far as they are sound.
    chain: Vec<u32>,
    /// The free cluster to which the last one leads, or the entry if there is none.
    leads_to: Option<u32>,
    /// The last one ends the chain, as it should.
    ends: bool,
}

/// An ESP that was looked at, open for the files of one slot.
pub struct Esp<'m> {
    medium: &'m mut dyn Medium,
    slot: Slot,
    geometry: Geometry,
    table: Table,
    names: SlotNames,
    files: [File; FILES],
    free_entries: Vec<Free>,
}

impl std::fmt::Debug for Esp<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Esp(slot {}, {:?})", self.slot, self.files)
    }
}

fn name_of(file: BootFile, slot: Slot) -> [u8; 11] {
    let mut name = [b' '; 11];
    name[..1].copy_from_slice(slot.name().to_ascii_uppercase().as_bytes());
    name[8..].copy_from_slice(file.ending().to_ascii_uppercase().as_bytes());
    name
}

impl<'m> Esp<'m> {
    /// Looks at all of it; writes nothing.
    pub fn open(medium: &'m mut dyn Medium, slot: Slot) -> Result<Esp<'m>, EspError> {
        let mut boot = [0; SECTOR_LEN];
        medium.read_at(0, &mut boot).map_err(EspError::Read)?;
        let geometry = Geometry::parse(&boot, medium.bytes())?;
        let mut table = Table::read(medium, &geometry).map_err(EspError::Read)?;
        let names = BootFile::ALL.map(|file| name_of(file, slot));
        let found = folder::walk(medium, &geometry, &mut table, &names)?;
        let files = found.files.map(|entry| follow(&geometry, &mut table, entry));
        Ok(Esp { medium, slot, geometry, table, names, files, free_entries: found.free })
    }

    /// Whose files are written.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    fn file(&self, file: BootFile) -> &File {
        &self.files[file as usize]
    }

    /// Refuses when files of these sizes, in the order of [`BootFile::ALL`], would not fit.
    pub fn has_room(&self, sizes: [u64; FILES]) -> Result<(), EspError> {
        let ours: usize = self.files.iter().map(|file| file.chain.len()).sum();
        let leads = self.files.iter().filter(|file| file.leads_to.is_some()).count();
        let room = (self.table.free().count() + ours + leads) as u64;
        let needed: u64 = sizes.iter().map(|bytes| self.geometry.clusters_of(*bytes)).sum();
        if needed > room || sizes.iter().any(|bytes| *bytes == 0 || u32::try_from(*bytes).is_err()) {
            let bytes = self.geometry.cluster_bytes;
            return Err(EspError::Full { slot: self.slot, needed: needed * bytes, room: room * bytes });
        }
        let new = self.files.iter().filter(|file| file.entry.is_none()).count();
        if self.free_entries.len() < new {
            return Err(EspError::damaged("the folder EFI/berth has no room for the slot's files"));
        }
        Ok(())
    }

    /// Whether a file has this size, and the clusters for it.
    pub fn is_shaped(&self, file: BootFile, bytes: u64) -> bool {
        let file = self.file(file);
        file.ends
            && file.chain.len() as u64 == self.geometry.clusters_of(bytes)
            && file.entry.is_some_and(|entry| u64::from(entry.bytes) == bytes)
    }

    /// The size of a file that is there, whole.
    pub fn whole(&self, file: BootFile) -> Option<u64> {
        let bytes = u64::from(self.file(file).entry?.bytes);
        self.is_shaped(file, bytes).then_some(bytes).filter(|bytes| *bytes > 0)
    }

    /// A file's content, if it is there, whole and not longer than [`limits::SMALL_FILE_BYTES`].
    pub fn read_small(&mut self, file: BootFile) -> Result<Option<Vec<u8>>, EspError> {
        let Some(entry) = self.file(file).entry else { return Ok(None) };
        let bytes = u64::from(entry.bytes);
        if bytes > limits::SMALL_FILE_BYTES || !self.is_shaped(file, bytes) {
            return Ok(None);
        }
        let mut content = vec![0; entry.bytes as usize];
        self.read(file, 0, &mut content)?;
        Ok(Some(content))
    }

    /// Reads from a file that [`Esp::is_shaped`].
    pub fn read(&mut self, file: BootFile, at: u64, buffer: &mut [u8]) -> Result<(), EspError> {
        let mut done = 0;
        for (place, length) in self.extents(file, at, buffer.len())? {
            let part = &mut buffer[done..done + length];
            self.medium.read_at(place, part).map_err(EspError::Read)?;
            done += length;
        }
        Ok(())
    }

    /// Writes into a file, within its clusters.
    pub fn write(&mut self, file: BootFile, at: u64, bytes: &[u8]) -> Result<(), EspError> {
        let mut done = 0;
        for (place, length) in self.extents(file, at, bytes.len())? {
            self.medium.write_at(place, &bytes[done..done + length]).map_err(EspError::Write)?;
            done += length;
        }
        Ok(())
    }

    /// Syncs.
    pub fn flush(&mut self) -> Result<(), EspError> {
        self.medium.flush().map_err(EspError::Write)
    }

    /// The places of a part of a file: neighbours in one.
    fn extents(&self, file: BootFile, at: u64, length: usize) -> Result<Vec<(u64, usize)>, EspError> {
        let size = self.geometry.cluster_bytes;
        let mut extents: Vec<(u64, usize)> = Vec::new();
        let (mut at, mut left) = (at, length);
        while left > 0 {
            let index = usize::try_from(at / size).unwrap_or(usize::MAX);
            let within = at % size;
            let cluster = self.file(file).chain.get(index);
            let cluster = cluster.ok_or_else(|| EspError::damaged("a file is shorter than it says"))?;
            let place = self.geometry.at(*cluster) + within;
            let count = usize::try_from(size - within).unwrap_or(usize::MAX).min(left);
            match extents.last_mut() {
                Some((start, length)) if *start + *length as u64 == place => *length += count,
                _ => extents.push((place, count)),
            }
            at += count as u64;
            left -= count;
        }
        Ok(extents)
    }

    /// Makes the sums fit nothing, before anything else of the slot is changed: one sector, synced.
    pub fn void(&mut self, text: &str) -> Result<(), EspError> {
        let file = self.file(BootFile::Sum);
        if file.entry.is_none() {
            return Ok(());
        }
        if file.chain.is_empty() {
            // What it leads to cannot be written: it gets a cluster of its own.
            return self.shape(BootFile::Sum, text.len() as u64, text.as_bytes());
        }
        self.write_start(BootFile::Sum, text.as_bytes())
    }

    /// Writes a file's first sector, in one write, and syncs it.
    pub fn write_start(&mut self, file: BootFile, start: &[u8]) -> Result<(), EspError> {
        self.write(file, 0, &sector_of(start))?;
        self.flush()
    }

    /// Gives a file this size and the clusters for it, and an entry if it has none. Its content is then what was there,
    /// but for a first cluster that is new: that one holds `start` (at most a sector) before the file leads to it.
    pub fn shape(&mut self, file: BootFile, bytes: u64, start: &[u8]) -> Result<(), EspError> {
        if self.is_shaped(file, bytes) {
            return Ok(());
        }
        let needed = usize::try_from(self.geometry.clusters_of(bytes)).unwrap_or(usize::MAX);
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        let index = file as usize;
        let had = self.files[index].chain.len();
        if had == 0 {
            let new = self.allocate(index, needed)?;
            let first = new.first().copied().unwrap_or_default();
            self.medium.write_at(self.geometry.at(first), &sector_of(start)).map_err(EspError::Write)?;
            self.flush()?;
            self.set_entry(index, first, size)?;
            self.grow(index, &new)?;
        } else if had < needed {
            let new = self.allocate(index, needed - had)?;
            self.grow(index, &new)?;
        } else if had > needed || !self.files[index].ends {
            self.cut(index, needed)?;
        }
        let first = self.files[index].chain.first().copied().unwrap_or_default();
        self.set_entry(index, first, size)
    }

    /// Clusters for a file; the one that it leads to already comes first.
    fn allocate(&self, index: usize, count: usize) -> Result<Vec<u32>, EspError> {
        let leads_to = self.files[index].leads_to;
        let new: Vec<u32> = leads_to.into_iter().chain(self.table.free()).take(count).collect();
        if new.len() < count {
            let bytes = self.geometry.cluster_bytes;
            let (needed, room) = (count as u64 * bytes, new.len() as u64 * bytes);
            return Err(EspError::Full { slot: self.slot, needed, room });
        }
        Ok(new)
    }

    /// Adds clusters to a file's end, each linked to before it is taken.
    fn grow(&mut self, index: usize, new: &[u32]) -> Result<(), EspError> {
        let mut entries = Vec::with_capacity(new.len() + 1);
        let mut last = self.files[index].chain.last().copied();
        for cluster in new {
            entries.extend(last.map(|last| (last, *cluster)));
            last = Some(*cluster);
            self.table.own(*cluster, Owner::Ours);
        }
        entries.extend(last.map(|last| (last, END)));
        self.table.set(self.medium, &entries).map_err(EspError::Write)?;
        let file = &mut self.files[index];
        file.chain.extend_from_slice(new);
        (file.leads_to, file.ends) = (None, true);
        Ok(())
    }

    /// Takes away what a file has beyond so many clusters (one at least), from its end on, and ends it there.
    fn cut(&mut self, index: usize, keep: usize) -> Result<(), EspError> {
        let file = &mut self.files[index];
        let gone = file.chain.split_off(keep);
        let last = file.chain.last().copied();
        let mut entries: Vec<(u32, u32)> = gone.iter().rev().map(|cluster| (*cluster, 0)).collect();
        entries.extend(last.map(|last| (last, END)));
        let leads_to = file.leads_to.take();
        file.ends = true;
        self.table.set(self.medium, &entries).map_err(EspError::Write)?;
        for cluster in gone.into_iter().chain(leads_to) {
            self.table.own(cluster, Owner::Nobody);
        }
        Ok(())
    }

    /// Writes a file's entry: one sector, synced. Nothing when it says so already.
    fn set_entry(&mut self, index: usize, first: u32, bytes: u32) -> Result<(), EspError> {
        let known = self.files[index].entry;
        if known.is_some_and(|entry| (entry.first, entry.bytes) == (first, bytes)) {
            return Ok(());
        }
        let at = match known {
            Some(entry) => entry.at,
            None => self.new_entry()?,
        };
        let name = self.names[index];
        self.change_sector(at, |entry| {
            if known.is_none() {
                entry.copy_from_slice(&folder::new_entry(&name));
            }
            folder::set_entry(entry, first, bytes);
        })?;
        self.files[index].entry = Some(Entry { at, first, bytes });
        Ok(())
    }

    /// Takes a place for an entry. Where it ended the folder, the one behind it does so from now on.
    fn new_entry(&mut self) -> Result<u64, EspError> {
        if self.free_entries.is_empty() {
            return Err(EspError::damaged("the folder EFI/berth has no room for the slot's files"));
        }
        let free = self.free_entries.remove(0);
        if let Some(behind) = free.ends {
            self.change_sector(behind, |entry| entry[0] = 0)?;
        }
        Ok(free.at)
    }

    fn change_sector(&mut self, at: u64, change: impl FnOnce(&mut [u8])) -> Result<(), EspError> {
        let start = at - at % SECTOR;
        let within = usize::try_from(at - start).unwrap_or_default();
        let mut sector = [0; SECTOR_LEN];
        self.medium.read_at(start, &mut sector).map_err(EspError::Read)?;
        let before = sector;
        change(&mut sector[within..within + ENTRY]);
        if sector != before {
            self.medium.write_at(start, &sector).map_err(EspError::Write)?;
            self.flush()?;
        }
        Ok(())
    }

    /// The rest of what makes a sound file system of it: the other copies of the FAT, the count of free clusters.
    pub fn finish(&mut self) -> Result<(), EspError> {
        self.table.mirror(self.medium).map_err(EspError::Write)?;
        if let Some(at) = self.geometry.info_at {
            let mut sector = [0; SECTOR_LEN];
            self.medium.read_at(at, &mut sector).map_err(EspError::Read)?;
            let count = self.table.free_entries().to_le_bytes();
            let is_info = sector.starts_with(b"RRaA") && sector[484..488] == *b"rrAa";
            if is_info && sector[488..492] != count {
                sector[488..492].copy_from_slice(&count);
                self.medium.write_at(at, &sector).map_err(EspError::Write)?;
            }
        }
        self.flush()
    }
}

/// One sector that starts with this.
fn sector_of(start: &[u8]) -> [u8; SECTOR_LEN] {
    let mut sector = [0; SECTOR_LEN];
    let length = start.len().min(sector.len());
    sector[..length].copy_from_slice(&start[..length]);
    sector
}

/// A file's clusters, as far as they are sound; they are ours from now on.
fn follow(geometry: &Geometry, table: &mut Table, entry: Option<Entry>) -> File {
    let mut file = File { entry, ..File::default() };
    let mut next = entry.map(|entry| entry.first);
    while let Some(cluster) = next.take() {
        if !geometry.has(cluster) || table.owner(cluster) != Owner::Nobody {
            break;
        }
        table.own(cluster, Owner::Ours);
        match table.next(cluster) {
            Next::Free => {
                file.leads_to = Some(cluster);
                break;
            }
            Next::To(further) => next = Some(further),
            Next::End => file.ends = true,
            Next::Invalid => {}
        }
        file.chain.push(cluster);
    }
    file
}
