//! The boot record partition as PID 1 sees it: the record, and the step record of each slot.
//!
//! Sectors are read and written with `O_DIRECT`, as GRUB reads what is on the disk. A step's name is not flushed
//! further: what kills a step kills the machine but not its disk, and after a power cut the step is no news. The
//! record itself is flushed.

use super::reset::Ask;
use super::{console, limits};
use crate::sys::child;
use berth_updater::layout::Slot;
use berth_updater::record::{REC0_AT, REC1_AT, Record, SECTOR, TRIES, Trial};
use berth_updater::steps::{Status, StepRecord, step_at};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A sector in memory, aligned for `O_DIRECT`.
#[repr(align(4096))]
struct Aligned([u8; SECTOR]);

/// The open partition.
#[derive(Debug)]
pub struct RecordStore {
    file: Option<File>,
    path: PathBuf,
    now: StepRecord,
    complained: bool,
}

impl RecordStore {
    /// Opens the partition; `slot` is the running one. Its boot counter goes up by one over what the partition says.
    pub fn open(path: &Path, slot: Slot) -> io::Result<RecordStore> {
        let file = open_direct(path)?;
        let last = read_step(&file, slot);
        let boot = last.as_ref().map_or(0, |step| step.boot) + 1;
        let bad_before = last.map_or(0, |step| step.bad_in_a_row());
        let now = StepRecord { bad_before, ..blank(slot, boot) };
        Ok(RecordStore { file: Some(file), path: path.into(), now, complained: false })
    }

    /// As [`RecordStore::open`], for the second stage of the same boot.
    pub fn resume(path: &Path, slot: Slot, boot: u64) -> io::Result<RecordStore> {
        let file = open_direct(path)?;
        let same = read_step(&file, slot).filter(|step| step.boot == boot);
        let now = StepRecord { bad_before: same.map_or(0, |step| step.bad_before), ..blank(slot, boot) };
        Ok(RecordStore { file: Some(file), path: path.into(), now, complained: false })
    }

    /// When there is no such partition: reads find nothing, writes fail, steps are only in memory.
    pub fn missing(slot: Slot) -> RecordStore {
        RecordStore { file: None, path: PathBuf::new(), now: blank(slot, 1), complained: true }
    }

    /// Is there a partition at all?
    pub fn is_present(&self) -> bool {
        self.file.is_some()
    }

    /// The partition's device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Counts this slot's starts.
    pub fn boot(&self) -> u64 {
        self.now.boot
    }

    /// The record, from its copy if need be; the text says what was wrong with the first.
    pub fn read(&self) -> (Option<Record>, Option<String>) {
        let Some(file) = &self.file else {
            return (None, Some("there is no boot record partition".into()));
        };
        match (read_sector(file, REC0_AT), read_sector(file, REC1_AT)) {
            (Ok(first), Ok(second)) => {
                let (record, error) = Record::choose(&first, &second);
                (record, error.map(|error| error.to_string()))
            }
            (first, second) => {
                let record =
                    [&first, &second].into_iter().flatten().find_map(|sector| Record::parse(sector).ok());
                let error =
                    first.err().or(second.err()).map(|error| format!("boot record not read: {error}"));
                (record, error)
            }
        }
    }

    /// Writes the record, flushes, writes its copy, flushes; in a child, as a sick disk may take for ever.
    pub fn write(&self, record: &Record) -> Result<(), String> {
        let Some(file) = &self.file else {
            return Err("there is no boot record partition".into());
        };
        let sector = record.to_sector();
        let work = || {
            [REC0_AT, REC1_AT].into_iter().try_for_each(|at| {
                write_sector(file, at, &sector)
                    .and_then(|()| file.sync_data())
                    .map_err(|error| error.to_string())
            })?;
            Ok(String::new())
        };
        child::run(limits::CHILD, work)
            .map(|_| ())
            .map_err(|error| format!("boot record {} not written: {error}", self.path.display()))
    }

