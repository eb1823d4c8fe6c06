//! `bench faults`: the power fails during a real update of a real disk image, at every write.
//!
//! A release is written into slot B, once where that holds nothing and once over an older release, with the code that
//! machines use, and every write and sync is recorded: those of the release, then the boot record's that puts the slot on
//! trial. The states in which a cut can
//! leave the disk are played back ([`berth_apply::cuts`]) and judged by the code of machines; a sample of them is booted,
//! the update is then finished, and some of these are booted again.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use crate::disk;
use crate::lines::Event;
use crate::machine::{Bus, Firmware, Machine};
use crate::scratch::{self, Scratch};
use anyhow::{Context, Result, bail, ensure};
use berth_apply::cuts::{self, Fate, Log, Memory, Random, Recorded, Replay};
use berth_apply::{Medium, SlotMedia, Window};
use berth_image::disk::Disk;
use berth_image::tools::Tools;
use berth_image::{Options, Outputs};
use berth_repo::{Built, Keys, Repository, Setup};
use berth_tuf::fetch::Folder;
use berth_tuf::release::{ARCHITECTURE, CHANNEL, Offer};
use berth_tuf::time::{Clock, Time};
use berth_updater::gpt::Table;
use berth_updater::layout::{self, Part, Slot};
use berth_updater::record::{REC0_AT, REC1_AT, Record, SECTOR, TRIES, Trial};
use berth_updater::verity::RootHash;
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// An emulated boot takes half a minute on a busy computer; this ends a hang.
const PATIENCE: Duration = Duration::from_secs(300);
/// States of a sample.
const SAMPLE: usize = 1000;
/// How often chance decides what is kept of the same writes: in a sample, and else.
const REPEATS: [usize; 2] = [8, 64];
/// Of so many states one is also used to finish the update from, without a boot.
const FINISH_EVERY: usize = 25;
/// Machines at once: an emulated one keeps one processor busy.
const AT_ONCE: usize = 2;
/// Boots of a sample, and after how many of them the finished update is booted as well.
const BOOTS: usize = 20;
const BOOT_AGAIN_EVERY: usize = 7;
/// What is written to, in the order in which it is recorded.
const PARTS: [Part; 4] = [Slot::B.root(), Slot::B.verity(), layout::PARTS[1], layout::RECORD];

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// A thousand states and twenty boots instead of every state.
    pub sample: bool,
    /// Of what is left to chance.
    pub seed: u64,
    /// States that are booted; as many as there are in a sample if not said.
    pub boots: Option<usize>,
    /// One JSON object on standard output.
    pub json: bool,
}

/// What is tried.
struct Faults {
    tools: Tools,
    folder: Scratch,
    scenarios: Vec<Scenario>,
    running: RootHash,
    offer: Offer,
    server: Folder,
    quiet: bool,
}

/// An update, recorded.
struct Scenario {
    name: &'static str,
    /// The disk before it: A runs.
    before: PathBuf,
    events: Vec<cuts::Event>,
}

/// A cut: after so many events, and what became of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    scenario: usize,
    after: usize,
    fate: Fate,
    seed: u64,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cut { scenario, after, fate, seed } = self;
        write!(out, "scenario {scenario}, after event {after}, {fate:?}, seed {seed}")
    }
}

