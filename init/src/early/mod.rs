//! From the kernel's first instruction for us to a machine on which units can run.
//!
//! Two tables of steps, one per stage ([`initrd`], [`stage`]), run by one runner ([`runner`]), which writes each
//! step's name to the slot's step record before it starts, keeps the watchdog fed between steps, and notes how long
//! each took. Both are one process, which the verified root is moved under ([`handover`] is what the first stage learned).
//!
//! A step that fails either lets the boot go on degraded, and says so, or ends this start: the reason goes to the
//! console, the kernel's log and the step record, and the machine reboots; the boot loader then decides. There is no
//! shell to fall into.

pub mod boot_times;
pub mod buttons;
pub mod clock;
pub mod cmdline;
pub mod coldplug;
pub mod console;
pub mod contained;
pub mod content;
pub mod disks;
pub mod dm;
pub mod fail;
#[cfg(feature = "faults")]
pub mod faults;
pub mod files;
pub mod handover;
pub mod identity;
pub mod initrd;
pub mod limits;
pub mod module_file;
pub mod modules;
pub mod mounts;
pub mod pstore;
pub mod record;
pub mod repair;
pub mod reset;
pub mod runner;
pub mod seed;
pub mod stage;
pub mod state;
pub mod sysctl;
pub mod uevents;
pub mod watchdog;
pub mod wishes;

pub use boot_times::Timeline;
pub use cmdline::Cmdline;
pub use coldplug::Coldplug;
pub use content::Content;
pub use fail::{guard, reboot_now};
pub use initrd::initrd_stage;
pub use record::RecordStore;
pub use seed::Seed;
pub use stage::main_stage;
pub use uevents::{Uevent, Uevents};
pub use watchdog::Watchdog;

use berth_updater::assess;
use berth_updater::layout::Slot;
use berth_updater::record::Record;
use berth_updater::steps::StepRecord;
use std::path::PathBuf;
use std::time::Duration;

/// Has the kernel hurry with its grace periods, which mounting, making a namespace and loading a module wait for. It
/// does so by itself until it starts PID 1. To be switched off once the boot is over, as it interrupts every
/// processor each time.
fn hurry(yes: bool) {
    let _ = files::poke("/sys/kernel/rcu_expedited", if yes { "1" } else { "0" });
}

/// Whether [`settle`] has done its work.
pub fn is_settled() -> bool {
    files::line("/sys/module/module/parameters/sig_enforce").as_deref() == Some("Y")
        && files::line("/sys/kernel/rcu_expedited").as_deref() != Some("1")
}

/// The boot is over: the kernel takes only signed modules from now on, locks itself against its own root user, and
/// takes its time again. The first two cannot be undone. Called by [`Coldplug`]'s child.
pub fn settle() -> Result<(), String> {
    // The file is there only where securityfs is; it is mounted for this moment and goes again.
    let sign = files::poke("/sys/module/module/parameters/sig_enforce", "1")
        .map_err(|error| format!("signed modules only: {error}"));
    let lock = mounts::with_securityfs(|folder| {
        let path = folder.join("lockdown");
        match files::line(&path) {
            Some(now) if !now.contains("[none]") => Ok(()),
            _ => files::poke(&path, "integrity").map_err(|error| format!("lockdown: {error}")),
        }
    });
    hurry(false);
    sign.and(lock)
}

/// How the kernel was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// UEFI, GRUB, UKI.
    Uefi,
    /// BIOS, GRUB.
    Bios,
    /// `-kernel`/`-initrd`: no boot loader, so no start was counted.
    Direct,
}

impl Firmware {
    /// As `berth slots` shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Firmware::Uefi => "uefi",
            Firmware::Bios => "bios",
            Firmware::Direct => "direct",
        }
    }
}

/// Where durable state lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// On the state partition.
    Persistent {
        /// Its device.
        device: PathBuf,
        /// What an operator should know (it was grown, its error flag is set), empty when nothing.
        note: String,
    },
    /// In memory, lost at the next start.
    Temporary {
        /// Why.
        reason: String,
    },
}

/// What the main stage hands to the event loop.
#[derive(Debug)]
pub struct Booted {
    /// The running slot.
    pub slot: Slot,
    /// Its root hash, hex.
    pub root_hash: String,
    /// `IMAGE_VERSION` of its os-release.
    pub version: String,
    /// When it was built, since 1970.
    pub built: Duration,
    /// How it was started.
    pub firmware: Firmware,
    /// The boot disk: `/dev/vda`.
    pub disk: PathBuf,
    /// It is an installation medium; the state is in memory.
    pub medium: bool,
    /// Where a config was laid for this start, which meta has found in [`berth_units::paths::SEED`].
    pub seed: Option<Seed>,
    /// Boot record and step record; every method works (and says why it cannot) when the partition is missing.
    pub record: RecordStore,
    /// What the record said when this boot began.
    pub record_found: Option<Record>,
    /// What was wrong with the record when this boot began.
    pub record_trouble: Option<String>,
    /// What kind of start this is; `Start::Rescue` = no user units.
    pub start: assess::Start,
    /// What this slot's step record said about its start before this one.
    pub previous_step: Option<StepRecord>,
    /// What the other slot's says about its last start.
    pub other_step: Option<StepRecord>,
    /// Where durable state lies; mounted at [`berth_units::paths::STATE`] in either case.
    pub state: State,
    /// Armed; `None` when there is none at all.
    pub watchdog: Option<Watchdog>,
    /// Steps so far.
    pub timeline: Timeline,
    /// The kernel's device events, to be polled.
    pub uevents: Uevents,
    /// Loads drivers for what was there at the start. To be told when other devices are needed, and when the boot is
    /// over.
    pub coldplug: Option<Coldplug>,
    /// The kernel's command line.
    pub cmdline: Cmdline,
    /// 32 hex digits, as in `/etc/machine-id`.
    pub machine_id: String,
    /// The hostname set so far: the default one, until a machine config says otherwise.
    pub hostname: String,
    /// Why the boot is degraded, one sentence each; also on the console.
    pub degraded: Vec<String>,
}
