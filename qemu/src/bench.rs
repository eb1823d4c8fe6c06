//! `bench boot`: time to the first page against the floor on the same machine in the same run, memory, sizes.
//!
//! Floor and Berth are booted in turn, so that a machine whose speed drifts slows both. The clock runs from the start of QEMU to
//! the first answer 200 of overlapping requests. "Warm" is a machine that has its config and its image already, which
//! is every boot but the first.

#![allow(clippy::print_stdout, clippy::print_stderr)]

pub mod layers;
mod oci;
pub(crate) mod page;
pub mod provision;
mod pull;
pub mod units;

use page::{Section, median, round};

use crate::lines::Event;
use crate::machine::{Bus, Firmware, Kernel, Machine};
use crate::running::Running;
use crate::scratch::{self, Scratch};
use crate::{accel, demo, disk, floor, http};
use anyhow::{Context, Result};
use berth_image::tools::Tools;
use berth_image::{Compression, Options, Outputs};
use berth_units::control::API_PORT;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An emulated boot takes seconds; this ends a hang.
const PATIENCE: Duration = Duration::from_secs(120);
/// The web unit shares the machine's network, as the floor's server does.
const HOST: &str = "mode = \"host\"";
/// The web unit has its own: bridge, address, packet filter.
const BRIDGE: &str = "ports = [\"8080:8080\"]";
/// Memory sizes tried for "boots and serves in", MiB, falling.
const MEMORY: [u32; 5] = [128, 112, 96, 80, 64];

struct Bench {
    tools: Tools,
    outputs: Outputs,
    folder: Scratch,
    web: PathBuf,
    warm: PathBuf,
    warm_bridge: PathBuf,
    quiet: bool,
}

/// Runs it all; `json` prints one object on standard output instead of the table.
pub fn boot(n: u32, json: bool) -> Result<()> {
    scratch::remove_on(&scratch::ENDS)?;
    let bench = Bench::prepare(&Options::default(), json)?;
    let floor_kernel = floor::kernel(&bench.tools, &bench.outputs, bench.folder.path())?;

    let (mut floors, mut berths) = (Vec::new(), Vec::new());
    for round in 1..=n {
        bench.say(&format!("direct boot {round} of {n}: floor, Berth"));
        floors.push(
            bench.page(
                Machine::new(&bench.tools, Firmware::Direct).no_watchdog().kernel(floor_kernel.clone()),
            )?,
        );
        berths.push(bench.page(bench.warm(Firmware::Direct)?)?);
    }
    let mut ratios: Vec<f64> = floors.iter().zip(&berths).map(|(f, b)| b / f).collect();
    let (mut uefi, mut bios, mut first, mut bridge) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut uefi_before, mut bios_before) = (Vec::new(), Vec::new());
    for round in 1..=n.min(3) {
        bench.say(&format!("UEFI, BIOS, first boot: {round} of {}", n.min(3)));
        for (firmware, pages, befores) in
            [(Firmware::Uefi, &mut uefi, &mut uefi_before), (Firmware::Bios, &mut bios, &mut bios_before)]
        {
            let (page, before) = bench.page_and_before_kernel(bench.warm(firmware)?)?;
            pages.push(page);
            befores.push(before);
        }
        bridge.push(bench.page(bench.machine(Firmware::Direct, &bench.warm_bridge, BRIDGE)?.snapshot())?);
        first.push(bench.page(bench.cold(Firmware::Direct)?)?);
    }
    let mut serves = None;
    for mib in MEMORY {
        bench.say(&format!("serves in {mib} MiB?"));
        if bench.page(bench.warm(Firmware::Direct)?.memory(mib)).is_err() {
            break;
        }
        serves = Some(mib);
    }
    let result = json!({
        "accelerator": accel::detect(&bench.tools).to_string(),
        "boots": n,
        "ratio_to_floor": round(median(&mut ratios)),
        "seconds_floor": round(median(&mut floors)),
        "seconds_direct": round(median(&mut berths)),
        "seconds_direct_bridge": round(median(&mut bridge)),
        "seconds_direct_first_boot": round(median(&mut first)),
        "seconds_uefi": round(median(&mut uefi)),
        "seconds_uefi_before_kernel": round(median(&mut uefi_before)),
        "seconds_bios": round(median(&mut bios)),
        "seconds_bios_before_kernel": round(median(&mut bios_before)),
        "serves_in_mib": serves,
        "pid1_rss_kib": bench.pid1_rss_kib()?,
        "disk_compressed_mb": round(compressed_mb(&bench.tools, &bench.outputs.raw)?),
        "programs_in_root": programs(&bench.outputs),
    });
    PAGE.write(&result)?;
    page::print(&result, json);
    Ok(())
}

