//! The life of a unit: one state machine, pure.
//!
//! # In plain words
//!
//! **Wanted or not.** `Start` makes a unit wanted, `Stop` unwanted; nothing else does. What follows is the way from
//! where the unit is to where it is wanted to be. `Start` of a unit that is wanted already changes nothing, with two
//! exceptions: it gets a unit out of `failed` and `finished`. `Stop` works in every state and always ends in
//! `stopped`. `Stop` and then `Start`, before the unit has stopped, is a clean restart: it stops first.
//!
//! **The way up.** *waiting* for what it requires and comes after; *preparing* while the store makes the image ready
//! (asked again every [`limits::PREPARE_AGAIN`], in case the store was restarted meanwhile); *starting* from the fork
//! of the setup child until the container's own program runs, at most [`limits::START_LIMIT`]; *running*; *healthy*
//! once its [`Proof`] is there. Every start goes this whole way, a restart too: what was true of requirements and
//! image an hour ago is not taken for granted.
//!
//! **Sick.** What has to show its health, and fails to, is *unhealthy* and left alone if its unit says so (another
//! look may find it well again); else it is stopped as an operator would stop it, and this counts as a failed run,
//! whatever it says on its way out.
//!
//! **One run at a time.** From the fork on there is a *run*, and it has ended only when two things are known: how its
//! main process ended, and that its cgroup is empty. They come in either order. Whatever ends a run leads through
//! *killing*: the cgroup is killed as a whole, so what a main process leaves behind never lives on beside the next
//! run, and the kill is repeated every [`limits::KILL_AGAIN`] for as long as the cgroup is not empty (a process stuck
//! in the kernel dies when it comes out). If the cgroup is empty and nobody says how the main process ended, one
//! such period later the run counts as ended, badly. A start that is given up half-way has no main process to
//! wait for.
//!
//! **Stopping.** The stop signal, then `stop_timeout`, then the kill. A start that is not complete is killed at once.
//!
//! **What comes after a run** is decided in one place, `Life::settle`: not wanted → *stopped*; stopped and wanted
//! again → *waiting*, as if new; else the restart policy decides between *finished*, *failed* and *backoff*. A start
//! that failed, an image that cannot be had and a lost exit status count as failures. The pause before a restart
//! begins at `delay` (never less than [`limits::RESTART_MIN_DELAY`]), doubles with each restart up to `max_delay`,
//! and is `delay` again after a run that lasted `max_delay` or longer. When `limit` restarts lie within the last
//! `interval`, there is not another one: *failed*, until somebody says `Start`.
//!
//! **Requirements** matter on the way up only: a requirement that has failed for good fails a unit that waits for
//! it; it does not stop one that runs.
//!
//! **Two phases.** [`Life::step`] decides and returns [`Effect`]s, data that PID 1 carries out afterwards in their
//! order. No recursion: what an effect brings about comes back later as an event.
//!
//! **One timer.** Which state has a timer, and how long, is `Life::timer`. Entering a state arms its timer, which
//! replaces the former one; entering a state without one disarms it. A timer that fires early (a stale event) is
//! armed again for what is left.
//!
//! # What PID 1 promises
//!
//! * Events are about the present run: an exit of an earlier run's process is not reported here.
//! * [`Effect::KillCgroup`] is answered by [`Event::CgroupEmpty`], also when the cgroup was empty already or was
//!   never made.
//! * After [`Effect::Changed`] it looks again at every unit that is [`State::Waiting`] (this one too) and reports
//!   [`Event::DepsReady`] or [`Event::DepsFailed`] where that is so.
//! * `now` never goes backwards.

mod draw;
#[cfg(test)]
mod simulation;
mod table;
#[cfg(test)]
mod tests;

pub use draw::{diagram, page};

use crate::limits;
use crate::model::{Restart, RestartPolicy};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;
use table::{Next, When};

/// The beginning of the reason of a unit that has no image.
pub const NO_IMAGE: &str = "image not available";

/// Where a unit is. `Display` gives the word that `berth ps` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not wanted, nothing of it exists.
    Stopped,
    /// Wanted; a dependency is not up yet.
    Waiting,
    /// The store is making the image ready.
    Preparing,
    /// The setup child or the not-yet-exec'd container exists in the unit's cgroup.
    Starting,
    /// The container's process runs; not yet known healthy.
    Running,
    /// Runs and is healthy: it said so, showed it, or stayed up long enough.
    Healthy,
    /// Runs, and its checks fail; it is not restarted for that.
    Unhealthy,
    /// Stop signal sent; deadline armed.
    Stopping,
    /// The run is ending: its cgroup was killed, or is empty and the exit status is still to come.
    Killing,
    /// Waiting to be restarted.
    Backoff,
    /// Ended, and will not be restarted: the limit was reached, the policy says no, or a requirement failed.
    Failed,
    /// Ended with success and will not be restarted.
    Finished,
}

