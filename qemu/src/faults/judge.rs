//! Whether a machine comes back from a disk, by the code of machines and without a boot.

use super::recording::{Lab, Recording};
use crate::disk;
use anyhow::{Context, Result, anyhow, bail, ensure};
use berth_apply::cuts::Memory;
use berth_apply::{Medium, SlotMedia};
use berth_image::disk::Disk;
use berth_updater::gpt::Table;
use berth_updater::layout::{self, Part, Slot};
use berth_updater::record::{REC0_AT, REC1_AT, Record, SECTOR, TRIES, Trial};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Where ext4 has its magic number, and what that is (Documentation/filesystems/ext4/super.rst).
const EXT4_MAGIC_AT: u64 = 1024 + 0x38;
const EXT4_MAGIC: [u8; 2] = [0x53, 0xef];

/// Judges disks of the recorded machine. What it found out about one is kept for the next, as most differ elsewhere.
pub(super) struct Judge<'r> {
    lab: &'r Lab,
    recording: &'r Recording,
    /// Where each partition is, bytes.
    places: Vec<Range<u64>>,
    /// Which slots the boot loader would start, and the disk that this was found on.
    held: Option<(Memory, [bool; 2])>,
    /// What is wrong with slot B, and the disk that this was found on.
    checked: Option<(Memory, Result<(), String>)>,
}

impl<'r> Judge<'r> {
    pub(super) fn new(lab: &'r Lab, recording: &'r Recording) -> Result<Judge<'r>> {
        let disk = Disk::open(&recording.before)?;
        let entries = disk.table().entries.iter().flatten();
        let places = entries.map(|part| part.first * 512..(part.last + 1) * 512).collect();
        Ok(Judge { lab, recording, places, held: None, checked: None })
    }

    fn place(&self, part: Part) -> Range<u64> {
        self.places.get(part.number as usize - 1).cloned().unwrap_or_default()
    }

    /// The slot that the boot loader would start; an error if that is not one that runs, or if what should never be
    /// written to was.
    pub(super) fn judge(&mut self, disk: &Memory) -> Result<Slot> {
        let found = Table::read(&mut Reader { disk, at: 0 }, 512, disk.bytes() / 512);
        let found = found.context("the partition table")?;
        ensure!(
            found.primary.is_none() && found.backup.is_none(),
            "a copy of the partition table is damaged"
        );
        let mut magic = [0; 2];
        disk.read(self.place(layout::STATE).start + EXT4_MAGIC_AT, &mut magic)?;
        ensure!(magic == EXT4_MAGIC, "the state partition has no file system");
        for part in [layout::PARTS[0], Slot::A.root(), Slot::A.verity()] {
            ensure!(
                pages(disk, &self.place(part)).next().is_none(),
                "partition {} was written to",
                part.label
            );
        }
        let shared = RefCell::new(disk.clone());
        let record = read_record(&mut self.part(&shared, layout::RECORD))?;
        let record = record.context("both copies of the boot record are damaged")?;
        let [a, b] = self.held(disk)?;
        ensure!(a, "the boot loader would refuse slot A");
        match (record.good, record.trial) {
            (Slot::A, None) => {
                if b && !(self.recording.older && self.is_untouched(disk)) {
                    self.check(disk).context("slot B would be started if slot A failed")?;
                }
                Ok(Slot::A)
            }
            (Slot::A, Some(Trial { slot: Slot::B, tries: 1.. })) | (Slot::B, None) => {
                ensure!(b, "slot B is to be started, and the boot loader would refuse it");
                self.check(disk).context("slot B is to be started")?;
                Ok(Slot::B)
            }
            (good, trial) => bail!("slot {good} is good, and on trial is {trial:?}: no part of the update"),
        }
    }

    /// Takes the update from there with the code of machines, as far as it is not taken yet; then slot B would be started.
    pub(super) fn finish(&mut self, disk: Memory) -> Result<()> {
        let shared = RefCell::new(disk);
        let mut record = self.part(&shared, layout::RECORD);
        if read_record(&mut record)?.is_none_or(|record| record.good == Slot::A) {
            self.update(&shared)?;
            put_on_trial(&mut record)?;
        }
        let after = self.judge(&shared.into_inner()).context("after the update was finished")?;
        ensure!(after == Slot::B, "the update was finished, and slot {after} would be started");
        Ok(())
    }

    fn update(&self, disk: &RefCell<Memory>) -> Result<()> {
        let Lab { folder, offer, server, running, .. } = self.lab;
        let [mut root, mut verity] = [Slot::B.root(), Slot::B.verity()].map(|part| self.part(disk, part));
        let mut esp = self.part(disk, layout::ESP);
        let (root, verity, esp) = (&mut root, &mut verity, &mut esp);
        let mut to = SlotMedia { slot: Slot::B, root, verity, esp, running: Some(*running) };
        // Of its own, as several are under way at once.
        let notes = tempfile::tempdir_in(folder.path())?;
        berth_apply::apply(offer, &mut server.clone(), &mut to, notes.path(), &mut |_| {})?;
        Ok(())
    }

    /// Whether the boot loader would start slot A, and slot B.
    fn held(&mut self, disk: &Memory) -> Result<[bool; 2]> {
        let place = self.place(layout::ESP);
        if let Some((_, held)) = self.held.as_ref().filter(|(of, _)| same(of, disk, &place)) {
            return Ok(*held);
        }
        let shared = RefCell::new(disk.clone());
        let mut esp = self.part(&shared, layout::ESP);
        let held = [berth_apply::holds(&mut esp, Slot::A)?, berth_apply::holds(&mut esp, Slot::B)?];
        self.held = Some((disk.clone(), held));
        Ok(held)
    }

    /// Whether slot B holds the release: every block of it.
    fn check(&mut self, disk: &Memory) -> Result<()> {
        let parts = [Slot::B.root(), Slot::B.verity(), layout::ESP];
        let alike = |of: &Memory| parts.iter().all(|part| same(of, disk, &self.place(*part)));
        let outcome = match self.checked.as_ref().filter(|(of, _)| alike(of)) {
            Some((_, outcome)) => outcome.clone(),
            None => {
                let shared = RefCell::new(disk.clone());
                let [mut root, mut verity, mut esp] = parts.map(|part| self.part(&shared, part));
                let (root, verity, esp) = (&mut root, &mut verity, &mut esp);
                let mut of = SlotMedia { slot: Slot::B, root, verity, esp, running: None };
                berth_apply::check(&self.lab.offer, &mut of, &mut |_| {}).map_err(|error| error.to_string())
            }
        };
        let result = outcome.clone().map_err(|error| anyhow!("slot B is not whole: {error}"));
        self.checked = Some((disk.clone(), outcome));
        result
    }

    /// What slot B's partitions held before is all there.
    fn is_untouched(&self, disk: &Memory) -> bool {
        let untouched = |part| pages(disk, &self.place(part)).next().is_none();
        untouched(Slot::B.root()) && untouched(Slot::B.verity())
    }

    /// e2fsck's automatic mode finds nothing in the state partition that takes a decision, which is how it speaks of a loss.
    pub(super) fn mend_state(&self, disk: &Memory) -> Result<()> {
        let place = self.place(layout::STATE);
        let file = tempfile::Builder::new().prefix("state-").tempfile_in(self.lab.folder.path())?;
        copy_out(disk, &place, file.as_file())?;
        disk::mend_ext4(&self.lab.tools, file.path()).context("the state partition")
    }

    fn part<'d>(&self, disk: &'d RefCell<Memory>, part: Part) -> Within<'d> {
        Within { disk, place: self.place(part) }
    }
}

