//! The `berth` program: what an operator types, and, as `berth worker NAME`, what runs the machine's own services.
//!
//! The operator's half speaks to a machine's API server over TLS with bare keys, and touches nothing else but its
//! own folder ([`Home`]). It is a library as well, so that the harness and the tests can do in-process what `berth`
//! does: [`Home`] makes keys and contexts, [`Client`] asks. Without the feature `operator` only the workers remain.
//!
//! In the order in which a command passes through: [`cli`] (what was typed) → [`Home`] (which machine, which key) →
//! [`Client`] (ask it) → [`render`] (say it). The library returns text and errors; only [`main`] prints.
//!
//! Invariants: a machine whose key is not the pinned one is asked nothing; what a machine sends reaches a terminal
//! only without its control characters, but for a command's output (`berth exec`), which passes as it is.

pub mod copy;
#[cfg(feature = "operator")]
mod operator;
#[cfg(feature = "operator")]
mod sys;
mod worker;

#[cfg(feature = "operator")]
pub use operator::{
    cli, client,
    client::{Client, ClientError, LogOptions, Outcome, Streams},
    home,
    home::{Context, Home, HomeError, ensure_key, home, public_key_line, write_context},
    private,
    private::PrivateKey,
    render, support,
};

use std::process::ExitCode;

/// The whole program.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "worker") {
        return worker::run(words);
    }
    #[cfg(feature = "operator")]
    return operator::run();
    #[cfg(not(feature = "operator"))]
    {
        eprintln!(
            "this build of berth runs workers only (\"berth worker NAME\"); use the one on your own computer"
        );
        ExitCode::from(2)
    }
}
