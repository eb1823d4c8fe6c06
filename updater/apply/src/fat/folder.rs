//! Folders: every entry of the ESP is looked at once, to know whose which cluster is and where the slot's files are.

use super::geometry::Geometry;
use super::table::{Next, Owner, Table};
use super::{EspError, FILES, SlotNames};
use crate::limits;
use crate::medium::Medium;
use std::collections::VecDeque;

/// Bytes of an entry.
pub const ENTRY: usize = 32;
/// Attribute bits.
const VOLUME: u8 = 0x08;
const FOLDER: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;
/// First byte of an entry that was deleted, and of the one behind the last.
const DELETED: u8 = 0xe5;
const LAST: u8 = 0;

/// What the walk found.
#[derive(Debug, Default)]
pub struct Found {
    /// Where the entries of the slot's files are, bytes from the partition's start; in the order of [`FILES`].
    pub files: [Option<Entry>; FILES],
    /// Where the folder has room for an entry.
    pub free: Vec<Free>,
}

/// Room for an entry.
#[derive(Debug, Clone, Copy)]
pub struct Free {
    /// Where it is, bytes from the partition's start.
    pub at: u64,
    /// The folder ends before it, so the entry there has to end it when this one is taken.
    pub ends: Option<u64>,
}

/// An entry of a file.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Where it is, bytes from the partition's start.
    pub at: u64,
    /// The file's first cluster.
    pub first: u32,
    /// Bytes of the file.
    pub bytes: u32,
}

/// Which folder is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Efi,
    Berth,
    Elsewhere,
}

impl Place {
    fn below(self, name: &[u8]) -> Place {
        match (self, name) {
            (Place::Root, b"EFI        ") => Place::Efi,
            (Place::Efi, b"BERTH      ") => Place::Berth,
            _ => Place::Elsewhere,
        }
    }
}

/// Looks at every folder, and makes whatever is not one of the slot's files somebody else's.
pub fn walk(
    medium: &mut dyn Medium,
    geometry: &Geometry,
    table: &mut Table,
    names: &SlotNames,
) -> Result<Found, EspError> {
    let mut waiting = VecDeque::from([(Place::Root, geometry.root)]);
    let mut found = None;
    let mut seen = 0;
    while let Some((place, first)) = waiting.pop_front() {
        seen += 1;
        if seen > limits::FOLDERS {
            return Err(EspError::damaged("it has more than 256 folders"));
        }
        let chain = others(geometry, table, first);
        if chain.len() > limits::FOLDER_CLUSTERS {
            return Err(EspError::damaged("one of its folders is longer than 256 clusters"));
        }
        if place == Place::Berth && found.is_some() {
            return Err(EspError::damaged("the folder EFI/berth is there twice"));
        }
        let mut here = Found::default();
        let mut ended = false;
        look(medium, geometry, &chain, |at, entry, behind| {
            let name = &entry[..11];
            let attributes = entry[11];
            ended |= entry[0] == LAST;
            if ended || entry[0] == DELETED {
                if place == Place::Berth {
                    here.free.push(Free { at, ends: ended.then_some(behind).flatten() });
                }
                return Ok(!ended || place == Place::Berth);
            }
            if attributes & 0x3f == LONG_NAME || attributes & VOLUME != 0 || name[0] == b'.' {
                return Ok(true);
            }
            let first = first_cluster(entry);
            if attributes & FOLDER != 0 {
                waiting.push_back((place.below(name), first));
                return Ok(true);
            }
            let mine = names.iter().position(|mine| place == Place::Berth && mine == name);
            let Some(index) = mine else {
                others(geometry, table, first);
                return Ok(true);
            };
            let bytes = u32::from_le_bytes([entry[28], entry[29], entry[30], entry[31]]);
            match &mut here.files[index] {
                place @ None => *place = Some(Entry { at, first, bytes }),
                Some(_) => return Err(EspError::damaged("one of the slot's files is there twice")),
            }
            Ok(true)
        })?;
        if place == Place::Berth {
            found = Some(here);
        }
    }
    found.ok_or_else(|| EspError::damaged("it has no folder EFI/berth"))
}

/// Calls for each entry: where it is, its bytes, where the next one is. Until that says no.
fn look(
    medium: &mut dyn Medium,
    geometry: &Geometry,
    chain: &[u32],
    mut visit: impl FnMut(u64, &[u8], Option<u64>) -> Result<bool, EspError>,
) -> Result<(), EspError> {
    let mut cluster = vec![0; usize::try_from(geometry.cluster_bytes).unwrap_or_default()];
    for (index, number) in chain.iter().enumerate() {
        let start = geometry.at(*number);
        medium.read_at(start, &mut cluster).map_err(EspError::Read)?;
        for (entry, at) in cluster.chunks_exact(ENTRY).zip((start..).step_by(ENTRY)) {
            let end = at + ENTRY as u64 == start + geometry.cluster_bytes;
            let behind = if end {
                chain.get(index + 1).map(|next| geometry.at(*next))
            } else {
                Some(at + ENTRY as u64)
            };
            if !visit(at, entry, behind)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Follows a chain that is not to be touched and marks it; also the free cluster at which it breaks off, or we might
/// make something of ours part of it.
fn others(geometry: &Geometry, table: &mut Table, first: u32) -> Vec<u32> {
    let mut chain = Vec::new();
    let mut at = first;
    while geometry.has(at) && table.owner(at) == Owner::Nobody {
        table.own(at, Owner::Other);
        let next = table.next(at);
        if next != Next::Free {
            chain.push(at);
        }
        match next {
            Next::To(next) => at = next,
            Next::Free | Next::End | Next::Invalid => break,
        }
    }
    chain
}

/// The first cluster in an entry.
fn first_cluster(entry: &[u8]) -> u32 {
    let half = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
    half(20) << 16 | half(26)
}

/// Puts first cluster and size into an entry.
pub fn set_entry(entry: &mut [u8], first: u32, bytes: u32) {
    let first = first.to_le_bytes();
    entry[20..22].copy_from_slice(&first[2..]);
    entry[26..28].copy_from_slice(&first[..2]);
    entry[28..32].copy_from_slice(&bytes.to_le_bytes());
}

/// A new entry. The date is FAT's first day, as nothing here has a clock; the flags say that both parts of the name are
/// to be read in lower case.
pub fn new_entry(name: &[u8; 11]) -> [u8; ENTRY] {
    const ARCHIVE: u8 = 0x20;
    const LOWER_CASE: u8 = 0x18;
    const FIRST_DAY: [u8; 2] = [0x21, 0];
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(name);
    entry[11] = ARCHIVE;
    entry[12] = LOWER_CASE;
    for at in [16, 18, 24] {
        entry[at..at + 2].copy_from_slice(&FIRST_DAY);
    }
    entry
}
