//! A further process in a running container: a health check, `berth exec`.
//!
//! ```text
//!  PID 1                 usher (child of PID 1)                    the process (also a child of PID 1)
//!  ─────                 ──────────────────────                    ───────────────────────────────────
//!  enter ── clone3 ────▶ in the cgroup given, unreadable
//!                        limits, closes what is not handed on
//!                        all of the container's namespaces
//!                        user, working folder, capabilities
//!                        clone3(CLONE_PARENT) ───────────────────▶ in the container's pid namespace: session,
//!        ◀── Created ─── ends                                      seccomp, exec
//!        ◀── Running (the channel closes by itself at exec) or Failed
//! ```
//!
//! Inside a running container somebody is looking, unlike at its start; so whatever needs rights is done where nobody
//! inside can look. The usher is in the host's pid namespace, where nothing in the container can name it. It closes
//! every descriptor of the host's before it enters, and takes the user's ids and capabilities before it clones: the
//! process is born as the one that it stays, and does nothing before exec that takes a right or follows a path.
//!
//! Known ways out, closed. Until exec both are copies of PID 1: from `PR_SET_DUMPABLE` on, which also the clone
//! keeps, tracing them or reading their memory, `/proc/<pid>/exe`, `fd` or `cwd` takes CAP_SYS_PTRACE over PID 1's own
//! user namespace, which no user's unit has (CVE-2016-9962). exec itself sets that back only once the old memory and
//! every descriptor but the first three are gone. The program that a container can then open as `/proc/<pid>/exe` is
//! its own, or lies on the verified root: a read-only mount, owned by a user who it cannot be (CVE-2019-5736; also for
//! scripts whose interpreter is `/proc/self/exe`). setns sets root and working folder to the container's; no folder
//! outside is open any more when the unit's working folder is entered, which is checked (CVE-2024-21626), and one that is
//! given as standard input or output is refused. A terminal is the container's own, opened with the container's rights,
//! and only a devpts is taken for one.
//!
//! A container may lie about itself all the same: it can stop, trace or feed whatever runs in it after exec as its own
//! user. What a check says is the unit's word, no more.

use super::fault::{At, Fault, Step};
use super::message::{Channel, Message, Story};
use super::plan::{Caps, Plan, set_env};
use super::program::{self, Command, NOT_STARTED};
use super::setup::{close_all_but, limits};
use super::user::Identity;
use super::{LaunchError, channel};
use crate::cgroup::Cgroup;
use crate::model::NetworkMode;
use crate::sys::{clone, mount, process};
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Gid, Uid, fchown, isatty, pipe2, read, write};
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Whom a check by Berth's own program runs as: `nobody`, who owns nothing in the container.
const CHECKER: &str = "65534:65534";
/// The container's root, who is nobody outside.
const ROOT: &str = "0:0";
/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS: FsType = FsType(0x1cd1);

/// What is to run.
#[derive(Debug)]
pub enum Program<'a> {
    /// A command line, looked up inside as the unit's own is.
    Inside(Vec<String>),
    /// Berth's program, whatever the image holds: static, on the verified root, opened by PID 1 (`O_PATH` will do). It
    /// gets nothing of the unit's environment, and runs in `/`.
    Berth {
        /// The open file; it is closed at exec.
        file: BorrowedFd<'a>,
        /// Its command line, from the program's name on.
        argv: Vec<String>,
    },
}

/// A process to be started in a container.
#[derive(Debug)]
pub struct Entry<'a> {
    /// What runs.
    pub program: Program<'a>,
    /// `KEY=value`; each replaces the unit's own.
    pub env: Vec<String>,
    /// As [`Plan::user`]; `None`: the unit's.
    pub user: Option<String>,
    /// Working folder; `None`: the unit's.
    pub cwd: Option<String>,
    /// Those of the unit's capabilities that it may have too.
    pub caps: Caps,
    /// Standard input, output, error: pipe, socket, terminal, character device or file; `None`: nowhere. A terminal as
    /// standard input will control the session.
    pub stdio: [Option<BorrowedFd<'a>>; 3],
    /// A new terminal of the container's own for all three instead, see [`Entered::terminal`].
    pub terminal: bool,
}

impl<'a> Entry<'a> {
    /// A command as if the unit had started it.
    pub fn command(argv: Vec<String>) -> Self {
        let program = Program::Inside(argv);
        Self {
            program,
            env: Vec::new(),
            user: None,
            cwd: None,
            caps: Caps(u64::MAX),
            stdio: [None; 3],
            terminal: false,
        }
    }

    /// Berth's own program, with no rights at all.
    pub fn check(file: BorrowedFd<'a>, argv: Vec<String>) -> Self {
        let program = Program::Berth { file, argv };
        Self { program, user: Some(CHECKER.to_owned()), caps: Caps(0), ..Self::command(Vec::new()) }
    }

    /// Berth's own program, as the container's root with the unit's capabilities.
    pub fn own(file: BorrowedFd<'a>, argv: Vec<String>) -> Self {
        let program = Program::Berth { file, argv };
        Self { program, user: Some(ROOT.to_owned()), ..Self::command(Vec::new()) }
    }
}

