//! What can go wrong, in words for the operator.

use std::io;

/// Why an image was not prepared. The reference is named once, by whoever reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The unit file's reference makes no sense.
    #[error("{0}")]
    Reference(String),
    /// No place has it.
    #[error("{0}")]
    NotFound(String),
    /// A place that holds images is unusable, or the image in it is.
    #[error("{source_name}: {why}")]
    Source {
        /// Which.
        source_name: String,
        /// What is wrong.
        why: String,
    },
    /// The image is sound but not for us.
    #[error("{0}")]
    Unusable(String),
    /// A layer's content was refused.
    #[error("layer {layer}: {why}")]
    Layer {
        /// The first digits of its diff id.
        layer: String,
        /// The entry and what is wrong with it.
        why: String,
    },
    /// The state partition did not take it.
    #[error("{what}: {why}")]
    State {
        /// What was to be done, on what.
        what: String,
        /// The kernel's reason, and what to do.
        why: String,
    },
}

impl Error {
    /// A failed write below the state partition.
    pub fn state(what: impl Into<String>, error: &io::Error) -> Self {
        Self::State { what: what.into(), why: reason(error) }
    }
}

/// An I/O error with advice where there is some.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the state partition is full; use a larger disk or remove images that no unit uses".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => "the state partition is read-only".to_owned(),
        _ => error.to_string(),
    }
}
