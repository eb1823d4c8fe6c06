//! Disks that are not as they should be: the machine is up, says what is wrong, and loses nothing.

use anyhow::{Result, ensure};
use berth_image::disk::Disk;
use berth_qemu::demo::HEADING;
use berth_qemu::disk;
use berth_tests::{Built, Bus, Firmware, Guest, WEB};
use berth_updater::gpt::Table;
use berth_updater::layout;
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// The tests on one bus: those that run with all others, and those that do so on another bus.
macro_rules! on_bus {
    ($module:ident, $bus:expr; $($here:ident),*; elsewhere: $($elsewhere:ident),*) => {
        mod $module {
            use super::*;
            $(#[test] fn $here() -> Result<()> { super::$here($bus) })*
            $(#[test] #[ignore = "runs on another bus; on all of them with --include-ignored"]
            fn $elsewhere() -> Result<()> { super::$elsewhere($bus) })*
        }
    };
}

on_bus! { virtio, Bus::Virtio;
    a_missing_state_partition_gives_a_temporary_one_and_says_so,
    of_two_disks_of_the_same_machine_one_is_used_and_the_other_left_alone;
    elsewhere:
    a_new_machine_whose_state_is_full_is_given_a_temporary_one_and_says_so,
    a_primary_partition_table_with_a_wrong_sum_is_mended_from_its_backup,
    without_a_primary_partition_table_and_firmware_that_could_help_it_is_there_again
}

on_bus! { sata, Bus::Sata;
    a_new_machine_whose_state_is_full_is_given_a_temporary_one_and_says_so,
    without_a_primary_partition_table_and_firmware_that_could_help_it_is_there_again;
    elsewhere:
    a_missing_state_partition_gives_a_temporary_one_and_says_so,
    a_primary_partition_table_with_a_wrong_sum_is_mended_from_its_backup,
    of_two_disks_of_the_same_machine_one_is_used_and_the_other_left_alone
}

on_bus! { nvme, Bus::Nvme;
    a_primary_partition_table_with_a_wrong_sum_is_mended_from_its_backup,
    of_two_disks_of_the_same_machine_one_is_used_and_the_other_left_alone;
    elsewhere:
    a_missing_state_partition_gives_a_temporary_one_and_says_so,
    a_new_machine_whose_state_is_full_is_given_a_temporary_one_and_says_so,
    without_a_primary_partition_table_and_firmware_that_could_help_it_is_there_again
}

fn a_missing_state_partition_gives_a_temporary_one_and_says_so(bus: Bus) -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.on(bus).with_config(WEB)?.prepare(|path, _| {
        let mut file = File::options().read(true).write(true).open(path)?;
        let sectors = file.metadata()?.len() / SECTOR;
        let mut table = Table::read(&mut file, 512, sectors)?.table;
        table.entries[layout::STATE.number as usize - 1] = None;
        table.write(&mut file, |file| file.sync_all())?;
        Ok(())
    })?;
    let mut guest = plan.boot()?;
    guest.wait_for("state is temporary and will be lost")?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let problem = guest.client()?.machine()?.state_problem;
    assert!(problem.contains("has no state partition"), "{problem:?}");
    Ok(())
}

#[test]
fn a_larger_disk_is_used_to_its_end() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?
        .on(Bus::Nvme)
        .with_config(WEB)?
        .prepare(|path, _| disk::grow(path, 3 << 30))?;
    let mut guest = plan.boot()?;
    guest.wait_for("grown to 2")?;
    guest.ready()?;
    assert_eq!(guest.client()?.machine()?.state_problem, "");
    // And the second start finds nothing to do.
    let mut guest = guest.power_off()?.boot()?;
    guest.ready()?;
    let steps = guest.client()?.boot_times()?.steps;
    let state = steps.iter().find(|s| s.name == "state").map(|s| s.outcome.as_str());
    assert_eq!(state, Some(""));
    Ok(())
}

