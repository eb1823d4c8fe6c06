//! The ISO: live system and installer, for a CD and for a stick, UEFI and BIOS. `berth_updater::medium` says what is on it.
//!
//! xorriso makes an ISO 9660 file system with hardly a file in it; what counts is appended as partitions. What their table
//! then lacks, names and UUIDs by which `init` finds a root, is written into both copies of it.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context, Result, bail};
use berth_updater::boot_files::sum_line;
use berth_updater::gpt::{Partition, Table};
use berth_updater::guid::Guid;
use berth_updater::layout::{self, Slot};
use berth_updater::medium::{self, SECTOR_BYTES};
use sha2::{Digest as _, Sha256};

use crate::bundle::Bundle;
use crate::disk::guid;
use crate::esp::Esp;
use crate::grub::{self, Cores};
use crate::run;
use crate::stamp;
use crate::tools::Tools;

/// Volume id, and the disk's name in the firmware's menus.
const LABEL: &str = "BERTH";
/// What a FAT needs beside the files, and that they end in the middle of clusters.
const ESP_SLACK: u64 = 512 << 10;
/// The table's entries for what xorriso appends; 1 is the ISO 9660 file system itself. It appends three at most, so all
/// but the ESP is one file, and gets its entries, from this one on, afterwards.
const ESP: usize = 2;
const REST: usize = 3;
/// To what the parts in that file are aligned.
const ALIGN: u64 = 64 << 10;

/// What a person sees who opens the ISO.
const README: &str = "This is Berth, a Linux that runs containers. Write this file to a stick as it is, or start a machine from it as a CD.\n\
    To install: berth iso customise berth.iso --config berth.toml, then start the machine from it.\n";

/// Makes the ISO of a bundle at `path`, replacing what is there.
pub fn create(tools: &Tools, cores: &Cores, bundle: &Bundle, path: &Path) -> Result<()> {
    let scratch = path.with_extension("parts");
    let _ = fs::remove_dir_all(&scratch);
    let tree = scratch.join("tree");
    fs::create_dir_all(tree.join("boot")).with_context(|| format!("could not create {}", tree.display()))?;
    let made = fill(tools, cores, bundle, &scratch, &tree, path);
    let _ = fs::remove_dir_all(&scratch);
    made
}

