//! `bench provision`: from power-on to a served page on a new machine, by where its config comes from; and what an installation
//! costs beside writing a whole image.
//!
//! The sources take turns, so that a host whose speed drifts slows all of them. Each machine is new: its image is unpacked, its state
//! made. "Baked" is the same disk with the config laid on it (`berth_updater::medium`), which nobody has to be asked for.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use super::page::{self, Section, median, round};
use super::{HOST, PATIENCE};
use crate::lines::Event;
use crate::machine::{Bus, Firmware, Kernel, Machine};
use crate::metadata::{Cloud, Instance, Service};
use crate::running::Running;
use crate::scratch::{self, Scratch};
use crate::{demo, disk, http};
use anyhow::{Context, Result, ensure};
use berth_image::tools::Tools;
use berth_image::{Format, Options, Outputs};
use berth_units::control::API_PORT;
use berth_units::model::{AfterInstall, DiskRule, InstallSettings};
use serde_json::json;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

/// An installation writes and reads back some fifty MB, in emulation.
const INSTALLATION: Duration = Duration::from_secs(300);
/// The disk that is installed, and the one that is written raw.
const DISK: u64 = 2 << 30;

const PAGE: Section = Section {
    heading: "Provision",
    intro: "Written by `cargo run -- bench provision`. New machines, direct boot, each until its page is there, the sources in turn; medians. \
            The installation, by BIOS from the ISO as a CD, is timed by the console's lines, `dd` by the start and the end of its unit in the same live system.",
    figures: &[
        ("seconds_baked", "the config is on the disk already: what the others are held against"),
        ("seconds_nocloud", "`cidata`, ISO 9660, with meta-data, user-data and network-config"),
        ("seconds_config_drive", "`config-2`, ISO 9660"),
        ("seconds_ec2", "user data of EC2's metadata service"),
        ("seconds_gce", "user data of Google's"),
        ("seconds_install", "from the choice of the disk to \"done\": written, read back, bootable"),
        ("seconds_raw_write", "`dd` of as many bytes as a disk image has, and a flush, in the same guest"),
        ("install_ratio_to_raw_write", "the first of these ÷ the second; goal 1.2"),
        ("install_written_mb", "what an installation writes, MB; the image has 646"),
        ("iso_mb", "the ISO, MB; goal 60"),
    ],
};

struct Bench {
    tools: Tools,
    outputs: Outputs,
    folder: Scratch,
    web: PathBuf,
    config: String,
    quiet: bool,
}

/// Where the config comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Baked,
    NoCloud,
    ConfigDrive,
    Ec2,
    Gce,
}

impl From {
    const ALL: [From; 5] = [From::Baked, From::NoCloud, From::ConfigDrive, From::Ec2, From::Gce];
}

/// Runs it all; `json` prints one object instead of text.
pub fn run(n: u32, json: bool) -> Result<()> {
    scratch::remove_on(&scratch::ENDS)?;
    let bench = Bench::prepare(json)?;
    let mut seconds = From::ALL.map(|_| Vec::new());
    for turn in 1..=n {
        for (from, taken) in From::ALL.into_iter().zip(&mut seconds) {
            bench.say(&format!("{from:?}, {turn} of {n}"));
            taken.push(bench.page(from).with_context(|| format!("{from:?}"))?);
        }
    }
    let [baked, nocloud, config_drive, ec2, gce] = seconds.map(|mut all| round(median(&mut all)));
    bench.say("an installation, and a raw write");
    let installed = bench.install()?;
    #[allow(clippy::cast_precision_loss)] // Tens of millions.
    let mb = |bytes: u64| (bytes as f64 / 1e5).round() / 10.0;
    let iso = fs::metadata(&bench.outputs.formats[&Format::Iso])?.len();
    let numbers = json!({
        "seconds_baked": baked,
        "seconds_nocloud": nocloud,
        "seconds_config_drive": config_drive,
        "seconds_ec2": ec2,
        "seconds_gce": gce,
        "seconds_install": round(installed.install),
        "seconds_raw_write": round(installed.raw),
        "install_ratio_to_raw_write": round(installed.install / installed.raw),
        "install_written_mb": mb(installed.written),
        "iso_mb": mb(iso),
    });
    PAGE.write(&numbers)?;
    page::print(&numbers, json);
    Ok(())
}

struct Installed {
    install: f64,
    raw: f64,
    written: u64,
}

