//! Installation from the medium, and starting a machine anew: what operators ask and are told.

use serde::{Deserialize, Serialize};

/// A disk of the machine, as `berth disks` has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskStatus {
    /// `/dev/vda`.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// Bytes of a logical sector.
    pub sector_bytes: u32,
    /// What it is called by its maker; may be empty.
    pub model: String,
    /// Its serial number; may be empty.
    pub serial: String,
    /// It says that it can be taken out.
    pub removable: bool,
    /// What is on it, in words: `nothing`, `a partition table`, `Berth`.
    pub holds: String,
    /// Why Berth cannot be, or without a word more is not, installed on it; empty when it is free.
    pub trouble: String,
}

/// How an installation stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InstallStatus {
    /// `none`, `choosing`, `writing`, `reading back`, `done`, `there already`, `failed`.
    pub state: String,
    /// The disk: `/dev/vda`.
    pub disk: String,
    /// Bytes that are written and read back.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// What went wrong, on what, why, what to do.
    pub error: String,
}

/// What stays when a machine is started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The volumes.
    Volumes,
    /// Nothing at all.
    Nothing,
}

impl Keep {
    /// As the boot record has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Volumes => "volumes",
            Self::Nothing => "nothing",
        }
    }

    /// Reads [`Keep::word`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Volumes, Self::Nothing].into_iter().find(|keep| keep.word() == word)
    }
}
