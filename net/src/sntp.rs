//! The time, asked of several servers (RFC 4330, RFC 5905 as far as a client needs it).
//!
//! `berth worker time` is a system unit with users of its own and no capability: it reads what anybody may send, and all it
//! can do is tell PID 1 by how much the clock seems to be wrong. PID 1 alone moves the clock, within rules of its own.
//!
//! ```text
//!  servers ── 48 bytes each ──▶ message ──▶ vote (how far off, how sure; do most agree?) ──▶ client (when, and what of it) ──▶ PID 1
//! ```
//!
//! * A question carries nothing but a random number, and only an answer with that number counts, from the address that was
//!   asked: whoever is not on the way cannot answer in time.
//! * An answer bounds the offset: it cannot be further from the truth than half the way there and back, plus what the server
//!   says of itself. More than half of those who answer must have a time in common.
//! * A clock that was right once is not moved far by one round: a second one, a little later, has to say the same.

pub mod client;
pub mod message;
pub mod vote;
pub mod worker;

pub use worker::run;
