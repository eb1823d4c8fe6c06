//! The machine as a whole (proc(5)).

use super::{Machine, Sources, Space, pressure, text};
use berth_units::figures;
use std::collections::BTreeMap;

/// `/proc/stat` counts in hundredths of a second, on every architecture (`USER_HZ`).
const TICK_US: u64 = 10_000;
/// The first fields of its first line.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// All but the interfaces.
pub fn read(sources: &Sources) -> Machine {
    let file = |name: &str| text(&sources.proc.join(name)).unwrap_or_default();
    let (stat, memory) = (file("stat"), file("meminfo"));
    let bytes = |name: &str| figures::kib(&memory, name)?.checked_mul(1024);
    let cpus = stat.lines().filter(|line| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    Machine {
        uptime_s: file("uptime").split('.').next().and_then(|seconds| seconds.parse().ok()),
        boot_time_s: figures::field(&stat, "btime"),
        cpus: u64::try_from(cpus.count()).ok().filter(|count| *count > 0),
        cpu_us: cpu(&stat),
        load_milli: load(&file("loadavg")),
        memory: bytes("MemTotal"),
        memory_available: bytes("MemAvailable"),
        state: space(&sources.state),
        pressure: pressure(&sources.proc.join("pressure"), ""),
        interfaces: BTreeMap::new(),
    }
}

fn cpu(stat: &str) -> BTreeMap<String, u64> {
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks = all.split_ascii_whitespace().map_while(|word| word.parse::<u64>().ok());
    MODES.iter().zip(ticks).map(|(mode, ticks)| ((*mode).to_owned(), ticks.saturating_mul(TICK_US))).collect()
}

/// `0.20 0.18 0.12 1/80 11206`.
fn load(text: &str) -> Option<[u64; 3]> {
    let mut words = text.split_ascii_whitespace();
    let mut next = || {
        let (whole, part) = words.next()?.split_once('.')?;
        let part: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
        whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
    };
    Some([next()?, next()?, next()?])
}

fn space(folder: &std::path::Path) -> Option<Space> {
    let told = nix::sys::statvfs::statvfs(folder).ok()?;
    let block = told.fragment_size();
    let bytes = |blocks: u64| blocks.saturating_mul(block);
    Some(Space { size: bytes(told.blocks()), available: bytes(told.blocks_available()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_and_load() {
        let stat = "cpu  100 0 50 1000 1 2 3 0 0 0\ncpu0 50 0 25 500\ncpu1 50 0 25 500\nbtime 1700000000\n";
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("stat"), stat).unwrap();
        std::fs::write(folder.path().join("meminfo"), "MemTotal:  128 kB\nMemAvailable:   64 kB\n").unwrap();
        std::fs::write(folder.path().join("uptime"), "12.34 20.00\n").unwrap();
        let at = || folder.path().to_owned();
        let machine = read(&Sources { cgroups: at(), proc: at(), sys: at(), state: at() });
        assert_eq!((machine.cpus, machine.boot_time_s), (Some(2), Some(1_700_000_000)));
        assert_eq!(machine.uptime_s, Some(12));
        assert_eq!(machine.cpu_us["user"], 1_000_000);
        assert_eq!(machine.cpu_us["steal"], 0);
        assert_eq!((machine.memory, machine.memory_available), (Some(128 << 10), Some(64 << 10)));
        assert_eq!(load("0.20 12.08 0.00 1/80 11206\n"), Some([200, 12_080, 0]));
        assert_eq!(load("nonsense"), None);
    }
}