/// An entering in progress. Dropping it stops nothing: that is the cgroup's to do.
#[derive(Debug)]
pub struct Entered {
    /// The usher's pidfd.
    pub usher: OwnedFd,
    /// The usher; reap it.
    pub usher_pid: i32,
    /// Poll for reading, then call [`Entered::receive`] until it says `None`.
    pub channel: OwnedFd,
    story: Story,
}

impl Entered {
    /// The next message, or `None` when there is none yet: [`Message::Created`] (without network namespace and socket)
    /// and [`Message::Running`], or [`Message::Failed`] at any time, after which nothing follows; stop polling.
    pub fn receive(&mut self) -> Result<Option<Message>, LaunchError> {
        self.story.receive(self.channel.as_fd())
    }

    /// The master of its terminal, non-blocking, once [`Message::Created`] has come. It fails with EIO when nobody is
    /// left at the other end.
    pub fn terminal(&mut self) -> Option<OwnedFd> {
        self.story.terminal.take()
    }
}

/// Starts a process in the container of `plan` whose first process, `main`, has exec'd ([`Message::Running`]). Never
/// blocks; see the module for what happens next.
///
/// `cgroup` is a fresh [`Cgroup::child`] of the unit's: [`Cgroup::kill`] of it ends this process with all that it
/// started, at a deadline for instance, and nothing else; after a failure too, to be sure. Usher and process are the
/// caller's to reap, and the container's first process does not end before the latter is reaped. As for
/// [`super::spawn`], the caller must be single-threaded.
pub fn enter(
    plan: &Plan,
    cgroup: &Cgroup,
    main: BorrowedFd<'_>,
    what: &Entry<'_>,
) -> Result<Entered, LaunchError> {
    let failed = |step| move |error: io::Error| LaunchError::Spawn { unit: plan.unit.clone(), step, error };
    let (near, far) = channel().map_err(failed("make a channel"))?;
    let (usher_pid, usher) = clone::clone(0, Some(cgroup.dir()), || {
        Usher { plan, main, what, channel: Channel(far.as_fd()) }.run()
    })
    .map_err(full)
    .map_err(failed("clone a process into its cgroup"))?;
    Ok(Entered { usher, usher_pid, channel: near, story: Story::of("enter the container") })
}

/// What to make of a process that is one too many.
fn full(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => io::Error::other("the unit has as many processes as resources.pids allows"),
        _ => error,
    }
}

struct Usher<'a> {
    plan: &'a Plan,
    main: BorrowedFd<'a>,
    what: &'a Entry<'a>,
    channel: Channel<'a>,
}

