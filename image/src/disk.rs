//! A whole disk as a file: made empty, filled slot by slot, read back, and damaged for tests.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use berth_updater::bios;
use berth_updater::boot_files::{self, BootFile};
use berth_updater::gpt::{Partition, Table};
use berth_updater::guid::Guid;
use berth_updater::layout::{self, Part, Slot};
use berth_updater::record::{REC0_AT, REC1_AT, Record, SECTOR};
use berth_updater::steps::{self, StepRecord};
use sha2::{Digest as _, Sha256};

use crate::bundle::Bundle;
use crate::esp::Esp;
use crate::grub::{self, Cores};
use crate::limits;
use crate::tools::Tools;

/// Bytes of a sector, everywhere in an image.
const SECTOR_BYTES: u32 = 512;

/// An open disk file.
pub struct Disk {
    path: PathBuf,
    file: File,
    table: Table,
}

impl Disk {
    /// Opens a disk that [`create`] made, for reading and writing.
    pub fn open(path: &Path) -> Result<Disk> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("could not open {}", path.display()))?;
        let sectors = file.metadata()?.len() / u64::from(SECTOR_BYTES);
        let found = Table::read(&mut file, SECTOR_BYTES, sectors)
            .with_context(|| format!("{} is not a disk of ours", path.display()))?;
        Ok(Disk { path: path.to_owned(), file, table: found.table })
    }

    /// Its partition table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn partition(&self, part: Part) -> Result<&Partition> {
        let entry = self.table.entries.get(part.number as usize - 1).and_then(Option::as_ref);
        entry.with_context(|| {
            format!("{} has no partition {} ({})", self.path.display(), part.number, part.label)
        })
    }

    /// Where a partition starts, in bytes.
    pub fn offset(&self, part: Part) -> Result<u64> {
        Ok(self.partition(part)?.first * u64::from(SECTOR_BYTES))
    }

    /// The ESP's files.
    pub fn esp<'a>(&self, tools: &'a Tools) -> Result<Esp<'a>> {
        Esp::new(tools, &self.path, self.offset(layout::PARTS[1])?)
    }

    /// Reads from a partition.
    pub fn read(&mut self, part: Part, at: u64, bytes: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        self.file.seek(SeekFrom::Start(self.offset(part)? + at))?;
        self.file.read_exact(&mut buffer).with_context(|| format!("could not read {}", part.label))?;
        Ok(buffer)
    }

    /// Writes to a partition; refuses to go beyond its end.
    pub fn write(&mut self, part: Part, at: u64, bytes: &[u8]) -> Result<()> {
        let room = self.partition(part)?.sectors() * u64::from(SECTOR_BYTES);
        if at + bytes.len() as u64 > room {
            bail!("{} bytes at {at} do not fit into partition {} of {room} bytes", bytes.len(), part.label);
        }
        self.file.seek(SeekFrom::Start(self.offset(part)? + at))?;
        self.file.write_all(bytes).with_context(|| format!("could not write {}", part.label))
    }

    /// Copies a file to a partition's start; holes stay holes.
    fn fill(&mut self, part: Part, from: &Path) -> Result<()> {
        let mut source = File::open(from).with_context(|| format!("could not open {}", from.display()))?;
        let room = self.partition(part)?.sectors() * u64::from(SECTOR_BYTES);
        if source.metadata()?.len() > room {
            bail!("{} does not fit into partition {} of {room} bytes", from.display(), part.label);
        }
        let start = self.offset(part)?;
        copy_sparse(&mut source, &mut self.file, start)
    }

    /// Puts an OS into a slot: root, sums, the partitions' UUIDs, then the ESP's files. The record is not touched.
    /// What a longer root left behind is not overwritten: the sums say where the root ends.
    pub fn install(&mut self, tools: &Tools, slot: Slot, bundle: &Bundle) -> Result<()> {
        self.fill(slot.root(), &bundle.root)?;
        self.fill(slot.verity(), &bundle.verity)?;
        let (root, verity) = layout::slot_uuids(&bundle.root_hash);
        for (part, uuid) in [(slot.root(), root), (slot.verity(), verity)] {
            if let Some(Some(entry)) = self.table.entries.get_mut(part.number as usize - 1) {
                entry.uuid = uuid;
            }
        }
        self.table.write(&mut self.file, |file| file.flush()).context("writing the partition table")?;
        // How another OS in this slot fared says nothing about this one.
        self.write(layout::RECORD, steps::step_at(slot), &[0; SECTOR])?;
        let uki =
            std::fs::read(&bundle.uki).with_context(|| format!("could not read {}", bundle.uki.display()))?;
        let esp = self.esp(tools)?;
        esp.put(&BootFile::Uki.path(slot), &uki)?;
        esp.put(&BootFile::Env.path(slot), bundle.env.as_bytes())?;
        esp.put(&BootFile::Sum.path(slot), sums(slot, &uki, bundle.env.as_bytes()).as_bytes())
    }

    /// The record: the first copy if sound, else the second.
    pub fn record(&mut self) -> Result<Option<Record>> {
        let rec0 = self.read(layout::RECORD, REC0_AT, SECTOR)?;
        let rec1 = self.read(layout::RECORD, REC1_AT, SECTOR)?;
        Ok(Record::choose(&rec0, &rec1).0)
    }

    /// Writes both copies of the record.
    pub fn set_record(&mut self, record: &Record) -> Result<()> {
        self.set_record_sectors(&record.to_sector(), &record.to_sector())
    }

    /// Writes the two copies as they are, sound or not; an empty one is left alone.
    pub fn set_record_sectors(&mut self, rec0: &[u8], rec1: &[u8]) -> Result<()> {
        self.write(layout::RECORD, REC0_AT, rec0)?;
        self.write(layout::RECORD, REC1_AT, rec1)
    }

    /// A slot's step record, if it has a sound one.
    pub fn step(&mut self, slot: Slot) -> Result<Option<StepRecord>> {
        let sector = self.read(layout::RECORD, steps::step_at(slot), SECTOR)?;
        Ok(StepRecord::parse(&sector))
    }

    /// Damages a slot's UKI. With `fix_sum` its sum is made to fit, so that GRUB starts it all the same.
    pub fn damage_uki(&mut self, tools: &Tools, slot: Slot, damage: Damage, fix_sum: bool) -> Result<()> {
        let esp = self.esp(tools)?;
        let path = BootFile::Uki.path(slot);
        let mut uki = esp.get(&path)?;
        match damage {
            Damage::Missing => return esp.remove(&path),
            Damage::Truncated(bytes) => uki.truncate(bytes),
            Damage::Flipped(at) => *uki.get_mut(at).context("the UKI is shorter than that")? ^= 0x10,
            Damage::Zeroed => uki.fill(0),
            Damage::Random(seed) => noise(&mut uki, seed),
        }
        esp.put(&path, &uki)?;
        if fix_sum {
            let env = esp.get(&BootFile::Env.path(slot))?;
            esp.put(&BootFile::Sum.path(slot), sums(slot, &uki, &env).as_bytes())?;
        }
        Ok(())
    }

    /// Flips one bit of a slot's root, at that byte of it.
    pub fn flip_root_bit(&mut self, slot: Slot, at: u64) -> Result<()> {
        let byte = self.read(slot.root(), at, 1)?;
        let flipped: Vec<u8> = byte.iter().map(|byte| byte ^ 1).collect();
        self.write(slot.root(), at, &flipped)
    }
}

