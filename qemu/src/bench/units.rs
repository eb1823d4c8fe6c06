//! `bench units`: what a unit costs, beside its peers in the same guest and run: Debian's packages in an image, started as
//! a privileged unit, whose program (`units/examples/peers.rs`) drives both sides in turn by the guest's clock.

use super::page::{self, Section, median, round};
use super::{oci, pull};
use crate::machine::{Bus, Firmware, Kernel, Machine};
use crate::running::Running;
use crate::scratch::{self, Scratch};
use crate::{accel, demo, disk, http, packages};
use anyhow::{Context, Result, anyhow, bail, ensure};
use berth_ctl::{Client, LogOptions, PrivateKey};
use berth_image::tools::{self, Tools};
use berth_image::{Options, Outputs, programs};
use berth_store::build::{ImageBuilder, LayerBuilder};
use berth_units::control::API_PORT;
use clap::ValueEnum;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A boot under load.
const BOOT: Duration = Duration::from_secs(180);
/// Everything that the program in the guest does, in emulation.
const MEASURED: Duration = Duration::from_secs(500);
/// Forty units become healthy.
const STARTED: Duration = Duration::from_secs(240);
/// Between two questions to a machine that is not to be disturbed.
const AGAIN: Duration = Duration::from_secs(1);
/// Memory of the machine: podman is large.
const MEMORY: u32 = 1024;
/// Its disk, bytes; sparse.
const DISK: u64 = 6 << 30;
/// Units more, from whose memory that of one is reckoned.
const IDLE: u64 = 40;
/// The image of the peers.
const IMAGE: &str = "berth.example/peers:1";
/// What it is made of.
pub(super) const PACKAGES: [&str; 9] = [
    "base-files",
    "crun",
    "podman",
    "conmon",
    "netavark",
    "aardvark-dns",
    "ca-certificates",
    "busybox-static",
    "nftables",
];
/// The image that both run: it prints a line.
const FIRST: &str = "berth.example/first:1";
/// Debian's seccomp profile for containers, in its package.
const PROFILE: &str = "./usr/share/containers/seccomp.json";

const PAGE: Section = Section {
    heading: "Units",
    intro: "Written by `cargo run -- bench units`. Peers are Debian's packages in the same guest; the two sides take turns, by the guest's \
            clock. A start is one of a prepared image with an overlay, no network, users, seccomp filter and cgroup of its own on both sides, \
            from the call until the first byte of a program without a run-time; crun finds its overlay mounted, Berth mounts it. A run is that of an image which both have, from the call of the command to its \
            first output, on the machine's network on both sides; `berth` asks the machine over TLS. podman has no user namespace, which is its default. A pull is that of an image of Debian's packages in fifteen layers \
            from a registry on the host, from the call of the command to its end, without its layers and with cold caches; Berth's is then on the disk, \
            podman leaves that to the kernel.",
    figures: &[
        ("accelerator", "what carried out the guest's instructions"),
        ("rounds", "starts of each kind"),
        ("crun", "version of the peer"),
        ("start_ratio_to_crun", "median of Berth's launcher ÷ `crun run`, pair by pair; goal 0.5"),
        ("start_ms_berth", "median, milliseconds"),
        ("start_ms_crun", "median, milliseconds"),
        ("runs", "runs of each kind"),
        ("podman", "version of the peer"),
        ("run_ratio_to_podman", "median of `berth run` ÷ `podman run`, pair by pair; goal 0.2"),
        ("run_ms_berth", "median, milliseconds"),
        ("run_ms_podman", "median, milliseconds"),
        ("pulls", "pulls of each kind"),
        ("pull_image_mb", "the image that is pulled: its layers' tars, MB"),
        ("pull_registry_mb", "the same as the registry has it, by gzip, MB"),
        ("pull_ratio_to_podman", "median of `berth pull` ÷ `podman pull`, pair by pair; goal 1"),
        ("pull_seconds_berth", "median, seconds"),
        ("pull_seconds_podman", "median, seconds"),
        (
            "pull_peak_mib",
            "memory of the fetcher or of the store, whichever had more, page cache counted in, MiB; goal 64, and more neither can have",
        ),
        ("pull_held_mib", "memory of both at the same time at most, without page cache, MiB"),
        (
            "idle_unit_kib",
            "resident memory of PID 1 that one more sleeping unit takes, KiB: the difference that 40 make ÷ 40",
        ),
        ("pid1_rss_kib_one", "resident memory of PID 1 with one sleeping unit, KiB"),
        ("pid1_rss_kib_all", "with 41, KiB"),
    ],
};

