//! A system unit that a boot step runs to its end, before there is an event loop: the same description and the same
//! launcher, with the step waiting and the watchdog fed.

use super::limits;
use super::wishes::Wishes;
use crate::sys::waiting;
use berth_units::cgroup::Cgroup;
use berth_units::launch::{self, Message, Place, Plan, Starting};
use berth_units::model::Unit;
use berth_units::paths;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How its program ended, and what it said first.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Its first lines, of both outputs.
    pub said: Vec<String>,
}

/// Runs the unit with these descriptors, from 3 upwards. At the limit everything in it is killed; so it is when
/// somebody asks for a reboot or a power-off meanwhile, which then happens.
pub fn run(
    unit: &Unit,
    fds: Vec<(String, OwnedFd)>,
    limit: Duration,
    say: impl Fn(&str),
) -> Result<Ended, String> {
    let mut plan = Plan::new(unit, None, 0, &Place::default()).map_err(|error| error.to_string())?;
    plan.fds = fds;
    let path = Path::new(paths::CGROUP_SYSTEM).join(&unit.name);
    let cgroup = Cgroup::create(&path, &unit.resources)
        .map_err(|error| format!("cgroup {}: {error}", path.display()))?;
    let mut container = match launch::spawn(&plan, &cgroup) {
        Ok(starting) => Container::new(starting),
        Err(error) => {
            let _ = cgroup.remove();
            return Err(error.to_string());
        }
    };
    let end = Instant::now() + limit;
    let mut wishes = Wishes::new();
    let result = loop {
        let due = waiting::meanwhile();
        match container.turn(&say) {
            Ok(None) => {}
            Ok(Some(status)) => break Ok(status),
            Err(reason) => break Err(reason),
        }
        if let Some(wish) = wishes.asked() {
            let _ = cgroup.kill();
            container.reap();
            wish.grant(&unit.name);
        }
        #[cfg(feature = "faults")]
        super::faults::freeze(&unit.name, &path, container.runs);
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Err(format!("not done within {:.0} s", limit.as_secs_f64()));
        }
        container.sleep(left.min(limits::WISHES).min(due));
    };
    if result.is_err() {
        let _ = cgroup.kill();
    }
    container.reap();
    let _ = cgroup.remove();
    let said = container.said();
    result.map(|status| Ended { status, said })
}

struct Container {
    starting: Starting,
    main: Option<(Pid, OwnedFd)>,
    runs: bool,
    output: [Lines; 2],
}

impl Container {
    fn new(starting: Starting) -> Container {
        let lines = |fd: &OwnedFd| Lines { pipe: fd.try_clone().map(File::from).ok(), ..Lines::default() };
        let output = [lines(&starting.stderr), lines(&starting.stdout)];
        Container { starting, main: None, runs: false, output }
    }

    /// Takes whatever has happened; the exit status once there is one. Never waits.
    fn turn(&mut self, say: &impl Fn(&str)) -> Result<Option<Option<i32>>, String> {
        while !self.runs {
            match self.starting.receive().map_err(|error| error.to_string())? {
                None => break,
                Some(Message::Created { pid, pidfd, .. }) => {
                    self.main = Some((Pid::from_raw(pid), pidfd));
                    self.starting.go().map_err(|error| error.to_string())?;
                }
                Some(Message::Running) => self.runs = true,
                Some(Message::Failed { step, error }) => return Err(format!("{step}: {error}")),
            }
        }
        // Asked before the pipes are read: what it said before its end is then all there.
        let ended = match &self.main {
            Some((pid, _)) if self.runs => match waitpid(*pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, status)) => Some(Some(status)),
                Ok(WaitStatus::Signaled(..)) => Some(None),
                Ok(_) | Err(Errno::EINTR) => None,
                Err(error) => return Err(format!("not waited for: {error}")),
            },
            _ => None,
        };
        if ended.is_some() {
            self.main = None;
        }
        for lines in &mut self.output {
            lines.read(say);
        }
        Ok(ended)
    }

    /// Until something happens, at most that long.
    fn sleep(&self, limit: Duration) {
        let channel = (!self.runs).then(|| self.starting.channel.as_fd());
        let main = self.main.as_ref().map(|(_, pidfd)| pidfd.as_fd());
        let pipes = self.output.iter().filter_map(|lines| lines.pipe.as_ref().map(AsFd::as_fd));
        let mut waits: Vec<PollFd<'_>> = channel
            .into_iter()
            .chain(main)
            .chain(pipes)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let _ = poll(&mut waits, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
    }

    /// Takes both processes off the kernel's list, unless one is stuck in the kernel: then the event loop will.
    fn reap(&self) {
        let setup = (Pid::from_raw(self.starting.setup_pid), self.starting.setup.as_fd());
        let main = self.main.as_ref().map(|(pid, pidfd)| (*pid, pidfd.as_fd()));
        for (pid, pidfd) in [setup].into_iter().chain(main) {
            let mut wait = [PollFd::new(pidfd, PollFlags::POLLIN)];
            let _ = poll(&mut wait, PollTimeout::from(limits::KILLED_MS));
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }

    fn said(self) -> Vec<String> {
        self.output.into_iter().flat_map(|lines| lines.first).collect()
    }
}

/// One output, cut into lines; the first ones are kept and told, the others only read.
#[derive(Debug, Default)]
struct Lines {
    pipe: Option<File>,
    partial: Vec<u8>,
    first: Vec<String>,
}

impl Lines {
    fn read(&mut self, say: &impl Fn(&str)) {
        let mut part = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut part) {
                Ok(0) => {
                    self.pipe = None;
                    self.take(b"\n", say);
                }
                Ok(count) => self.take(&part[..count], say),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, bytes: &[u8], say: &impl Fn(&str)) {
        for &byte in bytes {
            if byte != b'\n' {
                if self.partial.len() < limits::REPAIR_LINE_BYTES {
                    self.partial.push(byte);
                }
                continue;
            }
            let text = String::from_utf8_lossy(&self.partial).replace(char::is_control, " ");
            let text = text.trim();
            if !text.is_empty() && self.first.len() < limits::REPAIR_LINES {
                say(text);
                self.first.push(text.to_owned());
            }
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_into_lines_and_bounded() {
        let mut lines = Lines::default();
        lines.take(b"one\n\n  two\x1b[1m\nthr", &|_| {});
        lines.take(b"ee\n", &|_| {});
        assert_eq!(lines.first, ["one", "two [1m", "three"]);
        lines.take(&[b'x'; 100_000], &|_| {});
        lines.take(&b"\n".repeat(10), &|_| {});
        assert_eq!(lines.first[3].len(), limits::REPAIR_LINE_BYTES);
        lines.take(&b"more\n".repeat(1000), &|_| {});
        assert_eq!(lines.first.len(), limits::REPAIR_LINES);
    }
}
