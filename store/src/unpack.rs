//! Makes a folder out of a layer's tar.
//!
//! The tree ([`Tree`]) cannot be left; this module decides what each entry may be:
//!
//! | entry | becomes |
//! |---|---|
//! | file, folder, named pipe | itself, with owner, mode (setuid too), time |
//! | symbolic link | itself; the target stays as written and is never followed |
//! | hard link | a link to a file of the same layer; to a file of a layer below, whose copy comes first |
//! | `.wh.NAME` | a whiteout of NAME: character device 0:0 |
//! | `.wh..wh..opq` | `user.overlay.opaque=y` on its folder |
//! | device node | nothing, with a note: inside a user namespace it could not be opened, and Docker leaves it out there too |
//! | extended attribute | kept if `user.*`, `security.capability` or a POSIX ACL; dropped otherwise, and `user.overlay.*` always: overlayfs would obey it |
//! | folder that the layer does not list | as a layer below has it, else root's, mode 0755 |
//!
//! A path through symbolic links leads where it would with the image's root as `/`. An owner beyond 65535, a path with
//! `..`, a hard link to nothing, and whatever exceeds [`limits`] is refused by name.

use crate::error::reason;
use crate::path::Parts;
use crate::tarball::{Entry, Kind, Reader, Stream, TarError};
use crate::tree::{Found, Meta, Tree, keeps_xattr};
use crate::{limits, show};
use nix::sys::statvfs::fstatvfs;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream is no good; a damaged blob looks like this too.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry was refused.
    #[error("{path}: {why}")]
    Entry {
        /// Its path.
        path: String,
        /// Why.
        why: String,
    },
    /// The layer as a whole was refused.
    #[error("{0}")]
    Limit(String),
}

/// What was left out, for one line of the worker's status.
#[derive(Debug, Default)]
pub struct Notes {
    /// Device nodes.
    pub devices: Vec<String>,
    /// Files whose capabilities or attributes could not be set.
    pub attributes: Vec<String>,
    /// Bytes of all files so far, holes counted in.
    pub bytes: u64,
}

/// Unpacks the tar that `stream` holds into `tree`, and returns the stream at the archive's end.
pub fn unpack<S: Stream>(stream: S, tree: &mut Tree, notes: &mut Notes) -> Result<S, UnpackError> {
    unpack_leaving(stream, tree, notes, limits::RESERVE_BYTES)
}

/// The same, stopping when fewer than `reserve` bytes are free.
fn unpack_leaving<S: Stream>(
    stream: S,
    tree: &mut Tree,
    notes: &mut Notes,
    reserve: u64,
) -> Result<S, UnpackError> {
    let mut job = Job {
        tree,
        notes,
        folders: BTreeMap::new(),
        folder_bytes: 0,
        entries: 0,
        file_bytes: 0,
        unchecked: limits::RESERVE_EVERY,
        reserve,
        buffer: vec![0; 64 * 1024],
    };
    let mut reader = Reader::new(stream);
    while let Some(entry) = reader.entry()? {
        job.entry(&entry, &mut reader)?;
    }
    job.finish()?;
    job.notes.bytes += job.file_bytes;
    Ok(reader.into_inner())
}

struct Job<'a> {
    tree: &'a mut Tree,
    notes: &'a mut Notes,
    /// Folders get mode and time last: unpacking into them needs the one and changes the other.
    folders: BTreeMap<Parts, Meta>,
    folder_bytes: usize,
    entries: u64,
    file_bytes: u64,
    /// Bytes written since the free space was looked at.
    unchecked: u64,
    reserve: u64,
    buffer: Vec<u8>,
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

