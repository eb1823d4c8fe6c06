//! Commands that ask a machine.

use super::{Failure, Out, config, home_of, images, install, output, remark};
use crate::operator::cli::{Command, ConfigCommand, ContextCommand, Global, ImageCommand, VolumeCommand};
use crate::operator::client::{Client, LOOK_AGAIN, LogOptions};
use crate::operator::home::{Home, HomeError};
use crate::operator::render::style::clean_log;
use crate::operator::render::volumes as table_of;
use crate::operator::render::{Style, history, human, stats as table, status, units};
use crate::operator::support::Bundle;
use berth_api::logs::{Line, Stream};
use berth_api::routes::{Accepted, Version};
use berth_api::stats::Stats;
use berth_units::config::edit::Edit;
use berth_units::control::{Drive, UnitStatus};
use berth_units::instances;
use berth_units::model::Origin;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long `stop`, `start` and `restart` wait; the machine goes on by itself.
const PATIENCE: Duration = Duration::from_secs(300);

/// Processor time is measured over this before it is shown.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Between two tables.
const REDRAW: Duration = Duration::from_secs(2);
/// Empties a terminal (ECMA-48, as the following).
const CLEAR: &str = "\x1b[2J";
/// To its first line.
const HOME: &str = "\x1b[H";
/// Empties the rest of a line, and ends it.
const CLEAR_LINE: &str = "\x1b[K\n";
/// Empties what is below.
const TO_END: &str = "\x1b[J";

/// Runs one of them.
pub fn run(command: &Command, global: &Global, out: Out) -> Result<(), Failure> {
    if let Command::Version = command {
        return version(global, out);
    }
    let asker = Asker::new(global)?;
    match command {
        Command::Ps { all } => asker.ask(Client::units).and_then(|mut list| {
            list.retain(|unit| *all || unit.origin == Origin::Config);
            out.show(&list, |list, style| units::ps(list, *all, style))
        }),
        Command::Stats { units, all, no_stream } => stats(&asker, units, *all, *no_stream, out),
        Command::Context(ContextCommand::ExportCert { .. }) => {
            asker.ask(Client::machine_certificate).and_then(|pem| out.text(pem))
        }
        Command::Inspect { unit } => {
            asker.ask(|client| client.unit(unit)).and_then(|unit| out.show(&unit, units::inspect))
        }
        Command::Logs { unit, follow, tail, timestamps } => {
            let options = LogOptions { follow: *follow, tail: *tail, until_end: false };
            logs(&asker, unit, options, *timestamps, out)
        }
        Command::Cp { follow_link, from, to } => super::cp::run(from, to, *follow_link, &asker, out),
        Command::Run(args) => super::run::run(args, &asker, out),
        Command::Rm { force, units } => super::run::remove(units, *force, &asker, out),
        Command::Exec { .. } => super::exec::run(command, &asker),
        Command::Stop { unit, disable: true } => enable(&asker, unit, false, out),
        Command::Start { unit, enable: true } => enable(&asker, unit, true, out),
        Command::Stop { unit, .. } => drive(&asker, unit, Drive::Stop, out),
        Command::Start { unit, .. } => drive(&asker, unit, Drive::Start, out),
        Command::Restart { unit } => drive(&asker, unit, Drive::Restart, out),
        Command::Images => images::run(&ImageCommand::Ls, &asker, out),
        Command::Pull { image } => images::run(&ImageCommand::Pull { image: image.clone() }, &asker, out),
        Command::Load { input, archive } => {
            let file = input.clone().or_else(|| archive.clone()).unwrap_or_default();
            images::run(&ImageCommand::Load { file }, &asker, out)
        }
        Command::Rmi { images: names } => {
            images::run(&ImageCommand::Rm { images: names.clone() }, &asker, out)
        }
        Command::Image(command) => images::run(command, &asker, out),
        Command::Machine => asker.ask(Client::machine).and_then(|m| out.show(&m, status::machine)),
        Command::BootTimes => asker.ask(Client::boot_times).and_then(|t| out.show(&t, status::boot_times)),
        Command::Slots => asker.ask(Client::slots).and_then(|s| out.show(&s, status::slots)),
        Command::History => asker.ask(Client::history).and_then(|h| out.show(&h, history::history)),
        Command::Update(command) => super::update::run(command, &asker, out),
        Command::Config(ConfigCommand::Status) => {
            asker.ask(Client::config_status).and_then(|c| out.show(&c, status::config))
        }
        Command::Config(ConfigCommand::Reload) => reload(&asker, out),
        Command::Config(command) => super::config::run(command, &asker, out),
        Command::Unit(command) => super::config::units(command, &asker, out),
        Command::Rollback { generation, diff, confirm } => {
            super::config::roll_back(*generation, *diff, confirm.as_deref(), &asker, out)
        }
        Command::Volume(command) => volume(command, &asker, out),
        Command::Support { file } => support(&asker, file.as_deref(), out),
        Command::Disks => install::disks(&asker, out),
        Command::Install(args) => install::install(args, &asker, out),
        Command::Reset(args) => install::reset(args, &asker, out),
        Command::Reboot => act(&asker, Client::reboot, "stops its units and reboots", out),
        Command::Poweroff => act(&asker, Client::poweroff, "stops its units and powers off", out),
        Command::Halt => act(&asker, Client::halt, "stops its units and halts", out),
        // The others ask nobody; `dispatch` has sent them elsewhere.
        _ => Err(Failure::Usage("this command asks no machine".into())),
    }
}

