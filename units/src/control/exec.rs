//! `berth exec` between PID 1 and the API: what is to run, and what is told about it afterwards.
//!
//! The reply to [`super::Request::Exec`] brings descriptors, first a `SOCK_SEQPACKET` socket, over which PID 1 sends
//! [`ExecEvent`]s with [`super::packet`] until it closes it. Without a terminal three pipes follow: to its standard input, from its
//! standard output and error. Whoever closes the socket ends the process.

use serde::{Deserialize, Serialize};

/// What is to run, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// Unit name; of the user's own units.
    #[serde(default)]
    pub unit: String,
    /// Program and arguments; at least the program.
    pub command: Vec<String>,
    /// `KEY=value`; each replaces the unit's own.
    #[serde(default)]
    pub env: Vec<String>,
    /// As a unit's `user`; the unit's own if there is none.
    #[serde(default)]
    pub user: Option<String>,
    /// Working folder; the unit's own if there is none.
    #[serde(default)]
    pub workdir: Option<String>,
    /// It gets a terminal.
    #[serde(default)]
    pub terminal: bool,
}

/// What became of it. The last one is `Failed` or `Exited`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ExecEvent {
    /// Its program runs. With a terminal, the master rides along.
    Running,
    /// It will not run.
    Failed {
        /// What failed, on what, why.
        reason: String,
    },
    /// It has ended.
    Exited {
        /// Exit code; if it was killed by a signal, 128 and its number, as shells have it.
        code: i32,
    },
}
