//! A FAT32 made and read by other code than what is tested, and releases small enough for a thousand cuts.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

pub mod fat;
pub mod release;

use berth_apply::cuts::Memory;

/// Reads all of a medium's beginning.
pub fn bytes(medium: &Memory, at: u64, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; length];
    medium.read(at, &mut buffer).unwrap();
    buffer
}
