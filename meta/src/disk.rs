//! A disk, partition or image: bytes at positions, with a bound on how much is read in all.

use crate::limits;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Why something was not read from a disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The device failed.
    #[error("it could not be read at byte {at}: {error}")]
    Io {
        /// Where.
        at: u64,
        /// Why.
        error: io::Error,
    },
    /// What is said to be there lies beyond the end.
    #[error("it is cut short: something is said to be at byte {0}, beyond its end")]
    Short(u64),
    /// More was to be read than any sound volume needs.
    #[error("its structures lead to more than {} bytes", limits::DISK_READ_BYTES)]
    Budget,
    /// The file system contradicts itself.
    #[error("its file system is damaged: {0}")]
    Damaged(String),
    /// It is sound, but not for us.
    #[error("{0}")]
    Unusable(String),
}

/// Anything that can be read and positioned.
pub trait Source: Read + Seek {}
impl<T: Read + Seek> Source for T {}

/// The disk.
pub struct Disk {
    source: RefCell<Box<dyn Source>>,
    size: u64,
    left: Cell<u64>,
}

impl Disk {
    /// A file or block device; its size is where its end is.
    pub fn new(file: File) -> io::Result<Self> {
        Self::from_source(file)
    }

    /// Anything else.
    pub fn from_source(source: impl Source + 'static) -> io::Result<Self> {
        Self::bounded(source, limits::DISK_READ_BYTES)
    }

    /// Anything, of which so many bytes are read at most.
    pub fn bounded(mut source: impl Source + 'static, most: u64) -> io::Result<Self> {
        let size = source.seek(SeekFrom::End(0))?;
        Ok(Self { source: RefCell::new(Box::new(source)), size, left: Cell::new(most) })
    }

    /// Bytes in memory, for tests and fuzzing.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let size = bytes.len() as u64;
        let source = RefCell::new(Box::new(io::Cursor::new(bytes.to_vec())) as Box<dyn Source>);
        Self { source, size, left: Cell::new(limits::DISK_READ_BYTES) }
    }

    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads exactly `len` bytes at `at`.
    pub fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        if at.checked_add(len as u64).is_none_or(|end| end > self.size) {
            return Err(DiskError::Short(at));
        }
        let left = self.left.get().checked_sub(len as u64).ok_or(DiskError::Budget)?;
        self.left.set(left);
        let mut bytes = vec![0; len];
        let mut source = self.source.borrow_mut();
        source
            .seek(SeekFrom::Start(at))
            .and_then(|_| source.read_exact(&mut bytes))
            .map_err(|error| DiskError::Io { at, error })?;
        Ok(bytes)
    }
}

/// Little-endian numbers in a block; out of range is 0, as the block's length is the caller's to know.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

/// See [`u16_at`].
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_beyond_the_end_or_the_bound() {
        let disk = Disk::from_bytes(&[1; 1000]);
        assert_eq!(disk.read(990, 10).unwrap(), [1; 10]);
        assert!(matches!(disk.read(991, 10), Err(DiskError::Short(991))));
        assert!(matches!(disk.read(u64::MAX, 10), Err(DiskError::Short(_))));
        for _ in 0..limits::DISK_READ_BYTES / 1000 {
            if disk.read(0, 1000).is_err() {
                break;
            }
        }
        assert!(matches!(disk.read(0, 1000), Err(DiskError::Budget)));
    }
}
