//! A machine of a test's own: a copy of the image's disk, the web image beside it, a config, and a client.

use crate::{BOOT, Built, Bus, Firmware, SOON, built, image};
use anyhow::{Context, Result, ensure};
use berth_ctl::{Client, LogOptions, PrivateKey};
use berth_image::Format;
use berth_image::disk::Disk;
use berth_qemu::lines::Event;
use berth_qemu::machine::{Kernel, Machine};
use berth_qemu::running::Running;
use berth_qemu::scratch::{self, Scratch};
use berth_qemu::{disk, http};
use berth_units::control::{API_PORT, JobStatus, SlotStatus, UnitStatus};
use berth_updater::layout::Slot;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two questions, each a connection of its own.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// Where the demonstration's web server listens in the guest.
const WEB_PORT: u16 = 8080;

/// A machine before power-on.
pub struct Plan {
    folder: Scratch,
    disk: PathBuf,
    bus: Bus,
    firmware: Firmware,
    read_only: bool,
    config: Option<String>,
    web: bool,
    isolated: bool,
    extend: Vec<Box<dyn Fn(Machine) -> Machine>>,
}

/// A machine that runs (or has been switched off; it can be booted again).
pub struct Guest {
    plan: Plan,
    running: Running,
    web_port: u16,
    api_port: u16,
    pin: Option<String>,
}

impl Guest {
    /// A machine with a fresh disk.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(firmware: Firmware) -> Result<Plan> {
        scratch::remove_on(&scratch::ENDS)?;
        let folder = Scratch::new("test")?;
        let disk = folder.path().join("disk.raw");
        disk::copy(&built()?.outputs.raw, &disk)?;
        Ok(Plan {
            folder,
            disk,
            bus: Bus::Virtio,
            firmware,
            read_only: false,
            config: None,
            web: true,
            isolated: true,
            extend: Vec::new(),
        })
    }

    /// A machine with an empty disk of so many bytes, and an installation medium of its own: with the disk at this bus, the medium at
    /// that one, and firmware that starts from the medium when the disk does not start.
    pub fn of_medium(firmware: Firmware, bus: Bus, bytes: u64, medium: Bus) -> Result<Plan> {
        let plan = Guest::new(firmware)?.on(bus);
        File::create(&plan.disk)?.set_len(bytes)?;
        let iso = plan.file("berth.iso");
        std::fs::copy(&plan.built()?.outputs.formats[&Format::Iso], &iso)?;
        let at = 1 + usize::from(plan.web);
        // A BIOS tries one hard disk only, and takes a stick for one.
        let alone = (firmware, medium) == (Firmware::Bios, Bus::Usb);
        let order = if alone { vec![at] } else { vec![0, at] };
        Ok(plan.machine(move |machine| machine.disk(&iso, medium).boot_order(&order)))
    }
}

