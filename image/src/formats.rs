//! The disk in other forms, for hypervisors and clouds, and the ISO.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use berth_updater::gpt::Table;
use sha2::{Digest as _, Sha256};

use crate::bundle::Bundle;
use crate::grub::Cores;
use crate::run::{self, Progress};
use crate::tools::Tools;
use crate::{disk, iso, stamp};

/// What the disk can be made into beside `berth.raw`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Format {
    /// QEMU's, compressed: QEMU, libvirt, OpenStack, Proxmox.
    Qcow2,
    /// A fixed VHD whose size is whole MiB: Azure, Hyper-V.
    Vhd,
    /// `disk.raw` of whole GiB in a tar.gz: Google Compute Engine.
    Gce,
    /// Live system and installer, for a CD or a stick.
    Iso,
}

impl Format {
    /// All.
    pub const ALL: [Format; 4] = [Format::Qcow2, Format::Vhd, Format::Gce, Format::Iso];

    /// Its file's name.
    pub const fn file(self) -> &'static str {
        match self {
            Format::Qcow2 => "berth.qcow2",
            Format::Vhd => "berth.vhd",
            Format::Gce => "berth-gce.tar.gz",
            Format::Iso => "berth.iso",
        }
    }
}

/// What they are made from.
pub struct Source<'a> {
    /// Programs.
    pub tools: &'a Tools,
    /// GRUB.
    pub cores: &'a Cores,
    /// The system.
    pub bundle: &'a Bundle,
    /// The finished disk.
    pub raw: &'a Path,
}

/// Makes the file in the folder of `raw`, replacing what is there.
pub fn make(format: Format, from: &Source<'_>, progress: Progress<'_>) -> Result<PathBuf> {
    let path = from.raw.with_file_name(format.file());
    progress(&format!("making {}", format.file()));
    if format == Format::Iso {
        iso::create(from.tools, from.cores, from.bundle, &path)?;
        return Ok(path);
    }
    let half = path.with_extension("new");
    match format {
        Format::Qcow2 => convert(from, &["-c", "-O", "qcow2"], &half)?,
        Format::Vhd => {
            convert(from, &["-O", "vpc", "-o", "subformat=fixed,force_size=on"], &half)?;
            settle_footer(&half)?;
        }
        Format::Gce | Format::Iso => gce(from.raw, &half)?,
    }
    fs::rename(&half, &path).with_context(|| format!("could not move {} into place", half.display()))?;
    Ok(path)
}

fn convert(from: &Source<'_>, args: &[&str], to: &Path) -> Result<()> {
    let mut command = from.tools.command("qemu-img");
    command.args(["convert", "-q", "-f", "raw"]).args(args).arg(from.raw).arg(to);
    run::run("converting the disk", &mut command)
}

/// Bytes of a VHD's footer, which is its last sector (Microsoft's specification of the format, 1.0).
const FOOTER: usize = 512;

/// qemu-img puts the time and a random number into the footer; the same disk is to give the same file.
fn settle_footer(path: &Path) -> Result<()> {
    /// Seconds since 2000, checksum, unique id: where they lie.
    const TIME: usize = 24;
    const SUM: usize = 64;
    const ID: usize = 68;
    /// Seconds from 1970 to 2000.
    const EPOCH: u64 = 946_684_800;

    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut footer = [0; FOOTER];
    let back = i64::try_from(FOOTER).unwrap_or_default();
    file.seek(SeekFrom::End(-back))?;
    file.read_exact(&mut footer)?;
    if &footer[..8] != b"conectix" {
        bail!("{} has no footer of a VHD", path.display());
    }
    let seconds = u32::try_from(stamp::epoch()?.saturating_sub(EPOCH)).unwrap_or(u32::MAX);
    footer[TIME..TIME + 4].copy_from_slice(&seconds.to_be_bytes());
    footer[ID..ID + 16].copy_from_slice(&Sha256::digest(b"berth vhd")[..16]);
    footer[SUM..SUM + 4].fill(0);
    let sum = !footer.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    footer[SUM..SUM + 4].copy_from_slice(&sum.to_be_bytes());
    file.seek(SeekFrom::End(-back))?;
    file.write_all(&footer).with_context(|| format!("could not write {}", path.display()))
}

/// The size of Google's disks is whole GiB.
const GIB: u64 = 1 << 30;

/// The disk grown to whole GiB, as the one file of an archive.
fn gce(raw: &Path, to: &Path) -> Result<()> {
    let grown = raw.with_extension("grown");
    let made = grow(raw, &grown).and_then(|()| pack(&grown, to));
    let _ = fs::remove_file(&grown);
    made
}

fn grow(raw: &Path, to: &Path) -> Result<()> {
    /// Of the disk's table.
    const SECTOR_BYTES: u64 = 512;
    disk::copy(raw, to)?;
    let mut file = OpenOptions::new().read(true).write(true).open(to)?;
    let before = file.metadata()?.len();
    let mut table = Table::read(&mut file, 512, before / SECTOR_BYTES)?.table;
    let bytes = before.next_multiple_of(GIB);
    file.set_len(bytes)?;
    table.grow(bytes / SECTOR_BYTES)?;
    table.write(&mut file, |file| file.flush()).context("writing the partition table")
}

fn pack(disk: &Path, to: &Path) -> Result<()> {
    let archive = File::create(to).with_context(|| format!("could not create {}", to.display()))?;
    let packer = flate2::GzBuilder::new().write(archive, flate2::Compression::new(6));
    let mut tar = tar::Builder::new(packer);
    let file = File::open(disk)?;
    // GNU's old form, which is what the cloud asks for.
    let mut header = tar::Header::new_gnu();
    header.set_size(file.metadata()?.len());
    header.set_mode(0o644);
    header.set_mtime(stamp::epoch()?);
    tar.append_data(&mut header, "disk.raw", file).context("packing the disk")?;
    tar.into_inner()?.finish()?.flush().context("packing the disk")
}
