//! Telling a machine what to run: every source, their order, and a config with a mistake.

use anyhow::{Result, ensure};
use berth_qemu::demo::HEADING;
use berth_tests::{Built, Bus, Firmware, Guest, Plan, SOON, WEB, config, public_key};
use berth_units::model::Origin;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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

/// Debian's `cloud-localds`, a script that calls programs of the tools tree.
fn cloud_localds(plan: &Plan, arguments: &[&str], files: &[(&str, &str)]) -> Result<PathBuf> {
    let tools = &plan.built()?.tools;
    let bin = plan.file("bin");
    std::fs::create_dir_all(&bin)?;
    for name in ["genisoimage", "qemu-img", "mkfs.vfat", "mcopy", "mkdosfs"] {
        let program = tools.command(name);
        let words: Vec<String> = std::iter::once(program.get_program())
            .chain(program.get_args())
            .map(|word| format!("'{}'", word.display()))
            .collect();
        let script = bin.join(name);
        std::fs::write(
            &script,
            format!(
                "#!/bin/sh\nexport MTOOLS_SKIP_CHECK=1 MTOOLSRC=/dev/null\nexec {} \"$@\"\n",
                words.join(" ")
            ),
        )?;
        std::fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let seed = plan.file("seed.img");
    let mut make = Command::new("bash");
    make.arg(tools.root().join("usr/bin/cloud-localds")).env("PATH", path).args(arguments).arg(&seed);
    for (name, text) in files {
        let file = plan.file(name);
        std::fs::write(&file, text)?;
        make.arg(file);
    }
    run(&mut make)?;
    Ok(seed)
}

#[test]
fn seeds_that_cloud_localds_makes_are_read_with_all_that_they_say() -> Result<()> {
    let meta = format!(
        "instance-id: i-seed\nlocal-hostname: node1.example.org\npublic-keys:\n  me: {}\n  old: ssh-rsa AAAAB3NzaC1yc2E old@laptop\n",
        public_key()?
    );
    for (arguments, bus) in [(&[][..], Bus::Cdrom), (&["--filesystem", "vfat"], Bus::Usb)] {
        let plan = Guest::new(Firmware::Direct)?.without_config();
        let files = [("user-data", format!("format = 1\n{WEB}")), ("meta-data", meta.clone())];
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let seed = cloud_localds(&plan, arguments, &files)?;
        let mut guest = plan.machine(move |m| m.read_only_disk(&seed, bus)).boot()?;
        guest.wait_for("\"ssh-rsa … old@laptop\" is of type")?;
        guest.ready()?;
        assert!(guest.page("/")?.contains(HEADING));
        // The key is the metadata's.
        let client = guest.client()?;
        assert_eq!(client.machine()?.hostname, "node1");
        assert_eq!(client.config_status()?.instance, "i-seed (nocloud)");
    }
    Ok(())
}

#[test]
fn a_config_drive_gives_name_keys_network_and_user_data() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.without_config();
    let folder = plan.file("drive/openstack/latest");
    std::fs::create_dir_all(&folder)?;
    let meta = format!(
        r#"{{"uuid": "83679162-1378-4288-a2d4-70e13ec132aa", "hostname": "drive.novalocal", "public_keys": {{"me": "{}"}}}}"#,
        public_key()?
    );
    // QEMU's first card, at the address to which its ports lead.
    let network = r#"{"links": [{"id": "tap0", "type": "ovs", "ethernet_mac_address": "52:54:00:12:34:56"}],
        "networks": [{"id": "n", "link": "tap0", "type": "ipv4", "ip_address": "10.0.2.15", "netmask": "255.255.255.0",
                      "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.2.2"}]}],
        "services": [{"type": "dns", "address": "10.0.2.3"}]}"#;
    let user = format!("format = 1\n{WEB}");
    for (name, text) in [("meta_data.json", &meta[..]), ("network_data.json", network), ("user_data", &user)]
    {
        std::fs::write(folder.join(name), text)?;
    }
    let volume = plan.file("drive.iso");
    let mut make = plan.built()?.tools.command("genisoimage");
    run(make.args(["-quiet", "-V", "config-2", "-J", "-r", "-o"]).arg(&volume).arg(plan.file("drive")))?;
    let mut guest = plan.machine(move |m| m.read_only_disk(&volume, Bus::Cdrom)).boot()?;
    guest.wait_for("config   applied from config-drive (")?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    let client = guest.client()?;
    let machine = client.machine()?;
    assert_eq!(machine.hostname, "drive");
    assert!(
        machine.addresses.contains(&("eth0".to_owned(), "10.0.2.15/24".to_owned())),
        "{:?}",
        machine.addresses
    );
    assert_eq!(client.config_status()?.instance, "83679162-1378-4288-a2d4-70e13ec132aa (config-drive)");
    let lease = guest.running().console().lines().iter().any(|line| line.text.contains("lease "));
    ensure!(!lease, "DHCP was asked for an address that the drive gives");
    Ok(())
}

