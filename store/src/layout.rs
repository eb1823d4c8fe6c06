//! A place that may hold images, as named files: an OCI layout or a `docker save` archive, as a tar (a file, or a
//! disk's raw bytes) or as a folder.

use crate::bytes::{FileBytes, ReadAt, Window};
use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::tarball::{Kind, Reader};
use crate::{limits, path::Parts, show};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The place.
pub struct Layout {
    /// How messages call it: `disk vdb`, `/usr/lib/berth/images/web.tar`.
    pub name: String,
    files: Files,
}

enum Files {
    Archive { bytes: Box<dyn ReadAt>, members: BTreeMap<Vec<u8>, (u64, u64)> },
    Folder(PathBuf),
}

/// One file of a layout, opened.
pub enum Blob<'a> {
    /// Part of an archive.
    Part(Window<'a>),
    /// A file of its own, with its size.
    Whole(File, u64),
}

impl Blob<'_> {
    /// Bytes in all, if nothing has been read yet.
    pub fn size(&self) -> u64 {
        match self {
            Self::Part(window) => window.len(),
            Self::Whole(_, size) => *size,
        }
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Part(window) => window.read(buffer),
            Self::Whole(file, _) => file.read(buffer),
        }
    }
}

/// Whether bytes begin like a tar archive.
pub fn is_tar(bytes: &dyn ReadAt) -> bool {
    let mut magic = [0; 5];
    matches!(bytes.read_at(&mut magic, 257), Ok(5)) && &magic == b"ustar"
}

impl Layout {
    /// Reads an archive's table: every header, no content.
    pub fn archive(name: &str, bytes: Box<dyn ReadAt>) -> Result<Self, Error> {
        let unreadable = |why: String| Error::Source { source_name: name.to_owned(), why };
        let mut members = BTreeMap::new();
        let mut reader = Reader::new(Window::new(&*bytes, 0, u64::MAX));
        while let Some(entry) = reader.entry().map_err(|e| unreadable(e.to_string()))? {
            if members.len() >= limits::ARCHIVE_ENTRIES {
                return Err(unreadable(format!("more than {} files", limits::ARCHIVE_ENTRIES)));
            }
            // No name in a layout is long, and a sparse blob is nobody's.
            if entry.kind != Kind::File
                || entry.data_len != entry.size
                || entry.path.len() > limits::NAME_BYTES
            {
                continue;
            }
            let parts = Parts::parse(&entry.path)
                .map_err(|why| unreadable(format!("{}: {why}", show::name(&entry.path))))?;
            members.insert(parts.all().join(&b'/'), (entry.data_at, entry.data_len));
        }
        drop(reader);
        Ok(Self { name: name.to_owned(), files: Files::Archive { bytes, members } })
    }

    /// A `.tar` file or a folder.
    pub fn path(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let unreadable = |e: std::io::Error| Error::Source { source_name: name.clone(), why: e.to_string() };
        if path.is_dir() {
            return Ok(Self { name, files: Files::Folder(path.to_owned()) });
        }
        let file = File::open(path).and_then(FileBytes::new).map_err(unreadable)?;
        Self::archive(&name, Box::new(file))
    }

    /// Opens a file of the layout; `None` if there is none of this name.
    pub fn open(&self, member: &str) -> Result<Option<Blob<'_>>, Error> {
        match &self.files {
            Files::Archive { bytes, members } => Ok(members
                .get(member.as_bytes())
                .map(|(start, len)| Blob::Part(Window::new(&**bytes, *start, *len)))),
            Files::Folder(root) => {
                if Parts::parse(member.as_bytes()).is_err() {
                    return Ok(None);
                }
                let opened = File::options()
                    .read(true)
                    .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                    .open(root.join(member))
                    .and_then(|file| Ok((file.metadata()?, file)));
                match opened {
                    Ok((meta, file)) if meta.is_file() => Ok(Some(Blob::Whole(file, meta.len()))),
                    Ok(_) => Ok(None),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(self.unreadable(format!("{member}: {e}"))),
                }
            }
        }
    }

    /// Reads a small file whole; the error names it.
    pub fn small(&self, member: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(blob) = self.open(member)? else { return Ok(None) };
        if blob.size() > most {
            return Err(
                self.unreadable(format!("{member} has {} bytes; at most {most} are read", blob.size()))
            );
        }
        let size = blob.size();
        let mut bytes = Vec::new();
        blob.take(most).read_to_end(&mut bytes).map_err(|e| self.unreadable(format!("{member}: {e}")))?;
        if bytes.len() as u64 != size {
            return Err(self.unreadable(format!("{member} ends after {} of {size} bytes", bytes.len())));
        }
        Ok(Some(bytes))
    }

    /// Reads a small blob whole, and checks its digest.
    pub fn blob(&self, digest: &Digest, most: u64) -> Result<Vec<u8>, Error> {
        let bytes = self.small(&blob_path(digest), most)?.ok_or_else(|| self.missing(digest))?;
        let mut hasher = Hasher::default();
        hasher.update(&bytes);
        let found = hasher.digest();
        if found != *digest {
            return Err(self.differs(digest, &found));
        }
        Ok(bytes)
    }

    /// The blob is not there.
    pub fn missing(&self, digest: &Digest) -> Error {
        self.unreadable(format!("blob {digest} is missing; the archive is incomplete, save the image again"))
    }

    /// The blob is not what its name says.
    pub fn differs(&self, digest: &Digest, found: &Digest) -> Error {
        self.unreadable(format!(
            "blob {digest} is damaged (its content is {found}); save or download the image again"
        ))
    }

    /// Something else is wrong here.
    pub fn unreadable(&self, why: String) -> Error {
        Error::Source { source_name: self.name.clone(), why }
    }
}

/// Where a blob lies in an OCI layout.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
