//! The initrd stage: find this slot's root by its hash, verify, mount, move on.

use super::boot_times::Timeline;
use super::cmdline::Cmdline;
use super::disks::{self, Candidate, Extent, Search, Trace};
use super::fail;
use super::handover::Handover;
use super::modules::{self, Modules};
use super::record::RecordStore;
use super::reset::Ask;
use super::runner::{self, OnFailure, Step};
use super::uevents::{Uevent, Uevents};
use super::watchdog::{self, Watchdog};
use super::{Firmware, console, dm, limits, mounts};
use crate::sys::waiting;
use berth_units::mounts::restrict;
use berth_updater::assess;
use berth_updater::layout::Slot;
use berth_updater::steps::{Status, StepRecord, both_bad};
use berth_updater::verity::{self, BLOCK, RootHash};
use nix::mount::{MsFlags, mount};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the verified root is mounted before it becomes `/`.
const NEW_ROOT: &str = "/sysroot";

/// The table. Nothing here can be gone without, except a watchdog.
pub const STEPS: [Step<Initrd>; 7] = [
    Step {
        name: "kernel fs",
        needs: &[],
        limit: Duration::from_secs(1),
        on_failure: OnFailure::Reboot,
        run: kernel_file_systems,
    },
    Step {
        name: "watchdog",
        needs: &["kernel fs"],
        limit: Duration::from_secs(3),
        on_failure: OnFailure::GoOn,
        run: arm_watchdog,
    },
    Step {
        name: "drivers",
        needs: &["kernel fs"],
        limit: Duration::from_secs(10),
        on_failure: OnFailure::Reboot,
        run: load_drivers,
    },
    Step {
        name: "boot disk",
        needs: &["drivers"],
        limit: limits::DISK_WAIT,
        on_failure: OnFailure::Reboot,
        run: find_disk,
    },
    Step {
        name: "verity",
        needs: &["boot disk"],
        limit: Duration::from_secs(5),
        on_failure: OnFailure::Reboot,
        run: set_up_verity,
    },
    Step {
        name: "root",
        needs: &["verity"],
        limit: Duration::from_secs(10),
        on_failure: OnFailure::Reboot,
        run: mount_root,
    },
    Step {
        name: "switch root",
        needs: &["root"],
        limit: Duration::from_secs(2),
        on_failure: OnFailure::Reboot,
        run: switch_root,
    },
];

/// What the steps learn.
#[derive(Debug)]
pub struct Initrd {
    timeline: Timeline,
    degraded: Vec<String>,
    cmdline: Cmdline,
    uevents: Option<Uevents>,
    modules: Modules,
    watchdog: Option<Watchdog>,
    root: RootHash,
    found: Option<Candidate>,
    boot: u64,
    record_trouble: Option<String>,
    ask: Option<Ask>,
    previous_step: Option<StepRecord>,
    device: PathBuf,
    old_root: Option<File>,
    /// This slot's root was read and does not have the root hash.
    damaged: bool,
    /// Modules that fit the devices found first.
    fitting: Vec<String>,
}

impl runner::Stage for Initrd {
    const NAME: &'static str = "initrd";

    fn timeline(&mut self) -> &mut Timeline {
        &mut self.timeline
    }

    fn degraded(&mut self, sentence: String) {
        self.degraded.push(sentence);
    }

    /// A slot whose root is damaged will be no better the next time. Whatever else went wrong may be.
    fn condemn(&mut self) {
        if !self.damaged || firmware(&self.cmdline) == Firmware::Direct {
            return;
        }
        fail::with(|record| {
            let slot = record.current().slot;
            if let Some(next) = record.read().0.and_then(|now| assess::distrust(&now, slot))
                && let Err(error) = record.write(&next)
            {
                console::say("record", error);
            }
        });
    }

    fn explain(&mut self) -> Option<String> {
        let corrupt = self.uevents.as_ref()?.read().into_iter().find_map(|event| match event {
            Uevent::Corrupt { what, .. } => Some(what),
            _ => None,
        });
        self.damaged |= corrupt.is_some();
        corrupt
    }
}