impl State {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 12] = [
        Self::Stopped,
        Self::Waiting,
        Self::Preparing,
        Self::Starting,
        Self::Running,
        Self::Healthy,
        Self::Unhealthy,
        Self::Stopping,
        Self::Killing,
        Self::Backoff,
        Self::Failed,
        Self::Finished,
    ];

    /// Something of a run exists: setup child, container, or what is left of it.
    pub fn has_run(self) -> bool {
        self.is_running() || matches!(self, Self::Starting | Self::Stopping | Self::Killing)
    }

    /// Its program runs, and is to go on running.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Healthy | Self::Unhealthy)
    }

    /// It has been started: it runs, or has finished.
    pub fn is_up(self) -> bool {
        self.is_running() || self == Self::Finished
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Stopping => "stopping",
            Self::Killing => "killing",
            Self::Backoff => "backoff",
            Self::Failed => "failed",
            Self::Finished => "finished",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Exit code.
    Code(i32),
    /// Signal number.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The unit is wanted (boot, config, operator).
    Start,
    /// The unit is not wanted any more.
    Stop,
    /// All of `requires` and `after` are up.
    DepsReady,
    /// A unit in `requires` has failed for good.
    DepsFailed,
    /// The image is ready to be mounted.
    ImageReady,
    /// The image cannot be had.
    ImageFailed,
    /// The container's process has been exec'd.
    Started,
    /// Setup failed before exec; the setup child is gone.
    StartFailed,
    /// A worker said ready, or a check found what it looked for.
    BecameHealthy,
    /// Checks have failed for long enough, or it was not ready in time.
    BecameUnhealthy,
    /// The main process ended.
    Exited(Exit),
    /// The unit's cgroup is empty.
    CgroupEmpty,
    /// The timer armed last has run out.
    Timer,
}

/// What PID 1 has to do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Ask the store for the image (or find its description). May be asked twice.
    PrepareImage,
    /// Make the cgroup and the setup child.
    Fork,
    /// Stop signal to the main process.
    SendStop,
    /// `cgroup.kill`; answered by [`Event::CgroupEmpty`] even if there was nothing to kill.
    KillCgroup,
    /// Arm this unit's only timer, from now (replaces the one before).
    ArmTimer(Duration),
    /// Disarm it.
    CancelTimer,
    /// Nothing of this run is left: release network, mounts, cgroup.
    Cleanup,
    /// Dependents should look again; the state changed.
    Changed,
}

/// Is the unit wanted?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// No.
    No,
    /// Yes.
    Yes,
    /// Not while the present run lasts, but again afterwards.
    Again,
}

/// Why a life is where it is; `last_exit` holds the detail of `Ended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Nothing to tell.
    None,
    /// The main process ended.
    Ended,
    /// The run is over and nobody knows how it ended.
    Lost,
    /// Setup failed.
    StartFailed,
    /// Setup took longer than [`limits::START_LIMIT`].
    StartLimit,
    /// No image.
    NoImage,
    /// A requirement failed.
    Requirement,
    /// Checks failed, or it was not ready in time.
    Unhealthy,
}

/// What makes a running unit a healthy one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Only [`Event::BecameHealthy`] does; and nothing makes it unhealthy but its end. A worker.
    Told,
    /// Having run for so long.
    Settled(Duration),
    /// [`Event::BecameHealthy`] and [`Event::BecameUnhealthy`] do, what its checks find. `tolerant`: it is not restarted
    /// for being unhealthy.
    Shown {
        /// See there.
        tolerant: bool,
    },
}

/// What is restarted when its checks fail.
const INTOLERANT: Proof = Proof::Shown { tolerant: false };

/// One unit's life so far. `step` is the only way to change it.
#[derive(Debug, Clone)]
pub struct Life {
    /// Now.
    pub state: State,
    /// Restarts since the unit was last wanted anew.
    pub restarts: u32,
    /// How the last run ended.
    pub last_exit: Option<Exit>,
    proof: Proof,
    want: Want,
    cause: Cause,
    /// The limit of restarts was what ended it.
    limited: bool,
    /// How the present run's main process ended is known, or nobody will say.
    gone: bool,
    /// The present run's cgroup is empty.
    empty: bool,
    /// When the present run's program was exec'd.
    started: Option<Duration>,
    /// Pauses since the last long run; doubles the next one.
    streak: u32,
    /// When the last restarts were, at most [`limits::RESTARTS_REMEMBERED`].
    recent: VecDeque<Duration>,
    /// When the armed timer runs out.
    deadline: Option<Duration>,
}

