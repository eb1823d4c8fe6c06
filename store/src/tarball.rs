//! Reads a tar archive as a stream of entries: ustar, GNU (long names, sparse files) and pax.
//!
//! The fields of a header are read by the `tar` crate; the order of things, and every bound, is ours: the crate
//! collects a long name or a pax header of any size in memory. Nothing is ever written here, and no path is
//! interpreted: [`crate::path`] does that.
//!
//! The same reader serves the layers (compressed, hashed while they go by) and the archives that hold images
//! (a file or a disk, where contents are skipped: [`Stream::skip`]).

mod header;
mod pax;

use crate::{limits, show};
use header::{Block, Fields};
use std::io::{self, Read};

/// Where a tar comes from.
pub trait Stream: Read + Sized {
    /// Moves `n` bytes ahead; fewer if the stream ends. The default reads them.
    fn skip(&mut self, n: u64) -> io::Result<u64> {
        io::copy(&mut self.by_ref().take(n), &mut io::sink())
    }
}

impl Stream for &[u8] {}

/// What went wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream could not be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It ends in the middle.
    #[error("the archive ends in the middle of {0}: it was cut short")]
    Truncated(String),
    /// It is not what it says.
    #[error("the archive is damaged at byte {at}: {what}")]
    Malformed {
        /// Where the entry begins.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// A bound was reached; the text says which.
    #[error("{0}")]
    Limit(String),
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Regular file, sparse or not.
    File,
    /// Another name of a file.
    Hardlink,
    /// Symbolic link.
    Symlink,
    /// Folder.
    Dir,
    /// Named pipe.
    Fifo,
    /// Character or block device.
    Device,
    /// Something else, by its type byte.
    Other(u8),
}

/// One entry's description.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its path as written.
    pub path: Vec<u8>,
    /// A link's target as written.
    pub link: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// A file's size, holes included.
    pub size: u64,
    /// Extended attributes, name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where its data begins in the stream.
    pub data_at: u64,
    /// Bytes of data in the stream.
    pub data_len: u64,
}

/// Part of a file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    offset: u64,
    len: u64,
}

/// The reader. [`Reader::entry`] and [`Reader::data`] are called in turns.
pub struct Reader<S> {
    stream: S,
    /// Bytes read or skipped.
    at: u64,
    /// Of the present entry: data left in the stream, then padding.
    left: u64,
    padding: u64,
    /// Pieces not yet read, the present one last.
    pieces: Vec<Piece>,
    /// For messages.
    name: String,
    ended: bool,
    complete: bool,
}

