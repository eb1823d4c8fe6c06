//! What every program needs that plays PID 1: a plan with all defaults, and the launcher's messages.

use berth_units::launch::{Caps, Message, Plan, Root, Starting};
use berth_units::limits::ID_BASE;
use berth_units::model::NetworkMode;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Ends a hang.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A unit with all defaults and no network, which is called so.
pub fn plain(unit: &str, root: Root, argv: Vec<String>) -> Plan {
    Plan {
        unit: unit.into(),
        root,
        read_only: false,
        argv,
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        user: String::new(),
        hostname: unit.into(),
        id_base: Some(ID_BASE),
        caps: Caps::DEFAULT,
        caps_ambient: false,
        nofile: None,
        tmpfs: Vec::new(),
        secrets: Vec::new(),
        files: Vec::new(),
        devices: Vec::new(),
        state: "/state".into(),
        new_privs: false,
        privileged: false,
        host_pids: false,
        binds: Vec::new(),
        network: NetworkMode::None,
        resolv_conf: "/run/resolv.conf".into(),
        scratch: "/run/scratch".into(),
        fds: Vec::new(),
    }
}

/// Waits until something of this can be done.
pub fn ready(fd: BorrowedFd<'_>, flags: PollFlags, end: Instant) {
    let left = end.checked_duration_since(Instant::now()).expect("the deadline has passed");
    let timeout = PollTimeout::try_from(left).unwrap();
    assert!(poll(&mut [PollFd::new(fd, flags)], timeout).unwrap() > 0, "nothing came within {DEADLINE:?}");
}

/// Waits for the launcher's next message.
pub fn next(starting: &mut Starting) -> Message {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(message) = starting.receive().unwrap() {
            return message;
        }
        ready(starting.channel.as_fd(), PollFlags::POLLIN, end);
    }
}

/// Waits for the first message.
pub fn created(starting: &mut Starting) -> (i32, OwnedFd) {
    match next(starting) {
        Message::Created { pid, pidfd, .. } => (pid, pidfd),
        other => panic!("{other:?}"),
    }
}