/// Boots a disk whose primary partition table `damage` spoilt; afterwards both copies are sound and say the same as before.
fn is_mended(firmware: Firmware, bus: Bus, damage: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let plan = Guest::new(firmware)?.on(bus).with_config(WEB)?;
    let before = Disk::open(plan.disk())?.table().clone();
    let plan = plan.prepare(|path, _| damage(path))?;
    let mut guest = plan.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    assert_eq!(guest.client()?.machine()?.state_problem, "");
    let plan = guest.power_off()?;
    let mut file = File::open(plan.disk())?;
    let sectors = file.metadata()?.len() / SECTOR;
    let found = Table::read(&mut file, 512, sectors)?;
    assert!(found.primary.is_none() && found.backup.is_none(), "{:?} {:?}", found.primary, found.backup);
    assert_eq!(found.table, before);
    Ok(())
}

/// Header and entries of the primary table, gone.
fn wipe_primary(path: &Path) -> Result<()> {
    disk::write_at(path, SECTOR, &[0; 33 * 512])
}

fn a_primary_partition_table_with_a_wrong_sum_is_mended_from_its_backup(bus: Bus) -> Result<()> {
    is_mended(Firmware::Direct, bus, wrong_sum)
}

/// One bit of the primary header's checksum, turned.
fn wrong_sum(path: &Path) -> Result<()> {
    disk::flip_bit(path, SECTOR + 16, 0)
}

#[test]
fn with_a_wrong_sum_uefi_boots_and_it_is_mended() -> Result<()> {
    is_mended(Firmware::Uefi, Bus::Sata, wrong_sum)
}

#[test]
fn without_a_primary_partition_table_uefi_boots_and_it_is_there_again() -> Result<()> {
    is_mended(Firmware::Uefi, Bus::Virtio, wipe_primary)
}

fn without_a_primary_partition_table_and_firmware_that_could_help_it_is_there_again(bus: Bus) -> Result<()> {
    is_mended(Firmware::Direct, bus, wipe_primary)
}

#[test]
fn without_a_primary_partition_table_bios_says_so_and_tries_again() -> Result<()> {
    let plan = Guest::new(Firmware::Bios)?.with_config(WEB)?.prepare(|path, _| wipe_primary(path))?;
    let mut guest = plan.boot()?;
    for _ in 0..2 {
        guest.wait_for("partition table")?;
        guest.wait_for("starting again")?;
    }
    Ok(())
}

