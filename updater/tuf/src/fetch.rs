//! Where bytes come from. Nothing that a [`Fetch`] gives is trusted, and nothing is held of it beyond a bound.

use std::io::Read;

/// Why there are no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The server says that there is no such file.
    #[error("not there")]
    Missing,
    /// Anything else, in words: refused, cut off, too slow.
    #[error("{0}")]
    Failed(String),
}

/// A repository, wherever it is: two folders, of metadata and of targets.
pub trait Fetch {
    /// Opens a file of metadata. Its name is one part of a path, already encoded. At most `limit` bytes are wanted:
    /// whoever knows that there are more may refuse at once.
    fn metadata(&mut self, file: &str, limit: u64) -> Result<Box<dyn Read + '_>, FetchError>;

    /// Opens the content of a target, from a byte on. The path is encoded, and leads downwards. At most `limit` bytes
    /// are wanted.
    fn target(&mut self, path: &str, from: u64, limit: u64) -> Result<Box<dyn Read + '_>, FetchError>;
}

/// A repository in a folder: a mounted disk, or what a publisher has just made.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Where the metadata is.
    pub metadata: std::path::PathBuf,
    /// Where the targets are.
    pub targets: std::path::PathBuf,
}

impl Folder {
    /// A repository as Berth's publisher lays it out: `metadata/` and `targets/` in one folder.
    pub fn new(repository: &std::path::Path) -> Self {
        Self { metadata: repository.join("metadata"), targets: repository.join("targets") }
    }
}

/// `%41` back to what it stands for: file names are not encoded twice.
fn decoded(path: &str) -> Result<String, FetchError> {
    let wrong = || FetchError::Failed(format!("{path}: no path of an address"));
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or_else(wrong)?;
        bytes.extend(crate::unhex(digits).ok_or_else(wrong)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn open(path: &std::path::Path) -> Result<std::fs::File, FetchError> {
    std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => FetchError::Missing,
        _ => FetchError::Failed(error.to_string()),
    })
}

impl Fetch for Folder {
    fn metadata(&mut self, file: &str, _: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        // Metadata files keep their encoded names, so that a role's name can hold anything.
        Ok(Box::new(open(&self.metadata.join(file))?))
    }

    fn target(&mut self, path: &str, from: u64, _: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        use std::io::{Seek, SeekFrom};
        let mut file = open(&self.targets.join(decoded(path)?))?;
        file.seek(SeekFrom::Start(from)).map_err(|error| FetchError::Failed(error.to_string()))?;
        Ok(Box::new(file))
    }
}