/// What can happen to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Gone.
    Missing,
    /// Cut to that many bytes.
    Truncated(usize),
    /// One bit of that byte.
    Flipped(usize),
    /// All zero.
    Zeroed,
    /// Noise, the same for the same seed.
    Random(u64),
}

/// Fills with noise (splitmix64).
fn noise(bytes: &mut [u8], seed: u64) {
    let mut state = seed;
    for chunk in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        chunk.copy_from_slice(&z.to_le_bytes()[..chunk.len()]);
    }
}

/// For GRUB's `hashsum --check`.
fn sums(slot: Slot, uki: &[u8], env: &[u8]) -> String {
    boot_files::sums(slot, &Sha256::digest(uki).into(), &Sha256::digest(env).into())
}

/// A GUID from a name: fixed, so that the same inputs give the same disk.
pub fn guid(name: &str) -> Guid {
    Guid::named(&format!("berth disk {name}"))
}

/// Makes a disk without an OS: table, GRUB for both firmwares, an ESP with its folders, a fresh record, an empty
/// state. `path` is replaced.
pub fn create(tools: &Tools, cores: &Cores, state: &Path, path: &Path) -> Result<Disk> {
    let bytes = layout::DISK_BYTES;
    let sectors = bytes / u64::from(SECTOR_BYTES);
    let table = layout::fresh_table(SECTOR_BYTES, sectors, guid).context("laying out the disk")?;
    let file = create_file(path)?;
    file.set_len(bytes).with_context(|| format!("could not size {}", path.display()))?;
    let mut disk = Disk { path: path.to_owned(), file, table };

    let part = layout::PARTS[0];
    let first = disk.partition(part)?.first;
    let room = disk.partition(part)?.sectors();
    let (boot, core) = bios::place(&grub::read(&cores.boot)?, &grub::read(&cores.core)?, first, room)?;
    disk.file.seek(SeekFrom::Start(0))?;
    disk.file.write_all(&boot).context("writing the boot sector")?;
    disk.write(part, 0, &core)?;
    disk.table.clone().write(&mut disk.file, |file| file.flush()).context("writing the partition table")?;

    let esp = disk.esp(tools)?;
    esp.format(layout::PARTS[1].bytes)?;
    for folder in ["EFI", "EFI/BOOT", "EFI/berth"] {
        esp.mkdir(folder)?;
    }
    esp.put("EFI/BOOT/BOOTX64.EFI", &grub::read(&cores.efi)?)?;
    disk.write(layout::RECORD, 0, &Record::fresh(Slot::A).partition_image())?;
    disk.fill(layout::STATE, state)?;
    Ok(disk)
}

