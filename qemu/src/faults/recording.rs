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
use berth_apply::Medium;
use berth_apply::cuts::{self, Fate, Memory, Random, Replay};
use berth_ctl::{Client, PrivateKey};
use berth_image::disk::Disk;
use berth_image::tools::Tools;
use berth_image::{Bundle, Options, Outputs, Progress};
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
/// The version that is written, and one that was in its place.
const VERSION: &str = "9-newer";
const OLDER: &str = "0-older";
/// Bytes that are compared at once.
const CHUNK: usize = 1 << 20;

/// What every recording has in common.
pub(super) struct Lab {
    pub(super) tools: Tools,
    pub(super) folder: Scratch,
    /// What is in slot A, and with it on a disk that was never booted.
    pub(super) running: RootHash,
    image: PathBuf,
    /// What is in slot B before, if anything.
    older: Bundle,
    /// What is written into slot B.
    pub(super) offer: Offer,
    pub(super) server: Folder,
    /// Who may give orders to the machine.
    key: PrivateKey,
    // Serves the repository.
    publisher: Publisher,
}

/// An update, recorded.
pub(super) struct Recording {
    /// Slot B held an older release.
    pub(super) older: bool,
    /// The disk before the first event. It never changes.
    pub(super) before: PathBuf,
    pub(super) events: Vec<cuts::Event>,
    /// So many of the events were there before the update was ordered.
    pub(super) ordered: usize,
    /// The machine's key.
    pin: String,
}

impl Recording {
    /// The disk before the first event, and all events to come.
    pub(super) fn replay(&self) -> Result<Replay<'_>> {
        Ok(Replay::new(&self.events, vec![disk(&self.before)?]))
    }

    /// The log lacks nothing: played to its end, it makes of the disk before the disk after.
    fn is_all(&self, after: &Path) -> Result<()> {
        let mut replay = self.replay()?;
        while replay.step()? {}
        let media = replay.state(Fate::Kept, &mut Random::new(0))?;
        let played = media.first().context("there is no disk")?;
        let (mut file, bytes) = (File::open(after)?, played.bytes());
        ensure!(file.metadata()?.len() == bytes, "the disk has changed its size");
        let (mut one, mut other) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut at = 0;
        while at < bytes {
            let length = usize::try_from((bytes - at).min(CHUNK as u64))?;
            played.read(at, &mut one[..length])?;
            file.read_exact(&mut other[..length])?;
            ensure!(
                one[..length] == other[..length],
                "what was recorded is not what is on the disk, from {at} on"
            );
            at += length as u64;
        }
        Ok(())
    }
}

impl Lab {
    /// Builds and publishes.
    pub(super) fn prepare(say: Progress<'_>) -> Result<Lab> {
        let tools = berth_image::tools::ensure(say)?;
        let outputs: Outputs = berth_image::build(&Options::default(), say)?;
        let older = system(OLDER, None, say)?;
        let folder = Scratch::new("faults")?;
        let updates = folder.path().join("updates");
        std::fs::create_dir(&updates).context("a folder for the repository")?;
        let publisher = Publisher::new(&updates)?;
        publisher.publish(&system(VERSION, None, say)?, VERSION)?;
        let key = PrivateKey::create(&folder.path().join("key"), "faults")?;
        let (running, image) = (outputs.bundle.root_hash, outputs.raw);
        let (offer, server) = (offered(&publisher.repository())?, Folder::new(&publisher.repository()));
        Ok(Lab { tools, folder, running, image, older, offer, server, key, publisher })
    }

    /// Boots a machine, whose slot B holds an older release or nothing, updates it, and reads the log.
    pub(super) fn record(&self, older: bool) -> Result<Recording> {
        let file = |kind: &str| self.folder.path().join(format!("{kind}-{older}"));
        let (before, after, writes) = (file("before"), file("after"), file("writes"));
        disk::copy(&self.image, &after)?;
        if older {
            Disk::open(&after)?.install(&self.tools, Slot::B, &self.older)?;
        }
        let config = format!(
            "format = 1\nhostname = \"faults\"\n[access]\nkeys = [\"{}\"]\n{}settle = \"5s\"\n",
            self.key.public_line(),
            self.publisher.config()?
        );
        // What a first boot writes once in a machine's life is no part of an update.
        let machine = Machine::new(&self.tools, Firmware::Uefi).disk(&after, Bus::Virtio);
        let mut running = machine.clone().isolated().config(&config).boot()?;
        let pin = running.machine_key(BOOT)?;
        healthy(&mut running, Slot::A)?;
        off(running)?;
        disk::copy(&after, &before)?;

        let [port] = http::free_ports()?;
        let mut running = machine.logged(&writes).forward(port, API_PORT).boot()?;
        healthy(&mut running, Slot::A)?;
        let ordered = usize::try_from(log::count(&mut File::open(&writes)?)?)?;
        self.update(&mut running, port, &pin)?;
        off(running)?;

        let bytes = before.metadata()?.len();
        let events = log::read(&mut BufReader::new(File::open(&writes)?), bytes)?;
        let recording = Recording { older, before, events, ordered, pin };
        recording.is_all(&after)?;
        std::fs::remove_file(&writes)?;
        std::fs::remove_file(&after)?;
        Ok(recording)
    }

    /// Boots a recorded machine with another disk. It must come up healthy in that slot, and know who it is. `updates`: it
    /// then takes the update, until slot B is good.
    pub(super) fn boots(
        &self,
        of: &Recording,
        path: &Path,
        firmware: Firmware,
        slot: Slot,
        updates: bool,
    ) -> Result<()> {
        let [port] = http::free_ports()?;
        let machine = Machine::new(&self.tools, firmware).disk(path, Bus::Virtio).forward(port, API_PORT);
        let mut running = if updates { machine } else { machine.isolated() }.boot()?;
        healthy(&mut running, slot).context("the boot after the cut")?;
        let pin = running.machine_key(BOOT)?;
        ensure!(pin == of.pin, "its state is lost: it has made itself another key");
        if updates {
            self.update(&mut running, port, &pin).context("the update after the cut")?;
        }
        // What it wrote until it was called healthy is on the disk.
        running.cut_power()
    }

    /// Orders an update of a machine that runs slot A, and waits until slot B is good.
    fn update(&self, running: &mut Running, port: u16, pin: &str) -> Result<()> {
        let client = Client::new("faults", "127.0.0.1", port, Some(pin), &self.key)?;
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

/// A disk in memory, over one in a file.
pub(super) fn disk(path: &Path) -> Result<Memory> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let bytes = file.metadata()?.len();
    Ok(Memory::over(Arc::new(file), 0, bytes))
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