/// Runs it all; an error if a single state is a brick.
pub fn faults(plan: Plan) -> Result<()> {
    scratch::remove_on(&scratch::ENDS)?;
    let faults = Faults::prepare(plan.json)?;
    let mut random = Random::new(plan.seed);
    let mut cuts = faults.cuts(REPEATS[usize::from(!plan.sample)], &mut random)?;
    if plan.sample {
        thin_out(&mut cuts, SAMPLE, &mut random);
    }
    let mut bricked = Vec::new();
    let mut finished = 0;
    let mut playing: Option<(usize, Replay<'_>)> = None;
    for (index, cut) in cuts.iter().enumerate() {
        if index % 100 == 0 {
            faults.say(&format!("{index} of {} states", cuts.len()));
        }
        let finish = index % FINISH_EVERY == 0;
        let replay = match playing.take().filter(|(scenario, _)| *scenario == cut.scenario) {
            Some((_, replay)) => replay,
            None => faults.replay(cut.scenario)?,
        };
        let (_, replay) = playing.insert((cut.scenario, replay));
        play_to(replay, cut.after)?;
        let media = replay.state(cut.fate, &mut Random::new(cut.seed))?;
        match faults.judge(cut.scenario, media, finish) {
            Ok(_) => finished += usize::from(finish),
            Err(error) => bricked.push(format!("{cut}: {error:#}")),
        }
    }
    let boots = plan.boots.unwrap_or(BOOTS).min(cuts.len());
    let (next, results) = (AtomicUsize::new(0), Mutex::new((0, Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= boots {
                        return;
                    }
                    // Spread over the whole update; the last one is the end of it.
                    let at = if boots < 2 { cuts.len() - 1 } else { index * (cuts.len() - 1) / (boots - 1) };
                    let Some(cut) = cuts.get(at) else { continue };
                    let firmware = if index % 2 == 0 { Firmware::Uefi } else { Firmware::Bios };
                    let again = index % BOOT_AGAIN_EVERY == 0;
                    faults.say(&format!("boot {} of {boots}: {firmware:?}, {cut}", index + 1));
                    let outcome = faults.boot(index, *cut, firmware, again);
                    let mut all = results.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(more) => all.0 += more,
                        Err(error) => all.1.push(format!("{firmware:?}, {cut}: {error:#}")),
                    }
                }
            });
        }
    });
    let (booted, more) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    bricked.extend(more);
    for brick in &bricked {
        eprintln!("{brick}");
    }
    let result = json!({
        "events": faults.scenarios.iter().map(|scenario| scenario.events.len()).sum::<usize>(),
        "states_checked": cuts.len(),
        "finished": finished,
        "booted": booted,
        "bricked": bricked.len(),
        "seed": plan.seed,
    });
    if plan.json {
        println!("{result}");
    } else {
        for (name, value) in result.as_object().into_iter().flatten() {
            println!("{name:16} {value}");
        }
    }
    ensure!(bricked.is_empty(), "{} states from which a machine does not come back", bricked.len());
    Ok(())
}

/// Plays on until so many events have been played.
fn play_to(replay: &mut Replay<'_>, events: usize) -> Result<()> {
    while replay.played() < events {
        ensure!(replay.step()?, "there are fewer than {events} events");
    }
    Ok(())
}

/// Leaves so many, spread evenly by chance; the first and the last stay.
fn thin_out(cuts: &mut Vec<Cut>, wanted: usize, random: &mut Random) {
    let last = cuts.len().saturating_sub(1);
    let mut left = wanted.saturating_sub(2);
    let mut candidates = last.saturating_sub(1);
    let mut index = 0;
    cuts.retain(|_| {
        let at = index;
        index += 1;
        if at == 0 || at == last {
            return true;
        }
        let keep = (random.below(candidates.max(1) as u64) as u128) < left as u128;
        candidates = candidates.saturating_sub(1);
        left -= usize::from(keep);
        keep
    });
}

