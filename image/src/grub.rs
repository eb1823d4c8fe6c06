//! GRUB's cores for UEFI and BIOS, a disk's with `image/grub/grub.cfg` inside, the ISO's with `iso.cfg`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache::{self, Key};
use crate::run::{self, Progress};
use crate::tools::Tools;
use crate::workspace;

/// Modules of both cores.
const MODULES: [&str; 15] = [
    "part_gpt",
    "fat",
    "tar",
    "memdisk",
    "normal",
    "configfile",
    "loadenv",
    "test",
    "true",
    "regexp",
    "echo",
    "hashsum",
    "gcry_sha256",
    "sleep",
    "reboot",
];
/// More for UEFI: it starts the UKI as it is.
const EFI_MODULES: [&str; 1] = ["chain"];
/// More for BIOS: kernel and initrd are block lists of the UKI.
const BIOS_MODULES: [&str; 5] = ["biosdisk", "linux", "loopback", "serial", "terminal"];
/// More for the ISO: a menu, and a search where the firmware does not say what it started from.
const ISO_MODULES: [&str; 2] = ["search", "search_fs_file"];
/// "Partition 2 of the disk that I came from", which is the ESP.
const PREFIX: &str = "(,gpt2)/grub";
/// In `image/grub`: what the cores of a disk do, and those of the ISO.
const DISK_SCRIPT: &str = "grub.cfg";
const ISO_SCRIPT: &str = "iso.cfg";
/// Bytes of a sector, for GRUB.
const SECTOR: usize = 512;

/// The finished cores.
#[derive(Debug, Clone)]
pub struct Cores {
    /// `BOOTX64.EFI`.
    pub efi: PathBuf,
    /// Sector 0 of the disk, before [`berth_updater::bios::place`] adapts it.
    pub boot: PathBuf,
    /// What follows it, for the BIOS boot partition.
    pub core: PathBuf,
    /// The ISO's `BOOTX64.EFI`.
    pub iso_efi: PathBuf,
    /// The ISO's El Torito image for BIOS.
    pub iso_bios: PathBuf,
    /// Sector 0 of the ISO, for a BIOS that sees it as a disk.
    pub iso_boot: PathBuf,
    /// Names the inputs.
    pub key: String,
}

/// The cores, made when they are not there yet.
pub fn ensure(tools: &Tools, progress: Progress<'_>) -> Result<Cores> {
    let scripts = workspace::repo().join("image/grub");
    let key = Key::new("grub", include_str!("grub.rs")).with_path(&scripts)?.with(tools.key()).finish();
    let dir = cache::stage("grub", &key, 1, progress, |dir| {
        progress("making GRUB's cores");
        let memdisk = dir.join("memdisk.tar");
        // `early.cfg` is read before there is a script language: no comments in it. It makes the core find the script in its
        // own memory disk, so nothing on the ESP can change that.
        let make = |script: &str, format: &str, modules: &[&[&str]], name: &str| {
            let path = scripts.join(script);
            let text = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
            fs::write(&memdisk, tar("grub/grub.cfg", &text)?).context("could not write the memory disk")?;
            let mut command = tools.command("grub-mkimage");
            let platform = format.trim_end_matches("-eltorito");
            command.arg("-d").arg(tools.root().join("usr/lib/grub").join(platform)).args(["-O", format]);
            command.arg("-m").arg(&memdisk).args(["-p", PREFIX]).arg("-c").arg(scripts.join("early.cfg"));
            command.arg("-o").arg(dir.join(name)).args(MODULES).args(modules.concat());
            run::run("making GRUB's core", &mut command)
        };
        make(DISK_SCRIPT, "x86_64-efi", &[&EFI_MODULES], "BOOTX64.EFI")?;
        make(DISK_SCRIPT, "i386-pc", &[&BIOS_MODULES], "core.img")?;
        make(ISO_SCRIPT, "x86_64-efi", &[&EFI_MODULES, &ISO_MODULES], "iso.efi")?;
        make(ISO_SCRIPT, "i386-pc-eltorito", &[&BIOS_MODULES, &ISO_MODULES], "iso.img")?;
        for (from, to) in [("boot.img", "boot.img"), ("boot_hybrid.img", "iso.boot")] {
            let from = tools.root().join("usr/lib/grub/i386-pc").join(from);
            fs::copy(&from, dir.join(to)).with_context(|| format!("could not copy {}", from.display()))?;
        }
        fs::remove_file(&memdisk).context("could not remove the memory disk")
    })?;
    let file = |name: &str| dir.join(name);
    Ok(Cores {
        efi: file("BOOTX64.EFI"),
        boot: file("boot.img"),
        core: file("core.img"),
        iso_efi: file("iso.efi"),
        iso_bios: file("iso.img"),
        iso_boot: file("iso.boot"),
        key,
    })
}

/// A ustar archive of one file, with neither time nor owner.
fn tar(name: &str, data: &[u8]) -> Result<Vec<u8>> {
    let mut header = vec![0; SECTOR];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    if name.len() > 100 {
        bail!("{name}: too long a name for an archive");
    }
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend_from_slice(data);
    header.resize(header.len().next_multiple_of(SECTOR) + 2 * SECTOR, 0);
    Ok(header)
}

/// Reads a whole core file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_disk_is_whole_sectors() {
        let archive = tar("grub/grub.cfg", &[b'x'; 700]).unwrap();
        assert_eq!(archive.len(), 512 + 1024 + 1024);
        assert_eq!(&archive[124..135], b"00000001274");
    }
}
