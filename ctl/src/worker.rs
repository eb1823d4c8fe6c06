//! `berth worker NAME`: the machine's own services, one process each.

mod copy;
mod probe;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Runs one worker. A unit's first process ignores every signal that it has no handler for (pid_namespaces(7)), so
/// that SIGTERM ends it only because of the one here, or, in the API server, of its own; nothing needs to be put away,
/// for all state is written beside and flipped.
pub fn run(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let name = words.next();
    let name = name.as_deref().and_then(|name| name.to_str());
    if name == Some("probe") {
        // Before the handler below: a signal is no sign of health.
        return probe::run(words);
    }
    if name == Some("copy") {
        return copy::run(words);
    }
    if name != Some("api")
        && let Err(error) = signal_hook::flag::register_conditional_shutdown(
            signal_hook::consts::SIGTERM,
            0,
            Arc::new(AtomicBool::new(true)),
        )
    {
        eprintln!("SIGTERM cannot be caught: {error}; stopping will take its whole time limit");
    }
    match name {
        Some("api") => berth_api::run(),
        Some("net") => berth_net::run(),
        Some("time") => berth_net::sntp::run(),
        Some("meta") => berth_meta::run(),
        Some("cloud") => berth_cloud::run(),
        Some("store") => berth_store::run(),
        Some("fetch") => berth_store::registry::run(),
        Some("update") => berth_update::run(),
        Some("install") => berth_install::run(),
        Some("mkstate") => berth_store::mkstate::run(),
        _ => {
            eprintln!(
                "usage: berth worker net|time|meta|cloud|store|fetch|update|install|api|mkstate (PID 1 starts these)"
            );
            ExitCode::from(2)
        }
    }
}