impl Job<'_> {
    fn entry<S: Stream>(&mut self, entry: &Entry, reader: &mut Reader<S>) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > limits::LAYER_ENTRIES {
            return Err(UnpackError::Limit(format!("more than {} files", limits::LAYER_ENTRIES)));
        }
        match self.place(entry, reader) {
            Ok(()) => Ok(()),
            Err(Refusal::Tar(e)) => Err(e.into()),
            Err(why) => Err(UnpackError::Entry { path: show::name(&entry.path), why: why.to_string() }),
        }
    }

    fn place<S: Stream>(&mut self, entry: &Entry, reader: &mut Reader<S>) -> Result<(), Refusal> {
        match entry.kind {
            Kind::Other(_) => return Ok(()),
            Kind::Device => {
                self.notes.devices.push(show::name(&entry.path));
                return Ok(());
            }
            _ => {}
        }
        let parts = Parts::parse(&entry.path)?;
        let meta = meta(entry)?;
        let Some((above, name)) = parts.split() else {
            if entry.kind != Kind::Dir {
                return Err(Refusal::from("the layer's root can only be a folder"));
            }
            return self.folder(parts.clone(), None, &meta, entry);
        };
        match self.enter(above) {
            // umoci hides one by one what a file hides already that took a folder's place.
            Err(Refusal::NoFolder(_)) if name.starts_with(WHITEOUT) => return Ok(()),
            entered => entered?,
        }
        let parts = Parts::child(self.tree.path(), name);
        if name == OPAQUE {
            let folder = self.tree.folder(None)?;
            return Ok(self.tree.set_opaque(folder.as_fd())?);
        }
        // aufs's own bookkeeping, as Docker skips it.
        if name.starts_with(b".wh..wh.") {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(hidden);
        }
        let found = self.tree.find(name)?;
        if entry.kind == Kind::Dir {
            return self.folder_at(&parts, name, found, &meta, entry);
        }
        self.clear(name, found)?;
        match entry.kind {
            Kind::File => self.file(name, &meta, entry, reader),
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.len() > limits::PATH_BYTES || entry.link.contains(&0) {
                    return Err(Refusal::from(
                        "a symbolic link's target is empty, too long or has a NUL byte",
                    ));
                }
                self.tree.symlink(name, &entry.link)?;
                Ok(self.tree.set_other(name, &meta, false)?)
            }
            Kind::Hardlink => self.hardlink(above, name, &entry.link),
            _ => {
                self.tree.fifo(name)?;
                Ok(self.tree.set_other(name, &meta, true)?)
            }
        }
    }

    fn enter(&mut self, above: &[Vec<u8>]) -> Result<(), Refusal> {
        let entered = self.tree.enter(above);
        for (folder, meta) in self.tree.taken_over() {
            self.remember(folder, meta)?;
        }
        entered.map_err(|(part, e)| match e.raw_os_error() {
            Some(libc::ENOTDIR) => Refusal::NoFolder(show::name(&part)),
            Some(libc::ELOOP) => Refusal::Why(format!(
                "the path leads through {}, a symbolic link without end",
                show::name(&part)
            )),
            Some(libc::ENAMETOOLONG) => Refusal::Why(format!(
                "with the symbolic links on its way the path is more than {} folders deep",
                limits::PATH_DEPTH
            )),
            _ => Refusal::Io(e),
        })
    }

    /// Makes way for an entry: the last one of a name counts.
    fn clear(&self, name: &[u8], found: Found) -> Result<(), Refusal> {
        match found {
            Found::Nothing => Ok(()),
            Found::Dir => self.tree.remove(name, found).map_err(|e| match e.raw_os_error() {
                Some(libc::ENOTEMPTY | libc::EEXIST) => {
                    Refusal::from("the same layer has a folder with files of this name")
                }
                _ => Refusal::Io(e),
            }),
            Found::Whiteout | Found::Other => Ok(self.tree.remove(name, found)?),
        }
    }

    fn folder_at(
        &mut self,
        parts: &Parts,
        name: &[u8],
        found: Found,
        meta: &Meta,
        entry: &Entry,
    ) -> Result<(), Refusal> {
        if found != Found::Dir {
            self.clear(name, found)?;
            self.tree.mkdir(name)?;
        }
        self.folder(parts.clone(), Some(name), meta, entry)?;
        if found == Found::Whiteout {
            // Removed and made anew in one layer: what lies below stays hidden.
            let folder = self.tree.folder(Some(name))?;
            self.tree.set_opaque(folder.as_fd())?;
        }
        Ok(())
    }

    /// Owner and attributes now, the rest at the end.
    fn folder(
        &mut self,
        parts: Parts,
        name: Option<&[u8]>,
        meta: &Meta,
        entry: &Entry,
    ) -> Result<(), Refusal> {
        if name.is_none() {
            self.enter(&[])?;
        }
        let fd = self.tree.folder(name)?;
        self.tree.set_owner(fd.as_fd(), meta)?;
        self.xattrs(fd.as_fd(), entry)?;
        self.remember(parts, *meta)
    }

    fn remember(&mut self, parts: Parts, meta: Meta) -> Result<(), Refusal> {
        let names: usize = parts.all().iter().map(Vec::len).sum();
        self.folder_bytes += names + size_of::<Meta>() + size_of::<Parts>();
        if self.folder_bytes > limits::FOLDER_TABLE_BYTES {
            return Err(Refusal::from("too many folders with long names"));
        }
        self.folders.insert(parts, meta);
        Ok(())
    }

    fn file<S: Stream>(
        &mut self,
        name: &[u8],
        meta: &Meta,
        entry: &Entry,
        reader: &mut Reader<S>,
    ) -> Result<(), Refusal> {
        if entry.size > limits::FILE_BYTES {
            return Err(Refusal::Why(format!(
                "a file of {} bytes; {} is the most",
                entry.size,
                limits::FILE_BYTES
            )));
        }
        self.file_bytes += entry.size;
        if self.file_bytes > limits::LAYER_FILE_BYTES {
            return Err(Refusal::Why(format!(
                "with this file the layer has more than {} bytes",
                limits::LAYER_FILE_BYTES
            )));
        }
        let file = self.tree.create(name)?;
        let mut end = 0;
        while let Some((offset, n)) = reader.data(&mut self.buffer)? {
            file.write_all_at(&self.buffer[..n], offset)?;
            end = offset + n as u64;
            self.unchecked += n as u64;
            if self.unchecked >= limits::RESERVE_EVERY {
                self.check_space()?;
            }
        }
        if end < entry.size {
            file.set_len(entry.size)?;
        }
        self.tree.set_owner(file.as_fd(), meta)?;
        self.xattrs(file.as_fd(), entry)?;
        Ok(self.tree.set_mode_and_time(file.as_fd(), meta)?)
    }

    /// The state partition is everybody's: an image must not take its last blocks.
    fn check_space(&mut self) -> Result<(), Refusal> {
        self.unchecked = 0;
        let space = fstatvfs(self.tree.root()).map_err(io::Error::from)?;
        if space.blocks_available().saturating_mul(space.fragment_size()) < self.reserve {
            return Err(Refusal::Io(io::ErrorKind::StorageFull.into()));
        }
        Ok(())
    }

    fn hardlink(&mut self, above: &[Vec<u8>], name: &[u8], target: &[u8]) -> Result<(), Refusal> {
        let shown = show::name(target);
        let target = Parts::parse(target).map_err(|why| format!("hard link to {shown}: {why}"))?;
        let Some((from, from_name)) = target.split() else {
            return Err(Refusal::from("a hard link to the layer's root"));
        };
        let wrong = |refusal: Refusal| match refusal {
            Refusal::Io(e) => Refusal::Io(e),
            why => Refusal::Why(format!("hard link to {shown}: {why}")),
        };
        self.enter(from).map_err(wrong)?;
        let from = self.tree.path();
        match self.tree.find(from_name)? {
            Found::Nothing => {
                let most = limits::FILE_BYTES.min(limits::LAYER_FILE_BYTES.saturating_sub(self.file_bytes));
                let Some(size) = self.tree.bring_up(from_name, most)? else {
                    return Err(Refusal::Why(format!(
                        "hard link to {shown}, which neither this layer has before it nor one below"
                    )));
                };
                self.file_bytes += size;
                self.check_space()?;
            }
            Found::Whiteout => {
                return Err(Refusal::Why(format!("hard link to {shown}, which this layer removes")));
            }
            Found::Dir => return Err(Refusal::Why(format!("hard link to {shown}, which is a folder"))),
            Found::Other => {}
        }
        self.enter(above)?;
        Ok(self.tree.hardlink(&from, from_name, name)?)
    }

    /// Hides a name of the layers below. A file of this layer by the same name stays; a folder becomes opaque.
    fn whiteout(&mut self, hidden: &[u8]) -> Result<(), Refusal> {
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(Refusal::from("a whiteout of nothing"));
        }
        match self.tree.find(hidden)? {
            Found::Nothing => Ok(self.tree.whiteout(hidden)?),
            Found::Dir => {
                let folder = self.tree.folder(Some(hidden))?;
                Ok(self.tree.set_opaque(folder.as_fd())?)
            }
            Found::Whiteout | Found::Other => Ok(()),
        }
    }

    fn xattrs(&mut self, fd: std::os::fd::BorrowedFd<'_>, entry: &Entry) -> Result<(), Refusal> {
        for (name, value) in &entry.xattrs {
            if !keeps_xattr(name) {
                continue;
            }
            if name.len() > limits::NAME_BYTES || value.len() > limits::XATTR_BYTES {
                return Err(Refusal::from("an extended attribute is too long"));
            }
            if let Some(id) = acl_id(name, value).filter(|id| u64::from(*id) > limits::ID_MAX) {
                return Err(Refusal::Why(format!(
                    "its access list names {id}; a container has 0 to {}",
                    limits::ID_MAX
                )));
            }
            match self.tree.set_xattr(fd, name, value) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::StorageFull => return Err(e.into()),
                // Not root, or a file system without them, or one that holds less.
                Err(_) => self.notes.attributes.push(show::name(&entry.path)),
            }
        }
        Ok(())
    }

    /// Mode and time of folders, the innermost first.
    fn finish(&mut self) -> Result<(), UnpackError> {
        for (parts, meta) in std::mem::take(&mut self.folders).iter().rev() {
            let set = |job: &mut Self| -> Result<(), Refusal> {
                let (above, name) = match parts.split() {
                    Some((above, name)) => (above, Some(name)),
                    None => (&[][..], None),
                };
                job.enter(above)?;
                // It may have been replaced by something else since.
                if name.is_some_and(|n| job.tree.find(n).is_ok_and(|found| found != Found::Dir)) {
                    return Ok(());
                }
                let fd = job.tree.folder(name)?;
                Ok(job.tree.set_mode_and_time(fd.as_fd(), meta)?)
            };
            set(self).map_err(|refusal| UnpackError::Entry {
                path: show::name(&parts.all().join(&b'/')),
                why: refusal.to_string(),
            })?;
        }
        Ok(())
    }
}

