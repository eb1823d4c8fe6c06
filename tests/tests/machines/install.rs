//! One ISO for a CD and for a stick, UEFI and BIOS: the live system serves from memory and puts itself on a disk; what is installed serves, takes
//! an update, and goes on with its own config. What is not free is told, a cut is begun again, a machine is started anew.

use anyhow::{Context, Result, ensure};
use berth_qemu::demo::HEADING;
use berth_qemu::disk;
use berth_qemu::updates::{self, Publisher};
use berth_tests::shell::shell_as;
use berth_tests::{Bus, Firmware, Guest, Plan, SOON, WEB, config};
use berth_units::control::{Keep, UpdateOrder};
use berth_units::model::{AfterInstall, DiskRule, InstallSettings};
use std::fs::File;
use std::time::Duration;

/// Some fifty MB are written and read back, in emulation, on a busy computer.
const INSTALLATION: Duration = Duration::from_secs(300);
/// Two starts on a busy computer.
const TRIAL: Duration = Duration::from_secs(400);
/// Bytes of the disk.
const DISK: u64 = 2 << 30;

/// A machine whose medium has this config.
fn customised(firmware: Firmware, bus: Bus, medium: Bus, text: &str) -> Result<Plan> {
    let plan = Guest::of_medium(firmware, bus, DISK, medium)?.without_config();
    lay(&plan, text)?;
    Ok(plan)
}

/// Puts a config into the medium.
fn lay(plan: &Plan, text: &str) -> Result<()> {
    disk::lay(&plan.file("berth.iso"), &config(text)?)
}

const INSTALL: &str = "[install]\ndisk = \"only\"\nthen = \"stay\"\n";

/// Installs, and starts from the disk: what serves then, the medium being where it was.
fn installed(plan: Plan) -> Result<Guest> {
    let mut guest = plan.boot()?;
    guest.wait_for("installation medium /dev/s")?;
    guest.running().wait_for("install  done: Berth is on /dev/", INSTALLATION)?;
    // The live system has its units in memory.
    ensure!(guest.page("/")?.contains(HEADING));
    let live = guest.client()?;
    ensure!(live.machine()?.state_problem.contains("installation medium"));
    let refused = live.order_update(UpdateOrder::Check, false);
    ensure!(refused.is_err_and(|why| why.to_string().contains("berth install")));
    let plan = guest.power_off()?.machine(|machine| machine.boot_order(&[0]));
    let mut guest = plan.boot()?;
    guest.wait_for("applied from seed")?;
    guest.ready()?;
    ensure!(guest.page("/")?.contains(HEADING));
    let machine = guest.client()?.machine()?;
    ensure!(machine.state_problem.is_empty(), "{:?}", machine.state_problem);
    Ok(guest)
}

fn serves_and_keeps_its_config(firmware: Firmware, bus: Bus, medium: Bus) -> Result<()> {
    let guest = installed(customised(firmware, bus, medium, &format!("{WEB}\n{INSTALL}"))?)?;
    // The next start has the config from its own state.
    let mut guest = guest.power_off()?.boot()?;
    guest.wait_for("applied from state")?;
    guest.ready()?;
    ensure!(guest.page("/")?.contains(HEADING));
    Ok(())
}

fn serves_and_takes_an_update(firmware: Firmware, bus: Bus, medium: Bus) -> Result<()> {
    let plan = Guest::of_medium(firmware, bus, DISK, medium)?.without_config().reaches_the_host();
    let folder = plan.file("updates");
    std::fs::create_dir(&folder)?;
    let publisher = Publisher::new(&folder)?;
    lay(&plan, &format!("{}{}\n{INSTALL}", publisher.config()?, updates::demo::UNIT))?;
    let mut guest = installed(plan)?;
    publisher.publish(&updates::demo::system("2", None, &|line| eprintln!("{line}"))?, "2")?;
    guest.client()?.order_update(UpdateOrder::Reboot, false)?;
    guest.rebooted();
    guest.running().wait_for("update   version 2 took the place of", TRIAL)?;
    ensure!(guest.client()?.slots()?.running == "b");
    ensure!(guest.page("/")?.contains(HEADING));
    Ok(())
}

#[test]
fn uefi_from_a_cd_onto_nvme_and_an_update() -> Result<()> {
    serves_and_takes_an_update(Firmware::Uefi, Bus::Nvme, Bus::Cdrom)
}

#[test]
fn bios_from_a_stick_onto_sata_and_an_update() -> Result<()> {
    serves_and_takes_an_update(Firmware::Bios, Bus::Sata, Bus::Usb)
}

#[test]
fn bios_from_a_cd_onto_virtio() -> Result<()> {
    serves_and_keeps_its_config(Firmware::Bios, Bus::Virtio, Bus::Cdrom)
}

