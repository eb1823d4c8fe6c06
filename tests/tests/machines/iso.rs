//! One ISO for a CD and for a stick, UEFI and BIOS: the live system.

use anyhow::{Result, ensure};
use berth_qemu::demo::HEADING;
use berth_tests::{Bus, Firmware, Guest, WEB};

/// Bytes of an empty disk, which stays as it is.
const DISK: u64 = 2 << 30;

#[test]
fn uefi_starts_it_from_a_cd() -> Result<()> {
    runs_units_in_memory(Firmware::Uefi, Bus::Cdrom)
}

#[test]
fn uefi_starts_it_from_a_stick() -> Result<()> {
    runs_units_in_memory(Firmware::Uefi, Bus::Usb)
}

#[test]
fn bios_starts_it_from_a_cd() -> Result<()> {
    runs_units_in_memory(Firmware::Bios, Bus::Cdrom)
}

#[test]
fn bios_starts_it_from_a_stick() -> Result<()> {
    runs_units_in_memory(Firmware::Bios, Bus::Usb)
}

fn runs_units_in_memory(firmware: Firmware, medium: Bus) -> Result<()> {
    let mut guest = Guest::of_medium(firmware, Bus::Virtio, DISK, medium)?.with_config(WEB)?.boot()?;
    guest.wait_for("installation medium /dev/s")?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let client = guest.client()?;
    let machine = client.machine()?;
    ensure!(machine.state_problem.contains("installation medium"), "{:?}", machine.state_problem);
    Ok(())
}
