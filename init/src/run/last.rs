//! The end: what is kept for the next boot, then the disks are left in order, then the machine goes down. Whatever
//! hangs in here runs in one child with a deadline; a stuck mount costs its clean state, never the reboot.

use super::console::HALTED;
use super::kernel::Halt;
use super::limits;
use crate::early::{State, Watchdog, clock, console, identity};
use berth_units::paths;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// What the child is doing, for whoever gives up waiting for it: memory that both see.
#[derive(Debug)]
pub struct Doing(Option<File>);

impl Doing {
    /// Nothing yet.
    pub fn nothing() -> Self {
        Self(memfd_create("last", MFdFlags::MFD_CLOEXEC).ok().map(File::from))
    }

    fn now(&self, what: &str) {
        if let Some(file) = &self.0 {
            let _ = file.set_len(0).and_then(|()| file.write_all_at(what.as_bytes(), 0));
        }
    }

    /// What it is; empty when it is not known.
    pub fn read(&self) -> String {
        let mut bytes = [0; 64];
        let count = self.0.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    /// Another handle to the same.
    pub fn share(&self) -> Self {
        Self(self.0.as_ref().and_then(|file| file.try_clone().ok()))
    }
}

/// In the child: clock and seed are kept, everything is written, the state is unmounted.
///
/// 1. Clock and random seed. 2. `sync`. 3. Unmount; if something still holds it, make it read-only.
pub fn last_steps(state: &State, doing: &Doing) -> Result<String, String> {
    let mut troubles = Vec::new();
    if matches!(state, State::Persistent { .. }) {
        doing.now("keeping clock and random seed");
        troubles.extend(clock::save().err());
        troubles.extend(identity::save_seed().err());
    }
    doing.now("writing everything to the disks");
    nix::unistd::sync();
    doing.now("unmounting the state");
    #[cfg(feature = "faults")]
    crate::early::faults::strike("shutdown", "unmount");
    if matches!(state, State::Persistent { .. })
        && let Err(error) = unmount_state()
    {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        troubles.push(match mount(None::<&str>, paths::STATE, None::<&str>, flags, None::<&str>) {
            Ok(()) => format!("{} not unmounted ({error}), but made read-only", paths::STATE),
            Err(again) => format!("{} not unmounted: {error}; nor made read-only: {again}", paths::STATE),
        });
    }
    if troubles.is_empty() { Ok(String::new()) } else { Err(troubles.join("; ")) }
}

/// Other children may still be writing (a machine can be switched off while it boots): they get a moment, and are killed
/// then. What they write is put in place as a whole or not at all.
fn unmount_state() -> nix::Result<()> {
    let mut end = Instant::now() + limits::STATE_BUSY;
    let mut killed = false;
    loop {
        let result = umount2(paths::STATE, MntFlags::empty());
        if result != Err(Errno::EBUSY) {
            return result;
        }
        if Instant::now() < end {
            std::thread::sleep(limits::STATE_BUSY / 100);
        } else if std::mem::replace(&mut killed, true) {
            return result;
        } else {
            // Everybody but PID 1 and this process.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            end = Instant::now() + limits::STATE_BUSY;
        }
    }
}

/// The machine goes down, by whatever way works. What cannot be powered off is halted.
pub fn down(halt: Halt, watchdog: Option<Watchdog>) -> ! {
    console::drain();
    if halt == Halt::Poweroff {
        // Comes back only when it cannot be done.
        let _ = reboot(RebootMode::RB_POWER_OFF);
    }
    if halt != Halt::Reboot {
        // It would start the machine again.
        if let Some(Err(error)) = watchdog.map(Watchdog::disarm) {
            console::say("stop", format_args!("watchdog not disarmed, it will reset the machine: {error}"));
        }
        console::say("stop", HALTED);
        console::drain();
        let _ = reboot(RebootMode::RB_HALT_SYSTEM);
    }
    crate::early::reboot_now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_done_is_seen_by_the_other() {
        let doing = Doing::nothing();
        assert_eq!(doing.read(), "");
        let child = doing.share();
        child.now("writing everything to the disks");
        child.now("unmounting");
        assert_eq!(doing.read(), "unmounting");
    }
}