fn fill(
    tools: &Tools,
    cores: &Cores,
    bundle: &Bundle,
    scratch: &Path,
    tree: &Path,
    path: &Path,
) -> Result<()> {
    let esp = scratch.join("esp");
    make_esp(tools, cores, bundle, &esp)?;
    let rest = scratch.join("rest");
    let parts = join(bundle, &rest)?;
    write(&tree.join("README.TXT"), README.as_bytes())?;
    // xorriso writes into it where on the medium it lies.
    let bios = tree.join("boot/bios.img");
    write(&bios, &grub::read(&cores.iso_bios)?)?;

    let mut command = tools.command("xorriso");
    // Times of files and volume are this, and so are the numbers that are made from them.
    let epoch = stamp::epoch()?;
    command.env("SOURCE_DATE_EPOCH", epoch.to_string()).env("TZ", "UTC");
    command.args(["-as", "mkisofs", "-quiet", "-r", "-V", LABEL]);
    command.args(["--set_all_file_dates", &format!("={epoch}")]);
    command.args(["-b", "boot/bios.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]);
    command.args(["--grub2-boot-info", "--grub2-mbr"]).arg(&cores.iso_boot);
    command.args(["-partition_offset", "16", "-appended_part_as_gpt", "--mbr-force-bootable"]);
    for (number, kind, from) in [(ESP, layout::KIND_ESP, &esp), (REST, layout::KIND_ROOT, &rest)] {
        command.args(["-append_partition", &number.to_string(), &kind.to_string()]).arg(from);
    }
    command.args(["-eltorito-alt-boot", "-e", &format!("--interval:appended_partition_{ESP}:all::")]);
    let half = path.with_extension("new");
    command.args(["-no-emul-boot", "-o"]).arg(&half).arg(tree);
    run::run("making the ISO", &mut command)?;
    name_partitions(&parts, &half)?;
    fs::rename(&half, path).with_context(|| format!("could not move {} into place", half.display()))
}

/// GRUB's core and the boot files.
fn make_esp(tools: &Tools, cores: &Cores, bundle: &Bundle, path: &Path) -> Result<()> {
    let uki = fs::read(&bundle.uki).with_context(|| format!("could not read {}", bundle.uki.display()))?;
    let core = grub::read(&cores.iso_efi)?;
    let env = bundle.env.as_bytes();
    let digest = |bytes: &[u8]| Sha256::digest(bytes).into();
    let sums = sum_line(&digest(&uki), medium::UKI) + &sum_line(&digest(env), medium::ENV);
    let bytes = ((uki.len() + core.len() + env.len()) as u64 + ESP_SLACK).next_multiple_of(64 << 10);
    file(path)?.set_len(bytes).with_context(|| format!("could not size {}", path.display()))?;
    let esp = Esp::new(tools, path, 0)?;
    esp.format_small(bytes)?;
    esp.mkdir("EFI")?;
    esp.mkdir("EFI/BOOT")?;
    esp.put("EFI/BOOT/BOOTX64.EFI", &core)?;
    esp.put(medium::UKI, &uki)?;
    esp.put(medium::ENV, env)?;
    esp.put(medium::SUM, sums.as_bytes())
}

/// A part of the file that is appended last.
struct Part {
    label: &'static str,
    kind: Guid,
    uuid: Guid,
    /// Where in the file, and how long, in bytes.
    at: u64,
    bytes: u64,
}

/// Root, verity tree and room for a config, one after the other in one file.
fn join(bundle: &Bundle, path: &Path) -> Result<[Part; 3]> {
    let (root, verity) = layout::slot_uuids(&bundle.root_hash);
    let mut whole = file(path)?;
    let mut next = 0;
    let mut add = |label, kind, uuid, from: Option<&Path>, room: u64| {
        let at = next;
        let bytes = match from {
            None => room,
            Some(from) => {
                let mut from =
                    File::open(from).with_context(|| format!("could not open {}", from.display()))?;
                whole.seek(SeekFrom::Start(at))?;
                std::io::copy(&mut from, &mut whole)?
            }
        };
        let bytes = bytes.next_multiple_of(ALIGN);
        next = at + bytes;
        whole.set_len(next)?;
        anyhow::Ok(Part { label, kind, uuid, at, bytes })
    };
    let slot = Slot::A;
    Ok([
        add(slot.root().label, layout::KIND_ROOT, root, Some(&bundle.root), 0)?,
        add(slot.verity().label, layout::KIND_VERITY, verity, Some(&bundle.verity), 0)?,
        add("seed", layout::KIND_SEED, guid("iso seed"), None, medium::SEED_BYTES)?,
    ])
}

/// Names, UUIDs and the parts' places, in both copies of the table.
fn name_partitions(parts: &[Part], path: &Path) -> Result<()> {
    let mut disk = OpenOptions::new().read(true).write(true).open(path)?;
    let sector = u64::from(SECTOR_BYTES);
    let sectors = disk.metadata()?.len() / sector;
    let found = Table::read(&mut disk, SECTOR_BYTES, sectors).context("the ISO's partition table")?;
    let mut table = found.table;
    if let Some(trouble) = found.primary.or(found.backup) {
        bail!("the ISO's partition table: {trouble}");
    }
    let esp = table.entries.get_mut(ESP - 1).and_then(Option::as_mut).context("the ISO has no ESP")?;
    (esp.label, esp.uuid) = ("esp".to_owned(), guid("iso esp"));
    let rest = table.entries.get(REST - 1).and_then(Option::as_ref).context("the ISO has no root")?.first;
    for (part, place) in parts.iter().zip(table.entries.iter_mut().skip(REST - 1)) {
        let first = rest + part.at / sector;
        *place = Some(Partition {
            kind: part.kind,
            uuid: part.uuid,
            first,
            last: first + part.bytes / sector - 1,
            attributes: 0,
            label: part.label.to_owned(),
        });
    }
    table.disk = guid("iso");
    table.write(&mut disk, |disk| disk.flush()).context("writing the ISO's partition table")
}

fn file(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("could not create {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("could not write {}", path.display()))
}
