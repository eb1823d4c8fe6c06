//! A tar stream becomes files, below one folder and nowhere else.

use super::place::{Only, Place};
use super::{Copied, FOLDER, PART_BYTES, Tally, shown};
use berth_store::path::{PATH_BYTES, Parts};
use berth_store::tarball::{Entry, Kind, Reader, Stream, TarError};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fchmod, fstat, fstatat, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, syncfs, unlinkat};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, fchown};
use std::sync::atomic::{AtomicU64, Ordering};

/// Beginning of the name of a file that is not complete.
const BESIDE: &str = ".berth-cp";
/// Bytes of padding after the end mark that are read: tar programs fill a record of 10 KiB, or what they were told.
const PADDING_BYTES: u64 = 1 << 20;
/// The stream ends before its end mark.
const NOT_WHOLE: &str = "it did not arrive whole";
/// A folder that the stream leaves out.
const FOLDER_MODE: u32 = 0o755;
const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// What the things in the stream are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// It is one file or folder, by the name that it has in the stream; `.` is what is in a folder.
    AsSent,
    /// It is one file or folder, and this is its name, whatever the stream calls it.
    As(Vec<u8>),
    /// It is what is in a folder.
    Contents,
}

/// Whose files they become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// An operator's: setuid and the like are not for what a container made.
    Operator,
    /// In a unit: what is replaced keeps its owner, all else is root's. When it is done it is on the disk.
    Unit,
}

/// Why it was not unpacked whole.
#[derive(Debug)]
pub struct Failed {
    /// What failed, and why.
    pub why: String,
    /// What is there all the same, as a sentence.
    pub left: Option<String>,
}

impl Failed {
    /// Both.
    pub fn sentence(self) -> String {
        match self.left {
            Some(left) => format!("{}; {left}", self.why),
            None => self.why,
        }
    }
}

struct Bytes<R>(R);

impl<R: Read> Read for Bytes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Stream for Bytes<R> {}

/// Unpacks all of it.
pub fn unpack(
    from: impl Read,
    place: Place,
    naming: Naming,
    rights: Rights,
    progress: &mut dyn FnMut(&Tally),
) -> Result<Copied, Failed> {
    let mut job = Job {
        place,
        naming,
        rights,
        progress,
        renamed: None,
        levels: Vec::new(),
        done: Copied::default(),
        buffer: vec![0; PART_BYTES],
    };
    match job.run(from) {
        Ok(()) => Ok(job.done),
        Err(why) => {
            let entries = job.done.tally.entries;
            let left = match entries {
                0 => None,
                1 => Some(format!("1 file or folder was copied to {} before", job.place.shown)),
                _ => Some(format!("{entries} files and folders were copied to {} before", job.place.shown)),
            };
            Err(Failed { why, left })
        }
    }
}

/// How the first entry's path is replaced in all of them.
struct Renamed {
    old: Vec<Vec<u8>>,
    new: Vec<Vec<u8>>,
}

/// A folder on the way to the present entry.
struct Level {
    name: Vec<u8>,
    fd: OwnedFd,
    /// It was made here, and gets these last: what is put into it needs the one and changes the other.
    meta: Option<(u32, TimeSpec)>,
}

struct Job<'a> {
    place: Place,
    naming: Naming,
    rights: Rights,
    progress: &'a mut dyn FnMut(&Tally),
    renamed: Option<Renamed>,
    levels: Vec<Level>,
    done: Copied,
    buffer: Vec<u8>,
}

