//! `cargo run -- demo update`: a machine with a web unit is updated, and then given versions that are sick in three ways.
//! After each the old version serves again, and the machine says why.

use super::Publisher;
use crate::machine::{Bus, Firmware, Kernel, Machine};
use crate::running::Running;
use crate::scratch::Scratch;
use crate::{demo, disk, http};
use anyhow::{Context, Result, bail, ensure};
use berth_ctl::render::Style;
use berth_ctl::{Client, PrivateKey};
use berth_image::{Bundle, Options, Outputs, Progress};
use berth_units::control::{API_PORT, UpdateOrder, UpdateStatus};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Until a machine is up.
const BOOT: Duration = Duration::from_secs(180);
/// Until a version is written, by an emulated machine.
const WRITTEN: Duration = Duration::from_secs(300);
/// Three starts of a version that hangs, each until the watchdog ends it, and one of the old version.
const TRIAL: Duration = Duration::from_secs(900);
/// Between two questions.
const AGAIN: Duration = Duration::from_millis(300);

/// The end of `[update]`, with a short `settle`; the web unit, and its check.
pub const UNIT: &str = r#"settle = "5s"

[units.web.container]
image = "berth.example/web:1"
read_only = true
[units.web.network]
ports = ["8080:8080"]
[units.web.health]
http = "http://localhost:8080/"
interval = "1s"
start_period = "30s"
"#;

/// What is wrong with each version, in words, by PID 1's fault switch, and what the machine has to say about it.
const SICK: [(&str, &str, &str, &str); 3] = [
    ("3", "its kernel panics", "crash:initrd:root", "in step \"root\""),
    ("4", "its PID 1 hangs", "hang:loop:turn", "stopped without a word"),
    ("5", "the web unit is sick under it", "sick:unit:web", "web is "),
];

/// Runs it; each line is for people, and for the test that looks for it.
pub fn run(say: Progress<'_>) -> Result<()> {
    let mut show = Show::begin(say)?;
    show.up("it serves")?;

    show.offer("2", "a good one", None)?;
    show.take(&format!("update   version 2 took the place of {}", Options::default().version))?;
    show.up("version 2 serves, from slot b")?;

    for (version, what, fault, why) in SICK {
        show.offer(version, what, Some(fault))?;
        let line = show.take(&format!("update   version {version} did not prove itself"))?;
        ensure!(line.contains(why), "the machine says {line:?}, and not why: {why:?}");
        show.up("version 2 serves again")?;
    }
    let status = show.client()?.update_status()?;
    say("\nberth update status:");
    for line in berth_ctl::render::update::status(&status, Style::default()).lines() {
        say(&format!("  {line}"));
    }
    let known: Vec<&str> = status.quarantine.iter().map(|one| one.version.as_str()).collect();
    ensure!(known == ["3", "4", "5"], "in quarantine are {known:?}");
    show.end()
}

/// A machine that follows a repository, and somebody who tells what happens.
pub(super) struct Show<'a> {
    say: Progress<'a>,
    started: Instant,
    publisher: Publisher,
    running: Running,
    web_port: u16,
    api_port: u16,
    key: PrivateKey,
    pin: String,
    _folder: Scratch,
}

