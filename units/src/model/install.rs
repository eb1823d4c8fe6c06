//! `[install]` of the machine config.

use serde::{Deserialize, Serialize};

/// Which disk is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskRule {
    /// The one that is free; two are an error.
    Only,
    /// The smallest one that is free and large enough.
    Smallest,
    /// The largest one that is free.
    Largest,
    /// By its serial number.
    Serial(String),
    /// By its node: `/dev/vda`.
    Path(String),
}

impl DiskRule {
    /// `only`, `smallest`, `largest`, `serial:S4EVNX0`, `/dev/vda`.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |text: &str| {
            !text.is_empty()
                && text.len() <= 128
                && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        };
        match text {
            "only" => Some(Self::Only),
            "smallest" => Some(Self::Smallest),
            "largest" => Some(Self::Largest),
            _ => match text.strip_prefix("serial:") {
                Some(serial) => plain(serial).then(|| Self::Serial(serial.trim().to_owned())),
                None => {
                    let name = text.strip_prefix("/dev/")?;
                    (plain(name) && !name.contains("..")).then(|| Self::Path(text.to_owned()))
                }
            },
        }
    }
}

impl std::fmt::Display for DiskRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Only => f.write_str("only"),
            Self::Smallest => f.write_str("smallest"),
            Self::Largest => f.write_str("largest"),
            Self::Serial(serial) => write!(f, "serial:{serial}"),
            Self::Path(path) => f.write_str(path),
        }
    }
}

/// What happens once it is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AfterInstall {
    /// The machine starts again.
    #[default]
    Reboot,
    /// It switches itself off.
    Poweroff,
    /// The live system stays up.
    Stay,
}

impl AfterInstall {
    /// As configs have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Poweroff => "poweroff",
            Self::Stay => "stay",
        }
    }

    /// Reads [`AfterInstall::word`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Reboot, Self::Poweroff, Self::Stay].into_iter().find(|after| after.word() == word)
    }
}

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstallSettings {
    /// `disk`; without it nothing is installed.
    pub disk: Option<DiskRule>,
    /// `min_size`: bytes that a disk has at least to be taken.
    pub min_size: u64,
    /// `erase`: a disk that holds something may be taken.
    pub erase: bool,
    /// `removable`: one that can be taken out may.
    pub removable: bool,
    /// `then`.
    pub then: AfterInstall,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_written() {
        for text in ["only", "smallest", "largest", "serial:S4 X", "/dev/nvme0n1", "/dev/disk/x"] {
            assert_eq!(DiskRule::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "vda", "serial:", "/dev/", "/dev/../x", "first", "/dev/v\nda"] {
            assert_eq!(DiskRule::parse(text), None, "{text:?}");
        }
    }
}
