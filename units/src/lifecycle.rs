//! The life of a unit: one state machine, pure. (Contract; the table is being written.)
//!
//! A unit is wanted or not. A wanted unit waits for its dependencies and its image, is started (the launcher's setup
//! child, network plumbing, exec), runs, becomes healthy, and when it ends its restart policy decides. Stopping is
//! SIGTERM, then after `stop_timeout` the whole cgroup is killed; a unit has ended only when its cgroup is empty.
//! Time is an argument; effects are data that PID 1 carries out.

use crate::model::Restart;
use std::time::Duration;

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
    /// Runs and is healthy (a worker said ready; others stayed up long enough).
    Healthy,
    /// Stop signal sent; deadline armed.
    Stopping,
    /// The cgroup was killed (stop deadline passed, start failed half-way, or the main process left others
    /// behind); waiting until it is empty.
    Killing,
    /// Waiting to be restarted.
    Backoff,
    /// Ended, and will not be restarted: the limit was reached, the policy says no, or a requirement failed.
    Failed,
    /// Ended with success and will not be restarted.
    Finished,
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Exit code.
    Code(i32),
    /// Signal number.
    Signal(i32),
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
    /// Worker said ready, or the unit stayed up long enough.
    BecameHealthy,
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
    /// Ask the store for the image (or find its description).
    PrepareImage,
    /// Make the cgroup and the setup child.
    Fork,
    /// Stop signal to the main process.
    SendStop,
    /// `cgroup.kill`.
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

/// One unit's life so far. `step` is the only way to change it.
#[derive(Debug, Clone)]
pub struct Life {
    /// Now.
    pub state: State,
    /// Restarts since the unit was last wanted anew.
    pub restarts: u32,
    /// How the last run ended.
    pub last_exit: Option<Exit>,
    // … counters that the table needs are the owner's to add.
}

impl Life {
    /// A unit that is not wanted.
    pub fn new() -> Self {
        Self { state: State::Stopped, restarts: 0, last_exit: None }
    }

    /// The transition: what `event`, at `now` (monotonic), makes of this life under `policy`. An event that means
    /// nothing in the present state changes nothing.
    pub fn step(&mut self, _policy: &Restart, _event: Event, _now: Duration) -> Vec<Effect> {
        Vec::new()
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}
