//! From the installation medium onto a disk: what is installed serves, takes an update, and goes on without the medium.

use anyhow::{Context, Result, ensure};
use berth_qemu::demo::HEADING;
use berth_tests::{Bus, Firmware, Guest, Plan, WEB, config};
use berth_updater::gpt::Table;
use berth_updater::layout::KIND_SEED;
use berth_updater::medium;
use std::fs::File;

/// Bytes of the disk.
const DISK: u64 = 2 << 30;

/// A machine whose medium has this config.
fn customised(firmware: Firmware, bus: Bus, medium: Bus, text: &str) -> Result<Plan> {
    let plan = Guest::of_medium(firmware, bus, DISK, medium)?.without_config();
    let mut iso = File::options().read(true).write(true).open(plan.file("berth.iso"))?;
    let sectors = iso.metadata()?.len() / 512;
    let table = Table::read(&mut iso, 512, sectors)?.table;
    let (_, seed) = table.by_kind(KIND_SEED).context("no place for a config")?;
    medium::write_seed(&iso, seed.first * 512, config(text)?.as_bytes())?;
    Ok(plan)
}

const INSTALL: &str = "[install]\ndisk = \"only\"\n";

fn installs_itself_and_serves(firmware: Firmware, bus: Bus, medium: Bus) -> Result<()> {
    let text = format!("{WEB}\n{INSTALL}then = \"poweroff\"\n");
    let mut guest = customised(firmware, bus, medium, &text)?.boot()?;
    guest.wait_for("installation medium /dev/s")?;
    guest.wait_for("done: Berth is on /dev/")?;
    let plan = guest.powered_off()?;
    // The medium stays where it is: the disk comes first from now on.
    let mut guest = plan.boot()?;
    guest.wait_for("applied from seed")?;
    guest.ready()?;
    ensure!(guest.page("/")?.contains(HEADING));
    let machine = guest.client()?.machine()?;
    ensure!(machine.state_problem.is_empty(), "{:?}", machine.state_problem);
    // And the next start has the config from its own state.
    let mut guest = guest.power_off()?.boot()?;
    guest.wait_for("applied from state")?;
    guest.ready()?;
    ensure!(guest.page("/")?.contains(HEADING));
    Ok(())
}

#[test]
fn uefi_from_a_cd_onto_nvme() -> Result<()> {
    installs_itself_and_serves(Firmware::Uefi, Bus::Nvme, Bus::Cdrom)
}

#[test]
fn bios_from_a_cd_onto_virtio() -> Result<()> {
    installs_itself_and_serves(Firmware::Bios, Bus::Virtio, Bus::Cdrom)
}