/// Runs the stage; comes back only when the verified root is `/`.
pub fn initrd_stage() -> Handover {
    let mut stage = Initrd {
        timeline: Timeline::begin(),
        degraded: Vec::new(),
        cmdline: Cmdline::default(),
        uevents: None,
        modules: Modules::default(),
        watchdog: None,
        root: [0; 32],
        found: None,
        boot: 1,
        record_trouble: None,
        ask: None,
        previous_step: None,
        device: PathBuf::new(),
        old_root: None,
        damaged: false,
        fitting: Vec::new(),
    };
    runner::run(&STEPS, &mut stage);
    match stage.found.take() {
        Some(found) => hand_over(stage, found),
        // Its step failed, and that ends the start.
        None => fail::die(Status::Failed, "no boot disk", "the initrd stage went on without one"),
    }
}

fn kernel_file_systems(stage: &mut Initrd) -> Result<String, String> {
    for api in &mounts::FIRST {
        mounts::api(api)?;
    }
    console::open();
    super::hurry(true);
    stage.cmdline = Cmdline::read();
    let root = stage.cmdline.get("roothash").ok_or("the kernel command line has no roothash=")?;
    stage.root =
        verity::parse_root_hash(root).ok_or("roothash= on the kernel command line is not 64 hex digits")?;
    stage.uevents = Some(Uevents::open().map_err(|error| format!("uevent socket: {error}"))?);
    Ok(String::new())
}

/// The machine's own watchdog if one of its devices has a driver here, else the kernel's.
fn arm_watchdog(stage: &mut Initrd) -> Result<String, String> {
    stage.modules = Modules::open().map_err(|error| error.to_string())?;
    let aliases = modules::disk_aliases();
    stage.fitting = stage.modules.matching(aliases.iter().map(String::as_str));
    let hardware = stage.fitting.iter().find(|name| watchdog::HARDWARE.contains(&name.as_str())).cloned();
    let seconds = stage.cmdline.number("berth.watchdog").unwrap_or(limits::WATCHDOG_SECONDS);
    let seconds = seconds.clamp(*limits::WATCHDOG_RANGE.start(), *limits::WATCHDOG_RANGE.end());

    let mut troubles = Vec::new();
    for name in hardware.iter().map(String::as_str).chain([watchdog::SOFTWARE]) {
        let armed = stage
            .modules
            .load(name)
            .map_err(|error| error.to_string())
            .and_then(|_| Watchdog::arm(seconds).map_err(|error| format!("{name}: {error}")));
        match armed {
            Ok(dog) => {
                let note = format!("{}, {} s", dog.name, dog.seconds);
                stage.watchdog = Some(dog);
                return Ok(note);
            }
            Err(error) => troubles.push(error),
        }
    }
    Err(troubles.join("; "))
}

/// What a verified root needs. It comes before any driver of a disk, as a sick one may hold up whatever is loaded after.
fn load_drivers(stage: &mut Initrd) -> Result<String, String> {
    for feature in ["verity", "erofs"] {
        stage.modules.load_feature(feature).map_err(|error| error.to_string())?;
    }
    stage.fitting.retain(|name| modules::FAST_DISKS.contains(&name.as_str()));
    Ok(stage.fitting.join(", "))
}

/// Drivers for everything that is there on the buses that disks hang on; each may bring a bus with further devices.
fn load_all_drivers(modules: &mut Modules, troubles: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    loop {
        let new: Vec<String> =
            modules::disk_aliases().into_iter().filter(|alias| seen.insert(alias.clone())).collect();
        if new.is_empty() {
            break;
        }
        modules.load_for(new.iter().map(String::as_str), troubles);
    }
}

/// What is to be loaded before the next look at the disks.
enum Load {
    Nothing,
    /// Drivers of the disks that machines boot from most often.
    These(Vec<String>),
    All,
}

/// Loads drivers and looks at the disks, both in one child: either may hang.
fn look(stage: &mut Initrd, load: Load) -> Search {
    let limit = match &load {
        Load::Nothing => Duration::ZERO,
        Load::These(names) if names.is_empty() => Duration::ZERO,
        Load::These(_) => limits::FAST_DRIVERS,
        Load::All => limits::ALL_DRIVERS,
    };
    let medium = stage.cmdline.medium();
    let modules = &mut stage.modules;
    let search = Search::now(&stage.root, medium, limit, || {
        let mut troubles = Vec::new();
        match &load {
            Load::Nothing => {}
            Load::These(names) => drop(modules.load_all(names, &mut troubles)),
            Load::All => load_all_drivers(modules, &mut troubles),
        }
        troubles.iter().for_each(|trouble| console::say("initrd", trouble));
    });
    if let Load::These(names) = &load {
        stage.modules.tried(names);
    }
    search
}

