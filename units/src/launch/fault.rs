//! How a child says what went wrong: the step, and the kernel's answer.

use std::fmt::Display;

/// A step of a start that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What was being done, on what.
    pub(super) step: String,
    /// Why not, and what to do where that is known.
    pub(super) error: String,
}

impl Fault {
    pub(super) fn new(step: impl Into<String>, error: impl Into<String>) -> Self {
        Self { step: step.into(), error: error.into() }
    }
}

/// Result of a step.
pub(super) type Step<T> = Result<T, Fault>;

/// Names the step at which an error happened.
pub(super) trait At<T> {
    /// `step` is only built if there is an error.
    fn at<S: Into<String>>(self, step: impl FnOnce() -> S) -> Step<T>;
}

impl<T, E: Display> At<T> for Result<T, E> {
    fn at<S: Into<String>>(self, step: impl FnOnce() -> S) -> Step<T> {
        self.map_err(|error| Fault::new(step(), error.to_string()))
    }
}