impl Job<'_> {
    fn run(&mut self, from: impl Read) -> Result<(), String> {
        let mut reader = Reader::new(Bytes(from));
        while let Some(entry) = reader.entry().map_err(|error| not_whole(&error))? {
            self.entry(&entry, &mut reader)?;
        }
        if !reader.is_complete() {
            return Err(NOT_WHOLE.to_owned());
        }
        self.leave(0)?;
        if self.renamed.is_none() {
            return Err("nothing has come".to_owned());
        }
        let mut rest = reader.into_inner().take(PADDING_BYTES);
        let rest = io::copy(&mut rest, &mut io::sink()).map_err(|error| error.to_string())?;
        if rest == PADDING_BYTES {
            return Err("the stream goes on after its end".to_owned());
        }
        if self.rights == Rights::Unit {
            syncfs(&self.place.folder).map_err(|error| format!("{}: {error}", self.place.shown))?;
        }
        Ok(())
    }

    fn entry<S: Stream>(&mut self, entry: &Entry, reader: &mut Reader<S>) -> Result<(), String> {
        let bad = |why: String| format!("{}: {why}", shown(&entry.path));
        let path = self.named(&entry.path, Some(entry.kind)).map_err(bad)?;
        let Some((name, above)) = path.split_last() else {
            // What it is the contents of stays as it is.
            return if entry.kind == Kind::Dir { Ok(()) } else { Err(bad("is no folder".to_owned())) };
        };
        let at = shown(&path.join(&b'/'));
        let skipped = match entry.kind {
            Kind::Device => "a device",
            Kind::Fifo => "a pipe",
            Kind::Other(_) => "of an unknown kind",
            Kind::File | Kind::Hardlink | Kind::Symlink | Kind::Dir => "",
        };
        if !skipped.is_empty() {
            self.done.skipped.add(&at, skipped);
            return Ok(());
        }
        let failed = |why: Refusal| format!("{at}: {why}");
        self.enter(above).map_err(failed)?;
        match entry.kind {
            Kind::Dir => self.folder(name, entry),
            Kind::File => self.file(name, entry, reader),
            Kind::Symlink => self.symlink(name, entry),
            _ => self.hardlink(above, name, &entry.link),
        }
        .map_err(failed)?;
        self.done.tally.entries += 1;
        (self.progress)(&self.done.tally);
        Ok(())
    }

    /// Where a path of the stream is here, below the place's folder. The first one, of which the kind is told, decides for all.
    fn named(&mut self, path: &[u8], kind: Option<Kind>) -> Result<Vec<Vec<u8>>, String> {
        if path.starts_with(b"/") {
            return Err("an absolute name".to_owned());
        }
        let parts = Parts::parse(path)?;
        let parts = parts.all();
        let renamed = match (&mut self.renamed, kind) {
            (Some(renamed), _) => renamed,
            (none, Some(kind)) => none.insert(first(&self.place, &self.naming, parts, kind)?),
            (None, None) => return Err("is not there".to_owned()),
        };
        match parts.strip_prefix(renamed.old.as_slice()) {
            Some(rest) => Ok([renamed.new.as_slice(), rest].concat()),
            None => Err(format!("is not in {}", shown(&renamed.old.join(&b'/')))),
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.levels.last().map_or(self.place.folder.as_fd(), |level| level.fd.as_fd())
    }

    /// Opens the folder that the parts lead to, one after the other. Missing ones are made.
    fn enter(&mut self, above: &[Vec<u8>]) -> Result<(), Refusal> {
        let common = self.levels.iter().zip(above).take_while(|(level, part)| level.name == **part).count();
        self.leave(common).map_err(Refusal::Why)?;
        for part in &above[common..] {
            let fd = match openat(self.here(), part.as_slice(), FOLDER, Mode::empty()) {
                Err(Errno::ENOENT) => {
                    mkdirat(self.here(), part.as_slice(), Mode::from_bits_truncate(FOLDER_MODE))?;
                    openat(self.here(), part.as_slice(), FOLDER, Mode::empty())
                }
                fd => fd,
            };
            let fd = fd.map_err(|error| no_folder(part, error))?;
            self.levels.push(Level { name: part.clone(), fd, meta: None });
        }
        Ok(())
    }

    /// Closes all folders but so many. They are full now.
    fn leave(&mut self, keep: usize) -> Result<(), String> {
        while self.levels.len() > keep {
            let Some(Level { name, fd, meta: Some((mode, time)) }) = self.levels.pop() else { continue };
            fchmod(&fd, Mode::from_bits_truncate(mode))
                .and_then(|()| futimens(&fd, &time, &time))
                .map_err(|error| format!("{}: {error}", shown(&name)))?;
        }
        Ok(())
    }

    /// One that is there stays as it is.
    fn folder(&mut self, name: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let made = match mkdirat(self.here(), name, Mode::S_IRWXU) {
            Err(Errno::EEXIST) => false,
            made => made.map(|()| true)?,
        };
        let fd = openat(self.here(), name, FOLDER, Mode::empty()).map_err(|error| no_folder(name, error))?;
        let meta = made.then(|| (self.mode(entry), time(entry)));
        self.levels.push(Level { name: name.to_vec(), fd, meta });
        Ok(())
    }

    fn file<S: Stream>(&mut self, name: &[u8], entry: &Entry, reader: &mut Reader<S>) -> Result<(), Refusal> {
        let beside = beside();
        // Nobody else reads it before it has the rights that it should have.
        let file = File::from(openat(self.here(), beside.as_str(), NEW, Mode::S_IRUSR | Mode::S_IWUSR)?);
        self.fill(&file, entry, reader)
            .and_then(|()| self.give(&file, name, entry))
            .and_then(|()| self.flip(&beside, name))
            .inspect_err(|_| self.remove(&beside))
    }

    fn fill<S: Stream>(&mut self, file: &File, entry: &Entry, reader: &mut Reader<S>) -> Result<(), Refusal> {
        let mut end = 0;
        while let Some((offset, count)) = reader.data(&mut self.buffer)? {
            file.write_all_at(&self.buffer[..count], offset)?;
            end = offset + count as u64;
            self.done.tally.bytes += count as u64;
            (self.progress)(&self.done.tally);
        }
        if end < entry.size {
            file.set_len(entry.size)?;
        }
        Ok(())
    }

    /// Owner first: a change of it takes setuid bits away.
    fn give(&self, file: &File, name: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let old = fstatat(self.here(), name, AtFlags::AT_SYMLINK_NOFOLLOW).ok();
        if let Some(old) = old.filter(|old| self.rights == Rights::Unit && is_file(old)) {
            let new = fstat(file)?;
            if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid) {
                fchown(file, Some(old.st_uid), Some(old.st_gid))?;
            }
        }
        fchmod(file, Mode::from_bits_truncate(self.mode(entry)))?;
        let time = time(entry);
        Ok(futimens(file, &time, &time)?)
    }

    fn symlink(&self, name: &[u8], entry: &Entry) -> Result<(), Refusal> {
        let target = entry.link.as_slice();
        if target.is_empty() || target.len() >= PATH_BYTES || target.contains(&0) {
            return Err(Refusal::from("a link to nowhere"));
        }
        let beside = beside();
        symlinkat(target, self.here(), beside.as_str())?;
        let time = time(entry);
        utimensat(self.here(), beside.as_str(), &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(Refusal::from)
            .and_then(|()| self.flip(&beside, name))
            .inspect_err(|_| self.remove(&beside))
    }

    /// Another name of what is there already; it is changed no more, since a file that comes again is another one.
    fn hardlink(&mut self, above: &[Vec<u8>], name: &[u8], target: &[u8]) -> Result<(), Refusal> {
        let to = |why: Refusal| Refusal::Why(format!("a link to {}: {why}", shown(target)));
        let path = self.named(target, None).map_err(Refusal::Why).map_err(to)?;
        let Some((from, folders)) = path.split_last() else {
            return Err(to(Refusal::from("which is a folder")));
        };
        let mut folder = self.place.folder.try_clone()?;
        for part in folders {
            folder = openat(&folder, part.as_slice(), FOLDER, Mode::empty())
                .map_err(|error| to(no_folder(part, error)))?;
        }
        self.enter(above)?;
        let beside = beside();
        linkat(&folder, from.as_slice(), self.here(), beside.as_str(), AtFlags::empty())
            .map_err(|error| to(error.into()))?;
        let done = self.flip(&beside, name);
        // Where both are the same file already, a rename does nothing.
        self.remove(&beside);
        done
    }

    /// Takes the place of what is there by this name.
    fn flip(&self, beside: &str, name: &[u8]) -> Result<(), Refusal> {
        renameat(self.here(), beside, self.here(), name).map_err(|error| match error {
            Errno::EISDIR | Errno::ENOTEMPTY | Errno::EEXIST => {
                Refusal::from("is there already, and is a folder")
            }
            Errno::EBUSY => Refusal::from("something is mounted there, which no copy replaces"),
            error => error.into(),
        })
    }

    fn remove(&self, beside: &str) {
        let _ = unlinkat(self.here(), beside, UnlinkatFlags::NoRemoveDir);
    }

    fn mode(&self, entry: &Entry) -> u32 {
        let kept = match self.rights {
            Rights::Operator => 0o777,
            Rights::Unit => 0o7777,
        };
        entry.mode & kept
    }
}