impl Life {
    /// A unit that is not wanted.
    pub fn new(proof: Proof) -> Self {
        Self {
            state: State::Stopped,
            restarts: 0,
            last_exit: None,
            proof,
            want: Want::No,
            cause: Cause::None,
            limited: false,
            gone: true,
            empty: true,
            started: None,
            streak: 0,
            recent: VecDeque::new(),
            deadline: None,
        }
    }

    /// The transition: what `event`, at `now` (monotonic), makes of this life under `policy`. An event that means
    /// nothing in the present state changes nothing.
    pub fn step(&mut self, policy: &Restart, event: Event, now: Duration) -> Vec<Effect> {
        if event == Event::Timer {
            match self.deadline {
                None => return Vec::new(),
                Some(at) if now < at => return vec![Effect::ArmTimer(at.saturating_sub(now))],
                Some(_) => self.deadline = None,
            }
        }
        let before = self.state;
        self.note(event, now);
        let Some(row) = table::find(before, event, |when| self.holds(when)) else { return Vec::new() };
        let mut effects = row.effects.to_vec();
        match row.next {
            Next::Stay => {}
            Next::To(state) => self.enter(state, policy, now, &mut effects),
            Next::Settle => {
                let state = self.settle(policy, now);
                self.enter(state, policy, now, &mut effects);
            }
        }
        if self.state != before {
            effects.push(Effect::Changed);
        }
        effects
    }

    /// When the armed timer runs out, on the clock of `now`.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The unit is wanted, as far as this machine knows.
    pub fn wanted(&self) -> bool {
        self.want != Want::No
    }

    /// One sentence on why the unit is in this state, for `berth ps`; empty when there is nothing to say.
    pub fn reason(&self, now: Duration) -> String {
        let what = match (self.cause, self.last_exit) {
            (Cause::None, _) | (Cause::Ended, None) => String::new(),
            (Cause::Ended, Some(exit)) => exit.to_string(),
            (Cause::Lost, _) => "ended without an exit status".to_owned(),
            (Cause::StartFailed, _) => "start failed".to_owned(),
            (Cause::StartLimit, _) => format!("not started within {} s", limits::START_LIMIT.as_secs()),
            (Cause::NoImage, _) => NO_IMAGE.to_owned(),
            (Cause::Requirement, _) => "a required unit failed".to_owned(),
            (Cause::Unhealthy, _) => "unhealthy".to_owned(),
        };
        match (self.state, self.deadline) {
            (State::Backoff, Some(at)) => {
                let left = at.saturating_sub(now).as_millis().div_ceil(1000);
                if self.cause == Cause::NoImage {
                    return format!("{what}, next try in {left} s");
                }
                format!("{what}, restart {} in {left} s", self.restarts.saturating_add(1))
            }
            (State::Failed, _) if self.limited => {
                format!("{what}; not restarted after {} restarts, see [restart] limit", self.restarts)
            }
            (State::Backoff | State::Failed | State::Finished | State::Stopping | State::Killing, _) => what,
            _ => String::new(),
        }
    }

    /// What an event tells, whatever becomes of it.
    fn note(&mut self, event: Event, now: Duration) {
        match event {
            Event::Start if self.want == Want::No => {
                self.want = if self.state.has_run() { Want::Again } else { Want::Yes };
            }
            Event::Stop => self.want = Want::No,
            Event::CgroupEmpty if self.state.has_run() => self.empty = true,
            Event::Exited(exit) if self.state.has_run() => {
                self.gone = true;
                self.last_exit = Some(exit);
                // What it was stopped for is the cause, not how it took that.
                if self.cause != Cause::Unhealthy {
                    self.cause = Cause::Ended;
                }
            }
            Event::BecameUnhealthy if self.state.is_running() && self.proof == INTOLERANT => {
                self.cause = Cause::Unhealthy;
            }
            Event::StartFailed if matches!(self.state, State::Starting | State::Killing) => {
                self.gone = true;
                self.cause = Cause::StartFailed;
            }
            Event::ImageFailed if self.state == State::Preparing => self.cause = Cause::NoImage,
            Event::DepsFailed if self.state == State::Waiting => self.cause = Cause::Requirement,
            // A unit that has not run for want of its image is not restarted by the next try.
            Event::Timer if self.state == State::Backoff && self.cause != Cause::NoImage => {
                self.count_restart(now);
            }
            _ => {}
        }
        // A start given up half-way: there may be no main process whose end anybody could report.
        if self.state == State::Starting && matches!(event, Event::Stop | Event::Timer) {
            self.gone = true;
            self.cause = Cause::StartLimit;
        }
    }

