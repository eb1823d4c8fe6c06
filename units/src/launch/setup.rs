//! The setup child: everything that needs the host's users and mounts. It has a mount namespace of its own, so
//! nothing it mounts is ever seen outside or left behind.
//!
//! What it makes lies in a tmpfs over [`Plan::scratch`], its working folder, from where the container's process takes
//! it: `l/<n>` and `rw` (an image's layers) or `root` (the system's), `dev`, `sys` (host network only), `b/<n>` (binds), `t/<n>` (the config's texts), `secrets`, `empty`, `resolv.conf`, `hostname`, `hosts`.

use super::container;
use super::devices;
use super::fault::{At, Fault, Step};
use super::message::Channel;
use super::plan::{Plan, Root};
use super::writable;
use crate::limits::ID_RANGE;
use crate::model::{NetworkMode, Secret};
use crate::sys::mount::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, FsContext};
use crate::sys::{clone, process};
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::{Mode, umask};
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, fchown, symlink};
use std::path::{Path, PathBuf};

/// Bytes of the scratch tmpfs: a few files, and the upper layer of a read-only root (mount points only).
const SCRATCH_BYTES: &CStr = c"1m";
/// Bytes of the secrets' tmpfs: a config's, each rounded up to a page.
const SECRETS_BYTES: &CStr = c"8m";
/// Devices of every container: name, major, minor (Documentation/admin-guide/devices.txt).
const DEVICES: [(&CStr, u32, u32); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Of everything that is made here.
const UMASK: Mode = Mode::from_bits_truncate(0o022);
/// Open files: a soft limit that `select` can live with, and room to raise it; systemd's.
const OPEN_FILES: (u64, u64) = (1024, 524_288);
/// Mode of a volume that no image has given an owner yet: the first container with a folder of its image at that place
/// does, as long as the volume is empty. A start that is cut off in between leaves it as it is.
pub(super) const NEW_VOLUME: u32 = 0o1755;
/// Locked memory, bytes, both limits; the kernel's default.
const LOCKED_BYTES: u64 = 8 << 20;

/// The descriptors that both children get.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) channel: Channel<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
}

impl Ends<'_> {
    /// Closes every descriptor but these, the plan's own, the first three and `more`.
    pub(super) fn close_others(&self, plan: &Plan, more: &[RawFd]) -> Step<()> {
        let own = [self.channel.0.as_raw_fd(), self.stdout.as_raw_fd(), self.stderr.as_raw_fd()];
        let given = plan.fds.iter().map(|(_, fd)| fd.as_raw_fd());
        close_all_but(own.into_iter().chain(more.iter().copied()).chain(given))
    }
}

/// Closes every descriptor but the first three and these.
pub(super) fn close_all_but(keep: impl Iterator<Item = RawFd>) -> Step<()> {
    let mut keep: Vec<u32> = keep.map(RawFd::unsigned_abs).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            process::close_range(first, fd - 1, false).at(|| "close descriptors")?;
        }
        first = fd + 1;
    }
    process::close_range(first, u32::MAX, false).at(|| "close descriptors")
}

/// What every process of a container has instead of PID 1's. Here, for the container's root may not raise it.
pub(super) fn limits(nofile: Option<u64>) -> Step<()> {
    // PID 1 is exempt from the OOM killer; its children are not.
    fs::write("/proc/self/oom_score_adj", "0").at(|| "reset oom_score_adj")?;
    let (soft, hard) = nofile.map_or(OPEN_FILES, |both| (both, both));
    process::set_limit(libc::RLIMIT_NOFILE, soft, hard).at(|| "limit open files")?;
    process::set_limit(libc::RLIMIT_MEMLOCK, LOCKED_BYTES, LOCKED_BYTES).at(|| "limit locked memory")?;
    process::set_limit(libc::RLIMIT_CORE, 0, libc::RLIM_INFINITY).at(|| "limit core files")
}

/// The setup child's whole life; its exit code.
pub(super) fn run(plan: &Plan, ends: Ends<'_>) -> i32 {
    match prepare(plan, ends) {
        Ok(()) => 0,
        Err(fault) => {
            ends.channel.failed(&fault);
            1
        }
    }
}

