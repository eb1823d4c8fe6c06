//! A folder that is being filled, and from which nothing leads out.
//!
//! Every operation happens in a folder that was opened part by part from the root, each part with `O_NOFOLLOW`: no
//! symbolic link is ever followed, so no path of an image can reach beyond the root, whatever was unpacked before.
//! The folders above the last entry stay open, since the next one mostly has the same.

use crate::sys;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{self, Mode, SFlag, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{self, Gid, Uid, UnlinkatFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The tree.
pub struct Tree {
    root: OwnedFd,
    open: Vec<(Vec<u8>, OwnedFd)>,
    owners: bool,
}

/// What there is at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A folder.
    Dir,
    /// A whiteout.
    Whiteout,
    /// Anything else.
    Other,
}

/// Owner, permissions and time of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Modification time: seconds, nanoseconds.
    pub mtime: (i64, u32),
}

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Tree {
    /// The folder at `path`, which must be there and is ours.
    pub fn open(path: &std::path::Path) -> io::Result<Self> {
        let root = nix::fcntl::open(path, FOLDER | OFlag::O_RDONLY, Mode::empty())?;
        // Only root may give files away; as anybody else, everything belongs to the caller.
        Ok(Self { root, open: Vec::new(), owners: unistd::geteuid().is_root() })
    }

    /// The root, for calls on the file system.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens the folder made of `parts`. Missing ones are made: root's, mode 0755. A part that is no folder is an
    /// error that names it.
    pub fn enter(&mut self, parts: &[Vec<u8>]) -> Result<(), (Vec<u8>, io::Error)> {
        let common = self.open.iter().zip(parts).take_while(|((open, _), part)| open == *part).count();
        self.open.truncate(common);
        for (depth, part) in parts.iter().enumerate().skip(common) {
            let fd = self.step(part).map_err(|e| (parts[..=depth].join(&b'/'), e))?;
            self.open.push((part.clone(), fd));
        }
        Ok(())
    }

    fn step(&self, part: &[u8]) -> io::Result<OwnedFd> {
        let open = || openat(self.here(), part, FOLDER | OFlag::O_PATH, Mode::empty());
        match open() {
            Err(nix::Error::ENOENT) => {}
            other => return Ok(other?),
        }
        stat::mkdirat(self.here(), part, Mode::from_bits_truncate(0o755))?;
        let made = openat(self.here(), part, FOLDER | OFlag::O_RDONLY, Mode::empty())?;
        // The process's umask may have taken something away.
        stat::fchmod(&made, Mode::from_bits_truncate(0o755))?;
        Ok(open()?)
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }

    /// What is at `name`.
    pub fn find(&self, name: &[u8]) -> io::Result<Found> {
        let found = match stat::fstatat(self.here(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(nix::Error::ENOENT) => return Ok(Found::Nothing),
            other => other?,
        };
        Ok(match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => Found::Dir,
            SFlag::S_IFCHR if found.st_rdev == 0 => Found::Whiteout,
            _ => Found::Other,
        })
    }

    /// Removes what is at `name`; a folder only if it is empty.
    pub fn remove(&self, name: &[u8], found: Found) -> io::Result<()> {
        let flag = if found == Found::Dir { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
        Ok(unistd::unlinkat(self.here(), name, flag)?)
    }

    /// Makes a folder that only we may enter.
    pub fn mkdir(&self, name: &[u8]) -> io::Result<()> {
        Ok(stat::mkdirat(self.here(), name, Mode::S_IRWXU)?)
    }

    /// Opens a folder (`None`: the present one) to set its attributes.
    pub fn folder(&self, name: Option<&[u8]>) -> io::Result<OwnedFd> {
        Ok(openat(self.here(), name.unwrap_or(b"."), FOLDER | OFlag::O_RDONLY, Mode::empty())?)
    }

    /// Makes an empty file and opens it for writing.
    pub fn create(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(self.here(), name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }

    /// Makes a symbolic link; its target is never looked at.
    pub fn symlink(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(unistd::symlinkat(target, self.here(), name)?)
    }

    /// Makes a named pipe.
    pub fn fifo(&self, name: &[u8]) -> io::Result<()> {
        Ok(stat::mknodat(self.here(), name, SFlag::S_IFIFO, Mode::S_IRUSR | Mode::S_IWUSR, 0)?)
    }

    /// Makes an overlayfs whiteout; Linux lets anybody make a character device 0:0.
    pub fn whiteout(&self, name: &[u8]) -> io::Result<()> {
        Ok(stat::mknodat(self.here(), name, SFlag::S_IFCHR, Mode::empty(), 0)?)
    }

    /// Gives the file that `from` and `from_name` lead to another name here. Returns the part that is no folder if
    /// `from` does not exist.
    pub fn hardlink(&mut self, from: &[Vec<u8>], from_name: &[u8], name: &[u8]) -> io::Result<()> {
        let mut folder: Option<OwnedFd> = None;
        for part in from {
            let at = folder.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
            folder = Some(openat(at, part.as_slice(), FOLDER | OFlag::O_PATH, Mode::empty())?);
        }
        let at = folder.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
        // Without AT_SYMLINK_FOLLOW a symbolic link is linked itself.
        Ok(unistd::linkat(at, from_name, self.here(), name, AtFlags::empty())?)
    }

    /// Sets owner and time of something that is neither file nor folder; `mode` where it has one.
    pub fn set_other(&self, name: &[u8], meta: &Meta, has_mode: bool) -> io::Result<()> {
        if self.owners {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            unistd::fchownat(self.here(), name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        if has_mode {
            // Only for pipes, which we have just made: nobody else works here who could put a link in its place.
            stat::fchmodat(self.here(), name, mode(meta), stat::FchmodatFlags::FollowSymlink)?;
        }
        let time = time(meta);
        Ok(stat::utimensat(self.here(), name, &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Sets owner of an open file or folder. Before mode and attributes: a change of owner takes setuid bits and
    /// capabilities away.
    pub fn set_owner(&self, fd: BorrowedFd<'_>, meta: &Meta) -> io::Result<()> {
        if self.owners {
            unistd::fchown(fd, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
        }
        Ok(())
    }

    /// Sets mode and time of an open file or folder.
    pub fn set_mode_and_time(&self, fd: BorrowedFd<'_>, meta: &Meta) -> io::Result<()> {
        stat::fchmod(fd, mode(meta))?;
        let time = time(meta);
        Ok(stat::futimens(fd, &time, &time)?)
    }

    /// Sets an extended attribute of an open file or folder.
    pub fn set_xattr(&self, fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
        sys::fsetxattr(fd, name, value)
    }
}

fn mode(meta: &Meta) -> Mode {
    Mode::from_bits_truncate(meta.mode & 0o7777)
}

fn time(meta: &Meta) -> TimeSpec {
    TimeSpec::new(meta.mtime.0, i64::from(meta.mtime.1))
}