#[test]
fn uefi_from_a_stick_onto_another_one() -> Result<()> {
    let text = format!("{WEB}\n{INSTALL}removable = true\n");
    installed(customised(Firmware::Uefi, Bus::Usb, Bus::Usb, &text)?).map(drop)
}

/// A disk with sectors of 4,096 bytes, one that holds something, one that is too small, and an empty one as large as the first.
#[test]
fn what_is_not_free_is_told_a_cut_is_begun_again_and_large_sectors_start_by_uefi() -> Result<()> {
    let plan = customised(
        Firmware::Uefi,
        Bus::Virtio,
        Bus::Cdrom,
        &format!("{WEB}\n[install]\ndisk = \"smallest\"\nmin_size = \"1G\"\n"),
    )?;
    let [large, lvm, small] = ["large.raw", "lvm.raw", "small.raw"].map(|name| plan.file(name));
    for (path, bytes) in [(&large, DISK), (&lvm, DISK), (&small, 100 << 20)] {
        File::create(path)?.set_len(bytes)?;
    }
    disk::write_at(&lvm, 512, b"LABELONE")?;
    let plan = plan.machine(move |machine| {
        let machine = machine.disk(&large, Bus::Virtio).serial("LARGE").sectors(4096);
        machine.disk(&lvm, Bus::Virtio).serial("LVM").disk(&small, Bus::Virtio).serial("SMALL")
    });
    let mut guest = plan.boot()?;
    let refused = guest.wait_for("install  failed: ")?;
    ensure!(refused.contains("are alike") && refused.contains("serial LARGE"), "{refused}");
    guest.ready()?;
    let disks = guest.client()?.disks()?;
    let of = |serial: &str| disks.iter().find(|disk| disk.serial == serial).context("no such disk");
    ensure!(of("LVM")?.holds == "an LVM physical volume" && of("LVM")?.trouble.contains("erase = true"));
    ensure!(of("SMALL")?.trouble.contains("616 are needed"), "{disks:?}");
    ensure!(of("LARGE")?.trouble.is_empty() && of("LARGE")?.sector_bytes == 4096, "{disks:?}");
    ensure!(disks.iter().any(|disk| disk.trouble.contains("runs from it")), "{disks:?}");

    // The power goes in the middle.
    let onto = |path: &str| InstallSettings {
        disk: DiskRule::parse(path),
        then: AfterInstall::Poweroff,
        ..InstallSettings::default()
    };
    guest.client()?.install(&onto("serial:LARGE"))?;
    guest.running().wait_for("install  writing, ", INSTALLATION)?;
    let mut guest = guest.cut_power()?.boot()?;
    guest.wait_for("install  failed: ")?;
    guest.ready()?;
    let disks = guest.client()?.disks()?;
    let large = disks.iter().find(|disk| disk.serial == "LARGE").context("no such disk")?;
    ensure!(large.holds == "an installation that was cut off" && large.trouble.is_empty(), "{large:?}");
    guest.client()?.install(&onto("serial:LARGE"))?;
    guest.running().wait_for("install  done: Berth is on /dev/", INSTALLATION)?;
    // Behind the empty disk, the web image and the medium.
    let plan = guest.powered_off()?.machine(|machine| machine.boot_order(&[3]));
    let mut guest = plan.boot()?;
    guest.wait_for("applied from seed")?;
    guest.ready()?;
    ensure!(guest.page("/")?.contains(HEADING));
    Ok(())
}

#[test]
fn a_machine_is_started_anew_with_its_volumes_or_with_nothing() -> Result<()> {
    let keeper = shell_as(
        "root",
        "keeper",
        "[ -e /data/mark ] && echo again || echo new; echo here > /data/mark; $b sync; exec $b sleep 1000",
        "volumes = [\"data:/data\"]\n",
    );
    let mut guest = Guest::new(Firmware::Direct)?.with_config(&keeper)?.boot()?;
    guest.ready()?;
    guest.said("keeper", "new")?;
    let key = guest.running().machine_key(SOON)?;
    guest.client()?.reset(Keep::Volumes, Vec::new())?;
    guest.rebooted();
    guest.wait_for("this machine is started anew, keeping volumes")?;
    guest.wait_for("applied from fw_cfg")?;
    guest.ready()?;
    guest.said("keeper", "again")?;
    ensure!(guest.running().machine_key(SOON)? != key, "the new machine has the old one's key");
    ensure!(guest.client()?.history()?.generations.len() == 1);

    let refused = guest.client()?.reset(Keep::Nothing, b"format = 1\nhostnme = \"x\"\n".to_vec());
    ensure!(refused.is_err_and(|why| why.to_string().contains("hostname")));
    guest.client()?.reset(Keep::Nothing, config(&keeper)?.into_bytes())?;
    guest.rebooted();
    guest.wait_for("this machine is started anew, keeping nothing")?;
    guest.wait_for("applied from seed")?;
    guest.ready()?;
    guest.said("keeper", "new")
}
