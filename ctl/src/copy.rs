//! Files and folders on their way out of a unit or into it, as one tar: `berth cp`. One side packs, the other unpacks: the
//! worker in the unit and the operator's program run the same code, and neither believes what the other sends.
//!
//! Invariants of what unpacks: everything is made below one folder that was opened before, each folder on the way there
//! with `O_NOFOLLOW`, so no link leads out of it, neither one that was there nor one that the stream has made; what the stream calls the
//! whole is replaced by the name that was asked for; a file has its name when all of it is there; a stream without its end
//! mark is an error, and what was copied before is said.

mod pack;
mod place;
mod unpack;

pub use pack::{PackError, Source};
pub use place::Place;
pub use unpack::{Failed, Naming, Rights, unpack};

use nix::fcntl::OFlag;
use serde::Serialize;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Names listed of what was left out; the rest is counted.
const NAMES_LISTED: usize = 5;
/// Bytes read and written at a time. A file that has no more is believed to be as long as what was read of it.
const PART_BYTES: usize = 64 * 1024;
/// How a folder below the first is opened, at both ends: no link is one.
const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// How much of it there was so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes in the files.
    pub bytes: u64,
}

/// What was left out.
#[derive(Debug, Default)]
pub struct Skipped {
    first: Vec<String>,
    more: u64,
}

impl Skipped {
    fn add(&mut self, path: &str, what: &str) {
        if self.first.len() < NAMES_LISTED {
            self.first.push(format!("{path} ({what})"));
        } else {
            self.more += 1;
        }
    }

    /// A sentence about it, if there is something to say. The names are as they were sent.
    pub fn sentence(&self) -> Option<String> {
        let more = if self.more == 0 { String::new() } else { format!(" and {} more", self.more) };
        (!self.first.is_empty()).then(|| format!("not copied: {}{more}", self.first.join(", ")))
    }
}

/// What has been copied.
#[derive(Debug, Default)]
pub struct Copied {
    /// How much.
    pub tally: Tally,
    /// And what not.
    pub skipped: Skipped,
}

/// The last part of a path as it was typed.
#[derive(Debug, PartialEq, Eq)]
pub enum Last<'a> {
    /// A name.
    Name(&'a OsStr),
    /// `.`, or nothing before the root: what is in the folder is meant.
    Contents,
    /// `..`: a folder without a name here.
    Above,
}

/// Takes it off.
pub fn last(path: &Path) -> Last<'_> {
    let bytes = path.as_os_str().as_bytes();
    match bytes.split(|byte| *byte == b'/').rfind(|part| !part.is_empty()) {
        None | Some(b".") => Last::Contents,
        Some(b"..") => Last::Above,
        Some(name) => Last::Name(OsStr::from_bytes(name)),
    }
}

/// It ends in a slash: a folder is meant.
fn is_of_folder(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// What there is no copy of.
fn kind(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFIFO => "a pipe",
        libc::S_IFSOCK => "a socket",
        _ => "a device",
    }
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[cfg(test)]
mod tests;
