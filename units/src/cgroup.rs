//! A unit's cgroup: limits, accounting, and the one reliable way to end every process of it.
//!
//! PID 1 makes it before the setup child, which `clone3` puts straight into it; the unit has ended only when it is
//! empty. Every operation here is one short read or write on cgroupfs and does not block.

use crate::disks::Disk;
use crate::figures::field;
use crate::model::{IoMax, Resources};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `cpu.max`'s period, microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// Bytes of one cgroup file that are read.
const FILE_BYTES: usize = 4096;
/// Controllers that Berth uses.
const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// What the cgroup has used so far and uses now; `None` where the controller is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// `memory.current`, bytes.
    pub memory: Option<u64>,
    /// `cpu.stat`, `usage_usec`.
    pub cpu_us: Option<u64>,
    /// `pids.current`.
    pub pids: Option<u64>,
}

/// One unit's cgroup, open.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
    events: OwnedFd,
}

/// Cgroups that a unit left behind and that are removed at once: whoever does it has other things to do.
const PRUNED: u32 = 1024;

impl Cgroup {
    /// Makes (or takes over) the cgroup at `path` and sets its limits. The parent must have delegated its controllers,
    /// see [`delegate`]. A limit that cannot be set is an error: nothing runs without its limits.
    pub fn create(path: &Path, limits: &Resources) -> io::Result<Self> {
        let (cgroup, is_new) = Self::made(path)?;
        cgroup.set(limits, is_new)?;
        Ok(cgroup)
    }