/// Runs of each kind: each takes many times a start, and varies as much.
fn runs(n: u32) -> u32 {
    (2 * n).div_ceil(3)
}

/// What is measured, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Starts beside crun's.
    Start,
    /// Runs beside podman's.
    Run,
    /// Pulls beside podman's.
    Pull,
    /// What a unit costs PID 1.
    Idle,
}

/// Runs it all and writes the page, or only a part of it, and does not; `json` prints one object on standard output
/// instead of the table.
pub fn run(n: u32, only: Option<Part>, json: bool) -> Result<()> {
    scratch::remove_on(&scratch::ENDS)?;
    let bench = Bench::prepare()?;
    let mut result = Map::new();
    result.insert("accelerator".into(), accel::detect(&bench.tools).to_string().into());
    for part in Part::value_variants().iter().filter(|part| only.is_none_or(|only| only == **part)) {
        let figures = match part {
            Part::Start => starts(&bench, n)?,
            Part::Run => commands(&bench, runs(n))?,
            Part::Pull => pull::measure(&bench, n)?,
            Part::Idle => idle(&bench)?,
        };
        result.extend(figures.as_object().cloned().unwrap_or_default());
    }
    let result = Value::Object(result);
    if only.is_none() {
        PAGE.write(&result)?;
    }
    page::print(&result, json);
    Ok(())
}

fn starts(bench: &Bench, n: u32) -> Result<Value> {
    let lines = bench.peers(&["start", &n.to_string()], "", MEASURED)?;
    let medians = medians(&lines, "start", "crun", n)?;
    Ok(json!({
        "rounds": n,
        "crun": word(&lines, "version crun "),
        "start_ratio_to_crun": round(medians.ratio),
        "start_ms_berth": round(medians.berth),
        "start_ms_crun": round(medians.peer),
    }))
}

fn commands(bench: &Bench, n: u32) -> Result<Value> {
    let lines = bench.peers(&["run", &n.to_string(), FIRST], "", MEASURED)?;
    let medians = medians(&lines, "run", "podman", n)?;
    Ok(json!({
        "runs": n,
        "podman": word(&lines, "version podman "),
        "run_ratio_to_podman": round(medians.ratio),
        "run_ms_berth": round(medians.berth),
        "run_ms_podman": round(medians.peer),
    }))
}

fn idle(bench: &Bench) -> Result<Value> {
    let [one, all] = [bench.rss(1)?, bench.rss(1 + IDLE)?];
    #[allow(clippy::cast_precision_loss)] // Thousands.
    let idle = (all as f64 - one as f64) / IDLE as f64;
    Ok(json!({"idle_unit_kib": round(idle), "pid1_rss_kib_one": one, "pid1_rss_kib_all": all}))
}

/// What the two sides took, milliseconds, and what became of each pair.
pub(super) struct Medians {
    pub(super) ratio: f64,
    pub(super) berth: f64,
    pub(super) peer: f64,
}

/// Of so many pairs of lines: `start berth 12.3` and `start crun 45.6`.
pub(super) fn medians(lines: &[String], what: &str, peer: &str, pairs: u32) -> Result<Medians> {
    let [mut ours, mut theirs] = ["berth", peer].map(|side| times(lines, &format!("{what} {side} ")));
    ensure!(
        ours.len() == pairs as usize && theirs.len() == ours.len(),
        "there are not {pairs} pairs of {what}:\n{}",
        lines.join("\n")
    );
    let mut ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    Ok(Medians { ratio: median(&mut ratios), berth: median(&mut ours), peer: median(&mut theirs) })
}

/// The numbers behind a line's first words.
fn times(lines: &[String], words: &str) -> Vec<f64> {
    lines.iter().filter_map(|line| line.strip_prefix(words)?.trim().parse().ok()).collect()
}

/// The text behind the first line's first words.
fn word(lines: &[String], words: &str) -> Value {
    lines.iter().find_map(|line| line.strip_prefix(words)).map_or(Value::Null, |text| json!(text.trim()))
}

