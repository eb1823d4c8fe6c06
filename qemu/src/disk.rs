//! Disk files: throw-away copies, other sizes.

use anyhow::{Context, Result, bail};
use berth_image::tools::Tools;
use berth_updater::layout::{KIND_RECORD, KIND_SEED};
use berth_updater::medium;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// `raw` or `qcow2`, told by the file's magic.
pub(crate) fn format(path: &Path) -> Result<&'static str> {
    let mut magic = [0; 4];
    let mut file = File::open(path).with_context(|| format!("disk {} cannot be opened", path.display()))?;
    let read = file.read(&mut magic)?;
    Ok(if &magic[..read] == b"QFI\xfb" { "qcow2" } else { "raw" })
}

/// Copies a sparse disk so that the copy is as sparse.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to).status()?;
    if !status.success() {
        bail!("{} cannot be copied to {}: {status}", from.display(), to.display());
    }
    Ok(())
}

/// Plays back the journal of an ext4 file system that a power cut left in this file, and mends what such a cut may leave:
/// e2fsck's automatic mode, which ends with an error at whatever takes a decision (e2fsck(8): status 1 is "errors
/// corrected"). The file system begins where the file does: e2fsck forgets an offset when it has played a journal back.
pub fn mend_ext4(tools: &Tools, file: &Path) -> Result<()> {
    let out = tools.command("e2fsck").args(["-f", "-p"]).arg(file).output()?;
    if matches!(out.status.code(), Some(0 | 1)) {
        return Ok(());
    }
    let text = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    bail!("the file system is not mended by itself: e2fsck: {}\n{}", out.status, text.concat());
}

/// Makes a qcow2 file that holds what is changed of a disk; the disk itself stays as it is, and has to.
pub fn overlay(tools: &Tools, disk: &Path, overlay: &Path) -> Result<()> {
    let disk = disk.canonicalize().with_context(|| format!("{} is not there", disk.display()))?;
    let format = format(&disk)?;
    let mut command = tools.command("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(&disk).arg(overlay);
    let output = command.output()?;
    if !output.status.success() {
        bail!("{} not made: {}", overlay.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Makes a disk larger, as an operator does before its first boot.
pub fn grow(path: &Path, bytes: u64) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    if file.metadata()?.len() > bytes {
        bail!("{} is larger than {bytes} bytes already", path.display());
    }
    Ok(file.set_len(bytes)?)
}

/// Overwrites bytes at a place.
pub fn write_at(path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    Ok(file.write_all_at(bytes, offset)?)
}

/// Flips one bit.
pub fn flip_bit(path: &Path, offset: u64, bit: u8) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    byte[0] ^= 1 << bit;
    Ok(file.write_all_at(&byte, offset)?)
}

/// Lays a config on the ISO, as `berth iso customise` does, or on a disk, as the installer does.
pub fn lay(image: &Path, config: &str) -> Result<()> {
    let mut file = File::options().read(true).write(true).open(image)?;
    let at = match medium::seed_place(&mut file, KIND_SEED)? {
        None => medium::seed_place(&mut file, KIND_RECORD)?,
        at => at,
    };
    let at = at.with_context(|| format!("{} has no place for a config", image.display()))?;
    Ok(medium::write_seed(&file, at, config.as_bytes())?)
}
