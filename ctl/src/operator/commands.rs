//! What each command does, and the only place that prints.

mod check;
mod config;
mod cp;
mod exec;
mod images;
mod install;
mod iso;
mod local;
mod progress;
mod remote;
mod repo;
mod run;
mod update;

use super::cli::{Cli, Command, ConfigCommand, ContextCommand, Global, UnitCommand};
use super::client::ClientError;
use super::home::{Home, HomeError};
use super::private::PrivateKeyError;
use super::render::Style;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    #[error(transparent)]
    Repo(#[from] berth_repo::RepoError),
    /// Said on the command line and not understood further down than clap looks.
    #[error("{0}")]
    Usage(String),
    /// The reader of our output has gone: nothing to say, and nobody to say it to.
    #[error("output closed")]
    OutputClosed,
    #[error("output not written: {0}")]
    Output(io::Error),
    /// Everything has been printed already.
    #[error("")]
    Said,
    /// A command in a unit ended with this code.
    #[error("")]
    Code(u8),
}

impl Failure {
    fn kind(&self) -> &str {
        match self {
            Self::Client(error) => error.kind(),
            Self::Usage(_) => "usage",
            _ => "local",
        }
    }
}

/// Does it, and says how it went: 0 done, 1 failed, 2 not understood.
pub fn run(cli: &Cli) -> ExitCode {
    let out = Out { json: cli.global.json, style: Style::of(&io::stdout()) };
    match dispatch(cli, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::Said) => ExitCode::FAILURE,
        Err(Failure::Code(code)) => ExitCode::from(code),
        Err(failure) => {
            let code = if matches!(failure, Failure::Usage(_)) { 2 } else { 1 };
            let text = if cli.global.json {
                let error = serde_json::json!({"kind": failure.kind(), "message": failure.to_string()});
                serde_json::json!({ "error": error }).to_string()
            } else {
                format!("berth: {failure}")
            };
            // When even standard error is closed, the exit code remains.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::from(code)
        }
    }
}

fn dispatch(cli: &Cli, out: Out) -> Result<(), Failure> {
    match &cli.command {
        Command::Key(command) => local::key(command, &cli.global, out),
        Command::Context(ContextCommand::ExportCert { name }) => {
            let on = name.clone().or_else(|| cli.global.on.clone());
            remote::run(&cli.command, &Global { on, ..cli.global.clone() }, out)
        }
        Command::Context(command) => local::context(command, &Home::from_env()?, out),
        Command::Config(ConfigCommand::Check { file }) => check::check(file, out),
        Command::Unit(UnitCommand::Check { files }) => local::check_units(files, out),
        Command::Unit(UnitCommand::Schema { config }) => local::schema(*config, out),
        Command::Iso(command) => iso::run(command, out),
        Command::Repo(command) => repo::run(command, out),
        command => remote::run(command, &cli.global, out),
    }
}

/// Standard output.
#[derive(Debug, Clone, Copy)]
struct Out {
    json: bool,
    style: Style,
}

impl Out {
    /// The value as JSON, or what `human` makes of it.
    fn show<T: Serialize>(self, value: &T, human: impl FnOnce(&T, Style) -> String) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Output(error.into()))?;
            return self.text(text + "\n");
        }
        self.text(human(value, self.style))
    }

    fn text(self, text: impl AsRef<str>) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref().as_bytes()).and_then(|()| out.flush()).map_err(output)
    }
}

fn output(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe { Failure::OutputClosed } else { Failure::Output(error) }
}

/// A remark beside the answer.
fn remark(text: impl Display) {
    let _ = writeln!(io::stderr(), "berth: {text}");
}

fn home_of(_global: &Global) -> Result<Home, Failure> {
    Ok(Home::from_env()?)
}
