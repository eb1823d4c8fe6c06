//! From a checked unit and a prepared image to a running process.
//!
//! ```text
//!  PID 1                 setup child                     container's process (also a child of PID 1)
//!  ─────                 ───────────                     ───────────────────────────────────────────
//!  spawn ── clone3 ────▶ own mount namespace,
//!                        in the unit's cgroup
//!                        clone3(CLONE_PARENT) ─────────▶ own user, pid, net, uts, ipc namespaces; waits
//!        ◀── Created ─── writes its uid and gid maps
//!  (network)             mounts the layers, id-mapped,
//!                        the overlay, /dev, the binds
//!                        "mounted" ────────────────────▶ own mount and cgroup namespaces; /proc, /sys, masks,
//!                        ends                            pivot_root, user, limits; waits
//!  go ─────────────────────────────────────────────────▶ capabilities, seccomp, exec
//!        ◀── Running (the channel closes by itself at exec) or Failed
//! ```
//!
//! [`spawn`] returns at once and never blocks; what can block happens in the two children, and the caller's deadline
//! kills their cgroup. Nothing of the image is opened by name outside the container's own namespaces except by
//! `openat2` with `RESOLVE_IN_ROOT`, so a link in an image leads nowhere.

mod message;
mod plan;

pub use message::{Message, Starting};
pub use plan::{Bind, Caps, Place, Plan, Root};

use crate::cgroup::Cgroup;
use std::io;

/// Why a container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The unit and its image do not make a container.
    #[error("unit {unit}: {reason}")]
    Plan {
        /// Unit name.
        unit: String,
        /// What is missing or contradicts, and what to write.
        reason: String,
    },
    /// The kernel refused what PID 1 does itself.
    #[error("unit {unit} not started: {step}: {error}")]
    Spawn {
        /// Unit name.
        unit: String,
        /// What was being done.
        step: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The channel to the children broke or carried nonsense.
    #[error("{step}: {error}")]
    Channel {
        /// What was being done.
        step: &'static str,
        /// What went wrong.
        error: io::Error,
    },
}

/// Starts the setup child for `plan` in `cgroup`. Never blocks; see the module for what happens next.
///
/// The caller must be single-threaded: the child runs ordinary code after a plain `clone3`.
pub fn spawn(plan: &Plan, cgroup: &Cgroup) -> Result<Starting, LaunchError> {
    let _ = cgroup;
    Err(LaunchError::Spawn {
        unit: plan.unit.clone(),
        step: "spawn",
        error: io::Error::from(io::ErrorKind::Unsupported),
    })
}