fn meta(entry: &Entry) -> Result<Meta, Refusal> {
    let id = |id: u64, what: &str| match u32::try_from(id) {
        Ok(small) if id <= limits::ID_MAX => Ok(small),
        _ => Err(Refusal::Why(format!("its {what} is {id}; a container has 0 to {}", limits::ID_MAX))),
    };
    Ok(Meta {
        uid: id(entry.uid, "owner")?,
        gid: id(entry.gid, "group")?,
        mode: entry.mode,
        mtime: entry.mtime,
    })
}

/// The highest user or group that a POSIX ACL names: four bytes of version, then tag, permissions and id of each entry.
fn acl_id(name: &[u8], value: &[u8]) -> Option<u32> {
    let entries = name.starts_with(b"system.posix_acl_").then(|| value.get(4..))??;
    let named = entries.as_chunks::<8>().0.iter().filter(|entry| matches!(entry[..2], [2 | 8, 0]));
    named.map(|entry| u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]])).max()
}

/// Why one entry does not come in.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Tar(#[from] TarError),
    #[error("the path leads through {0}, which is not a folder")]
    NoFolder(String),
    #[error("{0}")]
    Why(String),
    #[error("{}", reason(.0))]
    Io(#[from] io::Error),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Self {
        Self::Why(why.to_owned())
    }
}

#[cfg(test)]
mod tests;
