//! The clock's floor: never earlier than the build of this OS, nor than the last time that this machine saw. A
//! machine without a battery clock then fails no certificate or signature check by years.

use super::{files, limits};
use crate::sys::early::set_clock;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// In `os-release`, seconds.
const BUILD_TIME: &str = "BERTH_BUILD_TIME";
/// A stored time may be this far ahead of the clock, seconds: ten years. Beyond, it was written by a broken clock.
const BELIEVABLE: u64 = 10 * 366 * 86_400;

/// Where the last seen time is kept.
pub fn path() -> PathBuf {
    Path::new(berth_units::paths::STATE).join("clock")
}

/// Raises the clock to its floor if it is below; says so.
pub fn raise(os_release: &str, stored: Option<&str>) -> Result<String, String> {
    let now = now();
    let floor = floor(now, build_time(os_release), stored.and_then(|text| text.trim().parse().ok()));
    if floor <= now {
        return Ok(String::new());
    }
    set_clock(i64::try_from(floor).map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    Ok(format!("raised by {} s", floor - now))
}

/// Keeps the time, as the floor of the next boot, and says what it kept: seconds since 1970. Blocks; for a child.
pub fn save() -> Result<String, String> {
    let (path, mut time) = (path(), 0);
    // Read when it is this child's turn: of two at it at once, the later one would else put back the time of before.
    let text = || {
        time = now();
        format!("{time}\n").into_bytes()
    };
    files::replace_with(&path, text, 0o644)
        .map(|()| time.to_string())
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// What [`save`] wrote.
pub fn stored() -> Option<String> {
    files::read(path(), limits::SMALL_FILE_BYTES).ok()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// When this system was built, seconds since 1970; 0 if it does not say.
pub fn build_time(os_release: &str) -> u64 {
    value(os_release, BUILD_TIME).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A value of `os-release`.
pub fn value<'a>(os_release: &'a str, name: &str) -> Option<&'a str> {
    let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.map(|value| value.trim_matches('"'))
}

fn floor(now: u64, built: u64, seen: Option<u64>) -> u64 {
    let base = now.max(built);
    seen.filter(|&seen| seen <= base.saturating_add(BELIEVABLE)).map_or(base, |seen| base.max(seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_believable_time_wins() {
        assert_eq!(floor(5, 10, None), 10);
        assert_eq!(floor(20, 10, Some(15)), 20);
        assert_eq!(floor(0, 10, Some(15)), 15);
        assert_eq!(floor(0, 10, Some(u64::MAX)), 10);
    }

    #[test]
    fn os_release_values_lose_their_quotes() {
        let text = "ID=berth\nPRETTY_NAME=\"Berth 1\"\nBERTH_BUILD_TIME=1700000000\n";
        assert_eq!(value(text, "PRETTY_NAME"), Some("Berth 1"));
        assert_eq!(build_time(text), 1_700_000_000);
    }
}
