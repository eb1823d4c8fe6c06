//! The main loop.

pub mod console;
pub mod ids;
pub mod kernel;
pub mod limits;
pub mod supervisor;
pub mod text;
