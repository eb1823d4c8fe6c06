//! The container's process, from its birth in new namespaces to exec. It is process 1 of its pid namespace; until
//! `mounted` comes it only waits, and everything it does after that is done with no more rights than its own user
//! namespace gives (system units with the host's users excepted).

use super::fault::{At, Step};
use super::inside::Inside;
use super::message::Channel;
use super::plan::{Plan, Root};
use super::program::{self, Command, NOT_STARTED};
use super::setup::{self, Ends, c_path};
use super::user::Identity;
use crate::model::NetworkMode;
use crate::sys::mount::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, FsContext};
use crate::sys::process;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchownat};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Bytes of `/dev/shm`; Docker's.
const SHM_BYTES: u64 = 64 << 20;
/// tmpfs of a system unit: path, bytes, mode.
const SYSTEM_TMPFS: [(&str, u64, &std::ffi::CStr); 4] = [
    ("/run", 1 << 20, c"0755"),
    ("/var", 1 << 20, c"0755"),
    ("/etc", 1 << 20, c"0755"),
    ("/tmp", 16 << 20, c"1777"),
];

/// The process's life until exec; its exit code if it does not get there.
pub(super) fn run(plan: &Plan, ends: Ends<'_>, wait: &OwnedFd) -> i32 {
    match with_high_ends(plan, ends, wait) {
        Ok(()) => 0,
        Err(fault) => {
            // Its first place may be taken by now; then this reaches nobody, and the step below has said it already.
            ends.channel.failed(&fault);
            NOT_STARTED
        }
    }
}

/// Moves the ends above the numbers that the program's own descriptors will have.
fn with_high_ends(plan: &Plan, ends: Ends<'_>, wait: &OwnedFd) -> Step<()> {
    let least = first_free(plan)?;
    let high = |fd: BorrowedFd<'_>| process::dup_above(fd.as_raw_fd(), least).at(|| "move a descriptor");
    let (channel, stdout, stderr) = (high(ends.channel.0)?, high(ends.stdout)?, high(ends.stderr)?);
    let ends = Ends { channel: Channel(channel.as_fd()), stdout: stdout.as_fd(), stderr: stderr.as_fd() };
    if let Err(fault) = start(plan, ends, wait) {
        ends.channel.failed(&fault);
        return Err(fault);
    }
    Ok(())
}

fn first_free(plan: &Plan) -> Step<RawFd> {
    RawFd::try_from(3 + plan.fds.len()).at(|| "count descriptors")
}

/// `Ok` only if it was called off; else it execs or says why not.
fn start(plan: &Plan, ends: Ends<'_>, wait: &OwnedFd) -> Step<()> {
    ends.close_others(plan, &[wait.as_raw_fd()])?;
    let mut byte = [0];
    // The end without a word: the setup child has failed and said so.
    if nix::unistd::read(wait, &mut byte).at(|| "wait for the mounts")? == 0 {
        return Ok(());
    }
    // As the host's root, for the way there may be closed to others.
    std::env::set_current_dir(&plan.scratch).at(|| "enter the scratch folder")?;
    program::become_root(plan)?;
    let new = nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_NEWCGROUP;
    nix::sched::unshare(new).at(|| "unshare the mount and cgroup namespaces")?;

    let inside = furnish(plan)?;
    let secrets = (!plan.secrets.is_empty()).then(|| inside.secrets()).transpose()?;
    protect(plan, &inside)?;
    inside.pivot()?;
    surroundings(plan)?;
    let identity = program::who(&plan.user)?;
    if let Some(folder) = secrets {
        own_secrets(plan, &folder, &identity)?;
    }
    let env = environment(plan, &identity);
    let command = Command::new(&plan.argv, &env)?;
    if !ends.channel.wait().at(|| "wait for the network")? {
        return Ok(());
    }
    for pipe in [ends.stdout, ends.stderr] {
        let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        nix::unistd::fchown(pipe, Some(uid), Some(gid)).at(|| "give it its output pipes")?;
    }
    if plan.new_privs {
        // Without no_new_privs it takes a right that is given up next.
        program::load_filter(plan)?;
    }
    program::drop_privileges(&identity, plan.caps, plan.caps_ambient, &plan.cwd, plan.new_privs)?;
    descriptors(plan, ends)?;
    ends.channel.execs().at(|| "report to PID 1")?;
    if !plan.new_privs {
        program::load_filter(plan)?;
    }
    Err(command.exec())
}

/// The root as a mount of this namespace's own: `pivot_root` takes no other.
fn root(plan: &Plan) -> Step<OwnedFd> {
    let Root::Image { layers, .. } = &plan.root else {
        return mount::open_tree(nix::fcntl::AT_FDCWD, c"root", false).at(|| "copy the root mount");
    };
    let overlay = FsContext::open(c"overlay").at(|| "open overlay (is its module loaded?)")?;
    // The first one named lies on top.
    for n in (0..layers.len()).rev() {
        overlay.set(c"lowerdir+", &c_path(format!("l/{n}").as_ref())?).at(|| format!("stack layer {n}"))?;
    }
    overlay.set(c"upperdir", c"rw/upper").at(|| "stack the writable layer")?;
    overlay.set(c"workdir", c"rw/work").at(|| "stack the writable layer")?;
    overlay.flag(c"userxattr").at(|| "set userxattr")?;
    let setuid = if plan.new_privs { 0 } else { ATTR_NOSUID };
    overlay.mount(setuid | ATTR_NODEV).at(|| "mount the image's layers")
}