/// Leaves not one block of the state file system free, not even those kept for the system.
fn fill_state(path: &Path, built: &Built) -> Result<()> {
    let mut image = Disk::open(path)?;
    let empty = path.with_extension("empty");
    let commands = path.with_extension("debugfs");
    std::fs::write(&empty, "")?;
    // What does not fit is not allocated at all: by halves, then the odd blocks that the files' own trees need.
    let sizes = (0..16).rev().map(|n| 1_u32 << n).chain([1; 4]);
    let fills = sizes.enumerate().map(|(n, blocks)| {
        format!("write {} fill{n}\nfallocate fill{n} 0 {}\n", empty.display(), blocks - 1)
    });
    std::fs::write(&commands, fills.collect::<String>())?;
    let state = format!("{}?offset={}", path.display(), image.offset(layout::STATE)?);
    let output = built.tools.command("debugfs").arg("-w").arg("-f").arg(&commands).arg(state).output()?;
    // Bytes 12 to 15 of the superblock: free blocks.
    let free = image.read(layout::STATE, 1024 + 12, 4)?;
    ensure!(free == [0; 4], "{free:?} blocks are free: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn a_machine_whose_state_is_full_keeps_running_what_it_ran() -> Result<()> {
    let mut guest = Guest::new(Firmware::Direct)?.with_config(WEB)?.boot()?;
    guest.ready()?;
    guest.page("/")?;
    let id = guest.client()?.machine()?.machine_id;
    let plan = guest.power_off()?.without_config().prepare(fill_state)?;

    let mut guest = plan.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    assert_eq!(guest.client()?.machine()?.machine_id, id);
    assert_eq!(guest.client()?.config_status()?.state, "applied");
    guest.power_off()?;
    Ok(())
}

fn a_new_machine_whose_state_is_full_is_given_a_temporary_one_and_says_so(bus: Bus) -> Result<()> {
    let mut guest = Guest::new(Firmware::Direct)?.on(bus).with_config(WEB)?.prepare(fill_state)?.boot()?;
    guest.wait_for("state is temporary and will be lost")?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let problem = guest.client()?.machine()?.state_problem;
    assert!(problem.contains("is full"), "{problem:?}");
    guest.power_off()?;
    Ok(())
}

/// SATA knows no write protection, and QEMU refuses it there.
fn a_write_protected_disk_gives_a_temporary_state_and_says_so(bus: Bus, reason: &str) -> Result<()> {
    let mut guest = Guest::new(Firmware::Direct)?.on(bus).with_config(WEB)?.read_only().boot()?;
    guest.wait_for("state is temporary and will be lost")?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let problem = guest.client()?.machine()?.state_problem;
    assert!(problem.contains(reason), "{problem:?} lacks {reason:?}");
    guest.power_off()?;
    Ok(())
}

#[test]
fn a_write_protected_virtio_disk_gives_a_temporary_state_and_says_so() -> Result<()> {
    a_write_protected_disk_gives_a_temporary_state_and_says_so(Bus::Virtio, "write-protected")
}

/// QEMU's NVMe does not tell that it is; every write fails.
#[test]
fn an_nvme_disk_that_takes_no_writes_gives_a_temporary_state_and_says_so() -> Result<()> {
    a_write_protected_disk_gives_a_temporary_state_and_says_so(Bus::Nvme, "not mounted: EIO")
}

/// The disk that the firmware boots is not the one that the kernel finds first.
fn boots_the_second_of_two(firmware: Firmware, bus: Bus, name: &str) -> Result<()> {
    let plan = Guest::new(firmware)?.on(bus).with_config(WEB)?;
    let booted = plan.file("booted.raw");
    disk::copy(plan.disk(), &booted)?;
    let second = booted.clone();
    // In between is the web image.
    let mut guest = plan.machine(move |m| m.disk(&second, bus).boots_from(2)).boot()?;
    guest.wait_for(&format!(
        "carries the same system as {name}, which is used: the boot loader counted this start there"
    ))?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let slots = guest.client()?.slots()?;
    assert_eq!((slots.good.as_deref(), slots.starts), (Some("a"), 0));
    let plan = guest.power_off()?;
    let raw = &plan.built()?.outputs.raw;
    let same = Command::new("cmp").arg(plan.disk()).arg(raw).output()?;
    assert!(same.status.success(), "the other disk was written: {}", String::from_utf8_lossy(&same.stdout));
    assert!(!Command::new("cmp").arg("-s").arg(&booted).arg(raw).status()?.success());
    assert_eq!(Disk::open(&booted)?.record()?.map(|record| record.starts), Some(0));
    Ok(())
}

#[test]
fn of_two_disks_uefi_boots_the_second_and_it_is_used() -> Result<()> {
    boots_the_second_of_two(Firmware::Uefi, Bus::Virtio, "/dev/vdc")
}

#[test]
fn of_two_disks_bios_boots_the_second_and_it_is_used() -> Result<()> {
    boots_the_second_of_two(Firmware::Bios, Bus::Virtio, "/dev/vdc")
}

fn of_two_disks_of_the_same_machine_one_is_used_and_the_other_left_alone(bus: Bus) -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.on(bus).with_config(WEB)?;
    let twin = plan.file("twin.raw");
    disk::copy(plan.disk(), &twin)?;
    let second = twin.clone();
    let mut guest = plan.machine(move |m| m.disk(&second, bus)).boot()?;
    guest.wait_for("carries the same system as")?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let plan = guest.power_off()?;
    let same = Command::new("cmp").arg(&twin).arg(&plan.built()?.outputs.raw).output()?;
    assert!(same.status.success(), "the other disk was written: {}", String::from_utf8_lossy(&same.stdout));
    Ok(())
}
