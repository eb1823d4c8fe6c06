//! A state partition that is damaged, blank, or beyond repair.

use anyhow::{Context, Result};
use berth_image::disk::Disk;
use berth_qemu::{demo::HEADING, disk};
use berth_tests::{Event, Firmware, Guest, WEB, state_tool as tool};
use berth_updater::layout;
use std::path::Path;
use std::time::Duration;

/// Where the copy of the superblock in a state of the size that the image has lies, bytes.
const COPY_AT: u64 = 1 << 27;

fn garbage(bytes: u32) -> Vec<u8> {
    (0..bytes).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) -> Result<()> {
    disk::write_at(path, Disk::open(path)?.offset(layout::STATE)? + at, bytes)
}

fn step(guest: &mut Guest) -> Result<String> {
    let steps = guest.client()?.boot_times()?.steps;
    Ok(steps.into_iter().find(|s| s.name == "state").context("no step \"state\"")?.outcome)
}

#[test]
fn a_damaged_state_is_repaired_and_keeps_its_data() -> Result<()> {
    let mut guest = Guest::new(Firmware::Direct)?.with_config(WEB)?.boot()?;
    guest.ready()?;
    guest.page("/")?;
    let before = guest.client()?.machine()?;
    assert_eq!((before.state_problem.as_str(), before.state_note.as_str()), ("", ""));

    // A folder that nothing leads to needs more than `e2fsck -p`; state 2 is the flag.
    let plan = guest.power_off()?.without_config().prepare(|path, built| {
        for request in [
            "mkdir outer",
            "mkdir outer/lost",
            "unlink outer/lost",
            "set_inode_field config links_count 9",
            "set_super_value free_blocks_count 7",
            "set_super_value state 2",
        ] {
            tool(built, "debugfs", &["-w", "-R", request], path)?;
        }
        tool(built, "e2fsck", &["-f", "-n"], path).expect_err("the damage is none");
        Ok(())
    })?;
    let mut guest = plan.boot()?;
    guest.wait_for("is marked as damaged: e2fsck repairs it")?;
    guest.ready()?;
    let after = guest.client()?.machine()?;
    assert_eq!(after.state_problem, "");
    assert!(after.state_note.contains("repaired by e2fsck"), "{:?}", after.state_note);
    assert!(step(&mut guest)?.contains("repaired by e2fsck"));
    assert_eq!((after.machine_id, after.hostname), (before.machine_id, before.hostname));
    assert_eq!(guest.client()?.config_status()?.state, "applied");
    assert!(guest.page("/")?.contains(HEADING));

    let plan = guest.power_off()?;
    tool(plan.built()?, "e2fsck", &["-f", "-n"], plan.disk())?;
    let found = tool(plan.built()?, "debugfs", &["-R", "ls -l lost+found"], plan.disk())?;
    assert!(found.contains('#'), "nothing in lost+found: {found}");
    Ok(())
}

#[test]
fn a_lost_superblock_is_put_back_from_its_copy() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.with_config("")?.without_web_image();
    let mut guest = plan.prepare(|path, _| overwrite(path, 0, &garbage(64 * 1024)))?.boot()?;
    guest.ready()?;
    let machine = guest.client()?.machine()?;
    assert_eq!(machine.state_problem, "");
    assert!(machine.state_note.contains("holds no ext4 where it should begin: repaired"), "{machine:?}");
    Ok(())
}

/// Nothing where a superblock could be, and what was there before elsewhere.
fn blank(path: &Path) -> Result<()> {
    overwrite(path, 0, &[0; 64 * 1024])?;
    overwrite(path, COPY_AT, &[0; 64 * 1024])?;
    overwrite(path, 1 << 20, &garbage(8 << 20))
}

#[test]
fn a_blank_partition_gets_a_file_system_that_lasts() -> Result<()> {
    let plan =
        Guest::new(Firmware::Direct)?.with_config("")?.without_web_image().prepare(|path, built| {
            blank(path)?;
            tool(built, "e2fsck", &["-f", "-n"], path).expect_err("it is not blank");
            // Room to grow into, as on any disk.
            disk::grow(path, 3 << 30)
        })?;
    let mut guest = plan.boot()?;
    guest.wait_for("was never formatted: an empty file system is made")?;
    guest.ready()?;
    let first = guest.client()?.machine()?;
    assert_eq!(first.state_problem, "");
    assert!(first.state_note.contains("an empty file system was made"), "{:?}", first.state_note);

    let plan = guest.power_off()?;
    tool(plan.built()?, "e2fsck", &["-f", "-n"], plan.disk())?;
    let mut guest = plan.without_config().boot()?;
    guest.ready()?;
    let second = guest.client()?.machine()?;
    assert_eq!((second.machine_id, second.hostname.as_str()), (first.machine_id, "test"));
    assert_eq!((second.state_problem.as_str(), second.state_note.as_str()), ("", ""));
    Ok(())
}