/// `bench root`: what the root's compression costs and saves, as the table of `docs/image.md`. The images are booted in
/// turn, warm and direct.
pub fn root(n: u32) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("berth-bench-").tempdir()?;
    let kinds =
        [("uncompressed", Compression::None), ("lz4hc,9", Compression::Lz4hc), ("zstd,9", Compression::Zstd)];
    let mut benches = Vec::new();
    for (name, compression) in kinds {
        let options = Options { compression, out: folder.path().join(name), ..Options::default() };
        benches.push((name, Bench::prepare(&options, false)?, Vec::new()));
    }
    for round in 1..=n {
        eprintln!("boot {round} of {n}");
        for (_, bench, seconds) in &mut benches {
            seconds.push(bench.page(bench.warm(Firmware::Direct)?)?);
        }
    }
    println!("| root | erofs, MB | `zstd -9` of the disk, MB | time, s |\n|---|---|---|---|");
    for (name, bench, mut seconds) in benches {
        let erofs = std::fs::metadata(&bench.outputs.bundle.root)?.len() / 100_000;
        let disk = compressed_mb(&bench.tools, &bench.outputs.raw)?;
        println!("| {name} | {}.{} | {disk:.1} | {:.2} |", erofs / 10, erofs % 10, median(&mut seconds));
    }
    Ok(())
}

/// Its part of the page.
const PAGE: Section = Section {
    heading: "Boot",
    intro: "Written by `cargo run -- bench boot`. Floor and Berth are booted in turn in the same run; the clock runs from the start of \
            QEMU to the first answer 200 of overlapping requests.",
    figures: &MEANING,
};

/// What each figure is.
const MEANING: [(&str, &str); 15] = [
    ("accelerator", "what carried out the guest's instructions"),
    ("boots", "boots of each kind (at most 3 of UEFI, BIOS and first boots)"),
    (
        "ratio_to_floor",
        "median of Berth ÷ floor, pair by pair, direct boot, web unit on the host's network as the floor's server; goal 1.2, in time 1.1",
    ),
    ("seconds_floor", "floor: the same kernel, an initramfs with a static web server and its network driver"),
    ("seconds_direct", "Berth, direct boot: power-on to the first page, image prepared before"),
    ("seconds_direct_bridge", "the same with the web unit on the bridge, its port published"),
    ("seconds_direct_first_boot", "the same on a new disk: state grown, config found, image unpacked"),
    ("seconds_uefi", "Berth through OVMF and GRUB"),
    ("seconds_uefi_before_kernel", "of these, until the kernel's first instruction: firmware and loader"),
    ("seconds_bios", "Berth through SeaBIOS and GRUB"),
    ("seconds_bios_before_kernel", "of these, until the kernel's first instruction"),
    ("serves_in_mib", "smallest of 128, 112, 96, 80, 64 MiB in which the page is served; goal 128"),
    ("pid1_rss_kib", "resident memory of PID 1, KiB; goal 3,072"),
    ("disk_compressed_mb", "the whole disk through zstd -9, MB; goal 40"),
    ("programs_in_root", "executables in the root; at most 3"),
];

