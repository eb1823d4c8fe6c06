//! Telling a machine what to run: every source, their order, and a config with a mistake.

use anyhow::{Result, ensure};
use berth_qemu::demo::HEADING;
use berth_tests::{Built, Bus, Firmware, Guest, SOON, WEB, config};
use berth_units::model::Origin;
use std::path::Path;
use std::process::Command;

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A FAT volume labelled `cidata` whose `user-data` is `text`.
fn fat_volume(built: &Built, volume: &Path, text: &[u8]) -> Result<()> {
    let user_data = volume.with_extension("user-data");
    std::fs::write(&user_data, text)?;
    run(built
        .tools
        .command("mformat")
        .args(["-C", "-T", "4096", "-v", "CIDATA", "-i"])
        .arg(volume)
        .arg("::"))?;
    run(built.tools.command("mcopy").arg("-i").arg(volume).arg(&user_data).arg("::user-data"))
}

/// A CD labelled `cidata`.
fn cd(built: &Built, volume: &Path, text: &[u8]) -> Result<()> {
    let folder = volume.with_extension("files");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("user-data"), text)?;
    std::fs::write(folder.join("meta-data"), "instance-id: test\n")?;
    let mut make = built.tools.command("xorrisofs");
    run(make.args(["-quiet", "-V", "cidata", "-J", "-r", "-o"]).arg(volume).arg(&folder))
}

#[test]
fn smbios_comes_before_fw_cfg() -> Result<()> {
    let text = config(WEB)?;
    let other = config("")?.replace("\"test\"", "\"from-fw-cfg\"");
    let plan = Guest::new(Firmware::Direct)?.with_exact_config(&other);
    let mut guest = plan.machine(move |m| m.smbios(format!("berth.config={text}"))).boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let status = guest.client()?.config_status()?;
    assert_eq!((status.state.as_str(), status.source.as_str()), ("applied", "smbios"));
    assert_eq!(guest.client()?.machine()?.hostname, "test");
    Ok(())
}

#[test]
fn a_fat_volume_labelled_cidata_is_read() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.without_config();
    let volume = plan.file("seed.img");
    fat_volume(plan.built()?, &volume, config(WEB)?.as_bytes())?;
    let mut guest = plan.machine(move |m| m.read_only_disk(&volume, Bus::Virtio)).boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let source = guest.client()?.config_status()?.source;
    assert!(source.starts_with("nocloud"), "{source}");
    Ok(())
}

#[test]
fn a_cd_labelled_cidata_is_read_also_compressed_and_in_base64() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.without_config();
    let volume = plan.file("seed.iso");
    let plain = plan.file("berth.toml");
    std::fs::write(&plain, config(WEB)?)?;
    run(Command::new("gzip").arg("-9").arg(&plain))?;
    let encoded = Command::new("base64").arg(plan.file("berth.toml.gz")).output()?.stdout;
    cd(plan.built()?, &volume, &encoded)?;
    let mut guest = plan.machine(move |m| m.read_only_disk(&volume, Bus::Cdrom)).boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    Ok(())
}

#[test]
fn a_config_with_a_mistake_is_refused_whole_and_a_mended_one_is_taken() -> Result<()> {
    let broken = format!("{}memroy = \"64M\"\n", config(WEB)?);
    let mut guest = Guest::new(Firmware::Direct)?.with_exact_config(&broken).boot()?;
    guest.wait_for("config   refused, from fw_cfg:")?;
    guest.wait_for("memroy")?;
    guest.wait_for("config   1 access key of it is valid until a config is applied")?;
    // The rest of the machine is up all the same.
    guest.wait_for("lease ")?;
    guest.ready()?;
    assert!(!guest.serves(), "a unit of a refused config runs");
    // Who has the key in it can ask what is wrong.
    let client = guest.client()?;
    let status = client.config_status()?;
    assert_eq!((status.state.as_str(), status.source.as_str()), ("refused", "fw_cfg"));
    let line = broken.lines().count();
    let mistake = format!("fw_cfg:{line}:1: unknown field \"memroy\"");
    assert!(status.report.contains(&mistake), "{}", status.report);
    assert!(client.units()?.iter().all(|unit| unit.origin == Origin::System));
    assert_eq!(client.machine()?.hostname, "test", "the machine is found by its name");

    // Each unit that has run says so at its start, and when it has stopped.
    let console = guest.running().console().clone();
    let plan = guest.power_off()?.with_config(WEB)?;
    console.wait(0, "the end", SOON, |line| line.contains("all units stopped"))?;
    for line in console.lines() {
        let mut words = line.text.split_whitespace();
        let (unit, state) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let ran = ["running", "healthy", "backoff:", "stopped"].contains(&state);
        let system = ["api", "fetch", "meta", "net", "store", "time"].contains(&unit);
        assert!(!ran || system, "a unit of a refused config ran: {:?}", line.text);
    }
    assert!(console.lines().iter().any(|line| line.text == "net      stopped"), "{}", console.tail());

    let mut guest = plan.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    Ok(())
}

#[test]
fn no_config_anywhere_is_said_with_what_was_looked_for() -> Result<()> {
    let mut guest = Guest::new(Firmware::Direct)?.without_config().without_web_image().boot()?;
    guest.wait_for("config   none found")?;
    guest.wait_for("SMBIOS")?;
    guest.ready()
}
