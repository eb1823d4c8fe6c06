//! Plays PID 1: starts plans, passes messages, reads output, reaps.

pub use super::start::{DEADLINE, created, ready};
use super::start::{next, plain};
use berth_units::cgroup::Cgroup;
use berth_units::launch::{self, Bind, Message, Plan, Root, Starting};
use berth_units::model::{NetworkMode, Resources};
use nix::libc;
use nix::poll::PollFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// `memory.max` of the checks' containers.
pub const MEMORY: u64 = 64 << 20;

/// How a process ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

/// Everything the checks share.
pub struct Bench {
    dir: tempfile::TempDir,
    parent: PathBuf,
    /// The cgroup has controllers.
    pub limited: bool,
}

impl Bench {
    pub fn new(parent: &Path, limited: bool) -> Self {
        fs::create_dir_all(parent).unwrap();
        if limited {
            berth_units::cgroup::delegate(parent.parent().unwrap()).unwrap();
            berth_units::cgroup::delegate(parent).unwrap();
        }
        let dir = tempfile::Builder::new().prefix("launch").tempdir().unwrap();
        let bench = Self { dir, parent: parent.to_owned(), limited };
        bench.layers();
        bench
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn unit_dir(&self) -> PathBuf {
        self.dir().join("units/check")
    }

    pub fn layer(&self, n: usize) -> PathBuf {
        self.dir().join(format!("layers/{n}"))
    }

    /// Two layers: programs and accounts below, changes of them above.
    fn layers(&self) {
        let (low, high) = (self.layer(0), self.layer(1));
        for folder in ["bin", "etc", "home/alice", "opaque", "root"] {
            fs::create_dir_all(low.join(folder)).unwrap();
        }
        program(&low);
        for (path, text) in [
            ("bottom", "bottom"),
            ("both", "bottom"),
            ("alice", "hers"),
            ("removed", "x"),
            ("opaque/old", "x"),
            ("etc/passwd", "root:x:0:0::/root:\nalice:x:1000:1000::/home/alice:\n"),
            ("etc/group", "root:x:0:\nextra:x:50:alice\n"),
            ("bin/rubbish", "rubbish"),
            ("bin/script", "#!/no/such/interpreter\n"),
        ] {
            fs::write(low.join(path), text).unwrap();
        }
        for path in ["bin/rubbish", "bin/script"] {
            fs::set_permissions(low.join(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for path in ["alice", "home/alice"] {
            chown(low.join(path), Some(1000), Some(1000)).unwrap();
        }
        // The upper layer of a container that made the changes: whiteout, opaque folder and all.
        let mut plan = self.plan(&["make-top"]);
        if let Root::Image { layers, .. } = &mut plan.root {
            layers.truncate(1);
        }
        let made = self.run(&plan);
        assert_eq!(made.ended, Ended::Code(0), "{}", made.errors);
        fs::rename(self.unit_dir().join("upper"), high).unwrap();
    }

    pub fn extra_layer(&self, name: &str) -> PathBuf {
        let dir = self.dir().join("layers").join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub fn add_layer(&self, plan: &mut Plan, name: &str) {
        if let Root::Image { layers, digest, .. } = &mut plan.root {
            layers.push(self.dir().join("layers").join(name));
            digest.push_str(name);
        }
    }

    /// The image above, all defaults, `probe` with these arguments.
    pub fn plan(&self, args: &[&str]) -> Plan {
        let argv = ["probe", "probe"].into_iter().chain(args.iter().copied()).map(str::to_owned).collect();
        let root = Root::Image {
            layers: vec![self.layer(0), self.layer(1)],
            writable: Some(self.unit_dir()),
            digest: "sha256:check".into(),
        };
        Plan {
            env: vec!["PATH=/usr/local/sbin:/bin".into(), "HOSTNAME=check".into()],
            network: NetworkMode::Bridge,
            resolv_conf: self.dir().join("run/resolv.conf"),
            scratch: self.dir().join("scratch"),
            ..plain("check", root, argv)
        }
    }

    /// A worker on a root like the verified one.
    pub fn system_plan(&self, args: &[&str]) -> Plan {
        let root = self.dir().join("system");
        if !root.exists() {
            for folder in ["bin", "dev", "proc", "sys", "run", "tmp", "etc", "var/lib/berth", "mnt"] {
                fs::create_dir_all(root.join(folder)).unwrap();
            }
            program(&root);
        }
        let bind = |source: PathBuf, target: &str, create| Bind {
            writable: true,
            create,
            ..Bind::of(source, target)
        };
        let mut plan = self.plan(args);
        plan.root = Root::System(root);
        plan.read_only = true;
        plan.binds = vec![
            bind(self.unit_dir().join("data"), "/var/lib/check", true),
            bind("/proc/sys/net".into(), "/proc/sys/net", false),
            bind(self.dir().join("control.sock"), "/run/berth/control.sock", false),
        ];
        plan
    }

    pub fn cgroup(&self) -> Cgroup {
        let path = self.parent.join("check");
        if self.limited {
            Cgroup::create(
                &path,
                &Resources { memory: Some(MEMORY), cpus_milli: Some(500), pids: 32, ..Resources::default() },
            )
            .unwrap()
        } else {
            Cgroup::open(&path).unwrap()
        }
    }

    /// Another one, of a container beside.
    pub fn beside(&self) -> Cgroup {
        Cgroup::open(&self.parent.join("beside")).unwrap()
    }

    pub fn unlimited(&self) -> Cgroup {
        Cgroup::open(&self.parent.join("check")).unwrap()
    }

    /// Starts it and waits for exec.
    pub fn start(&self, plan: &Plan) -> Running {
        match self.start_in(plan, self.cgroup()) {
            Ok(running) => running,
            Err(reason) => panic!("{:?} did not start: {reason}", plan.argv),
        }
    }

    pub fn start_in(&self, plan: &Plan, cgroup: Cgroup) -> Result<Running, String> {
        let mut starting = launch::spawn(plan, &cgroup).map_err(|e| e.to_string())?;
        let mut found = None;
        loop {
            match next(&mut starting) {
                Message::Created { pid, pidfd, netns, .. } => {
                    found = Some((pid, pidfd, netns.is_some()));
                    starting.go().map_err(|e| e.to_string())?;
                }
                Message::Running => break,
                Message::Failed { step, error } => {
                    assert_ne!(wait(starting.setup_pid), Ended::Signal(libc::SIGSEGV));
                    if let Some((pid, ..)) = found {
                        wait(pid);
                    }
                    assert!(!cgroup.populated().unwrap());
                    cgroup.remove().unwrap();
                    return Err(format!("{step}: {error}"));
                }
            }
        }
        assert_eq!(wait(starting.setup_pid), Ended::Code(0));
        let (pid, pidfd, had_netns) = found.expect("Created comes before Running");
        Ok(Running { pid, pidfd, had_netns, starting, cgroup, output: String::new() })
    }

    pub fn run(&self, plan: &Plan) -> Finished {
        self.start(plan).end()
    }

    pub fn probe(&self, args: &[&str]) -> Finished {
        self.run(&self.plan(args))
    }

    /// Why it does not start.
    pub fn fails(&self, plan: &Plan) -> String {
        match self.start_in(plan, self.cgroup()) {
            Ok(mut running) => {
                running.signal(libc::SIGKILL);
                let output = running.end().output;
                panic!("{:?} started: {output}", plan.argv)
            }
            Err(reason) => reason,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.parent.join("check"));
        let _ = fs::remove_dir(&self.parent);
    }
}

/// This program, with its libraries if it has any, as `/bin/probe`.
fn program(root: &Path) {
    fs::copy("/proc/self/exe", root.join("bin/probe")).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines().filter(|l| l.contains(".so")) {
        let library = Path::new(line.split_whitespace().last().unwrap());
        let copy = root.join(library.strip_prefix("/").unwrap());
        if !copy.exists() {
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(library, &copy).unwrap();
        }
        if library.file_name().unwrap().to_str().unwrap().starts_with("ld-linux") {
            fs::create_dir_all(root.join("lib64")).unwrap();
            let _ = symlink(library, root.join("lib64/ld-linux-x86-64.so.2"));
        }
    }
}

/// A container that has been exec'd.
pub struct Running {
    pub pid: i32,
    pub pidfd: OwnedFd,
    had_netns: bool,
    starting: Starting,
    pub cgroup: Cgroup,
    output: String,
}

impl Running {
    pub fn signal(&mut self, number: i32) {
        launch::signal(self.pidfd.as_fd(), number).unwrap();
    }

    pub fn wait_output(&mut self, text: &str) {
        while !self.output.contains(text) {
            assert!(self.read_some(), "ended without {text:?}: {}", self.output);
        }
    }

    pub fn wait_empty(&mut self) {
        let end = Instant::now() + DEADLINE;
        while self.cgroup.populated().unwrap() {
            ready(self.cgroup.events(), PollFlags::POLLPRI, end);
        }
    }

    fn read_some(&mut self) -> bool {
        ready(self.starting.stdout.as_fd(), PollFlags::POLLIN, Instant::now() + DEADLINE);
        let mut buffer = [0; 4096];
        let got = nix::unistd::read(&self.starting.stdout, &mut buffer).unwrap();
        self.output.push_str(&String::from_utf8_lossy(&buffer[..got]));
        got > 0
    }

    /// Waits for its end and reads what it said.
    pub fn end(mut self) -> Finished {
        while self.read_some() {}
        let ended = wait(self.pid);
        let mut words = Vec::new();
        let mut stderr = fs::File::from(self.starting.stderr.try_clone().unwrap());
        let _ = stderr.read_to_end(&mut words);
        let errors = String::from_utf8_lossy(&words).into_owned();
        self.wait_empty();
        self.cgroup.remove().unwrap();
        Finished { ended, output: self.output, errors, had_netns: self.had_netns }
    }
}

/// A container that has ended.
pub struct Finished {
    pub ended: Ended,
    pub output: String,
    pub errors: String,
    pub had_netns: bool,
}

impl Finished {
    /// The value in a line `key = value` of its output.
    pub fn fact(&self, key: &str) -> &str {
        self.output
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
            .unwrap_or_else(|| panic!("no {key:?} in\n{}{} ({:?})", self.output, self.errors, self.ended))
    }
}

pub fn wait(pid: i32) -> Ended {
    match waitpid(Pid::from_raw(pid), None).unwrap() {
        WaitStatus::Exited(_, code) => Ended::Code(code),
        WaitStatus::Signaled(_, signal, _) => Ended::Signal(signal as i32),
        other => panic!("{other:?}"),
    }
}