impl Plan {
    /// What was built.
    pub fn built(&self) -> Result<&'static Built> {
        built()
    }

    /// The machine's disk.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// A file of the test's own, gone with the machine.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `berth.toml`: format, host name and the tests' key come first, then this.
    pub fn with_config(mut self, text: &str) -> Result<Plan> {
        self.config = Some(config(text)?);
        Ok(self)
    }

    /// `berth.toml`, to the letter.
    #[must_use]
    pub fn with_exact_config(mut self, text: &str) -> Plan {
        self.config = Some(text.to_owned());
        self
    }

    /// No config from the harness.
    #[must_use]
    pub fn without_config(mut self) -> Plan {
        self.config = None;
        self
    }

    /// The boot disk on another bus.
    #[must_use]
    pub fn on(mut self, bus: Bus) -> Plan {
        self.bus = bus;
        self
    }

    /// The boot disk cannot be written.
    #[must_use]
    pub fn read_only(mut self) -> Plan {
        self.read_only = true;
        self
    }

    /// Nothing is attached but the boot disk.
    #[must_use]
    pub fn without_web_image(mut self) -> Plan {
        self.web = false;
        self
    }

    /// The machine reaches servers on this computer's loopback, at 10.0.2.2. A test must not name any other host.
    #[must_use]
    pub fn reaches_the_host(mut self) -> Plan {
        self.isolated = false;
        self
    }

    /// PID 1 is one that can misbehave, asked to by these words on the kernel's command line (direct boot only).
    pub fn faulty(self, words: &str) -> Result<Plan> {
        let os = image::faulty()?;
        let kernel =
            Kernel { kernel: os.kernel.clone(), initrd: os.initrd.clone(), cmdline: os.cmdline.clone() };
        let plan = self.prepare(|path, built| Disk::open(path)?.install(&built.tools, Slot::A, &os))?;
        Ok(plan.machine(move |machine| machine.kernel(kernel.clone())).words(words))
    }

    /// Words on the kernel's command line instead of earlier ones (direct boot).
    #[must_use]
    pub fn words(self, words: &str) -> Plan {
        let words = words.to_owned();
        self.machine(move |machine| machine.cmdline(&words))
    }

    /// Changes the disk before power-on.
    pub fn prepare(self, change: impl FnOnce(&Path, &'static Built) -> Result<()>) -> Result<Plan> {
        change(&self.disk, built()?)?;
        Ok(self)
    }

    /// The boot disk as a qcow2 file, so that the machine can be kept and put back (`Running::save`, `restore`).
    pub fn with_snapshots(mut self) -> Result<Plan> {
        let overlay = self.file("disk.qcow2");
        disk::overlay(&built()?.tools, &self.disk, &overlay)?;
        self.disk = overlay;
        Ok(self)
    }

    /// Changes the machine before power-on.
    #[must_use]
    pub fn machine(mut self, change: impl Fn(Machine) -> Machine + 'static) -> Plan {
        self.extend.push(Box::new(change));
        self
    }

    /// Power on.
    pub fn boot(self) -> Result<Guest> {
        let (running, web_port, api_port) = self.start()?;
        Ok(Guest { plan: self, running, web_port, api_port, pin: None })
    }

    /// Another program may take a port between its choice and QEMU's start: then with others.
    fn start(&self) -> Result<(Running, u16, u16)> {
        for _ in 0..3 {
            match self.try_start() {
                Err(error) if format!("{error:#}").contains("host forwarding rule") => {}
                result => return result,
            }
        }
        self.try_start()
    }

    fn try_start(&self) -> Result<(Running, u16, u16)> {
        let built = built()?;
        let [web_port, api_port] = http::free_ports()?;
        let machine = Machine::new(&built.tools, self.firmware);
        let machine = match self.read_only {
            true => machine.read_only_disk(&self.disk, self.bus),
            false => machine.disk(&self.disk, self.bus),
        };
        let mut machine = machine
            .kernel(Kernel::of(&built.outputs)?)
            .forward(web_port, WEB_PORT)
            .forward(api_port, API_PORT);
        if self.isolated {
            machine = machine.isolated();
        }
        if self.web {
            machine = machine.read_only_disk(&built.web, Bus::Virtio);
        }
        if let Some(config) = &self.config {
            machine = machine.config(config);
        }
        for extend in &self.extend {
            machine = extend(machine);
        }
        Ok((machine.boot()?, web_port, api_port))
    }
}

impl Guest {
    /// Waits until the boot was judged healthy.
    pub fn ready(&mut self) -> Result<()> {
        let good = |event: &Event| matches!(event, Event::SlotGood(_));
        self.running.wait_event_like("the slot to be good", BOOT, good).map(drop)
    }

    /// Waits until this slot is up.
    pub fn up(&mut self, slot: &str) -> Result<()> {
        self.wait_event(&Event::Up { slot: slot.into() })
    }

    /// Waits until the API listens.
    pub fn api_listens(&mut self) -> Result<()> {
        let listens = |event: &Event| matches!(event, Event::ApiListens(_));
        self.running.wait_event_like("the API to listen", BOOT, listens).map(drop)
    }

    /// Waits for an event.
    pub fn wait_event(&mut self, event: &Event) -> Result<()> {
        self.running.wait_event(event, BOOT).map(drop)
    }

    /// Waits until the console has called a unit healthy.
    pub fn healthy(&mut self, unit: &str) -> Result<()> {
        let event = Event::UnitHealthy(unit.into());
        self.running.console().wait_event(0, &event.to_string(), BOOT, |e| *e == event).map(drop)
    }

    /// Waits for a console line that contains `text`.
    pub fn wait_for(&mut self, text: &str) -> Result<String> {
        let line = self.running.wait_for(text, BOOT)?.text;
        Ok(line)
    }

    /// A page of the web unit.
    pub fn page(&self, path: &str) -> Result<String> {
        Ok(http::wait_200(self.web_port, path, SOON).with_context(|| self.running.console().tail())?.0)
    }

    /// What the web unit, which is up, answers to one request, headers included.
    pub fn answer(&self, path: &str) -> Result<String> {
        http::get(self.web_port, path, SOON)
    }

    /// Whether anything answers on the web unit's port now.
    pub fn serves(&self) -> bool {
        http::get(self.web_port, "/", Duration::from_secs(3)).is_ok()
    }

