//! The transition table. A pair of state and event that is not in it changes nothing.
//!
//! Rows of one pair are tried from top to bottom. Timers are not in it (each state has its own, see the module
//! above), nor is [`Effect::Changed`], which ends every change of state.

use super::Effect::{Cleanup, Fork, KillCgroup, PrepareImage, SendStop};
use super::State::{
    Backoff, Failed, Finished, Healthy, Killing, Preparing, Running, Starting, Stopped, Stopping, Unhealthy,
    Waiting,
};
use super::{Effect, Event, State};
use On::{
    BecameHealthy, BecameUnhealthy, CgroupEmpty, DepsFailed, DepsReady, Exited, ImageFailed, ImageReady,
    Start, StartFailed, Started, Stop, Timer,
};
use When::{Always, Empty, Intolerant, Over, Settles, Tolerant};

/// An [`Event`] without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the event of the same name")]
pub enum On {
    Start,
    Stop,
    DepsReady,
    DepsFailed,
    ImageReady,
    ImageFailed,
    Started,
    StartFailed,
    BecameHealthy,
    BecameUnhealthy,
    Exited,
    CgroupEmpty,
    Timer,
}

/// A condition on what is known after the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// No condition.
    Always,
    /// The cgroup is empty.
    Empty,
    /// The cgroup is empty, and how the main process ended is known.
    Over,
    /// It is healthy when it has run for a while.
    Settles,
    /// Its checks decide, and it is left alone when they fail.
    Tolerant,
    /// Its checks decide, and it is restarted when they fail.
    Intolerant,
}

/// Where a row leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Here; the timer runs on.
    Stay,
    /// Enter this state (the present one too): its timer is armed anew.
    To(State),
    /// Where `Life::settle` says: stopped, waiting, backoff, failed or finished.
    Settle,
}

/// One row.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the columns are named above")]
pub struct Row {
    pub state: State,
    pub event: On,
    pub when: When,
    pub next: Next,
    pub effects: &'static [Effect],
}

const fn row(state: State, event: On, when: When, next: Next, effects: &'static [Effect]) -> Row {
    Row { state, event, when, next, effects }
}

const STAY: Next = Next::Stay;
const SETTLE: Next = Next::Settle;
const fn to(state: State) -> Next {
    Next::To(state)
}

/// The table.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    //  state      event            when        next           effects
    row(Stopped,   Start,           Always,     to(Waiting),   &[]),

    row(Waiting,   DepsReady,       Always,     to(Preparing), &[PrepareImage]),
    row(Waiting,   DepsFailed,      Always,     to(Failed),    &[]),
    row(Waiting,   Stop,            Always,     to(Stopped),   &[]),

    row(Preparing, ImageReady,      Always,     to(Starting),  &[Fork]),
    row(Preparing, ImageFailed,     Always,     SETTLE,        &[]),
    row(Preparing, Timer,           Always,     to(Preparing), &[PrepareImage]),
    row(Preparing, Stop,            Always,     to(Stopped),   &[]),

    row(Starting,  Started,         Always,     to(Running),   &[]),
    row(Starting,  StartFailed,     Always,     to(Killing),   &[KillCgroup]),
    row(Starting,  Exited,          Always,     to(Killing),   &[KillCgroup]),
    row(Starting,  CgroupEmpty,     Always,     to(Killing),   &[]),
    row(Starting,  Timer,           Always,     to(Killing),   &[KillCgroup]),
    row(Starting,  Stop,            Always,     to(Killing),   &[KillCgroup]),

    row(Running,   BecameHealthy,   Always,     to(Healthy),   &[]),
    row(Running,   BecameUnhealthy, Tolerant,   to(Unhealthy), &[]),
    row(Running,   BecameUnhealthy, Intolerant, to(Stopping),  &[SendStop]),
    row(Running,   Timer,           Settles,    to(Healthy),   &[]),
    row(Running,   Exited,          Always,     to(Killing),   &[KillCgroup]),
    row(Running,   CgroupEmpty,     Always,     to(Killing),   &[]),
    row(Running,   Stop,            Always,     to(Stopping),  &[SendStop]),

    row(Healthy,   BecameUnhealthy, Tolerant,   to(Unhealthy), &[]),
    row(Healthy,   BecameUnhealthy, Intolerant, to(Stopping),  &[SendStop]),
    row(Healthy,   Exited,          Always,     to(Killing),   &[KillCgroup]),
    row(Healthy,   CgroupEmpty,     Always,     to(Killing),   &[]),
    row(Healthy,   Stop,            Always,     to(Stopping),  &[SendStop]),

    row(Unhealthy, BecameHealthy,   Always,     to(Healthy),   &[]),
    row(Unhealthy, Exited,          Always,     to(Killing),   &[KillCgroup]),
    row(Unhealthy, CgroupEmpty,     Always,     to(Killing),   &[]),
    row(Unhealthy, Stop,            Always,     to(Stopping),  &[SendStop]),

    row(Stopping,  Exited,          Always,     to(Killing),   &[KillCgroup]),
    row(Stopping,  CgroupEmpty,     Always,     to(Killing),   &[]),
    row(Stopping,  Timer,           Always,     to(Killing),   &[KillCgroup]),
    row(Stopping,  Start,           Always,     STAY,          &[]),
    row(Stopping,  Stop,            Always,     STAY,          &[]),

    row(Killing,   Exited,          Over,       SETTLE,        &[Cleanup]),
    row(Killing,   Exited,          Always,     STAY,          &[]),
    row(Killing,   StartFailed,     Over,       SETTLE,        &[Cleanup]),
    row(Killing,   StartFailed,     Always,     STAY,          &[]),
    row(Killing,   CgroupEmpty,     Over,       SETTLE,        &[Cleanup]),
    row(Killing,   CgroupEmpty,     Always,     to(Killing),   &[]),
    row(Killing,   Timer,           Empty,      SETTLE,        &[Cleanup]),
    row(Killing,   Timer,           Always,     to(Killing),   &[KillCgroup]),
    row(Killing,   Start,           Always,     STAY,          &[]),
    row(Killing,   Stop,            Always,     STAY,          &[]),

    row(Backoff,   Timer,           Always,     to(Waiting),   &[]),
    row(Backoff,   Stop,            Always,     to(Stopped),   &[]),

    row(Failed,    Start,           Always,     to(Waiting),   &[]),
    row(Failed,    Stop,            Always,     to(Stopped),   &[]),

    row(Finished,  Start,           Always,     to(Waiting),   &[]),
    row(Finished,  Stop,            Always,     to(Stopped),   &[]),
];

/// The first row for this state and event whose condition holds.
pub fn find(state: State, event: Event, holds: impl Fn(When) -> bool) -> Option<&'static Row> {
    let event = On::from(event);
    TABLE.iter().find(|row| row.state == state && row.event == event && holds(row.when))
}

impl From<Event> for On {
    fn from(event: Event) -> Self {
        match event {
            Event::Start => Start,
            Event::Stop => Stop,
            Event::DepsReady => DepsReady,
            Event::DepsFailed => DepsFailed,
            Event::ImageReady => ImageReady,
            Event::ImageFailed => ImageFailed,
            Event::Started => Started,
            Event::StartFailed => StartFailed,
            Event::BecameHealthy => BecameHealthy,
            Event::BecameUnhealthy => BecameUnhealthy,
            Event::Exited(_) => Exited,
            Event::CgroupEmpty => CgroupEmpty,
            Event::Timer => Timer,
        }
    }
}
