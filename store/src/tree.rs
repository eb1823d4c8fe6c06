//! A folder that is being filled, and from which nothing leads out.
//!
//! Every operation happens in a folder that was opened part by part from the root, each part with `O_NOFOLLOW`: the
//! kernel follows no symbolic link, so no path of an image can reach beyond the root, whatever was unpacked before.
//! A path that leads through links is rewritten here, as if the image's root were `/`, and then opened like any other.
//! The folders above the last entry stay open, since the next one mostly has the same.

use crate::below::{Below, Shown};
use crate::path::Parts;
use crate::{limits, sys};
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{self, FileStat, Mode, SFlag, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{self, Gid, Uid, UnlinkatFlags, Whence};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// The tree.
pub struct Tree {
    root: OwnedFd,
    open: Vec<(Vec<u8>, OwnedFd)>,
    owners: bool,
    below: Below,
    /// Folders that were made with the attributes of one below, to be set again when they are full.
    taken_over: Vec<(Parts, Meta)>,
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
    /// The folder at `path`, which must be there and is ours, on top of these layers.
    pub fn open(path: &std::path::Path, below: Below) -> io::Result<Self> {
        let root = nix::fcntl::open(path, FOLDER | OFlag::O_RDONLY, Mode::empty())?;
        // Only root may give files away; as anybody else, everything belongs to the caller.
        let owners = unistd::geteuid().is_root();
        Ok(Self { root, open: Vec::new(), owners, below, taken_over: Vec::new() })
    }

    /// The root, for calls on the file system.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether it rests on the layers below: above others it would have to be another tree.
    pub fn rests_on_others(&self) -> bool {
        self.below.asked()
    }

    /// Folders made since the last call that have the attributes of one below.
    pub fn taken_over(&mut self) -> Vec<(Parts, Meta)> {
        std::mem::take(&mut self.taken_over)
    }

    /// The present folder's path, without links.
    pub fn path(&self) -> Vec<Vec<u8>> {
        self.open.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Opens the folder that `parts` lead to. Missing ones are made: as a layer below has them, else root's, mode
    /// 0755. A part that is no folder is an error that names it.
    pub fn enter(&mut self, parts: &[Vec<u8>]) -> Result<(), (Vec<u8>, io::Error)> {
        let common = self.open.iter().zip(parts).take_while(|((open, _), part)| open == *part).count();
        self.open.truncate(common);
        // The next part last.
        let mut todo: Vec<Vec<u8>> = parts[common..].iter().rev().cloned().collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            let failed = |e: io::Error| (part.clone(), e);
            if part == b".." {
                self.open.pop();
                continue;
            }
            let Some(target) = self.step(&part).map_err(failed)? else { continue };
            links += 1;
            if links > limits::PATH_LINKS || target.len() > limits::PATH_BYTES {
                return Err((part, nix::Error::ELOOP.into()));
            }
            if target.starts_with(b"/") {
                self.open.clear();
            }
            let names = target.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b"."));
            todo.extend(names.rev().map(<[u8]>::to_vec));
        }
        Ok(())
    }

    /// Goes one folder further, or returns where the link in its place points to.
    fn step(&mut self, part: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let open = |at: BorrowedFd<'_>| openat(at, part, FOLDER | OFlag::O_PATH, Mode::empty());
        if self.open.len() >= limits::PATH_DEPTH {
            return Err(nix::Error::ENAMETOOLONG.into());
        }
        let fd = match open(self.here()) {
            Ok(fd) => fd,
            Err(nix::Error::ENOENT) => {
                let mut path = self.path();
                path.push(part.to_vec());
                match self.look_below(&path)? {
                    Shown::Link(target, ..) => return Ok(Some(target)),
                    Shown::Folder(like, stat) => {
                        let meta = Meta::of(&stat);
                        let made = self.make_folder(part)?;
                        self.set_owner(made.as_fd(), &meta)?;
                        self.copy_xattrs(like.as_fd(), made.as_fd())?;
                        self.taken_over.push((Parts::child(self.path(), part), meta));
                    }
                    _ => drop(self.make_folder(part)?),
                }
                open(self.here())?
            }
            Err(e @ (nix::Error::ENOTDIR | nix::Error::ELOOP)) => match self.find(part)? {
                Found::Whiteout => {
                    // Removed and made anew in one layer: what lies below stays hidden.
                    self.remove(part, Found::Whiteout)?;
                    let made = self.make_folder(part)?;
                    self.set_opaque(made.as_fd())?;
                    open(self.here())?
                }
                _ => return readlinkat(self.here(), part).map(|t| Some(t.into_vec())).map_err(|_| e.into()),
            },
            Err(e) => return Err(e.into()),
        };
        self.open.push((part.to_vec(), fd));
        Ok(None)
    }

    fn make_folder(&self, name: &[u8]) -> io::Result<OwnedFd> {
        stat::mkdirat(self.here(), name, Mode::from_bits_truncate(0o755))?;
        let made = openat(self.here(), name, FOLDER | OFlag::O_RDONLY, Mode::empty())?;
        // The process's umask may have taken something away.
        stat::fchmod(&made, Mode::from_bits_truncate(0o755))?;
        Ok(made)
    }

    /// What the layers below show at a path that this one does not have; nothing, where it hides them.
    fn look_below(&self, path: &[Vec<u8>]) -> io::Result<Shown> {
        let mut folder = self.root.try_clone()?;
        for part in path {
            if crate::below::is_opaque(folder.as_fd()) {
                return Ok(Shown::Nothing);
            }
            match openat(&folder, part.as_slice(), FOLDER | OFlag::O_RDONLY, Mode::empty()) {
                Ok(next) => folder = next,
                Err(nix::Error::ENOENT) => break,
                Err(e) => return Err(e.into()),
            }
        }
        self.below.look(path)
    }

    /// Brings a file of the layers below to the same place here. Its size, or `None` if they show none.
    pub fn bring_up(&mut self, name: &[u8], limit: u64) -> io::Result<Option<u64>> {
        let mut path = self.path();
        path.push(name.to_vec());
        match self.look_below(&path)? {
            Shown::Link(target, stat) => {
                self.symlink(name, &target)?;
                self.set_other(name, &Meta::of(&stat), false)?;
                Ok(Some(0))
            }
            Shown::File(from, stat) => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                if size > limit {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                let mut to = self.create(name)?;
                copy_data(&mut File::from(from.try_clone()?), &mut to, size)?;
                let meta = Meta::of(&stat);
                self.set_owner(to.as_fd(), &meta)?;
                self.copy_xattrs(from.as_fd(), to.as_fd())?;
                self.set_mode_and_time(to.as_fd(), &meta)?;
                Ok(Some(size))
            }
            _ => Ok(None),
        }
    }

    /// Attributes of a file or folder of another layer, but for what tells overlayfs something about that one.
    fn copy_xattrs(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        for name in sys::flistxattr(from)? {
            if keeps_xattr(&name) {
                sys::fsetxattr(to, &name, &sys::fgetxattr(from, &name)?)?;
            }
        }
        Ok(())
    }

    /// Hides what the layers below have in this folder.
    pub fn set_opaque(&self, folder: BorrowedFd<'_>) -> io::Result<()> {
        self.set_xattr(folder, b"user.overlay.opaque", b"y")
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

    /// Gives the file `from_name` of the folder at `from`, a path without links, another name here.
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

/// Whether an image's extended attribute is kept: what programs and file capabilities need, and nothing that overlayfs
/// would obey or that belongs to the host's policy.
pub fn keeps_xattr(name: &[u8]) -> bool {
    let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    user || [&b"security.capability"[..], b"system.posix_acl_access", b"system.posix_acl_default"]
        .contains(&name)
}

/// Copies a file's content, and leaves its holes.
fn copy_data(from: &mut File, to: &mut File, size: u64) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        let seek = |whence| unistd::lseek(&*from, i64::try_from(at).unwrap_or(i64::MAX), whence);
        let start = match seek(Whence::SeekData) {
            Ok(start) => u64::try_from(start).unwrap_or(at),
            Err(nix::Error::ENXIO) => break,
            // A file system that does not tell.
            Err(_) => at,
        };
        at = start;
        let seek = |whence| unistd::lseek(&*from, i64::try_from(at).unwrap_or(i64::MAX), whence);
        let end = seek(Whence::SeekHole).ok().and_then(|end| u64::try_from(end).ok()).unwrap_or(size);
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        let copied = io::copy(&mut (&*from).take(end - start), to)?;
        if copied == 0 {
            break;
        }
        at = start + copied;
    }
    to.set_len(size)?;
    to.flush()
}

impl Meta {
    fn of(stat: &FileStat) -> Self {
        Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        }
    }
}

fn mode(meta: &Meta) -> Mode {
    Mode::from_bits_truncate(meta.mode & 0o7777)
}

fn time(meta: &Meta) -> TimeSpec {
    TimeSpec::new(meta.mtime.0, i64::from(meta.mtime.1))
}
