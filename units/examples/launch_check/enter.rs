//! Further processes in a running container.

use super::driver::{self, Bench, DEADLINE, Ended, Finished, Running, ready};
use super::{BASE, shut_in};
use berth_units::cgroup::Cgroup;
use berth_units::launch::{self, Caps, Entered, Entry, Message, Plan};
use berth_units::model::{NetworkMode, Resources};
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::pipe2;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Instant;

/// Times that a container is entered to see what is left behind.
const TIMES: usize = 100;

/// A process that has entered, or has not.
struct Visit {
    pid: i32,
    cgroup: Cgroup,
    stdout: OwnedFd,
    stderr: OwnedFd,
    terminal: Option<OwnedFd>,
}

fn probe(args: &[&str]) -> Entry<'static> {
    Entry::command(["probe", "probe"].into_iter().chain(args.iter().copied()).map(str::to_owned).collect())
}

fn visit(plan: &Plan, running: &Running, what: Entry<'_>) -> Result<Visit, String> {
    visit_in(plan, running, "probe", what)
}

fn visit_in(plan: &Plan, running: &Running, name: &str, mut what: Entry<'_>) -> Result<Visit, String> {
    let (stdout, far_stdout) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let (stderr, far_stderr) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut given = [None, Some(far_stdout.as_fd()), Some(far_stderr.as_fd())];
    for (own, given) in what.stdio.iter().zip(&mut given) {
        *given = own.or(*given);
    }
    let what = Entry { program: what.program, env: std::mem::take(&mut what.env), stdio: given, ..what };
    let cgroup = running.cgroup.child(name).unwrap();
    let mut entered =
        launch::enter(plan, &cgroup, running.pidfd.as_fd(), &what).map_err(|e| e.to_string())?;
    let mut found = None;
    loop {
        match next(&mut entered) {
            Message::Created { pid, netns, netlink, .. } => {
                assert!(netns.is_none() && netlink.is_none());
                found = Some(pid);
            }
            Message::Running => break,
            Message::Failed { step, error } => {
                driver::wait(entered.usher_pid);
                found.map(driver::wait);
                assert!(!cgroup.populated().unwrap());
                return Err(format!("{step}: {error}"));
            }
        }
    }
    assert_eq!(driver::wait(entered.usher_pid), Ended::Code(0));
    Ok(Visit {
        pid: found.expect("Created comes before Running"),
        cgroup,
        stdout,
        stderr,
        terminal: entered.terminal(),
    })
}

fn next(entered: &mut Entered) -> Message {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(message) = entered.receive().unwrap() {
            return message;
        }
        ready(entered.channel.as_fd(), PollFlags::POLLIN, end);
    }
}

impl Visit {
    fn end(self) -> Finished {
        let read = |fd: OwnedFd| {
            let mut words = Vec::new();
            fs::File::from(fd).read_to_end(&mut words).unwrap();
            String::from_utf8_lossy(&words).into_owned()
        };
        let (mut output, errors) = (read(self.stdout), read(self.stderr));
        while let Some(terminal) = &self.terminal {
            ready(terminal.as_fd(), PollFlags::POLLIN, Instant::now() + DEADLINE);
            let mut part = [0; 4096];
            // EIO at its end.
            let Ok(count) = nix::unistd::read(terminal, &mut part) else { break };
            output.push_str(&String::from_utf8_lossy(&part[..count]).replace('\r', ""));
        }
        Finished { ended: driver::wait(self.pid), output, errors, had_netns: true }
    }
}

fn finish(mut running: Running) {
    running.signal(libc::SIGKILL);
    running.end();
}