impl Bench {
    fn prepare(quiet: bool) -> Result<Bench> {
        let say = |line: &str| eprintln!("{line}");
        let tools = berth_image::tools::ensure(&say)?;
        let options = Options { formats: [Format::Iso].into(), ..Options::default() };
        let outputs = berth_image::build(&options, &say)?;
        let folder = Scratch::new("bench")?;
        let web = folder.path().join("web.oci.tar");
        demo::write_web_image(&tools, &web)?;
        let config = demo::config_with(&berth_ctl::public_key_line()?, HOST);
        Ok(Bench { tools, outputs, folder, web, config, quiet })
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn new_disk(&self) -> Result<PathBuf> {
        let path = self.file("disk.raw");
        disk::copy(&self.outputs.raw, &path)?;
        Ok(path)
    }

    /// Seconds from power-on to the page.
    fn page(&self, from: From) -> Result<f64> {
        let disk = self.new_disk()?;
        let port = http::free_port()?;
        let machine = Machine::new(&self.tools, Firmware::Direct)
            .disk(&disk, Bus::Virtio)
            .read_only_disk(&self.web, Bus::Virtio)
            .kernel(Kernel::of(&self.outputs)?)
            .forward(port, 8080);
        let instance = Instance {
            id: "i-0123456789".into(),
            hostname: "bench".into(),
            user_data: Some(self.config.clone()),
            ..Instance::default()
        };
        let machine = match from {
            From::Baked => {
                disk::lay(&disk, &self.config)?;
                machine
            }
            From::NoCloud => machine.read_only_disk(self.volume("cidata", &self.nocloud())?, Bus::Virtio),
            From::ConfigDrive => {
                machine.read_only_disk(self.volume("config-2", &self.config_drive())?, Bus::Virtio)
            }
            From::Ec2 => machine.in_cloud(&Service::start(Cloud::Ec2, instance)?),
            From::Gce => machine.in_cloud(&Service::start(Cloud::Gce, instance)?),
        };
        let running = machine.boot()?;
        let (_, at) = http::wait_200(port, "/", PATIENCE).with_context(|| running.console().tail())?;
        Ok(at.duration_since(running.started()).as_secs_f64())
    }

    fn nocloud(&self) -> Vec<(&'static str, String)> {
        let network = "version: 2\nethernets:\n  any:\n    match: { name: \"eth0\" }\n    dhcp4: true\n";
        vec![
            ("meta-data", "instance-id: i-0123456789\nlocal-hostname: bench\n".into()),
            ("user-data", self.config.clone()),
            ("network-config", network.into()),
        ]
    }

    fn config_drive(&self) -> Vec<(&'static str, String)> {
        let meta = json!({ "uuid": "d1e2", "hostname": "bench" }).to_string();
        vec![("openstack/latest/meta_data.json", meta), ("openstack/latest/user_data", self.config.clone())]
    }

    /// An ISO 9660 volume.
    fn volume(&self, label: &str, files: &[(&str, String)]) -> Result<PathBuf> {
        let (tree, iso) = (self.file(&format!("{label}.d")), self.file(&format!("{label}.iso")));
        let _ = fs::remove_dir_all(&tree);
        for (name, text) in files {
            let path = tree.join(name);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&path, text)?;
        }
        let mut command = self.tools.command("xorriso");
        command.args(["-as", "mkisofs", "-quiet", "-J", "-r", "-V", label, "-o"]).arg(&iso).arg(&tree);
        let out = command.output()?;
        ensure!(out.status.success(), "xorriso: {}", String::from_utf8_lossy(&out.stderr));
        Ok(iso)
    }

    fn install(&self) -> Result<Installed> {
        let iso = self.file("berth.iso");
        fs::copy(&self.outputs.formats[&Format::Iso], &iso)?;
        let mib = fs::metadata(&self.outputs.raw)?.len() >> 20;
        let raw = format!(
            "\n[units.raw.container]\nimage = \"{}\"\nuser = \"root\"\ndevices = [\"/dev/vdb\"]\n\
             command = [\"/bin/busybox\", \"dd\", \"if=/dev/zero\", \"of=/dev/vdb\", \"bs=1M\", \"count={mib}\", \"conv=fsync\"]\n\
             [units.raw.restart]\npolicy = \"no\"\n",
            demo::WEB_IMAGE
        );
        disk::lay(&iso, &(self.config.clone() + &raw))?;
        let port = http::free_port()?;
        let mut machine = Machine::new(&self.tools, Firmware::Bios);
        for name in ["target.raw", "raw.raw"] {
            File::create(self.file(name))?.set_len(DISK)?;
            machine = machine.disk(self.file(name), Bus::Virtio);
        }
        let mut running = machine
            .read_only_disk(&self.web, Bus::Virtio)
            .disk(&iso, Bus::Cdrom)
            .boot_order(&[3])
            .forward(port, API_PORT)
            .boot()?;
        let between = |running: &mut Running, from: &str, to: &str| -> Result<f64> {
            let begun = running.wait_for(from, INSTALLATION)?.at;
            let ended = running.wait_for(to, INSTALLATION)?.at;
            Ok(ended.saturating_sub(begun).as_secs_f64())
        };
        let raw = between(&mut running, "raw      running", "raw      finished: exit code 0")?;
        let pin = running.machine_key(PATIENCE)?;
        running.wait_event_like("a good slot", PATIENCE, |e| matches!(e, Event::SlotGood(_)))?;
        let client =
            berth_ctl::Client::new("bench", "127.0.0.1", port, Some(&pin), &berth_ctl::ensure_key()?)?;
        let settings = InstallSettings {
            disk: Some(DiskRule::Path("/dev/vda".into())),
            then: AfterInstall::Stay,
            ..InstallSettings::default()
        };
        client.install(&settings)?;
        let install = between(&mut running, "install  onto /dev/vda", "install  done")?;
        let status = client.install_status()?;
        Ok(Installed { install, raw, written: status.total / 2 })
    }
}
