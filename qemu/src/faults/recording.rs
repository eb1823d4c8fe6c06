//! A real update, recorded: a machine that has been in use before takes it from a repository on this computer, tries it and
//! keeps it, while QEMU logs every write and flush of its disk.

use super::log;
use crate::disk;
use crate::http;
use crate::lines::Event;
use crate::machine::{Bus, Firmware, Machine};
use crate::running::Running;
use crate::scratch::Scratch;
use crate::updates::Publisher;
use crate::updates::demo::system;
use anyhow::{Context, Result, ensure};
use berth_apply::cuts::{self, Memory, Replay};
use berth_ctl::{Client, PrivateKey};
use berth_image::tools::Tools;
use berth_image::{Options, Outputs, Progress};
use berth_tuf::fetch::Folder;
use berth_tuf::release::{ARCHITECTURE, CHANNEL, Offer};
use berth_tuf::time::{Clock, Time};
use berth_units::control::{API_PORT, UpdateOrder};
use berth_updater::layout::Slot;
use berth_updater::verity::RootHash;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// An emulated boot takes half a minute on a busy computer; this ends a hang.
const BOOT: Duration = Duration::from_secs(300);
/// Until a version is written, by an emulated machine.
const WRITTEN: Duration = Duration::from_secs(300);
/// The version that is written.
const VERSION: &str = "9-newer";
/// Bytes that are compared at once.
const CHUNK: usize = 1 << 20;

/// What was recorded, and what is needed to go on from any moment of it.
pub(super) struct Recording {
    pub(super) tools: Tools,
    pub(super) folder: Scratch,
    /// The disk before the first event. It never changes.
    pub(super) before: PathBuf,
    pub(super) events: Vec<cuts::Event>,
    /// So many of the events were there before the update was ordered.
    pub(super) ordered: usize,
    /// What is in slot A.
    pub(super) running: RootHash,
    /// What is written into slot B.
    pub(super) offer: Offer,
    pub(super) server: Folder,
    operator: Operator,
    // Serves the repository.
    _publisher: Publisher,
}

/// Who may give orders to the machine, and how it is known.
struct Operator {
    key: PrivateKey,
    pin: String,
}

impl Recording {
    /// Builds, publishes, boots, updates, and reads the log.
    pub(super) fn make(say: Progress<'_>) -> Result<Recording> {
        let tools = berth_image::tools::ensure(say)?;
        let outputs: Outputs = berth_image::build(&Options::default(), say)?;
        let folder = Scratch::new("faults")?;
        let file = |name: &str| folder.path().join(name);
        std::fs::create_dir(file("updates")).context("a folder for the repository")?;
        let publisher = Publisher::new(&file("updates"))?;
        publisher.publish(&system(VERSION, None, say)?, VERSION)?;
        let offer = offered(&publisher.repository())?;
        let key = PrivateKey::create(&file("key"), "faults")?;
        let config = format!(
            "format = 1\nhostname = \"faults\"\n[access]\nkeys = [\"{}\"]\n{}settle = \"5s\"\n",
            key.public_line(),
            publisher.config()?
        );

        // What a first boot writes once in a machine's life is no part of an update.
        let after = file("after.raw");
        disk::copy(&outputs.raw, &after)?;
        let machine = Machine::new(&tools, Firmware::Uefi).disk(&after, Bus::Virtio);
        say("a machine's first boot");
        let mut running = machine.clone().isolated().config(&config).boot()?;
        let pin = running.machine_key(BOOT)?;
        healthy(&mut running, Slot::A)?;
        off(running)?;
        let before = file("before.raw");
        disk::copy(&after, &before)?;

        say("its second boot, and an update, recorded");
        let (written, [port]) = (file("writes.log"), http::free_ports()?);
        let operator = Operator { key, pin };
        let mut running = machine.logged(&written).forward(port, API_PORT).boot()?;
        healthy(&mut running, Slot::A)?;
        let ordered = usize::try_from(log::count(&mut File::open(&written)?)?)?;
        operator.update(&mut running, port)?;
        off(running)?;

        let bytes = before.metadata()?.len();
        let events = log::read(&mut BufReader::new(File::open(&written)?), bytes)?;
        std::fs::remove_file(&written)?;
        is_all(&events, &before, &after)?;
        std::fs::remove_file(&after)?;
        let (server, running) = (Folder::new(&publisher.repository()), outputs.bundle.root_hash);
        let _publisher = publisher;
        Ok(Recording { tools, folder, before, events, ordered, running, offer, server, operator, _publisher })
    }

