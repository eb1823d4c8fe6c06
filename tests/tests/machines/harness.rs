//! The harness itself: it leaves nothing behind, whatever ends it; a machine can be kept and put back.

use anyhow::{Context, Result, ensure};
use berth_tests::{Event, Firmware, Guest, SOON, WEB};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Set for a process that boots a machine and waits to be ended.
const VICTIM: &str = "BERTH_TEST_VICTIM";

/// Not a test of its own: what `a_harness_that_is_ended_leaves_nothing_behind` ends.
#[test]
fn victim() -> Result<()> {
    if std::env::var_os(VICTIM).is_none() {
        return Ok(());
    }
    let mut guest = Guest::new(Firmware::Bios)?.without_config().without_web_image().boot()?;
    let pid = guest.running().pid();
    println!("\nvictim {pid} {}", guest.plan().disk().display());
    loop {
        std::thread::park();
    }
}

/// Starts a victim; returns it with its QEMU's process and its folder.
fn start() -> Result<(std::process::Child, u32, PathBuf)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "harness::victim", "--nocapture"]).env(VICTIM, "1").stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let output = BufReader::new(child.stdout.take().context("no output")?);
    for line in output.lines() {
        let line = line?;
        let mut words = line.split(' ');
        if words.next() == Some("victim") {
            let pid = words.next().context("no pid")?.parse()?;
            let disk = PathBuf::from(words.next().context("no disk")?);
            return Ok((child, pid, disk.parent().context("a disk in no folder")?.to_owned()));
        }
    }
    anyhow::bail!("the victim ended: {}", child.wait()?)
}

fn gone(what: &str, there: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + SOON;
    while there() {
        ensure!(Instant::now() < deadline, "{what} is still there");
        // The kernel tells nobody but a parent, which is gone.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A zombie that nobody reaps is as good as gone.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_harness_that_is_ended_leaves_nothing_behind() -> Result<()> {
    // Killed outright, it can do nothing about its files; the next one that starts does.
    let (mut child, pid, folder) = start()?;
    ensure!(runs(pid) && folder.exists());
    child.kill()?;
    child.wait()?;
    gone("QEMU", || runs(pid))?;
    ensure!(folder.exists(), "who removed it?");
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(folder.join(".lock"))?.set_modified(long_ago)?;
    let (mut child, pid, next) = start()?;
    ensure!(!folder.exists(), "{} is still there", folder.display());

    run(Command::new("kill").arg(child.id().to_string()))?;
    child.wait()?;
    gone("QEMU", || runs(pid))?;
    ensure!(!next.exists(), "{} is still there", next.display());
    Ok(())
}

#[test]
fn a_machine_is_kept_and_put_back() -> Result<()> {
    let mut guest = Guest::new(Firmware::Direct)?.with_snapshots()?.with_config(WEB)?.boot()?;
    guest.ready()?;
    guest.healthy("web")?;
    let before = guest.unit("web")?;
    guest.running().save("healthy")?;
    guest.page("/")?;
    let asked = |guest: &mut Guest| {
        Ok::<_, anyhow::Error>(guest.log("web")?.iter().filter(|l| l.contains("response:200")).count())
    };
    let count = asked(&mut guest)?;
    ensure!(count > 0);
    // The whole machine goes down, on disk too.
    guest.client()?.reboot()?;
    guest.wait_event(&Event::UnitsStopped)?;
    guest.running().restore("healthy")?;
    let after = guest.unit("web")?;
    ensure!(
        (after.state.as_str(), after.pid, after.address) == ("healthy", before.pid, before.address),
        "{after:?}"
    );
    ensure!(asked(&mut guest)? < count, "it remembers what had not happened yet");
    guest.page("/")?;
    guest.power_off()?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
