//! Sizes and times as people read them.

use berth_units::calendar::Utc;

/// `812 B`, `12.3 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scale = 1024u128;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if u128::from(bytes) < scale * 1024 {
            break;
        }
        scale *= 1024;
        unit = next;
    }
    // Tenths, rounded to the nearest; whole numbers from 100 on.
    let tenths = (u128::from(bytes) * 10 + scale / 2) / scale;
    if tenths < 1000 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", tenths / 10)
    }
}

/// `45 s`, `3 min`, `2 h 5 min`, `3 d 4 h`.
pub fn seconds(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// Seconds since 1970 as `2026-11-29 21:05:33 UTC`.
pub fn utc(seconds: u64) -> String {
    let utc = Utc::of(seconds);
    format!("{} {} UTC", utc.date(), utc.time())
}

fn two(big: u64, big_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{big} {big_unit}") } else { format!("{big} {big_unit} {small} {small_unit}") }
}

/// `0.4 ms`, `83 ms`, `2.31 s`.
pub fn micros(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        10_000..1_000_000 => format!("{} ms", micros / 1000),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (12_897_484, "12.3 MiB"),
            (128 << 20, "128 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(n), text, "{n}");
        }
    }

    #[test]
    fn dates() {
        for (n, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_507_200, "2026-11-24 08:00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(n), text);
        }
    }

    #[test]
    fn times() {
        for (n, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3600, "1 h"),
            (7500, "2 h 5 min"),
            (270_000, "3 d 3 h"),
        ] {
            assert_eq!(seconds(n), text);
        }
        for (n, text) in [(0, "0.0 ms"), (432, "0.4 ms"), (83_999, "83 ms"), (2_318_000, "2.31 s")] {
            assert_eq!(micros(n), text);
        }
    }
}
