//! `berth config diff`, `apply` and `confirm`.

use super::remote::Asker;
use super::{Failure, Out, local, remark};
use crate::operator::cli::ConfigCommand;
use crate::operator::client::{Client, LOOK_AGAIN};
use crate::operator::render::status;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a config may take until it is in force: it is written to a disk first, which may be slow.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) fn run(command: &ConfigCommand, asker: &Asker, out: Out) -> Result<(), Failure> {
    match command {
        ConfigCommand::Diff { file } => {
            let text = local::read(file)?;
            let change = asker.ask(|client| client.config_change(text, None, true))?;
            out.show(&change, status::change)
        }
        ConfigCommand::Apply { file, confirm } => apply(file, confirm.as_deref(), asker, out),
        ConfigCommand::Confirm => {
            let accepted = asker.ask(Client::config_confirm)?;
            out.show(&accepted, |_, _| "confirmed; it stays\n".to_owned())
        }
        ConfigCommand::Status | ConfigCommand::Reload | ConfigCommand::Check { .. } => Ok(()),
    }
}

fn apply(file: &Path, confirm: Option<&str>, asker: &Asker, out: Out) -> Result<(), Failure> {
    let confirm = confirm
        .map(|text| {
            berth_units::schema::parse_time(text)
                .map_err(|why| Failure::Usage(format!("--confirm {text:?} {why}; write a time such as 5m")))
        })
        .transpose()?;
    let text = local::read(file)?;
    let change = asker.ask(|client| client.config_change(text, confirm, false))?;
    let end = Instant::now() + PATIENCE;
    loop {
        let now = asker.ask(Client::config_status)?;
        if now.sha256 == change.sha256 {
            break;
        }
        if !now.report.is_empty() || Instant::now() > end {
            let report = if now.report.is_empty() { "it is not in force yet" } else { &now.report };
            remark(report);
            return Err(Failure::Said);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    out.show(&change, status::change)?;
    if let Some(time) = confirm {
        remark(format!(
            "in force for {} s; \"berth config confirm\" keeps it, else the one before comes back",
            time.as_secs()
        ));
    }
    Ok(())
}
