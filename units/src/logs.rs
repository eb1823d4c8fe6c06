//! A unit's output, kept line by line with time and stream, bounded.
//!
//! A line is `<unix seconds>.<9 digits> <o|e> <text>\n`. Lines go into a segment of at most
//! [`crate::limits::LOG_SEGMENT_BYTES`]; a full one becomes the older of two, whose predecessor is dropped. Readers
//! hold descriptors, so what they opened stays readable; the generation tells them that there is a newer segment.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Which pipe a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// `o`.
    Stdout,
    /// `e`.
    Stderr,
}

/// One line, as [`parse_line`] reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Since 1970.
    pub time: Duration,
    /// Where it came from.
    pub stream: Stream,
    /// Without the newline; whatever the program wrote, not necessarily UTF-8.
    pub text: &'a [u8],
}

/// Writes one unit's log.
#[derive(Debug)]
pub struct LogWriter {
    generation: u64,
}

impl LogWriter {
    /// Opens the log in `dir` (made if missing), going on where an earlier one stopped.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let _ = dir;
        Ok(Self { generation: 0 })
    }

    /// Takes what was read from a pipe at `now` (since 1970). Never fails: what cannot be written is counted.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8], now: Duration) {
        let _ = (stream, bytes, now);
    }

    /// Writes what is there of an unfinished line (the pipe was closed).
    pub fn flush(&mut self, now: Duration) {
        let _ = now;
    }

    /// Counts rotations.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Read-only descriptors of what is kept, oldest first.
    pub fn open_segments(&self) -> io::Result<Vec<File>> {
        Ok(Vec::new())
    }
}

/// Reads one line as it lies in a segment, with or without its newline.
pub fn parse_line(line: &[u8]) -> Option<Line<'_>> {
    let _ = line;
    None
}