    /// The table's conditions.
    fn holds(&self, when: When) -> bool {
        match when {
            When::Always => true,
            When::Empty => self.empty,
            When::Over => self.empty && self.gone,
            When::Settles => matches!(self.proof, Proof::Settled(_)),
            When::Tolerant => self.proof == Proof::Shown { tolerant: true },
            When::Intolerant => self.proof == INTOLERANT,
        }
    }

    /// What comes after a run, or after an image that could not be had.
    fn settle(&mut self, policy: &Restart, now: Duration) -> State {
        if !self.gone && self.state == State::Killing {
            self.cause = Cause::Lost;
        }
        let success = self.cause == Cause::Ended && self.last_exit == Some(Exit::Code(0));
        if self.started.take().is_some_and(|at| now.saturating_sub(at) >= policy.max_delay) {
            self.streak = 0;
        }
        if self.want == Want::Yes && self.cause == Cause::NoImage {
            // Registries and disks come back; nothing has run that would be harmed by trying for ever.
            return State::Backoff;
        }
        let limited = self.limit_reached(policy, now);
        match (self.want, policy.policy, success) {
            (Want::No, _, _) => State::Stopped,
            (Want::Again, _, _) => State::Waiting,
            (Want::Yes, RestartPolicy::No | RestartPolicy::OnFailure, true) => State::Finished,
            (Want::Yes, RestartPolicy::No, false) => State::Failed,
            (Want::Yes, RestartPolicy::OnFailure | RestartPolicy::Always, _) if limited => {
                self.limited = true;
                State::Failed
            }
            (Want::Yes, RestartPolicy::OnFailure | RestartPolicy::Always, _) => State::Backoff,
        }
    }

    /// Entering a state: its timer, and what begins with it.
    fn enter(&mut self, state: State, policy: &Restart, now: Duration, effects: &mut Vec<Effect>) {
        let from = self.state;
        self.state = state;
        match state {
            // Wanted anew, unless this is a restart after a pause.
            State::Waiting if from != State::Backoff => self.begin_anew(),
            State::Starting => {
                self.gone = false;
                self.empty = false;
                self.started = None;
                self.last_exit = None;
                self.cause = Cause::None;
            }
            State::Running => self.started = Some(now),
            State::Stopped => self.cause = Cause::None,
            _ => {}
        }
        let timer = self.timer(policy);
        if state == State::Backoff {
            self.streak = self.streak.saturating_add(1);
        }
        match timer {
            Some(after) => {
                self.deadline = Some(now.saturating_add(after));
                effects.push(Effect::ArmTimer(after));
            }
            None if self.deadline.take().is_some() => effects.push(Effect::CancelTimer),
            None => {}
        }
    }

    /// The present state's timer.
    fn timer(&self, policy: &Restart) -> Option<Duration> {
        match self.state {
            State::Preparing => Some(limits::PREPARE_AGAIN),
            State::Starting => Some(limits::START_LIMIT),
            State::Running => match self.proof {
                Proof::Settled(after) => Some(after),
                Proof::Told | Proof::Shown { .. } => None,
            },
            State::Stopping => Some(policy.stop_timeout),
            State::Killing => Some(limits::KILL_AGAIN),
            State::Backoff => Some(self.pause(policy)),
            State::Stopped
            | State::Waiting
            | State::Healthy
            | State::Unhealthy
            | State::Failed
            | State::Finished => None,
        }
    }

    /// The pause before the next restart: `delay`, doubled once for each one since the last long run.
    fn pause(&self, policy: &Restart) -> Duration {
        let first = policy.delay.max(limits::RESTART_MIN_DELAY);
        let factor = 1u32.checked_shl(self.streak).filter(|_| self.streak < 31).unwrap_or(u32::MAX);
        first.saturating_mul(factor).min(policy.max_delay.max(first))
    }

    fn begin_anew(&mut self) {
        self.want = Want::Yes;
        self.restarts = 0;
        self.recent.clear();
        self.streak = 0;
        self.cause = Cause::None;
        self.limited = false;
    }

    fn count_restart(&mut self, now: Duration) {
        self.restarts = self.restarts.saturating_add(1);
        if self.recent.len() >= limits::RESTARTS_REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
    }

    fn limit_reached(&self, policy: &Restart, now: Duration) -> bool {
        let limit = usize::try_from(policy.limit).unwrap_or(usize::MAX).min(limits::RESTARTS_REMEMBERED);
        let within = |at: &&Duration| now.saturating_sub(**at) < policy.interval;
        limit > 0 && self.recent.iter().filter(within).count() >= limit
    }
}
