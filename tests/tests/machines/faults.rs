//! When it goes wrong: slot B is on trial and sick in one way; the machine ends, by itself, in slot A, and `berth slots`
//! there says why. On both firmwares, with the real image.

use anyhow::Result;
use berth_image::disk::{Damage, Disk};
use berth_image::{Bundle, Options};
use berth_qemu::demo;
use berth_tests::{Built, Event, Firmware, Guest, WEB, built};
use berth_updater::layout::Slot;
use berth_updater::record::{Record, Trial};
use berth_updater::verity::to_hex;
use serde_json::json;

/// A hang is noticed sooner than in production, and a panic is left sooner.
const SOONER: &str = "berth.watchdog=15 panic=1";

/// An OS that is not the one in slot A.
fn bundle(change: impl FnOnce(&mut Options)) -> Result<Bundle> {
    let mut options = Options { version: "2-test".into(), ..Options::default() };
    change(&mut options);
    berth_image::bundle(&options, &|line| eprintln!("{line}"))
}

/// PID 1 with switches to make it misbehave; never part of a shipped image.
fn with_faults(options: &mut Options, fault: &str) -> Result<()> {
    options.init = Some(berth_image::programs::faulty_init(&|line| eprintln!("{line}"))?);
    options.cmdline = format!("berth.fault={fault} {SOONER}");
    Ok(())
}

/// Slot B holds `os` and is on trial, with one try.
fn on_trial(disk: &mut Disk, built: &Built, os: &Bundle) -> Result<()> {
    disk.install(&built.tools, Slot::B, os)?;
    let trial = Some(Trial { slot: Slot::B, tries: 1 });
    disk.set_record(&Record { trial, ..Record::fresh(Slot::A) })
}

/// Boots with `os` on trial in B, changed by `damage`, and expects A with a reason for B that contains `reason`.
fn falls_back(
    firmware: Firmware,
    os: &Bundle,
    damage: impl FnOnce(&mut Disk, &Built) -> Result<()>,
    during: impl FnOnce(&mut Guest) -> Result<()>,
    reason: &str,
) -> Result<()> {
    let plan = Guest::new(firmware)?.with_config("")?.prepare(|path, built| {
        let mut disk = Disk::open(path)?;
        on_trial(&mut disk, built, os)?;
        damage(&mut disk, built)
    })?;
    let mut guest = plan.boot()?;
    during(&mut guest)?;
    guest.up("a")?;
    guest.ready()?;
    let slots = guest.client()?.slots()?;
    assert_eq!((slots.running.as_str(), slots.good.as_deref(), slots.confirmed), ("a", Some("a"), true));
    let b = guest.slot("b")?;
    assert_eq!(b.state, "failed", "{b:?}");
    assert!(b.reason.contains(reason), "slot b's reason is {:?}, not {reason:?}", b.reason);
    assert_eq!(b.root_hash, to_hex(&os.root_hash), "what is in the slot is told all the same");
    Ok(())
}

fn undamaged(_: &mut Disk, _: &Built) -> Result<()> {
    Ok(())
}

fn untouched(_: &mut Guest) -> Result<()> {
    Ok(())
}

