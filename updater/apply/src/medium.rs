//! What is written to: a partition, or the part of a file that stands for one.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// A block device, or something like it.
pub trait Medium {
    /// Its size, bytes.
    fn bytes(&self) -> u64;

    /// Fills the buffer from there; an error when the medium ends before.
    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of it; an error when the medium ends before. It may be lost, torn or reordered by a power cut until
    /// the next [`Medium::flush`].
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// What was written before survives a power cut, and what is written later comes after it.
    fn flush(&mut self) -> io::Result<()>;

    /// What is read from now on comes from the medium and not from a cache of the kernel's, where that can be had.
    /// Only after a [`Medium::flush`]: what is dirty stays cached.
    fn forget(&mut self) -> io::Result<()>;
}

/// A part of another medium, as one of its own.
pub struct Part<'m> {
    medium: &'m mut dyn Medium,
    start: u64,
    bytes: u64,
}

impl<'m> Part<'m> {
    /// `bytes` from `start` on.
    pub fn new(medium: &'m mut dyn Medium, start: u64, bytes: u64) -> Part<'m> {
        Part { medium, start, bytes }
    }
}

impl Medium for Part<'_> {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.medium.read_at(self.start + place(at, buffer.len(), self.bytes)?, buffer)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.medium.write_at(self.start + place(at, bytes.len(), self.bytes)?, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.medium.flush()
    }

    fn forget(&mut self) -> io::Result<()> {
        self.medium.forget()
    }
}

/// The place, if so much is there.
fn place(at: u64, length: usize, bytes: u64) -> io::Result<u64> {
    if at.checked_add(length as u64).is_none_or(|end| end > bytes) {
        return Err(io::Error::other(format!("{length} bytes at {at} are beyond the end")));
    }
    Ok(at)
}

/// A whole device or file, or a part of it.
#[derive(Debug)]
pub struct Window {
    file: File,
    start: u64,
    bytes: u64,
}

impl Window {
    /// All of it.
    pub fn whole(mut file: File) -> io::Result<Window> {
        let bytes = file.seek(SeekFrom::End(0))?;
        Ok(Window { file, start: 0, bytes })
    }

    /// `bytes` from `start` on: a partition of a disk image. An error when the file ends before.
    pub fn part(file: File, start: u64, bytes: u64) -> io::Result<Window> {
        let whole = Window::whole(file)?;
        if start.checked_add(bytes).is_none_or(|end| end > whole.bytes) {
            return Err(io::Error::other(format!("{bytes} bytes from {start} on reach beyond its end")));
        }
        Ok(Window { file: whole.file, start, bytes })
    }

    fn place(&self, at: u64, length: usize) -> io::Result<u64> {
        Ok(self.start + place(at, length, self.bytes)?)
    }
}

impl Medium for Window {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, self.place(at, buffer.len())?)
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.place(at, bytes.len())?)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn forget(&mut self) -> io::Result<()> {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        let (start, bytes) = (self.start.try_into(), self.bytes.try_into());
        let (Ok(start), Ok(bytes)) = (start, bytes) else {
            return Err(io::Error::other("too large"));
        };
        posix_fadvise(&self.file, start, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(())
    }
}
