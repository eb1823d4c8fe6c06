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
    /// Program and arguments; at least the program, unless something is copied.
    #[serde(default)]
    pub command: Vec<String>,
    /// Instead of a command, something is copied; by the machine's own program, as the container's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<Copy>,
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

/// A file or a folder between an operator and a unit, as a tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Copy {
    /// It comes as standard output; the names in it begin with its own, or with `.` if the path ends so.
    Read {
        /// Path in the unit, from its root.
        path: String,
        /// A link there is followed, instead of being what is copied.
        #[serde(default)]
        follow: bool,
    },
    /// It is standard input.
    Write {
        /// Path in the unit, from its root: of a folder that is there, or of what is to be there.
        path: String,
        /// It goes into a folder as it is, instead of being one file or folder that may be given another name.
        #[serde(default)]
        contents: bool,
    },
}

impl Copy {
    /// The command line of the machine's own program.
    pub fn words(&self) -> Vec<String> {
        let (word, path, option) = match self {
            Self::Read { path, follow } => ("read", path, follow.then_some("follow")),
            Self::Write { path, contents } => ("write", path, contents.then_some("contents")),
        };
        let words = ["berth", "worker", "copy", word, path.as_str()].into_iter();
        words.chain(option).map(str::to_owned).collect()
    }
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
