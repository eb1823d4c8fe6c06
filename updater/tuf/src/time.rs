//! Points in time, and what counts as now.

use std::fmt;

/// Seconds since 1970-01-01T00:00:00Z, at most the last second of the year 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(u64);

/// 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;
const DAY: u64 = 86_400;

impl Time {
    /// From seconds since 1970; later than the year 9999 is the end of it.
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.min(LAST))
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0
    }

    /// The system's clock; 1970 when it stands before.
    pub fn of_system() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self::from_seconds(since.as_secs())
    }

    /// Reads `2026-11-24T09:30:00Z`, the one form that TUF has; a fraction of a second, which some write, is cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.strip_suffix('Z')?.split_once('.') {
            Some((whole, fraction)) => (whole, fraction),
            None => (text.strip_suffix('Z')?, "0"),
        };
        if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let bytes = whole.as_bytes();
        let shape = b"0000-00-00T00:00:00";
        let fits =
            |(byte, like): (&u8, &u8)| if *like == b'0' { byte.is_ascii_digit() } else { byte == like };
        if bytes.len() != shape.len() || !bytes.iter().zip(shape).all(fits) {
            return None;
        }
        let number = |from: usize, to: usize| whole.get(from..to)?.parse::<u64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if year < 1970 || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        if !(1..=12).contains(&month) || day == 0 || day > days_of(year, month) {
            return None;
        }
        let days = days_before(year) + (1..month).map(|month| days_of(year, month)).sum::<u64>() + day - 1;
        Some(Self(days * DAY + hour * 3600 + minute * 60 + second))
    }
}

/// What counts as now: the machine's clock, but never before a time that is known to have passed.
///
/// A clock that runs behind would let an attacker show metadata that has expired (freeze attack). One that runs ahead
/// delays updates until it is right: the latest time is kept only when a refresh went well, so it is never later than
/// the end of metadata that was valid then, and the next signature lies beyond.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// What the clock says.
    pub now: Time,
    /// When this system was built.
    pub built: Time,
}

impl Clock {
    /// Now, given the latest time that was seen.
    pub fn after(&self, seen: Time) -> Time {
        self.now.max(self.built).max(seen)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut days, second) = (self.0 / DAY, self.0 % DAY);
        // A guess that is never too late, and early by at most twenty years.
        let mut year = 1970 + days / 366;
        while days_before(year + 1) <= days {
            year += 1;
        }
        days -= days_before(year);
        let mut month = 1;
        while days >= days_of(year, month) {
            days -= days_of(year, month);
            month += 1;
        }
        let (hour, minute) = (second / 3600, second % 3600 / 60);
        write!(out, "{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{:02}Z", days + 1, second % 60)
    }
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to the year's beginning.
fn days_before(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_that_are_known() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-29T20:36:22Z", 1_795_984_582),
            ("2026-11-29T20:36:22.123456Z", 1_795_984_582),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("9999-12-31T23:59:59Z", LAST),
        ] {
            assert_eq!(Time::parse(text), Some(Time(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            "",
            "Z",
            "2026-11-29",
            "2026-11-29T20:36:22",
            "2026-11-29T20:36:22+00:00",
            "2026-11-29 20:36:22Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-29T24:00:00Z",
            "2026-11-29T23:60:00Z",
            "2026-11-29T23:59:60Z",
            "1969-12-31T23:59:59Z",
            "2026-11-29T20:36:22.Z",
            "2026-11-29T20:36:22.1x3Z",
            "+026-11-29T20:36:22Z",
            "٢٠٢٦-11-29T20:36:22Z",
        ] {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(seconds in 0..=LAST) {
            prop_assert_eq!(Time::parse(&Time(seconds).to_string()), Some(Time(seconds)));
        }
    }
}