/// A client that pins the machine's key once it has given an answer.
pub(super) struct Asker {
    client: Client,
    home: Home,
    pinned: bool,
}

impl Asker {
    fn new(global: &Global) -> Result<Self, Failure> {
        let home = home_of(global)?;
        let client = Client::for_context(&home, global.on.as_deref(), global.key.as_deref())?;
        let pinned = home.contexts()?.choose(global.on.as_deref())?.1.machine_key.is_some();
        Ok(Self { client, home, pinned })
    }

    /// The machine's name here.
    pub(super) fn name(&self) -> &str {
        self.client.context()
    }

    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&Client) -> Result<T, crate::ClientError>,
    ) -> Result<T, Failure> {
        let answer = question(&self.client)?;
        if let (false, Some(seen)) = (self.pinned, self.client.machine_key()) {
            self.home.pin(self.client.context(), Some(&seen))?;
            remark(format_args!(
                "first contact with {} ({}): its key is pinned now, compare it with its console:\n  {seen}",
                self.client.context(),
                self.client.machine_address(),
            ));
        }
        Ok(answer)
    }
}

fn act(
    asker: &Asker,
    question: impl FnOnce(&Client) -> Result<Accepted, crate::ClientError>,
    what: &str,
    out: Out,
) -> Result<(), Failure> {
    let accepted = asker.ask(question)?;
    let name = asker.client.context();
    out.show(&accepted, |_, _| format!("{name} {what}\n"))
}

/// The figures of the units that are wanted.
fn figures(asker: &Asker, wanted: &[String], all: bool) -> Result<Stats, Failure> {
    let mut stats = asker.ask(Client::stats)?;
    if let Some(name) =
        wanted.iter().find(|name| stats.units.iter().all(|unit| !instances::is_of(&unit.name, name)))
    {
        return Err(Failure::Usage(format!("there is no unit {name:?}; \"berth ps --all\" lists them")));
    }
    stats.units.retain(|unit| {
        let runs = unit.usage.is_some() && (all || unit.origin == Origin::Config);
        if wanted.is_empty() { runs } else { wanted.iter().any(|name| instances::is_of(&unit.name, name)) }
    });
    Ok(stats)
}

fn stats(asker: &Asker, wanted: &[String], all: bool, once: bool, out: Out) -> Result<(), Failure> {
    let mut before = figures(asker, wanted, all)?;
    if out.json {
        return out.show(&before, |_, _| String::new());
    }
    let stream = !once && io::stdout().is_terminal();
    if stream {
        out.text(CLEAR)?;
    }
    let mut at = Instant::now();
    // The first table has to wait for its share of processor time.
    let mut pause = FIRST_LOOK;
    loop {
        std::thread::sleep(pause);
        let now = figures(asker, wanted, all)?;
        let (then, since) = (table::cpu_times(&before), at.elapsed());
        at = Instant::now();
        let text = match now.units.is_empty() {
            true => "no unit runs; \"berth stats --all\" shows the system's own\n".to_owned(),
            false => table::stats(&now, &then, since, Style::of(&io::stdout())),
        };
        if !stream {
            return out.text(text);
        }
        // Drawn over the last one, so that nothing flickers.
        out.text(format!("{HOME}{}{TO_END}", text.replace('\n', CLEAR_LINE)))?;
        (before, pause) = (now, REDRAW);
    }
}

/// With the machine, or not; and now as well.
fn enable(asker: &Asker, unit: &str, enabled: bool, out: Out) -> Result<(), Failure> {
    config::put_units(&Edit { enable: [(unit.to_owned(), enabled)].into(), ..Edit::default() }, asker, out)
}

