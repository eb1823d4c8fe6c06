//! Finds the machine config: `berth worker meta`, a system unit that runs once, on a machine that has none yet.
//!
//! It looks in a fixed order, and the first place that holds anything decides, be it usable or not:
//!
//! 1. what was laid for this start by the installer, or on the installation medium;
//! 2. `smbios`: strings of SMBIOS type 11;
//! 3. `fwcfg`: QEMU's firmware configuration device;
//! 4. `nocloud`, `configdrive`: a volume labelled `cidata` or `config-2`, FAT (`fat`) or ISO 9660 (`iso`);
//! 5. nothing here: then the cloud that the firmware names ([`providers`]) is told, and `berth-cloud` asks there.
//!
//! What a source says ([`said`]) becomes one config ([`compose`]): user data decoded (`decode`: gzip, base64), the source's network,
//! `[instance]`. It is checked by the checker that PID 1 and the operator's laptop use, and handed to PID 1 as a sealed memory file,
//! with a line for each place that was looked at. PID 1 checks it again: nothing said here is believed.
//!
//! Everything read here was written by somebody else, so no kernel driver sees it: the parsers are ours, read-only,
//! and bounded (`limits`, `disk`) against loops and torn volumes. `docs/config-sources.md` is the operator's page.

pub mod cloud_config;
pub mod compose;
mod configdrive;
pub mod decode;
mod disk;
mod fat;
mod fwcfg;
mod iso;
pub mod limits;
pub mod network_config;
mod network_data;
mod nocloud;
pub mod providers;
pub mod said;
#[cfg(test)]
mod samples;
mod search;
mod smbios;
mod toml_text;
pub mod translation;
mod volume;
mod worker;
pub mod yaml;

pub use search::{Found, Outcome};
pub use smbios::System;
pub use worker::{run, tell};

/// A file in the root folder of a FAT file system, whole; an error if it is not there or longer than `most` bytes. For the
/// installer, which finds the system's boot files so.
pub fn fat_file(
    source: impl std::io::Read + std::io::Seek + 'static,
    name: &str,
    most: u64,
) -> Result<Vec<u8>, String> {
    let disk = disk::Disk::bounded(source, most.saturating_mul(2).saturating_add(limits::DISK_READ_BYTES))
        .map_err(|error| error.to_string())?;
    let text = |error: disk::DiskError| error.to_string();
    let fat = fat::Fat::open(&disk).map_err(text)?.ok_or("it is no FAT file system")?;
    let file = fat.find(name).map_err(text)?.ok_or_else(|| format!("there is no {name}"))?;
    fat.read(&file, most).map_err(text)
}

/// Entry points for fuzzing: each takes any bytes, and must neither panic nor run away.
pub mod fuzz {
    pub use crate::cloud_config::fuzz as cloud_config;
    pub use crate::configdrive::fuzz as config_drive;
    pub use crate::decode::fuzz as config;
    pub use crate::fat::fuzz as fat;
    pub use crate::iso::fuzz as iso;
    pub use crate::network_config::fuzz as network_config;
    pub use crate::network_data::fuzz as network_data;
    pub use crate::nocloud::fuzz as nocloud;
    pub use crate::smbios::fuzz as smbios;
    pub use crate::yaml::fuzz as yaml;
}
