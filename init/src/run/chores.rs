//! Work that may block, each piece in a short-lived child with a deadline: what is written to disks, modules that
//! are loaded. Pieces that write the same thing run one after the other, and only the newest waits.

use super::kernel::Halt;
use super::limits;
use super::reactor::{Reactor, Source, Watch};
use crate::sys::child;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// What a child is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Writes this generation.
    Generation(u64),
    /// Takes the config that was laid for this start from the disk.
    Seed,
    /// Chooses the disk for an installation.
    Target,
    /// Looks at the disks for this operator.
    ListDisks(u64),
    /// Has the next start come up as a new machine, for this operator.
    Reset(u64),
    /// Makes another config's text.
    MakeConfig,
    /// Makes the text of the config for this operator.
    ShowConfig(u64),
    /// Lists volumes for this operator; only this one.
    Volumes(u64, Option<String>),
    /// Removes this volume for this operator.
    RemoveVolume(u64, String),
    /// Empties the volumes' trash.
    EmptyTrash,
    /// Keeps the id table.
    Ids,
    /// Opens disks for this unit.
    Disks(String),
    /// Looks for the description of this image.
    Image(String),
    /// Reads the boot record.
    Record,
    /// Reads what is in the other slot.
    OtherSlot,
    /// Writes the step record (what is being done now).
    Step,
    /// Writes the boot record: the other slot is on trial, or is not.
    Trial,
    /// Keeps what is remembered of trials.
    Trials,
    /// Writes the boot record: this boot is healthy.
    Confirm,
    /// Writes the step record: this boot failed.
    Condemn,
    /// Modules for a feature that units need.
    Feature(&'static str),
    /// Modules for devices that came up.
    Hotplug,
    /// Modules for devices that were there at the start.
    Coldplug,
    /// Removes what this transient unit wrote.
    Discard(String),
    /// Keeps the time, as the floor of the next boot's clock.
    Clock,
    /// Locks the kernel down.
    Settle,
    /// Clock, entropy, sync, unmount.
    Last(Halt),
}

/// How it ended.
pub type Outcome = Result<String, String>;

#[derive(Debug)]
struct Running {
    job: Job,
    pipe: File,
    watch: Option<Watch>,
    deadline: Duration,
    limit: Duration,
    answer: Vec<u8>,
}

/// The children that run.
#[derive(Debug, Default)]
pub struct Chores {
    running: BTreeMap<i32, Running>,
}

impl Chores {
    /// Starts a child.
    pub fn start(
        &mut self,
        reactor: &mut Reactor,
        job: Job,
        limit: Duration,
        now: Duration,
        work: impl FnOnce() -> Outcome,
    ) -> Result<(), String> {
        if self.running.len() >= limits::CHILDREN {
            return Err(format!("{} other helper processes are at work", self.running.len()));
        }
        let child = child::start(work).map_err(|error| error.to_string())?;
        self.adopt(reactor, job, child, limit, now);
        Ok(())
    }

    /// Looks after a child that somebody else started.
    pub fn adopt(
        &mut self,
        reactor: &mut Reactor,
        job: Job,
        child: child::Child,
        limit: Duration,
        now: Duration,
    ) {
        let (pid, pipe) = child.into_parts();
        let pipe = File::from(pipe);
        let watch = reactor.watch(&pipe, Source::Chore(pid)).ok();
        let deadline = now.saturating_add(limit);
        self.running.insert(pid, Running { job, pipe, watch, deadline, limit, answer: Vec::new() });
    }

    /// Is a child of this kind at work?
    pub fn busy(&self, job: &Job) -> bool {
        self.running.values().any(|running| running.job == *job)
    }

