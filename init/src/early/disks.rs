//! Finds the boot disk: the one that carries the root with the hash on the kernel's command line.
//!
//! Partition UUIDs, which follow from the root hash, say where to look; the verity superblock and the top of its
//! tree, which must have that hash, decide. So a second disk with the same names, or an older copy, is not mistaken
//! for it. The backup partition table will do where the primary is damaged, and mends it.
//!
//! Any disk may hang, and most are somebody else's: a child looks, with a thread for each, and what has not answered
//! in time is left out. Only a root that was read and is another one counts as damaged.

use super::{limits, record, uevents::Uevents};
use crate::sys::child;
use crate::sys::early::{block_bytes, reread_partitions, sector_bytes};
use berth_updater::gpt::{Found as FoundTable, Partition, Table};
use berth_updater::layout::{self, KIND_RECORD, KIND_SEED, KIND_VERITY, Slot};
use berth_updater::medium;
use berth_updater::record::{REC0_AT, REC1_AT, Record};
use berth_updater::verity::{BLOCK, RootHash, Superblock};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A slot's root, found and checked as far as its topmost hash block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What its boot record looks like.
    pub trace: Trace,
    /// The same two as places on the disk, when it has no such nodes: a CD, or a stick with other sectors than the ISO's.
    pub extents: Option<[Extent; 2]>,
    /// Where on the installation medium a config may lie, in bytes.
    pub seed: Option<u64>,
    /// What the verity partition starts with.
    pub superblock: Superblock,
    /// What is wrong with the disk and does not matter now.
    pub notes: Vec<String>,
}

/// A part of a disk, in 512-byte sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Extent {
    fn of(part: &Partition, sector_bytes: u32) -> Extent {
        let per = u64::from(sector_bytes) / 512;
        Extent { first: part.first * per, count: part.sectors() * per }
    }
}

/// What a disk's boot record tells of this start. Of two disks with the same system, the one that the boot loader came
/// from is told by it, whatever the firmware: the loader counts a start in the first copy of the record, and the second
/// one follows when the machine is found healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Trace {
    /// There is no readable record.
    None,
    /// No start is being counted.
    Quiet,
    /// A start was counted that has not become healthy: most likely this one.
    Counted,
}

/// A slot that should be the one, by its partitions' UUIDs, and is not usable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Which slot.
    pub slot: Slot,
    /// Where its step record goes.
    pub record: Option<PathBuf>,
    /// What is wrong.
    pub reason: String,
}

/// What a look at all disks gave.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// Usable ones, on however many disks.
    pub candidates: Vec<Candidate>,
    /// Damaged ones.
    pub damaged: Vec<Damaged>,
    /// Those that could not be read now; the next time they may.
    pub unreadable: Vec<Damaged>,
    /// Disks that did not answer in time.
    pub late: Vec<String>,
    /// Nothing is known: a driver that was to be loaded first hangs.
    pub stuck: bool,
    /// Each disk that was looked at and what was found, for the message when there is none.
    pub looked: Vec<String>,
}

impl Search {
    /// Looks at every disk that there is after `drivers` were loaded, which may take `limit`.
    /// `medium`: the loader came from an installation medium, so only those are looked at; else only disks are.
    pub fn now(root: &RootHash, medium: bool, limit: Duration, drivers: impl FnOnce()) -> Search {
        if limit.is_zero() && disks(medium).is_empty() {
            return Search::default();
        }
        let root = *root;
        let names = || {
            drivers();
            disks(medium)
        };
        Search::with(names, [limit, limits::DISK_ANSWER], move |name| Search::of(name, &root, medium))
    }

    /// In a child: what `look` finds on each of these disks, except those that are late.
    fn with(
        names: impl FnOnce() -> Vec<String>,
        [before, limit]: [Duration; 2],
        look: impl Fn(&str) -> Search + Clone + Send + 'static,
    ) -> Search {
        let work = || {
            let (found, late) = child::each(names(), limit, look);
            let mut search = Search { late, ..Search::default() };
            found.into_iter().for_each(|other| search.add(other));
            serde_json::to_string(&search).map_err(|error| error.to_string())
        };
        let answer = child::run(before + limit + limits::DISK_AGAIN, work).map_err(|error| error.to_string());
        let answer = answer.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
        let mut search: Search = answer.unwrap_or_else(|error| Search {
            looked: vec![format!("drivers and disks: {error}")],
            stuck: true,
            ..Search::default()
        });
        let late = search.late.iter().map(|name| format!("{name}: no answer within {} s", limit.as_secs()));
        search.looked.extend(late);
        search
    }

