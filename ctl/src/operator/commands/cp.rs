//! `berth cp`.

use super::progress::Line;
use super::remote::Asker;
use super::{Failure, Out, output, remark};
use crate::copy::Tally;
use crate::operator::client::{Client, CopyError, InUnit, LOOK_AGAIN, Report};
use crate::operator::render::human;
use serde::Serialize;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// What stands for a tar on standard input or output.
const TAR: &str = "-";
/// What is done sooner needs no progress.
const QUICK: Duration = Duration::from_secs(1);

/// One side of a copy.
enum Side<'a> {
    Unit(InUnit<'a>),
    Here(&'a str),
}

/// `UNIT:PATH`, or a path here. One here with a colon is written with a folder in front: `./a:b`.
fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        Some((unit, path)) if berth_units::instances::is_name(unit) => Side::Unit(InUnit { unit, path }),
        _ => Side::Here(text),
    }
}

#[derive(Serialize)]
struct Done<'a> {
    from: &'a str,
    to: &'a str,
    #[serde(flatten)]
    tally: Tally,
}

pub(super) fn run(from: &str, to: &str, follow: bool, asker: &Asker, out: Out) -> Result<(), Failure> {
    let mut watch = Watch::new(out.json);
    let mut left = None;
    let report = match (side(from), side(to)) {
        (Side::Unit(unit), Side::Here(TAR)) => {
            if io::stdout().is_terminal() {
                let why = "a tar is not for terminals; pass it on, as to \"| tar -x\", or copy to \".\"";
                return Err(Failure::Usage(why.into()));
            }
            let remarks =
                ask(asker, &mut left, |client| client.archive_out(unit, follow, &mut io::stdout().lock()))?;
            remarks.into_iter().for_each(remark);
            return Ok(());
        }
        (Side::Here(TAR), Side::Unit(unit)) => {
            let remarks = ask(asker, &mut left, |client| client.archive_in(Box::new(io::stdin()), unit))?;
            remarks.into_iter().for_each(remark);
            return Ok(());
        }
        (Side::Unit(unit), Side::Here(path)) => {
            let path = Path::new(path);
            ask(asker, &mut left, |client| {
                client.copy_out(unit, follow, path, &mut |tally| watch.show(tally))
            })
        }
        (Side::Here(path), Side::Unit(unit)) => {
            let path = Path::new(path);
            ask(asker, &mut left, |client| client.copy_in(path, follow, unit, &mut |tally| watch.show(tally)))
        }
        _ => return Err(Failure::Usage("one side is UNIT:PATH, the other a path here, or -".into())),
    };
    drop(watch);
    // Beside what went wrong, which is said last.
    left.into_iter().for_each(remark);
    let Report { tally, remarks } = report?;
    remarks.into_iter().for_each(remark);
    out.show(&Done { from, to, tally }, |_, _| String::new())
}

/// `left` is what there is of it when the machine was lost.
fn ask<T>(
    asker: &Asker,
    left: &mut Option<String>,
    question: impl FnOnce(&Client) -> Result<T, CopyError>,
) -> Result<T, Failure> {
    let answer = asker.ask(|client| match question(client) {
        Err(CopyError::Client { error, left: some }) => {
            *left = some;
            Err(*error)
        }
        answer => Ok(answer),
    })?;
    answer.map_err(|error| match error {
        CopyError::Unread => output(io::ErrorKind::BrokenPipe.into()),
        error => Failure::Usage(error.to_string()),
    })
}

/// How far it is.
struct Watch {
    line: Line,
    last: Instant,
    every: Duration,
}

impl Watch {
    fn new(silent: bool) -> Self {
        Self { line: Line::new(silent), last: Instant::now(), every: QUICK }
    }

    fn show(&mut self, tally: &Tally) {
        if self.last.elapsed() < self.every {
            return;
        }
        (self.last, self.every) = (Instant::now(), LOOK_AGAIN);
        let files = if tally.entries == 1 { "file" } else { "files" };
        self.line.show(&format!("copied {}, {} {files}", human::bytes(tally.bytes), tally.entries));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.line.end();
    }
}