/// Looks until the root is there, first on the usual disks, then on all, waking up for each device that appears.
fn find_disk(stage: &mut Initrd) -> Result<String, String> {
    let end = Instant::now() + limits::DISK_WAIT;
    let mut all = false;
    let mut load = Load::These(std::mem::take(&mut stage.fitting));
    loop {
        let search = look(stage, std::mem::replace(&mut load, Load::Nothing));
        if let Some((found, note)) = search.best() {
            // The disk that the loader came from has a start that is being counted; if this one has none, that one may
            // still lack its driver.
            let sure = found.trace == Trace::Counted
                || stage.cmdline.medium()
                || firmware(&stage.cmdline) == Firmware::Direct;
            if sure || all {
                let found = found.clone();
                stage.degraded.extend(search.left_out());
                return use_disk(stage, found, note);
            }
        }
        let left = end.saturating_duration_since(Instant::now());
        if search.stuck && !left.is_zero() {
            // Without what hangs.
            continue;
        }
        if !std::mem::replace(&mut all, true) {
            load = Load::All;
            continue;
        }
        if (left.is_zero() || !search.may_change())
            && let Some(slot) = search.damaged.first().or(search.unreadable.first())
        {
            if let Some(path) = &slot.record {
                open_record(stage, path, slot.slot);
            }
            stage.damaged = !search.damaged.is_empty();
            return Err(slot.reason.clone());
        }
        let uevents = stage.uevents.as_ref().ok_or("no uevent socket")?;
        let mut turn = left.min(waiting::meanwhile());
        if search.may_change() {
            turn = turn.min(limits::DISK_AGAIN);
        }
        if !disks::wait(uevents, turn) && turn < left {
            continue;
        }
        if left.is_zero() {
            let looked = if search.looked.is_empty() { "no disk".into() } else { search.looked.join("; ") };
            return Err(format!("no disk carries the root {}: {looked}", verity::to_hex(&stage.root)));
        }
        let events = uevents.read();
        let new = events.iter().filter_map(|event| match event {
            Uevent::Device { modalias } => Some(modalias.as_str()),
            _ => None,
        });
        load = Load::These(stage.modules.matching(new));
    }
}

fn use_disk(stage: &mut Initrd, found: Candidate, note: Option<String>) -> Result<String, String> {
    stage.degraded.extend(found.notes.iter().cloned());
    stage.degraded.extend(note);
    for sentence in &stage.degraded {
        console::say("initrd", sentence);
    }
    match &found.record {
        Some(path) => open_record(stage, path, found.slot),
        None if stage.cmdline.medium() => {}
        None => stage.degraded.push(format!("{} has no boot record partition", found.disk.display())),
    }
    let line = match stage.cmdline.medium() {
        true => format!("installation medium {}", found.disk.display()),
        false => format!("slot {} on {}", found.slot, found.disk.display()),
    };
    stage.found = Some(found);
    Ok(line)
}

/// From here on, this slot's steps are noted; and a worn-out good slot gets its next turn.
fn open_record(stage: &mut Initrd, path: &Path, slot: Slot) {
    let mut record = match RecordStore::open(path, slot) {
        Ok(record) => record,
        Err(error) => {
            stage.degraded.push(format!("boot record {}: {error}", path.display()));
            return;
        }
    };
    stage.boot = record.boot();
    stage.previous_step = record.read_step(slot);
    record.step("initrd", "boot disk", Status::Running, "");
    let (content, trouble) = record.read();
    stage.ask = content.as_ref().and_then(|content| Ask::parse(&content.ask));
    stage.record_trouble = trouble.map(|trouble| told(&trouble, content.is_some()));
    if let Some(next) = content.and_then(|content| assess::take_turns(&content, slot))
        && let Err(error) = record.write(&next)
    {
        stage.degraded.push(error);
    }
    let other = record.read_step(slot.other());
    fail::keep(record);
    if let Some((sentence, seconds)) = both_bad(stage.previous_step.as_ref(), other.as_ref()) {
        console::say("berth", sentence);
        // So that nothing is worn out by starts that end badly.
        waiting::pause(Duration::from_secs(seconds));
    }
}

/// What was wrong with the record, and what that meant for this start.
fn told(trouble: &str, copied: bool) -> String {
    let instead =
        if copied { "its copy was used" } else { "the first slot whose files are sound was started" };
    format!("{trouble}; {instead}")
}

