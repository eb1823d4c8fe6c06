//! A NoCloud volume: labelled `cidata`, with a file `user-data` in its root folder.
//!
//! `meta-data`, which cloud-init wants beside it, may be there and is not read.

use crate::disk::{Disk, DiskError};
use crate::fat::Fat;
use crate::iso::Iso;
use crate::limits;

/// The label, in any case: FAT tools write upper case, ISO tools what they are told.
pub const LABEL: &str = "cidata";
/// The file.
pub const FILE: &str = "user-data";

/// What a disk or partition is.
#[derive(Debug, PartialEq, Eq)]
pub enum Volume {
    /// Not for us; in words, for the list of what was looked at.
    Other(String),
    /// A `cidata` volume, and what its `user-data` holds, or why that cannot be had.
    Config(Result<Vec<u8>, String>),
}

/// Looks at one disk or partition.
pub fn probe(disk: &Disk) -> Volume {
    match Fat::open(disk) {
        Ok(Some(fat)) => {
            let labels = fat.labels();
            return judge("vfat", labels, || match fat.find(FILE)? {
                Some(file) => fat.read(&file, limits::ENCODED_BYTES),
                None => Err(missing()),
            });
        }
        Ok(None) => {}
        Err(e) => return Volume::Other(e.to_string()),
    }
    match Iso::open(disk) {
        Ok(Some(iso)) => judge("iso9660", Ok(iso.labels()), || match iso.find(FILE)? {
            Some(file) => iso.read(&file, limits::ENCODED_BYTES),
            None => Err(missing()),
        }),
        Ok(None) => Volume::Other("neither vfat nor iso9660".to_owned()),
        Err(e) => Volume::Other(e.to_string()),
    }
}

fn missing() -> DiskError {
    DiskError::Unusable(format!("it has no file {FILE} in its root folder"))
}

fn judge(
    kind: &str,
    labels: Result<Vec<String>, DiskError>,
    read: impl FnOnce() -> Result<Vec<u8>, DiskError>,
) -> Volume {
    match labels {
        Err(e) => Volume::Other(format!("{kind}; {e}")),
        Ok(labels) if labels.iter().any(|label| label.eq_ignore_ascii_case(LABEL)) => {
            Volume::Config(read().map_err(|e| e.to_string()))
        }
        Ok(labels) => match labels.first() {
            None => Volume::Other(format!("{kind} without a label")),
            Some(label) => {
                Volume::Other(format!("{kind} labelled {:?}", label.chars().take(32).collect::<String>()))
            }
        },
    }
}
