//! The FAT, held in memory, with who owns which cluster; and writes to it in an order that a power cut cannot harm.

use super::geometry::{Geometry, SECTOR, SECTOR_LEN};
use crate::medium::Medium;
use std::io;

/// The last cluster of a file.
pub const END: u32 = 0x0fff_ffff;
/// From here on an entry ends a file.
const ENDS: u32 = 0x0fff_fff8;
/// The bits of an entry that mean something; the others are kept.
const BITS: u32 = 0x0fff_ffff;
/// Entries of a sector.
const PER_SECTOR: u32 = 128;
/// Bytes compared at once when copies are brought together.
const COMPARE_BYTES: usize = 64 << 10;

/// Whose a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Nobody's that was found: free, or lost, as its entry says.
    Nobody,
    /// Of a file or folder that is not to be touched, or the cluster at which such a one's chain breaks off.
    Other,
    /// Of the slot's files.
    Ours,
}

/// Where an entry leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nowhere: the cluster is free.
    Free,
    /// It is the last one.
    End,
    /// To another cluster of the file system.
    To(u32),
    /// Nowhere that there is.
    Invalid,
}

/// The FAT and the owners.
#[derive(Debug)]
pub struct Table {
    geometry: Geometry,
    bytes: Vec<u8>,
    owners: Vec<Owner>,
}

impl Table {
    /// Reads the first FAT. Nobody owns anything yet.
    pub fn read(medium: &mut dyn Medium, geometry: &Geometry) -> io::Result<Table> {
        let mut bytes = vec![0; usize::try_from(geometry.fat_bytes).unwrap_or_default()];
        medium.read_at(geometry.fat_at, &mut bytes)?;
        let owners = vec![Owner::Nobody; geometry.clusters as usize];
        Ok(Table { geometry: geometry.clone(), bytes, owners })
    }

    fn entry(&self, cluster: u32) -> u32 {
        let at = cluster as usize * 4;
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |raw| u32::from_le_bytes(*raw))
    }

    /// Where a cluster leads.
    pub fn next(&self, cluster: u32) -> Next {
        match self.entry(cluster) & BITS {
            0 => Next::Free,
            ENDS.. => Next::End,
            next if self.geometry.has(next) => Next::To(next),
            _ => Next::Invalid,
        }
    }

    /// Whose a cluster is.
    pub fn owner(&self, cluster: u32) -> Owner {
        self.owners.get(cluster.wrapping_sub(2) as usize).copied().unwrap_or(Owner::Other)
    }

    /// Says whose it is.
    pub fn own(&mut self, cluster: u32, owner: Owner) {
        if let Some(place) = self.owners.get_mut(cluster.wrapping_sub(2) as usize) {
            *place = owner;
        }
    }

    /// Clusters that nobody uses, from the lowest on.
    pub fn free(&self) -> impl Iterator<Item = u32> + '_ {
        (2..self.geometry.clusters + 2)
            .filter(|cluster| self.owner(*cluster) == Owner::Nobody && self.next(*cluster) == Next::Free)
    }

    /// Clusters whose entry says that they are free, whoever else lays claim to them: what FSInfo counts.
    pub fn free_entries(&self) -> u32 {
        let free = (2..self.geometry.clusters + 2).filter(|cluster| self.next(*cluster) == Next::Free);
        u32::try_from(free.count()).unwrap_or(0)
    }

    /// Sets entries, in this order: a sector is written to every FAT and synced before an entry of another one is.
    /// A cut leaves a beginning of the list, and, of what comes next in one sector, all or nothing of each copy.
    pub fn set(&mut self, medium: &mut dyn Medium, entries: &[(u32, u32)]) -> io::Result<()> {
        let same = |one: &(u32, u32), two: &(u32, u32)| one.0 / PER_SECTOR == two.0 / PER_SECTOR;
        for group in entries.chunk_by(same) {
            let Some((first, _)) = group.first() else { continue };
            for (cluster, value) in group {
                put(&mut self.bytes, *cluster as usize * 4, *value);
            }
            let at = u64::from(first / PER_SECTOR) * SECTOR;
            for fat in 0..self.geometry.fats {
                let place = self.geometry.fat_at + fat * self.geometry.fat_bytes + at;
                let mut sector = [0; SECTOR_LEN];
                medium.read_at(place, &mut sector)?;
                for (cluster, value) in group {
                    put(&mut sector, (cluster % PER_SECTOR) as usize * 4, *value);
                }
                medium.write_at(place, &sector)?;
            }
            medium.flush()?;
        }
        Ok(())
    }

    /// Makes the other copies of the FAT say what the first one does, but of others' files: a cut may have come between
    /// them.
    pub fn mirror(&self, medium: &mut dyn Medium) -> io::Result<()> {
        let mut copy = vec![0; COMPARE_BYTES];
        for fat in 1..self.geometry.fats {
            let start = self.geometry.fat_at + fat * self.geometry.fat_bytes;
            for (index, piece) in self.bytes.chunks(COMPARE_BYTES).enumerate() {
                let at = index * COMPARE_BYTES;
                let copy = &mut copy[..piece.len()];
                medium.read_at(start + at as u64, copy)?;
                let sectors = copy.chunks_mut(SECTOR_LEN).zip(piece.chunks(SECTOR_LEN));
                for (number, (there, here)) in sectors.enumerate() {
                    let at = at + number * SECTOR_LEN;
                    if there != here && self.mend(at, there, here) {
                        medium.write_at(start + at as u64, there)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Of one sector of the FAT, `at` bytes from its start; whether anything changed.
    fn mend(&self, at: usize, there: &mut [u8], here: &[u8]) -> bool {
        let mut changed = false;
        for (number, (there, here)) in there.chunks_mut(4).zip(here.chunks(4)).enumerate() {
            let cluster = u32::try_from(at / 4 + number).unwrap_or(0);
            if self.owner(cluster) != Owner::Other && there != here {
                there.copy_from_slice(here);
                changed = true;
            }
        }
        changed
    }
}

/// Changes an entry, but for its upper bits.
fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(raw) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        let kept = u32::from_le_bytes(*raw) & !BITS;
        *raw = (kept | (value & BITS)).to_le_bytes();
    }
}
