//! Everything that boots machines, or judges Berth by programs of others. One program, so that two machines are under way
//! whenever there is something left to do, and none waits for the last test of a file.
//!
//! `cargo test -p berth-tests --test machines` runs it all, `-- units::` one module, `-- NAME` what has that in its name.

mod access;
mod boots;
mod cloud_init;
mod clouds;
mod demo;
mod disks;
mod faults;
mod harness;
mod images;
mod install;
mod launch;
mod metrics;
mod misbehaviour;
mod network;
mod registry;
mod repair;
mod shipped;
mod shutdown;
mod software;
mod sources;
mod time;
mod umoci;
mod units;
mod update;
