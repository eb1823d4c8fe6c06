//! `bench faults`: the power fails during a real update, at every write.
//!
//! A machine takes an update, and what it writes and flushes is recorded ([`recording`]): the release into slot B, the
//! boot record that puts it on trial, the boot loader that counts the try, the new version's first start, the record that
//! makes it the good one, and what is written to the state meanwhile. The states in which a cut can leave the disk
//! are played back ([`berth_apply::cuts`]) and judged by the code of machines ([`judge`]); a sample of them is booted, and
//! the update is then finished.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod judge;
mod log;
mod recording;

use crate::disk;
use crate::machine::Firmware;
use crate::scratch;
use anyhow::{Context, Result, anyhow, ensure};
use berth_apply::cuts::{Fate, Memory, Random, Replay};
use berth_updater::layout::Slot;
use judge::Judge;
use recording::{Lab, Recording};
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// States of a sample.
const SAMPLE: usize = 1000;
/// How often chance decides what is kept of the same writes. More of it by another seed.
const REPEATS: usize = 4;
/// Of so many states one is also used to finish the update from, without a boot.
const FINISH_EVERY: usize = 25;
/// Of so many states one has its state partition mended.
const MEND_EVERY: usize = 10;
/// Threads, and machines, at once: an emulated one keeps one processor busy.
const AT_ONCE: usize = 2;
/// States of a sample that are booted, and of how many of these one has the machine finish the update itself.
const BOOTS: usize = 20;
const UPDATE_EVERY: usize = 4;
/// The recordings; whether there is an older release in slot B.
const RECORDINGS: [bool; 2] = [false, true];

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

/// A cut in one of the recordings: after so many events, and what became of what was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    /// The number of the recording.
    of: usize,
    after: usize,
    fate: Fate,
    seed: u64,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cut { of, after, fate, seed } = self;
        write!(out, "recording {of}, after event {after}, {fate:?}, seed {seed}")
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    /// States from which the new version is started.
    started_new: usize,
    finished: usize,
    mended: usize,
    booted: usize,
    bricks: Vec<String>,
}

impl Outcome {
    fn add(&mut self, more: Outcome) {
        self.started_new += more.started_new;
        self.finished += more.finished;
        self.mended += more.mended;
        self.booted += more.booted;
        self.bricks.extend(more.bricks);
    }
}

/// What is tried.
struct Faults {
    lab: Lab,
    recordings: Vec<Recording>,
    quiet: bool,
}

/// Runs it all; an error if a single state is a brick.
pub fn faults(plan: Plan) -> Result<()> {
    scratch::remove_on(&scratch::ENDS)?;
    let faults = Faults::prepare(plan.json)?;
    let mut random = Random::new(plan.seed);
    let mut cuts = faults.cuts(&mut random)?;
    if plan.sample {
        thin_out(&mut cuts, SAMPLE, &mut random);
    }
    let length = cuts.len().div_ceil(AT_ONCE).max(1);
    let mut outcome = all_at_once(|number, outcome| {
        let part = cuts.chunks(length).nth(number).unwrap_or_default();
        faults.judge_all(part, number * length, outcome)
    })?;
    let (boots, next) = (plan.boots.unwrap_or(BOOTS).min(cuts.len()), AtomicUsize::new(0));
    outcome.add(all_at_once(|_, outcome| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            // Spread over the whole update; the last one is the end of it.
            let at = if boots < 2 { cuts.len() - 1 } else { index * (cuts.len() - 1) / (boots - 1) };
            let Some(cut) = cuts.get(at).filter(|_| index < boots) else { return Ok(()) };
            let firmware = if index.is_multiple_of(2) { Firmware::Uefi } else { Firmware::Bios };
            faults.say(&format!("boot {} of {boots}: {firmware:?}, {cut}", index + 1));
            let path = faults.lab.folder.path().join(format!("boot-{index}.raw"));
            match faults.boot(*cut, &path, firmware, index.is_multiple_of(UPDATE_EVERY)) {
                Ok(boots) => outcome.booted += boots,
                Err(error) => outcome.bricks.push(format!("{firmware:?}, {cut}: {error:#}")),
            }
            std::fs::remove_file(&path)?;
        }
    })?);
    for brick in &outcome.bricks {
        eprintln!("{brick}");
    }
    let result = json!({
        "events": faults.recordings.iter().map(|of| of.events.len() - of.ordered).sum::<usize>(),
        "states_checked": cuts.len(),
        "started_new": outcome.started_new,
        "finished": outcome.finished,
        "state_mended": outcome.mended,
        "booted": outcome.booted,
        "bricked": outcome.bricks.len(),
        "seed": plan.seed,
    });
    if plan.json {
        println!("{result}");
    } else {
        for (name, value) in result.as_object().into_iter().flatten() {
            println!("{name:16} {value}");
        }
    }
    let bricks = outcome.bricks.len();
    ensure!(bricks == 0, "{bricks} states from which a machine does not come back");
    Ok(())
}

