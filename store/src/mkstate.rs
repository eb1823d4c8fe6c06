//! `berth worker mkstate`: writes the image's empty file system to the state partition. Run once, by PID 1's state
//! step, on a partition that was never formatted ([`berth_units::blank`]), in a container that holds nothing else.
//!
//! 1. Look again: is it blank?
//! 2. Write everything but the superblocks' first sectors; sync.
//! 3. Write these; sync.
//!
//! A power cut in 2 leaves it blank; in 3 it leaves one superblock or more over a file system that is whole otherwise.

use crate::limits;
use berth_units::blank::{self, SECTOR, SUPERBLOCKS};
use berth_units::paths;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

/// The partition, handed over by PID 1.
const DEVICE: &str = "/dev/fd/3";

/// The worker's life.
pub fn run() -> ExitCode {
    match make() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn make() -> Result<(), String> {
    let mut partition = OpenOptions::new()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map_err(|error| format!("{DEVICE} not opened: {error}"))?;
    let read = |error| format!("{DEVICE} not read: {error}");
    let bytes = partition.seek(SeekFrom::End(0)).map_err(read)?;
    if !blank::is_blank(&partition, bytes).map_err(read)? {
        return Err("the partition is not blank; nothing was written".into());
    }
    let packed =
        File::open(paths::EMPTY_STATE).map_err(|error| format!("{}: {error}", paths::EMPTY_STATE))?;
    let image = ruzstd::decoding::StreamingDecoder::new(packed)
        .map_err(|error| format!("{}: {error}", paths::EMPTY_STATE))?;
    write(image, &mut partition)
}

/// A disk, as far as it matters here.
trait Disk {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    fn zero(&mut self, at: u64, bytes: u64) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for File {
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    /// By the disk itself where it can.
    fn zero(&mut self, at: u64, bytes: u64) -> io::Result<()> {
        let number = |n: u64| i64::try_from(n).map_err(io::Error::other);
        let how = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        Ok(fallocate(&*self, how, number(at)?, number(bytes)?)?)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

fn write(mut image: impl Read, disk: &mut impl Disk) -> Result<(), String> {
    let failed = |error: io::Error| format!("the partition was not written: {error}");
    let mut superblocks = Vec::new();
    let mut part = vec![0; limits::MKSTATE_PART_BYTES];
    let (mut at, mut zeros) = (0, 0);
    loop {
        let count =
            fill(&mut image, &mut part).map_err(|error| format!("{}: {error}", paths::EMPTY_STATE))?;
        let bytes = &mut part[..count];
        for place in SUPERBLOCKS {
            let sector = place.checked_sub(at).and_then(|from| usize::try_from(from).ok());
            if let Some(sector) = sector.and_then(|from| bytes.get_mut(from..from + SECTOR)) {
                superblocks.push((place, sector.to_vec()));
                sector.fill(0);
            }
        }
        let is_zero = bytes.iter().all(|&byte| byte == 0);
        if zeros > 0 && (count == 0 || !is_zero) {
            disk.zero(at - zeros, zeros).map_err(failed)?;
            zeros = 0;
        }
        if count == 0 {
            break;
        }
        if is_zero {
            zeros += count as u64;
        } else {
            disk.write(at, bytes).map_err(failed)?;
        }
        at += count as u64;
    }
    disk.sync().map_err(failed)?;
    for (place, sector) in &superblocks {
        disk.write(*place, sector).map_err(failed)?;
    }
    disk.sync().map_err(failed)
}

/// As much as there is, up to the buffer's length.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Remembers what it was told, and what was on it at each sync.
    #[derive(Default)]
    struct Memory {
        content: Vec<u8>,
        synced: Vec<Vec<u8>>,
    }

    impl Disk for Memory {
        fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            let place = self.content.get_mut(at..at + bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            place.copy_from_slice(bytes);
            Ok(())
        }

        fn zero(&mut self, at: u64, bytes: u64) -> io::Result<()> {
            self.write(at, &vec![0; usize::try_from(bytes).unwrap()])
        }

        fn sync(&mut self) -> io::Result<()> {
            self.synced.push(self.content.clone());
            Ok(())
        }
    }

    fn image() -> Vec<u8> {
        let mut image = vec![0; (1 << 27) + 300_000];
        for (at, byte) in [(1024 + 0x38, 0x53), (1 << 27, 7), (200_000, 1), (5_000_000, 2)] {
            image[at] = byte;
        }
        image
    }

    #[test]
    fn superblocks_come_last_and_rubbish_goes() {
        let image = image();
        let mut disk = Memory { content: vec![0; image.len() + 5000], ..Memory::default() };
        disk.content[700_000..4_000_000].fill(0xaa);
        write(&image[..], &mut disk).unwrap();
        assert!(disk.content[..image.len()] == image);

        let [first, second] = &disk.synced[..] else { panic!("{} syncs", disk.synced.len()) };
        assert!(second == &disk.content);
        let different: Vec<usize> = (0..first.len()).filter(|&at| first[at] != second[at]).collect();
        assert_eq!(different, [1024 + 0x38, 1 << 27]);
    }

    #[test]
    fn a_partition_that_is_too_small_stays_blank() {
        let image = image();
        let mut disk = Memory { content: vec![0; image.len() - 1], ..Memory::default() };
        write(&image[..], &mut disk).unwrap_err();
        assert!(disk.synced.is_empty() && disk.content[1024..2048].iter().all(|&byte| byte == 0));
    }
}
