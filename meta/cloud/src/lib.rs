//! Asks a cloud's metadata service: `berth worker cloud`, a system unit that runs once, when `meta` has found nothing nearer and the
//! firmware has said which cloud this is.
//!
//! ```text
//!  PID 1 ── AskCloud ──▶ worker ──▶ ec2 | gce     which paths, what their answers mean
//!                                      │
//!                                   engine        one request after the other: caps, time-outs, tokens, pauses, the deadline
//! ```
//!
//! The table of clouds is [`berth_meta::providers`]. What a cloud says becomes one config, as what a volume says does
//! ([`berth_meta::compose`]), and PID 1 checks it again. The service is plain HTTP on a link-local address: whoever is in the
//! machine's network in its place is believed, as by every other system in that cloud; that nothing is asked unless the firmware
//! says so is what keeps other machines from it.

pub mod ec2;
pub mod engine;
pub mod gce;
mod limits;
mod worker;

pub use worker::{ask, run};

/// Entry points for fuzzing.
pub mod fuzz {
    pub use crate::gce::fuzz as gce;
}
