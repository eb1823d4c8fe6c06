//! Volumes on the state partition: which there are, how large one is, one that goes. All of it in children; what lies in a
//! volume was written by containers, and nothing of it is followed or trusted.
//!
//! To remove one: 1. it is renamed into `.trash`, and both folders are synced: from here on it is gone; 2. `.trash` is emptied,
//! which may take long, by another child; what a power cut leaves there goes with the next one that is removed.

use super::limits;
use crate::early::files::sync_folder;
use berth_units::control::VolumeStatus;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// No volume is called so.
const TRASH: &str = ".trash";

/// What there is, and which units use it; also volumes that are named and have not been made yet are none.
pub fn list(volumes: &Path, used: &BTreeMap<String, Vec<String>>) -> Result<Vec<VolumeStatus>, String> {
    let entries = fs::read_dir(volumes).map_err(|error| format!("{}: {error}", volumes.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names.truncate(limits::VOLUMES);
    let status = |name: String| {
        let used_by = used.get(&name).cloned().unwrap_or_default();
        VolumeStatus { name, used_by, bytes: None, whole: false }
    };
    Ok(names.into_iter().map(status).collect())
}

/// One of them, with what it takes on the disk, as far as that can be counted in time.
pub fn inspect(
    volumes: &Path,
    name: &str,
    used: &BTreeMap<String, Vec<String>>,
) -> Result<Vec<VolumeStatus>, String> {
    let mut found = list(volumes, used)?;
    found.retain(|volume| volume.name == name);
    for volume in &mut found {
        let (bytes, whole) = size(&volumes.join(name));
        (volume.bytes, volume.whole) = (Some(bytes), whole);
    }
    Ok(found)
}

/// Bytes on the disk of all that is below; false if that is not all.
fn size(folder: &Path) -> (u64, bool) {
    let end = Instant::now() + limits::VOLUME_COUNT;
    let (mut bytes, mut whole) = (0_u64, true);
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // Names nested deeper than a path can be are not counted.
        let Ok(entries) = fs::read_dir(&folder) else {
            whole = false;
            continue;
        };
        for entry in entries {
            if Instant::now() > end || folders.len() > limits::VOLUME_FOLDERS {
                return (bytes, false);
            }
            let Ok(found) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) else {
                whole = false;
                continue;
            };
            let taken = found.1.blocks().saturating_mul(512);
            if found.1.is_dir() {
                folders.push(found.0);
                bytes = bytes.saturating_add(taken);
            } else {
                // Once, over all of its names.
                bytes = bytes.saturating_add(taken / found.1.nlink().max(1));
            }
        }
    }
    (bytes, whole)
}

/// Step 1. Whether there was such a volume.
pub fn remove(volumes: &Path, name: &str) -> Result<bool, String> {
    let failed = |error: io::Error| format!("volume {name}: {error}");
    let (from, trash) = (volumes.join(name), volumes.join(TRASH));
    match fs::symlink_metadata(&from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.map_err(failed)?,
    };
    fs::create_dir_all(&trash)
        .and_then(|()| fs::set_permissions(&trash, Permissions::from_mode(0o700)))
        .map_err(failed)?;
    let free = (0_u32..).map(|n| trash.join(format!("{name}.{n}")));
    let to =
        free.into_iter().find(|path| fs::symlink_metadata(path).is_err()).unwrap_or_else(|| trash.join(name));
    fs::rename(&from, to).map_err(failed)?;
    [trash.as_path(), volumes].into_iter().try_for_each(sync_folder).map_err(failed)?;
    Ok(true)
}

/// Step 2.
pub fn empty_trash(volumes: &Path) -> Result<(), String> {
    let trash = volumes.join(TRASH);
    match berth_units::launch::empty(&trash) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!("{}: {error}", trash.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_counted_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = folder.path();
        for name in ["data", "logs"] {
            fs::create_dir(volumes.join(name)).unwrap();
        }
        fs::create_dir(volumes.join("data/deep")).unwrap();
        fs::write(volumes.join("data/deep/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", volumes.join("data/everything")).unwrap();
        std::os::unix::fs::symlink("data", volumes.join("link")).unwrap();
        let used = BTreeMap::from([("data".to_owned(), vec!["db".to_owned()])]);
        let all = list(volumes, &used).unwrap();
        let names: Vec<(&str, usize)> = all.iter().map(|v| (v.name.as_str(), v.used_by.len())).collect();
        assert_eq!(names, [("data", 1), ("logs", 0)]);
        let one = inspect(volumes, "data", &used).unwrap();
        let bytes = one[0].bytes.unwrap();
        assert!((100_000..2_000_000).contains(&bytes) && one[0].whole, "{bytes}: links are not followed");
        assert_eq!(inspect(volumes, "absent", &used).unwrap(), []);

        assert_eq!(remove(volumes, "absent"), Ok(false));
        assert_eq!(remove(volumes, "data"), Ok(true));
        fs::create_dir(volumes.join("data")).unwrap();
        assert_eq!(remove(volumes, "data"), Ok(true), "one of the same name is in the trash still");
        assert_eq!(list(volumes, &used).unwrap().len(), 1);
        empty_trash(volumes).unwrap();
        empty_trash(volumes).unwrap();
        assert_eq!(fs::read_dir(volumes).unwrap().count(), 2);
    }
}
