//! zstd (RFC 8878), frame after frame: a compressed layer may have many, and pieces in between that hold no content
//! (estargz-like tables of contents).
//!
//! Frames are told apart here, since the decoder knows one only; how much memory one may ask for is decided here too,
//! for the decoder believes the first.

use crate::limits;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, Read};

/// The first bytes of a frame.
pub const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes decoded at a time.
const STEP: usize = 64 * 1024;

/// What the frames of `source` hold.
pub struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    inside: bool,
    window: u64,
}

impl<R: BufRead> Frames<R> {
    /// Reads `source` from here to its end; a frame may ask for a window of so many bytes.
    pub fn new(source: R, window: u64) -> Self {
        Self { source, decoder: FrameDecoder::new(), inside: false, window }
    }

    /// Goes into the next frame; false at the end.
    fn enter(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            let mut header = Vec::with_capacity(18);
            self.take(&mut header, 4)?;
            if let [0x50..=0x5f, 0x2a, 0x4d, 0x18] = header[..] {
                let mut length = [0; 4];
                self.source.read_exact(&mut length)?;
                let length = u64::from(u32::from_le_bytes(length));
                if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            if header != MAGIC {
                return Err(io::Error::other("something else follows its zstd frames"));
            }
            self.take(&mut header, 1)?;
            let descriptor = header[4];
            let single = descriptor & 0x20 != 0;
            let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
            let size = match descriptor >> 6 {
                0 => usize::from(single),
                n => 1 << n,
            };
            self.take(&mut header, usize::from(!single) + dictionary + size)?;
            let window = if single {
                let mut bytes = [0; 8];
                bytes[..size].copy_from_slice(&header[5 + dictionary..]);
                u64::from_le_bytes(bytes) + if size == 2 { 256 } else { 0 }
            } else {
                let (base, eighths) = (1_u64 << (10 + (header[5] >> 3)), u64::from(header[5] & 7));
                base + base / 8 * eighths
            };
            if window > self.window {
                return Err(io::Error::other(format!(
                    "its zstd looks back over {} MiB, {} is the most; compress it with a lower level",
                    window.div_ceil(1 << 20),
                    self.window >> 20
                )));
            }
            self.decoder.init(&header[..]).map_err(io::Error::other)?;
            return Ok(true);
        }
    }

    fn take(&mut self, header: &mut Vec<u8>, more: usize) -> io::Result<()> {
        let from = header.len();
        header.resize(from + more, 0);
        self.source.read_exact(&mut header[from..])
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.inside {
                self.inside = self.enter()?;
                if !self.inside {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(STEP))
                    .map_err(io::Error::other)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.inside = false;
        }
    }
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let _ = io::copy(&mut Frames::new(bytes, limits::ZSTD_WINDOW_BYTES).take(16 << 20), &mut io::sink());
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        // As small a buffer as there is: headers lie across its edges.
        let source = io::BufReader::with_capacity(3, bytes);
        Frames::new(source, limits::ZSTD_WINDOW_BYTES)
            .read_to_end(&mut out)
            .map(|_| out)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn frames_are_read_one_after_the_other() {
        let frame = |text: &[u8]| compress_to_vec(text, CompressionLevel::Fastest);
        let long = b"berth ".repeat(100_000);
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"toc"].concat();
        let all = [&skipped[..], &frame(b"one "), &frame(b""), &skipped, &frame(&long), &skipped].concat();
        assert_eq!(read(&all).unwrap(), [b"one ", &long[..]].concat());
        assert_eq!(read(b"").unwrap(), b"");
        for cut in [2, 6, 10, 13, all.len() - 1] {
            read(&all[..cut]).unwrap_err();
        }
        let error = read(&[&frame(b"one")[..], b"rubbish"].concat()).unwrap_err();
        assert_eq!(error, "something else follows its zstd frames");
    }

    #[test]
    fn memory_is_bounded_before_it_is_taken() {
        for (header, mib) in [
            (vec![0x00, 0xff], "3932160"),
            (vec![0x00, 17 << 3], "128"),
            (vec![0x00, 14 << 3 | 1], "18"),
            ([&[0xe0_u8][..], &[0, 0, 0, 0, 1, 0, 0, 0]].concat(), "4096"),
        ] {
            let error = read(&[&MAGIC[..], &header].concat()).unwrap_err();
            assert!(
                error.starts_with(&format!("its zstd looks back over {mib} MiB, 16 is the most")),
                "{error}"
            );
        }
    }
}