impl Faults {
    fn prepare(quiet: bool) -> Result<Faults> {
        let say = |line: &str| eprintln!("{line}");
        let tools = berth_image::tools::ensure(&say)?;
        let outputs = berth_image::build(&Options::default(), &say)?;
        let folder = Scratch::new("faults")?;
        let build = |version: &str| -> Result<Outputs> {
            let out = folder.path().join(version);
            berth_image::build(&Options { version: version.into(), out, ..Options::default() }, &say)
        };
        let (older, newer) = (build("0-older")?, build("9-newer")?);
        let over = folder.path().join("over.raw");
        disk::copy(&outputs.raw, &over)?;
        Disk::open(&over)?.install(&tools, Slot::B, &older.bundle)?;
        let fresh = folder.path().join("fresh.raw");
        disk::copy(&outputs.raw, &fresh)?;
        let repository = folder.path().join("repository");
        let offer = publish(&repository, &folder.path().join("keys"), &newer.update)?;
        let running = outputs.bundle.root_hash;
        let server = Folder::new(&repository);
        let scenario = |(name, before)| Scenario { name, before, events: Vec::new() };
        let scenarios = [("into an empty slot", fresh), ("over an older release", over)].map(scenario).into();
        let mut faults = Faults { tools, folder, scenarios, running, offer, server, quiet };
        for index in 0..faults.scenarios.len() {
            let events = faults.record(index)?;
            faults.scenarios[index].events = events;
            let Scenario { name, events, .. } = &faults.scenarios[index];
            faults.say(&format!("recorded an update {name}: {} writes and syncs", events.len()));
        }
        Ok(faults)
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    /// The partitions before the update.
    fn media(&self, scenario: usize) -> Result<Vec<Memory>> {
        let before = &self.scenarios[scenario].before;
        let disk = Disk::open(before)?;
        let file = Arc::new(File::open(before)?);
        let of = |part: Part| Ok(Memory::over(Arc::clone(&file), disk.offset(part)?, part.bytes));
        PARTS.into_iter().map(of).collect()
    }

    fn replay(&self, scenario: usize) -> Result<Replay<'_>> {
        Ok(Replay::new(&self.scenarios[scenario].events, self.media(scenario)?))
    }

    fn record(&self, scenario: usize) -> Result<Vec<cuts::Event>> {
        let log = Log::default();
        let media = self.media(scenario)?.into_iter().enumerate();
        let mut media: Vec<Recorded<Memory>> =
            media.map(|(number, medium)| Recorded::new(medium, number, &log)).collect();
        self.update(&mut media)?;
        Ok(log.events())
    }

    /// A whole update: the release into slot B, then the record that puts it on trial.
    fn update<M: Medium>(&self, media: &mut [M]) -> Result<()> {
        let [root, verity, esp, record] = media else { bail!("not the four partitions") };
        let mut to = SlotMedia { slot: Slot::B, root, verity, esp, running: Some(self.running) };
        // Of its own, as two are under way at once.
        let notes = tempfile::tempdir_in(self.folder.path())?;
        berth_apply::apply(&self.offer, &mut self.server.clone(), &mut to, notes.path(), &mut |_| {})?;
        put_on_trial(record)
    }

    /// Every cut.
    fn cuts(&self, repeats: usize, random: &mut Random) -> Result<Vec<Cut>> {
        let mut cuts = Vec::new();
        for scenario in 0..self.scenarios.len() {
            self.cuts_of(scenario, repeats, random, &mut cuts)?;
        }
        Ok(cuts)
    }

    fn cuts_of(
        &self,
        scenario: usize,
        repeats: usize,
        random: &mut Random,
        cuts: &mut Vec<Cut>,
    ) -> Result<()> {
        let mut replay = self.replay(scenario)?;
        loop {
            for fate in Fate::ALL {
                let times = match fate {
                    Fate::Lost => 1,
                    _ if replay.pending() == 0 => 0,
                    Fate::Kept => 1,
                    Fate::Some | Fate::Torn(_) => repeats,
                };
                let after = replay.played();
                cuts.extend((0..times).map(|_| Cut { scenario, after, fate, seed: random.number() }));
            }
            if !replay.step()? {
                return Ok(());
            }
        }
    }

    /// The partitions after a cut.
    fn state(&self, cut: Cut) -> Result<Vec<Memory>> {
        let mut replay = self.replay(cut.scenario)?;
        play_to(&mut replay, cut.after)?;
        Ok(replay.state(cut.fate, &mut Random::new(cut.seed))?)
    }

