//! The worker: searches once, tells PID 1, ends.

use crate::disk::Disk;
use crate::search::{Found, Outcome, Places, glance, search};
use crate::{fwcfg, limits, smbios};
use berth_units::control::client::Client;
use berth_units::control::sealed::sealed;
use berth_units::control::{FromWorker, ToInit, ToWorker};
use berth_units::{given, paths};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

/// `berth worker meta`.
pub fn run() -> ExitCode {
    let told = Client::worker().and_then(|mut client| {
        let fds = given::block_fds();
        let places = Places {
            seed: paths::SEED.into(),
            named: named(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default()),
            smbios: smbios::TABLES.into(),
            fw_cfg: fwcfg::ENTRY.into(),
            disks: disks(&fds),
        };
        loop {
            match client.recv()?.0 {
                ToWorker::Look { uuid } => break tell(&client, search(&places, uuid.as_deref()))?,
                ToWorker::Glance => {
                    client.tell(FromWorker::Instances { seen: glance(&places.disks) })?;
                    break client.tell(FromWorker::Ready)?;
                }
                // Other workers' messages.
                _ => {}
            }
        }
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

/// The volume that the kernel's command line names: `berth.config=LABEL`. The first word counts, as elsewhere.
fn named(cmdline: &str) -> Option<String> {
    let words = cmdline.split_ascii_whitespace();
    let label = words.filter_map(|word| word.strip_prefix("berth.config=")).next()?;
    (!label.is_empty() && label.len() <= limits::LABEL_BYTES).then(|| label.to_owned())
}

/// Disks by `BERTH_BLOCK_FDS`: `vdb=5,sr0=6`.
fn disks(fds: &str) -> Vec<(String, Result<Disk, String>)> {
    let open = |(name, file): (String, io::Result<File>)| {
        (name, file.and_then(Disk::new).map_err(|error| error.to_string()))
    };
    given::block_devices(fds, limits::DISKS).into_iter().map(open).collect()
}

/// Tells what came of a search, and that the work is done.
pub fn tell(client: &Client, outcome: Outcome) -> io::Result<()> {
    let Outcome { found, looked, notes } = outcome;
    match found {
        Found::Config { source, text } => {
            let text = sealed("berth.toml", &text)?;
            let message = ToInit::Worker(FromWorker::ConfigFound { source, looked, notes });
            client.send(&message, &[text.as_fd()])?;
        }
        Found::Refused { source, report, salvage } => {
            let message = ToInit::Worker(FromWorker::ConfigRefused { source, report, looked, notes });
            let salvage = if salvage.is_empty() { None } else { Some(sealed("salvage", &salvage)?) };
            let fds: Vec<_> = salvage.iter().map(AsFd::as_fd).collect();
            client.send(&message, &fds)?;
        }
        Found::None { cloud } => {
            let cloud = cloud.map(str::to_owned);
            client.tell(FromWorker::ConfigNone { looked, notes, cloud })?;
        }
    }
    client.tell(FromWorker::Ready)
}

#[cfg(test)]
mod tests;