impl<S: Stream> Reader<S> {
    /// Reads from here.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            at: 0,
            left: 0,
            padding: 0,
            pieces: Vec::new(),
            name: String::new(),
            ended: false,
            complete: false,
        }
    }

    /// Whether the mark of an archive's end has been read: without it, there may have been more.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The stream, at whatever follows the last thing read.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// The next entry; data of the present one that was not read is skipped. `None` at the end: a block of zeros, or
    /// the stream's end between two entries.
    pub fn entry(&mut self) -> Result<Option<Entry>, TarError> {
        if self.ended {
            return Ok(None);
        }
        self.finish_entry()?;
        let mut fields = Fields::default();
        loop {
            let at = self.at;
            let malformed = |what: String| TarError::Malformed { at, what };
            let Some(block) = self.block()? else {
                if fields.is_empty() {
                    self.ended = true;
                    return Ok(None);
                }
                return Err(TarError::Truncated("an entry's header".to_owned()));
            };
            if block.is_zero() {
                (self.ended, self.complete) = (true, true);
                return Ok(None);
            }
            block.check().map_err(malformed)?;
            match block.kind() {
                b'L' => fields.long_path = Some(self.long_name(&block, at)?),
                b'K' => fields.long_link = Some(self.long_name(&block, at)?),
                b'x' | b'X' => {
                    let records = self.special(&block, at)?;
                    pax::parse(&records, &mut fields).map_err(malformed)?;
                }
                // Global defaults: tools write only comments there.
                b'g' => drop(self.special(&block, at)?),
                _ => return self.start(&block, fields, at).map(Some),
            }
        }
    }

    /// The present entry's next data: where it belongs in the file, and how many bytes of `buffer` were filled.
    /// `None` when there is no more.
    pub fn data(&mut self, buffer: &mut [u8]) -> Result<Option<(u64, usize)>, TarError> {
        while self.pieces.last().is_some_and(|p| p.len == 0) {
            self.pieces.pop();
        }
        let Some(piece) = self.pieces.last_mut() else { return Ok(None) };
        let most = usize::try_from(piece.len).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.stream.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(TarError::Truncated(self.name.clone()));
        }
        let offset = piece.offset;
        piece.offset += n as u64;
        piece.len -= n as u64;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(Some((offset, n)))
    }

    fn start(&mut self, block: &Block, fields: Fields, at: u64) -> Result<Entry, TarError> {
        let malformed = |what: String| TarError::Malformed { at, what };
        let mut entry = block.entry(&fields).map_err(malformed)?;
        let name = show::name(&entry.path);
        let mut stored = fields.size.map_or_else(|| block.size(), Ok).map_err(malformed)?;
        if !matches!(entry.kind, Kind::File | Kind::Other(_)) {
            // POSIX: these have no data, whatever the size field says; hard links written by some tools claim one.
            stored = 0;
        }
        self.left = stored;
        self.padding = stored.next_multiple_of(512) - stored;
        self.name = name.clone();
        let pieces = if block.kind() == b'S' {
            let pieces = self.gnu_sparse(block, at)?;
            entry.size = block.real_size().map_err(malformed)?;
            Some(pieces)
        } else if let Some(sparse) = &fields.sparse {
            entry.size = sparse.real_size.unwrap_or(stored);
            Some(if sparse.map_in_data { self.pax_sparse_map(at)? } else { sparse.pieces()? })
        } else {
            entry.size = stored;
            None
        };
        entry.data_at = self.at;
        entry.data_len = self.left;
        let pieces = match pieces {
            None => vec![Piece { offset: 0, len: stored }],
            Some(pieces) => {
                check_pieces(&pieces, entry.size, self.left)
                    .map_err(|what| malformed(format!("sparse file {name}: {what}")))?;
                pieces
            }
        };
        self.pieces = pieces;
        self.pieces.reverse();
        Ok(entry)
    }

    /// The map of a GNU sparse file goes on in blocks after its header.
    fn gnu_sparse(&mut self, block: &Block, at: u64) -> Result<Vec<Piece>, TarError> {
        let malformed = |what: String| TarError::Malformed { at, what };
        let (mut pieces, mut more) = block.sparse().map_err(malformed)?;
        while more {
            let Some(next) = self.block()? else { return Err(TarError::Truncated(self.name.clone())) };
            let (some, again) = next.sparse_extension().map_err(malformed)?;
            pieces.extend(some);
            too_many_pieces(pieces.len(), &self.name)?;
            more = again;
        }
        Ok(pieces)
    }

    /// The map of a pax 1.0 sparse file is decimal lines in whole blocks at the start of its data.
    fn pax_sparse_map(&mut self, at: u64) -> Result<Vec<Piece>, TarError> {
        let mut map = pax::SparseMap::default();
        loop {
            if self.left < 512 {
                let what = format!("the map of sparse file {} is longer than its data", self.name);
                return Err(TarError::Malformed { at, what });
            }
            let Some(block) = self.block()? else { return Err(TarError::Truncated(self.name.clone())) };
            self.left -= 512;
            let complete = map.add(block.bytes()).map_err(|what| TarError::Malformed { at, what })?;
            if let Some(pieces) = complete {
                return Ok(pieces);
            }
            too_many_pieces(map.len(), &self.name)?;
        }
    }

    fn long_name(&mut self, block: &Block, at: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.special(block, at)?;
        if let Some(end) = name.iter().position(|b| *b == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    /// The data of an entry that describes the next one.
    fn special(&mut self, block: &Block, at: u64) -> Result<Vec<u8>, TarError> {
        let size = block.size().map_err(|what| TarError::Malformed { at, what })?;
        if size > limits::PAX_BYTES {
            return Err(TarError::Limit(format!(
                "a header at byte {at} has {size} bytes; at most {} are read",
                limits::PAX_BYTES
            )));
        }
        let mut data = Vec::new();
        let whole = size.next_multiple_of(512);
        let n = self.stream.by_ref().take(whole).read_to_end(&mut data)? as u64;
        self.at += n;
        if n < whole {
            return Err(TarError::Truncated("a header".to_owned()));
        }
        data.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(data)
    }

    fn finish_entry(&mut self) -> Result<(), TarError> {
        let n = self.left + self.padding;
        let skipped = self.stream.skip(n)?;
        self.at += skipped;
        // The padding of the very last entry may be missing.
        if skipped < self.left {
            return Err(TarError::Truncated(self.name.clone()));
        }
        self.left = 0;
        self.padding = 0;
        self.pieces.clear();
        Ok(())
    }

    fn block(&mut self) -> Result<Option<Block>, TarError> {
        let mut bytes = [0; 512];
        let mut filled = 0;
        while filled < 512 {
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.at += filled as u64;
        match filled {
            0 => Ok(None),
            512 => Ok(Some(Block::new(bytes))),
            _ => Err(TarError::Truncated("a header".to_owned())),
        }
    }
}

fn too_many_pieces(n: usize, name: &str) -> Result<(), TarError> {
    if n > limits::SPARSE_PIECES {
        return Err(TarError::Limit(format!(
            "sparse file {name} has more than {} pieces",
            limits::SPARSE_PIECES
        )));
    }
    Ok(())
}

/// In order, apart, inside the file, and as many bytes as there are.
fn check_pieces(pieces: &[Piece], size: u64, stored: u64) -> Result<(), String> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for piece in pieces {
        if piece.offset < end {
            return Err("its pieces overlap".to_owned());
        }
        end = piece.offset.checked_add(piece.len).ok_or("a piece has no end")?;
        // No overflow: the pieces are apart, so the sum is at most `end`.
        sum += piece.len;
    }
    if end > size {
        return Err(format!("a piece ends at {end}, the file at {size}"));
    }
    if sum != stored {
        return Err(format!("its pieces have {sum} bytes, the archive {stored}"));
    }
    Ok(())
}

/// For fuzzing: reads everything that `bytes` holds.
pub fn fuzz(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let mut buffer = [0; 4096];
    while let Ok(Some(entry)) = reader.entry() {
        let _ = crate::path::Parts::parse(&entry.path);
        let mut end = 0;
        while let Ok(Some((offset, n))) = reader.data(&mut buffer) {
            assert!(offset >= end, "data goes backwards");
            end = offset + n as u64;
            assert!(end <= entry.size, "data beyond the file's size");
        }
    }
}

#[cfg(test)]
mod tests;
