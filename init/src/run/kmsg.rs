//! The kernel's log, kept as a unit's is from the first time that somebody asks for it: `berth logs kernel`. Until then it
//! costs nothing; what the kernel itself has forgotten by then (a ring of 128 KiB or so) is gone.

use super::reactor::{Reactor, Source};
use berth_units::logs::{LogWriter, Stream};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// Where it is read (Documentation/ABI/testing/dev-kmsg).
const PATH: &str = "/dev/kmsg";
/// Bytes of one record, at most, as the device gives them (`PRINTK_MESSAGE_MAX`); a smaller buffer would lose the longest.
const RECORD_BYTES: usize = 8192;
/// Records taken in one pass.
pub const A_PASS: usize = 64;
/// Records taken for somebody who asks: more than the kernel's ring holds.
pub const ALL: usize = 16_384;
/// The most severe levels go to standard error: up to `KERN_ERR`.
const ERROR: u32 = 3;

/// Both clocks at once.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// Since 1970.
    pub wall: Duration,
    /// Since the kernel's start.
    pub kernel: Duration,
}

/// The kernel's log, opened.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// From the oldest record that the kernel has.
    pub fn open(reactor: &mut Reactor) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
            .open(PATH)?;
        // For as long as the machine is up: nothing ends it.
        reactor.watch(&file, Source::KernelLog)?;
        Ok(Self(file))
    }

    /// What has come since, at most so many records.
    pub fn take(&mut self, writer: &mut LogWriter, clocks: Clocks, records: usize) {
        take(&mut self.0, writer, clocks, records);
    }
}

fn take(from: &mut impl Read, writer: &mut LogWriter, clocks: Clocks, records: usize) {
    let mut record = [0; RECORD_BYTES];
    for _ in 0..records {
        match from.read(&mut record) {
            Ok(0) => return,
            Ok(count) => {
                let Some(said) = record.get(..count).and_then(parse) else { continue };
                let ago = clocks.kernel.saturating_sub(said.at);
                let stream = if said.level <= ERROR { Stream::Stderr } else { Stream::Stdout };
                let line = [said.text, b"\n"].concat();
                writer.feed(stream, &line, clocks.wall.saturating_sub(ago));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Newer records have taken the place of the next ones.
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {
                writer.feed(Stream::Stderr, b"[messages of the kernel were lost here]\n", clocks.wall);
            }
            Err(_) => return,
        }
    }
}

/// A record: `LEVEL,NUMBER,MICROSECONDS,FLAGS;TEXT`, then lines about the device, which begin with a space.
struct Said<'a> {
    level: u32,
    at: Duration,
    text: &'a [u8],
}

fn parse(record: &[u8]) -> Option<Said<'_>> {
    let end = record.iter().position(|byte| *byte == b'\n').unwrap_or(record.len());
    let record = record.get(..end)?;
    let at = record.iter().position(|byte| *byte == b';')?;
    let mut words = std::str::from_utf8(record.get(..at)?).ok()?.split(',');
    let priority: u32 = words.next()?.parse().ok()?;
    let microseconds = words.nth(1)?.parse().ok()?;
    Some(Said { level: priority & 7, at: Duration::from_micros(microseconds), text: record.get(at + 1..)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_units::logs::parse_line;
    use std::collections::VecDeque;

    /// A record a read, as the device has it.
    struct Device(VecDeque<Result<&'static str, i32>>);

    impl Read for Device {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.pop_front() {
                Some(Ok(record)) => {
                    buffer[..record.len()].copy_from_slice(record.as_bytes());
                    Ok(record.len())
                }
                Some(Err(error)) => Err(io::Error::from_raw_os_error(error)),
                None => Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    }

    #[test]
    fn records_become_lines_with_the_time_at_which_they_were_said() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(folder.path()).unwrap();
        let records = [
            Ok("6,1,1500000,-;virtio_net found\n SUBSYSTEM=virtio\n DEVICE=+virtio:1\n"),
            Ok("rubbish"),
            Ok(",;"),
            Err(nix::libc::EINTR),
            Err(nix::libc::EPIPE),
            Ok("3,9,2000000,-,more=1;I/O error; sector 7\n"),
        ];
        let clocks = Clocks { wall: Duration::from_secs(1000), kernel: Duration::from_secs(10) };
        let mut device = Device(records.into());
        take(&mut device, &mut writer, clocks, 4);
        take(&mut device, &mut writer, clocks, A_PASS);
        let text = std::fs::read(folder.path().join("current")).unwrap();
        let lines: Vec<_> = text.split_inclusive(|b| *b == b'\n').map(|l| parse_line(l).unwrap()).collect();
        let told: Vec<_> = lines.iter().map(|l| (l.time.as_millis(), l.stream, l.text)).collect();
        assert_eq!(
            told,
            [
                (991_500, Stream::Stdout, &b"virtio_net found"[..]),
                (1_000_000, Stream::Stderr, &b"[messages of the kernel were lost here]"[..]),
                (992_000, Stream::Stderr, &b"I/O error; sector 7"[..]),
            ]
        );
    }
}
