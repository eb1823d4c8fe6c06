//! Another config in force: all of it, some of its units, an earlier one.

use super::remote::Asker;
use super::{Failure, Out, local, remark};
use crate::operator::cli::{ConfigCommand, UnitCommand};
use crate::operator::client::{Client, LOOK_AGAIN};
use crate::operator::render::status;
use berth_units::config::edit::Edit;
use berth_units::control::ConfigChange;
use serde::Serialize;
use std::path::{Path, PathBuf};
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
        ConfigCommand::Show => {
            let text = asker.ask(Client::config_text)?;
            let shown = Shown { config: text };
            out.show(&shown, |shown, _| shown.config.clone())
        }
        ConfigCommand::Status | ConfigCommand::Reload | ConfigCommand::Check { .. } => Ok(()),
    }
}

/// `berth config show --json`.
#[derive(Serialize)]
struct Shown {
    config: String,
}

/// `berth unit diff`, `apply` and `rm`.
pub(super) fn units(command: &UnitCommand, asker: &Asker, out: Out) -> Result<(), Failure> {
    let (edit, confirm) = match command {
        UnitCommand::Diff { files } => {
            let edit = read_units(files)?;
            let change = asker.ask(|client| client.units_change(&edit, None, true))?;
            return out.show(&change, status::change);
        }
        UnitCommand::Apply { files, confirm } => (read_units(files)?, confirm.as_deref()),
        UnitCommand::Rm { units, confirm } => {
            (Edit { remove: units.iter().cloned().collect(), ..Edit::default() }, confirm.as_deref())
        }
        UnitCommand::Check { .. } | UnitCommand::Schema { .. } => return Ok(()),
    };
    let confirm = time_in(confirm)?;
    let change = asker.ask(|client| client.units_change(&edit, confirm, false))?;
    in_force(&change, confirm, asker, out)
}

/// Puts units into the config, and in force.
pub(super) fn put_units(edit: &Edit, asker: &Asker, out: Out) -> Result<(), Failure> {
    let change = asker.ask(|client| client.units_change(edit, None, false))?;
    in_force(&change, None, asker, out)
}

/// Unit files, each under the name of its unit.
fn read_units(files: &[PathBuf]) -> Result<Edit, Failure> {
    let mut edit = Edit::default();
    for file in files {
        let shown = file.display();
        let name =
            file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".toml"));
        let name = name.ok_or_else(|| {
            Failure::Usage(format!("{shown}: a unit's file is called as the unit, with .toml: web.toml"))
        })?;
        let text = String::from_utf8(local::read(file)?)
            .map_err(|_| Failure::Usage(format!("{shown} is not UTF-8 text")))?;
        if edit.units.insert(name.to_owned(), text).is_some() {
            return Err(Failure::Usage(format!("unit {name} is there twice")));
        }
    }
    Ok(edit)
}

/// `berth rollback`.
pub(super) fn roll_back(
    to: Option<u64>,
    only_look: bool,
    confirm: Option<&str>,
    asker: &Asker,
    out: Out,
) -> Result<(), Failure> {
    let confirm = time_in(confirm)?;
    let change = asker.ask(|client| client.roll_back(to, confirm, only_look))?;
    if only_look { out.show(&change, status::change) } else { in_force(&change, confirm, asker, out) }
}

fn apply(file: &Path, confirm: Option<&str>, asker: &Asker, out: Out) -> Result<(), Failure> {
    let confirm = time_in(confirm)?;
    let text = local::read(file)?;
    let change = asker.ask(|client| client.config_change(text, confirm, false))?;
    in_force(&change, confirm, asker, out)
}

/// `--confirm`.
fn time_in(text: Option<&str>) -> Result<Option<Duration>, Failure> {
    let understood = text.map(|text| {
        berth_units::schema::parse_time(text)
            .map_err(|why| Failure::Usage(format!("--confirm {text:?} {why}; write a time such as 5m")))
    });
    understood.transpose()
}

/// Waits until it is, and says what has changed.
fn in_force(
    change: &ConfigChange,
    confirm: Option<Duration>,
    asker: &Asker,
    out: Out,
) -> Result<(), Failure> {
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
    out.show(change, status::change)?;
    if let Some(time) = confirm {
        remark(format!(
            "in force for {} s; \"berth config confirm\" keeps it, else the one before comes back",
            time.as_secs()
        ));
    }
    Ok(())
}