impl Bench {
    fn prepare(options: &Options, quiet: bool) -> Result<Bench> {
        let say = |line: &str| eprintln!("{line}");
        let tools = berth_image::tools::ensure(&say)?;
        let outputs = berth_image::build(options, &say)?;
        let folder = Scratch::new("bench")?;
        let web = folder.path().join("web.oci.tar");
        demo::write_web_image(&tools, &web)?;
        let [warm, warm_bridge] = ["warm.raw", "bridge.raw"].map(|name| folder.path().join(name));
        let bench = Bench { tools, outputs, folder, web, warm, warm_bridge, quiet };
        bench.say("preparing the warm disks");
        for (disk, network) in [(&bench.warm, HOST), (&bench.warm_bridge, BRIDGE)] {
            disk::copy(&bench.outputs.raw, disk)?;
            disk::grow(disk, 2 << 30)?;
            let mut first =
                bench.machine(Firmware::Direct, disk, network)?.boot().context("the first boot")?;
            first.wait_event(&Event::UnitHealthy("web".into()), PATIENCE)?;
            first.press_power_button()?;
            first.wait_off(PATIENCE)?;
        }
        Ok(bench)
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    fn machine(&self, firmware: Firmware, disk: &Path, network: &str) -> Result<Machine> {
        let key = berth_ctl::public_key_line()?;
        Ok(Machine::new(&self.tools, firmware)
            .disk(disk, Bus::Virtio)
            .read_only_disk(&self.web, Bus::Virtio)
            .kernel(Kernel::of(&self.outputs)?)
            .config(&demo::config_with(&key, network)))
    }

    fn warm(&self, firmware: Firmware) -> Result<Machine> {
        Ok(self.machine(firmware, &self.warm, HOST)?.snapshot())
    }

    fn cold(&self, firmware: Firmware) -> Result<Machine> {
        Ok(self.machine(firmware, &self.outputs.raw, HOST)?.snapshot())
    }

    /// Seconds until the page is there.
    fn page(&self, machine: Machine) -> Result<f64> {
        let port = http::free_port()?;
        let running = machine.forward(port, 8080).boot()?;
        let (_, at) = http::wait_200(port, "/", PATIENCE).with_context(|| running.console().tail())?;
        Ok(at.duration_since(running.started()).as_secs_f64())
    }

    /// The same; and seconds until the kernel's first instruction, of which the machine keeps account.
    fn page_and_before_kernel(&self, machine: Machine) -> Result<(f64, f64)> {
        let [web, api] = http::free_ports()?;
        let mut running = machine.forward(web, 8080).forward(api, API_PORT).boot()?;
        let (_, at) = http::wait_200(web, "/", PATIENCE).with_context(|| running.console().tail())?;
        let page = at.duration_since(running.started()).as_secs_f64();
        let times = client(&mut running, api)?.boot_times()?;
        let before = times.loader_us.context("the machine does not know when its kernel started")?
            + times.firmware_us.unwrap_or_default();
        Ok((page, Duration::from_micros(before).as_secs_f64()))
    }

    fn pid1_rss_kib(&self) -> Result<u64> {
        let port = http::free_port()?;
        let mut running = self.warm(Firmware::Direct)?.forward(port, API_PORT).boot()?;
        Ok(client(&mut running, port)?.machine()?.pid1_rss_kib)
    }
}

/// For the machine whose API is forwarded there, once all is healthy.
fn client(running: &mut Running, port: u16) -> Result<berth_ctl::Client> {
    let pin = running.machine_key(PATIENCE)?;
    running.wait_event_like("a good slot", PATIENCE, |e| matches!(e, Event::SlotGood(_)))?;
    Ok(berth_ctl::Client::new("bench", "127.0.0.1", port, Some(&pin), &berth_ctl::ensure_key()?)?)
}

/// The whole disk through `zstd -9`, in MB (10⁶ bytes).
fn compressed_mb(tools: &Tools, raw: &Path) -> Result<f64> {
    let output = tools.command("zstd").args(["-9", "-q", "-c"]).arg(raw).output().context("zstd")?;
    anyhow::ensure!(output.status.success(), "zstd: {}", String::from_utf8_lossy(&output.stderr));
    #[allow(clippy::cast_precision_loss)] // Tens of millions.
    Ok(output.stdout.len() as f64 / 1e6)
}

/// Programs in the root: files that may be executed.
fn programs(outputs: &Outputs) -> usize {
    outputs.bundle.files.iter().filter(|f| f.place == "root" && f.mode.ends_with("755")).count()
}