/// Everything that the first process has, and nothing more.
pub fn as_the_unit(bench: &Bench) {
    let mut plan = bench.plan(&["sleep"]);
    let running = bench.start(&plan);
    let namespaces = |pid: i32| {
        let read = |name| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        ["user", "mnt", "pid", "net", "uts", "ipc", "cgroup"].map(read)
    };
    let visitor = visit(&plan, &running, probe(&["sleep"])).unwrap();
    assert_eq!(namespaces(visitor.pid), namespaces(running.pid));
    assert_eq!(fs::metadata(format!("/proc/{}", visitor.pid)).unwrap().uid(), BASE);
    visitor.cgroup.kill().unwrap();
    assert_eq!(visitor.end().ended, Ended::Signal(libc::SIGKILL));

    let mut what = probe(&["facts"]);
    what.env = vec!["MORE=yes".into(), "HOSTNAME=other".into()];
    let seen = visit(&plan, &running, what).unwrap().end();
    assert_eq!(seen.fact("processes"), "2");
    assert_ne!(seen.fact("pid"), "1");
    assert_eq!(seen.fact("cgroup"), "0::/probe");
    assert_eq!((seen.fact("env MORE"), seen.fact("env HOSTNAME")), ("yes", "other"));
    let as_unit = Finished { output: seen.output.replace("HOSTNAME = other", "HOSTNAME = check"), ..seen };
    shut_in(&as_unit);
    finish(running);

    // One of the system's own: the host's users and network, one capability.
    plan = bench.system_plan(&["sleep"]);
    plan.binds.truncate(1);
    (plan.id_base, plan.network) = (None, NetworkMode::Host);
    plan.caps = Caps(1 << Caps::number("NET_ADMIN").unwrap());
    let running = bench.start(&plan);
    let seen = visit(&plan, &running, probe(&["facts"])).unwrap().end();
    for (key, value) in [
        ("uid", "0"),
        ("status CapEff", "0000000000001000"),
        ("status CapBnd", "0000000000001000"),
        ("hostname", "check"),
        ("processes", "2"),
        ("fds", "0 1 2"),
        ("root mounts", "1"),
        ("write /file", "EROFS"),
    ] {
        assert_eq!(seen.fact(key), value, "{key}");
    }
    let host = fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(seen.fact("interfaces").split(' ').count(), host);
    finish(running);
}

pub fn as_somebody_else(bench: &Bench) {
    let mut plan = bench.plan(&["sleep"]);
    plan.cwd = "/home".into();
    plan.caps.0 |= 1 << Caps::number("SYS_PTRACE").unwrap();
    let running = bench.start(&plan);
    let mut what = probe(&["facts"]);
    (what.user, what.cwd) = (Some("alice".into()), Some("/home/alice".into()));
    let seen = visit(&plan, &running, what).unwrap().end();
    assert_eq!((seen.fact("uid"), seen.fact("gid"), seen.fact("groups")), ("1000", "1000", "50"));
    assert_eq!(seen.fact("status CapPrm"), "0000000000000000");
    assert_eq!((seen.fact("env HOME"), seen.fact("cwd")), ("/home/alice", "/home/alice"));
    assert_eq!((seen.fact("open /dev/stdout"), seen.fact("write /file")), ("ok", "EACCES"));

    // At a terminal, which is then its session's.
    assert_ne!(seen.fact("open /dev/tty"), "ok");
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut what = probe(&["facts"]);
    what.stdio[0] = Some(terminal.slave.as_fd());
    let seen = visit(&plan, &running, what).unwrap().end();
    assert_eq!(seen.fact("open /dev/tty"), "ok");
    drop(terminal);
    let own = Entry { terminal: true, user: Some("alice".into()), ..probe(&["facts"]) };
    let seen = visit(&plan, &running, own).unwrap().end();
    assert_eq!((seen.fact("open /dev/tty"), seen.fact("fds"), seen.fact("uid")), ("ok", "0 1 2", "1000"));
    assert_eq!(seen.fact("input"), "/dev/pts/0 of 1000");

    // Fewer capabilities than the unit, and never more.
    let mut what = probe(&["facts"]);
    what.caps = Caps(1 << Caps::number("CHOWN").unwrap() | 1 << Caps::number("SYS_ADMIN").unwrap());
    let seen = visit(&plan, &running, what).unwrap().end();
    assert_eq!((seen.fact("uid"), seen.fact("cwd")), ("0", "/home"));
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(seen.fact(&format!("status {set}")), "0000000000000001", "{set}");
    }

    // The machine's own program, which the image need not have.
    let own = fs::File::open("/proc/self/exe").unwrap();
    let argv = ["check", "probe", "facts"].map(str::to_owned).to_vec();
    let seen = visit(&plan, &running, Entry::check(own.as_fd(), argv.clone())).unwrap().end();
    assert_eq!((seen.fact("uid"), seen.fact("gid"), seen.fact("cwd")), ("65534", "65534", "/"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(seen.fact(&format!("status {set}")), "0000000000000000", "{set}");
    }
    assert_eq!((seen.fact("status NoNewPrivs"), seen.fact("status Seccomp")), ("1", "2"));
    assert_eq!((seen.fact("fds"), seen.fact("hostname")), ("0 1 2", "check"));
    assert!(!seen.output.contains("env PATH"), "the unit's environment is not for it");
    let visitor = visit(
        &plan,
        &running,
        Entry::check(own.as_fd(), ["check", "probe", "sleep"].map(str::to_owned).to_vec()),
    )
    .unwrap();
    let inode = |path: String| fs::metadata(path).map(|m| (m.dev(), m.ino())).unwrap();
    assert_eq!(inode(format!("/proc/{}/exe", visitor.pid)), inode("/proc/self/exe".into()));
    // It can be had from `/proc`, but not to write to (CVE-2019-5736).
    let thief = visit_in(&plan, &running, "exec", probe(&["steal"])).unwrap().end();
    assert_eq!((thief.fact("read"), thief.fact("write")), ("ok", "EACCES"));
    visitor.cgroup.kill().unwrap();
    visitor.end();
    finish(running);
}