/// What all parts need.
pub(super) struct Bench {
    pub(super) tools: Tools,
    outputs: Outputs,
    pub(super) folder: Scratch,
    web: PathBuf,
    peers: PathBuf,
    first: PathBuf,
    /// Who asks from inside the guest.
    inner: PrivateKey,
}

/// A machine that runs, and who asks it.
struct Guest {
    running: Running,
    client: Client,
}

impl Bench {
    fn prepare() -> Result<Bench> {
        let say = |line: &str| eprintln!("{line}");
        let tools = tools::ensure(&say)?;
        let outputs = berth_image::build(&Options::default(), &say)?;
        let folder = Scratch::new("bench")?;
        let [web, peers, first] = ["web.tar", "peers.tar", "first.tar"].map(|name| folder.path().join(name));
        demo::write_web_image(&tools, &web)?;
        say("making an image of the peers");
        let key = folder.path().join("key");
        let inner = PrivateKey::create(&key, "peers")?;
        first_image(&tools, &first)?;
        peers_image(&first, &key, &peers)?;
        Ok(Bench { tools, outputs, folder, web, peers, first, inner })
    }

    fn boot(&self, images: &[&Path], units: &str) -> Result<Guest> {
        let disk = self.folder.path().join("disk.raw");
        disk::copy(&self.outputs.raw, &disk)?;
        disk::grow(&disk, DISK)?;
        let api = http::free_port()?;
        let key = berth_ctl::ensure_key()?;
        let access = format!(
            "format = 1\nhostname = \"bench\"\n[access]\nkeys = [\"{}\", \"{}\"]\n",
            key.public_line(),
            self.inner.public_line()
        );
        let machine = Machine::new(&self.tools, Firmware::Direct).disk(&disk, Bus::Virtio);
        let machine =
            images.iter().fold(machine, |machine, image| machine.read_only_disk(*image, Bus::Virtio));
        let running = machine
            .kernel(Kernel::of(&self.outputs)?)
            .memory(MEMORY)
            .config(&format!("{access}{units}"))
            .forward(api, API_PORT)
            .boot()?;
        let pin = running.machine_key(BOOT)?;
        let client = Client::new("bench", "127.0.0.1", api, Some(&pin), &key)?;
        Ok(Guest { running, client })
    }

    /// What the program in the guest says until it is done, which may take so long; `config` is the rest of the machine's.
    pub(super) fn peers(&self, arguments: &[&str], config: &str, most: Duration) -> Result<Vec<String>> {
        eprintln!("measuring in the guest: {}", arguments.join(" "));
        let config = format!("{}{config}", peers_unit(arguments));
        let guest = self.boot(&[&self.peers, &self.first], &config)?;
        let end = Instant::now() + most;
        // Told line by line: to ask again and again would take processor time from what is measured.
        let (said, heard) = mpsc::channel();
        let client = guest.client;
        std::thread::spawn(move || follow(&client, end, &said));
        let mut lines = Vec::new();
        loop {
            let line = heard.recv_timeout(end.saturating_duration_since(Instant::now()));
            let told = |lines: &[String]| format!("{}\n{}", lines.join("\n"), guest.running.console().tail());
            let line = line.map_err(|_| anyhow!("it does not end:\n{}", told(&lines)))?;
            if line == "done" {
                return Ok(lines);
            }
            let failed = line.contains("panicked at");
            lines.push(line);
            if failed {
                // The reason is in the next line.
                lines.extend(heard.recv_timeout(AGAIN));
                bail!("it failed:\n{}", told(&lines));
            }
        }
    }

    /// Memory of PID 1 with so many sleeping units, KiB.
    fn rss(&self, units: u64) -> Result<u64> {
        eprintln!("memory of PID 1 with {units} sleeping");
        let config: String = (1..=units).map(sleeper).collect();
        let guest = self.boot(&[&self.web], &config)?;
        let end = Instant::now() + STARTED;
        loop {
            let states = guest.client.units().unwrap_or_default();
            let sleeping = states.iter().filter(|unit| unit.name.starts_with("sleep"));
            let up = sleeping.filter(|unit| unit.state == "running" || unit.state == "healthy").count();
            if up as u64 == units {
                break;
            }
            ensure!(Instant::now() < end, "{up} of {units} run:\n{}", guest.running.console().tail());
            std::thread::sleep(AGAIN);
        }
        Ok(guest.client.machine()?.pid1_rss_kib)
    }
}

