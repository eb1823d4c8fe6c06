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
//!                        /dev, the binds
//!                        "mounted" ────────────────────▶ own mount and cgroup namespaces; overlay, /proc, /sys, masks,
//!                        ends                            pivot_root, user, limits; waits
//!  go ─────────────────────────────────────────────────▶ capabilities, seccomp, exec
//!        ◀── Running (the channel closes by itself at exec) or Failed
//! ```
//!
//! [`spawn`] returns at once and never blocks; what can block happens in the two children, and the caller's deadline
//! kills their cgroup. Nothing of the image is opened by name outside the container's own namespaces except by
//! `openat2` with `RESOLVE_IN_ROOT`, so a link in an image leads nowhere.
//!
//! A further process in a container that runs, for a check or for `berth exec`, is [`enter()`].
//!
//! Known ways out, closed: no descriptor of a host folder is open at exec and the working folder is checked
//! (CVE-2024-21626); PID 1's program, which `/proc/self/exe` of the not yet exec'd process is, lies on a read-only mount
//! and belongs to a user whom the unit cannot be (CVE-2019-5736); uid 0 of a user's unit is never the host's.

mod container;
mod devices;
mod enter;
mod fault;
mod inside;
mod message;
mod plan;
mod program;
mod setup;
mod user;
mod writable;

pub use enter::{Entered, Entry, Program, enter};
pub use message::{Message, Starting};
pub use plan::{Bind, Caps, Place, Plan, Root};

use crate::cgroup::Cgroup;
use crate::{sys, terminal};
use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::pipe2;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Removes what a unit that is gone for good has written outside of volumes, `folder` being its own below
/// [`crate::paths::STATE_UNITS`]. Blocks.
pub fn discard(folder: &std::path::Path) -> io::Result<()> {
    writable::discard(folder)
}

/// Removes a folder with all that containers have written into it, however deep. Blocks.
pub fn empty(folder: &std::path::Path) -> io::Result<()> {
    writable::empty(folder)
}

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
/// The caller must be single-threaded: the child runs ordinary code after a plain `clone3`. Both children are the
/// caller's to reap; ending both at any time is [`Cgroup::kill`].
pub fn spawn(plan: &Plan, cgroup: &Cgroup) -> Result<Starting, LaunchError> {
    let failed = |step| move |error: io::Error| LaunchError::Spawn { unit: plan.unit.clone(), step, error };
    let (channel, far) = channel().map_err(failed("make a channel"))?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| failed("make a pipe")(e.into()));
    let ((stdout, far_stdout), (stderr, far_stderr)) = (pipe()?, pipe()?);
    for end in [&stdout, &stderr] {
        terminal::non_blocking(end.as_fd()).map_err(failed("make an end non-blocking"))?;
    }
    let ends = setup::Ends {
        channel: message::Channel(far.as_fd()),
        stdout: far_stdout.as_fd(),
        stderr: far_stderr.as_fd(),
    };
    let (setup_pid, setup) =
        sys::clone::clone(libc::CLONE_NEWNS, Some(cgroup.dir()), || setup::run(plan, ends))
            .map_err(failed("clone the setup child"))?;
    Ok(Starting {
        setup,
        setup_pid,
        channel,
        stdout,
        stderr,
        story: message::Story::of("set up the container"),
    })
}

/// The caller's end, which does not block, and the children's.
fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    terminal::non_blocking(near.as_fd())?;
    Ok((near, far))
}

/// Sends a signal to a process by its pidfd.
pub fn signal(pidfd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    sys::clone::pidfd_send_signal(pidfd, number)
}