fn set_up_verity(stage: &mut Initrd) -> Result<String, String> {
    let found = stage.found.as_mut().ok_or("no disk")?;
    let number = |node: &Path| {
        use std::os::unix::fs::MetadataExt;
        let device = std::fs::metadata(node).map_err(|error| format!("{}: {error}", node.display()))?.rdev();
        Ok::<_, String>(format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device)))
    };
    if let Some(extents) = found.extents {
        let disk = number(&found.disk)?;
        let map = |name: &str, extent: Extent| {
            dm::create(name, extent.count, "linear", &format!("{disk} {}", extent.first))
                .map_err(|error| format!("{name} over {}: {error}", found.disk.display()))
        };
        let [data, hash] = extents;
        (found.data, found.hash) = (map(dm::MEDIUM_ROOT, data)?, map(dm::MEDIUM_VERITY, hash)?);
    }
    let table = found.superblock.table(&number(&found.data)?, &number(&found.hash)?, &stage.root);
    let sectors = found.superblock.data_blocks * (BLOCK as u64 / 512);
    stage.device = dm::create(dm::ROOT, sectors, "verity", &table)
        .map_err(|error| format!("verity device over {}: {error}", found.data.display()))?;
    Ok(String::new())
}

fn mount_root(stage: &mut Initrd) -> Result<String, String> {
    std::fs::create_dir_all(NEW_ROOT).map_err(|error| format!("{NEW_ROOT}: {error}"))?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    mount(Some(&stage.device), NEW_ROOT, Some("erofs"), flags, None::<&str>)
        .map_err(|error| format!("root not mounted: {error}"))?;
    Ok(String::new())
}

fn switch_root(stage: &mut Initrd) -> Result<String, String> {
    let root = Path::new(NEW_ROOT);
    for api in &mounts::FIRST {
        let from = Path::new(api.target);
        mounts::shift(from, &root.join(from.strip_prefix("/").unwrap_or(from)))?;
    }
    let moved = (|| {
        let old = File::open("/")?;
        std::env::set_current_dir(root)?;
        mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
        std::os::unix::fs::chroot(".")?;
        std::env::set_current_dir("/")?;
        Ok::<_, std::io::Error>(old)
    })();
    stage.old_root = Some(moved.map_err(|error| format!("the verified root did not become /: {error}"))?);
    Ok(String::new())
}

/// The initrd's files are memory, reached by this descriptor only. PID 1's program stays, without a name: nobody may
/// write to it. For a child.
pub fn free(old_root: &File) -> std::io::Result<()> {
    empty(&format!("/proc/self/fd/{}", old_root.as_raw_fd()));
    restrict(old_root.as_fd(), libc::MOUNT_ATTR_RDONLY, false)
}

/// Deletes everything in a folder of the initrd's own file system; mounts were moved away before.
fn empty(folder: &str) {
    use std::os::unix::fs::MetadataExt;
    let Ok(device) = std::fs::metadata(folder).map(|folder| folder.dev()) else { return };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        match entry.metadata() {
            Ok(found) if found.dev() != device => {}
            Ok(found) if found.is_dir() => drop(std::fs::remove_dir_all(entry.path())),
            _ => drop(std::fs::remove_file(entry.path())),
        }
    }
}

fn hand_over(stage: Initrd, found: Candidate) -> Handover {
    Handover {
        slot: found.slot,
        root_hash: verity::to_hex(&stage.root),
        firmware: firmware(&stage.cmdline),
        cmdline: stage.cmdline,
        disk: found.disk,
        medium: found.seed,
        record: found.record,
        record_trouble: stage.record_trouble,
        ask: stage.ask,
        boot: stage.boot,
        previous_step: stage.previous_step,
        watchdog: stage.watchdog,
        old_root: stage.old_root,
        timeline: stage.timeline,
        degraded: stage.degraded,
    }
}

/// The boot loader adds `berth.loader=grub` to what it starts, and counts it; direct boot has neither.
fn firmware(cmdline: &Cmdline) -> Firmware {
    match cmdline.get("berth.loader") {
        None => Firmware::Direct,
        Some(_) if Path::new("/sys/firmware/efi").exists() => Firmware::Uefi,
        Some(_) => Firmware::Bios,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_comes_before() {
        runner::check(&STEPS).unwrap();
    }
}
