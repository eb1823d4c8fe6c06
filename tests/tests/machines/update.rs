//! Updates, end to end: a repository on this computer, a machine that follows it. What happens to good and to sick versions
//! is the module `demo`.

use anyhow::{Result, ensure};
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
