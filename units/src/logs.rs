//! A unit's output, kept line by line with time and stream, bounded.
//!
//! A line is `<unix seconds>.<9 digits> <o|e> <text>\n`. Lines go into a segment of at most
//! [`LOG_SEGMENT_BYTES`]; a full one becomes the older of two, whose predecessor is dropped. Readers hold descriptors,
//! so what they opened stays readable; the generation tells them that there is a newer segment.
//!
//! Writing never fails and never blocks (the folder is in memory): what could not be written is counted and said in
//! the log as soon as it takes writes again.

use crate::limits::{LOG_LINE_BYTES, LOG_SEGMENT_BYTES};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes before a line's text, at most: 20 digits, a point, 9 digits, stream and spaces.
const PREFIX_BYTES: usize = 20 + 1 + 9 + 3;
/// What is looked at for the newest lines.
const TAIL_BYTES: u64 = 4096;
const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";

/// Which pipe a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// `o`.
    Stdout,
    /// `e`.
    Stderr,
}

impl Stream {
    fn letter(self) -> char {
        match self {
            Self::Stdout => 'o',
            Self::Stderr => 'e',
        }
    }
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
    dir: PathBuf,
    current: File,
    /// Bytes in `current`.
    size: u64,
    generation: u64,
    /// The unfinished lines of stdout and stderr, each below [`LOG_LINE_BYTES`].
    partial: [Vec<u8>; 2],
    lost: u64,
}

impl LogWriter {
    /// Opens the log in `dir` (made if missing), going on where an earlier one stopped.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let current = append(&dir.join(CURRENT))?;
        let size = current.metadata()?.len();
        Ok(Self {
            dir: dir.to_owned(),
            current,
            size,
            generation: 0,
            partial: [Vec::new(), Vec::new()],
            lost: 0,
        })
    }

    /// Takes what was read from a pipe at `now` (since 1970).
    pub fn feed(&mut self, stream: Stream, bytes: &[u8], now: Duration) {
        let mut batch = Vec::new();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (piece, ended) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            let mut partial = std::mem::take(&mut self.partial[stream as usize]);
            let mut rest = piece;
            while partial.len() + rest.len() > LOG_LINE_BYTES {
                let (now_fits, later) = rest.split_at(LOG_LINE_BYTES - partial.len());
                partial.extend_from_slice(now_fits);
                self.line(&mut batch, stream, &partial, now);
                partial.clear();
                rest = later;
            }
            partial.extend_from_slice(rest);
            if ended {
                self.line(&mut batch, stream, &partial, now);
                partial.clear();
            }
            self.partial[stream as usize] = partial;
        }
        self.write(&batch);
    }

    /// Writes what is there of unfinished lines (the pipes were closed).
    pub fn flush(&mut self, now: Duration) {
        let mut batch = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let partial = std::mem::take(&mut self.partial[stream as usize]);
            if !partial.is_empty() {
                self.line(&mut batch, stream, &partial, now);
            }
        }
        self.write(&batch);
    }

    /// Counts rotations.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Read-only descriptors of what is kept, oldest first.
    pub fn open_segments(&self) -> io::Result<Vec<File>> {
        let mut segments = Vec::new();
        for name in [PREVIOUS, CURRENT] {
            match File::open(self.dir.join(name)) {
                Ok(file) => segments.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(segments)
    }

    /// The texts of the newest lines, oldest first, as far as they lie in the newest segment's last 4 KiB: each at most `bytes`
    /// long, without control characters.
    pub fn last_lines(&self, count: usize, bytes: usize) -> Vec<String> {
        let read = || {
            let file = File::open(self.dir.join(CURRENT))?;
            let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
            let mut tail = Vec::new();
            let mut file = file;
            file.seek(SeekFrom::Start(from))?;
            file.take(TAIL_BYTES).read_to_end(&mut tail)?;
            io::Result::Ok(tail)
        };
        let tail = read().unwrap_or_default();
        let clean = |line: Line<'_>| {
            let text = String::from_utf8_lossy(line.text).replace(char::is_control, " ");
            let end =
                text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= bytes).last();
            text.get(..end.unwrap_or(0)).unwrap_or_default().trim().to_owned()
        };
        // What the first line lacks at its beginning makes it no line.
        let lines: Vec<&[u8]> = tail.split_inclusive(|byte| *byte == b'\n').collect();
        let known: Vec<String> = lines.iter().filter_map(|line| parse_line(line)).map(clean).collect();
        known.get(known.len().saturating_sub(count)..).unwrap_or_default().to_vec()
    }

    /// Adds a line to the batch; a batch that would overflow the segment is written first.
    fn line(&mut self, batch: &mut Vec<u8>, stream: Stream, text: &[u8], now: Duration) {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            self.line(
                batch,
                Stream::Stderr,
                format!("[{lost} bytes of this log could not be kept]").as_bytes(),
                now,
            );
        }
        let bytes = (PREFIX_BYTES + text.len() + 1) as u64;
        if self.size + batch.len() as u64 + bytes > LOG_SEGMENT_BYTES {
            self.write(batch);
            batch.clear();
            self.rotate();
        }
        let (seconds, nanos) = (now.as_secs(), now.subsec_nanos());
        batch.extend_from_slice(format!("{seconds}.{nanos:09} {} ", stream.letter()).as_bytes());
        batch.extend_from_slice(text);
        batch.push(b'\n');
    }

    fn write(&mut self, batch: &[u8]) {
        if batch.is_empty() {
            return;
        }
        match self.current.write_all(batch) {
            Ok(()) => self.size += batch.len() as u64,
            Err(_) => {
                // Part of it may have been written; the segment keeps whole lines only.
                let _ = self.current.set_len(self.size);
                self.lost += batch.len() as u64;
            }
        }
    }

    /// If there is no way to a new segment the full one is emptied: bounded comes before complete.
    fn rotate(&mut self) {
        let (current, previous) = (self.dir.join(CURRENT), self.dir.join(PREVIOUS));
        match fs::rename(&current, &previous).and_then(|()| append(&current)) {
            Ok(file) => self.current = file,
            Err(_) => {
                self.lost += self.size;
                let _ = self.current.set_len(0);
            }
        }
        self.size = 0;
        self.generation += 1;
    }
}

fn append(path: &Path) -> io::Result<File> {
    // Its folder is closed to units; a follower with users of its own watches what it was handed, for which the kernel asks the
    // file's mode too.
    OpenOptions::new().create(true).append(true).mode(0o644).open(path)
}

/// Reads one line as it lies in a segment, with or without its newline.
pub fn parse_line(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let head = &line[..line.len().min(PREFIX_BYTES)];
    let space = head.iter().position(|b| *b == b' ')?;
    let (seconds, nanos) = std::str::from_utf8(&line[..space]).ok()?.split_once('.')?;
    if nanos.len() != 9 || !nanos.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (stream, text) = match line.get(space + 1..)? {
        [b'o', b' ', text @ ..] => (Stream::Stdout, text),
        [b'e', b' ', text @ ..] => (Stream::Stderr, text),
        _ => return None,
    };
    Some(Line { time: Duration::new(seconds.parse().ok()?, nanos.parse().ok()?), stream, text })
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