    /// The disk before the first event.
    pub(super) fn disk(&self) -> Result<Memory> {
        let file = File::open(&self.before)?;
        let bytes = file.metadata()?.len();
        Ok(Memory::over(Arc::new(file), 0, bytes))
    }

    /// From the first event on.
    pub(super) fn replay(&self) -> Result<Replay<'_>> {
        Ok(Replay::new(&self.events, vec![self.disk()?]))
    }

    /// Boots the machine with this disk. It must come up healthy in that slot and know who it is; from slot A it takes the
    /// update, until slot B is good.
    pub(super) fn boots(&self, path: &Path, firmware: Firmware, slot: Slot) -> Result<()> {
        let [port] = http::free_ports()?;
        let machine = Machine::new(&self.tools, firmware).disk(path, Bus::Virtio).forward(port, API_PORT);
        let mut running = machine.boot()?;
        healthy(&mut running, slot).context("the boot after the cut")?;
        let pin = running.machine_key(BOOT)?;
        ensure!(pin == self.operator.pin, "its state is lost: it has made itself another key");
        if slot == Slot::A {
            self.operator.update(&mut running, port).context("the update after the cut")?;
        }
        running.cut_power()
    }
}

impl Operator {
    /// Orders an update of a machine that runs slot A, and waits until slot B is good.
    fn update(&self, running: &mut Running, port: u16) -> Result<()> {
        let client = Client::new("faults", "127.0.0.1", port, Some(&self.pin), &self.key)?;
        client.order_update(UpdateOrder::Reboot, false)?;
        running.wait_event(&Event::Rebooting, WRITTEN).with_context(|| {
            let status = client.update_status();
            let error = status.map_or_else(|error| error.to_string(), |status| status.error);
            format!("the machine does not reboot into the update: {error}")
        })?;
        healthy(running, Slot::B)
    }
}

/// It comes up in that slot, and finds everything healthy.
fn healthy(running: &mut Running, slot: Slot) -> Result<()> {
    running.wait_event(&Event::Up { slot: slot.name().into() }, BOOT)?;
    running.wait_event(&Event::SlotGood(slot.name().into()), BOOT)?;
    Ok(())
}

fn off(mut running: Running) -> Result<()> {
    running.press_power_button()?;
    running.wait_off(BOOT).map(drop)
}

/// What a machine is offered.
fn offered(repository: &Path) -> Result<Offer> {
    let anchor = std::fs::read(repository.join("metadata/1.root.json"))?;
    let mut server = Folder::new(repository);
    let clock = Clock { now: Time::of_system(), built: Time::default() };
    let mut client = berth_tuf::Client::open(berth_tuf::state::Memory::default(), &anchor, &clock)?;
    client.refresh(&mut server)?;
    client.offer(&mut server, ARCHITECTURE, CHANNEL)?.context("the repository offers nothing")
}

/// The log lacks nothing: played to its end, it makes of the disk before the disk after.
fn is_all(events: &[cuts::Event], before: &Path, after: &Path) -> Result<()> {
    let (base, mut there) = (File::open(before)?, File::open(after)?);
    let bytes = base.metadata()?.len();
    ensure!(there.metadata()?.len() == bytes, "the disk has changed its size");
    let mut replay = Replay::new(events, vec![Memory::over(Arc::new(base), 0, bytes)]);
    while replay.step()? {}
    let media = replay.state(cuts::Fate::Kept, &mut cuts::Random::new(0))?;
    let played = media.first().context("there is no disk")?;
    let (mut one, mut other) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut at = 0;
    while at < bytes {
        let length = usize::try_from((bytes - at).min(CHUNK as u64))?;
        played.read(at, &mut one[..length])?;
        there.read_exact(&mut other[..length])?;
        ensure!(
            one[..length] == other[..length],
            "what was recorded is not what is on the disk, from {at} on"
        );
        at += length as u64;
    }
    Ok(())
}
