//! The seam between what is decided ([`super::supervisor`], pure) and what is done (`super::machine`, the kernel).
//! Tests put a pretend kernel here.

use super::generations::{Recipe, Write};
use super::targets::Target;
use berth_units::control::{Reply, ToWorker};
use berth_units::image::PreparedImage;
use berth_units::lifecycle::Exit;
use berth_units::model::{Check, InstallSettings, Unit};
use berth_units::notify::Notice;
use std::time::Duration;

/// What the launcher needs to know beyond the unit itself.
#[derive(Debug)]
pub struct Order<'a> {
    /// What to run.
    pub unit: &'a Unit,
    /// Its image; absent for system units, which are rooted in the verified root.
    pub image: Option<&'a PreparedImage>,
    /// First host uid and gid of its range.
    pub id_base: u32,
}

/// How the machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// Start again.
    Reboot,
    /// Power off.
    Poweroff,
    /// Stay on, and do nothing more.
    Halt,
}

/// What PID 1 can do. No method blocks; what takes long is reported later as an [`Input`].
pub trait Kernel {
    /// Makes the unit's cgroup and its setup child. Followed by [`Input::Plumb`] and, after [`Kernel::go`],
    /// [`Input::Started`]; or by [`Input::StartFailed`]. `Err`: nothing was left behind.
    fn launch(&mut self, order: &Order<'_>) -> Result<(), String>;
    /// The container has all it needs: it may exec.
    fn go(&mut self, unit: &str);
    /// Sends a signal to the unit's main process.
    fn signal(&mut self, unit: &str, stop_signal: &str);
    /// Kills everything in the unit's cgroup. Followed by what the death brings, and always by
    /// [`Input::CgroupEmpty`].
    fn kill(&mut self, unit: &str);
    /// Nothing of this run is left: drops its descriptors and its cgroup, and every [`Input`] about it that is still to come.
    fn cleanup(&mut self, unit: &str);
    /// There is no such unit any more: drops its log, and if nothing else shall be left (`all`), what it wrote outside of
    /// volumes; then answered by [`Input::Discarded`].
    fn forget(&mut self, unit: &str, all: bool);
    /// Looks at the unit from inside, for at most `timeout`; answered by [`Input::Checked`]. At most one look at a unit is
    /// under way.
    fn check(&mut self, order: &Order<'_>, check: &Check, timeout: Duration);
    /// The result of the look under way, if there is one, is not wanted any more; no answer follows.
    fn end_check(&mut self, unit: &str);
    /// Queues a message to a worker. `netns_of`: the namespace and netlink socket of this unit ride along; with
    /// [`ToWorker::Load`], the archive of its job. False if the worker is not connected or there is no such thing.
    fn tell(&mut self, worker: &str, message: &ToWorker, netns_of: Option<&str>) -> bool;
    /// Looks for the image's description in the store's index; answered by [`Input::Image`].
    fn find_image(&mut self, reference: &str);
    /// Writes a generation, or what has become of one; answered by [`Input::GenerationWritten`]. They are written in the
    /// order in which they come.
    fn write_generation(&mut self, write: Write);
    /// Makes the text of another config out of what is on the disk; answered by [`Input::ConfigMade`]. One at a time.
    fn make_config(&mut self, recipe: Recipe);
    /// The machine has a config of its own now: one that was laid on the disk for this start is not needed any more.
    fn config_kept(&mut self);
    /// Chooses the disk on which Berth is to be installed, and has the config in force ready for the installer; answered by
    /// [`Input::DiskChosen`]. `id`: the new disk's GUID.
    fn choose_disk(&mut self, settings: &InstallSettings, id: &str);
    /// Answers an operator who has waited for it.
    fn answer(&mut self, peer: u64, reply: Reply);
    /// Keeps the id table, atomically.
    fn store_ids(&mut self, text: String);
    /// Drivers that nobody has waited for so far are wanted now; answered by [`Input::DriversLoaded`].
    fn load_drivers(&mut self);
    /// Every unit has had its first try: what was put off until now may take the processor.
    fn boot_over(&mut self);
    /// Sets the host name.
    fn hostname(&mut self, name: &str);
    /// One line for the console and Berth's own log.
    fn say(&mut self, line: String);
    /// Writes a step's name to the step record.
    fn step(&mut self, name: &str);
    /// What is being done now has failed, for this reason; the machine stays up.
    fn step_failed(&mut self, reason: &str);
    /// This boot is healthy: writes what follows from it to the boot record and the step record. Answered by
    /// [`Input::Confirmed`].
    fn confirm(&mut self);
    /// Whether the other slot is started the next time, on trial: one sector of the boot record. Answered by
    /// [`Input::TrialSet`].
    fn set_trial(&mut self, on: bool);
    /// Keeps what is remembered of trials, atomically; answered by [`Input::TrialsKept`].
    fn store_trials(&mut self, text: String);
    /// What is in the other slot: version and root hash. `None`: nothing; an error: it is not known, and why.
    fn other_slot(&self) -> Result<Option<(String, String)>, String>;
    /// Another system is in the other slot now.
    fn other_slot_changed(&mut self);
    /// This boot failed: the reason goes to the step record, before anything else. `broken`: and would fail again, so
    /// the boot loader is told to prefer the other slot.
    fn condemn(&mut self, reason: &str, broken: bool);
    /// Everything is stopped, or will not stop: the last steps, then the machine goes down.
    fn finish(&mut self, halt: Halt);
    /// The newest lines of a unit's log, short.
    fn last_lines(&self, unit: &str) -> Vec<String>;
    /// `memory.current` of a unit.
    fn memory(&self, unit: &str) -> Option<u64>;
    /// Moves the wall clock by so many nanoseconds, at once or little by little, and lets the kernel keep the hardware's
    /// in step from now on. An error says why not.
    fn move_clock(&mut self, by_ns: i64, error_ns: i64, at_once: bool) -> Result<(), String>;
    /// The wall clock is kept in step with others, and was so in the last hours.
    fn clock_is_set(&self) -> bool;
    /// What this start has kept of the time for the next one, seconds since 1970.
    fn clock_kept(&self) -> Option<u64>;
    /// Earliest time that the wall clock can be: that of this system's build, since 1970.
    fn earliest(&self) -> Duration;
    /// Wall clock, since 1970.
    fn wall(&self) -> Duration;
}

/// What happened, in words the supervisor understands.
#[derive(Debug)]
pub enum Input {
    /// The container exists and waits: for its network, then for [`Kernel::go`].
    Plumb {
        /// Unit name.
        unit: String,
        /// Its main process.
        pid: i32,
    },
    /// The container's program runs.
    Started {
        /// Unit name.
        unit: String,
    },
    /// The start failed before exec and its processes are gone or being killed.
    StartFailed {
        /// Unit name.
        unit: String,
        /// What failed, on what, why.
        reason: String,
    },
    /// A disk was chosen for an installation, or why none was.
    DiskChosen(Result<Box<Target>, String>),
    /// The main process ended, after exec.
    Exited {
        /// Unit name.
        unit: String,
        /// How.
        exit: Exit,
        /// The kernel killed some of it for want of memory.
        oom: bool,
    },
    /// No process is left in the unit's cgroup.
    CgroupEmpty {
        /// Unit name.
        unit: String,
    },
    /// What a look at the unit has found: nothing wrong, or why not.
    Checked {
        /// Unit name.
        unit: String,
        /// See there.
        found: Result<(), String>,
    },
    /// The unit says something of itself; one of its processes it was.
    Noticed {
        /// Unit name.
        unit: String,
        /// What.
        notice: Notice,
    },
    /// A worker said something; who it is follows from its cgroup.
    Worker {
        /// Unit name.
        unit: String,
        /// What it said.
        message: berth_units::control::FromWorker,
        /// The text of the sealed memfd that rode along.
        text: Option<Vec<u8>>,
    },
    /// A worker's connection is gone.
    WorkerGone {
        /// Unit name.
        unit: String,
    },
    /// What the store's index says about an image.
    Image {
        /// As asked.
        reference: String,
        /// `None`: nothing; an error: nothing that can be used.
        found: Result<Option<Box<PreparedImage>>, String>,
    },
    /// Every device that was there at the start has its driver.
    DriversLoaded,
    /// A disk or partition came or went.
    DisksChanged,
    /// A generation is on the disk, or not.
    GenerationWritten {
        /// Its number.
        number: u64,
        /// Why not.
        result: Result<(), String>,
    },
    /// The records say that this boot was healthy, or could not be written.
    Confirmed(Result<(), String>),
    /// Nothing is left of a unit, or this is tried again when its name is used again.
    Discarded {
        /// Unit name.
        unit: String,
    },
    /// Another config's text, or why there is none.
    ConfigMade(Result<Vec<u8>, String>),
    /// The boot record says so now, or could not be written.
    TrialSet(Result<(), String>),
    /// What is remembered of trials is kept, the newest of it, or could not be.
    TrialsKept(Result<(), String>),
    /// Somebody wants the machine down.
    Halt {
        /// How.
        halt: Halt,
        /// Who or what, for the console.
        why: String,
    },
    /// This slot is broken beyond doubt (a root block that does not verify).
    Broken {
        /// Why.
        reason: String,
    },
}

impl Input {
    /// The unit whose present run this is about; once that is cleaned up, the word is stale.
    pub fn of_run(&self) -> Option<&str> {
        match self {
            Self::Plumb { unit, .. }
            | Self::Started { unit }
            | Self::StartFailed { unit, .. }
            | Self::Exited { unit, .. }
            | Self::CgroupEmpty { unit }
            | Self::Checked { unit, .. }
            | Self::Noticed { unit, .. } => Some(unit),
            _ => None,
        }
    }
}
