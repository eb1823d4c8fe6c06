//! The steps; see the crate's documentation for their order.

use crate::esp::{self, File as EspFile};
use crate::{InstallError, Media, NOTE};
use berth_apply::{Medium, Part, Tree};
use berth_units::blank;
use berth_updater::boot_files::{self, BootFile};
use berth_updater::gpt::{Partition, Table};
use berth_updater::guid::Guid;
use berth_updater::layout::{self, Slot};
use berth_updater::record::Record;
use berth_updater::verity::{BLOCK, RootHash};
use berth_updater::{bios, medium};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::io;

/// Blocks of the root that are read, checked and written at once: 512 KiB.
const ROOT_BLOCKS: u64 = 128;
/// Bytes of anything else written or read at once.
const PIECE: usize = 1 << 20;
/// Bytes between two syncs: so many pages are dirty at most.
const SYNC_BYTES: u64 = 8 << 20;
/// Bytes at the end of the disk in which other systems have their signatures.
const SIGNATURES: u64 = 2 << 20;

/// What is wanted.
pub struct Order<'a> {
    /// Of the running system, which is the medium's.
    pub root_hash: RootHash,
    /// Bytes of the disk's sectors.
    pub sector_bytes: u32,
    /// The new disk's GUID.
    pub disk: Guid,
    /// The config that the new machine finds at its first start.
    pub seed: Option<&'a [u8]>,
    /// GRUB for UEFI: `BOOTX64.EFI`.
    pub efi: &'a [u8],
    /// GRUB for BIOS: sector 0, and its core.
    pub bios: (&'a [u8], &'a [u8]),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// `writing` or `reading back`.
    pub step: &'static str,
    /// Bytes of all that are written and read back.
    pub done: u64,
    /// Bytes.
    pub total: u64,
}

/// Something that was written, and its sum.
struct Written {
    what: &'static str,
    at: u64,
    bytes: u64,
    sum: [u8; 32],
}

struct Run<'r> {
    disk: &'r mut dyn Medium,
    progress: &'r mut dyn FnMut(Progress),
    now: Progress,
    unsynced: u64,
    written: Vec<Written>,
}

