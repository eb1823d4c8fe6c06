use super::*;
use crate::samples::{CONFIG, sample};
use crate::smbios::tests::tables;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_units::config;

struct Machine {
    dir: tempfile::TempDir,
    disks: Vec<(String, Result<Disk, String>)>,
    named: Option<String>,
}

impl Machine {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), disks: Vec::new(), named: None }
    }

    fn smbios(self, string: &str) -> Self {
        std::fs::write(self.dir.path().join("DMI"), tables(&[string.as_bytes()])).unwrap();
        self
    }

    fn fw_cfg(self, bytes: &[u8]) -> Self {
        std::fs::write(self.dir.path().join("size"), bytes.len().to_string()).unwrap();
        std::fs::write(self.dir.path().join("raw"), bytes).unwrap();
        self
    }

    fn disk(mut self, name: &str, bytes: &[u8]) -> Self {
        self.disks.push((name.to_owned(), Ok(Disk::from_bytes(bytes))));
        self
    }

    fn search(self) -> Outcome {
        let places = Places {
            seed: self.dir.path().join("seed"),
            named: self.named,
            smbios: self.dir.path().join("DMI"),
            fw_cfg: self.dir.path().to_owned(),
            disks: self.disks,
        };
        search(&places, Some(&"1".repeat(32)))
    }

    fn refused(self) -> (String, String) {
        match self.search().found {
            Found::Refused { source, report, .. } => (source, report),
            other => panic!("{other:?}"),
        }
    }
}