fn prepare(plan: &Plan, ends: Ends<'_>) -> Step<()> {
    process::reset_signals();
    umask(UMASK);
    ends.close_others(plan, &[])?;
    quiet_stdio(ends)?;
    limits(plan.nofile)?;
    mount::make_private().at(|| "make mounts private")?;

    let (wait, mounted) = nix::unistd::pipe2(OFlag::O_CLOEXEC).at(|| "make a pipe")?;
    let (pid, pidfd) = clone::clone(namespaces(plan), None, || container::run(plan, ends, &wait))
        .at(|| "clone the container's process")?;
    drop(wait);
    let made = make(plan, ends, pid, &pidfd);
    if let Err(fault) = &made {
        // While the pipe is open: when it closes, the process that waits for it ends, and its end is no reason.
        ends.channel.failed(fault);
    }
    made?;
    nix::unistd::write(&mounted, b"m").at(|| "wake the container's process")?;
    Ok(())
}

/// Everything that the container's process, which waits, cannot make itself.
fn make(plan: &Plan, ends: Ends<'_>, pid: i32, pidfd: &OwnedFd) -> Step<()> {
    let own_network = plan.network != NetworkMode::Host;
    let netns = own_network
        .then(|| fs::File::open(format!("/proc/{pid}/ns/net")))
        .transpose()
        .at(|| "open its network namespace")?;
    if let Some(base) = plan.id_base {
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{map}"), format!("0 {base} {ID_RANGE}"))
                .at(|| format!("write {map}"))?;
        }
    }
    let netlink = netns
        .as_ref()
        .filter(|_| plan.network == NetworkMode::Bridge)
        .map(netlink_inside)
        .transpose()
        .at(|| "open a netlink socket in its network namespace")?;
    let fds: Vec<RawFd> = [pidfd.as_raw_fd()]
        .into_iter()
        .chain(netns.as_ref().map(AsRawFd::as_raw_fd))
        .chain(netlink.as_ref().map(AsRawFd::as_raw_fd))
        .collect();
    ends.channel.created(pid, &fds).at(|| "report to PID 1")?;
    drop(netlink);

    let userns = plan
        .id_base
        .map(|_| fs::File::open(format!("/proc/{pid}/ns/user")))
        .transpose()
        .at(|| "open its user namespace")?;
    Setup { plan, userns: userns.as_ref().map(AsFd::as_fd) }.mounts(ends)
}

/// Moves this process to the container's network, of which it needs none, for the network agent has no right to.
fn netlink_inside(netns: &fs::File) -> nix::Result<OwnedFd> {
    setns(netns, CloneFlags::CLONE_NEWNET)?;
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
}

/// Those that the process is born with; mount and cgroup namespace come when they are ready
/// (`CLONE_NEWCGROUP` here would show the parent's cgroup).
fn namespaces(plan: &Plan) -> libc::c_int {
    let mut flags = libc::CLONE_PARENT | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if !plan.host_pids {
        flags |= libc::CLONE_NEWPID;
    }
    if plan.id_base.is_some() {
        flags |= libc::CLONE_NEWUSER;
    }
    if plan.network != NetworkMode::Host {
        flags |= libc::CLONE_NEWNET;
    }
    flags
}

/// Input from nowhere; a panic's words go to the unit's log.
fn quiet_stdio(ends: Ends<'_>) -> Step<()> {
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).at(|| "open /dev/null")?;
    process::dup_to(null.as_fd(), 0).at(|| "set stdin")?;
    process::dup_to(null.as_fd(), 1).at(|| "set stdout")?;
    process::dup_to(ends.stderr, 2).at(|| "set stderr")?;
    // Without a descriptor at 0 to 2 the null device itself may have got one of these numbers: leave it there.
    if null.as_raw_fd() <= 2 {
        std::mem::forget(null);
    }
    Ok(())
}

struct Setup<'a> {
    plan: &'a Plan,
    userns: Option<BorrowedFd<'a>>,
}

