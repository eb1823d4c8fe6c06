//! Updates of the system, as the machine config has them.

use std::time::Duration;

/// `[update]` of the machine config. What is `None` is as the image has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateSettings {
    /// `address`: the repository's.
    pub address: Option<String>,
    /// `root`: the text of the trusted root.json.
    pub root: Option<String>,
    /// `ca`: certificates in PEM that are trusted for the address beside the public ones.
    pub ca: Option<String>,
    /// `channel`.
    pub channel: String,
    /// `automatic`: updates are taken, with a reboot, without being asked for.
    pub automatic: bool,
    /// `window`: when.
    pub window: Window,
    /// `settle`: how long all has to be well before an update stays.
    pub settle: Duration,
}

impl Default for UpdateSettings {
    fn default() -> Self {
        Self {
            address: None,
            root: None,
            ca: None,
            channel: "stable".into(),
            automatic: false,
            window: Window::default(),
            settle: Duration::from_secs(120),
        }
    }
}

/// Times of a day, minutes since midnight, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From this minute on.
    pub from: u16,
    /// Until this one, which is not in it; before `from`: of the next day. At most 1,440.
    pub until: u16,
}

impl Default for Window {
    /// The whole day.
    fn default() -> Self {
        Self { from: 0, until: 24 * 60 }
    }
}

impl Window {
    /// Reads `"02:00-04:30"`.
    pub fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let number = |text: &str| {
                (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
                    .then(|| text.parse::<u16>().ok())?
            };
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            (minutes < 60 && hours * 60 + minutes <= 24 * 60).then_some(hours * 60 + minutes)
        };
        let (from, until) = text.split_once('-')?;
        let window = Self { from: minute(from)?, until: minute(until)? };
        (window.from != window.until && window.from < 24 * 60).then_some(window)
    }

    /// Whether this time, seconds since 1970, is in it.
    pub fn holds(&self, seconds: u64) -> bool {
        let minute = u16::try_from(seconds / 60 % (24 * 60)).unwrap_or_default();
        if self.from < self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, until) = (self.from, self.until);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_go_over_midnight() {
        let at = |hours: u64, minutes: u64| 86_400 * 20_000 + hours * 3600 + minutes * 60 + 59;
        let night = Window::parse("23:30-01:00").unwrap();
        for (hours, minutes, holds) in [(23, 29, false), (23, 30, true), (0, 59, true), (1, 0, false)] {
            assert_eq!(night.holds(at(hours, minutes)), holds, "{hours}:{minutes}");
        }
        let morning = Window::parse("02:00-04:30").unwrap();
        assert!(morning.holds(at(2, 0)) && morning.holds(at(4, 29)) && !morning.holds(at(4, 30)));
        assert_eq!(morning.to_string(), "02:00-04:30");
        assert!(Window::default().holds(at(23, 59)) && Window::default().holds(at(0, 0)));
        for bad in ["", "02:00", "2:00-04:00", "02:00-02:00", "24:00-01:00", "02:60-03:00", "00:00-24:01"] {
            assert_eq!(Window::parse(bad), None, "{bad}");
        }
    }
}
