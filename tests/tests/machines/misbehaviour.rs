//! What units do that nobody wants. Each is told, harms itself at most, and can be stopped; the machine stays well.
//!
//! Units that fork or open files without end, and those that forge or flood notifications, are the launcher's checks
//! (`launch`).

use anyhow::{Result, ensure};
use berth_tests::shell::{plan, says, shell};
use berth_tests::{Guest, SOON};
use berth_units::control::Drive;
use berth_units::limits::{LOG_LINE_BYTES, LOG_SEGMENT_BYTES};
use std::time::Duration;

/// A gigabyte through an emulated PID 1, beside which everything else takes its time.
const ENDLESS: Duration = Duration::from_secs(600);

/// Units of the test, each with what is wrong with it.
fn units() -> Vec<String> {
    let rests = "exec $b sleep 1000";
    vec![
        // The end of its shell is not the end of its children, and neither hears SIGTERM.
        shell("deaf", "trap \"\" TERM; while :; do $b sleep 1; done", "stop_timeout = \"1s\"\n"),
        shell("mute", &format!("exec >&- 2>&-; {rests}"), ""),
        // A gigabyte of zeros without a line's end.
        shell(
            "endless",
            &format!(
                "$b dd if=/dev/zero bs=64k count=16384 2>/dev/null; echo; echo the end; >/over; {rests}"
            ),
            "[units.endless.health]\ncommand = [\"/bin/busybox\", \"test\", \"-e\", \"/over\"]\ninterval = \"1s\"\n\
             start_period = \"1h\"\n",
        ),
        shell(
            "forever",
            "exit 1",
            "[units.forever.restart]\ndelay = \"100ms\"\nmax_delay = \"100ms\"\nlimit = 0\n",
        ),
        // Its children have ended, and it never asks for them.
        shell(
            "zombies",
            "i=0; while [ $i -lt 40 ]; do ( exit 0 ) & i=$((i+1)); done; exec $b sleep 1000",
            "[units.zombies.resources]\npids = 64\n",
        ),
        shell(
            "checked",
            rests,
            "[units.checked.health]\ncommand = [\"/bin/busybox\", \"sleep\", \"1000\"]\ntimeout = \"1h\"\n",
        ),
        // Nobody listens there.
        "[units.pulled]\ncontainer.image = \"10.0.2.2:9/none:1\"\n".to_owned(),
        shell(
            "filler",
            &format!("$b dd if=/dev/zero of=/data/fill bs=1M 2>/dev/null; echo full; {rests}"),
            "volumes = [\"filler:/data\"]\n",
        ),
        shell("keeper", &format!("echo well; {rests}"), ""),
    ]
}

fn drive(guest: &mut Guest, unit: &str, how: Drive) -> Result<()> {
    guest.client()?.drive(unit, how)?;
    Ok(())
}

/// All at once, and waits until nothing is left of them.
fn stop(guest: &mut Guest, units: &[&str]) -> Result<()> {
    for unit in units {
        drive(guest, unit, Drive::Stop)?;
    }
    for unit in units {
        guest.until(unit, |state, _| state == "stopped")?;
        let status = guest.unit(unit)?;
        ensure!(status.pid.is_none(), "{status:?}");
    }
    Ok(())
}

#[test]
fn units_that_misbehave_harm_only_themselves() -> Result<()> {
    let mut guest = plan(&units())?.boot()?;
    guest.ready()?;
    // Its starts would take the emulated processor from the others.
    guest.until_status("forever", SOON, |status| status.restarts >= 5)?;
    stop(&mut guest, &["forever"])?;
    for unit in ["deaf", "mute", "zombies", "keeper"] {
        guest.healthy(unit)?;
    }
    guest.said("filler", "full")?;
    guest.until_within("pulled", ENDLESS, |_, reason| reason.contains("not pulled"))?;
    guest.until("checked", |state, _| state == "running")?;

    // Of a line without an end so much is kept as of any other, and what comes after it is there.
    guest.until_within("endless", ENDLESS, |state, _| state == "healthy")?;
    let log = guest.log("endless")?;
    ensure!(log.last().is_some_and(|line| line == "the end"));
    let kept: usize = log.iter().map(String::len).sum();
    ensure!(log.iter().all(|line| line.len() <= LOG_LINE_BYTES));
    ensure!(kept as u64 <= 2 * LOG_SEGMENT_BYTES, "{kept} bytes are kept");

    // With the volume full, the others run and do as they are told, and a file can still be kept.
    drive(&mut guest, "keeper", Drive::Restart)?;
    guest.until("keeper", |state, _| state == "healthy")?;
    says(&mut guest, "keeper", &["well"])?;
    // Stopped while it is started, a few times over.
    for _ in 0..8 {
        drive(&mut guest, "keeper", Drive::Stop)?;
        drive(&mut guest, "keeper", Drive::Start)?;
    }
    guest.until("keeper", |state, _| state == "healthy")?;
    stop(&mut guest, &["deaf", "mute", "endless", "zombies", "checked", "pulled", "filler"])?;
    drive(&mut guest, "mute", Drive::Start)?;
    guest.until("mute", |state, _| state == "healthy")?;

    // The power goes with the disk full: it boots all the same, and what it was told is still so.
    let mut guest = guest.cut_power()?.boot()?;
    guest.ready()?;
    guest.healthy("keeper")?;
    ensure!(guest.client()?.machine()?.state_problem.is_empty(), "{:?}", guest.client()?.machine()?);
    guest.power_off()?;
    Ok(())
}
