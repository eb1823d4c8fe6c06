//! A volume that says by its label what it is for: NoCloud's `cidata`, OpenStack's `config-2`. FAT or ISO 9660, on a whole disk
//! or a partition; what files it has is its kind's to say (`nocloud`, `configdrive`).

use crate::disk::{Disk, DiskError};
use crate::fat::Fat;
use crate::iso::Iso;
use crate::limits;
use crate::said::Said;
use crate::{configdrive, nocloud};

/// What a volume is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// NoCloud.
    NoCloud,
    /// OpenStack's config drive.
    ConfigDrive,
}

impl Kind {
    /// Both, in the order in which they count.
    pub const ALL: [Kind; 2] = [Kind::NoCloud, Kind::ConfigDrive];

    /// The label, in any case: FAT tools write upper case, ISO tools what they are told.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoCloud => "cidata",
            Self::ConfigDrive => "config-2",
        }
    }

    /// As operators know it.
    pub fn title(self) -> &'static str {
        match self {
            Self::NoCloud => "NoCloud",
            Self::ConfigDrive => "config drive",
        }
    }

    /// As configs name it.
    pub fn source(self) -> &'static str {
        match self {
            Self::NoCloud => "nocloud",
            Self::ConfigDrive => "config-drive",
        }
    }
}

/// What a disk or partition is.
#[derive(Debug, PartialEq, Eq)]
pub enum Volume {
    /// Not for us; in words, for the list of what was looked at.
    Other(String),
    /// One of these, and what it says.
    Seed(Kind, Box<Said>),
}

/// A file system that was recognised.
pub enum Files<'a> {
    /// FAT.
    Fat(Fat<'a>),
    /// ISO 9660.
    Iso(Iso<'a>),
    /// Files without a file system.
    #[cfg(test)]
    Given(std::collections::BTreeMap<&'a str, Vec<u8>>),
}

impl Files<'_> {
    /// Reads a file whole; `None` if it is not there.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, DiskError> {
        let most = limits::ENCODED_BYTES;
        match self {
            Self::Fat(fat) => fat.find(path)?.map(|file| fat.read(&file, most)).transpose(),
            Self::Iso(iso) => iso.find(path)?.map(|file| iso.read(&file, most)).transpose(),
            #[cfg(test)]
            Self::Given(files) => match files.get(path) {
                Some(bytes) if bytes == b"(torn)" => Err(DiskError::Damaged("its clusters end".to_owned())),
                file => Ok(file.cloned()),
            },
        }
    }

    /// The same; what cannot be read is told as trouble, and the other files are not lost for it.
    pub fn read_or_tell(&self, path: &str, said: &mut Said) -> Option<Vec<u8>> {
        match self.read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                said.trouble.push(format!("{path}: {error}"));
                None
            }
        }
    }
}

/// Looks at one disk or partition. `named`: the label that a volume has instead of NoCloud's; then no other one counts.
pub fn probe(disk: &Disk, named: Option<&str>) -> Volume {
    let (files, kind, labels) = match Fat::open(disk) {
        Ok(Some(fat)) => match fat.labels() {
            Ok(labels) => (Files::Fat(fat), "vfat", labels),
            Err(e) => return Volume::Other(format!("vfat; {e}")),
        },
        Ok(None) => match Iso::open(disk) {
            Ok(Some(iso)) => {
                let labels = iso.labels();
                (Files::Iso(iso), "iso9660", labels)
            }
            Ok(None) => return Volume::Other("neither vfat nor iso9660".to_owned()),
            Err(e) => return Volume::Other(e.to_string()),
        },
        Err(e) => return Volume::Other(e.to_string()),
    };
    let labelled = |wanted: &str| labels.iter().any(|label| label.eq_ignore_ascii_case(wanted));
    let found = match named {
        Some(name) => labelled(name).then_some(Kind::NoCloud),
        None => Kind::ALL.into_iter().find(|kind| labelled(kind.label())),
    };
    match found {
        Some(Kind::NoCloud) => Volume::Seed(Kind::NoCloud, Box::new(nocloud::read(&files))),
        Some(Kind::ConfigDrive) => Volume::Seed(Kind::ConfigDrive, Box::new(configdrive::read(&files))),
        None => match labels.first() {
            None => Volume::Other(format!("{kind} without a label")),
            Some(label) => {
                Volume::Other(format!("{kind} labelled {:?}", label.chars().take(32).collect::<String>()))
            }
        },
    }
}