/// Passes on what the program in the guest says, from its first line, once it is there. Ends with the machine.
fn follow(client: &Client, end: Instant, to: &mpsc::Sender<String>) {
    let options = LogOptions { follow: true, ..LogOptions::default() };
    while Instant::now() < end {
        let mut heard = false;
        for line in client.logs("peers", options).into_iter().flatten().map_while(Result::ok) {
            heard = true;
            if to.send(line.text).is_err() {
                return;
            }
        }
        if heard {
            return;
        }
        std::thread::sleep(AGAIN);
    }
}

fn sleeper(n: u64) -> String {
    format!(
        "[units.sleep{n}.container]\nimage = \"{}\"\ncommand = [\"/bin/busybox\", \"sleep\", \"1000000\"]\n\
         [units.sleep{n}.network]\nmode = \"none\"\n",
        demo::WEB_IMAGE
    )
}

fn peers_unit(arguments: &[&str]) -> String {
    let words: Vec<&str> = ["/usr/bin/peers"].iter().chain(arguments).copied().collect();
    format!(
        "[units.peers.container]\nimage = \"{IMAGE}\"\ncommand = {words:?}\nprivileged = true\npid = \"host\"\n\
         volumes = [\"peers:/data\"]\n[units.peers.network]\nmode = \"host\"\n[units.peers.restart]\npolicy = \"no\"\n\
         [units.peers.unit]\nafter = [\"first:completed\"]\n\
         [units.first.container]\nimage = \"{FIRST}\"\n[units.first.restart]\npolicy = \"no\"\n[units.first.network]\nmode = \"none\"\n"
    )
}

/// Prints a line, and ends.
fn first_image(tools: &Tools, to: &Path) -> Result<()> {
    let busybox = tools.resolve("usr/bin/busybox");
    let program = std::fs::read(&busybox).with_context(|| busybox.display().to_string())?;
    let layer = LayerBuilder::new().dir("bin", 0o755).file("bin/busybox", 0o755, program);
    let image = ImageBuilder::new(FIRST).layer(&layer)?.entrypoint(["/bin/busybox", "echo", "first"]);
    image.write_archive(to).context("the image that both run")
}

/// The packages, the programs, an operator's home, and what crun is told.
fn peers_image(first: &Path, key: &Path, to: &Path) -> Result<()> {
    let tar = packages::unpacked_tar(&PACKAGES)?;
    let out = Command::new("tar").arg("-xOf").arg(&tar).arg(PROFILE).output().context("tar")?;
    ensure!(out.status.success(), "Debian's packages have no {PROFILE}");
    let config = oci::config(&String::from_utf8_lossy(&out.stdout))?;
    let say = |line: &str| eprintln!("{line}");
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let more = LayerBuilder::new()
        .dir("data", 0o755)
        .dir("srv", 0o755)
        .file("srv/config.json", 0o644, config.to_string())
        .file("srv/first.tar", 0o644, read(first)?)
        .dir("srv/home", 0o700)
        .file("srv/home/key", 0o600, read(key)?)
        .file(
            "srv/home/contexts.toml",
            0o600,
            "current = \"here\"\n[contexts.here]\naddress = \"127.0.0.1\"\n",
        )
        .file("usr/bin/berth", 0o755, read(&programs::operator(&say)?)?)
        .file("usr/bin/peers", 0o755, read(&programs::peers(&say)?)?);
    ImageBuilder::new(IMAGE)
        .layer_tar(&read(&tar)?, false)?
        .layer(&more)?
        .env("PATH", "/usr/sbin:/usr/bin")
        .write_archive(to)
        .context("the image of the peers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_guest_are_read() {
        let lines =
            ["version crun 1.21", "start berth 12.5", "start crun 40", "start berth 13", "start crun x"];
        let lines = lines.map(str::to_owned);
        assert_eq!(times(&lines, "start berth "), [12.5, 13.0]);
        assert_eq!(times(&lines, "start crun "), [40.0]);
        let pairs = medians(&lines[1..3], "start", "crun", 1).unwrap();
        assert_eq!((pairs.ratio, pairs.berth, pairs.peer), (12.5 / 40.0, 12.5, 40.0));
        assert!(medians(&lines, "start", "crun", 2).is_err(), "a start of crun's is missing");
        assert_eq!(word(&lines, "version crun "), json!("1.21"));
        assert_eq!(word(&lines, "version podman "), Value::Null);
    }
}