    /// The slot that the boot loader would start, by the code of machines; an error if that is not one that runs.
    fn judge(&self, scenario: usize, mut media: Vec<Memory>, finish: bool) -> Result<Slot> {
        let slot = self.judged(scenario, &mut media)?;
        if finish {
            self.update(&mut media).context("finishing the update")?;
            let after = self.judged(scenario, &mut media).context("after the update was finished")?;
            ensure!(after == Slot::B, "the update was finished, and slot {after} would be started");
        }
        Ok(slot)
    }

    fn judged(&self, scenario: usize, media: &mut [Memory]) -> Result<Slot> {
        let mut whole = Whole::new(&self.scenarios[scenario].before, media)?;
        let sectors = whole.bytes / 512;
        let found = Table::read(&mut whole, 512, sectors).context("the partition table")?;
        ensure!(
            found.primary.is_none() && found.backup.is_none(),
            "a copy of the partition table is damaged"
        );
        let [root, verity, esp, record] = media else { bail!("not the four partitions") };
        let record = read_record(record)?.context("both copies of the boot record are damaged")?;
        ensure!(record.good == Slot::A, "slot {} is the good one", record.good);
        ensure!(berth_apply::holds(esp, Slot::A)?, "the boot loader would refuse slot A");
        if !berth_apply::holds(esp, Slot::B)? {
            return Ok(Slot::A);
        }
        let trial = record.trial.is_some();
        let mut of = SlotMedia { slot: Slot::B, root, verity, esp, running: None };
        let whole = berth_apply::check(&self.offer, &mut of, &mut |_| {});
        match whole {
            Ok(()) if trial => Ok(Slot::B),
            Ok(()) => Ok(Slot::A),
            Err(error) if trial => bail!("slot B is on trial, and not whole: {error}"),
            // What is there is the release before.
            Err(_) => {
                ensure!(
                    self.is_untouched(media)?,
                    "slot B would be started if slot A failed, and is not whole"
                );
                Ok(Slot::A)
            }
        }
    }

    /// Whether root and verity of slot B are as they were before.
    fn is_untouched(&self, media: &[Memory]) -> Result<bool> {
        let untouched = |medium: &Memory| medium.pages().next().is_none();
        Ok(media.iter().take(2).all(untouched))
    }

    /// Boots a state, finishes the update on what that leaves, and boots that too if wanted. How many boots that were.
    fn boot(&self, index: usize, cut: Cut, firmware: Firmware, again: bool) -> Result<usize> {
        let path = self.folder.path().join(format!("boot-{index}.raw"));
        let booted = self.boot_from(&path, cut, firmware, again);
        let _ = std::fs::remove_file(&path);
        booted
    }

    fn boot_from(&self, path: &Path, cut: Cut, firmware: Firmware, again: bool) -> Result<usize> {
        let mut media = self.state(cut)?;
        let expected = self.judged(cut.scenario, &mut media)?;
        disk::copy(&self.scenarios[cut.scenario].before, path)?;
        let offsets = Disk::open(path)?;
        for (part, medium) in PARTS.into_iter().zip(&media) {
            let at = offsets.offset(part)?;
            medium.pages().try_for_each(|(page, bytes)| disk::write_at(path, at + page, bytes))?;
        }
        self.boots_into(path, firmware, expected).context("the boot after the cut")?;
        if expected == Slot::B {
            return Ok(1);
        }
        let open = |part: Part| -> Result<Window> {
            let file = File::options().read(true).write(true).open(path)?;
            Ok(Window::part(file, offsets.offset(part)?, part.bytes)?)
        };
        let mut media = PARTS.into_iter().map(open).collect::<Result<Vec<_>>>()?;
        self.update(&mut media).context("finishing the update")?;
        if !again {
            return Ok(1);
        }
        self.boots_into(path, firmware, Slot::B).context("the boot after the update")?;
        Ok(2)
    }

