//! The worker: searches once, tells PID 1, ends.

use crate::disk::Disk;
use crate::search::{Outcome, Places, search};
use crate::{fwcfg, limits, smbios};
use berth_units::control::client::Client;
use berth_units::control::sealed::sealed;
use berth_units::control::{FromWorker, ToInit};
use berth_units::{given, paths};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

/// `berth worker meta`.
pub fn run() -> ExitCode {
    let told = Client::worker().and_then(|client| {
        let fds = given::block_fds();
        let places = Places {
            seed: paths::SEED.into(),
            smbios: smbios::TABLES.into(),
            fw_cfg: fwcfg::ENTRY.into(),
            disks: disks(&fds),
        };
        tell(&client, search(&places))?;
        client.finish()
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The unit's log is the only place left.
            let _ = io::stderr().write_all(format!("machine config not looked for: {e}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// Disks by `BERTH_BLOCK_FDS`: `vdb=5,sr0=6`.
fn disks(fds: &str) -> Vec<(String, Result<Disk, String>)> {
    let open = |(name, file): (String, io::Result<File>)| {
        (name, file.and_then(Disk::new).map_err(|error| error.to_string()))
    };
    given::block_devices(fds, limits::DISKS).into_iter().map(open).collect()
}

/// Tells what came of the search, and that the work is done.
fn tell(client: &Client, outcome: Outcome) -> io::Result<()> {
    match outcome {
        Outcome::Found { source, text, looked } => {
            let text = sealed("berth.toml", &text)?;
            let message = ToInit::Worker(FromWorker::ConfigFound { source, looked });
            client.send(&message, &[text.as_fd()])?;
        }
        Outcome::Refused { source, report, keys, looked } => {
            client.tell(FromWorker::ConfigRefused { source, report, keys, looked })?;
        }
        Outcome::None { looked } => client.tell(FromWorker::ConfigNone { looked })?,
    }
    client.tell(FromWorker::Ready)
}

#[cfg(test)]
mod tests;
