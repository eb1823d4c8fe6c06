//! Where a copy goes, found before anything is sent: into a folder that is there, or to a name in one.

use super::{Last, is_of_folder, kind, last};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What may come to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Only {
    Anything,
    /// A file is there, and is replaced.
    File,
    /// The path ends in a slash.
    Folder,
}

/// See the module.
#[derive(Debug)]
pub struct Place {
    pub(super) folder: OwnedFd,
    /// What it becomes there; `None`: it goes in by its own name.
    pub(super) name: Option<Vec<u8>>,
    pub(super) only: Only,
    /// As it was typed.
    pub(super) shown: String,
}

impl Place {
    /// Links are followed, as in every path that is typed.
    pub fn find(path: &Path) -> Result<Self, String> {
        let shown = path.display().to_string();
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::new_in_folder(path),
            Err(error) => return Err(failed(error)),
        };
        if found.is_dir() {
            let folder = File::open(path).map_err(failed)?.into();
            return Ok(Self { folder, name: None, only: Only::Anything, shown });
        }
        if !found.is_file() {
            return Err(format!("{shown} is {}, which no copy replaces", kind(found.mode())));
        }
        let whole = fs::canonicalize(path).map_err(failed)?;
        let (Some(folder), Some(name)) = (whole.parent(), whole.file_name()) else {
            return Err(format!("{shown} has no name"));
        };
        let folder = File::open(folder).map_err(failed)?.into();
        Ok(Self { folder, name: Some(name.as_bytes().to_vec()), only: Only::File, shown })
    }

    /// It goes in by its own name, since it is a folder.
    pub fn is_folder(&self) -> bool {
        self.name.is_none()
    }

    fn new_in_folder(path: &Path) -> Result<Self, String> {
        let shown = path.display().to_string();
        if fs::symlink_metadata(path).is_ok() {
            return Err(format!("{shown} is a link that leads to nothing"));
        }
        let Last::Name(name) = last(path) else { return Err(format!("there is no folder {shown}")) };
        let above = above(path);
        let folder = File::open(above)
            .and_then(|folder| match folder.metadata()?.is_dir() {
                true => Ok(folder),
                false => Err(ErrorKind::NotADirectory.into()),
            })
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => {
                    format!("{shown}: there is no folder {} that it could be in", above.display())
                }
                _ => format!("{}: {error}", above.display()),
            })?;
        let only = if is_of_folder(path) { Only::Folder } else { Only::Anything };
        Ok(Self { folder: folder.into(), name: Some(name.as_bytes().to_vec()), only, shown })
    }
}

/// The folder before the last name, or the present one.
fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        None => Path::new("/"),
    }
}
