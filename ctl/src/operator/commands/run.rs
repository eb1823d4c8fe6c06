//! `berth run` and `berth rm`: units in no config.

use super::remote::{self, Asker};
use super::{Failure, Out, config, remark};
use crate::operator::cli::RunArgs;
use crate::operator::client::{Client, LogOptions};
use berth_api::run::Begun;
use berth_units::config::edit::Edit;
use berth_units::control::UnitDetail;
use berth_units::lifecycle::NO_IMAGE;
use toml::{Table, Value};

/// It could not be run, as Docker says it.
const NOT_RUN: u8 = 125;

pub(super) fn run(args: &RunArgs, asker: &Asker, out: Out) -> Result<(), Failure> {
    let file = unit_file(args)?;
    if args.save {
        let name = args.name.clone();
        let name = name.ok_or_else(|| Failure::Usage("--save needs a --name for the unit".into()))?;
        if asker.ask(Client::units)?.iter().any(|unit| unit.name == name) {
            let why = format!("there is a unit {name:?} already; \"berth unit apply\" changes it");
            return Err(Failure::Usage(why));
        }
        return config::put_units(&Edit { units: [(name, file)].into(), ..Edit::default() }, asker, out);
    }
    let Begun { unit } = asker.ask(|client| client.run(args.name.as_deref(), file))?;
    if args.detach {
        return out.show(&Begun { unit }, |begun, _| format!("{}\n", begun.unit));
    }
    remote::logs(asker, &unit, LogOptions { follow: true, until_end: true, tail: None }, false, out)?;
    let ended = asker.ask(|client| client.unit(&unit))?;
    let code = code_of(&ended);
    // Without its image it would be tried for ever, which nobody who waits for it wants.
    if args.rm || ended.status.reason.starts_with(NO_IMAGE) {
        asker.ask(|client| client.remove(&unit, true))?;
    }
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::Code(u8::try_from(code).unwrap_or(1))),
        None => {
            remark(format!("{unit} is {}: {}", ended.status.state, ended.status.reason));
            Err(Failure::Code(NOT_RUN))
        }
    }
}

/// How it ended, if it has run.
fn code_of(unit: &UnitDetail) -> Option<i32> {
    unit.exit_code.filter(|_| !unit.status.reason.starts_with(NO_IMAGE))
}

pub(super) fn remove(units: &[String], force: bool, asker: &Asker, out: Out) -> Result<(), Failure> {
    for unit in units {
        let accepted = asker.ask(|client| client.remove(unit, force))?;
        out.show(&accepted, |_, _| format!("{unit} removed\n"))?;
    }
    Ok(())
}

/// What was typed, as a unit file.
fn unit_file(args: &RunArgs) -> Result<String, Failure> {
    let texts = |list: &[String]| Value::Array(list.iter().cloned().map(Value::String).collect());
    let mut container = Table::new();
    container.insert("image".into(), args.image.clone().into());
    if !args.command.is_empty() {
        container.insert("args".into(), texts(&args.command));
    }
    let mut env = Table::new();
    for pair in &args.env {
        match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() => env.insert(name.to_owned(), value.into()),
            _ => return Err(Failure::Usage(format!("-e {pair:?} is not NAME=VALUE"))),
        };
    }
    if !env.is_empty() {
        container.insert("env".into(), env.into());
    }
    if !args.volume.is_empty() {
        container.insert("volumes".into(), texts(&args.volume));
    }
    for (field, value) in [("user", &args.user), ("workdir", &args.workdir)] {
        if let Some(value) = value {
            container.insert(field.into(), value.clone().into());
        }
    }
    let mut file = Table::new();
    file.insert("container".into(), container.into());
    let mut network = Table::new();
    if let Some(mode) = &args.network {
        network.insert("mode".into(), mode.clone().into());
    }
    if !args.publish.is_empty() {
        network.insert("ports".into(), texts(&args.publish));
    }
    file.insert("network".into(), network.into());
    if let Some(memory) = &args.memory {
        // Docker writes 64m.
        let memory = Table::from_iter([("memory".to_owned(), memory.to_ascii_uppercase().into())]);
        file.insert("resources".into(), memory.into());
    }
    let policy = args.restart.clone().or_else(|| (!args.save).then(|| "no".to_owned()));
    if let Some(policy) = policy {
        file.insert("restart".into(), Table::from_iter([("policy".to_owned(), policy.into())]).into());
    }
    toml::to_string(&file).map_err(|error| Failure::Usage(format!("no unit can be made of this: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::cli::{Cli, Command};
    use berth_units::model::{Origin, RestartPolicy};
    use clap::Parser as _;

    #[test]
    fn what_is_typed_is_a_unit() {
        let line = "berth run --name web -e A=b=c -e D= -p 8080:80 -v data:/data:ro --memory 64m -u www -w /srv image:1 serve \
                    -p x";
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Run(args) = &cli.command else { panic!() };
        let text = unit_file(args).unwrap();
        let unit =
            berth_units::schema::parse_unit("web.toml", "web", text.as_bytes(), Origin::Config).unwrap();
        assert_eq!(unit.container.args.unwrap(), ["serve", "-p", "x"]);
        assert_eq!((unit.container.env["A"].as_str(), unit.container.env["D"].as_str()), ("b=c", ""));
        assert_eq!((unit.network.ports[0].host, unit.resources.memory), (8080, Some(64 << 20)));
        assert_eq!(unit.container.volumes[0].name, "data");
        assert_eq!(unit.restart.policy, RestartPolicy::No);
        let cli = Cli::try_parse_from(["berth", "run", "-e", "=x", "image:1"]).unwrap();
        let Command::Run(args) = &cli.command else { panic!() };
        assert!(matches!(unit_file(args), Err(Failure::Usage(_))));
    }
}
