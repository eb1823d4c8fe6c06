//! Every bound of the unit `update`, with its unit and its reason.

use std::time::Duration;

/// Bytes of the image's own trusted root and of its address.
pub const ANCHOR_BYTES: u64 = 64 * 1024;
/// Descriptors that are looked at: those of a slot are three.
pub const DESCRIPTORS: usize = 8;
/// Between two reports of how far it is: a terminal shows no more.
pub const REPORT_EVERY: Duration = Duration::from_millis(250);
