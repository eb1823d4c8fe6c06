//! Seconds since 1970 as a date and a time of day, in UTC and the proleptic Gregorian calendar.

use std::fmt;

const DAY: u64 = 86_400;
/// Days from the first day of an era, 0000-03-01, to 1970-01-01.
const SHIFT: u64 = 719_468;
/// Days of an era: 400 years.
const ERA: u64 = 146_097;

/// A point in time. `Display` is RFC 3339 to the second, `2026-11-24T08:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    /// From 1970 on.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
    /// 0 to 23.
    pub hour: u64,
    /// 0 to 59.
    pub minute: u64,
    /// 0 to 59; leap seconds are not counted.
    pub second: u64,
}

impl Utc {
    /// Of so many seconds since 1970. Years are counted in eras that begin on 1 March, so that the leap day is the last of its
    /// year (Howard Hinnant's `civil_from_days`).
    pub fn of(seconds: u64) -> Self {
        let (days, rest) = (seconds / DAY, seconds % DAY);
        let shifted = days + SHIFT;
        let (era, of_era) = (shifted / ERA, shifted % ERA);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// `2026-11-24`.
    pub fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `08:00:00`.
    pub fn time(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T{}Z", self.date(), self.time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_210_096, "2024-02-29T12:34:56Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Utc::of(seconds).to_string(), shown);
        }
        // No number of seconds is too large.
        assert!(Utc::of(u64::MAX).year > 9999);
    }
}
