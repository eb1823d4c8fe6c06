//! Commands that operators run in units. Each belongs to a socket whose other end the API has: over it PID 1 says what becomes
//! of the command, and its end is the command's end, so nothing is left behind by an operator whose connection broke.

use super::limits;
use super::reactor::{Reactor, Source, Watch};
use super::text;
use super::visit::{Inside, Step, Visit, own_program, watched};
use berth_units::control::packet;
use berth_units::control::{ExecEvent, ExecRequest};
use berth_units::launch::Entry;
use berth_units::lifecycle::Exit;
use berth_units::model::Unit;
use berth_units::terminal;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Names of their cgroups are used again after so many: one that did not end in time is removed then.
const CGROUPS: u64 = 64;

#[derive(Debug)]
struct Exec {
    unit: String,
    visit: Visit,
    peer: OwnedFd,
    watch: Option<Watch>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Execs {
    execs: BTreeMap<u64, Exec>,
    last: u64,
}

impl Execs {
    /// Begins to run a command; never waits. What rides along with the reply, see [`berth_units::control::exec`].
    pub fn begin(
        &mut self,
        reactor: &mut Reactor,
        inside: &Inside<'_>,
        request: &ExecRequest,
    ) -> Result<Vec<OwnedFd>, String> {
        if self.execs.len() >= limits::EXECS {
            return Err(format!("{} commands run in units already", self.execs.len()));
        }
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let program;
        let mut entry = match &request.copy {
            Some(copy) => {
                program = own_program()?;
                Entry::own(program.as_fd(), copy.words())
            }
            None => Entry::command(request.command.clone()),
        };
        if request.copy.is_none() {
            entry.env.clone_from(&request.env);
            entry.user.clone_from(&request.user);
            entry.cwd.clone_from(&request.workdir);
            entry.terminal = request.terminal;
        }
        let (mut theirs, mut given) = (Vec::new(), Vec::new());
        if !entry.terminal {
            for number in 0..3 {
                let (read, write) = io::pipe().map_err(failed("pipe"))?;
                let (read, write) = (OwnedFd::from(read), OwnedFd::from(write));
                let (inside, outside) = if number == 0 { (read, write) } else { (write, read) };
                theirs.push(inside);
                given.push(outside);
            }
        }
        for (place, fd) in entry.stdio.iter_mut().zip(&theirs) {
            *place = Some(fd.as_fd());
        }
        let (peer, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|error| failed("socket")(error.into()))?;
        terminal::non_blocking(peer.as_fd()).map_err(failed("socket"))?;
        self.last += 1;
        let id = self.last;
        let visit =
            Visit::begin(reactor, inside, &format!("exec-{}", id % CGROUPS), &entry, Source::Exec(id))?;
        let unit = inside.plan.unit.clone();
        let watch = watched(&unit, reactor.watch(&peer, Source::ExecPeer(id)));
        self.execs.insert(id, Exec { unit, visit, peer, watch });
        given.insert(0, far);
        Ok(given)
    }

    /// The start's channel is readable.
    pub fn start_ready(&mut self, reactor: &mut Reactor, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else { return };
        match exec.visit.step(reactor) {
            Step::None => {}
            Step::Runs => {
                let terminal = exec.visit.terminal.take();
                exec.tell(&ExecEvent::Running, terminal.as_ref());
            }
            Step::Failed(reason) => {
                exec.tell(&ExecEvent::Failed { reason: text::bounded(&reason, limits::TEXT_BYTES) }, None);
                self.end(reactor, id);
            }
        }
    }

    /// The other end of its socket says something, which it never does, or is gone.
    pub fn peer_ready(&mut self, reactor: &mut Reactor, id: u64) {
        let Some(exec) = self.execs.get(&id) else { return };
        let got = recv(exec.peer.as_raw_fd(), &mut [0; 16], MsgFlags::MSG_DONTWAIT);
        if !matches!(got, Err(Errno::EAGAIN | Errno::EINTR)) {
            self.end(reactor, id);
        }
    }

    /// A child of PID 1 has ended. False if it is none of these.
    pub fn reaped(&mut self, reactor: &mut Reactor, pid: i32, exit: Exit) -> bool {
        // The process may be known by its usher's word only, which has not been read yet.
        let starting: Vec<u64> =
            self.execs.iter().filter(|(_, exec)| exec.visit.starts()).map(|(id, _)| *id).collect();
        for id in starting {
            self.start_ready(reactor, id);
        }
        if self.execs.values_mut().any(|exec| exec.visit.buries_usher(pid)) {
            return true;
        }
        let found = self.execs.iter().find(|(_, exec)| exec.visit.process() == Some(pid));
        let Some((id, exec)) = found.map(|(id, exec)| (*id, exec)) else { return false };
        let code = match exit {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        };
        exec.tell(&ExecEvent::Exited { code }, None);
        self.end(reactor, id);
        true
    }

    /// The unit's run is over.
    pub fn forget(&mut self, reactor: &mut Reactor, unit: &str) {
        let of: Vec<u64> =
            self.execs.iter().filter(|(_, exec)| exec.unit == unit).map(|(id, _)| *id).collect();
        for id in of {
            self.end(reactor, id);
        }
    }

    fn end(&mut self, reactor: &mut Reactor, id: u64) {
        let Some(exec) = self.execs.remove(&id) else { return };
        if let Some(watch) = exec.watch {
            reactor.forget(&exec.peer, watch);
        }
        exec.visit.end(reactor);
    }
}

impl Exec {
    /// Three small packets at most: if the other end has no room for them, it is not there to read them.
    fn tell(&self, event: &ExecEvent, terminal: Option<&OwnedFd>) {
        let fds: Vec<_> = terminal.iter().map(|fd| fd.as_fd()).collect();
        let _ = packet::send(self.peer.as_fd(), event, &fds);
    }
}

/// Why nothing is copied out of a unit that does not run, or into it: its root is mounted in its own container only. What
/// outlives that is in its volumes, and those another unit can have.
pub fn no_files(unit: &Unit, why: &str) -> String {
    let mut volumes: Vec<&str> = unit.container.volumes.iter().map(|volume| volume.name.as_str()).collect();
    volumes.sort_unstable();
    volumes.dedup();
    let start = format!("{why}, and only units that run have files to copy; \"berth start {}\"", unit.name);
    match volumes.first() {
        None => format!("{start} (it has no volumes)"),
        Some(first) => format!(
            "{start}, or have another unit hold its volumes ({}): \"berth run -d -v {first}:/{first} IMAGE\"",
            volumes.join(", ")
        ),
    }
}
