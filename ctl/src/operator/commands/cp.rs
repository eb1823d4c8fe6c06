//! `berth cp`.

use super::remote::Asker;
use super::{Failure, Out};
use crate::operator::client::{Outcome, Streams};
use berth_units::control::{Copy, ExecRequest};
use serde::Serialize;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What stands for standard output.
const STDOUT: &str = "-";

/// One side of a copy.
enum Side<'a> {
    Unit { unit: &'a str, path: &'a str },
    Here(&'a str),
}

/// `UNIT:PATH`, or a file here. One here with a colon is written with a folder in front: `./a:b`.
fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        Some((unit, path)) if berth_units::instances::is_name(unit) => Side::Unit { unit, path },
        _ => Side::Here(text),
    }
}

#[derive(Serialize)]
struct Copied {
    from: String,
    to: String,
    bytes: u64,
}

pub(super) fn run(from: &str, to: &str, asker: &Asker, out: Out) -> Result<(), Failure> {
    let bytes = match (side(from), side(to)) {
        (Side::Unit { unit, path }, Side::Here(STDOUT)) => {
            return read(asker, unit, path, &mut io::stdout().lock());
        }
        (Side::Unit { unit, path }, Side::Here(file)) => fetch(asker, unit, path, Path::new(file))?,
        (Side::Here(file), Side::Unit { unit, path }) => send(asker, Path::new(file), unit, path)?,
        _ => return Err(Failure::Usage("one side is UNIT:PATH, the other a file here".into())),
    };
    let copied = Copied { from: from.to_owned(), to: to.to_owned(), bytes };
    out.show(&copied, |_, _| String::new())
}

/// Written beside, and named when all of it is there.
fn fetch(asker: &Asker, unit: &str, path: &str, file: &Path) -> Result<u64, Failure> {
    let name = path.rsplit('/').find(|word| !word.is_empty()).unwrap_or("file");
    let target = if file.is_dir() { file.join(name) } else { file.to_owned() };
    let failed = |error: io::Error| Failure::Usage(format!("{}: {error}", target.display()));
    let mut beside = target.clone().into_os_string();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let mut to = File::create(&beside).map_err(failed)?;
    let done = read(asker, unit, path, &mut to)
        .and_then(|()| fs::rename(&beside, &target).and_then(|()| to.metadata()).map_err(failed));
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done.map(|found| found.len())
}

fn read(asker: &Asker, unit: &str, path: &str, to: &mut dyn io::Write) -> Result<(), Failure> {
    let copy = Copy::Read { path: path.to_owned() };
    over(asker, unit, copy, Box::new(io::empty()), to)
}

fn send(asker: &Asker, file: &Path, unit: &str, path: &str) -> Result<u64, Failure> {
    let failed = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let from = File::open(file).map_err(|error| failed(error.to_string()))?;
    let found = from.metadata().map_err(|error| failed(error.to_string()))?;
    if !found.is_file() {
        return Err(failed("is no file; files are copied one by one".into()));
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let copy = Copy::Write { path: path.to_owned(), name, bytes: found.len() };
    over(asker, unit, copy, Box::new(from), &mut io::sink()).map(|()| found.len())
}

/// Has the machine's own program do it in the unit.
fn over(
    asker: &Asker,
    unit: &str,
    copy: Copy,
    from: Box<dyn io::Read + Send>,
    to: &mut dyn io::Write,
) -> Result<(), Failure> {
    let request = ExecRequest { unit: unit.to_owned(), copy: Some(copy), ..ExecRequest::default() };
    let mut said = Vec::new();
    let streams = Streams { input: true, output: to, errors: &mut said, begins: &mut || () };
    match asker.ask(|client| client.exec_with(&request, streams, from))? {
        Outcome::Exited(0) => Ok(()),
        Outcome::Unread => Err(Failure::Usage("what was copied could not be written here".into())),
        Outcome::Failed(why) => Err(Failure::Usage(format!("{unit}: {why}"))),
        Outcome::Exited(_) => {
            let said = String::from_utf8_lossy(&said);
            Err(Failure::Usage(format!("{unit}: {}", crate::operator::render::style::clean(said.trim_end()))))
        }
    }
}
