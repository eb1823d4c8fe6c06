//! Updates, end to end: a repository on this computer, a machine that follows it. A good version stays; one whose kernel panics,
//! one whose PID 1 hangs, one under which a unit is sick: after each the old one serves again, and the machine says why.

use anyhow::{Result, ensure};
use berth_image::Options;
use berth_qemu::demo;
use berth_qemu::updates::{self, Publisher};
use berth_tests::{Firmware, Guest};
use berth_units::control::{UpdateOrder, UpdateStatus};
use std::time::{Duration, Instant};

/// Two starts on a busy computer.
const TRIAL: Duration = Duration::from_secs(400);
/// Written by an emulated machine on a busy computer.
const WRITTEN: Duration = Duration::from_secs(300);

fn status(guest: &mut Guest) -> Result<UpdateStatus> {
    Ok(guest.client()?.update_status()?)
}

/// Waits until nothing is under way; why the order failed, if it did.
fn over(guest: &mut Guest) -> Result<UpdateStatus> {
    let end = Instant::now() + WRITTEN;
    loop {
        let status = status(guest)?;
        if status.order.is_none() {
            return Ok(status);
        }
        ensure!(Instant::now() < end, "{status:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn machine(firmware: Firmware) -> Result<(Publisher, Guest)> {
    let plan = Guest::new(firmware)?.reaches_the_host();
    let folder = plan.file("updates");
    std::fs::create_dir(&folder)?;
    let publisher = Publisher::new(&folder)?;
    let config = format!("{}{}", publisher.config()?, updates::demo::UNIT);
    let mut guest = plan.with_config(&config)?.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(demo::HEADING));
    Ok((publisher, guest))
}

/// `cargo run -- demo update`: each line that a user sees.
#[test]
fn a_good_version_stays_and_sick_ones_are_taken_back() -> Result<()> {
    let lines = std::sync::Mutex::new(Vec::new());
    updates::demo::run(&|line| {
        println!("{line}");
        lines.lock().expect("no other thread").push(line.to_owned());
    })?;
    let lines = lines.into_inner().expect("no other thread");
    let old = Options::default().version;
    let mut rest = lines.iter();
    for wanted in [
        "/  it serves".to_owned(),
        "version 2 is published: a good one".into(),
        "berth update reboot".into(),
        "it reboots".into(),
        format!("update   version 2 took the place of {old}"),
        "/  version 2 serves, from slot b".into(),
        "version 3 is published: its kernel panics".into(),
        "update   version 3 did not prove itself".into(),
        "/  version 2 serves again".into(),
        "version 4 is published: its PID 1 hangs".into(),
        "update   version 4 did not prove itself".into(),
        "/  version 2 serves again".into(),
        "version 5 is published: the web unit is sick under it".into(),
        "update   version 5 did not prove itself".into(),
        "/  version 2 serves again".into(),
        "berth update status:".into(),
        "Not taken again, unless with --again:".into(),
    ] {
        ensure!(
            rest.any(|line| line.contains(&wanted)),
            "no {wanted:?} (at its place) in\n{}",
            lines.join("\n")
        );
    }
    Ok(())
}

#[test]
fn bios_starts_what_was_cut_from_the_uki_and_a_cut_loses_nothing() -> Result<()> {
    let (publisher, mut guest) = machine(Firmware::Bios)?;
    publisher.publish(&updates::demo::system("2", None, &|line| eprintln!("{line}"))?, "2")?;
    guest.client()?.order_update(UpdateOrder::Apply, false)?;
    // The power goes while the slot is written.
    let end = Instant::now() + WRITTEN;
    while status(&mut guest)?.done == 0 {
        ensure!(Instant::now() < end, "nothing is written");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut guest = guest.cut_power()?.boot()?;
    guest.ready()?;
    assert_eq!(guest.client()?.slots()?.running, "a");
    guest.client()?.order_update(UpdateOrder::Apply, false)?;
    let written = over(&mut guest)?;
    assert_eq!((written.state.as_str(), written.error.as_str()), ("armed", ""));
    assert_eq!(guest.client()?.slots()?.trial, Some(("b".to_owned(), 3)));
    guest.client()?.reboot()?;
    guest.rebooted();
    guest.running().wait_for("update   version 2 took the place of", TRIAL)?;
    assert_eq!(guest.client()?.slots()?.running, "b");
    guest.power_off()?;
    Ok(())
}

#[test]
fn who_has_a_kernel_from_outside_or_knows_no_repository_says_so() -> Result<()> {
    let mut guest = Guest::new(Firmware::Direct)?.with_config("")?.boot()?;
    guest.ready()?;
    let refused =
        guest.client()?.order_update(UpdateOrder::Check, false).expect_err("direct boot").to_string();
    assert!(refused.contains("direct boot"), "{refused}");
    let mut guest = Guest::new(Firmware::Uefi)?.with_config("")?.boot()?;
    guest.ready()?;
    guest.client()?.order_update(UpdateOrder::Check, false)?;
    let error = over(&mut guest)?.error;
    assert!(error.contains("neither the image nor [update] in the machine config"), "{error}");
    Ok(())
}