/// Does it all.
pub fn install(
    media: &mut Media,
    order: &Order<'_>,
    disk: &mut dyn Medium,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), InstallError> {
    let sector = u64::from(order.sector_bytes);
    let sectors = disk.bytes() / sector;
    let id = order.disk.to_string();
    let name = |label: &str| match label {
        "disk" => order.disk,
        label => Guid::named(&format!("{id} {label}")),
    };
    let small = |_| InstallError::Small {
        has: disk.bytes() >> 20,
        needs: layout::disk_bytes(order.sector_bytes) >> 20,
    };
    let mut table = layout::fresh_table(order.sector_bytes, sectors, name).map_err(small)?;
    table.grow(sectors).map_err(small)?;
    let slot = Slot::A;
    let (root, verity) = layout::slot_uuids(&order.root_hash);
    for (part, uuid) in [(slot.root(), root), (slot.verity(), verity)] {
        if let Some(Some(entry)) = table.entries.get_mut(part.number as usize - 1) {
            entry.uuid = uuid;
        }
    }
    let places = Places { table: &table, sector };

    // Nothing is written before everything that comes from the medium has been found.
    let mut tree = Tree::open(&mut media.verity, &order.root_hash).map_err(of_medium("verity tree"))?;
    tree.check(&mut media.verity).map_err(of_medium("verity tree"))?;
    let tree_bytes = tree.superblock().hash_bytes();
    let root_bytes = tree.superblock().data_blocks * BLOCK as u64;
    let digest = |bytes: &[u8]| Sha256::digest(bytes).into();
    let sums = boot_files::sums(slot, &digest(&media.uki), &digest(&media.env));
    let paths = BootFile::ALL.map(|file| file.name(slot));
    let files = [
        EspFile { folder: "BOOT", name: "BOOTX64.EFI", bytes: order.efi },
        EspFile { folder: "BERTH", name: &paths[0], bytes: &media.uki },
        EspFile { folder: "BERTH", name: &paths[1], bytes: &media.env },
        EspFile { folder: "BERTH", name: &paths[2], bytes: sums.as_bytes() },
    ];
    let esp = places.part(layout::ESP)?;
    let esp = esp::build(places.bytes(layout::ESP)?, order.sector_bytes, esp.first, &files)?;
    let first = places.part(layout::PARTS[0])?;
    // A BIOS reads no disk with other sectors, so there is nothing for it on one.
    let boot = match order.sector_bytes {
        512 => Some(bios::place(order.bios.0, order.bios.1, first.first, first.sectors())?),
        _ => None,
    };
    let record = record_partition(order.seed)?;

    let mut pieces: Vec<(&'static str, u64, Cow<'_, [u8]>)> = Vec::new();
    let esp_at = places.at(layout::ESP)?;
    pieces.extend(esp.into_iter().map(|(at, bytes)| ("the ESP", esp_at + at, bytes)));
    pieces.push(("the boot record", places.at(layout::RECORD)?, record.into()));
    if let Some((_, core)) = &boot {
        pieces.push(("the BIOS core", places.at(layout::PARTS[0])?, core.into()));
    }
    let others: u64 = pieces.iter().map(|(.., bytes)| bytes.len() as u64).sum();
    let total = 2 * (others + root_bytes + tree_bytes);
    let now = Progress { step: "writing", done: 0, total };
    let mut run = Run { disk, progress, now, unsynced: 0, written: Vec::new() };

    run.begin(sector, sectors)?;
    run.wipe(&places)?;
    for (what, at, bytes) in &pieces {
        run.write(what, *at, bytes)?;
    }
    run.write_tree(media, tree_bytes, places.at(slot.verity())?)?;
    run.write_root(media, &mut tree, root_bytes, places.at(slot.root())?)?;
    run.sync()?;
    run.read_back(order, &places, slot)?;
    run.finish(&table, boot.as_ref().map(|(boot, _)| boot.as_slice()))
}

fn of_medium<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> InstallError {
    move |why| InstallError::Medium { what, why: why.to_string() }
}

fn of_disk(doing: &'static str) -> impl Fn(io::Error) -> InstallError {
    move |error| InstallError::Disk { doing, error }
}

/// The whole partition: a fresh record, and the config behind it.
fn record_partition(seed: Option<&[u8]>) -> Result<Vec<u8>, InstallError> {
    let mut bytes = Record::fresh(Slot::A).partition_image();
    bytes.resize(usize::try_from(layout::RECORD.bytes).unwrap_or_default(), 0);
    if let Some(seed) = seed {
        let (header, text) = medium::seed(seed).map_err(InstallError::Seed)?;
        let at = usize::try_from(medium::SEED_AT).unwrap_or_default();
        bytes[at..at + header.len()].copy_from_slice(&header);
        bytes[at + header.len()..at + header.len() + text.len()].copy_from_slice(text);
    }
    Ok(bytes)
}

/// Where the new partitions are.
struct Places<'t> {
    table: &'t Table,
    sector: u64,
}

impl Places<'_> {
    fn part(&self, part: layout::Part) -> Result<&Partition, InstallError> {
        let entry = self.table.entries.get(part.number as usize - 1).and_then(Option::as_ref);
        entry.ok_or(InstallError::Esp("the new partition table lacks one of its partitions"))
    }

    fn at(&self, part: layout::Part) -> Result<u64, InstallError> {
        Ok(self.part(part)?.first * self.sector)
    }

    fn bytes(&self, part: layout::Part) -> Result<u64, InstallError> {
        Ok(self.part(part)?.sectors() * self.sector)
    }
}