/// Asks, and waits until the unit, with all its instances, is where it was to go, or cannot get there.
fn drive(asker: &Asker, name: &str, order: Drive, out: Out) -> Result<(), Failure> {
    let look = || {
        asker.ask(Client::units).map(|mut list| {
            list.retain(|unit| instances::is_of(&unit.name, name));
            list
        })
    };
    let before: BTreeMap<String, Option<i32>> =
        look()?.into_iter().map(|status| (status.name, status.pid)).collect();
    asker.ask(|client| client.drive(name, order))?;
    let end = Instant::now() + PATIENCE;
    loop {
        let list = look()?;
        let there = list.iter().all(|status| {
            let up = matches!(status.state.as_str(), "running" | "healthy" | "finished");
            match order {
                Drive::Stop => status.state == "stopped",
                Drive::Start => up,
                Drive::Restart => up && before.get(&status.name) != Some(&status.pid),
            }
        });
        let stuck = order != Drive::Stop
            && list.iter().any(|status| matches!(status.state.as_str(), "failed" | "backoff" | "unhealthy"));
        if there || stuck || Instant::now() > end {
            out.show(&list, |list, _| {
                let line = |unit: &UnitStatus| {
                    let dash = if unit.reason.is_empty() { "" } else { ": " };
                    format!("{} is {}{dash}{}\n", unit.name, unit.state, unit.reason)
                };
                list.iter().map(line).collect()
            })?;
            return if there { Ok(()) } else { Err(Failure::Said) };
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn reload(asker: &Asker, out: Out) -> Result<(), Failure> {
    let reload = asker.ask(Client::config_reload)?;
    out.show(&reload, status::reload)?;
    if reload.state == "kept" { Ok(()) } else { Err(Failure::Said) }
}

/// `berth volume`.
fn volume(command: &VolumeCommand, asker: &Asker, out: Out) -> Result<(), Failure> {
    match command {
        VolumeCommand::Ls => asker
            .ask(Client::volumes)
            .and_then(|list| out.show(&list, |list, style| table_of::volumes(list, style))),
        VolumeCommand::Inspect { volume } => asker
            .ask(|client| client.volume(volume))
            .and_then(|list| out.show(&list, |list, style| table_of::volumes(list, style))),
        VolumeCommand::Rm { volumes } => volumes.iter().try_for_each(|volume| {
            let accepted = asker.ask(|client| client.remove_volume(volume))?;
            out.show(&accepted, |_, _| format!("volume {volume} removed\n"))
        }),
    }
}

/// `berth support`.
fn support(asker: &Asker, file: Option<&Path>, out: Out) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Written {
        file: String,
        bytes: usize,
    }
    let bundle = asker.ask(Bundle::gather)?;
    let archive = bundle.archive().map_err(Failure::Output)?;
    let name = format!("{}.tar.gz", bundle.name());
    let path = file.unwrap_or(Path::new(&name));
    // Somebody else's file is not written over, and nobody else reads what logs may hold.
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut to| to.write_all(&archive))
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    let written = Written { file: path.display().to_string(), bytes: archive.len() };
    out.show(&written, |written, _| {
        format!("{} written, {}\n", written.file, human::bytes(written.bytes as u64))
    })
}

pub(super) fn logs(
    asker: &Asker,
    unit: &str,
    options: LogOptions,
    timestamps: bool,
    out: Out,
) -> Result<(), Failure> {
    let lines = asker.ask(|client| client.logs(unit, options))?;
    let (mut to_out, mut to_err) = (io::stdout().lock(), io::stderr().lock());
    let (out_terminal, err_terminal) = (to_out.is_terminal(), to_err.is_terminal());
    for line in lines {
        let line = line?;
        if out.json {
            serde_json::to_writer(&mut to_out, &line).map_err(|error| output(error.into()))?;
            writeln!(to_out).and_then(|()| to_out.flush()).map_err(output)?;
            continue;
        }
        let (to, terminal): (&mut dyn io::Write, bool) = match line.stream {
            Stream::Out => (&mut to_out, out_terminal),
            Stream::Err | Stream::Berth => (&mut to_err, err_terminal),
        };
        writeln!(to, "{}", log_line(&line, timestamps, terminal))
            .and_then(|()| to.flush())
            .map_err(output)?;
    }
    Ok(())
}

fn log_line(line: &Line, timestamps: bool, terminal: bool) -> String {
    let mut text = String::new();
    if timestamps {
        text.push_str(line.time.as_deref().unwrap_or("-"));
        text.push(' ');
    }
    if line.stream == Stream::Berth {
        text.push_str("berth: ");
    }
    text + &if terminal { clean_log(&line.text) } else { line.text.clone() }
}

/// `berth version`: the machine is asked only if there is one.
fn version(global: &Global, out: Out) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Both {
        berth: &'static str,
        machine: Option<Version>,
    }
    let machine = match Asker::new(global) {
        Ok(asker) => Some(asker.ask(Client::version)?),
        // Nobody to ask, and nobody was asked for.
        Err(Failure::Client(crate::ClientError::Home(HomeError::NotChosen | HomeError::NoKey(_))))
            if global.on.is_none() =>
        {
            None
        }
        Err(failure) => return Err(failure),
    };
    let both = Both { berth: env!("CARGO_PKG_VERSION"), machine };
    out.show(&both, |both: &Both, _: Style| {
        let mut text = format!("berth {}\n", both.berth);
        if let Some(machine) = &both.machine {
            text.push_str(&format!(
                "{} runs Berth {}, API {}\n",
                machine.hostname, machine.version, machine.api
            ));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines() {
        let line = |stream, text: &str| Line { time: Some("T".into()), stream, text: text.into() };
        assert_eq!(log_line(&line(Stream::Out, "a\x1b[2Jb"), false, false), "a\x1b[2Jb");
        assert_eq!(log_line(&line(Stream::Out, "a\x1b[2Jb"), true, true), "T a\u{fffd}[2Jb");
        assert_eq!(log_line(&line(Stream::Berth, "gap"), false, false), "berth: gap");
    }
}
