//! `berth worker copy read PATH [follow]` and `write PATH [contents]`: a file or folder out of a container, or into it, as a tar, for
//! `berth cp`. PID 1 starts it in the unit's own namespaces as the container's root, with the unit's capabilities: whatever links
//! lie in there lead to places in there, and it can do no more than the unit's own programs. Nothing of the image is run for it.

use crate::copy::{Copied, Failed, Naming, Place, Rights, Source, unpack};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    let words: Vec<&Path> = words.iter().map(Path::new).collect();
    let is = |word: &Path, text: &str| word.as_os_str() == text;
    let done = match words.as_slice() {
        [word, path] if is(word, "read") => read(path, false),
        [word, path, follow] if is(word, "read") && is(follow, "follow") => read(path, true),
        [word, path] if is(word, "write") => write(path, false),
        [word, path, contents] if is(word, "write") && is(contents, "contents") => write(path, true),
        _ => {
            Err("usage: berth worker copy read PATH [follow]|write PATH [contents] (PID 1 starts it)".into())
        }
    };
    match done {
        Ok(copied) => {
            if let Some(sentence) = copied.skipped.sentence() {
                eprintln!("{sentence}");
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// From the container's root, as `docker cp` has it.
fn from_root(path: &Path) -> Result<PathBuf, String> {
    if path.as_os_str().is_empty() {
        return Err("a path is missing after the colon".to_owned());
    }
    Ok(Path::new("/").join(path))
}

fn read(path: &Path, follow: bool) -> Result<Copied, String> {
    let source = Source::find(&from_root(path)?, follow)?;
    let out = io::stdout().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    source.pack(&mut BufWriter::new(File::from(out)), true, &mut |_| ()).map_err(|error| error.to_string())
}

fn write(path: &Path, contents: bool) -> Result<Copied, String> {
    let place = Place::find(&from_root(path)?)?;
    if contents && !place.is_folder() {
        return Err(format!("{} is no folder; an archive is unpacked into one", path.display()));
    }
    let naming = if contents { Naming::Contents } else { Naming::AsSent };
    unpack(io::stdin().lock(), place, naming, Rights::Unit, &mut |_| ()).map_err(Failed::sentence)
}
