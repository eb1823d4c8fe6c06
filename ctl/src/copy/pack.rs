//! A file, a link or a folder with all that is in it, as a tar stream.
//!
//! Folders are entered by descriptors, and no link below the first name is followed. Names are those below the source, which itself
//! has its own, or is `.` if what is in it was asked for.

use super::{Copied, FOLDER, Last, PART_BYTES, Tally, is_of_folder, kind, last, shown};
use berth_store::path::{PATH_BYTES, PATH_DEPTH};
use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, lstat};
use nix::sys::statfs::fstatfs;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use tar::{EntryType, Header};

/// Bytes of a name in a header; a longer one has an entry of its own.
const NAME_FIELD: usize = 100;
/// Blocks of zeros, the mark of the end.
const END: [u8; 1024] = [0; 1024];
// A pipe in the place of a file would be waited for.
const FILE: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// File systems that show what the kernel knows, by their numbers in linux/magic.h: proc, sysfs, cgroup2, cgroup, devpts, mqueue, debugfs,
/// tracefs, securityfs, bpf. They are copied when they are asked for, and not as part of what they are mounted in.
const OF_KERNEL: [i64; 10] = [
    0x9fa0,
    0x6265_6572,
    0x6367_7270,
    0x0027_e0eb,
    0x1cd1,
    0x1980_0202,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
];

/// Why it was not packed whole.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Something in the source; the text names it
    #[error("{0}")]
    Source(String),
    /// Nobody takes it
    #[error("it is not taken: {0}")]
    To(#[source] io::Error),
}

/// What is to be packed, opened.
#[derive(Debug)]
pub struct Source {
    /// As it was typed, for messages.
    path: PathBuf,
    name: Vec<u8>,
    what: What,
}

#[derive(Debug)]
enum What {
    Folder(OwnedFd),
    File(File),
    Link(Vec<u8>, FileStat),
}

impl Source {
    /// Finds it. A link is what is packed itself, unless it is to be followed, or the path ends in `/` or `/.`.
    pub fn find(path: &Path, follow: bool) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let last = last(path);
        let follow = follow || is_of_folder(path) || !matches!(last, Last::Name(_));
        let found = if follow { fs::metadata(path) } else { fs::symlink_metadata(path) }.map_err(failed)?;
        let name = match last {
            Last::Name(name) => name.as_bytes().to_vec(),
            Last::Contents => b".".to_vec(),
            Last::Above => {
                let whole = fs::canonicalize(path).map_err(failed)?;
                whole.file_name().map_or_else(|| b".".to_vec(), |name| name.as_bytes().to_vec())
            }
        };
        let what = if found.is_symlink() {
            let target = fs::read_link(path).map_err(failed)?.into_os_string().into_vec();
            What::Link(target, lstat(path).map_err(|error| failed(error.into()))?)
        } else if found.is_dir() || found.is_file() {
            let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
            let file = file.map_err(failed)?;
            match file.metadata().map_err(failed)? {
                found if found.is_dir() => What::Folder(file.into()),
                found if found.is_file() => What::File(file),
                found => return Err(no_copy(path, found.mode())),
            }
        } else {
            return Err(no_copy(path, found.mode()));
        };
        Ok(Self { path: path.to_owned(), name, what })
    }

    /// Writes it. `ids` is whether the owners' numbers are told.
    pub fn pack(
        self,
        to: &mut dyn Write,
        ids: bool,
        progress: &mut dyn FnMut(&Tally),
    ) -> Result<Copied, PackError> {
        let mut job = Job {
            to,
            ids,
            progress,
            typed: without_end(&self.path),
            top: self.name.len(),
            path: self.name,
            links: HashMap::new(),
            done: Copied::default(),
        };
        match self.what {
            What::Folder(fd) => job.folder(fd)?,
            What::File(file) => job.file(file)?,
            What::Link(target, stat) => job.entry(EntryType::Symlink, &target, &stat, 0)?,
        }
        job.write(&END)?;
        job.to.flush().map_err(PackError::To)?;
        Ok(job.done)
    }
}

