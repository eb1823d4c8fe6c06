//! Files and folders between here and a unit: the machine's own program packs or unpacks at the other end, in the unit.

use super::{Client, ClientError, Outcome, Streams};
use crate::copy::{Copied, Failed, Last, Naming, PackError, Place, Rights, Source, Tally, last, unpack};
use crate::operator::render::style::clean;
use berth_units::control::{Copy, ExecRequest};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread;

/// Bytes of what the other end says about it that are kept.
const SAID_BYTES: usize = 16 * 1024;

/// Why it was not copied whole.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The machine was not asked, or was lost
    #[error("{error}")]
    Client {
        /// Why.
        error: Box<ClientError>,
        /// What is there all the same, as a sentence.
        left: Option<String>,
    },
    /// Here or there
    #[error("{0}")]
    Failed(String),
    /// Whoever reads it has gone
    #[error("its reader has gone")]
    Unread,
}

/// What was copied.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How much.
    pub tally: Tally,
    /// What was not, in sentences.
    pub remarks: Vec<String>,
}

/// What the other end says.
struct Said(Vec<u8>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = SAID_BYTES.saturating_sub(self.0.len());
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which of a unit's paths.
#[derive(Debug, Clone, Copy)]
pub struct InUnit<'a> {
    /// The unit.
    pub unit: &'a str,
    /// From its root.
    pub path: &'a str,
}

impl Client {
    /// Copies a file or a folder of a unit to `here`, as `docker cp` does.
    pub fn copy_out(
        &self,
        from: InUnit<'_>,
        follow: bool,
        here: &Path,
        progress: &mut (dyn FnMut(&Tally) + Send),
    ) -> Result<Report, CopyError> {
        let naming = match last(Path::new(from.path)) {
            Last::Name(name) => Naming::As(name.as_bytes().to_vec()),
            Last::Contents => Naming::Contents,
            Last::Above => {
                let why = format!("{}: a folder is meant by its name, or by what is in it (/.)", from.path);
                return Err(CopyError::Failed(why));
            }
        };
        let place = Place::find(here).map_err(CopyError::Failed)?;
        let (reader, mut writer) = io::pipe().map_err(|error| CopyError::Failed(error.to_string()))?;
        let (heard, unpacked) = thread::scope(|scope| {
            let unpacking = scope.spawn(|| unpack(reader, place, naming, Rights::Operator, progress));
            let copy = Copy::Read { path: from.path.to_owned(), follow };
            let heard = self.copy_over(from.unit, copy, Box::new(io::empty()), &mut writer);
            // The stream's end.
            drop(writer);
            (heard, unpacking.join())
        });
        let unpacked = unpacked.unwrap_or_else(|_| Err(Failed { why: "it failed here".into(), left: None }));
        match (heard, unpacked) {
            (Ok(said), Ok(done)) => Ok(report(done, said)),
            (Ok(_) | Err(CopyError::Unread), Err(failed)) => Err(failed.into()),
            (Err(error), Ok(_)) => Err(error),
            (Err(CopyError::Failed(why)), Err(Failed { left, .. })) => Err(Failed { why, left }.into()),
            (Err(CopyError::Client { error, .. }), Err(Failed { left, .. })) => {
                Err(CopyError::Client { error, left: left.map(|left| clean(&left)) })
            }
        }
    }

    /// Copies a file or a folder here to a unit.
    pub fn copy_in(
        &self,
        here: &Path,
        follow: bool,
        to: InUnit<'_>,
        progress: &mut (dyn FnMut(&Tally) + Send),
    ) -> Result<Report, CopyError> {
        let source = Source::find(here, follow).map_err(CopyError::Failed)?;
        let (reader, writer) = io::pipe().map_err(|error| CopyError::Failed(error.to_string()))?;
        let (heard, packed) = thread::scope(|scope| {
            // Who owns it here is nobody's business there.
            let packing = scope.spawn(|| source.pack(&mut BufWriter::new(writer), false, progress));
            let copy = Copy::Write { path: to.path.to_owned(), contents: false };
            let heard = self.copy_over(to.unit, copy, Box::new(reader), &mut io::sink());
            (heard, packing.join())
        });
        let packed = packed.unwrap_or_else(|_| Err(PackError::Source("it failed here".into())));
        let left = || Some(format!("what arrived of it is in {}:{}", to.unit, to.path));
        match (heard, packed) {
            (Ok(said), Ok(done)) => Ok(report(done, said)),
            (Ok(_), Err(error)) => Err(CopyError::Failed(error.to_string())),
            // Then the other end has not got it whole, and that is why.
            (Err(CopyError::Failed(_)), Err(PackError::Source(why))) => {
                Err(Failed { why, left: left() }.into())
            }
            (Err(CopyError::Client { error, .. }), packed) => {
                let begun = match packed {
                    Ok(done) => done.tally.entries > 0,
                    Err(_) => matches!(*error, ClientError::Broken { .. }),
                };
                Err(CopyError::Client { error, left: left().filter(|_| begun) })
            }
            (Err(error), _) => Err(error),
        }
    }

    /// A file or a folder of a unit as a tar. What was left out, in a sentence.
    pub fn archive_out(
        &self,
        from: InUnit<'_>,
        follow: bool,
        to: &mut dyn Write,
    ) -> Result<Option<String>, CopyError> {
        let copy = Copy::Read { path: from.path.to_owned(), follow };
        self.copy_over(from.unit, copy, Box::new(io::empty()), to)
    }

    /// Unpacks a tar into a folder of a unit. What was left out, in a sentence.
    pub fn archive_in(
        &self,
        from: Box<dyn Read + Send>,
        to: InUnit<'_>,
    ) -> Result<Option<String>, CopyError> {
        let copy = Copy::Write { path: to.path.to_owned(), contents: true };
        self.copy_over(to.unit, copy, from, &mut io::sink())
    }

    /// Has the machine's own program do it in the unit; what it has to say about it.
    fn copy_over(
        &self,
        unit: &str,
        copy: Copy,
        from: Box<dyn Read + Send>,
        to: &mut dyn Write,
    ) -> Result<Option<String>, CopyError> {
        let request = ExecRequest { unit: unit.to_owned(), copy: Some(copy), ..ExecRequest::default() };
        let mut said = Said(Vec::new());
        let streams = Streams { input: true, output: to, errors: &mut said, begins: &mut || () };
        let outcome = self.exec_with(&request, streams, from);
        let said = clean(String::from_utf8_lossy(&said.0).trim_end());
        match outcome.map_err(|error| CopyError::Client { error: Box::new(error), left: None })? {
            Outcome::Exited(0) => {
                Ok(Some(said).filter(|said| !said.is_empty()).map(|said| format!("{unit}: {said}")))
            }
            Outcome::Exited(_) => Err(CopyError::Failed(format!("{unit}: {said}"))),
            Outcome::Failed(why) => Err(CopyError::Failed(format!("{unit}: {}", clean(&why)))),
            Outcome::Unread => Err(CopyError::Unread),
            Outcome::Signalled(signal) => {
                Err(CopyError::Failed(format!("{unit}: ended by signal {signal} before it was done")))
            }
        }
    }
}

fn report(done: Copied, said: Option<String>) -> Report {
    let own = done.skipped.sentence().map(|sentence| clean(&sentence));
    Report { tally: done.tally, remarks: said.into_iter().chain(own).collect() }
}

/// As a terminal may see it: the names in it came from elsewhere.
impl From<Failed> for CopyError {
    fn from(failed: Failed) -> Self {
        Self::Failed(clean(&failed.sentence()))
    }
}
