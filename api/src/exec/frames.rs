//! What goes over the wire while a command runs: frames, in both directions.
//!
//! A frame is its kind, three zero bytes, the length of its body as a big-endian `u32`, and the body: Docker's format of attached
//! streams, in which 1 and 2 mean the same.
//!
//! | kind | to the machine | from the machine |
//! |---|---|---|
//! | 0 | first: what is to run, JSON | |
//! | 1 | standard input; without a body its end | standard output, or the terminal |
//! | 2 | the terminal's size, JSON | standard error |
//! | 3 | | last: what became of it, JSON |

use serde::{Deserialize, Serialize};

/// Bytes of a frame's head.
const HEAD: usize = 8;
/// Bytes of one frame's body.
pub const FRAME_BYTES: usize = 32 * 1024;

/// To the machine: what is to run.
pub const BEGIN: u8 = 0;
/// To the machine: standard input.
pub const INPUT: u8 = 1;
/// To the machine: the terminal's size.
pub const SIZE: u8 = 2;
/// From the machine: standard output.
pub const OUTPUT: u8 = 1;
/// From the machine: standard error.
pub const ERRORS: u8 = 2;
/// From the machine: a [`berth_units::control::ExecEvent`], the last frame.
pub const END: u8 = 3;

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in each.
    pub columns: u16,
}

/// A frame as bytes; of a longer body only the first [`FRAME_BYTES`] are taken.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(FRAME_BYTES)];
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend([kind, 0, 0, 0]);
    bytes.extend(u32::try_from(body.len()).unwrap_or_default().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    /// More of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there. An error is a stream that has none of them.
    pub fn next_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, String> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let [kind, _, _, _, a, b, c, d] = *head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > FRAME_BYTES || head[1..4] != [0; 3] {
            return Err(format!("a frame of {length} bytes; at most {FRAME_BYTES} are taken"));
        }
        if self.buffer.len() < HEAD + length {
            return Ok(None);
        }
        let body = self.buffer[HEAD..HEAD + length].to_vec();
        self.buffer.drain(..HEAD + length);
        Ok(Some((kind, body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let bytes =
            [frame(INPUT, b"hello"), frame(INPUT, b""), frame(END, &vec![7; FRAME_BYTES + 9])].concat();
        for part in [1, 3, 4096, bytes.len()] {
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for bytes in bytes.chunks(part) {
                frames.feed(bytes);
                while let Some(frame) = frames.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            let expected = vec![(INPUT, b"hello".to_vec()), (INPUT, Vec::new()), (END, vec![7; FRAME_BYTES])];
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut frames = Frames::default();
        frames.feed(&[1, 0, 0, 0, 255, 255, 255, 255]);
        assert!(frames.next_frame().unwrap_err().contains("4294967295 bytes"));
        let mut frames = Frames::default();
        frames.feed(b"{\"command\":[]}");
        assert!(frames.next_frame().is_err());
    }
}