impl Run<'_> {
    fn advance(&mut self, bytes: u64) {
        self.now.done += bytes;
        (self.progress)(self.now);
    }

    fn put(&mut self, doing: &'static str, at: u64, bytes: &[u8]) -> Result<(), InstallError> {
        self.disk.write_at(at, bytes).map_err(of_disk(doing))?;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), InstallError> {
        self.unsynced = 0;
        self.disk.flush().map_err(of_disk("it was flushed"))
    }

    /// Step 1. Before anything else of the old content goes, nothing starts it any more.
    fn begin(&mut self, sector: u64, sectors: u64) -> Result<(), InstallError> {
        const DOING: &str = "its old start was taken away";
        let mut note = vec![0; usize::try_from(sector).unwrap_or(512)];
        let length = NOTE.len().min(note.len());
        note[..length].copy_from_slice(&NOTE[..length]);
        self.put(DOING, 0, &note)?;
        self.sync()?;
        note.fill(0);
        self.put(DOING, sector, &note)?;
        self.put(DOING, (sectors - 1) * sector, &note)?;
        self.sync()
    }

    /// What other systems left where somebody would look for it.
    fn wipe(&mut self, places: &Places<'_>) -> Result<(), InstallError> {
        const DOING: &str = "what was on it was taken away";
        let zeros = vec![0; PIECE];
        let bytes = self.disk.bytes();
        let (state, state_bytes) = (places.at(layout::STATE)?, places.bytes(layout::STATE)?);
        let mut gone: Vec<(u64, u64)> = vec![
            (places.sector, (1 << 20) - places.sector),
            (bytes.saturating_sub(SIGNATURES), SIGNATURES.min(bytes)),
            // So that no half of an old system is taken for one.
            (places.at(Slot::B.verity())?, BLOCK as u64),
        ];
        gone.extend(blank::places(state_bytes).map(|(at, length)| (state + at, length)));
        for (start, length) in gone {
            let mut at = start;
            while at < start + length {
                let count = usize::try_from(start + length - at).unwrap_or(PIECE).min(PIECE);
                self.put(DOING, at, &zeros[..count])?;
                at += count as u64;
            }
        }
        self.sync()
    }

    fn write(&mut self, what: &'static str, at: u64, bytes: &[u8]) -> Result<(), InstallError> {
        for (n, piece) in bytes.chunks(PIECE).enumerate() {
            self.put("it was written", at + (n * PIECE) as u64, piece)?;
            self.advance(piece.len() as u64);
        }
        let sum = Sha256::digest(bytes).into();
        self.written.push(Written { what, at, bytes: bytes.len() as u64, sum });
        Ok(())
    }

    fn write_tree(&mut self, media: &mut Media, bytes: u64, to: u64) -> Result<(), InstallError> {
        let mut tree = vec![0; usize::try_from(bytes).unwrap_or_default()];
        media.verity.read_at(0, &mut tree).map_err(of_medium("verity tree"))?;
        self.write("the verity tree", to, &tree)
    }

    fn write_root(
        &mut self,
        media: &mut Media,
        tree: &mut Tree,
        bytes: u64,
        to: u64,
    ) -> Result<(), InstallError> {
        let blocks = bytes / BLOCK as u64;
        let mut buffer = vec![0; usize::try_from(ROOT_BLOCKS).unwrap_or_default() * BLOCK];
        let mut first = 0;
        while first < blocks {
            let count = ROOT_BLOCKS.min(blocks - first);
            let piece = &mut buffer[..usize::try_from(count).unwrap_or_default() * BLOCK];
            media.root.read_at(first * BLOCK as u64, piece).map_err(of_medium("root"))?;
            for (n, block) in piece.chunks(BLOCK).enumerate() {
                let right = tree.is_right(&mut media.verity, first + n as u64, block);
                if !right.map_err(of_medium("verity tree"))? {
                    let why = format!("block {} is not what the verity tree says", first + n as u64);
                    return Err(InstallError::Medium { what: "root", why });
                }
            }
            self.put(
                "it was written",
                to + first * BLOCK as u64,
                &buffer[..usize::try_from(count).unwrap_or_default() * BLOCK],
            )?;
            self.advance(count * BLOCK as u64);
            first += count;
        }
        Ok(())
    }

    /// Step 3.
    fn read_back(&mut self, order: &Order<'_>, places: &Places<'_>, slot: Slot) -> Result<(), InstallError> {
        const DOING: &str = "it was read back";
        self.now.step = "reading back";
        self.disk.forget().map_err(of_disk(DOING))?;
        let mut buffer = vec![0; PIECE];
        for Written { what, at, bytes, sum } in std::mem::take(&mut self.written) {
            let mut hash = Sha256::new();
            let mut done = 0;
            while done < bytes {
                let count = usize::try_from(bytes - done).unwrap_or(PIECE).min(PIECE);
                self.disk.read_at(at + done, &mut buffer[..count]).map_err(of_disk(DOING))?;
                hash.update(&buffer[..count]);
                done += count as u64;
                self.advance(count as u64);
            }
            if <[u8; 32]>::from(hash.finalize()) != sum {
                return Err(InstallError::ReadBack(what));
            }
        }
        let (root, verity) = (places.at(slot.root())?, places.at(slot.verity())?);
        let changed = |_| InstallError::ReadBack("the verity tree");
        let bytes = places.bytes(slot.verity())?;
        let mut tree =
            Tree::open(&mut Part::new(self.disk, verity, bytes), &order.root_hash).map_err(changed)?;
        let blocks = tree.superblock().data_blocks;
        let mut first = 0;
        while first < blocks {
            let count = (PIECE / BLOCK).min(usize::try_from(blocks - first).unwrap_or(usize::MAX));
            let piece = &mut buffer[..count * BLOCK];
            self.disk.read_at(root + first * BLOCK as u64, piece).map_err(of_disk(DOING))?;
            for (n, block) in piece.chunks(BLOCK).enumerate() {
                let mut medium = Part::new(self.disk, verity, bytes);
                if !tree.is_right(&mut medium, first + n as u64, block).map_err(changed)? {
                    return Err(InstallError::ReadBack("the root"));
                }
            }
            self.advance((count * BLOCK) as u64);
            first += count as u64;
        }
        Ok(())
    }

    /// Steps 4 and 5.
    fn finish(&mut self, table: &Table, boot: Option<&[u8]>) -> Result<(), InstallError> {
        const DOING: &str = "its partition table was written";
        // What it writes to sector 0 is kept for the last step.
        let mut file = Sectors { disk: self.disk, at: 0, first: vec![0; table.sector_bytes as usize] };
        let written = table.write(&mut file, |file| file.disk.flush());
        let mut first = file.first;
        written.map_err(|error| InstallError::Disk { doing: DOING, error: io::Error::other(error) })?;
        let sector = table.sector_bytes;
        let again = Table::read(
            &mut Sectors { disk: self.disk, at: 0, first: Vec::new() },
            sector,
            table.disk_sectors,
        );
        if !again
            .is_ok_and(|found| found.primary.is_none() && found.backup.is_none() && found.table == *table)
        {
            return Err(InstallError::ReadBack("the partition table"));
        }
        if let Some(boot) = boot {
            first[..boot.len()].copy_from_slice(boot);
        }
        self.disk.write_at(0, &first).map_err(of_disk("it was made bootable"))?;
        self.disk.flush().map_err(of_disk("it was made bootable"))
    }
}

/// The disk as a stream, for the partition table; its first sector, if one is given, is that one.
struct Sectors<'d> {
    disk: &'d mut dyn Medium,
    at: u64,
    first: Vec<u8>,
}

impl io::Read for Sectors<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == 0 && buffer.len() == self.first.len() {
            buffer.copy_from_slice(&self.first);
        } else {
            self.disk.read_at(self.at, buffer)?;
        }
        self.at += buffer.len() as u64;
        Ok(buffer.len())
    }
}

impl io::Write for Sectors<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.at == 0 && bytes.len() == self.first.len() {
            self.first.copy_from_slice(bytes);
        } else {
            self.disk.write_at(self.at, bytes)?;
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Seek for Sectors<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        match to {
            io::SeekFrom::Start(at) => self.at = at,
            _ => return Err(io::Error::other("only from the start")),
        }
        Ok(self.at)
    }
}
