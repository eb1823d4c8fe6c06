//! Which version this is, and of what time: all that an image says about its own making.

use std::process::Command;

use anyhow::{Context, Result};
use berth_units::calendar::Utc;

use crate::run;
use crate::workspace;

/// Version of the workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Says the time of the build, see reproducible-builds.org.
const EPOCH_ENV: &str = "SOURCE_DATE_EPOCH";
/// Used outside of a git checkout: 2025-01-01.
const FALLBACK: u64 = 1_735_689_600;

/// Seconds since 1970: `SOURCE_DATE_EPOCH`, else the time of the last commit, else a constant. Never the clock.
pub fn epoch() -> Result<u64> {
    if let Ok(text) = std::env::var(EPOCH_ENV) {
        return text.parse().with_context(|| format!("{EPOCH_ENV}={text:?} is not a number of seconds"));
    }
    let mut git = Command::new("git");
    git.arg("-C").arg(workspace::repo()).args(["log", "-1", "--format=%ct"]);
    let commit = run::output("asking git for the last commit's time", &mut git);
    let seconds = commit.ok().and_then(|text| String::from_utf8_lossy(&text).trim().parse().ok());
    Ok(seconds.unwrap_or(FALLBACK))
}

/// `2025-01-01T00:00:00Z`, as SPDX wants it.
pub fn rfc3339(epoch: u64) -> String {
    Utc::of(epoch).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(FALLBACK), "2025-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_210_096), "2024-02-29T12:34:56Z");
    }
}
