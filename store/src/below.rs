//! What the layers below show at a path, as overlayfs will show it: an entry of a layer may rest on them.
//!
//! Three kinds do: one in a folder that only a layer below has (its attributes are kept), one whose path leads through
//! a symbolic link below, and a hard link to a file below (which becomes a copy). Whoever asks here makes a layer that
//! fits these layers only; [`Below::asked`] tells, and such a layer is not shared with images that have others below.
//!
//! No symbolic link is followed here either: each part is opened with `O_NOFOLLOW`.

use crate::sys;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{self, FileStat, Mode, SFlag};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// The layers below one that is being unpacked.
#[derive(Debug, Default)]
pub struct Below {
    /// Topmost first.
    layers: Vec<OwnedFd>,
    asked: Cell<bool>,
}

/// What they show.
pub enum Shown {
    /// Nothing, or something that is neither of these.
    Nothing,
    /// A folder, opened.
    Folder(OwnedFd, FileStat),
    /// A symbolic link.
    Link(Vec<u8>, FileStat),
    /// A file, opened for reading.
    File(OwnedFd, FileStat),
}

const FOLDER: OFlag =
    OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

impl Below {
    /// These layers, topmost first.
    pub fn new(layers: Vec<OwnedFd>) -> Self {
        Self { layers, asked: Cell::new(false) }
    }

    /// Whether what was unpacked rests on them.
    pub fn asked(&self) -> bool {
        self.asked.get()
    }

    /// What they show at a path of at least one part.
    pub fn look(&self, path: &[Vec<u8>]) -> io::Result<Shown> {
        self.asked.set(true);
        for layer in &self.layers {
            match look_into(layer.as_fd(), path)? {
                Step::Shows(shown) => return Ok(shown),
                Step::Hides => return Ok(Shown::Nothing),
                Step::Passes => {}
            }
        }
        Ok(Shown::Nothing)
    }
}

enum Step {
    Shows(Shown),
    /// Nothing here, and nothing of the layers under it.
    Hides,
    /// Whatever is under it.
    Passes,
}

fn look_into(layer: BorrowedFd<'_>, path: &[Vec<u8>]) -> io::Result<Step> {
    let Some((last, above)) = path.split_last() else { return Ok(Step::Hides) };
    let mut folder = layer.try_clone_to_owned()?;
    let mut opaque = is_opaque(folder.as_fd());
    for part in above {
        match openat(&folder, part.as_slice(), FOLDER, Mode::empty()) {
            Ok(next) => folder = next,
            Err(nix::Error::ENOENT) => return Ok(if opaque { Step::Hides } else { Step::Passes }),
            // A whiteout, or something else in a folder's place.
            Err(nix::Error::ENOTDIR | nix::Error::ELOOP) => return Ok(Step::Hides),
            Err(e) => return Err(e.into()),
        }
        opaque = opaque || is_opaque(folder.as_fd());
    }
    let found = match stat::fstatat(&folder, last.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(nix::Error::ENOENT) => return Ok(if opaque { Step::Hides } else { Step::Passes }),
        Err(e) => return Err(e.into()),
    };
    let name = last.as_slice();
    Ok(match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => Step::Shows(Shown::Folder(openat(&folder, name, FOLDER, Mode::empty())?, found)),
        SFlag::S_IFLNK => {
            let target = readlinkat(&folder, name)?.into_vec();
            Step::Shows(Shown::Link(target, found))
        }
        SFlag::S_IFREG => {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            Step::Shows(Shown::File(openat(&folder, name, flags, Mode::empty())?, found))
        }
        _ => Step::Hides,
    })
}

/// Whether nothing below this folder of a layer shows through.
pub fn is_opaque(folder: BorrowedFd<'_>) -> bool {
    sys::fgetxattr(folder, b"user.overlay.opaque").is_ok_and(|value| value == b"y")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn below(dirs: &[&Path]) -> Below {
        let open = |dir: &&Path| nix::fcntl::open(*dir, FOLDER, Mode::empty()).unwrap();
        Below::new(dirs.iter().map(open).collect())
    }

    fn at(path: &str) -> Vec<Vec<u8>> {
        path.split('/').map(|part| part.as_bytes().to_vec()).collect()
    }

    #[test]
    fn layers_show_and_hide_as_in_an_overlay() {
        let (top, base) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let below = below(&[top.path(), base.path()]);
        assert!(!below.asked());
        for folder in ["plain", "opaque", "gone", "file"] {
            std::fs::create_dir(base.path().join(folder)).unwrap();
            std::fs::write(base.path().join(folder).join("x"), "x").unwrap();
        }
        for folder in ["plain", "opaque"] {
            std::fs::create_dir(top.path().join(folder)).unwrap();
        }
        let opaque = nix::fcntl::open(&top.path().join("opaque"), FOLDER, Mode::empty()).unwrap();
        sys::fsetxattr(opaque.as_fd(), b"user.overlay.opaque", b"y").unwrap();
        stat::mknodat(opaque.as_fd(), "../gone", SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
        std::fs::write(top.path().join("file"), "").unwrap();
        symlink("plain", top.path().join("link")).unwrap();

        assert!(matches!(below.look(&at("plain/x")).unwrap(), Shown::File(..)));
        for hidden in ["opaque/x", "gone/x", "gone", "file/x", "link/x", "absent/x"] {
            assert!(matches!(below.look(&at(hidden)).unwrap(), Shown::Nothing), "{hidden}");
        }
        assert!(matches!(below.look(&at("opaque")).unwrap(), Shown::Folder(..)));
        assert!(matches!(below.look(&at("link")).unwrap(), Shown::Link(target, ..) if target == b"plain"));
        assert!(below.asked());
    }
}