/// What the first entry says, held against what was asked for and what is there.
fn first(place: &Place, naming: &Naming, parts: &[Vec<u8>], kind: Kind) -> Result<Renamed, String> {
    let whole = parts.len() <= 1;
    let folder = kind == Kind::Dir;
    match place.only {
        Only::File if folder => return Err(format!("is a folder, and {} a file", place.shown)),
        Only::Folder if !folder => return Err(format!("there is no folder {}", place.shown)),
        _ => {}
    }
    let old = if *naming == Naming::Contents { Vec::new() } else { parts.to_vec() };
    let new = match (&place.name, naming) {
        (None, Naming::Contents) => Vec::new(),
        // Contents have no name of their own here.
        (None, Naming::AsSent) if whole => parts.to_vec(),
        (None, Naming::As(name)) if whole => vec![name.clone()],
        (Some(name), Naming::Contents) if parts.is_empty() => vec![name.clone()],
        (Some(name), Naming::AsSent | Naming::As(_)) if whole => vec![name.clone()],
        _ => return Err("is not what was asked for".to_owned()),
    };
    Ok(Renamed { old, new })
}

/// Each has another: threads of one program may be at work in one folder.
fn beside() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("{BESIDE}.{}.{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed))
}

fn time(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.mtime.0, i64::from(entry.mtime.1))
}

fn is_file(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFREG
}

fn no_folder(name: &[u8], error: Errno) -> Refusal {
    match error {
        Errno::ENOTDIR | Errno::ELOOP => {
            Refusal::Why(format!("{} is there already, and is no folder", shown(name)))
        }
        error => error.into(),
    }
}

fn not_whole(error: &TarError) -> String {
    match error {
        TarError::Truncated(_) => NOT_WHOLE.to_owned(),
        error => error.to_string(),
    }
}

/// Why one entry does not come in.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Why(String),
    #[error("{}", not_whole(.0))]
    Tar(#[from] TarError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        Self::Why(why.to_owned())
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}
