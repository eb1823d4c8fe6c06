//! A good machine: every firmware, every way to tell it what to run, every way to switch it off.

use anyhow::{Context, Result};
use berth_qemu::demo::HEADING;
use berth_tests::{BOOT, Bus, Event, Firmware, Guest, SOON, WEB, config};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn serves_and_answers(firmware: Firmware, name: &str) -> Result<()> {
    let mut guest = Guest::new(firmware)?.with_config(WEB)?.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let draft = guest.answer("/draft.html")?;
    assert!(draft.contains(" 404 "), "the second layer does not take it away: {draft}");

    guest.healthy("web")?;
    let web = guest.unit("web")?;
    assert_eq!(web.state, "healthy");
    assert!(web.privileges.is_empty(), "the web unit gave up isolation: {:?}", web.privileges);
    let b = guest.slot("b")?;
    assert_eq!((b.state.as_str(), b.version.as_str(), b.root_hash.as_str()), ("empty", "", ""));
    let slots = guest.client()?.slots()?;
    assert_eq!((slots.running.as_str(), slots.firmware.as_str(), slots.confirmed), ("a", name, true));
    let times = guest.client()?.boot_times()?;
    assert!(times.first_container_us.is_some());
    assert!(times.steps.iter().any(|s| s.stage == "initrd") && times.steps.iter().any(|s| s.stage == "main"));
    assert!(!times.steps.iter().any(|s| s.outcome.contains("failed")), "{:?}", times.steps);
    let log = guest.log("web")?;
    assert!(log.iter().any(|l| l.contains("response:200")), "no request in the web unit's log: {log:?}");
    guest.power_off()?;
    Ok(())
}

#[test]
fn uefi_boot_serves_a_page_and_answers_the_operator() -> Result<()> {
    serves_and_answers(Firmware::Uefi, "uefi")
}

#[test]
fn bios_boot_serves_a_page_and_answers_the_operator() -> Result<()> {
    serves_and_answers(Firmware::Bios, "bios")
}

#[test]
fn direct_boot_serves_a_page_and_answers_the_operator() -> Result<()> {
    serves_and_answers(Firmware::Direct, "direct")
}

#[test]
fn config_and_identity_outlive_a_changed_source_until_it_is_asked_again() -> Result<()> {
    let mut guest = Guest::new(Firmware::Direct)?.with_config(WEB)?.boot()?;
    guest.ready()?;
    let first = guest.client()?.config_status()?;
    assert_eq!((first.state.as_str(), first.source.as_str()), ("applied", "fw_cfg"));
    let machine = guest.client()?.machine()?;

    // Something else is in the source now, with a mistake: nobody looks, and when an operator has it looked for it
    // is refused.
    let other = config(WEB)?.replace("hostname = \"test\"", "hostname = \"other\"");
    let plan = guest.power_off()?.with_exact_config(&format!("{other}memroy = \"64M\"\n"));
    let mut guest = plan.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let second = guest.client()?.config_status()?;
    assert_eq!((second.state.as_str(), &second.sha256), ("applied", &first.sha256));
    assert_eq!(second.reload, None);
    let again = guest.client()?.machine()?;
    assert_eq!(machine.machine_id, again.machine_id);
    assert_eq!(again.hostname, "test");
    let reload = guest.client()?.config_reload()?;
    assert_eq!((reload.state.as_str(), reload.source.as_str()), ("refused", "fw_cfg"));
    assert!(reload.report.contains("unknown field \"memroy\""), "{}", reload.report);
    assert!(guest.page("/")?.contains(HEADING));

    // With the mistake mended it is taken, and in force from the next boot.
    let mut guest = guest.power_off()?.with_exact_config(&other).boot()?;
    guest.ready()?;
    assert_eq!(guest.client()?.config_status()?.sha256, first.sha256);
    let reload = guest.client()?.config_reload()?;
    assert_eq!((reload.state.as_str(), reload.source.as_str()), ("kept", "fw_cfg"), "{reload:?}");
    let client = guest.client()?;
    assert_eq!((client.machine()?.hostname.as_str(), client.config_status()?.sha256), ("test", first.sha256));
    client.reboot()?;
    guest.wait_event(&Event::Rebooting)?;
    guest.wait_event(&Event::Reset { by_guest: true })?;
    guest.rebooted();
    guest.ready()?;
    assert_eq!(guest.client()?.machine()?.hostname, "other");
    assert_eq!(guest.client()?.config_status()?.sha256, reload.sha256);
    Ok(())
}

