//! Finds the machine config: `berth worker meta`, a system unit that runs once, on a machine that has none yet.
//!
//! It looks in a fixed order, and the first place that holds anything decides, be it usable or not:
//!
//! 1. what was laid for this start by the installer, or on the installation medium;
//! 2. `smbios`: strings of SMBIOS type 11;
//! 3. `fwcfg`: QEMU's firmware configuration device;
//! 4. `nocloud`: a volume labelled `cidata`, FAT (`fat`) or ISO 9660 (`iso`).
//!
//! What is found is decoded (`decode`: gzip, base64), checked by the checker that PID 1 and the operator's laptop
//! use, and handed to PID 1 as a sealed memory file, with a line for each place that was looked at. PID 1 checks it
//! again: nothing said here is believed.
//!
//! Everything read here was written by somebody else, so no kernel driver sees it: the parsers are ours, read-only,
//! and bounded (`limits`, `disk`) against loops and torn volumes. `docs/config-sources.md` is the operator's page.

pub mod cloud_config;
pub mod decode;
mod disk;
mod fat;
mod fwcfg;
mod iso;
mod limits;
mod nocloud;
#[cfg(test)]
mod samples;
mod search;
mod smbios;
mod toml_text;
pub mod translation;
mod worker;
pub mod yaml;

pub use worker::run;

/// Entry points for fuzzing: each takes any bytes, and must neither panic nor run away.
pub mod fuzz {
    pub use crate::cloud_config::fuzz as cloud_config;
    pub use crate::decode::fuzz as config;
    pub use crate::fat::fuzz as fat;
    pub use crate::iso::fuzz as iso;
    pub use crate::smbios::fuzz as smbios;
    pub use crate::yaml::fuzz as yaml;
}
