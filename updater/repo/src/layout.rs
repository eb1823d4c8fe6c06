//! Where the files are, and how they get there.

use crate::error::RepoError;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A repository's folder.
#[derive(Debug, Clone)]
pub struct Layout(PathBuf);

impl Layout {
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What clients read.
    pub fn metadata(&self) -> PathBuf {
        self.0.join("metadata")
    }

    /// Content, by hash.
    pub fn targets(&self) -> PathBuf {
        self.0.join("targets")
    }

    /// What waits for signatures.
    pub fn staged(&self) -> PathBuf {
        self.0.join("staged")
    }

    /// Held by whoever changes something.
    pub fn lock(&self) -> PathBuf {
        self.0.join(".lock")
    }

    /// The highest version of a role for which there is a file; 0 when there is none.
    pub fn newest(&self, role: &str) -> Result<u64, RepoError> {
        let folder = self.metadata();
        let mut newest = 0;
        for entry in fs::read_dir(&folder).map_err(RepoError::file(&folder))? {
            let name = entry.map_err(RepoError::file(&folder))?.file_name();
            let version = name.to_str().and_then(|name| name.strip_suffix(&format!(".{role}.json")));
            newest = newest.max(version.and_then(|version| version.parse().ok()).unwrap_or(0));
        }
        Ok(newest)
    }
}

/// Reads a file whole; none when it is not there.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, RepoError> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        content => content.map(Some).map_err(RepoError::file(path)),
    }
}

/// Writes beside, syncs, renames, syncs the folder.
pub fn write(path: &Path, content: &[u8]) -> Result<(), RepoError> {
    place(path, |file| file.write_all(content))
}

/// The same for content that somebody else writes.
pub fn place(path: &Path, fill: impl FnOnce(&mut fs::File) -> std::io::Result<()>) -> Result<(), RepoError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let half = folder.join(".new");
    let steps = || {
        fs::create_dir_all(folder)?;
        let mut file = fs::File::create(&half)?;
        fill(&mut file)?;
        file.sync_all()?;
        fs::rename(&half, path)?;
        fs::File::open(folder)?.sync_all()
    };
    steps().map_err(RepoError::file(path))
}
