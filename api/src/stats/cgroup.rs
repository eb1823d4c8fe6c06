//! One unit's cgroup (Documentation/admin-guide/cgroup-v2.rst).

use super::{Io, Usage, number, pressure, text};
use berth_units::figures::field;
use std::path::{Path, PathBuf};

/// Tells disks from what lies on top of them.
#[derive(Debug)]
pub struct Disks {
    block: PathBuf,
}

impl Disks {
    /// From sysfs.
    pub fn new(sys: &Path) -> Self {
        Self { block: sys.join("dev/block") }
    }

    /// What goes through the verified root's device is counted a second time on the disk below.
    fn is_stacked(&self, device: &str) -> bool {
        self.block.join(device).join("dm").exists()
    }
}

/// What it uses, if it exists.
pub fn usage(folder: &Path, disks: &Disks) -> Option<Usage> {
    if !folder.is_dir() {
        return None;
    }
    let cpu = text(&folder.join("cpu.stat")).unwrap_or_default();
    let memory = text(&folder.join("memory.stat")).unwrap_or_default();
    Some(Usage {
        cpu_user_us: field(&cpu, "user_usec"),
        cpu_system_us: field(&cpu, "system_usec"),
        cpu_throttled_us: field(&cpu, "throttled_usec"),
        memory: number(&folder.join("memory.current")),
        memory_inactive_file: field(&memory, "inactive_file"),
        memory_peak: number(&folder.join("memory.peak")),
        memory_limit: number(&folder.join("memory.max")),
        pids: number(&folder.join("pids.current")),
        pids_limit: number(&folder.join("pids.max")),
        io: text(&folder.join("io.stat")).map(|text| io(&text, disks)),
        pressure: pressure(folder, ".pressure"),
    })
}

/// A line a device: `254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io(text: &str, disks: &Disks) -> Io {
    let mut sum = Io::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next().is_none_or(|device| disks.is_stacked(device)) {
            continue;
        }
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let into = match name {
                "rbytes" => &mut sum.read_bytes,
                "wbytes" => &mut sum.written_bytes,
                "rios" => &mut sum.reads,
                "wios" => &mut sum.writes,
                _ => continue,
            };
            *into = into.saturating_add(value.parse().unwrap_or(0));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn as_the_kernel_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("sys/dev/block/253:0/dm")).unwrap();
        fs::create_dir_all(at("web")).unwrap();
        for (name, text) in [
            ("cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 0\nthrottled_usec 4\n"),
            ("memory.current", "8192\n"),
            ("memory.stat", "anon 4096\nfile 4096\ninactive_file 1024\n"),
            ("memory.peak", "9000\n"),
            ("memory.max", "max\n"),
            ("pids.current", "3\n"),
            ("pids.max", "64\n"),
            (
                "io.stat",
                "254:0 rbytes=4096 wbytes=512 rios=1 wios=2 dbytes=9 dios=9\n\
                 253:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n8:16 \n",
            ),
        ] {
            fs::write(at("web").join(name), text).unwrap();
        }
        let disks = Disks::new(&at("sys"));
        let usage = super::usage(&at("web"), &disks).unwrap();
        let io = Io { read_bytes: 4096, written_bytes: 512, reads: 1, writes: 2 };
        assert_eq!(usage.io, Some(io));
        assert_eq!((usage.cpu_us(), usage.cpu_throttled_us), (Some(30), Some(4)));
        assert_eq!((usage.memory, usage.memory_in_use(), usage.memory_limit), (Some(8192), Some(7168), None));
        assert_eq!((usage.memory_peak, usage.pids, usage.pids_limit), (Some(9000), Some(3), Some(64)));
        assert_eq!(super::usage(&at("db"), &disks), None);
    }
}