    fn boots_into(&self, path: &Path, firmware: Firmware, slot: Slot) -> Result<()> {
        let key = berth_ctl::public_key_line()?;
        let config = format!(
            "format = 1
hostname = \"faults\"

[access]
keys = [\"{key}\"]
"
        );
        let machine = Machine::new(&self.tools, firmware).disk(path, Bus::Virtio).isolated();
        let mut running = machine.config(&config).boot()?;
        running.wait_event(&Event::Up { slot: slot.name().into() }, PATIENCE)?;
        running.wait_event(&Event::SlotGood(slot.name().into()), PATIENCE)?;
        // What it wrote until it was called healthy is on the disk.
        running.cut_power()
    }
}

/// A repository with this release, and what a machine is offered.
fn publish(repository: &Path, keys: &Path, update: &Path) -> Result<Offer> {
    let built = Built::open(update)?;
    let today = Time::from_seconds(built.release().built);
    Repository::init(repository, keys, Setup { root_keys: 1, threshold: 1 }, today)?;
    let all = Keys::load(&[keys.to_owned()])?;
    Repository::open(repository)?.publish_release(&built, CHANNEL, &all, today)?;
    let anchor = std::fs::read(repository.join("metadata/1.root.json"))?;
    let mut server = Folder::new(repository);
    let clock = Clock { now: today, built: Time::default() };
    let mut client = berth_tuf::Client::open(berth_tuf::state::Memory::default(), &anchor, &clock)?;
    client.refresh(&mut server)?;
    client.offer(&mut server, ARCHITECTURE, CHANNEL)?.context("the repository offers nothing")
}

fn read_record(record: &mut dyn Medium) -> Result<Option<Record>> {
    let (mut rec0, mut rec1) = ([0; SECTOR], [0; SECTOR]);
    record.read_at(REC0_AT, &mut rec0)?;
    record.read_at(REC1_AT, &mut rec1)?;
    Ok(Record::choose(&rec0, &rec1).0)
}

/// As PID 1 does it: the record, synced; its copy, synced.
fn put_on_trial(medium: &mut dyn Medium) -> Result<()> {
    let record = read_record(medium)?.context("there is no boot record")?;
    let trial = Some(Trial { slot: Slot::B, tries: TRIES });
    let sector = Record { trial, said: String::new(), ..record }.to_sector();
    for at in [REC0_AT, REC1_AT] {
        medium.write_at(at, &sector)?;
        medium.flush()?;
    }
    Ok(())
}

/// A disk with some of its partitions in memory.
struct Whole<'m> {
    base: File,
    parts: Vec<(u64, &'m Memory)>,
    bytes: u64,
    at: u64,
}

impl<'m> Whole<'m> {
    fn new(base: &Path, media: &'m [Memory]) -> Result<Whole<'m>> {
        let disk = Disk::open(base)?;
        let starts = PARTS.into_iter().map(|part| disk.offset(part));
        let parts = starts.zip(media).map(|(start, medium)| Ok((start?, medium))).collect::<Result<_>>()?;
        let base = File::open(base)?;
        let bytes = base.metadata()?.len();
        Ok(Whole { base, parts, bytes, at: 0 })
    }
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        // Sector by sector: partitions start at whole ones.
        let room = 512 - usize::try_from(self.at % 512).unwrap_or(0);
        let length = buffer.len().min(room);
        let buffer = &mut buffer[..length];
        let within = |(start, medium): &&(u64, &Memory)| (*start..start + medium.bytes()).contains(&self.at);
        let count = match self.parts.iter().find(within) {
            Some((start, medium)) => {
                medium.read(self.at - start, buffer)?;
                length
            }
            None => self.base.read_at(buffer, self.at)?,
        };
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Whole<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let sum = |base: u64, by: i64| base.checked_add_signed(by);
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => sum(self.bytes, by),
            SeekFrom::Current(by) => sum(self.at, by),
        };
        self.at = at.ok_or_else(|| io::Error::other("before the start"))?;
        Ok(self.at)
    }
}