pub fn failures(bench: &Bench) {
    let mut plan = bench.plan(&["sleep"]);
    let links = bench.extra_layer("links");
    symlink("/proc/self/fd", links.join("own")).unwrap();
    symlink("/proc/1/fd", links.join("first")).unwrap();
    bench.add_layer(&mut plan, "links");
    let mut running = bench.start(&plan);
    let fails = |what: Entry<'_>| visit(&plan, &running, what).err().expect("it must not run");
    let command = |name: &str| Entry::command(vec![name.to_owned()]);
    assert_eq!(fails(command("/bin/none")), "exec \"/bin/none\": /bin/none does not exist in the image");
    assert!(fails(command("none")).starts_with("exec \"none\": no such program in PATH (/usr/local/sbin:"));
    assert!(fails(command("/bin/rubbish")).contains("no program for this machine"));
    assert!(fails(command("")).contains("the command is empty"));
    let user = |name: &str| Entry { user: Some(name.into()), ..probe(&["facts"]) };
    assert!(fails(user("bob")).contains("the image has no user \"bob\""));
    let cwd = |path: &str| Entry { cwd: Some(path.into()), ..probe(&["facts"]) };
    assert!(fails(cwd("/both/x")).contains("enter the working folder /both/x"));

    // A folder of the host's, by whatever way (CVE-2024-21626).
    for n in 3..20 {
        for link in ["own", "first"] {
            assert!(fails(cwd(&format!("/{link}/{n}"))).contains("enter the working folder"), "{link} {n}");
        }
    }
    let folder = fs::File::open("/").unwrap();
    let mut what = probe(&["facts"]);
    what.stdio[0] = Some(folder.as_fd());
    assert!(fails(what).contains("descriptor 0 is neither stream nor file"));

    // It has ended: not yet reaped, and reaped.
    running.signal(libc::SIGKILL);
    let gone = "enter the container: its first process has ended";
    let id = || Id::PIDFd(running.pidfd.as_fd());
    waitid(id(), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    assert_eq!(visit(&plan, &running, probe(&["facts"])).err().unwrap(), gone);
    waitid(id(), WaitPidFlag::WEXITED).unwrap();
    assert_eq!(visit(&plan, &running, probe(&["facts"])).err().unwrap(), gone);
    running.cgroup.remove().unwrap();
}

/// The container's root, with the right to trace, watches while others enter; what it sees are processes of the
/// container from the first moment on, and nothing of where they come from.
pub fn seen_from_inside(bench: &Bench) {
    let mut plan = bench.plan(&["hunt"]);
    plan.caps.0 |= 1 << Caps::number("SYS_PTRACE").unwrap();
    plan.tmpfs = vec![("/signs".into(), 65_536)];
    // So that there is time to look at them before exec.
    let long = (0..2000).map(|n| format!("/none/{n}:")).collect::<String>();
    plan.env = vec![format!("PATH={long}/bin"), "HOSTNAME=check".into()];
    let mut running = bench.start_in(&plan, bench.unlimited()).unwrap();
    running.wait_output("ready");
    let alice = |args: &[&str]| {
        let what = Entry { user: Some("alice".into()), ..probe(args) };
        assert_eq!(visit(&plan, &running, what).unwrap().end().ended, Ended::Code(0));
    };
    for _ in 0..20 {
        alice(&["touch", "/dev/null"]);
    }
    alice(&["touch", "/signs/stop"]);
    let seen = running.end();
    println!("seen before exec: {} times", seen.fact("early"));
    assert_ne!(seen.fact("early"), "0", "nobody was seen before exec, so this has shown nothing");
    assert_eq!(seen.fact("got"), "");
    let users: Vec<_> = seen.output.lines().filter_map(|line| line.strip_prefix("seen = ")).collect();
    let bound = format!("CapBnd: {:016x}", plan.caps.0);
    let rest = ["CapPrm: 0000000000000000", "Gid: 1000 1000 1000 1000", "Uid: 1000 1000 1000 1000"];
    assert_eq!(users, [&[bound.as_str()], &rest[..]].concat());
}

pub fn ends(bench: &Bench) {
    let plan = bench.plan(&["sleep"]);
    let running = bench.start_in(&plan, bench.unlimited()).unwrap();
    // With all that it started, and nobody else.
    let visitor = visit(&plan, &running, probe(&["tree"])).unwrap();
    ready(visitor.stdout.as_fd(), PollFlags::POLLIN, Instant::now() + DEADLINE);
    assert_eq!(fs::read_to_string(visitor.cgroup.path().join("cgroup.procs")).unwrap().lines().count(), 4);
    let taken = running.cgroup.child("probe").unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::ResourceBusy);
    visitor.cgroup.kill().unwrap();
    wait_empty(&visitor.cgroup);
    assert_eq!(visitor.end().ended, Ended::Signal(libc::SIGKILL));
    assert!(running.cgroup.populated().unwrap(), "the unit runs on");

    let inside = || visit(&plan, &running, probe(&["facts"])).unwrap().end().fact("processes").to_owned();
    let processes = inside();
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let (before, mut best) = (open(), u128::MAX);
    for _ in 0..TIMES {
        let begin = Instant::now();
        let visitor = visit(&plan, &running, probe(&["touch", "/file"])).unwrap();
        best = best.min(begin.elapsed().as_micros());
        assert_eq!(visitor.end().ended, Ended::Code(0));
    }
    println!("enter to exec: {best} µs (best of {TIMES})");
    assert_eq!(open(), before);
    let left = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
    assert_eq!(left, Ok(WaitStatus::StillAlive), "no zombie is left");
    assert_eq!(inside(), processes);

    if bench.limited {
        // One too many, and two.
        let now = running.cgroup.usage().pids.unwrap();
        for (pids, step) in
            [(now, "clone a process into its cgroup"), (now + 1, "clone a process in the container")]
        {
            let pids = u32::try_from(pids).unwrap();
            running.cgroup.limit(&Resources { pids, ..Resources::default() }).unwrap();
            let reason = visit(&plan, &running, probe(&["facts"])).err().expect("it must not run");
            assert!(reason.contains(step) && reason.contains("as resources.pids allows"), "{reason}");
        }
        running.cgroup.limit(&Resources::default()).unwrap();
    }

    // The unit's end is theirs.
    let visitor = visit(&plan, &running, probe(&["tree"])).unwrap();
    running.cgroup.kill().unwrap();
    assert_eq!(visitor.end().ended, Ended::Signal(libc::SIGKILL));
    assert_eq!(running.end().ended, Ended::Signal(libc::SIGKILL));
}

fn wait_empty(cgroup: &Cgroup) {
    let end = Instant::now() + DEADLINE;
    while cgroup.populated().unwrap() {
        ready(cgroup.events(), PollFlags::POLLPRI, end);
    }
}