impl Setup<'_> {
    fn mounts(&self, ends: Ends<'_>) -> Step<()> {
        let scratch = &self.plan.scratch;
        fs::create_dir_all(scratch).at(|| format!("make {}", scratch.display()))?;
        let tmpfs = FsContext::open(c"tmpfs").at(|| "open tmpfs")?;
        tmpfs.set(c"size", SCRATCH_BYTES).at(|| "size the scratch tmpfs")?;
        tmpfs.set(c"mode", c"0755").at(|| "set the scratch tmpfs's mode")?;
        let mounted = tmpfs.mount(ATTR_NOSUID).at(|| "mount the scratch tmpfs")?;
        mount::attach(mounted.as_fd(), directory(scratch)?.as_fd()).at(|| "attach the scratch tmpfs")?;
        std::env::set_current_dir(scratch).at(|| format!("enter {}", scratch.display()))?;

        // Covers masked folders.
        make_dir("empty")?;
        self.root()?;
        self.devices()?;
        self.files()?;
        self.texts()?;
        self.binds()?;
        self.secrets()?;
        if self.plan.network == NetworkMode::Host {
            // Needs the network namespace's owner, which the container's process is not.
            make_dir("sys")?;
            let sysfs = FsContext::open(c"sysfs").at(|| "open sysfs")?;
            let attrs = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | read_only(self.plan);
            let sysfs = sysfs.mount(attrs).at(|| "mount sysfs")?;
            mount::attach(sysfs.as_fd(), directory(Path::new("sys"))?.as_fd()).at(|| "attach sysfs")?;
        }
        // So that the program may open /dev/stdout and /dev/stderr.
        if let Some(base) = self.plan.id_base {
            for pipe in [ends.stdout, ends.stderr] {
                fchown(pipe, Some(base), Some(base)).at(|| "give it its output pipes")?;
            }
        }
        Ok(())
    }

    /// A detached copy of the mount at `source`, in the container's ids.
    fn take(&self, source: &Path) -> Step<OwnedFd> {
        let name = || source.display().to_string();
        // Workers write to the folders that these lie in: what they put there leads nowhere else.
        let folder = mount::open_plain(&c_path(source)?, libc::O_PATH | libc::O_DIRECTORY, 0)
            .at(|| format!("open {}", name()))?;
        let tree = mount::open_tree(folder.as_fd(), c"", false).at(|| format!("open {}", name()))?;
        if let Some(userns) = self.userns {
            mount::idmap(tree.as_fd(), userns).at(|| format!("map the ids of {}", name()))?;
        }
        Ok(tree)
    }

    fn root(&self) -> Step<()> {
        match &self.plan.root {
            Root::System(root) => {
                make_dir("root")?;
                // World-readable throughout and read-only, so it needs no mapping of ids.
                let failed = || "bind the system's root";
                let tree = mount::open_tree(nix::fcntl::AT_FDCWD, &c_path(root)?, false).at(failed)?;
                mount::restrict(tree.as_fd(), ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, false).at(failed)?;
                mount::attach(tree.as_fd(), directory(Path::new("root"))?.as_fd()).at(failed)
            }
            Root::Image { layers, writable, digest } => self.layers(layers, writable.as_deref(), digest),
        }
    }

    /// The overlay's parts, each in the container's ids. Stacking them is the container's: what the overlay writes to
    /// its upper layer it writes as whoever mounted it, and that must be a user whom the upper layer knows.
    fn layers(&self, layers: &[PathBuf], writable: Option<&Path>, digest: &str) -> Step<()> {
        make_dir("root")?;
        make_dir("l")?;
        for (n, layer) in layers.iter().enumerate() {
            let place = format!("l/{n}");
            make_dir(&place)?;
            let tree = self.take(layer)?;
            mount::restrict(tree.as_fd(), ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, false)
                .at(|| format!("restrict layer {n}"))?;
            mount::attach(tree.as_fd(), directory(Path::new(&place))?.as_fd())
                .at(|| format!("attach layer {n}"))?;
        }
        make_dir("rw")?;
        match writable {
            Some(folder) => {
                writable::ready(folder, digest)?;
                // Upper and work must lie in one mount.
                let tree = self.take(folder)?;
                mount::restrict(tree.as_fd(), ATTR_NOSUID | ATTR_NODEV, false)
                    .at(|| "restrict the writable layer")?;
                mount::attach(tree.as_fd(), directory(Path::new("rw"))?.as_fd())
                    .at(|| "attach the writable layer")?;
            }
            None => {
                for name in ["rw/upper", "rw/work"] {
                    make_dir(name)?;
                    self.give(Path::new(name))?;
                }
            }
        }
        Ok(())
    }

    /// `/dev`: made here because only the host's root may make device nodes that open.
    fn devices(&self) -> Step<()> {
        make_dir("dev")?;
        let tmpfs = FsContext::open(c"tmpfs").at(|| "open tmpfs")?;
        tmpfs.set(c"size", c"64k").at(|| "size /dev")?;
        tmpfs.set(c"mode", c"0755").at(|| "set /dev's mode")?;
        let dev = tmpfs.mount(ATTR_NOSUID | ATTR_NOEXEC).at(|| "mount /dev")?;
        mount::attach(dev.as_fd(), directory(Path::new("dev"))?.as_fd()).at(|| "attach /dev")?;
        self.give(Path::new("dev"))?;
        // Everybody may write to them.
        umask(Mode::empty());
        for (name, major, minor) in DEVICES {
            let path = Path::new("dev").join(name.to_string_lossy().as_ref());
            let failed = || format!("make {}", path.display());
            mount::mknod(dev.as_fd(), name, libc::S_IFCHR | 0o666, libc::makedev(major, minor)).at(failed)?;
            self.give(&path)?;
        }
        umask(UMASK);
        for name in ["dev/pts", "dev/shm", "dev/mqueue"] {
            make_dir(name)?;
            self.give(Path::new(name))?;
        }
        for (to, name) in DEVICE_LINKS {
            symlink(to, Path::new("dev").join(name)).at(|| format!("link /dev/{name}"))?;
        }
        devices::make(self.plan)
    }

    fn files(&self) -> Step<()> {
        let hostname = &self.plan.hostname;
        let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{hostname}\n");
        for (name, text) in
            [("hostname", format!("{hostname}\n")), ("hosts", hosts), ("resolv.conf", String::new())]
        {
            fs::write(name, text).at(|| format!("write {name}"))?;
            self.give(Path::new(name))?;
        }
        if self.plan.network != NetworkMode::None {
            let source = &self.plan.resolv_conf;
            let failed = || format!("bind {}", source.display());
            if let Some(folder) = source.parent() {
                fs::create_dir_all(folder).at(failed)?;
            }
            // As above, and a pipe would keep the start waiting.
            let flags = libc::O_RDONLY | libc::O_CREAT | libc::O_NONBLOCK | libc::O_NOCTTY;
            let file = fs::File::from(mount::open_plain(&c_path(source)?, flags, 0o644).at(failed)?);
            if !file.metadata().at(failed)?.is_file() {
                return Err(Fault::new(failed(), "it is not a file"));
            }
            let tree = mount::open_tree(file.as_fd(), c"", false).at(failed)?;
            mount::restrict(tree.as_fd(), ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC, false)
                .at(failed)?;
            mount::attach(tree.as_fd(), path_fd(Path::new("resolv.conf"))?.as_fd()).at(failed)?;
        }
        Ok(())
    }

    fn binds(&self) -> Step<()> {
        if !self.plan.binds.is_empty() {
            make_dir("b")?;
        }
        for (n, bind) in self.plan.binds.iter().enumerate() {
            let failed = || format!("bind {} to {}", bind.source.display(), bind.target);
            if bind.create && !bind.source.exists() {
                fs::create_dir_all(&bind.source).at(failed)?;
                let mode = if bind.volume { NEW_VOLUME } else { 0o700 };
                fs::set_permissions(&bind.source, fs::Permissions::from_mode(mode)).at(failed)?;
            }
            let place = format!("b/{n}");
            // A link in its way may be somebody else's, who wants another path bound.
            let source =
                fs::File::from(mount::open_plain(&c_path(&bind.source)?, libc::O_PATH, 0).at(failed)?);
            if source.metadata().at(failed)?.is_dir() {
                make_dir(&place)?;
            } else {
                fs::write(&place, "").at(failed)?;
            }
            let tree = mount::open_tree(source.as_fd(), c"", bind.recursive).at(failed)?;
            if let Some(userns) = self.userns {
                match mount::idmap(tree.as_fd(), userns) {
                    // procfs, sysfs and devtmpfs cannot; to be read without an owner's rights is what is left.
                    Err(error) if bind.writable || error.raw_os_error() != Some(libc::EINVAL) => {
                        return Err(Fault::new(failed(), format!("its ids cannot be mapped: {error}")));
                    }
                    _ => {}
                }
            }
            let read_only = if bind.writable { 0 } else { ATTR_RDONLY };
            mount::restrict(tree.as_fd(), read_only | ATTR_NOSUID | ATTR_NODEV, bind.recursive).at(failed)?;
            mount::attach(tree.as_fd(), path_fd(Path::new(&place))?.as_fd()).at(failed)?;
        }
        Ok(())
    }

    /// The config's texts that the unit has as files: they may be secrets.
    fn texts(&self) -> Step<()> {
        let failed = || "store the files of the config";
        if self.plan.files.is_empty() {
            return Ok(());
        }
        let texts = self.plan.files.iter().enumerate().map(|(n, (_, text))| (n.to_string(), text));
        let mounted = self.in_memory("t", texts, 0o444, failed)?;
        mount::restrict(mounted.as_fd(), ATTR_RDONLY, false).at(failed)
    }

    /// The secrets. Whose they are only the container's process finds out.
    fn secrets(&self) -> Step<()> {
        if self.plan.secrets.is_empty() {
            return Ok(());
        }
        let texts = self.plan.secrets.iter().map(|(name, text)| (name.clone(), text));
        self.in_memory("secrets", texts, 0o400, || "store the secrets").map(drop)
    }

    /// A tmpfs at a new folder, never swapped out, with these files, which belong to the container's root.
    fn in_memory<'t>(
        &self,
        folder: &str,
        texts: impl Iterator<Item = (String, &'t Secret)>,
        mode: u32,
        failed: fn() -> &'static str,
    ) -> Step<OwnedFd> {
        make_dir(folder)?;
        let tmpfs = FsContext::open(c"tmpfs").at(failed)?;
        tmpfs.set(c"size", SECRETS_BYTES).at(failed)?;
        tmpfs.set(c"mode", c"0755").at(failed)?;
        tmpfs.flag(c"noswap").at(failed)?;
        let mounted = tmpfs.mount(ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC).at(failed)?;
        mount::attach(mounted.as_fd(), directory(Path::new(folder))?.as_fd()).at(failed)?;
        for (name, text) in texts {
            let path = Path::new(folder).join(name);
            fs::write(&path, text.reveal()).at(failed)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at(failed)?;
            self.give(&path)?;
        }
        Ok(mounted)
    }

    /// Makes the container's root the owner.
    fn give(&self, path: &Path) -> Step<()> {
        match self.plan.id_base {
            Some(base) => {
                chown(path, Some(base), Some(base)).at(|| format!("change the owner of {}", path.display()))
            }
            None => Ok(()),
        }
    }
}

/// Every container has a device at this path.
pub(super) fn is_everybodys(path: &str) -> bool {
    let name = path.strip_prefix("/dev/").unwrap_or_default();
    DEVICES.iter().any(|(known, ..)| known.to_bytes() == name.as_bytes())
        || DEVICE_LINKS.iter().any(|(_, known)| *known == name)
}

/// Of the kernel's own file systems: read-only, but for a privileged unit.
pub(super) fn read_only(plan: &Plan) -> u64 {
    if plan.privileged { 0 } else { ATTR_RDONLY }
}

/// With the mode that [`prepare`]'s umask leaves it: 0755.
pub(super) fn make_dir(path: &str) -> Step<()> {
    fs::create_dir(path).at(|| format!("make {path}"))
}

fn directory(path: &Path) -> Step<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).at(|| format!("open {}", path.display()))
}

fn path_fd(path: &Path) -> Step<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(|| format!("open {}", path.display()))
}

pub(super) fn c_path(path: &Path) -> Step<CString> {
    CString::new(path.as_os_str().as_bytes()).at(|| format!("use the path {path:?}"))
}