    /// The operator's client, with the tests' key and the machine's key from the console.
    pub fn client(&mut self) -> Result<Client> {
        let pin = match self.pin.take() {
            Some(pin) => pin,
            None => self.running.machine_key(BOOT)?,
        };
        let pin = self.pin.insert(pin);
        Ok(Client::new("test", "127.0.0.1", self.api_port, Some(pin), key()?)?)
    }

    /// Ports on this computer: web, API.
    pub fn ports(&self) -> (u16, u16) {
        (self.web_port, self.api_port)
    }

    /// `berth logs UNIT`: the lines so far.
    pub fn log(&mut self, unit: &str) -> Result<Vec<String>> {
        let lines = self.client()?.logs(unit, LogOptions::default())?;
        lines.map(|line| Ok(line?.text)).collect()
    }

    /// `berth ps`: one unit.
    pub fn unit(&mut self, name: &str) -> Result<UnitStatus> {
        let units = self.client()?.units()?;
        units.into_iter().find(|u| u.name == name).with_context(|| format!("no unit {name}"))
    }

    /// Asks until a unit's state and reason satisfy `wanted`.
    pub fn until(&mut self, unit: &str, wanted: impl Fn(&str, &str) -> bool) -> Result<()> {
        self.until_within(unit, SOON, wanted)
    }

    /// The same, for longer or shorter.
    pub fn until_within(
        &mut self,
        unit: &str,
        patience: Duration,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Result<()> {
        self.until_status(unit, patience, |status| wanted(&status.state, &status.reason))
    }

    /// Asks until what `berth ps` says of a unit satisfies `wanted`.
    pub fn until_status(
        &mut self,
        unit: &str,
        patience: Duration,
        wanted: impl Fn(&UnitStatus) -> bool,
    ) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            // A machine that starts a dozen units on one emulated processor may let an operator wait.
            let status = match self.unit(unit) {
                Err(_) if Instant::now() < end => {
                    std::thread::sleep(ASK_AGAIN);
                    continue;
                }
                answer => answer?,
            };
            if wanted(&status) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{unit} is {}: {}", status.state, status.reason);
            // Each question is a connection of its own; there is no event for a state.
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// Asks until a unit's log has this line.
    pub fn said(&mut self, unit: &str, line: &str) -> Result<()> {
        let end = Instant::now() + SOON;
        loop {
            let log = self.log(unit)?;
            if log.iter().any(|l| l == line) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{unit} does not say {line:?}: {log:?}");
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// Asks until a job with images is over.
    pub fn job_over(&mut self, id: u64) -> Result<JobStatus> {
        let end = Instant::now() + SOON;
        loop {
            let job = self.client()?.jobs()?.into_iter().find(|job| job.id == id).context("no job")?;
            if job.is_over() {
                return Ok(job);
            }
            ensure!(Instant::now() < end, "{job:?}");
            // There is no event for a job.
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// `berth slots`: one slot.
    pub fn slot(&mut self, name: &str) -> Result<SlotStatus> {
        let slots = self.client()?.slots()?;
        slots.slots.into_iter().find(|s| s.name == name).with_context(|| format!("no slot {name}"))
    }

    /// The machine under QEMU.
    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// What was planned.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Presses the power button and waits until the machine is off.
    pub fn power_off(mut self) -> Result<Plan> {
        self.running.press_power_button()?;
        self.running.wait_off(SOON)?;
        Ok(self.plan)
    }

    /// Waits until the machine, which is to switch itself off, is off.
    pub fn powered_off(mut self) -> Result<Plan> {
        self.running.wait_off(BOOT)?;
        Ok(self.plan)
    }

    /// Cuts the power.
    pub fn cut_power(self) -> Result<Plan> {
        self.running.cut_power()?;
        Ok(self.plan)
    }

    /// After the guest rebooted by itself: forget what the console said before.
    pub fn rebooted(&mut self) {
        self.running.forget_console();
        self.pin = None;
    }
}

/// The config with what every test needs.
pub fn config(text: &str) -> Result<String> {
    let line = key()?.public_line();
    Ok(format!("format = 1\nhostname = \"test\"\n\n[access]\nkeys = [\"{line}\"]\n{text}"))
}

/// The line of the tests' key.
pub fn public_key() -> Result<String> {
    Ok(key()?.public_line())
}

/// The tests' operator key: one a process.
fn key() -> Result<&'static PrivateKey> {
    static KEY: std::sync::OnceLock<PrivateKey> = std::sync::OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(key);
    }
    let folder = Scratch::new("test")?;
    let key = PrivateKey::create(&folder.path().join("key"), "test")?;
    Ok(KEY.get_or_init(|| key))
}
