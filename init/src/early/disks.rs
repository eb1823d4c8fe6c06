//! Finds the boot disk: the one that carries the root with the hash on the kernel's command line.
//!
//! Partition UUIDs, which follow from the root hash, say where to look; the verity superblock and the top of its
//! tree, which must have that hash, decide. So a second disk with the same names, or an older copy, is not mistaken
//! for it. The backup partition table will do where the primary is damaged, and mends it.

use super::{limits, record, uevents::Uevents};
use crate::sys::early::{block_bytes, reread_partitions, sector_bytes};
use berth_updater::gpt::{Found as FoundTable, Table};
use berth_updater::layout::{self, KIND_RECORD, KIND_VERITY, Slot};
use berth_updater::record::{REC0_AT, REC1_AT, Record};
use berth_updater::verity::{BLOCK, RootHash, Superblock};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A slot's root, found and checked as far as its topmost hash block.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Which slot.
    pub slot: Slot,
    /// The disk's node.
    pub disk: PathBuf,
    /// The root partition's node.
    pub data: PathBuf,
    /// The verity partition's node.
    pub hash: PathBuf,
    /// The boot record partition's node.
    pub record: Option<PathBuf>,
    /// Is there a readable boot record on it?
    pub record_valid: bool,
    /// What the verity partition starts with.
    pub superblock: Superblock,
    /// What is wrong with the disk and does not matter now.
    pub notes: Vec<String>,
}

/// A slot that should be the one, by its partitions' UUIDs, and is not usable.
#[derive(Debug, Clone)]
pub struct Damaged {
    /// Which slot.
    pub slot: Slot,
    /// Where its step record goes.
    pub record: Option<PathBuf>,
    /// What is wrong.
    pub reason: String,
}

/// What a look at all disks gave.
#[derive(Debug, Default)]
pub struct Search {
    /// Usable ones, on however many disks.
    pub candidates: Vec<Candidate>,
    /// Damaged ones.
    pub damaged: Vec<Damaged>,
    /// Each disk that was looked at and what was found, for the message when there is none.
    pub looked: Vec<String>,
}

impl Search {
    /// Looks at every disk that there is now.
    pub fn now(root: &RootHash) -> Search {
        let mut search = Search::default();
        for name in disks() {
            match search.look(&name, root) {
                Ok(()) => {}
                Err(error) => search.looked.push(format!("{name}: {error}")),
            }
        }
        search
    }

    /// The one to use: with a valid boot record if possible, else the first. Also says what else there was.
    pub fn best(&self) -> Option<(&Candidate, Option<String>)> {
        let best =
            self.candidates.iter().find(|candidate| candidate.record_valid).or(self.candidates.first())?;
        let others: Vec<String> = self
            .candidates
            .iter()
            .filter(|candidate| candidate.disk != best.disk)
            .map(|candidate| candidate.disk.display().to_string())
            .collect();
        let note = (!others.is_empty()).then(|| {
            format!("{} carries the same system as {}, which is used", others.join(", "), best.disk.display())
        });
        Some((best, note))
    }

    fn look(&mut self, name: &str, root: &RootHash) -> Result<(), String> {
        let path = PathBuf::from(format!("/dev/{name}"));
        let mut disk = File::open(&path).map_err(|error| error.to_string())?;
        let (table, notes) = read_table(&mut disk, &path)?;
        let record = table.by_kind(KIND_RECORD).map(|(number, _)| partition_node(name, number));
        let (root_uuid, verity_uuid) = layout::slot_uuids(root);

        // By UUID, then whatever else is a verity partition.
        let mut verities: Vec<_> = table.partitions().filter(|(_, part)| part.kind == KIND_VERITY).collect();
        verities.sort_by_key(|(_, part)| part.uuid != verity_uuid);
        for (number, part) in verities {
            let Some(slot) = Slot::ALL.into_iter().find(|slot| slot.verity().label == part.label) else {
                continue;
            };
            let at = part.first * u64::from(table.sector_bytes);
            let claimed = part.uuid == verity_uuid;
            match check_tree(&disk, at, root) {
                Ok(superblock) => {
                    let data = table
                        .by_uuid(root_uuid)
                        .filter(|(_, data)| data.label == slot.root().label)
                        .or_else(|| table.by_label(slot.root().kind, slot.root().label));
                    let Some((data, _)) = data else { continue };
                    self.candidates.push(Candidate {
                        slot,
                        disk: path.clone(),
                        data: partition_node(name, data),
                        hash: partition_node(name, number),
                        record_valid: record.as_deref().is_some_and(has_record),
                        record: record.clone(),
                        superblock,
                        notes: notes.clone(),
                    });
                }
                Err(reason) if claimed => {
                    let reason = format!("partition {} of {}: {reason}", part.label, path.display());
                    self.damaged.push(Damaged { slot, record: record.clone(), reason });
                }
                Err(_) => {}
            }
        }
        if !self.candidates.iter().any(|candidate| candidate.disk == path) {
            self.looked.push(format!("{name}: no root with this hash"));
        }
        Ok(())
    }
}