/// One test per firmware. Of rows that the loader alone decides, which has tests of its own for both firmwares
/// (`image/tests/loader.rs`), one of the two runs with all tests, the other with `--include-ignored`.
macro_rules! on_both {
    ({$($name:ident => $body:expr;)*}
     uefi {$($first:ident => $first_body:expr;)*}
     bios {$($second:ident => $second_body:expr;)*}) => {
        mod uefi {
            use super::*;
            $(#[test] fn $name() -> Result<()> { ($body)(Firmware::Uefi) })*
            $(#[test] fn $first() -> Result<()> { ($first_body)(Firmware::Uefi) })*
            $(#[test] #[ignore = "runs on BIOS; on both with --include-ignored"]
            fn $second() -> Result<()> { ($second_body)(Firmware::Uefi) })*
        }
        mod bios {
            use super::*;
            $(#[test] fn $name() -> Result<()> { ($body)(Firmware::Bios) })*
            $(#[test] #[ignore = "runs on UEFI; on both with --include-ignored"]
            fn $first() -> Result<()> { ($first_body)(Firmware::Bios) })*
            $(#[test] fn $second() -> Result<()> { ($second_body)(Firmware::Bios) })*
        }
    };
}

fn file(firmware: Firmware, damage: Damage, fix_sum: bool, reason: &str) -> Result<()> {
    let os = bundle(|_| {})?;
    let damaged = |disk: &mut Disk, built: &Built| disk.damage_uki(&built.tools, Slot::B, damage, fix_sum);
    falls_back(firmware, &os, damaged, untouched, reason)
}

fn fault(firmware: Firmware, name: &str, reason: &str) -> Result<()> {
    let mut options = Options::default();
    with_faults(&mut options, name)?;
    let os = bundle(|o| {
        o.init = options.init;
        o.cmdline = options.cmdline;
    })?;
    falls_back(firmware, &os, undamaged, untouched, reason)
}

on_both! {
{
    // It brings the unit's image along, as a layout or as an archive; no disk but the boot disk is there.
    a_good_update_becomes_the_good_slot => |firmware| -> Result<()> {
        let image = demo::web_image(&built()?.tools)?;
        let images = match firmware {
            Firmware::Bios => vec![("web.tar".into(), image.archive()?)],
            _ => image.layout().into_iter().map(|(path, bytes)| (format!("web/{path}"), bytes)).collect(),
        };
        let in_root = |(path, bytes)| (format!("usr/lib/berth/images/{path}"), bytes);
        let os = bundle(|options| options.files = images.into_iter().map(in_root).collect())?;
        let plan = Guest::new(firmware)?.with_config(WEB)?.without_web_image().prepare(|path, built| {
            on_trial(&mut Disk::open(path)?, built, &os)
        })?;
        let mut guest = plan.boot()?;
        guest.ready()?;
        assert!(guest.page("/")?.contains(demo::HEADING));
        let slots = guest.client()?.slots()?;
        assert_eq!((slots.running.as_str(), slots.good.as_deref()), ("b", Some("b")));
        let mut guest = guest.power_off()?.boot()?;
        guest.ready()?;
        assert_eq!(guest.client()?.slots()?.running, "b");
        let (a, b) = (guest.slot("a")?, guest.slot("b")?);
        assert_eq!((a.state.as_str(), a.reason.as_str()), ("spare", ""));
        assert_eq!((a.version, b.version.as_str()), (Options::default().version, "2-test"));
        assert_eq!(b.root_hash, to_hex(&os.root_hash));
        assert!(!a.root_hash.is_empty() && a.root_hash != b.root_hash);
        Ok(())
    };
    kernel_panics => |firmware| {
        let os = bundle(|o| o.cmdline = format!("rdinit=/nothing {SOONER}"))?;
        falls_back(firmware, &os, undamaged, untouched, "kernel")
    };
    kernel_hangs => |firmware| {
        let os = bundle(|o| o.cmdline = SOONER.into())?;
        let hang = |guest: &mut Guest| {
            guest.up("b")?;
            guest.running().hang_cpu()?;
            guest.wait_event(&Event::Watchdog)?;
            guest.wait_event(&Event::Reset { by_guest: true })
        };
        falls_back(firmware, &os, undamaged, hang, "stopped without a word")
    };
    kernel_file_is_missing => |firmware| file(firmware, Damage::Missing, false, "missing");
    kernel_file_is_random_and_its_sum_fits => |firmware| file(firmware, Damage::Random(7), true, "start");
    root_has_a_flipped_bit => |firmware| {
        let os = bundle(|_| {})?;
        // The superblock of the file system lies in the first block.
        falls_back(firmware, &os, |disk, _| disk.flip_root_bit(Slot::B, 1024), untouched, "block 0")
    };
    init_crashes_in_the_initrd => |firmware| fault(firmware, "crash:initrd:root", "root");
    init_crashes_in_the_main_stage => |firmware| fault(firmware, "crash:main:state", "state");
    init_panics_in_the_main_stage => |firmware| fault(firmware, "panic:main:state", "state");
    init_hangs_in_the_main_stage => |firmware| fault(firmware, "hang:main:state", "state");
    required_unit_never_becomes_healthy => |firmware| {
        let sick = "[unit]\nrequired_for_boot = true\n[container]\nimage = \"berth:system\"\ncommand = [\"/nothing\"]\n";
        let os = bundle(|o| {
            o.files = vec![("usr/lib/berth/units/sick.toml".into(), sick.into())];
            o.cmdline = "berth.health-deadline=20".into();
        })?;
        falls_back(firmware, &os, undamaged, untouched, "sick")
    };
    good_slot_falls_to_the_other_when_its_root_is_damaged => |firmware| {
        let os = bundle(|_| {})?;
        let plan = Guest::new(firmware)?.with_config("")?.prepare(|path, built| {
            let mut disk = Disk::open(path)?;
            disk.install(&built.tools, Slot::B, &os)?;
            disk.flip_root_bit(Slot::A, 1024)
        })?;
        let mut guest = plan.boot()?;
        guest.up("b")?;
        guest.ready()?;
        let a = guest.slot("a")?;
        assert!(a.reason.contains("block 0"), "{a:?}");
        Ok(())
    };
    both_slots_bad_is_said_and_tried_again => |firmware| {
        let plan = Guest::new(firmware)?.with_config("")?.prepare(|path, built| {
            let mut disk = Disk::open(path)?;
            disk.damage_uki(&built.tools, Slot::A, Damage::Random(3), false)
        })?;
        let mut guest = plan.boot()?;
        for _ in 0..2 {
            guest.wait_for("no slot is sound")?;
            guest.wait_for("starting again")?;
        }
        Ok(())
    };
}
uefi {
    kernel_file_is_cut_short => |firmware| file(firmware, Damage::Truncated(3 << 20), false, "hash");
    record_is_zeroed => |firmware| bad_record(firmware, &[0; 512]);
    record_is_torn => |firmware| {
        let mut torn = Record::fresh(Slot::A).to_sector();
        torn[40..].copy_from_slice(&noise()[40..]);
        bad_record(firmware, &torn)
    };
}
bios {
    kernel_file_has_a_flipped_bit => |firmware| file(firmware, Damage::Flipped(5 << 20), false, "hash");
    kernel_file_is_random => |firmware| file(firmware, Damage::Random(7), false, "hash");
    record_is_garbage => |firmware| bad_record(firmware, &noise());
}
}

#[test]
fn a_good_slot_that_never_became_healthy_comes_up_in_rescue() -> Result<()> {
    let plan = Guest::new(Firmware::Uefi)?
        .with_config(WEB)?
        .prepare(|path, _| Disk::open(path)?.set_record(&Record { starts: 3, ..Record::fresh(Slot::A) }))?;
    in_rescue(&mut plan.boot()?)
}

/// What lies in the state partition is too much for PID 1, at each start: the second start in rescue does without.
#[test]
fn a_state_of_which_pid_1_dies_ends_in_a_rescue_without_it() -> Result<()> {
    let mut options = Options::default();
    with_faults(&mut options, "crash:state:identity")?;
    let os = bundle(|o| {
        o.init = options.init;
        o.cmdline = options.cmdline;
    })?;
    let plan = Guest::new(Firmware::Uefi)?.with_config(WEB)?.prepare(|path, built| {
        let mut disk = Disk::open(path)?;
        disk.install(&built.tools, Slot::A, &os)?;
        disk.set_record(&Record { starts: 2, ..Record::fresh(Slot::A) })
    })?;
    let mut guest = plan.boot()?;
    guest.wait_for("the state partition is left alone in this start")?;
    in_rescue(&mut guest)?;
    let (machine, slots) = (guest.client()?.machine()?, guest.client()?.slots()?);
    assert!(machine.state_problem.contains("the next start uses it again"), "{:?}", machine.state_problem);
    assert!(slots.rescue.is_some_and(|why| why.contains("4 times")), "told, with the number of starts");
    assert_eq!(guest.slot("a")?.state, "good");
    Ok(())
}

/// A unit of the machine's own config: no slot is healthy with it. The one on trial is given up for it; the good one,
/// after three starts like that, leaves it out.
#[test]
fn a_required_unit_of_the_config_ends_a_trial_and_three_sick_starts_end_in_rescue() -> Result<()> {
    let os = bundle(|o| o.cmdline = "berth.health-deadline=20".into())?;
    let sick = "[units.web.unit]\nrequired_for_boot = true\n[units.web.container]\nimage = \"berth.example/none:1\"\n";
    let plan = Guest::new(Firmware::Bios)?
        .with_config(sick)?
        .prepare(|path, built| on_trial(&mut Disk::open(path)?, built, &os))?;
    let mut guest = plan.boot()?;
    guest.up("b")?;
    for starts in 1..=3 {
        guest.up("a")?;
        guest.api_listens()?;
        let slots = guest.client()?.slots()?;
        assert_eq!((slots.running.as_str(), slots.good.as_deref()), ("a", Some("a")));
        assert_eq!((slots.starts, slots.confirmed, slots.rescue), (starts, false, None));
        let b = guest.slot("b")?;
        assert!(b.state == "failed" && b.reason.contains("web"), "{b:?}");
        guest.rebooted();
        guest.running().reset()?;
    }
    guest.api_listens()?;
    in_rescue(&mut guest)
}

fn in_rescue(guest: &mut Guest) -> Result<()> {
    guest.wait_for("rescue")?;
    let slots = guest.client()?.slots()?;
    assert!(slots.rescue.is_some(), "{slots:?}");
    let units = guest.client()?.units()?;
    assert!(
        units.iter().all(|u| u.name != "web" || u.pid.is_none()),
        "a user unit runs in rescue: {units:?}"
    );
    Ok(())
}

/// Kernel files that are sound and roots that are not: only `init` can know that neither slot is any good.
#[test]
fn both_roots_damaged_is_said_and_tried_ever_more_slowly() -> Result<()> {
    let os = bundle(|_| {})?;
    let plan = Guest::new(Firmware::Bios)?.with_config("")?.prepare(|path, built| {
        let mut disk = Disk::open(path)?;
        disk.install(&built.tools, Slot::B, &os)?;
        disk.flip_root_bit(Slot::A, 1024)?;
        disk.flip_root_bit(Slot::B, 1024)
    })?;
    let mut guest = plan.boot()?;
    for words in ["2 bad starts in a row; trying again in 1 s", "3 bad starts in a row; trying again in 2 s"]
    {
        let line = guest.wait_for("neither slot came through its last start")?;
        assert!(line.contains(words), "{line:?} lacks {words:?}");
        assert!(line.contains("slot a ") && line.contains("slot b ") && line.contains("block 0"), "{line:?}");
    }
    Ok(())
}

fn noise() -> [u8; 512] {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
}

/// A record that nobody can read: hashes decide, slot A starts, the record is whole again afterwards.
fn bad_record(firmware: Firmware, sector: &[u8; 512]) -> Result<()> {
    let plan = Guest::new(firmware)?
        .with_config("")?
        .prepare(|path, _| Disk::open(path)?.set_record_sectors(sector, sector))?;
    let mut guest = plan.boot()?;
    guest.ready()?;
    let slots = guest.client()?.slots()?;
    assert_eq!((slots.running.as_str(), slots.good.as_deref(), slots.confirmed), ("a", Some("a"), true));
    let note = slots.record_note.unwrap_or_default();
    assert!(
        note.starts_with("boot record: ") && note.ends_with("whose files are sound was started"),
        "{note:?}"
    );
    let plan = guest.power_off()?;
    let record = Disk::open(plan.disk())?.record()?;
    assert_eq!(record.map(|r| (r.good, r.trial, r.starts)), Some((Slot::A, None, 0)));
    Ok(())
}

/// The disk goes bad while the machine runs and serves: all of the running root, so that whatever is read next is bad. A
/// keyboard that is plugged in has a driver read.
#[test]
fn the_root_goes_bad_under_a_running_machine() -> Result<()> {
    let os = bundle(|_| {})?;
    let plan = Guest::new(Firmware::Uefi)?
        .with_config("")?
        .machine(|machine| machine.raw(&["-device", "qemu-xhci,id=xhci"]))
        .prepare(|path, built| Disk::open(path)?.install(&built.tools, Slot::B, &os))?;
    let mut guest = plan.boot()?;
    guest.ready()?;
    assert_eq!(guest.client()?.slots()?.running, "a");
    // From here on: the machine may read its root, and tell, at any moment.
    guest.rebooted();
    let bad = vec![0x5a; 1 << 20];
    let mut disk = Disk::open(guest.plan().disk())?;
    let root = Slot::A.root();
    for at in (0..root.bytes).step_by(bad.len()) {
        disk.write(root, at, &bad)?;
    }
    guest.running().qmp("device_add", json!({ "driver": "usb-kbd", "bus": "xhci.0", "id": "new" }))?;
    guest.wait_for("differs from its hash")?;
    guest.up("b")?;
    guest.ready()?;
    let slots = guest.client()?.slots()?;
    assert_eq!((slots.running.as_str(), slots.good.as_deref()), ("b", Some("b")));
    let a = guest.slot("a")?;
    assert!(a.state == "failed" && a.reason.contains("block"), "{a:?}");
    Ok(())
}

#[test]
fn init_panics_in_the_initrd() -> Result<()> {
    fault(Firmware::Bios, "panic:initrd:verity", "asked to panic in step verity")
}

#[test]
fn init_panics_in_its_event_loop_again_and_again() -> Result<()> {
    fault(Firmware::Uefi, "panic:loop:turn", "panicked in its event loop")
}

#[test]
fn init_hangs_in_its_event_loop() -> Result<()> {
    fault(Firmware::Bios, "hang:loop:turn", "stopped without a word")
}

/// The kernel panics long after its start; the other slot has its words, out of the firmware's variables.
#[test]
fn a_panic_is_told_by_the_other_slot() -> Result<()> {
    let os = bundle(|options| drop(with_faults(options, "crash:loop:confirm")))?;
    let plan = Guest::new(Firmware::Uefi)?
        .with_config("")?
        .prepare(|path, built| on_trial(&mut Disk::open(path)?, built, &os))?;
    let mut guest = plan.boot()?;
    guest.wait_event(&Event::Panic)?;
    guest.up("a")?;
    guest.ready()?;
    let panic = guest.client()?.slots()?.panic.unwrap_or_default();
    assert!(panic.contains("Kernel panic - not syncing: Attempted to kill init"), "{panic:?}");
    assert_eq!(guest.slot("b")?.state, "failed");
    // Told once, and gone from the firmware.
    guest.rebooted();
    guest.running().press_ctrl_alt_del()?;
    guest.up("a")?;
    guest.ready()?;
    assert_eq!(guest.client()?.slots()?.panic, None);
    Ok(())
}
