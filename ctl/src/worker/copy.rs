//! `berth worker copy read PATH` and `write PATH NAME BYTES`: one file out of a container, or into it, for `berth cp`. PID 1 starts
//! it in the unit's own namespaces as the container's root, with the unit's capabilities: whatever links lie in there lead to
//! places in there, and it can do no more than the unit's own programs. Nothing of the image is run for it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// End of the name of a file that is not complete.
const BESIDE: &str = ".berth-cp";

pub(super) fn run(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    let done = match words.as_slice() {
        [word, path] if word == "read" => read(Path::new(path), &mut io::stdout().lock()),
        [word, path, name, bytes] if word == "write" => {
            match bytes.to_str().and_then(|bytes| bytes.parse().ok()) {
                Some(bytes) => write(Path::new(path), Path::new(name), bytes, &mut io::stdin().lock()),
                None => Err("how many bytes come is not understood".to_owned()),
            }
        }
        _ => Err("usage: berth worker copy read PATH|write PATH NAME BYTES (PID 1 starts it)".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn read(path: &Path, to: &mut dyn io::Write) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    // A pipe would be waited for.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    is_file(path, &file.metadata().map_err(failed)?)?;
    io::copy(&mut file, to).and_then(|_| to.flush()).map_err(failed)
}

/// Written beside, and named when all of it is there.
fn write(path: &Path, name: &Path, bytes: u64, from: &mut dyn io::Read) -> Result<(), String> {
    let target = match fs::metadata(path) {
        Ok(found) if found.is_dir() => path.join(name.file_name().unwrap_or_default()),
        Ok(found) => is_file(path, &found).map(|()| path.to_owned())?,
        Err(_) => path.to_owned(),
    };
    // A link is followed, as for whoever writes to it; in here it leads nowhere else.
    let target = fs::canonicalize(&target).unwrap_or(target);
    let old = fs::metadata(&target).ok();
    let failed = |error: io::Error| format!("{}: {error}", target.display());
    let mut beside = target.clone().into_os_string();
    beside.push(format!("{BESIDE}.{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    // Nobody else reads it before it has the rights of what it replaces.
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
    let written = io::copy(&mut from.take(bytes.saturating_add(1)), &mut file).and_then(|count| {
        if count == bytes { file.sync_all() } else { Err(io::Error::other("it did not arrive whole")) }
    });
    let rights = |old: &fs::Metadata| -> io::Result<()> {
        std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))
    };
    let rights = match &old {
        Some(old) => rights(old),
        None => file.set_permissions(fs::Permissions::from_mode(0o644)),
    };
    written.and(rights).and_then(|()| fs::rename(&beside, &target)).map_err(|error| {
        let _ = fs::remove_file(&beside);
        failed(error)
    })
}

fn is_file(path: &Path, found: &fs::Metadata) -> Result<(), String> {
    let kind = found.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder; files are copied one by one"
    } else if kind.is_fifo() || kind.is_socket() {
        "a pipe or socket, of which there is no copy"
    } else {
        "a device, of which there is no copy"
    };
    Err(format!("{} is {what}", String::from_utf8_lossy(path.as_os_str().as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_and_go_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(&at("file"), Path::new("other"), 5, &mut &b"hello"[..]).unwrap();
        let mut out = Vec::new();
        read(&at("file"), &mut out).unwrap();
        assert_eq!(out, b"hello");
        // What is replaced keeps its rights, and a link what it leads to.
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        write(&at("link"), Path::new("x"), 5, &mut &b"hello"[..]).unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(fs::metadata(at("file")).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        write(&at("folder"), Path::new("/a/b"), 1, &mut &b"x"[..]).unwrap();
        assert_eq!(fs::read(at("folder/b")).unwrap(), b"x");
        // Half of it, or more than was said, is not put in its place.
        for bytes in [4, 6] {
            let why = write(&at("file"), Path::new("x"), bytes, &mut &b"HELLO"[..]).unwrap_err();
            assert!(why.contains("whole"), "{why}");
        }
        assert_eq!(fs::read(at("file")).unwrap(), b"hello");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (name, word) in [("folder", "folder"), ("pipe", "pipe"), ("absent", "No such file")] {
            let why = read(&at(name), &mut Vec::new()).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
        assert!(write(&at("pipe"), Path::new("x"), 1, &mut &b"x"[..]).unwrap_err().contains("pipe"));
        assert!(read(Path::new("/dev/null"), &mut Vec::new()).unwrap_err().contains("device"));
    }
}