    /// Whether the loader is to start the other slot the next time, on trial. How another system fared in that slot says
    /// nothing about the one that is there now, so its step record goes first.
    pub fn set_trial(&self, on: bool) -> Result<(), String> {
        let (record, trouble) = self.read();
        let Some(record) = record else {
            return Err(trouble.unwrap_or_else(|| "the boot record cannot be read".into()));
        };
        let (own, other) = (self.now.slot, self.now.slot.other());
        if record.good != own {
            return Err(format!("the boot record does not say that slot {own} is good; reboot first"));
        }
        let trial = on.then_some(Trial { slot: other, tries: TRIES });
        let next = Record { trial, said: String::new(), ..record.clone() };
        if on {
            self.forget_step(other)?;
        }
        if next == record { Ok(()) } else { self.write(&next) }
    }

    /// Has the next start do this before anything else.
    pub fn ask(&self, ask: Ask) -> Result<(), String> {
        self.set_ask(ask.word())
    }

    /// What was asked of this start is done.
    pub fn done_as_asked(&self) -> Result<(), String> {
        self.set_ask(String::new())
    }

    fn set_ask(&self, ask: String) -> Result<(), String> {
        let (record, trouble) = self.read();
        let record = record.ok_or_else(|| trouble.unwrap_or_else(|| "there is no boot record".into()))?;
        self.write(&Record { ask, ..record })
    }

    fn forget_step(&self, slot: Slot) -> Result<(), String> {
        let Some(file) = &self.file else { return Err("there is no boot record partition".into()) };
        write_sector(file, step_at(slot), &[0; SECTOR])
            .and_then(|()| file.sync_data())
            .map_err(|error| format!("step record {} not written: {error}", self.path.display()))
    }

    /// Notes what is being done now, before it is done. Never fails outward: a boot must not end for want of notes.
    pub fn step(&mut self, stage: &str, step: &str, status: Status, reason: &str) {
        self.now.stage = stage.into();
        self.now.step = step.into();
        self.now.status = status;
        self.now.reason = reason.into();
        let Some(file) = &self.file else { return };
        if let Err(error) = write_sector(file, step_at(self.now.slot), &self.now.to_sector())
            && !std::mem::replace(&mut self.complained, true)
        {
            console::say("record", format_args!("step record {} not written: {error}", self.path.display()));
        }
    }

    /// As [`RecordStore::step`] for the step that is being done, and flushed: last words. In a child, as the disk may be
    /// what failed, and the reboot that follows must not wait for it.
    pub fn last_words(&mut self, status: Status, reason: &str) {
        self.now.status = status;
        self.now.reason = reason.into();
        let Some(file) = &self.file else { return };
        let work = || {
            write_sector(file, step_at(self.now.slot), &self.now.to_sector())
                .and_then(|()| file.sync_data())
                .map(|()| String::new())
                .map_err(|error| error.to_string())
        };
        if let Err(error) = child::run(limits::LAST_WORDS, work)
            && !std::mem::replace(&mut self.complained, true)
        {
            console::say("record", format_args!("step record {} not written: {error}", self.path.display()));
        }
    }

    /// Sets what [`RecordStore::last_words`] will be about, and writes nothing.
    pub fn expect_from(&mut self, stage: &str, step: &str) {
        self.now.stage = stage.into();
        self.now.step = step.into();
    }

    /// What is being done now.
    pub fn current(&self) -> &StepRecord {
        &self.now
    }

    /// A slot's step record as the partition has it.
    pub fn read_step(&self, slot: Slot) -> Option<StepRecord> {
        self.file.as_ref().and_then(|file| read_step(file, slot))
    }
}

fn blank(slot: Slot, boot: u64) -> StepRecord {
    StepRecord {
        slot,
        boot,
        stage: "initrd".into(),
        step: "start".into(),
        status: Status::Running,
        reason: String::new(),
        bad_before: 0,
    }
}

fn open_direct(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DIRECT | libc::O_CLOEXEC);
    match options.open(path) {
        // Not every file system of a test has it; every block device does.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            options.custom_flags(libc::O_CLOEXEC).open(path)
        }
        result => result,
    }
}

