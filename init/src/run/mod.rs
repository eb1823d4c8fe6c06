//! The main loop.

pub mod chores;
pub mod console;
pub mod ids;
pub mod kernel;
pub mod limits;
pub mod peers;
pub mod reactor;
pub mod supervisor;
pub mod text;

/// To be.
pub fn main(_: crate::early::Booted) {}