    fn add(&mut self, other: Search) {
        self.candidates.extend(other.candidates);
        self.damaged.extend(other.damaged);
        self.unreadable.extend(other.unreadable);
        self.looked.extend(other.looked);
    }

    fn of(name: &str, root: &RootHash, medium: bool) -> Search {
        let mut search = Search::default();
        if let Err(error) = search.look(name, root, medium) {
            search.looked.push(format!("{name}: {error}"));
        }
        search
    }

    /// Which disks were left out, for the operator.
    pub fn left_out(&self) -> Option<String> {
        let late = self.late.join(", ");
        let limit = limits::DISK_ANSWER.as_secs();
        (!late.is_empty()).then(|| format!("disk {late} did not answer within {limit} s and was left out"))
    }

    /// Is there reason to look again, although no device has appeared?
    pub fn may_change(&self) -> bool {
        self.stuck || !self.late.is_empty() || !self.unreadable.is_empty()
    }

    /// The one to use: where the boot loader counted a start, else one with a valid boot record; of equals the first.
    /// Also says what else there was.
    pub fn best(&self) -> Option<(&Candidate, Option<String>)> {
        // `max_by_key` would take the last of equals.
        let best = self.candidates.iter().rev().max_by_key(|candidate| candidate.trace)?;
        let alone = |trace| self.candidates.iter().filter(|other| other.trace == trace).count() == 1;
        let why = match best.trace {
            Trace::Counted if alone(Trace::Counted) => "the boot loader counted this start there",
            Trace::Quiet if alone(Trace::Quiet) => "it has a boot record",
            _ => "it is the first that was found, and nothing tells which one the boot loader came from",
        };
        let others: Vec<String> = self
            .candidates
            .iter()
            .filter(|candidate| candidate.disk != best.disk)
            .map(|candidate| candidate.disk.display().to_string())
            .collect();
        let note = (!others.is_empty()).then(|| {
            let best = best.disk.display();
            format!("{} carries the same system as {best}, which is used: {why}", others.join(", "))
        });
        Some((best, note))
    }

