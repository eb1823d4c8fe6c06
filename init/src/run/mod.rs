//! PID 1 after the boot steps: one loop that waits for everything at once and never for one thing.
//!
//! ```text
//!  signals ─┐                                          ┌─▶ containers  starts, processes, output, cgroups
//!  control ─┤            Input            Kernel calls ├─▶ peers       messages to workers and operators
//!  starts  ─┼▶ machine ─────────▶ supervisor ──────────┼─▶ chores      what may block, in short-lived children
//!  output  ─┤ (reactor)  inbox     (pure)              ├─▶ console, own log, record
//!  uevents ─┘                                          └─▶ the way down
//! ```
//!
//! [`supervisor`] decides, knows no descriptor, and is tested on a pretended kernel; [`machine`] carries out
//! ([`kernel`] is the seam). Every wait has a deadline, every queue a bound ([`limits`]). The watchdog is petted after
//! a pass that went well, and only then. A panic inside a pass is caught, logged and counted; too many of them, and
//! the machine reboots in an orderly way.

pub mod answers;
pub mod checks;
mod chores;
pub mod console;
pub mod containers;
pub mod devices;
mod execs;
pub mod files;
pub mod generations;
pub mod ids;
mod kept;
pub mod kernel;
mod kmsg;
pub mod last;
pub mod limits;
mod log;
pub mod machine;
pub mod notices;
mod passed;
mod peers;
pub mod reactor;
pub mod supervisor;
pub mod targets;
pub mod text;
pub mod trials;
mod turn;
mod visit;
mod volumes;

pub use turn::main;