/// Waits for a device event; false when the time is over.
pub fn wait(uevents: &Uevents, limit: std::time::Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let mut wait = [PollFd::new(uevents.fd(), PollFlags::POLLIN)];
    matches!(poll(&mut wait, timeout), Ok(count) if count > 0)
}

/// Names of whole disks with a medium, none of them made by this kernel itself.
fn disks() -> Vec<String> {
    const OURS: [&str; 6] = ["loop", "ram", "zram", "dm-", "sr", "fd"];
    let entries = std::fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| !entry.path().join("partition").exists())
        .filter(|entry| super::files::line(entry.path().join("size")).is_some_and(|size| size != "0"))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !OURS.iter().any(|prefix| name.starts_with(prefix)))
        .take(limits::DISKS)
        .collect();
    names.sort();
    names
}

/// `vda` and 5 → `/dev/vda5`; `nvme0n1` → `/dev/nvme0n1p5`.
pub fn partition_node(disk: &str, number: usize) -> PathBuf {
    let separator = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("/dev/{disk}{separator}{number}").into()
}

/// Reads a disk's table; if the primary is damaged, writes it again from the backup and has the kernel look again.
fn read_table(disk: &mut File, path: &Path) -> Result<(Table, Vec<String>), String> {
    let bytes = block_bytes(disk).map_err(|error| error.to_string())?;
    let sector = sector_bytes(disk).map_err(|error| error.to_string())?;
    let FoundTable { table, primary, backup } =
        Table::read(disk, sector, bytes / u64::from(sector)).map_err(|error| error.to_string())?;
    let mut notes = Vec::new();
    if let Some(error) = primary {
        // Only what is ours is mended.
        if table.by_kind(KIND_RECORD).is_some() {
            let result = mend(&table, path);
            notes.push(match result {
                Ok(()) => format!("{}: primary {error}; mended from the backup", path.display()),
                Err(why) => format!("{}: primary {error}; not mended: {why}", path.display()),
            });
        }
    } else if let Some(error) = backup
        && bytes / u64::from(sector) == table.disk_sectors
    {
        notes.push(format!("{}: backup {error}; it will be written again", path.display()));
    }
    Ok((table, notes))
}

fn mend(table: &Table, path: &Path) -> io::Result<()> {
    let mut disk = OpenOptions::new().read(true).write(true).open(path)?;
    table.write(&mut disk, |disk| disk.sync_all()).map_err(io::Error::other)?;
    reread_partitions(&disk)
}

/// The superblock and the top of the tree at that place of the disk, if they have this root hash.
fn check_tree(disk: &File, at: u64, root: &RootHash) -> Result<Superblock, String> {
    let mut blocks = vec![0; 2 * BLOCK];
    disk.read_exact_at(&mut blocks, at).map_err(|error| error.to_string())?;
    let superblock = Superblock::parse(&blocks).map_err(|error| error.to_string())?;
    if !superblock.matches(&blocks[BLOCK..], root) {
        return Err("its topmost hash block differs from what was signed".into());
    }
    Ok(superblock)
}

fn has_record(partition: &Path) -> bool {
    let Ok(file) = File::open(partition) else { return false };
    let sectors = [REC0_AT, REC1_AT].map(|at| record::read_sector(&file, at));
    sectors.into_iter().flatten().any(|sector| Record::parse(&sector).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_disks_whose_name_ends_in_a_digit() {
        assert_eq!(partition_node("sda", 5), PathBuf::from("/dev/sda5"));
        assert_eq!(partition_node("nvme0n1", 5), PathBuf::from("/dev/nvme0n1p5"));
    }

    fn candidate(disk: &str, record_valid: bool) -> Candidate {
        Candidate {
            slot: Slot::A,
            disk: disk.into(),
            data: PathBuf::new(),
            hash: PathBuf::new(),
            record: None,
            record_valid,
            superblock: Superblock { uuid: [0; 16], data_blocks: 1, salt: Vec::new() },
            notes: Vec::new(),
        }
    }

    #[test]
    fn of_two_disks_the_one_with_a_record_is_used_and_the_other_is_named() {
        let candidates = vec![candidate("/dev/vda", false), candidate("/dev/vdb", true)];
        let search = Search { candidates, ..Search::default() };
        let (best, note) = search.best().unwrap();
        assert_eq!(best.disk, PathBuf::from("/dev/vdb"));
        assert!(note.unwrap().contains("/dev/vda carries the same system"));
    }
}
