//! What the children say to PID 1, and PID 1's end of it.

use super::LaunchError;
use std::os::fd::OwnedFd;

/// One thing that happened during a start.
#[derive(Debug)]
pub enum Message {
    /// The container's process exists and waits. It is a child of the caller; so is the setup child.
    Created {
        /// In the caller's pid namespace.
        pid: i32,
        /// For signals and `waitid`.
        pidfd: OwnedFd,
        /// Its network namespace, unless it is the host's.
        netns: Option<OwnedFd>,
    },
    /// It will not start; both children are ending or gone.
    Failed {
        /// What was being done: `mount layer 2`, `exec`.
        step: String,
        /// On what, why, what to do.
        error: String,
    },
    /// The program runs: exec has been done.
    Running,
}

/// A start in progress. Dropping it makes a process that still waits give up.
#[derive(Debug)]
pub struct Starting {
    /// The setup child's pidfd: poll it, reap it.
    pub setup: OwnedFd,
    /// The setup child.
    pub setup_pid: i32,
    /// Poll for reading, then call [`Starting::next`] until it says `None`.
    pub channel: OwnedFd,
    /// Non-blocking read end; stays open for the container's life.
    pub stdout: OwnedFd,
    /// As `stdout`.
    pub stderr: OwnedFd,
}

impl Starting {
    /// The next message, or `None` when there is none yet. After [`Message::Failed`] or [`Message::Running`] nothing
    /// follows; stop polling.
    pub fn next(&mut self) -> Result<Option<Message>, LaunchError> {
        Ok(None)
    }

    /// Lets the container's process go on to exec: its network is ready.
    pub fn go(&mut self) -> Result<(), LaunchError> {
        Ok(())
    }
}
