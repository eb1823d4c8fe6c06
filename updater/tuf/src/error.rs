//! What can go wrong, in words for the operator.

use crate::time::Time;

/// Why a repository's word was not taken. Each names the file as the server has it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the format that the specification says.
    #[error("{file}: {why}")]
    Malformed {
        /// Which file.
        file: String,
        /// What is wrong, and where.
        why: String,
    },
    /// Too few of the keys that count have signed it.
    #[error("{file}: signed by {have} of the keys that count, {need} must")]
    Threshold {
        /// Which file.
        file: String,
        /// Distinct keys with a good signature.
        have: usize,
        /// How many it takes.
        need: u64,
    },
    /// Something older than what was seen before.
    #[error(
        "{file}: version {found} of {what} is older than {known}, which this machine has seen: the server shows the past"
    )]
    Rollback {
        /// The file that says so.
        file: String,
        /// Whose version it is.
        what: String,
        /// The version offered.
        found: u64,
        /// The highest one seen.
        known: u64,
    },
    /// A role that was there before is not listed any more.
    #[error("{file}: no longer lists {role}, which it did before")]
    Withdrawn {
        /// The file that should list it.
        file: String,
        /// Which role.
        role: String,
    },
    /// Not the version that was asked for.
    #[error("{file}: says it is version {found}, not {wanted}")]
    Version {
        /// Which file.
        file: String,
        /// The version that it says.
        found: u64,
        /// The version that its name, or what lists it, says.
        wanted: u64,
    },
    /// Valid no longer.
    #[error(
        "{file}: valid until {until} only, and it is {now}; if the machine's clock is right, the repository was not signed again in time"
    )]
    Expired {
        /// Which file.
        file: String,
        /// Its end.
        until: Time,
        /// What counts as now.
        now: Time,
    },
    /// Not the content that signed metadata says.
    #[error("{file}: {why}")]
    Content {
        /// Which file.
        file: String,
        /// Length or hash, said and found.
        why: String,
    },
    /// The server does not have it.
    #[error("{file}: not there")]
    Missing {
        /// Which file.
        file: String,
    },
    /// The server did not give it.
    #[error("{file}: {why}")]
    Fetch {
        /// Which file.
        file: String,
        /// What happened.
        why: String,
    },
    /// A bound of this client.
    #[error("{file}: {why}")]
    Limit {
        /// Which file, or target.
        file: String,
        /// Which bound.
        why: String,
    },
    /// A name that no file of a release can have.
    #[error("target {name:?}: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The state could not be read or written.
    #[error("update state: {what}: {why}")]
    State {
        /// What was to be done, on what.
        what: String,
        /// The kernel's reason.
        why: String,
    },
}

impl Error {
    pub(crate) fn malformed(file: &str, why: impl Into<String>) -> Self {
        Self::Malformed { file: file.to_owned(), why: why.into() }
    }
}