/// Does something on each thread, and adds up what came of it.
fn all_at_once(work: impl Fn(usize, &mut Outcome) -> Result<()> + Sync) -> Result<Outcome> {
    let (all, work) = (Mutex::new((Outcome::default(), Ok(()))), &work);
    std::thread::scope(|scope| {
        for number in 0..AT_ONCE {
            let all = &all;
            scope.spawn(move || {
                let mut outcome = Outcome::default();
                let done = work(number, &mut outcome);
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.0.add(outcome);
                if done.is_err() {
                    all.1 = done;
                }
            });
        }
    });
    let (outcome, done) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.map(|()| outcome)
}

impl Faults {
    fn prepare(quiet: bool) -> Result<Faults> {
        let lab = Lab::prepare(&|line| eprintln!("{line}"))?;
        let mut faults = Faults { lab, recordings: Vec::new(), quiet };
        faults.say("recording an update into an empty slot, and one over an older release");
        let recorded: Vec<Result<Recording>> = std::thread::scope(|scope| {
            let lab = &faults.lab;
            let threads = RECORDINGS.map(|older| scope.spawn(move || lab.record(older)));
            let died = |_| Err(anyhow!("the thread that recorded an update has panicked"));
            threads.map(|thread| thread.join().unwrap_or_else(died)).into()
        });
        for (of, recording) in recorded.into_iter().enumerate() {
            let recording = recording.with_context(|| format!("recording {of}"))?;
            let events = recording.events.len() - recording.ordered;
            faults.say(&format!("recording {of}: {events} writes and flushes since the update was ordered"));
            faults.recordings.push(recording);
        }
        Ok(faults)
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    /// Judges cuts, in order; `from`: the number of the first.
    fn judge_all(&self, cuts: &[Cut], from: usize, outcome: &mut Outcome) -> Result<()> {
        let mut numbers = from..;
        for cuts in cuts.chunk_by(|one, next| one.of == next.of) {
            let recording = &self.recordings[cuts[0].of];
            let (mut judge, mut replay) = (Judge::new(&self.lab, recording)?, recording.replay()?);
            for (cut, number) in cuts.iter().zip(&mut numbers) {
                if number.is_multiple_of(100) {
                    self.say(&format!("state {number}"));
                }
                let disk = state(&mut replay, *cut)?;
                if let Err(error) = judge_one(&mut judge, disk, number, outcome) {
                    outcome.bricks.push(format!("{cut}: {error:#}"));
                }
            }
        }
        Ok(())
    }

    /// Every cut since the update was ordered. Right after a flush nothing is left to chance: one state.
    fn cuts(&self, random: &mut Random) -> Result<Vec<Cut>> {
        let mut cuts = Vec::new();
        for (of, recording) in self.recordings.iter().enumerate() {
            let mut replay = recording.replay()?;
            loop {
                let (after, nothing) = (replay.played(), replay.pending() == 0);
                for fate in Fate::ALL.into_iter().filter(|_| after >= recording.ordered) {
                    let times = match fate {
                        Fate::Lost => usize::from(nothing || after == recording.ordered),
                        _ if nothing => 0,
                        Fate::Kept => 1,
                        Fate::Some | Fate::Torn(_) => REPEATS,
                    };
                    cuts.extend((0..times).map(|_| Cut { of, after, fate, seed: random.number() }));
                }
                if !replay.step()? {
                    break;
                }
            }
        }
        Ok(cuts)
    }

    /// Boots a state into the slot that is foreseen, and finishes the update: by the machine itself if wanted, else on the
    /// disk that it leaves. How many boots that were.
    fn boot(&self, cut: Cut, path: &Path, firmware: Firmware, updates: bool) -> Result<usize> {
        let recording = &self.recordings[cut.of];
        let disk = state(&mut recording.replay()?, cut)?;
        let foreseen = Judge::new(&self.lab, recording)?.judge(&disk)?;
        let updates = updates && foreseen == Slot::A;
        disk::copy(&recording.before, path)?;
        disk.pages().try_for_each(|(at, bytes)| disk::write_at(path, at, bytes))?;
        self.lab.boots(recording, path, firmware, foreseen, updates)?;
        let left = recording::disk(path)?;
        Judge::new(&self.lab, recording)?.finish(left).context("finishing the update after the boot")?;
        Ok(1 + usize::from(updates))
    }
}

fn judge_one(judge: &mut Judge<'_>, disk: Memory, number: usize, outcome: &mut Outcome) -> Result<()> {
    let slot = judge.judge(&disk)?;
    outcome.started_new += usize::from(slot == Slot::B);
    if number.is_multiple_of(MEND_EVERY) {
        judge.mend_state(&disk)?;
        outcome.mended += 1;
    }
    if number.is_multiple_of(FINISH_EVERY) {
        judge.finish(disk).context("finishing the update")?;
        outcome.finished += 1;
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

/// Plays on to a cut; the disk after it.
fn state(replay: &mut Replay<'_>, cut: Cut) -> Result<Memory> {
    while replay.played() < cut.after {
        ensure!(replay.step()?, "there are fewer than {} events", cut.after);
    }
    replay.state(cut.fate, &mut Random::new(cut.seed))?.pop().context("there is no disk")
}