#[test]
fn a_cloud_config_and_a_network_config_make_a_machine() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.without_config();
    let user = format!(
        "#cloud-config\nhostname: cloudy\ntimezone: Europe/Berlin\nssh_authorized_keys:\n- {}\n- ssh-rsa AAAAB3NzaC1yc2E old@laptop\nusers: [default]\ngrowpart: {{mode: auto}}\n\
         write_files:\n- path: /etc/greeting\n  content: |\n    hello from write_files\n- {{path: /etc/token, permissions: '0600', encoding: b64, content: c2VjcmV0}}\nruncmd:\n\
         - echo \"it's $TZ\"\n- [/bin/busybox, echo, two words]\nberth:\n  runcmd_image: &image berth.example/web:1\n  units:\n    teller:\n      container:\n        image: *image\n        \
         command: [/bin/sh, -c, '/bin/busybox cat /etc/greeting /etc/token']\n        mounts: ['etc-greeting:/etc/greeting', 'etc-token:/etc/token']\n      restart: {{policy: 'no'}}\n",
        public_key()?
    );
    let network = "network:\n  version: 2\n  ethernets:\n    eth0:\n      addresses: [10.0.2.15/24]\n      gateway4: 10.0.2.2\n      nameservers: {addresses: [192.0.2.53]}\n";
    let file = plan.file("network-config");
    std::fs::write(&file, network)?;
    let arguments = ["--network-config", &file.display().to_string()];
    let meta = "instance-id: i-cloudy\nlocal-hostname: other\n";
    let seed = cloud_localds(&plan, &arguments, &[("user-data", &user), ("meta-data", meta)])?;
    let mut guest = plan.machine(move |m| m.read_only_disk(&seed, Bus::Cdrom)).boot()?;
    guest.wait_for("is of type \"ssh-rsa\"")?;
    guest.ready()?;
    for (unit, line) in [
        ("teller", "hello from write_files"),
        ("teller", "secret"),
        ("runcmd", "it's Europe/Berlin"),
        ("runcmd", "two words"),
    ] {
        guest.said(unit, line)?;
    }
    let client = guest.client()?;
    assert_eq!(client.machine()?.hostname, "cloudy");
    let status = client.config_status()?;
    assert_eq!(status.instance, "i-cloudy (nocloud)");
    let has = |text: &str| assert!(status.notes.iter().any(|note| note.contains(text)), "{:?}", status.notes);
    has(":8: growpart: no-op: ");
    has("/etc/greeting is etc-greeting in [files]");
    let shown = client.config_text()?;
    assert!(shown.contains("address = [\"10.0.2.15/24\"]") && !shown.contains("= \"secret\""), "{shown}");
    Ok(())
}

#[test]
fn a_bad_seed_costs_nobody_the_machine_and_a_mended_one_is_taken() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.without_config();
    let meta = format!("instance-id: i-1\npublic-keys: [\"{}\"]\n", public_key()?);
    let good = format!("format = 1\n{WEB}");
    // Torn: the metadata is there, the end of the user data is not.
    let long = format!("{good}{}", "# A comment that makes this file longer.\n".repeat(4000));
    let seed = plan.file("seed.img");
    let built = plan.built()?;
    let (meta_data, user_data) = (plan.file("meta-data"), plan.file("user"));
    std::fs::write(&meta_data, &meta)?;
    let write = |user: &[u8]| -> Result<()> {
        if seed.exists() {
            std::fs::remove_file(&seed)?;
        }
        std::fs::write(&user_data, user)?;
        run(built
            .tools
            .command("mformat")
            .args(["-C", "-T", "4096", "-v", "CIDATA", "-i"])
            .arg(&seed)
            .arg("::"))?;
        for (from, to) in [(&meta_data, "::meta-data"), (&user_data, "::user-data")] {
            run(built.tools.command("mcopy").arg("-i").arg(&seed).arg(from).arg(to))?;
        }
        Ok(())
    };
    write(long.as_bytes())?;
    std::fs::File::options().write(true).open(&seed)?.set_len(128 * 1024)?;
    let (torn, second) = (seed.clone(), plan.file("second.iso"));
    let attached = second.clone();
    let plan = plan.machine(move |m| {
        let m = m.read_only_disk(&torn, Bus::Virtio);
        if attached.exists() { m.read_only_disk(&attached, Bus::Virtio) } else { m }
    });
    let refused = |plan: Plan, why: &str| -> Result<Plan> {
        let mut guest = plan.boot()?;
        guest.wait_for("config   refused, from nocloud (")?;
        guest.wait_for(why)?;
        guest.ready()?;
        assert!(!guest.serves(), "a unit of a refused config runs");
        assert_eq!(guest.client()?.config_status()?.state, "refused");
        guest.power_off()
    };
    let plan = refused(plan, "user-data: it is cut short")?;
    // Two at once, with both labels.
    write(good.as_bytes())?;
    cd(built, &second, good.as_bytes())?;
    let plan = refused(plan, "both are labelled cidata")?;
    std::fs::remove_file(&second)?;
    // A script, by an editor of another system.
    write(b"\xef\xbb\xbf#!/bin/sh\r\nreboot\r\n")?;
    let plan = refused(plan, "it is a script")?;
    write(good.replace('\n', "\r\n").as_bytes())?;
    let mut guest = plan.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    Ok(())
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