    fn look(&mut self, name: &str, root: &RootHash, medium: bool) -> Result<(), String> {
        let path = PathBuf::from(format!("/dev/{name}"));
        let mut disk = File::open(&path).map_err(|error| error.to_string())?;
        let (table, notes) =
            if medium { (medium_table(&mut disk)?, Vec::new()) } else { read_table(&mut disk, &path)? };
        let seed = table.by_kind(KIND_SEED).map(|(_, part)| part.first * u64::from(table.sector_bytes));
        if seed.is_some() != medium {
            let what = if medium { "no installation medium" } else { "an installation medium" };
            self.looked.push(format!("{name}: {what}"));
            return Ok(());
        }
        let nodes = sector_bytes(&disk).is_ok_and(|bytes| bytes == table.sector_bytes);
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
                    let Some((data, place)) = data else { continue };
                    let extents = [place, part].map(|part| Extent::of(part, table.sector_bytes));
                    self.candidates.push(Candidate {
                        slot,
                        disk: path.clone(),
                        data: partition_node(name, data),
                        hash: partition_node(name, number),
                        trace: record.as_deref().map_or(Trace::None, trace),
                        record: record.clone(),
                        extents: (!nodes).then_some(extents),
                        seed,
                        superblock,
                        notes: notes.clone(),
                    });
                }
                Err(error) if claimed => {
                    let reason = format!("partition {} of {}: {error}", part.label, path.display());
                    let list = match error {
                        TreeError::Other(_) => &mut self.damaged,
                        TreeError::Io(_) => &mut self.unreadable,
                    };
                    list.push(Damaged { slot, record: record.clone(), reason });
                }
                Err(_) => {}
            }
        }
        if self.candidates.is_empty() {
            self.looked.extend(self.unreadable.iter().map(|part| part.reason.clone()));
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

/// Names of whole disks with a medium, none of them made by this kernel itself. In the order of their places in the
/// machine (controller, port): which of two SATA disks is called `sda` may change from start to start, and of two with
/// the same system the same one is to be used each time.
/// A CD is one only where it may be the medium.
fn disks(medium: bool) -> Vec<String> {
    const OURS: [&str; 5] = ["loop", "ram", "zram", "dm-", "fd"];
    const CD: &str = "sr";
    let entries = std::fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let mut disks: Vec<(PathBuf, String)> = entries
        .filter(|entry| !entry.path().join("partition").exists())
        .filter(|entry| super::files::line(entry.path().join("size")).is_some_and(|size| size != "0"))
        .filter_map(|entry| Some((entry.path().canonicalize().ok()?, entry.file_name().into_string().ok()?)))
        .filter(|(_, name)| !OURS.iter().any(|prefix| name.starts_with(prefix)))
        .filter(|(_, name)| medium || !name.starts_with(CD))
        .take(limits::DISKS)
        .collect();
    disks.sort();
    disks.into_iter().map(|(_, name)| name).collect()
}

/// `vda` and 5 → `/dev/vda5`; `nvme0n1` → `/dev/nvme0n1p5`.
pub fn partition_node(disk: &str, number: usize) -> PathBuf {
    let separator = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("/dev/{disk}{separator}{number}").into()
}

/// A disk's partition table, and what is wrong with either of its copies.
pub fn table(disk: &mut File) -> Result<FoundTable, String> {
    let sector = sector_bytes(disk).map_err(|error| error.to_string())?;
    table_of(disk, sector)
}

/// The same, counted in sectors of so many bytes.
fn table_of(disk: &mut File, sector: u32) -> Result<FoundTable, String> {
    let bytes = block_bytes(disk).map_err(|error| error.to_string())?;
    Table::read(disk, sector, bytes / u64::from(sector)).map_err(|error| error.to_string())
}

/// The table of an installation medium. It counts in sectors of 512 bytes, whatever the medium's are, and ends where the ISO
/// ends; nothing of it is ever mended.
fn medium_table(disk: &mut File) -> Result<Table, String> {
    table_of(disk, medium::SECTOR_BYTES).map(|found| found.table)
}

/// Reads a disk's table; if the primary is damaged, writes it again from the backup and has the kernel look again.
fn read_table(disk: &mut File, path: &Path) -> Result<(Table, Vec<String>), String> {
    let FoundTable { table, primary, backup } = self::table(disk)?;
    let bytes = block_bytes(disk).map_err(|error| error.to_string())?;
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
        && bytes / u64::from(table.sector_bytes) == table.disk_sectors
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

/// Why there is no tree with this root hash.
#[derive(Debug, thiserror::Error)]
enum TreeError {
    /// What was read is something else.
    #[error("{0}")]
    Other(String),
    /// It could not be read.
    #[error("not read: {0}")]
    Io(#[from] io::Error),
}

/// The superblock and the top of the tree at that place of the disk, if they have this root hash.
fn check_tree(disk: &File, at: u64, root: &RootHash) -> Result<Superblock, TreeError> {
    let mut blocks = vec![0; 2 * BLOCK];
    disk.read_exact_at(&mut blocks, at)?;
    let superblock = Superblock::parse(&blocks).map_err(|error| TreeError::Other(error.to_string()))?;
    if !superblock.matches(&blocks[BLOCK..], root) {
        return Err(TreeError::Other("its topmost hash block differs from the root hash".into()));
    }
    Ok(superblock)
}

fn trace(partition: &Path) -> Trace {
    let Ok(file) = File::open(partition) else { return Trace::None };
    let read = |at| record::read_sector(&file, at).ok().and_then(|sector| Record::parse(&sector).ok());
    told([read(REC0_AT), read(REC1_AT)])
}

fn told(records: [Option<Record>; 2]) -> Trace {
    match records {
        [None, None] => Trace::None,
        [Some(first), Some(copy)] if (first.trial, first.starts) != (copy.trial, copy.starts) => {
            Trace::Counted
        }
        _ => Trace::Quiet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_disks_whose_name_ends_in_a_digit() {
        assert_eq!(partition_node("sda", 5), PathBuf::from("/dev/sda5"));
        assert_eq!(partition_node("nvme0n1", 5), PathBuf::from("/dev/nvme0n1p5"));
    }

    fn candidate(disk: &str, trace: Trace) -> Candidate {
        Candidate {
            slot: Slot::A,
            disk: disk.into(),
            data: PathBuf::new(),
            hash: PathBuf::new(),
            record: None,
            trace,
            extents: None,
            seed: None,
            superblock: Superblock { uuid: [0; 16], data_blocks: 1, salt: Vec::new() },
            notes: Vec::new(),
        }
    }

    #[test]
    fn of_two_disks_the_one_that_was_booted_is_used_and_the_other_is_named() {
        let best = |traces: [Trace; 3]| {
            let names = ["/dev/vda", "/dev/vdb", "/dev/vdc"];
            let candidates =
                names.into_iter().zip(traces).map(|(disk, trace)| candidate(disk, trace)).collect();
            let search = Search { candidates, ..Search::default() };
            let (best, note) = search.best().unwrap();
            (best.disk.display().to_string(), note.unwrap())
        };
        use Trace::{Counted, None, Quiet};
        let (disk, note) = best([None, Quiet, None]);
        assert_eq!(disk, "/dev/vdb");
        assert_eq!(
            note,
            "/dev/vda, /dev/vdc carries the same system as /dev/vdb, which is used: it has a boot record"
        );
        let (disk, note) = best([Quiet, Quiet, Counted]);
        assert!(disk == "/dev/vdc" && note.contains("the boot loader counted this start there"), "{note}");
        for equal in [[Quiet; 3], [None; 3], [Counted; 3]] {
            let (disk, note) = best(equal);
            assert!(disk == "/dev/vda" && note.contains("the first that was found"), "{note}");
        }
        assert_eq!(best([Quiet, Counted, Counted]).0, "/dev/vdb");
    }

    #[test]
    fn a_disk_that_hangs_is_left_out_and_named() {
        let look = |name: &str| {
            if name == "sick" {
                child::hang();
            }
            Search { candidates: vec![candidate(name, Trace::Quiet)], ..Search::default() }
        };
        let names = ["sick", "vda"].map(String::from).to_vec();
        let search = Search::with(|| names, [Duration::from_secs(10), Duration::from_millis(200)], look);
        assert_eq!(search.candidates, [candidate("vda", Trace::Quiet)]);
        assert_eq!(search.late, ["sick"]);
        assert!(search.may_change());
        assert!(search.left_out().unwrap().contains("sick"), "{search:?}");

        let search = Search::with(|| child::hang(), [Duration::ZERO; 2], look);
        assert!(search.stuck && search.may_change());
    }

    #[test]
    fn what_cannot_be_read_is_not_damaged() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; BLOCK], 0).unwrap();
        assert!(matches!(check_tree(&file, 0, &[0; 32]), Err(TreeError::Io(_))));
        file.write_all_at(&[7; BLOCK], BLOCK as u64).unwrap();
        assert!(matches!(check_tree(&file, 0, &[0; 32]), Err(TreeError::Other(_))));
    }

    #[test]
    fn a_start_that_is_counted_differs_from_the_copy() {
        let quiet = Record::fresh(Slot::A);
        let counted = Record { starts: 1, ..quiet.clone() };
        let said = Record { said: "b-hash".into(), ..quiet.clone() };
        assert_eq!(told([None, None]), Trace::None);
        assert_eq!(told([None, Some(quiet.clone())]), Trace::Quiet);
        assert_eq!(told([Some(said), Some(quiet.clone())]), Trace::Quiet);
        assert_eq!(told([Some(counted), Some(quiet)]), Trace::Counted);
    }
}