fn furnish(plan: &Plan) -> Step<Inside> {
    let quiet = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    let inside = Inside::enter(&root(plan)?)?;
    if matches!(plan.root, Root::System(_)) {
        for (path, bytes, mode) in SYSTEM_TMPFS {
            inside.tmpfs(path, bytes, mode)?;
        }
    }
    inside.mount(c"proc", &[], quiet, "/proc")?;
    if plan.network == NetworkMode::Host {
        inside.bind("sys", "/sys")?;
    } else {
        inside.mount(c"sysfs", &[], quiet | setup::read_only(plan), "/sys")?;
        // As Docker: any user may ping and open low ports in a network namespace of its own.
        inside.sysctl("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
        inside.sysctl("/proc/sys/net/ipv4/ping_group_range", "0 65535")?;
    }
    inside.mount(c"cgroup2", &[], quiet | setup::read_only(plan), "/sys/fs/cgroup")?;
    inside.bind("dev", "/dev")?;
    let pts = [(c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"gid", c"5")];
    inside.mount(c"devpts", &pts, ATTR_NOSUID | ATTR_NOEXEC, "/dev/pts")?;
    inside.tmpfs("/dev/shm", SHM_BYTES, c"1777")?;
    inside.mount(c"mqueue", &[], quiet, "/dev/mqueue")?;
    for (path, bytes) in &plan.tmpfs {
        inside.tmpfs(path, *bytes, c"1777")?;
    }
    for name in ["resolv.conf", "hostname", "hosts"] {
        inside.bind(name, &format!("/etc/{name}"))?;
    }
    if !plan.privileged {
        inside.mask()?;
    }
    for (n, (target, _)) in plan.files.iter().enumerate() {
        inside.bind(&format!("t/{n}"), target)?;
    }
    for (n, bind) in plan.binds.iter().enumerate() {
        if bind.volume {
            inside.volume(&format!("b/{n}"), &bind.target)?;
        } else {
            inside.bind(&format!("b/{n}"), &bind.target)?;
        }
    }
    inside.folder(&plan.cwd)?;
    Ok(inside)
}

/// What is not to be written any more, now that everything has its place.
fn protect(plan: &Plan, inside: &Inside) -> Step<()> {
    if matches!(plan.root, Root::System(_)) {
        for path in ["/etc", "/var", "/dev"] {
            inside.protect(path)?;
        }
    } else if plan.read_only {
        inside.protect("/")?;
    }
    Ok(())
}

/// Gives the secrets to the unit's user, for good.
fn own_secrets(plan: &Plan, folder: &OwnedFd, identity: &Identity) -> Step<()> {
    let failed = || "give the secrets to the unit's user";
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    for (name, _) in &plan.secrets {
        fchownat(folder, name.as_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).at(failed)?;
    }
    mount::restrict(folder.as_fd(), ATTR_RDONLY, false).at(failed)
}

/// Host name, loopback, session.
fn surroundings(plan: &Plan) -> Step<()> {
    nix::unistd::sethostname(&plan.hostname).at(|| "set the host name")?;
    if plan.network != NetworkMode::Host {
        process::loopback_up().at(|| "bring loopback up")?;
    }
    nix::unistd::setsid().at(|| "begin a session")?;
    program::new_keyring()
}

fn environment(plan: &Plan, identity: &Identity) -> Vec<String> {
    let mut env = plan.env.clone();
    program::add_home(&mut env, identity);
    if !plan.fds.is_empty() {
        let list: Vec<_> =
            plan.fds.iter().zip(3..).map(|((name, _), number)| format!("{name}={number}")).collect();
        env.push(format!("{}={}", crate::given::BLOCK_FDS, list.join(",")));
    }
    env
}

/// Puts 0 to 2 and the plan's own in their places; nothing else survives exec.
fn descriptors(plan: &Plan, ends: Ends<'_>) -> Step<()> {
    let failed = || "arrange descriptors";
    let first_free = first_free(plan)?;
    let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).at(failed)?;
    process::dup_to(null.as_fd(), 0).at(failed)?;
    process::dup_to(ends.stdout, 1).at(failed)?;
    process::dup_to(ends.stderr, 2).at(failed)?;
    // All out of the way first, so that no place is taken by one that is still needed.
    let high: Result<Vec<_>, _> =
        plan.fds.iter().map(|(_, fd)| process::dup_above(fd.as_raw_fd(), first_free)).collect();
    for (source, to) in high.at(failed)?.iter().zip(3..) {
        process::dup_to(source.as_fd(), to).at(failed)?;
    }
    process::close_range(first_free.unsigned_abs(), u32::MAX, true).at(failed)?;
    // Its number may be the program's now.
    std::mem::forget(null);
    Ok(())
}