impl<'a> Show<'a> {
    /// Boots it, and waits until it is found healthy.
    pub(super) fn begin(say: Progress<'a>) -> Result<Show<'a>> {
        let build = |line: &str| say(&format!("build    {line}"));
        let tools = berth_image::tools::ensure(&build)?;
        let outputs: Outputs = berth_image::build(&Options::default(), &build)?;
        let folder = Scratch::new("demo")?;
        let file = |name: &str| -> PathBuf { folder.path().join(name) };
        disk::copy(&outputs.raw, &file("disk.raw"))?;
        demo::write_web_image(&tools, &file("web.tar"))?;
        std::fs::create_dir(file("updates")).context("a folder for the repository")?;
        let publisher = Publisher::new(&file("updates"))?;
        let key = PrivateKey::create(&file("key"), "demo")?;
        let access =
            format!("format = 1\nhostname = \"demo\"\n[access]\nkeys = [\"{}\"]\n", key.public_line());
        let config = format!("{access}{}{UNIT}", publisher.config()?);
        let [web_port, api_port] = http::free_ports()?;
        let running = Machine::new(&tools, Firmware::Uefi)
            .disk(file("disk.raw"), Bus::Virtio)
            .read_only_disk(file("web.tar"), Bus::Virtio)
            .kernel(Kernel::of(&outputs)?)
            .config(&config)
            .forward(web_port, 8080)
            .forward(api_port, API_PORT)
            .boot()?;
        let pin = running.machine_key(BOOT)?;
        let started = Instant::now();
        let show = Show { say, started, publisher, running, web_port, api_port, key, pin, _folder: folder };
        show.judged(0)?;
        Ok(show)
    }

    fn line(&self, text: &str) {
        (self.say)(&format!("{:>6.1} s  {text}", self.started.elapsed().as_secs_f64()));
    }

    fn client(&self) -> Result<Client> {
        Ok(Client::new("demo", "127.0.0.1", self.api_port, Some(&self.pin), &self.key)?)
    }

    pub(super) fn web_port(&self) -> u16 {
        self.web_port
    }

    /// Switches it off.
    pub(super) fn end(mut self) -> Result<()> {
        self.running.press_power_button()?;
        self.running.wait_off(BOOT).map(drop)
    }

    /// The page is there.
    pub(super) fn up(&self, what: &str) -> Result<()> {
        let (page, _) = http::wait_200(self.web_port, "/", BOOT)?;
        ensure!(page.contains(demo::HEADING), "the page is another one");
        self.line(&format!("http://127.0.0.1:{}/  {what}", self.web_port));
        Ok(())
    }

    /// The machine has found its boot healthy, since then.
    fn judged(&self, mark: usize) -> Result<()> {
        self.running
            .console()
            .wait(mark, "the slot to be good", BOOT, |text| text.contains(" is good, everything healthy"))?;
        Ok(())
    }

    /// A new version is published.
    pub(super) fn offer(&mut self, version: &str, what: &str, fault: Option<&str>) -> Result<()> {
        let bundle = system(version, fault, &|line| (self.say)(&format!("build    {line}")))?;
        self.publisher.publish(&bundle, version)?;
        self.line(&format!("version {version} is published: {what}"));
        Ok(())
    }

    /// The machine is told to write it, and nothing more. What the unit that does so took of memory at most, bytes.
    pub(super) fn write(&mut self) -> Result<u64> {
        self.client()?.order_update(UpdateOrder::Fetch, false)?;
        let (end, mut peak) = (Instant::now() + WRITTEN, 0);
        loop {
            let status = self.client()?.update_status()?;
            refused(&status)?;
            let units = self.client()?.stats()?.units;
            let usage = units.into_iter().find(|unit| unit.name == "update").and_then(|unit| unit.usage);
            peak = peak.max(usage.and_then(|usage| usage.memory_peak).unwrap_or_default());
            if status.order.is_none() {
                ensure!(peak > 0, "nobody saw the unit \"update\"");
                return Ok(peak);
            }
            ensure!(Instant::now() < end, "it is not written after {} s", WRITTEN.as_secs());
            std::thread::sleep(AGAIN);
        }
    }

    /// The machine is told to take it; the sentence that ends it.
    pub(super) fn take(&mut self, sentence: &str) -> Result<String> {
        self.client()?.order_update(UpdateOrder::Reboot, false)?;
        self.line("berth update reboot");
        let end = Instant::now() + WRITTEN;
        let mark = self.running.console().mark();
        let reboots = |text: &str| text.contains("stop     reboot: update");
        let mut last = String::new();
        while self.running.console().wait(mark, "the reboot", Duration::ZERO, reboots).is_err() {
            ensure!(Instant::now() < end, "it is not written after {} s", WRITTEN.as_secs());
            // The machine may be on its way down already.
            if let Ok(status) = self.client()?.update_status() {
                refused(&status)?;
                let now = berth_ctl::render::update::progress(&status);
                if now.split(',').next() != last.split(',').next() {
                    self.line(&format!("  {now}"));
                }
                last = now;
            }
            std::thread::sleep(AGAIN);
        }
        self.line("  it reboots");
        let mark = self.running.console().mark();
        let (line, _) = self.running.console().wait(mark, sentence, TRIAL, |text| text.contains(sentence))?;
        self.line(&format!("  {}", line.text));
        self.judged(mark)?;
        Ok(line.text)
    }
}

fn refused(status: &UpdateStatus) -> Result<()> {
    if status.error.is_empty() { Ok(()) } else { bail!("the machine says: {}", status.error) }
}

/// A system that misbehaves in this way, or does not.
pub fn system(version: &str, fault: Option<&str>, say: Progress<'_>) -> Result<Bundle> {
    let mut options = Options { version: version.into(), ..Options::default() };
    if let Some(fault) = fault {
        options.init = Some(berth_image::programs::faulty_init(say)?);
        // Noticed sooner than in production.
        options.cmdline = format!("berth.fault={fault} berth.watchdog=15 berth.health-deadline=20");
    }
    berth_image::bundle(&options, say)
}