#[test]
fn a_reset_while_it_is_made_costs_nothing() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.with_config("")?.without_web_image();
    let mut guest = plan.prepare(|path, _| blank(path))?.boot()?;
    guest.wait_for("was never formatted")?;
    guest.running().reset()?;
    guest.wait_event(&Event::Reset { by_guest: false })?;
    guest.rebooted();
    guest.ready()?;
    assert_eq!(guest.client()?.machine()?.state_problem, "");
    let plan = guest.power_off()?;
    tool(plan.built()?, "e2fsck", &["-f", "-n"], plan.disk())?;
    Ok(())
}

#[test]
fn what_cannot_be_repaired_is_kept_and_said() -> Result<()> {
    let noise = garbage(64 * 1024);
    let mut before = Vec::new();
    let plan = Guest::new(Firmware::Direct)?.with_config(WEB)?.prepare(|path, _| {
        overwrite(path, 0, &noise)?;
        overwrite(path, COPY_AT, &noise)?;
        before = whole(path)?;
        Ok(())
    })?;
    let mut guest = plan.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let problem = guest.client()?.machine()?.state_problem;
    for words in ["temporary", "e2fsck could not repair it", "fill it with zeros"] {
        assert!(problem.contains(words), "{problem:?} lacks {words:?}");
    }
    let plan = guest.power_off()?;
    assert!(whole(plan.disk())? == before, "it was written to");
    Ok(())
}

/// All of the partition.
fn whole(path: &Path) -> Result<Vec<u8>> {
    Disk::open(path)?.read(layout::STATE, 0, usize::try_from(layout::STATE.bytes)?)
}

#[test]
fn what_is_somebody_elses_is_left_alone() -> Result<()> {
    let mut before = Vec::new();
    let plan = Guest::new(Firmware::Direct)?.with_config("")?.without_web_image().prepare(|path, _| {
        // As mkfs.xfs begins; the ext4 that was there before can be found again by its copies.
        overwrite(path, 0, &[&b"XFSB\0\0\x10\0"[..], &[0; 4096 - 8]].concat())?;
        let copy = Disk::open(path)?.read(layout::STATE, COPY_AT + 0x38, 2)?;
        assert_eq!(copy, [0x53, 0xef], "no copy of the old superblock");
        before = whole(path)?;
        Ok(())
    })?;
    let mut guest = plan.boot()?;
    guest.ready()?;
    let problem = guest.client()?.machine()?.state_problem;
    for words in ["temporary", "holds an XFS file system, no ext4", "nothing was written"] {
        assert!(problem.contains(words), "{problem:?} lacks {words:?}");
    }
    let plan = guest.power_off()?;
    assert!(whole(plan.disk())? == before, "it was written to");
    Ok(())
}

#[test]
fn a_power_cut_while_it_is_repaired_costs_nothing() -> Result<()> {
    let mut guest = Guest::new(Firmware::Direct)?.with_config("")?.without_web_image().boot()?;
    guest.ready()?;
    let id = guest.client()?.machine()?.machine_id;
    let plan = guest.power_off()?.without_config().prepare(|path, built| {
        tool(built, "debugfs", &["-w", "-R", "set_inode_field config links_count 9"], path)?;
        overwrite(path, 0, &garbage(64 * 1024))
    })?;
    let mut guest = plan.boot()?;
    // The superblock is back by then, the rest is being looked through.
    guest.wait_for("Pass 1")?;
    let plan = guest.cut_power()?;
    let mut guest = plan.boot()?;
    guest.ready()?;
    let machine = guest.client()?.machine()?;
    assert_eq!((machine.state_problem.as_str(), machine.machine_id), ("", id));
    let plan = guest.power_off()?;
    tool(plan.built()?, "e2fsck", &["-f", "-n"], plan.disk())?;
    Ok(())
}

#[test]
fn a_repair_can_be_called_off_and_is_given_up_in_time() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.with_config("")?.without_web_image();
    let plan = plan.faulty("berth.fault=freeze:main:repair")?.prepare(|path, built| {
        tool(built, "debugfs", &["-w", "-R", "set_super_value state 2"], path).map(drop)
    })?;
    let mut guest = plan.boot()?;
    guest.wait_for("e2fsck repairs it, in 600 s at most")?;
    guest.running().press_ctrl_alt_del()?;
    guest.wait_for("ctrl-alt-del was pressed: repair is given up")?;
    guest.wait_for("e2fsck repairs it")?;
    // The button's driver comes while e2fsck runs; nobody hears a press before.
    let mut off = false;
    for _ in 0..20 {
        guest.running().press_power_button()?;
        off = guest.running().wait_off(Duration::from_secs(3)).is_ok();
        if off {
            break;
        }
    }
    assert!(off, "the power button is not heard");
    let plan = guest.cut_power()?;

    let mut guest = plan.words("berth.fault=freeze:main:repair berth.repair-limit=5").boot()?;
    guest.wait_for("in 5 s at most")?;
    guest.ready()?;
    let problem = guest.client()?.machine()?.state_problem;
    for words in ["temporary", "e2fsck -p: not done within", "What it holds was kept"] {
        assert!(problem.contains(words), "{problem:?} lacks {words:?}");
    }

    let mut guest = guest.power_off()?.words("").boot()?;
    guest.ready()?;
    assert_eq!(guest.client()?.machine()?.state_problem, "");
    Ok(())
}