/// The pages of a place that were written: where on the disk, and what is there. Places are whole pages.
fn pages<'m>(disk: &'m Memory, place: &Range<u64>) -> impl Iterator<Item = (u64, &'m [u8])> + use<'m> {
    let place = place.clone();
    disk.pages().filter(move |(at, _)| place.contains(at))
}

/// Whether two disks share what was written to a place. (Where they do not, they may be alike all the same.)
fn same(one: &Memory, other: &Memory, place: &Range<u64>) -> bool {
    let identity = |(at, bytes): (u64, &[u8])| (at, bytes.as_ptr());
    pages(one, place).map(identity).eq(pages(other, place).map(identity))
}

/// Writes a place of a disk to an empty file; zeros stay holes.
fn copy_out(disk: &Memory, place: &Range<u64>, to: &File) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 1 << 16];
    to.set_len(place.end - place.start)?;
    let mut at = place.start;
    while at < place.end {
        let length = usize::try_from((place.end - at).min(buffer.len() as u64))?;
        let part = &mut buffer[..length];
        disk.read(at, part)?;
        if part.iter().any(|&byte| byte != 0) {
            to.write_all_at(part, at - place.start)?;
        }
        at += length as u64;
    }
    Ok(())
}

fn read_record(record: &mut dyn Medium) -> Result<Option<Record>> {
    let (mut rec0, mut rec1) = ([0; SECTOR], [0; SECTOR]);
    record.read_at(REC0_AT, &mut rec0)?;
    record.read_at(REC1_AT, &mut rec1)?;
    Ok(Record::choose(&rec0, &rec1).0)
}

/// As PID 1 does it: the record, synced; its copy, synced.
fn put_on_trial(medium: &mut dyn Medium) -> Result<()> {
    let record = read_record(medium)?.context("there is no boot record")?;
    let trial = Some(Trial { slot: Slot::B, tries: TRIES });
    let sector = Record { trial, said: String::new(), ..record }.to_sector();
    for at in [REC0_AT, REC1_AT] {
        medium.write_at(at, &sector)?;
        medium.flush()?;
    }
    Ok(())
}

/// A partition of a disk; several can be held at once.
struct Within<'d> {
    disk: &'d RefCell<Memory>,
    place: Range<u64>,
}

impl Within<'_> {
    fn at(&self, at: u64, length: usize) -> io::Result<u64> {
        let place = self.place.start.checked_add(at);
        let fits = |start: &u64| start.checked_add(length as u64).is_some_and(|end| end <= self.place.end);
        place
            .filter(fits)
            .ok_or_else(|| io::Error::other(format!("{length} bytes at {at} are beyond the end")))
    }
}

impl Medium for Within<'_> {
    fn bytes(&self) -> u64 {
        self.place.end - self.place.start
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.borrow().read(self.at(at, buffer.len())?, buffer)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.borrow_mut().write_at(self.at(at, bytes.len())?, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn forget(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk, read from the start to the end.
struct Reader<'m> {
    disk: &'m Memory,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.disk.bytes().saturating_sub(self.at);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.disk.read(self.at, &mut buffer[..length])?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.disk.bytes().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::other("before the start"))?;
        Ok(self.at)
    }
}
