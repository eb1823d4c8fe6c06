//! `bench faults`: the power fails during a real update, at every write.
//!
//! A machine takes an update, and what it writes and flushes is recorded ([`recording`]): the release into slot B, the
//! boot record that puts it on trial, the boot loader that counts the try, the new version's first start, the record that
//! makes it the good one, and what is written to the state meanwhile. The states in which a cut can leave the disk
//! are played back ([`berth_apply::cuts`]) and judged by the code of machines ([`judge`]); a sample of them is booted, and
//! the machine then finishes the update.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod judge;
mod log;
mod recording;

use crate::disk;
use crate::machine::Firmware;
use crate::scratch;
use anyhow::{Context, Result, ensure};
use berth_apply::cuts::{Fate, Memory, Random, Replay};
use berth_updater::layout::Slot;
use judge::Judge;
use recording::Recording;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// States of a sample.
const SAMPLE: usize = 1000;
/// How often chance decides what is kept of the same writes: in a sample, and else.
const REPEATS: [usize; 2] = [8, 64];
/// Of so many states one is also used to finish the update from, without a boot.
const FINISH_EVERY: usize = 25;
/// Of so many states one has its state partition mended.
const MEND_EVERY: usize = 10;
/// Threads, and machines, at once: an emulated one keeps one processor busy.
const AT_ONCE: usize = 2;
/// States of a sample that are booted.
const BOOTS: usize = 20;

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

/// A cut: after so many events, and what became of what was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    after: usize,
    fate: Fate,
    seed: u64,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cut { after, fate, seed } = self;
        write!(out, "after event {after}, {fate:?}, seed {seed}")
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

/// Runs it all; an error if a single state is a brick.
pub fn faults(plan: Plan) -> Result<()> {
    scratch::remove_on(&scratch::ENDS)?;
    let say = |line: &str| {
        if !plan.json {
            eprintln!("{line}");
        }
    };
    let recording = Recording::make(&|line| eprintln!("{line}"))?;
    let events = recording.events.len() - recording.ordered;
    say(&format!("{events} writes and flushes since the update was ordered"));
    let mut random = Random::new(plan.seed);
    let mut cuts = cuts(&recording, REPEATS[usize::from(!plan.sample)], &mut random)?;
    if plan.sample {
        thin_out(&mut cuts, SAMPLE, &mut random);
    }
    let mut outcome = all_at_once(|number, outcome| {
        let length = cuts.len().div_ceil(AT_ONCE);
        let from = number * length;
        judge_all(&recording, &cuts, from..(from + length).min(cuts.len()), outcome, &say)
    })?;
    let (boots, next) = (plan.boots.unwrap_or(BOOTS).min(cuts.len()), AtomicUsize::new(0));
    outcome.add(all_at_once(|_, outcome| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            // Spread over the whole update; the last one is the end of it.
            let at = if boots < 2 { cuts.len() - 1 } else { index * (cuts.len() - 1) / (boots - 1) };
            let Some(cut) = cuts.get(at).filter(|_| index < boots) else { return Ok(()) };
            let firmware = if index.is_multiple_of(2) { Firmware::Uefi } else { Firmware::Bios };
            say(&format!("boot {} of {boots}: {firmware:?}, {cut}", index + 1));
            let path = recording.folder.path().join(format!("boot-{index}.raw"));
            match boot(&recording, *cut, &path, firmware) {
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
        "events": events,
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
    ensure!(
        outcome.bricks.is_empty(),
        "{} states from which a machine does not come back",
        outcome.bricks.len()
    );
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

/// Judges some of the cuts, in order.
fn judge_all(
    recording: &Recording,
    cuts: &[Cut],
    which: std::ops::Range<usize>,
    outcome: &mut Outcome,
    say: &impl Fn(&str),
) -> Result<()> {
    let (mut judge, mut replay) = (Judge::new(recording)?, recording.replay()?);
    for index in which {
        if index % 100 == 0 {
            say(&format!("state {index} of {}", cuts.len()));
        }
        let Some(cut) = cuts.get(index) else { break };
        let disk = state(&mut replay, *cut)?;
        let mut judged = || -> Result<()> {
            let slot = judge.judge(&disk)?;
            outcome.started_new += usize::from(slot == Slot::B);
            if index.is_multiple_of(MEND_EVERY) {
                judge.mend_state(&disk)?;
                outcome.mended += 1;
            }
            if index.is_multiple_of(FINISH_EVERY) {
                judge.finish(disk.clone()).context("finishing the update")?;
                outcome.finished += 1;
            }
            Ok(())
        };
        if let Err(error) = judged() {
            outcome.bricks.push(format!("{cut}: {error:#}"));
        }
    }
    Ok(())
}

/// Every cut since the update was ordered. What is not flushed is nothing right after a flush: one state.
fn cuts(recording: &Recording, repeats: usize, random: &mut Random) -> Result<Vec<Cut>> {
    let mut cuts = Vec::new();
    let mut replay = recording.replay()?;
    loop {
        let (after, nothing) = (replay.played(), replay.pending() == 0);
        for fate in Fate::ALL.into_iter().filter(|_| after >= recording.ordered) {
            let times = match fate {
                Fate::Lost => usize::from(nothing || after == recording.ordered),
                _ if nothing => 0,
                Fate::Kept => 1,
                Fate::Some | Fate::Torn(_) => repeats,
            };
            cuts.extend((0..times).map(|_| Cut { after, fate, seed: random.number() }));
        }
        if !replay.step()? {
            return Ok(cuts);
        }
    }
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

/// Boots a state into the slot that is foreseen; if that is A, the machine then takes the update from the beginning. How
/// many boots that were.
fn boot(recording: &Recording, cut: Cut, path: &Path, firmware: Firmware) -> Result<usize> {
    let disk = state(&mut recording.replay()?, cut)?;
    let foreseen = Judge::new(recording)?.judge(&disk)?;
    disk::copy(&recording.before, path)?;
    disk.pages().try_for_each(|(at, bytes)| disk::write_at(path, at, bytes))?;
    recording.boots(path, firmware, foreseen)?;
    Ok(if foreseen == Slot::A { 2 } else { 1 })
}
