//! What can go wrong, in words for the publisher.

use std::io;
use std::path::PathBuf;

/// Why a repository was not changed, or is not sound.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is something already.
    #[error("{path} exists already; nothing was changed")]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// No repository.
    #[error("{path} is no update repository; \"berth repo init\" makes one")]
    None {
        /// The folder.
        path: PathBuf,
    },
    /// A key that others can read.
    #[error("key {path} can be read by others (mode {mode:03o}); run \"chmod 600 {path}\"")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No key that can be used.
    #[error("key {path}: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The keys at hand do not sign what has to be signed.
    #[error("none of the keys given signs {role}; its keys are {ids}")]
    NoKey {
        /// The role.
        role: String,
        /// The beginnings of their ids.
        ids: String,
    },
    /// What was built is not a release.
    #[error("{path}: {why}")]
    Release {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An argument that cannot be.
    #[error("{0}")]
    Argument(String),
    /// Something waits for signatures, and has to go first.
    #[error(
        "{path} waits for signatures; \"berth repo sign\" with the missing keys ends that, removing the folder \
         gives it up"
    )]
    Staged {
        /// The folder.
        path: PathBuf,
    },
    /// The client does not take it.
    #[error(transparent)]
    Client(#[from] berth_tuf::Error),
}

impl RepoError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |error| Self::File { path, error }
    }
}
