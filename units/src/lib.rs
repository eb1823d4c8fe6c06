//! What a unit is, and how it becomes a running container.
//!
//! The crate is used by PID 1 (which links nothing else of ours but `berth-updater`), by the workers for the
//! protocol they speak with PID 1, and by the command line for its checker. Everything but [`launch`], [`cgroup`],
//! [`logs`] and [`control`]'s client is pure: no clock, no file, no kernel.
//!
//! In the order in which data meets it:
//! text → [`diag`] and [`schema`] → [`model::Unit`] → [`graph`] (order, cycles) → [`lifecycle`] (what happens
//! next) → [`launch`] (namespaces, mounts, cgroup, seccomp) → [`logs`]. [`control`] is what PID 1 and everybody
//! else say to each other; [`image`] is what the store tells PID 1 about an image; [`paths`] and [`limits`] are
//! the one place for both.

pub mod at_hand;
pub mod blank;
#[cfg(test)]
mod bless;
pub mod calendar;
pub mod cgroup;
pub mod change;
pub mod clock;
pub mod config;
pub mod control;
pub mod diag;
pub mod disks;
mod env_file;
pub mod figures;
pub mod generation;
pub mod given;
pub mod graph;
pub mod health;
pub mod image;
pub mod instances;
pub mod launch;
pub mod lifecycle;
pub mod limits;
pub mod logs;
pub mod model;
pub mod notify;
pub mod paths;
pub mod privileges;
pub mod probe;
pub mod schema;
pub mod seccomp;
pub mod signals;
pub mod signatures;
mod sys;
pub mod terminal;

/// Mounts by descriptors, for PID 1's own.
pub mod mounts {
    pub use crate::sys::mount::{attach, detached, restrict};
}
