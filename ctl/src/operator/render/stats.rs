//! `berth stats`.

use super::human;
use super::style::{Style, Tone};
use super::table::{Column, Table, cell, plain};
use berth_api::stats::{Stats, Unit, Usage};
use berth_units::model::Origin;
use std::collections::BTreeMap;
use std::time::Duration;

/// As Docker has them.
const COLUMNS: [Column; 7] = [
    Column { head: "NAME", right: false, expendable: 0 },
    Column { head: "CPU %", right: true, expendable: 0 },
    Column { head: "MEM USAGE / LIMIT", right: false, expendable: 0 },
    Column { head: "MEM %", right: true, expendable: 1 },
    Column { head: "NET I/O", right: false, expendable: 2 },
    Column { head: "BLOCK I/O", right: false, expendable: 3 },
    Column { head: "PIDS", right: true, expendable: 4 },
];

/// Processor time of each unit, microseconds.
pub type CpuTimes = BTreeMap<String, u64>;

/// Processor time of each unit so far.
pub fn cpu_times(stats: &Stats) -> CpuTimes {
    let cpu = |unit: &Unit| Some((unit.name.clone(), unit.usage.as_ref()?.cpu_us()?));
    stats.units.iter().filter_map(cpu).collect()
}

/// The table; processor time is what was used since `before`, so long ago.
pub fn stats(stats: &Stats, before: &CpuTimes, since: Duration, style: Style) -> String {
    let mut table = Table::new(&COLUMNS);
    let now = cpu_times(stats);
    for unit in &stats.units {
        let tone = if unit.origin == Origin::System { Tone::Dim } else { Tone::Plain };
        let usage = unit.usage.clone().unwrap_or_default();
        let cpu = now.get(&unit.name).zip(before.get(&unit.name));
        // Less than before: it was started anew.
        let cpu = cpu.and_then(|(now, before)| now.checked_sub(*before)).map(|us| percent(us, micros(since)));
        let limit = usage.memory_limit.into_iter().chain(stats.machine.memory).min();
        let share = usage.memory_in_use().zip(limit).map(|(now, limit)| percent(now, limit));
        let net = unit.network.map(|t| (t.received_bytes, t.sent_bytes));
        let disk = usage.io.map(|io| (io.read_bytes, io.written_bytes));
        table.row(vec![
            cell(&unit.name, tone),
            plain(dash(cpu)),
            plain(memory(&usage, limit)),
            plain(dash(share)),
            plain(pair(net)),
            plain(pair(disk)),
            plain(dash(usage.pids.map(|count| count.to_string()))),
        ]);
    }
    table.render(style)
}

fn dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

fn memory(usage: &Usage, limit: Option<u64>) -> String {
    pair(usage.memory_in_use().zip(limit))
}

fn pair(both: Option<(u64, u64)>) -> String {
    dash(both.map(|(one, other)| format!("{} / {}", human::bytes(one), human::bytes(other))))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// With two digits behind the point.
fn percent(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert_eq!(percent(1, 4), "25.00%");
        assert_eq!(percent(3_000_000, 1_000_000), "300.00%");
        assert_eq!(percent(1, 0), "100.00%");
    }
}
