//! Boots Berth in QEMU: for people (`cargo run`), for tests and for measurements.
//!
//! A [`machine::Machine`] is what should be plugged together: firmware, disks, network card, watchdog, metadata. Booting
//! it gives a [`running::Running`]: a QEMU process whose serial console is read line by line, that answers QMP, and
//! that is gone when the value is dropped or the process ends, however it does; so are its files ([`scratch`]). Waiting is always for an event with a deadline, and a
//! deadline that passes says what the console said last.
//!
//! The host needs nothing but what [`berth_image::tools`] makes: QEMU and the firmware come from the tools tree.

pub mod accel;
pub mod bare;
pub mod bench;
pub mod console;
pub mod demo;
pub mod disk;
pub mod faults;
pub mod files;
pub mod floor;
mod gdb;
pub mod http;
pub mod install;
pub mod lines;
pub mod machine;
pub mod metadata;
pub mod packages;
pub mod qmp;
pub mod registry;
pub mod running;
pub mod scratch;
pub mod sys;
pub mod updates;
