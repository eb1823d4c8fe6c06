//! The log of QEMU's `blklogwrites`, in the format of the kernel's dm-log-writes
//! (Documentation/admin-guide/device-mapper/log-writes.rst): one sector of superblock; then for each request one sector that
//! says what it is, and the data that it wrote. All numbers are little-endian.
//!
//! A request is logged when it is done, so what a flush covers stands before it. A write that was under way together with a
//! flush may stand before it as well, though no disk owes it to the guest: that one case is judged more kindly than a
//! disk might act.

use anyhow::{Context, Result, bail, ensure};
use berth_apply::cuts::Event;
use std::io::Read;

/// Bytes of a sector of log and disk: what `log-sector-size` says.
const SECTOR: usize = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const DISCARD: u64 = 1 << 2;
/// Bytes of one request; the kernel's are 1.25 MiB at most, a discard can be more.
const REQUEST_BYTES: u64 = 64 << 20;
/// Bytes of all requests: they are held in memory.
const ALL_BYTES: u64 = 1 << 30;

/// How many requests the log has, as its superblock says; QEMU writes that at each flush. None of an empty log.
pub(super) fn count(log: &mut impl Read) -> Result<u64> {
    let mut sector = [0; SECTOR];
    log.read_exact(&mut sector).context("the log has no superblock")?;
    let [magic, version, count, sector_bytes] = numbers(&sector);
    ensure!(magic == MAGIC && version == VERSION, "this is no log of writes, version {VERSION}");
    ensure!(sector_bytes == SECTOR as u64, "the log's sectors have {sector_bytes} bytes and not {SECTOR}");
    ensure!(
        sector[32..].iter().all(|&byte| byte == 0),
        "there is more in the log's superblock than there should be"
    );
    Ok(count)
}

/// All requests to a disk of so many bytes, in order. A discard is a write of zeros: until the next flush it may have
/// happened, or not, or in part.
pub(super) fn read(log: &mut impl Read, disk_bytes: u64) -> Result<Vec<Event>> {
    let mut all = 0;
    (0..count(log)?)
        .map(|number| {
            let event = entry(log, disk_bytes).with_context(|| format!("entry {number} of the log"))?;
            if let Event::Write { bytes, .. } = &event {
                all += bytes.len() as u64;
                ensure!(all <= ALL_BYTES, "the log has more than {ALL_BYTES} bytes of writes");
            }
            Ok(event)
        })
        .collect()
}

fn entry(log: &mut impl Read, disk_bytes: u64) -> Result<Event> {
    let mut head = [0; SECTOR];
    log.read_exact(&mut head).context("it ends here")?;
    let [sector, sectors, flags, data_bytes] = numbers(&head);
    // Only marks carry data of their own, and QEMU sets none.
    ensure!(data_bytes == 0 && head[32..].iter().all(|&byte| byte == 0), "it is of no kind that QEMU writes");
    let size = sectors.checked_mul(SECTOR as u64);
    match (flags, size) {
        (FLUSH, Some(0)) => Ok(Event::Flush { medium: 0 }),
        (0 | DISCARD, Some(size @ 1..=REQUEST_BYTES)) => {
            let at = sector
                .checked_mul(SECTOR as u64)
                .filter(|at| at.checked_add(size).is_some_and(|end| end <= disk_bytes));
            let at = at.with_context(|| {
                format!("sector {sector} and {sectors} of them are beyond the disk's end")
            })?;
            let mut bytes = vec![0; usize::try_from(size)?];
            if flags == 0 {
                log.read_exact(&mut bytes).context("it ends in the middle of what was written")?;
            }
            Ok(Event::Write { medium: 0, at, bytes })
        }
        _ => bail!("flags {flags:#x} with {sectors} sectors are nothing that QEMU writes"),
    }
}

/// The four numbers at the start of superblock and entries. The superblock's last has 32 bits, with zeros behind it.
fn numbers(sector: &[u8; SECTOR]) -> [u64; 4] {
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(sector.chunks_exact(8)) {
        *number = bytes.iter().rev().fold(0, |sum, &byte| (sum << 8) | u64::from(byte));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(numbers: [u64; 4]) -> Vec<u8> {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        bytes.resize(SECTOR, 0);
        bytes
    }

    fn log(entries: &[[u64; 4]]) -> Vec<u8> {
        let mut log = sector([MAGIC, VERSION, entries.len() as u64, SECTOR as u64]);
        for (number, entry) in entries.iter().enumerate() {
            log.extend(sector(*entry));
            if entry[2] == 0 {
                let byte = u8::try_from(number + 1).unwrap();
                log.extend([byte; SECTOR].repeat(usize::try_from(entry[1]).unwrap()));
            }
        }
        log
    }

    #[test]
    fn requests_come_in_order() {
        let log = log(&[[3, 2, 0, 0], [0, 0, FLUSH, 0], [7, 1, DISCARD, 0], [0, 1, 0, 0]]);
        let events = read(&mut &log[..], 8 * 512).unwrap();
        let [
            Event::Write { at: 1536, bytes: two, .. },
            Event::Flush { medium: 0 },
            Event::Write { at: 3584, bytes: none, .. },
            Event::Write { at: 0, bytes: last, .. },
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!((two, none, last), (&vec![1; 1024], &vec![0; 512], &vec![4; 512]));
        assert_eq!(count(&mut &log[..]).unwrap(), 4);
    }

    #[test]
    fn what_qemu_does_not_write_is_refused() {
        let refused = |log: &[u8]| format!("{:#}", read(&mut &log[..], 8 * 512).unwrap_err());
        assert!(refused(b"").contains("no superblock"));
        assert!(refused(&[0; SECTOR]).contains("no log of writes"));
        assert!(refused(&sector([MAGIC, 2, 0, 512])).contains("no log of writes"));
        assert!(refused(&sector([MAGIC, VERSION, 0, 4096])).contains("4096 bytes"));
        assert!(refused(&log(&[[7, 2, 0, 0]])).contains("beyond the disk's end"));
        assert!(refused(&log(&[[u64::MAX, 1, 0, 0]])).contains("beyond the disk's end"));
        assert!(refused(&log(&[[0, u64::MAX, DISCARD, 0]])).contains("nothing that QEMU writes"));
        // FUA, a mark, an empty write, a flush with data, a mark's length.
        for entry in [[0, 1, 2, 0], [0, 0, 8, 0], [0, 0, 0, 0], [0, 1, FLUSH, 0]] {
            assert!(refused(&log(&[entry])).contains("entry 0 of the log: flags"), "{entry:?}");
        }
        assert!(refused(&log(&[[0, 0, FLUSH, 9]])).contains("no kind"));
        let whole = log(&[[0, 0, FLUSH, 0], [0, 2, 0, 0]]);
        assert!(refused(&whole[..whole.len() - 1]).contains("entry 1 of the log: it ends in the middle"));
        let mut more = whole;
        more[600] = 1;
        assert!(refused(&more).contains("entry 0"));
    }
}