impl Usher<'_> {
    /// Its whole life; its exit code.
    fn run(self) -> i32 {
        match self.usher() {
            Ok(()) => 0,
            Err(fault) => {
                self.channel.failed(&fault);
                1
            }
        }
    }

    fn usher(&self) -> Step<()> {
        process::unreadable().at(|| "make itself unreadable")?;
        process::reset_signals();
        nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
        limits(self.plan.nofile)?;
        self.stdio()?;
        let keep = [self.channel.0, self.main].into_iter().chain(self.file()).map(|fd| fd.as_raw_fd());
        close_all_but(keep)?;

        setns(self.main, self.namespaces()).map_err(gone)?;
        // Not needed any more, and of the host.
        close_all_but([self.channel.0].into_iter().chain(self.file()).map(|fd| fd.as_raw_fd()))?;
        program::become_root(self.plan)?;
        program::new_keyring()?;
        if self.what.terminal {
            self.terminal()?;
        }
        let identity = program::who(self.what.user.as_ref().unwrap_or(&self.plan.user))?;
        own_stdio(identity.uid, identity.gid)?;
        let (argv, env, cwd) = self.command(&identity);
        let command = Command::new(argv, &env)?;
        let caps = Caps(self.plan.caps.0 & self.what.caps.0);
        // Whoever enters gains none: its filter comes last, when it has no right left to load one without.
        program::drop_privileges(&identity, caps, self.plan.caps_ambient, cwd, false)?;
        // The kernel has set that anew with the user, to `fs.suid_dumpable`.
        process::unreadable().at(|| "make itself unreadable")?;

        let (wait, told) = pipe2(OFlag::O_CLOEXEC).at(|| "make a pipe")?;
        let process = || match self.begin(&command, &wait, told.as_raw_fd()) {
            Ok(never) => match never {},
            Err(fault) => {
                self.channel.failed(&fault);
                NOT_STARTED
            }
        };
        let (pid, pidfd) = clone::clone(libc::CLONE_PARENT, None, process).map_err(ending)?;
        self.channel.created(pid, &[pidfd.as_raw_fd()]).at(|| "report to PID 1")?;
        write(&told, b"t").at(|| "wake the process").map(|_| ())
    }

    /// The process itself, already whom it is to be.
    fn begin(&self, command: &Command<'_>, wait: &OwnedFd, told: RawFd) -> Step<Infallible> {
        // PID 1 hears of it before it hears from it.
        process::close_range(told.unsigned_abs(), told.unsigned_abs(), false).at(|| "close a pipe")?;
        if read(wait, &mut [0]).at(|| "wait for its usher")? == 0 {
            return Err(Fault::new("enter the container", "its usher has ended"));
        }
        nix::unistd::setsid().at(|| "begin a session")?;
        let input = io::stdin();
        if isatty(&input).unwrap_or(false) {
            process::control_by(input.as_fd()).at(|| "take control of its terminal")?;
        }
        self.channel.execs().at(|| "report to PID 1")?;
        program::load_filter(self.plan)?;
        Err(match self.file() {
            Some(file) => command.exec_file(file),
            None => command.exec(),
        })
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.what.program {
            Program::Inside(_) => None,
            Program::Berth { file, .. } => Some(*file),
        }
    }

    /// As far as the unit has its own.
    fn namespaces(&self) -> CloneFlags {
        let mut flags = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP;
        flags.set(CloneFlags::CLONE_NEWPID, !self.plan.host_pids);
        flags.set(CloneFlags::CLONE_NEWUSER, self.plan.id_base.is_some());
        flags.set(CloneFlags::CLONE_NEWNET, self.plan.network != NetworkMode::Host);
        flags
    }

    /// Command line, environment, working folder.
    fn command(&self, identity: &Identity) -> (&[String], Vec<String>, &str) {
        let (argv, mut env, cwd) = match &self.what.program {
            Program::Inside(argv) => (argv, self.plan.env.clone(), self.plan.cwd.as_str()),
            Program::Berth { argv, .. } => (argv, Vec::new(), "/"),
        };
        for entry in &self.what.env {
            set_env(&mut env, entry.clone());
        }
        program::add_home(&mut env, identity);
        (argv, env, self.what.cwd.as_deref().unwrap_or(cwd))
    }

    /// Puts 0 to 2 in their places.
    fn stdio(&self) -> Step<()> {
        let failed = || "arrange descriptors";
        // The host's: the container may have put something else in the place of its own.
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).at(failed)?;
        // All out of the way first, so that no place is taken by one that is still needed.
        let given = self.what.stdio.iter().map(|given| given.unwrap_or(null.as_fd()).as_raw_fd());
        let high: Vec<OwnedFd> =
            given.map(|fd| process::dup_above(fd, 3)).collect::<Result<_, _>>().at(failed)?;
        for (fd, to) in high.iter().zip(0..) {
            let kind = kind(fd.as_fd()).at(failed)?;
            if ![SFlag::S_IFIFO, SFlag::S_IFSOCK, SFlag::S_IFCHR, SFlag::S_IFREG].contains(&kind) {
                return Err(Fault::new(failed(), format!("descriptor {to} is neither stream nor file")));
            }
            process::dup_to(fd.as_fd(), to).at(failed)?;
        }
        // Without a descriptor at 0 to 2 the null device itself may have got one of these numbers.
        std::mem::forget(null);
        // So that they belong to the container at all, and whoever it becomes there can have them.
        self.plan.id_base.map_or(Ok(()), |base| own_stdio(base, base))
    }

    /// Makes a terminal in the container, as its root, and puts it in the places of 0 to 2.
    fn terminal(&self) -> Step<()> {
        let failed = || "make a terminal";
        // Whatever else the container has put there is not taken for it, nor waited for.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let master = mount::open_plain(c"/dev/pts/ptmx", flags.bits(), 0).at(failed)?;
        if fstatfs(&master).at(failed)?.filesystem_type() != DEVPTS {
            return Err(Fault::new(failed(), "/dev/pts is no devpts"));
        }
        let terminal = process::terminal_peer(master.as_fd()).at(failed)?;
        for to in 0..3 {
            process::dup_to(terminal.as_fd(), to).at(failed)?;
        }
        self.channel.terminal(master.as_raw_fd()).at(|| "report to PID 1")
    }
}

fn kind(fd: BorrowedFd<'_>) -> nix::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode & SFlag::S_IFMT.bits()))
}

/// Gives pipes and terminals to the user, who may then open `/dev/stdout`.
fn own_stdio(uid: u32, gid: u32) -> Step<()> {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    for fd in [input.as_fd(), output.as_fd(), errors.as_fd()] {
        if kind(fd).is_ok_and(|kind| kind == SFlag::S_IFIFO) || isatty(fd).unwrap_or(false) {
            fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .at(|| "give it its input and output")?;
        }
    }
    Ok(())
}

/// `setns` of a process that is no more.
fn gone(error: nix::Error) -> Fault {
    let why = match error {
        nix::Error::ESRCH => "its first process has ended".to_owned(),
        _ => error.to_string(),
    };
    Fault::new("enter the container", why)
}

/// `clone` in its pid namespace.
fn ending(error: io::Error) -> Fault {
    let why = match error.raw_os_error() {
        // The kernel's answer in a pid namespace whose first process has ended.
        Some(libc::ENOMEM) => "its first process has ended, or memory is short".to_owned(),
        _ => full(error).to_string(),
    };
    Fault::new("clone a process in the container", why)
}