#[test]
fn operator_reboots_and_powers_off() -> Result<()> {
    // With a second card, on a network that leads nowhere.
    let plan = Guest::new(Firmware::Direct)?.with_config(WEB)?;
    let plan = plan.machine(|machine| machine.network_card("52:54:00:be:00:02", "10.0.3.0/24", true));
    let mut guest = plan.boot()?;
    guest.ready()?;
    let told = |line: &str| line.contains("10.0.3.15/24");
    guest.running().console().wait(0, "the second address", BOOT, told)?;
    let addresses = guest.client()?.machine()?.addresses;
    for network in ["10.0.2.15/24", "10.0.3.15/24"] {
        assert!(addresses.iter().any(|(_, address)| address == network), "{addresses:?}");
    }
    guest.client()?.reboot()?;
    guest.wait_event(&Event::Rebooting)?;
    guest.wait_event(&Event::Reset { by_guest: true })?;
    guest.rebooted();
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    guest.client()?.poweroff()?;
    guest.wait_event(&Event::PoweringOff)?;
    guest.wait_event(&Event::Shutdown { by_guest: true })?;
    guest.running().wait_off(SOON)?;
    Ok(())
}

#[test]
fn ctrl_alt_del_reboots_and_an_operator_halts() -> Result<()> {
    let identity = ["-uuid", "4c4c4544-0042-3010-8051-b4c04f4e3232", "-rtc", "base=2000-01-01"];
    let fixed = "[[network.interface]]\nmatch = \"eth0\"\naddress = [\"10.0.2.15/24\", \"10.0.2.77/24\"]\ngateway = [\"10.0.2.2\"]\n";
    let plan = Guest::new(Firmware::Direct)?.with_config(fixed)?.machine(move |m| m.raw(&identity));
    let mut guest = plan.boot()?;
    guest.ready()?;
    let addresses = guest.client()?.machine()?.addresses;
    for address in ["10.0.2.15/24", "10.0.2.77/24"] {
        assert!(addresses.contains(&("eth0".to_owned(), address.to_owned())), "{addresses:?}");
    }
    assert_eq!(guest.client()?.machine()?.machine_id, identity[1].replace('-', ""));
    // The image was built more than twenty years after that.
    let steps = guest.client()?.boot_times()?.steps;
    let clock = steps.iter().find(|step| step.name == "clock").map_or("", |step| step.outcome.as_str());
    let raised = clock.strip_prefix("raised by ").and_then(|rest| rest.strip_suffix(" s"));
    let raised: u64 = raised.with_context(|| format!("the clock was not raised: {clock:?}"))?.parse()?;
    assert!(raised > 20 * 365 * 86_400, "{clock}");
    guest.running().press_ctrl_alt_del()?;
    guest.wait_event(&Event::Rebooting)?;
    guest.wait_event(&Event::Reset { by_guest: true })?;
    guest.rebooted();
    guest.ready()?;

    // Halted, it stays on: state unmounted, watchdog disarmed.
    guest.client()?.halt()?;
    guest.wait_for("halted; the machine may be switched off")?;
    let deadline = Instant::now() + SOON;
    while !guest.running().console().tail().contains("System halted") {
        assert!(Instant::now() < deadline, "{}", guest.running().console().tail());
        // The processor stops before the line ends, so there is no line to wait for.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(guest.running().qmp("query-status", Value::Null)?["status"], "running");
    let last = guest.running().console().tail();
    assert!(
        !last.contains("gave up") && !last.contains("watchdog not") && !last.contains("did not stop"),
        "{last}"
    );
    guest.cut_power()?;
    Ok(())
}

#[test]
fn a_network_card_that_is_plugged_in_later_gets_an_address() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.with_config("")?.without_web_image();
    let mut guest = plan.machine(|m| m.raw(&["-device", "pcie-root-port,id=rp,chassis=1"])).boot()?;
    guest.ready()?;
    let late = |address: &(String, String)| address.1 == "10.0.9.15/24";
    assert!(!guest.client()?.machine()?.addresses.iter().any(late));

    let network = json!({ "type": "user", "id": "late", "net": "10.0.9.0/24", "restrict": true });
    guest.running().qmp("netdev_add", network)?;
    let card = json!({ "driver": "virtio-net-pci", "netdev": "late", "bus": "rp", "romfile": "" });
    guest.running().qmp("device_add", card)?;
    let told = |line: &str| line.contains("10.0.9.15/24");
    guest.running().console().wait(0, "the late card's address", SOON, told)?;
    let addresses = guest.client()?.machine()?.addresses;
    assert!(addresses.iter().any(late), "{addresses:?}");
    assert!(addresses.iter().any(|(_, address)| address == "10.0.2.15/24"), "{addresses:?}");
    Ok(())
}

#[test]
fn boots_from_sata_and_nvme() -> Result<()> {
    for (firmware, bus) in [(Firmware::Bios, Bus::Sata), (Firmware::Uefi, Bus::Nvme)] {
        let mut guest = Guest::new(firmware)?.on(bus).with_config(WEB)?.boot()?;
        guest.ready()?;
        assert!(guest.page("/")?.contains(HEADING));
    }
    Ok(())
}

#[test]
fn a_stopping_unit_that_ignores_the_signal_does_not_keep_the_machine() -> Result<()> {
    let config = r#"
[units.stubborn.container]
image = "berth.example/web:1"
command = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1000; done"]
user = "root"
stop_timeout = "2s"
"#;
    let mut guest = Guest::new(Firmware::Direct)?.with_config(config)?.boot()?;
    guest.ready()?;
    guest.power_off()?;
    Ok(())
}
