//! `berth exec`.

use super::remote::Asker;
use super::{Failure, remark};
use crate::operator::cli::Command;
use crate::operator::client::{Outcome, Streams};
use berth_units::control::ExecRequest;
use nix::sys::termios::{self, SetArg, Termios};
use std::io::{self, IsTerminal as _};

/// It could not be started, as shells say it.
const NOT_STARTED: u8 = 126;

pub(super) fn run(command: &Command, asker: &Asker) -> Result<(), Failure> {
    let Command::Exec { interactive, tty, env, user, workdir, unit, command } = command else {
        return Ok(());
    };
    if let Some(bad) = env.iter().find(|pair| pair.starts_with('=') || !pair.contains('=')) {
        return Err(Failure::Usage(format!("-e {bad:?} is not NAME=VALUE")));
    }
    if *tty && *interactive && !io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "-t with -i needs a terminal, and standard input is none; leave -t out".into(),
        ));
    }
    let request = ExecRequest {
        unit: unit.clone(),
        command: command.clone(),
        env: env.clone(),
        user: user.clone(),
        workdir: workdir.clone(),
        terminal: *tty,
        copy: None,
    };
    let mut raw = None;
    let mut begins = || raw = if *tty && *interactive { Raw::begin() } else { None };
    let (mut output, mut errors) = (io::stdout(), io::stderr());
    let streams =
        Streams { input: *interactive, output: &mut output, errors: &mut errors, begins: &mut begins };
    let outcome = asker.ask(|client| client.exec(&request, streams));
    drop(raw);
    match outcome? {
        Outcome::Exited(0) => Ok(()),
        Outcome::Unread => Err(Failure::OutputClosed),
        Outcome::Signalled(signal) => Err(Failure::Code(u8::try_from(128 + signal).unwrap_or(1))),
        Outcome::Exited(code) => Err(Failure::Code(u8::try_from(code).unwrap_or(1))),
        Outcome::Failed(reason) => {
            remark(reason);
            Err(Failure::Code(NOT_STARTED))
        }
    }
}

/// Our terminal passes everything on as it is typed, until this is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Option<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}
