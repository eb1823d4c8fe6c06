//! Disks that are not as they should be: the machine is up, says what is wrong, and loses nothing.

use anyhow::Result;
use berth_image::disk::Disk;
use berth_qemu::demo::HEADING;
use berth_qemu::disk;
use berth_tests::{Bus, Firmware, Guest, WEB};
use berth_updater::layout;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// Overwrites part of the state partition.
fn overwrite_state(path: &Path, bytes: &[u8]) -> Result<()> {
    let at = Disk::open(path)?.offset(layout::STATE)?;
    disk::write_at(path, at, bytes)
}

#[test]
fn a_state_partition_of_garbage_gives_a_temporary_one_and_says_so() -> Result<()> {
    let garbage: Vec<u8> = (0..64 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let plan = Guest::new(Firmware::Direct)?.with_config(WEB)?;
    let plan = plan.prepare(|path, _| overwrite_state(path, &garbage))?;
    let mut guest = plan.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let problem = guest.client()?.machine()?.state_problem;
    assert!(problem.contains("temporary"), "{problem:?}");
    Ok(())
}

#[test]
fn a_missing_state_partition_gives_a_temporary_one_and_says_so() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.with_config(WEB)?.prepare(|path, _| {
        let mut file = std::fs::File::options().read(true).write(true).open(path)?;
        let sectors = file.metadata()?.len() / SECTOR;
        let mut table = berth_updater::gpt::Table::read(&mut file, 512, sectors)?.table;
        table.entries[layout::STATE.number as usize - 1] = None;
        table.write(&mut file, |file| file.sync_all())?;
        Ok(())
    })?;
    let mut guest = plan.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    assert!(!guest.client()?.machine()?.state_problem.is_empty());
    Ok(())
}

#[test]
fn a_larger_disk_is_used_to_its_end() -> Result<()> {
    let plan =
        Guest::new(Firmware::Direct)?.with_config(WEB)?.prepare(|path, _| disk::grow(path, 3 << 30))?;
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

#[test]
fn a_damaged_primary_partition_table_is_mended_from_its_backup() -> Result<()> {
    let plan = Guest::new(Firmware::Uefi)?.with_config(WEB)?;
    let plan = plan.prepare(|path, _| disk::flip_bit(path, SECTOR + 16, 0))?;
    let mut guest = plan.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let plan = guest.power_off()?;
    let file = std::fs::File::open(plan.disk())?;
    let mut header = [0; 512];
    file.read_exact_at(&mut header, SECTOR)?;
    let sectors = file.metadata()?.len() / SECTOR;
    let found = berth_updater::gpt::Table::read(&mut &file, 512, sectors)?;
    assert!(found.primary.is_none() && found.backup.is_none(), "{:?} {:?}", found.primary, found.backup);
    Ok(())
}

#[test]
fn a_second_disk_of_the_same_machine_does_not_confuse_it() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.with_config(WEB)?;
    let twin = plan.file("twin.raw");
    disk::copy(plan.disk(), &twin)?;
    let mut guest = plan.machine(move |m| m.disk(&twin, Bus::Virtio)).boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    Ok(())
}