    /// How many are at work on jobs like this.
    pub fn count(&self, like: impl Fn(&Job) -> bool) -> usize {
        self.running.values().filter(|running| like(&running.job)).count()
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Duration> {
        self.running.values().map(|running| running.deadline).min()
    }

    /// The child's pipe is readable: takes what is there; at its end, that is the outcome. The process itself is
    /// reaped with all others.
    pub fn readable(&mut self, reactor: &mut Reactor, pid: i32) -> Option<(Job, Outcome)> {
        let running = self.running.get_mut(&pid)?;
        let mut part = [0; 1024];
        match running.pipe.read(&mut part) {
            Ok(0) => self.end(reactor, pid),
            Ok(count) => {
                let room = limits::ANSWER_BYTES.saturating_sub(running.answer.len());
                running.answer.extend_from_slice(&part[..count.min(room)]);
                None
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => None,
            Err(error) => {
                running.answer = format!("-its answer was not read: {error}").into_bytes();
                self.end(reactor, pid)
            }
        }
    }

    /// Kills what is late. A process stuck in the kernel stays until the kernel lets it go; nobody waits for it.
    pub fn tick(&mut self, reactor: &mut Reactor, now: Duration) -> Vec<(Job, Outcome)> {
        let late: Vec<i32> =
            self.running.iter().filter(|(_, r)| r.deadline <= now).map(|(pid, _)| *pid).collect();
        late.into_iter().filter_map(|pid| self.kill(reactor, pid)).collect()
    }

    /// Kills children of a kind.
    pub fn kill_all(&mut self, reactor: &mut Reactor, job: &Job) {
        let pids: Vec<i32> =
            self.running.iter().filter(|(_, r)| r.job == *job).map(|(pid, _)| *pid).collect();
        for pid in pids {
            let _ = self.kill(reactor, pid);
        }
    }

    fn kill(&mut self, reactor: &mut Reactor, pid: i32) -> Option<(Job, Outcome)> {
        let running = self.running.get_mut(&pid)?;
        // Not reaped yet, or its pipe would have ended: the pid is its own.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        running.answer = format!("-not done within {} s", running.limit.as_secs()).into_bytes();
        self.end(reactor, pid)
    }

    fn end(&mut self, reactor: &mut Reactor, pid: i32) -> Option<(Job, Outcome)> {
        let mut running = self.running.remove(&pid)?;
        if let Some(watch) = running.watch.take() {
            reactor.forget(&running.pipe, watch);
        }
        let text = String::from_utf8_lossy(&running.answer).into_owned();
        let outcome = match text.split_at_checked(1) {
            Some(("+", good)) => Ok(good.to_owned()),
            Some(("-", bad)) => Err(bad.to_owned()),
            _ => Err("the helper process ended without an answer".to_owned()),
        };
        Some((running.job, outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::waitpid;

    fn finish(chores: &mut Chores, reactor: &mut Reactor) -> (Job, Outcome) {
        for _ in 0..1000 {
            for source in reactor.wait(Duration::from_secs(10)) {
                let Source::Chore(pid) = source else { panic!() };
                if let Some(ended) = chores.readable(reactor, pid) {
                    let _ = waitpid(Pid::from_raw(pid), None);
                    return ended;
                }
            }
        }
        panic!("no end")
    }

    #[test]
    fn an_answer_comes_back_and_a_hang_ends() {
        let (mut chores, mut reactor) = (Chores::default(), Reactor::new().unwrap());
        let limit = Duration::from_secs(10);
        chores.start(&mut reactor, Job::Ids, limit, Duration::ZERO, || Ok("done".into())).unwrap();
        assert_eq!(finish(&mut chores, &mut reactor), (Job::Ids, Ok("done".into())));
        chores.start(&mut reactor, Job::Step, limit, Duration::ZERO, || Err("disk full".into())).unwrap();
        assert_eq!(finish(&mut chores, &mut reactor), (Job::Step, Err("disk full".into())));
        let hang = || loop {
            std::thread::park();
        };
        chores.start(&mut reactor, Job::Generation(1), limit, Duration::ZERO, hang).unwrap();
        assert!(chores.busy(&Job::Generation(1)));
        assert!(chores.tick(&mut reactor, Duration::from_secs(9)).is_empty());
        let ended = chores.tick(&mut reactor, limit);
        assert_eq!(ended, [(Job::Generation(1), Err("not done within 10 s".into()))]);
        assert_eq!(chores.next(), None);
    }
}
