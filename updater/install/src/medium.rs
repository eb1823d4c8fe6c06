//! What the installation medium holds, found by its partition table, whether the kernel knows of partitions or not.

use crate::InstallError;
use berth_apply::Window;
use berth_updater::gpt::{Partition, Table};
use berth_updater::layout::{self, Slot};
use berth_updater::medium::{self, SECTOR_BYTES};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Bytes of a UKI at most: what an ESP's half holds.
const UKI_BYTES: u64 = 80 << 20;
/// Bytes of the other file.
const SMALL_BYTES: u64 = 8 << 10;

/// Its parts.
pub struct Media {
    /// The root.
    pub root: Window,
    /// The root's verity tree.
    pub verity: Window,
    /// The UKI, whole.
    pub uki: Vec<u8>,
    /// What GRUB on BIOS needs to know of it.
    pub env: Vec<u8>,
}

fn failed(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> InstallError {
    move |why| InstallError::Medium { what, why: why.to_string() }
}

/// Opens it, and reads the boot files.
pub fn open(mut medium: File) -> Result<Media, InstallError> {
    let bad = failed("its partition table");
    let bytes = medium.seek(SeekFrom::End(0)).map_err(|error| bad(&error))?;
    let found = Table::read(&mut medium, SECTOR_BYTES, bytes / u64::from(SECTOR_BYTES));
    let table = found.map_err(|error| bad(&error))?.table;
    let slot = Slot::A;
    let part = |found: Option<(usize, &Partition)>, what: &'static str| -> Result<(u64, u64), InstallError> {
        let (_, part) = found.ok_or_else(|| failed(what)(&"there is none"))?;
        let sector = u64::from(SECTOR_BYTES);
        Ok((part.first * sector, part.sectors() * sector))
    };
    let window = |(start, bytes): (u64, u64), what: &'static str| {
        let file = medium.try_clone().map_err(|error| failed(what)(&error))?;
        Window::part(file, start, bytes).map_err(|error| failed(what)(&error))
    };
    let root = part(table.by_label(layout::KIND_ROOT, slot.root().label), "root")?;
    let verity = part(table.by_label(layout::KIND_VERITY, slot.verity().label), "verity tree")?;
    let (start, length) = part(table.by_kind(layout::KIND_ESP), "ESP")?;
    let bad = failed("boot files");
    let file = |name: &str, most: u64| {
        let file = medium.try_clone().map_err(|error| error.to_string())?;
        let part = Part { file, start, bytes: length, at: 0 };
        berth_meta::fat_file(part, name, most)
    };
    let uki = file(medium::UKI, UKI_BYTES).map_err(|why| bad(&why))?;
    let env = file(medium::ENV, SMALL_BYTES).map_err(|why| bad(&why))?;
    let root = window(root, "root")?;
    Ok(Media { root, verity: window(verity, "verity tree")?, uki, env })
}

/// A part of the medium, as a file.
struct Part {
    file: File,
    start: u64,
    bytes: u64,
    at: u64,
}

impl std::io::Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = usize::try_from(self.bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.start + self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = place.ok_or_else(|| std::io::Error::other("before the start"))?;
        Ok(self.at)
    }
}