/// A path that names can follow: without `/` and `/.` at its end.
fn without_end(path: &Path) -> String {
    let mut text = path.to_string_lossy().into_owned();
    while text.ends_with('/') || text.ends_with("/.") {
        text.truncate(text.len() - 1);
    }
    text
}

fn no_copy(path: &Path, mode: u32) -> String {
    format!("{} is {}, of which there is no copy", path.display(), kind(mode))
}

struct Job<'a> {
    to: &'a mut dyn Write,
    ids: bool,
    progress: &'a mut dyn FnMut(&Tally),
    /// The source, for messages.
    typed: String,
    /// Length of the source's own name in `path`.
    top: usize,
    /// Of the present entry, in the stream.
    path: Vec<u8>,
    /// Files with several names: by device and inode, the first of them.
    links: HashMap<(u64, u64), Vec<u8>>,
    done: Copied,
}

/// A folder on the way to the present entry.
struct Level {
    fd: OwnedFd,
    names: OwningIter,
    device: u64,
    /// Length of its path.
    path: usize,
}

impl Job<'_> {
    /// The source with all that is in it.
    fn folder(&mut self, top: OwnedFd) -> Result<(), PackError> {
        let mut levels = vec![self.enter(top)?];
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path);
            let Some(next) = level.names.next() else {
                levels.pop();
                continue;
            };
            let next = next.map_err(|error| self.failed(error))?;
            let name = next.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.path.push(b'/');
            self.path.extend_from_slice(name.to_bytes());
            let stat = match fstatat(&level.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // Removed since.
                Err(Errno::ENOENT) => continue,
                stat => stat.map_err(|error| self.failed(error))?,
            };
            match stat.st_mode & libc::S_IFMT {
                libc::S_IFDIR => {
                    let fd = match openat(&level.fd, name, FOLDER, Mode::empty()) {
                        Err(Errno::ENOENT) => continue,
                        fd => fd.map_err(|error| self.failed(error))?,
                    };
                    if stat.st_dev != level.device && is_of_kernel(&fd) {
                        self.done.skipped.add(&self.shown(), "what the kernel shows");
                        continue;
                    }
                    if levels.len() + 1 >= PATH_DEPTH {
                        return Err(PackError::Source(format!(
                            "{} is more than {PATH_DEPTH} folders deep",
                            self.shown()
                        )));
                    }
                    levels.push(self.enter(fd)?);
                }
                libc::S_IFREG => {
                    let file = match openat(&level.fd, name, FILE, Mode::empty()) {
                        Err(Errno::ENOENT) => continue,
                        fd => File::from(fd.map_err(|error| self.failed(error))?),
                    };
                    self.file(file)?;
                }
                libc::S_IFLNK => {
                    let target = match readlinkat(&level.fd, name) {
                        Err(Errno::ENOENT) => continue,
                        target => target.map_err(|error| self.failed(error))?,
                    };
                    self.entry(EntryType::Symlink, target.as_bytes(), &stat, 0)?;
                }
                mode => self.done.skipped.add(&self.shown(), kind(mode)),
            }
        }
        Ok(())
    }

    /// A folder's own entry.
    fn enter(&mut self, fd: OwnedFd) -> Result<Level, PackError> {
        let stat = fstat(&fd).map_err(|error| self.failed(error))?;
        self.path.push(b'/');
        self.entry(EntryType::Directory, b"", &stat, 0)?;
        self.path.pop();
        let names = fd.try_clone().and_then(|fd| Ok(Dir::from_fd(fd)?));
        let names = names.map_err(|error| self.failed(error))?.into_iter();
        Ok(Level { fd, names, device: stat.st_dev, path: self.path.len() })
    }

    fn file(&mut self, file: File) -> Result<(), PackError> {
        let stat = fstat(&file).map_err(|error| self.failed(error))?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            self.done.skipped.add(&self.shown(), kind(stat.st_mode));
            return Ok(());
        }
        let id = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&id) {
            let first = first.clone();
            return self.entry(EntryType::Link, &first, &stat, 0);
        }
        // What the kernel makes up says that it has no bytes, or 4,096, and what is written to just now may be longer.
        let mut part = Vec::with_capacity(PART_BYTES);
        (&file).take(PART_BYTES as u64).read_to_end(&mut part).map_err(|error| self.failed(error))?;
        let mut size = part.len() as u64;
        if part.len() == PART_BYTES {
            let stated = file.metadata().map_err(|error| self.failed(error))?.len();
            if stated < size {
                return Err(PackError::Source(format!("{} holds more than it says", self.shown())));
            }
            size = stated;
        }
        self.entry(EntryType::Regular, b"", &stat, size)?;
        let mut left = size;
        loop {
            self.write(&part)?;
            left -= part.len() as u64;
            self.done.tally.bytes += part.len() as u64;
            (self.progress)(&self.done.tally);
            if left == 0 {
                break;
            }
            part.clear();
            let most = left.min(PART_BYTES as u64);
            let got = (&file).take(most).read_to_end(&mut part).map_err(|error| self.failed(error))?;
            if got == 0 {
                let why = format!("{} became shorter while it was read", self.shown());
                return Err(PackError::Source(why));
            }
        }
        self.pad(size)?;
        if stat.st_nlink > 1 {
            self.links.insert(id, self.path.clone());
        }
        Ok(())
    }

    /// The header of the present path.
    fn entry(&mut self, kind: EntryType, link: &[u8], stat: &FileStat, size: u64) -> Result<(), PackError> {
        if self.path.len() > PATH_BYTES {
            return Err(PackError::Source(format!("{} is too long a path", self.shown())));
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(if self.ids { stat.st_uid.into() } else { 0 });
        header.set_gid(if self.ids { stat.st_gid.into() } else { 0 });
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(size);
        let path = self.path.clone();
        self.name(&mut header.as_old_mut().name, EntryType::GNULongName, &path)?;
        self.name(&mut header.as_old_mut().linkname, EntryType::GNULongLink, link)?;
        header.set_cksum();
        self.write(header.as_bytes())?;
        self.done.tally.entries += 1;
        (self.progress)(&self.done.tally);
        Ok(())
    }

    /// A name in its field, or in front of the header, of what is longer.
    fn name(&mut self, field: &mut [u8; NAME_FIELD], kind: EntryType, name: &[u8]) -> Result<(), PackError> {
        let here = name.len().min(NAME_FIELD);
        field[..here].copy_from_slice(&name[..here]);
        if name.len() <= NAME_FIELD {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0);
        header.set_size(name.len() as u64 + 1);
        let title = b"././@LongLink";
        header.as_old_mut().name[..title.len()].copy_from_slice(title);
        header.set_cksum();
        self.write(header.as_bytes())?;
        self.write(name)?;
        self.write(&[0])?;
        self.pad(name.len() as u64 + 1)
    }

    fn pad(&mut self, size: u64) -> Result<(), PackError> {
        let padding = size.next_multiple_of(512) - size;
        self.write(&END[..usize::try_from(padding).unwrap_or(0)])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.to.write_all(bytes).map_err(PackError::To)
    }

    /// The present entry, as an operator would type it.
    fn shown(&self) -> String {
        let below = shown(&self.path[self.top.min(self.path.len())..]);
        if self.typed.is_empty() && below.is_empty() {
            "/".to_owned()
        } else {
            format!("{}{below}", self.typed)
        }
    }

    fn failed(&self, error: impl Into<io::Error>) -> PackError {
        PackError::Source(format!("{}: {}", self.shown(), error.into()))
    }
}

fn is_of_kernel(folder: &OwnedFd) -> bool {
    fstatfs(folder).is_ok_and(|found| OF_KERNEL.contains(&found.filesystem_type().0))
}