    /// Makes or takes over a cgroup as it is. An empty one is made anew: what `clone3` puts into a cgroup that was
    /// killed before, Linux since 6.12.14 kills at once (it compares that one's count of kills with the cloner's own).
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::made(path).map(|(cgroup, _)| cgroup)
    }

    /// And whether it is new, with the kernel's own limits.
    fn made(path: &Path) -> io::Result<(Self, bool)> {
        prune(path);
        let _ = fs::remove_dir(path);
        let is_new = match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(about(path, error)),
            made => made.is_ok(),
        };
        let folder = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(path, folder, Mode::empty()).map_err(|e| about(path, e.into()))?;
        let events = openat(&dir, "cgroup.events", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| about(&path.join("cgroup.events"), e.into()))?;
        Ok((Self { path: path.to_owned(), dir, events }, is_new))
    }

    /// A new cgroup below it, without limits of its own: this one's hold for both together, and to kill this one kills
    /// both. Its processes can be ended, and waited for, apart from the rest. For one process and what that starts, not
    /// to be used again after a kill, see [`Cgroup::open`]; fails if an earlier one of the name is not empty.
    pub fn child(&self, name: &str) -> io::Result<Self> {
        let path = self.path.join(name);
        match fs::remove_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(about(&path, error)),
            _ => Self::open(&path),
        }
    }

    /// Sets (or changes) the limits.
    pub fn limit(&self, limits: &Resources) -> io::Result<()> {
        self.set(limits, false)
    }

    /// Of a new cgroup only what differs from what the kernel gives it is written: each write is paid for at each start.
    fn set(&self, limits: &Resources, is_new: bool) -> io::Result<()> {
        let set = |name: &str, value: Option<String>, default: &str, needed: bool| match value {
            None if is_new => Ok(()),
            value => self.write(name, value.as_deref().unwrap_or(default), needed),
        };
        let maximum = |name: &str, value: Option<u64>, needed: bool| {
            set(name, value.map(|n| n.to_string()), "max", needed)
        };
        maximum("memory.max", limits.memory, limits.memory.is_some())?;
        // A limit that may be swapped around is none; a kernel without swap accounting has no such file.
        maximum("memory.swap.max", limits.swap.or(limits.memory.map(|_| 0)), limits.swap.is_some())?;
        maximum("memory.high", limits.memory_high, limits.memory_high.is_some())?;
        // Half a unit is worse than none: the OOM killer takes all of it, and the restart policy decides.
        self.write("memory.oom.group", "1", limits.memory.is_some())?;
        let quota = limits.cpus_milli.map(|milli| u64::from(milli) * CPU_PERIOD_US / 1000);
        let share = quota.map(|quota| format!("{quota} {CPU_PERIOD_US}"));
        set("cpu.max", share, &format!("max {CPU_PERIOD_US}"), quota.is_some())?;
        set("cpu.weight", limits.cpu_weight.map(|n| n.to_string()), "100", limits.cpu_weight.is_some())?;
        if let Some(cpus) = &limits.cpuset {
            self.write("cpuset.cpus", cpus, true)?;
        }
        self.write("pids.max", &limits.pids.to_string(), true)
    }

    /// Sets the limits on reading and writing `disk`. Without one there is nothing to be limited: the state is in memory.
    pub fn limit_io(&self, limits: &Resources, disk: Option<Disk>) -> io::Result<()> {
        let Some(disk) = disk else { return Ok(()) };
        if let Some(weight) = limits.io_weight {
            self.write("io.weight", &format!("default {weight}"), true)?;
        }
        let IoMax { read, write, read_ops, write_ops } = limits.io_max;
        let rates = [("rbps", read), ("wbps", write), ("riops", read_ops), ("wiops", write_ops)];
        let said: Vec<String> =
            rates.iter().filter_map(|(key, rate)| rate.map(|rate| format!("{key}={rate}"))).collect();
        if said.is_empty() {
            Ok(())
        } else {
            self.write("io.max", &format!("{disk} {}", said.join(" ")), true)
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, for `CLONE_INTO_CGROUP`.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// `cgroup.events`: poll for `EPOLLPRI`, then ask [`Cgroup::populated`].
    pub fn events(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Whether any process is left in it. Clears what `EPOLLPRI` signalled.
    pub fn populated(&self) -> io::Result<bool> {
        let mut text = [0; FILE_BYTES];
        let got = nix::sys::uio::pread(&self.events, &mut text, 0)
            .map_err(|e| self.about("cgroup.events", e.into()))?;
        let text = String::from_utf8_lossy(&text[..got]);
        Ok(field(&text, "populated") != Some(0))
    }

    /// SIGKILL to every process in it, also those being forked (`cgroup.kill`).
    pub fn kill(&self) -> io::Result<()> {
        self.write("cgroup.kill", "1", true)
    }

    /// Removes it, with what was made by [`Cgroup::child`], or by a privileged unit itself; it must be empty.
    pub fn remove(self) -> io::Result<()> {
        prune(&self.path);
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(about(&self.path, error)),
            _ => Ok(()),
        }
    }

    /// What it uses.
    pub fn usage(&self) -> Usage {
        Usage {
            memory: self.read("memory.current").and_then(|t| t.trim().parse().ok()),
            cpu_us: self.read("cpu.stat").and_then(|t| field(&t, "usage_usec")),
            pids: self.read("pids.current").and_then(|t| t.trim().parse().ok()),
        }
    }

    /// How often the OOM killer has struck in it.
    pub fn oom_kills(&self) -> u64 {
        self.read("memory.events").and_then(|t| field(&t, "oom_kill")).unwrap_or(0)
    }

    fn read(&self, name: &str) -> Option<String> {
        let file = openat(&self.dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let mut text = [0; FILE_BYTES];
        let got = nix::unistd::read(&file, &mut text).ok()?;
        Some(String::from_utf8_lossy(&text[..got]).into_owned())
    }

    /// A file that is not there (its controller is off) matters only if it is `needed`.
    fn write(&self, name: &str, value: &str, needed: bool) -> io::Result<()> {
        let file = match openat(&self.dir, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Err(nix::Error::ENOENT) if !needed => return Ok(()),
            other => other.map_err(|e| self.about(name, e.into()))?,
        };
        nix::unistd::write(&file, value.as_bytes()).map_err(|e| self.about(name, e.into()))?;
        Ok(())
    }

    fn about(&self, name: &str, error: io::Error) -> io::Error {
        about(&self.path.join(name), error)
    }
}

/// Has the kernel reckon what `disk` can do and share it out by `io.weight`, which it does for no disk by itself
/// (Documentation/admin-guide/cgroup-v2.rst, `io.cost.qos`). `root`: where cgroup v2 is mounted.
pub fn share_disk(root: &Path, disk: Disk) -> io::Result<()> {
    let file = root.join("io.cost.qos");
    fs::write(&file, format!("{disk} enable=1")).map_err(|e| about(&file, e))
}

/// Makes `path` a parent of cgroups: every controller that it has and Berth uses is given to its children.
pub fn delegate(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|e| about(path, e))?;
    let file = path.join("cgroup.controllers");
    let has = fs::read_to_string(&file).map_err(|e| about(&file, e))?;
    let give: Vec<String> = CONTROLLERS
        .iter()
        .filter(|c| has.split_whitespace().any(|h| h == **c))
        .map(|c| format!("+{c}"))
        .collect();
    let file = path.join("cgroup.subtree_control");
    fs::write(&file, give.join(" ")).map_err(|e| about(&file, e))
}

fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Removes what is below a cgroup and empty, innermost first. Why something stays, the kernel says of the parent.
fn prune(path: &Path) {
    let (mut left, mut found) = (PRUNED, vec![path.to_owned()]);
    let mut next = 0;
    while let Some(folder) = found.get(next).cloned() {
        next += 1;
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if left > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left -= 1;
                found.push(entry.path());
            }
        }
    }
    for folder in found.iter().skip(1).rev() {
        let _ = fs::remove_dir(folder);
    }
}