fn create_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    options.open(path).with_context(|| format!("could not create {}", path.display()))
}

/// Puts an OS into a slot of the disk at `path`, see [`Disk::install`].
pub fn install_bundle(tools: &Tools, path: &Path, slot: Slot, bundle: &Bundle) -> Result<()> {
    Disk::open(path)?.install(tools, slot, bundle)
}

/// Copies a disk; holes stay holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).with_context(|| format!("could not open {}", from.display()))?;
    let mut target = create_file(to)?;
    target.set_len(source.metadata()?.len()).with_context(|| format!("could not size {}", to.display()))?;
    copy_sparse(&mut source, &mut target, 0)
}

/// Copies all of `source` to `start`, without writing zeros where there are some already.
fn copy_sparse(source: &mut File, target: &mut File, start: u64) -> Result<()> {
    let mut buffer = vec![0; limits::COPY_BYTES];
    let mut there = vec![0; limits::COPY_BYTES];
    let mut at = start;
    loop {
        let count = read_full(source, &mut buffer)?;
        let data = buffer.get(..count).unwrap_or_default();
        let blank = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
        let hole = blank(data) && {
            target.seek(SeekFrom::Start(at))?;
            let length = read_full(target, &mut there)?.min(count);
            blank(&there[..length])
        };
        if !hole {
            target.seek(SeekFrom::Start(at))?;
            target.write_all(data).context("writing the disk")?;
        }
        at += count as u64;
        if count < buffer.len() {
            return Ok(());
        }
    }
}

fn read_full(source: &mut File, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]).context("reading")? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