/// Reads a sector of 512 bytes, on a disk with larger ones as a part of one.
pub fn read_sector(file: &File, at: u64) -> io::Result<[u8; SECTOR]> {
    let mut sector = Aligned([0; SECTOR]);
    match file.read_exact_at(&mut sector.0, at) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let (block, within) = read_block(file, at)?;
            sector.0.copy_from_slice(&block.0[within..within + SECTOR]);
        }
        result => result?,
    }
    Ok(sector.0)
}

/// The same for writing. A disk writes one of its sectors as a whole or not at all, and the other records in it stay what they are.
fn write_sector(file: &File, at: u64, bytes: &[u8; SECTOR]) -> io::Result<()> {
    let sector = Aligned(*bytes);
    match file.write_all_at(&sector.0, at) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let (mut block, within) = read_block(file, at)?;
            block.0[within..within + SECTOR].copy_from_slice(bytes);
            file.write_all_at(&block.0, at - within as u64)
        }
        result => result,
    }
}

/// A sector of a disk whose sectors have 4,096 bytes, aligned for `O_DIRECT`.
#[repr(align(4096))]
struct Block([u8; BLOCK]);

/// Bytes of such a sector.
const BLOCK: usize = 4096;

/// The one in which this place is, and where in it.
fn read_block(file: &File, at: u64) -> io::Result<(Block, usize)> {
    let within = usize::try_from(at % BLOCK as u64).unwrap_or_default();
    let mut block = Block([0; BLOCK]);
    file.read_exact_at(&mut block.0, at - within as u64)?;
    Ok((block, within))
}

fn read_step(file: &File, slot: Slot) -> Option<StepRecord> {
    let sector = read_sector(file, step_at(slot)).ok()?;
    StepRecord::parse(&sector).filter(|step| step.slot == slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut image = Record::fresh(Slot::A).partition_image();
        image.resize(64 * 1024, 0);
        std::fs::write(file.path(), image).unwrap();
        file
    }

    #[test]
    fn what_one_boot_writes_the_next_reads() {
        let disk = partition();
        let mut first = RecordStore::open(disk.path(), Slot::B).unwrap();
        assert_eq!(first.boot(), 1);
        first.step("main", "state", Status::Running, "");
        first.last_words(Status::Failed, "no space");
        let record = Record { starts: 2, ..Record::fresh(Slot::B) };
        first.write(&record).unwrap();

        let next = RecordStore::open(disk.path(), Slot::A).unwrap();
        assert_eq!(next.read(), (Some(record), None));
        let other = next.read_step(Slot::B).unwrap();
        assert_eq!(other.to_string(), "failed in step \"state\": no space");
        assert_eq!(next.read_step(Slot::A), None);
        let mut again = RecordStore::open(disk.path(), Slot::B).unwrap();
        assert_eq!((again.boot(), again.current().bad_before), (2, 1));
        again.step("main", "state", Status::Running, "");
        let mut stage = RecordStore::resume(disk.path(), Slot::B, 2).unwrap();
        assert_eq!(stage.current().bad_before, 1);
        stage.step("main", "event loop", Status::Ok, "");
        assert_eq!(RecordStore::open(disk.path(), Slot::B).unwrap().current().bad_before, 0);
    }

    #[test]
    fn a_trial_begins_with_nothing_known_of_the_slot() {
        let disk = partition();
        let mut other = RecordStore::open(disk.path(), Slot::B).unwrap();
        other.step("main", "healthy", Status::Ok, "");
        let store = RecordStore::open(disk.path(), Slot::A).unwrap();
        store.set_trial(true).unwrap();
        let record = store.read().0.unwrap();
        assert_eq!((record.good, record.trial), (Slot::A, Some(Trial { slot: Slot::B, tries: TRIES })));
        assert_eq!(store.read_step(Slot::B), None);
        store.set_trial(false).unwrap();
        assert_eq!(store.read().0.unwrap(), Record::fresh(Slot::A));
        // The slot that is not good does not decide what is tried.
        assert!(other.set_trial(true).unwrap_err().contains("slot b is good"));
    }

    #[test]
    fn without_a_partition_it_says_so() {
        let mut store = RecordStore::missing(Slot::A);
        store.step("main", "state", Status::Running, "");
        assert!(store.read().1.is_some());
        assert!(store.write(&Record::fresh(Slot::A)).is_err());
    }
}
