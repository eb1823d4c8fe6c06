//! PID 1, in both of its stages.
//!
//! `/init` of the initrd, which the verified root is moved under; it is not started a second time. It may touch the
//! kernel, the boot disk's record and state partitions and `/run`; it never resolves a name, never reads a byte
//! from the network and never parses an image. It links `berth-units` and `berth-updater` and nothing else of ours.
//!
//! * [`early`]: the initrd stage (find this slot's root by its hash, verify, mount, move on) and the steps of the
//!   main stage (file systems, modules, state, identity), each one row of a table; ends in [`early::Booted`].
//! * [`run`]: everything after: the event loop, units, the control socket, boot assessment, shutdown.
//! * [`sys`]: the system calls that neither `std` nor `nix` has; the only place for `unsafe`.
//!
//! Invariants: nothing panics outward; no step blocks beyond its time limit, because what can block runs in a
//! short-lived child ([`sys::child`]); the watchdog is armed before anything else can hang.

pub mod early;
pub mod run;
pub mod sys;

/// Entry points for fuzzing: each takes any bytes, touches nothing, and must neither panic nor run away.
pub mod fuzz {
    pub use crate::early::pstore::fuzz as panic_record;
    pub use crate::early::state::fuzz as ext4;
}
