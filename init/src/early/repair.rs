//! What a state partition that cannot be mounted as it is gets: e2fsck if it holds something, a first file system if
//! it holds nothing. Both run in a container that holds that partition and nothing else.

use super::console;
use super::contained::{self, Ended};
use berth_units::model::{Origin, Unit};
use berth_units::{paths, schema};
use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, Instant};

/// The unit; its command is replaced.
const UNIT: &str = include_str!("repair.toml");
/// The partition, inside.
const DEVICE: &str = "/dev/fd/3";
/// e2fsck(8): errors were there and all are corrected (1), and a mounted file system was changed (2), which this is
/// not. Any other bit means that something is left.
const MENDED: i32 = 1 | 2;

/// How long each may take.
pub fn limit() -> Duration {
    #[cfg(feature = "faults")]
    if let Some(limit) = super::faults::repair_limit() {
        return limit;
    }
    super::limits::REPAIR
}

/// Has e2fsck check and repair the file system: what is safe to repair without asking (`-p`), and when that is not
/// enough, everything (`-y`), from a copy of the superblock if need be. Says what was done.
pub fn check(device: &Path) -> Result<String, String> {
    let end = Instant::now() + limit();
    let mut careful = true;
    loop {
        let mode = if careful { "-p" } else { "-y" };
        let left = end.saturating_duration_since(Instant::now());
        let ended = run(&[paths::E2FSCK, "-f", mode, DEVICE], device, left)
            .map_err(|error| format!("e2fsck {mode}: {error}"))?;
        match verdict(&ended, careful) {
            Verdict::Sound(said) => return Ok(said.into()),
            Verdict::AskMore => careful = false,
            Verdict::Lost(reason) => return Err(reason),
        }
    }
}

/// Writes the image's empty file system.
pub fn make(device: &Path) -> Result<(), String> {
    let ended = run(&[paths::BERTH, "worker", "mkstate"], device, limit())?;
    if ended.status == Some(0) { Ok(()) } else { Err(words(&ended)) }
}

enum Verdict {
    /// It can be mounted now.
    Sound(&'static str),
    /// Once more, with leave to decide everything.
    AskMore,
    /// It cannot be repaired.
    Lost(String),
}

fn verdict(ended: &Ended, careful: bool) -> Verdict {
    match ended.status {
        Some(0) => Verdict::Sound("e2fsck found nothing wrong"),
        Some(status) if status & !MENDED == 0 && careful => Verdict::Sound("repaired by e2fsck"),
        Some(status) if status & !MENDED == 0 => {
            Verdict::Sound("repaired by e2fsck; files that lost their name are in lost+found")
        }
        Some(_) if careful => Verdict::AskMore,
        _ => Verdict::Lost(format!("e2fsck could not repair it: {}", words(ended))),
    }
}

/// How it ended, and its first line that is not e2fsck's own name.
fn words(ended: &Ended) -> String {
    let how = ended.status.map_or("killed".into(), |status| format!("exit status {status}"));
    match ended.said.iter().find(|line| !line.starts_with("e2fsck ")) {
        Some(line) => format!("{how}, {line}"),
        None => how,
    }
}

fn run(command: &[&str], device: &Path, limit: Duration) -> Result<Ended, String> {
    let partition = OpenOptions::new().read(true).write(true).open(device);
    let partition = partition.map_err(|error| format!("{} not opened: {error}", device.display()))?;
    let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let fds = vec![(name, partition.into())];
    contained::run(&unit(command)?, fds, limit, |line| console::say("repair", line))
}

fn unit(command: &[&str]) -> Result<Unit, String> {
    let mut unit = schema::parse_unit("repair.toml", "repair", UNIT.as_bytes(), Origin::System)
        .map_err(|report| report.to_string())?;
    unit.container.command = Some(command.iter().map(|&word| word.to_owned()).collect());
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_units::launch::{Place, Plan};
    use berth_units::model::NetworkMode;

    #[test]
    fn the_unit_has_the_least_it_needs() {
        let plan = Plan::new(&unit(&["x"]).unwrap(), None, 0, &Place::default()).unwrap();
        assert_eq!((plan.caps.0, plan.network, plan.read_only), (0, NetworkMode::None, true));
        assert!(plan.binds.is_empty() && plan.tmpfs.is_empty());
        assert_eq!(berth_units::privileges::words(&unit(&["x"]).unwrap()), ["host users"]);
    }

    #[test]
    fn exit_statuses() {
        let ended = |status| Ended { status, said: vec!["e2fsck 1.47.2".into(), "Bad magic".into()] };
        let is = |status, careful| match verdict(&ended(status), careful) {
            Verdict::Sound(said) => said.to_owned(),
            Verdict::AskMore => "more".into(),
            Verdict::Lost(reason) => reason,
        };
        assert_eq!(is(Some(0), true), "e2fsck found nothing wrong");
        assert_eq!(is(Some(1), true), "repaired by e2fsck");
        assert_eq!(is(Some(4), true), "more");
        assert_eq!(is(Some(8), true), "more");
        assert!(is(Some(1), false).contains("lost+found"));
        assert_eq!(is(Some(8), false), "e2fsck could not repair it: exit status 8, Bad magic");
        assert_eq!(is(Some(5), false), "e2fsck could not repair it: exit status 5, Bad magic");
        assert!(is(None, true).contains("killed"));
    }
}