fn source(outcome: &Outcome) -> &str {
    match &outcome.found {
        Found::Config { source, text } => {
            assert!(text.starts_with(b"format = 1"));
            source
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_order_is_smbios_then_fw_cfg_then_disks() {
    let disk = || Machine::new().disk("vda", &[0; 4096]).disk("vdb", &sample("fat12.img"));
    assert_eq!(source(&disk().search()), "nocloud (vdb)");
    let with_fw_cfg = || disk().fw_cfg(CONFIG.as_bytes());
    assert_eq!(source(&with_fw_cfg().search()), "fw_cfg");
    assert_eq!(source(&with_fw_cfg().smbios("berth.config=format = 1").search()), "smbios");
    assert_eq!(source(&with_fw_cfg().smbios("something=else").search()), "fw_cfg");
}

#[test]
fn a_broken_first_place_is_told_not_skipped() {
    let (source, report) =
        Machine::new().smbios("berth.config=format = ").fw_cfg(CONFIG.as_bytes()).refused();
    assert_eq!(source, "smbios");
    assert!(report.contains("smbios:1:"), "{report}");
    let (source, report) =
        Machine::new().fw_cfg(&vec![b'#'; 70_000]).disk("vdb", &sample("rock.iso")).refused();
    assert_eq!(source, "fw_cfg");
    assert!(report.contains("70000 bytes"), "{report}");
}

#[test]
fn every_place_has_its_line() {
    let machine = Machine::new()
        .disk("vdb", &[0; 40_000])
        .disk("vdc", &sample("other.img"))
        .disk("sr0", &sample("rock-joliet.iso"));
    let mut machine = machine;
    machine.disks.push(("sr1".to_owned(), Err("No medium found".to_owned())));
    let Outcome { found: Found::Config { source, text }, looked, notes } = machine.search() else {
        panic!("not found")
    };
    assert_eq!(source, "nocloud (sr0)");
    let instance = config::parse("x", &text).unwrap().instance.unwrap();
    assert_eq!((instance.source.as_str(), instance.id.as_deref()), ("nocloud", Some("sample")));
    assert_eq!(instance.uuid, Some("1".repeat(32)));
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(
        looked,
        [
            "laid for this start: nothing",
            "kernel command line: names no volume",
            "SMBIOS type 11: this machine has no SMBIOS tables",
            "fw_cfg opt/berth/config: not there",
            "NoCloud, config drive: vdb: neither vfat nor iso9660",
            "NoCloud, config drive: vdc: vfat labelled \"DATA\"",
            "NoCloud: sr0: labelled cidata, with user-data, an instance id",
            "NoCloud, config drive: sr1: not readable: No medium found",
        ]
    );
    let Outcome { found: Found::None { cloud: None }, looked, .. } = Machine::new().smbios("x").search()
    else {
        panic!("found")
    };
    assert_eq!(looked[2], "SMBIOS type 11: no berth.config among 1 strings");
    assert_eq!(looked[4], "NoCloud, config drive: no disk but Berth's own");
    assert_eq!(looked[5], "cloud: none that the firmware names and Berth knows");
}

#[test]
fn two_volumes_are_refused_by_name() {
    let two = Machine::new().disk("vdb", &sample("fat12.img")).disk("sr0", &sample("rock.iso"));
    let (source, report) = two.refused();
    assert_eq!(source, "nocloud (vdb and sr0)");
    assert!(report.contains("detach"), "{report}");
    // A disk and its own partition that show the same volume are one.
    let same = Machine::new().disk("sdb", &sample("rock.iso")).disk("sdb1", &sample("rock.iso"));
    assert_eq!(source_of(same), "nocloud (sdb)");
}

fn source_of(machine: Machine) -> String {
    source(&machine.search()).to_owned()
}

#[test]
fn a_volume_without_a_usable_file_is_refused() {
    let (_, report) = Machine::new().disk("vdb", &sample("empty.img")).refused();
    assert!(report.contains("neither user-data nor meta-data"), "{report}");
    let torn = &sample("rock.iso")[..20 * 2048];
    let (source, report) = Machine::new().disk("vdb", torn).refused();
    assert!(source == "nocloud (vdb)" && report.contains("cut short"), "{report}");
}

#[test]
fn the_checkers_whole_report_is_handed_on() {
    let (source, report) = Machine::new().fw_cfg(b"format = 1\nhostnam = \"a\"\nnetwrk = 1\n").refused();
    assert_eq!(source, "fw_cfg");
    for expected in ["fw_cfg:2:1", "hostname", "fw_cfg:3:1"] {
        assert!(report.contains(expected), "{report}");
    }
    let keys = [7u8, 9].map(|n| {
        let body = [&b"\0\0\0\x0bssh-ed25519\0\0\0\x20"[..], &[n; 32]].concat();
        format!("ssh-ed25519 {} me", STANDARD.encode(&body))
    });
    let text = format!("format = 1\nhostnam = \"a\"\naccess.keys = {keys:?}\n");
    match Machine::new().fw_cfg(text.as_bytes()).search().found {
        Found::Refused { salvage, .. } => {
            let found = config::parse("salvage", &salvage).unwrap().access_keys;
            assert_eq!(found, keys, "who wrote it may ask about it");
        }
        other => panic!("{other:?}"),
    }
    for (bytes, why) in [
        (&b"format = 1\nx = \"\xff\""[..], "UTF-8"),
        (b"", "empty"),
        (b"#cloud-config\npackages: [x]\n", "fw_cfg:2:1: packages: there is no package manager"),
        (b"format = 1\0", ""),
    ] {
        let (_, report) = Machine::new().fw_cfg(bytes).refused();
        assert!(report.contains(why) && report.contains("fw_cfg"), "{report}");
    }
}

#[test]
fn a_cloud_config_is_translated() {
    match Machine::new().fw_cfg(b"#cloud-config\nhostname: a\n").search().found {
        Found::Config { text, .. } => assert_eq!(text, b"format = 1\nhostname = \"a\"\n"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_and_reports_are_bounded() {
    let mut machine = Machine::new();
    for n in 0..200 {
        machine.disks.push((format!("vd{n}"), Err("x".repeat(1000))));
    }
    let looked = machine.search().looked;
    assert_eq!(looked.len(), limits::LOOKED_LINES + 1);
    assert!(looked.iter().all(|line| line.len() <= limits::LINE_BYTES + 3));
    let looked = (limits::LOOKED_LINES + 1) * (limits::LINE_BYTES + 8);
    let notes = (limits::NOTES + 1) * (limits::NOTE_BYTES + 8);
    let most = limits::REPORT_BYTES + looked + notes;
    assert!(most < berth_units::limits::MESSAGE_BYTES * 3 / 4, "room for what JSON adds");
}

#[test]
fn the_cloud_that_the_firmware_names_is_told_when_nothing_is_nearer() {
    let on = |strings| {
        let machine = Machine::new();
        std::fs::write(machine.dir.path().join("DMI"), crate::smbios::tests::machine(strings, [7; 16]))
            .unwrap();
        machine
    };
    let outcome = on(["Amazon EC2", "m7i", "", ""]).search();
    assert_eq!(outcome.found, Found::None { cloud: Some("ec2") });
    assert_eq!(outcome.looked.last().unwrap(), "cloud: the firmware says that this is Amazon EC2");
    let outcome = on(["Google", "Google Compute Engine", "", ""]).disk("vdb", &sample("rock.iso")).search();
    assert!(matches!(outcome.found, Found::Config { .. }), "a volume is nearer");
    let outcome = on(["QEMU", "Standard PC", "", "ds=nocloud;s=http://192.0.2.1/"]).search();
    assert_eq!(outcome.found, Found::None { cloud: None });
    assert!(outcome.notes[0].contains("not supported; attach a volume"), "{:?}", outcome.notes);
}

#[test]
fn a_config_drive_is_read_from_either_file_system_and_comes_after_nocloud() {
    for image in ["drive.iso", "drive.img"] {
        let outcome = Machine::new().disk("sr0", &sample(image)).search();
        let Found::Config { source, text } = &outcome.found else { panic!("{outcome:?}") };
        assert_eq!(source, "config-drive (sr0)");
        let config = config::parse("x", text).unwrap();
        let instance = config.instance.unwrap();
        assert_eq!(instance.id.as_deref(), Some("83679162-1378-4288-a2d4-70e13ec132aa"));
        assert_eq!(instance.hostname.as_deref(), Some("drive"));
        assert_eq!((config.hostname.as_deref(), config.access_keys.len()), (Some("sample"), 1));
        assert_eq!(config.network.interfaces[0].addresses, ["192.0.2.5/24"]);
        assert!(outcome.notes[0].starts_with("admin_pass is not applied") && outcome.notes.len() == 1);
        let line = "config drive: sr0: labelled config-2, with user-data, an instance id, keys, a network";
        assert!(outcome.looked.iter().any(|looked| looked == line), "{:?}", outcome.looked);
    }
    let both = Machine::new().disk("vdb", &sample("drive.img")).disk("vdc", &sample("rock.iso"));
    assert_eq!(source_of(both), "nocloud (vdc)");
    // One disk with both labels, as tools leave it that change only one of them: FAT's boot sector has its own.
    let mut two = sample("drive.img");
    two[38..54].copy_from_slice(b"\x29\x12\x34\x56\x78CIDATA     ");
    let (source, report) = Machine::new().disk("vdb", &two).refused();
    assert_eq!(source, "nocloud (vdb)");
    assert!(report.contains("neither user-data nor meta-data"), "{report}");
}

#[test]
fn folders_that_lead_to_themselves_are_not_followed_for_ever() {
    let mut image = sample("drive.iso");
    // Each record of a folder leads to the root: `openstack` has `openstack` in it, and never `latest`.
    let root: Vec<u8> = image[16 * 2048 + 156 + 2..16 * 2048 + 156 + 18].to_vec();
    let joliet: Vec<u8> = "openstack".encode_utf16().flat_map(u16::to_be_bytes).collect();
    for name in [&b"OPENSTAC"[..], &joliet] {
        for at in 33..image.len() - name.len() {
            if image[at..].starts_with(name) {
                image[at - 31..at - 15].copy_from_slice(&root);
            }
        }
    }
    let (_, report) = Machine::new().disk("vdb", &image).refused();
    assert!(report.contains("it has no openstack/latest/meta_data.json"), "{report}");
}

#[test]
fn a_glance_sees_whose_the_volumes_are() {
    let machine = Machine::new()
        .disk("vda", &[0; 4096])
        .disk("vdb", &sample("drive.img"))
        .disk("sr0", &sample("rock.iso"))
        .disk("sr1", &sample("empty.img"));
    let seen: Vec<String> =
        glance(&machine.disks).into_iter().map(|seen| format!("{} {}", seen.place, seen.id)).collect();
    assert_eq!(seen, ["config-drive (vdb) 83679162-1378-4288-a2d4-70e13ec132aa", "nocloud (sr0) sample"]);
}

#[test]
fn a_volume_named_on_the_command_line_comes_before_the_firmware() {
    let named = |label: &str, disk: &[u8]| {
        let mut machine = Machine::new().smbios("berth.config=format = 1").disk("vdb", disk);
        machine.named = Some(label.to_owned());
        machine.search()
    };
    // Labelled as any NoCloud volume, and asked for by that name.
    let outcome = named("CIDATA", &sample("rock-joliet.iso"));
    assert_eq!(source(&outcome), "nocloud (vdb)");
    assert_eq!(outcome.looked[1], "kernel command line: names the volume \"CIDATA\", and it is there");
    let outcome = named("setup", &sample("rock-joliet.iso"));
    assert_eq!(source(&outcome), "smbios");
    assert_eq!(outcome.looked[1], "kernel command line: names the volume \"setup\", which is not there");
}
