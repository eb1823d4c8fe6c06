//! Why an image was not pulled, in words for the operator. The reference is named once, by whoever reports.

use std::time::Duration;

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reference makes no sense.
    #[error("{0}")]
    Reference(String),
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The registry was not reached, or went silent.
    #[error("{host} {why}")]
    Unreachable {
        /// Whoever was asked.
        host: String,
        /// What happened.
        why: String,
    },
    /// The registry said no.
    #[error("{0}")]
    Refused(String),
    /// What came is not what was asked for.
    #[error("{host} sent {why}")]
    Bad {
        /// Whoever sent it.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// The image is sound but not for us.
    #[error("{0}")]
    Unusable(String),
    /// The folder did not take it.
    #[error("{0}")]
    Folder(String),
}

/// One try that failed.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    pub again: Again,
}

/// Whether another try may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It would end the same way.
    Never,
    /// After the usual pause.
    Soon,
    /// After what the server asked for.
    After(Duration),
    /// At once: something was gained, or what stood in the way is gone.
    Now,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, again: Again::Never }
    }
}

impl Failure {
    /// Worth another try.
    pub fn soon(error: Error) -> Self {
        Self { error, again: Again::Soon }
    }
}
