//! The unit `update`: asks the repository what it offers, and writes that into the slot that does not run.
//!
//! It is told by PID 1 what to do ([`ToWorker::UpdateCheck`], then [`ToWorker::UpdateWrite`]) and has descriptors of the slot's
//! partitions and of the ESP. What it wrote is started by PID 1's word only. It blocks: there is one thing to do at
//! a time, and who wants it to stop ends the unit; the next one goes on where this one was.
//!
//! [`ToWorker::UpdateCheck`]: berth_units::control::ToWorker::UpdateCheck
//! [`ToWorker::UpdateWrite`]: berth_units::control::ToWorker::UpdateWrite

mod limits;
mod worker;

pub use worker::{Places, run, serve};
