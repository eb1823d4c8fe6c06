//! One log segment, read by position. It lies in memory (tmpfs), so that reading it blocks nobody.

use crate::limits;
use berth_units::limits::{LOG_LINE_BYTES, LOG_SEGMENT_BYTES};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Seconds, nanoseconds, stream and the blanks between them, in front of a line's text.
const LINE_HEAD_BYTES: usize = 64;

/// See the module.
pub struct Segment {
    file: File,
    position: u64,
    /// A line whose end has not been written yet.
    partial: Vec<u8>,
}

impl Segment {
    /// From its start.
    pub fn new(file: File) -> Self {
        Self { file, position: 0, partial: Vec::new() }
    }

    /// To be watched.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads at most [`limits::LOG_CHUNK_BYTES`] further and hands over each line that ends there, without its
    /// newline. `false` at the end of what is there; a segment that cannot be read has ended.
    pub fn read(&mut self, each: &mut dyn FnMut(&[u8])) -> bool {
        let mut chunk = vec![0; limits::LOG_CHUNK_BYTES];
        let got = self.file.read_at(&mut chunk, self.position).unwrap_or(0);
        if got == 0 {
            return false;
        }
        self.position += got as u64;
        for piece in chunk[..got].split_inclusive(|&b| b == b'\n') {
            self.partial.extend_from_slice(piece);
            let ended = self.partial.last() == Some(&b'\n');
            if ended {
                self.partial.pop();
            }
            // Lines are split by PID 1 before they get this long; the bound holds even if it does not.
            if ended || self.partial.len() > LOG_LINE_BYTES + LINE_HEAD_BYTES {
                each(&self.partial);
                self.partial.clear();
            }
        }
        true
    }

    /// What was read of a line without an end.
    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    /// The next line may not fit any more: a rotation is due or done.
    pub fn is_nearly_full(&self) -> bool {
        self.position + (LOG_LINE_BYTES + LINE_HEAD_BYTES) as u64 >= LOG_SEGMENT_BYTES
    }

    /// Complete lines in it, from its start.
    pub fn count_lines(&self) -> u64 {
        let mut chunk = vec![0; limits::LOG_CHUNK_BYTES];
        let (mut position, mut lines) = (0, 0);
        while let Ok(got @ 1..) = self.file.read_at(&mut chunk, position) {
            position += got as u64;
            lines += chunk[..got].iter().filter(|&&b| b == b'\n').count() as u64;
        }
        lines
    }
}
