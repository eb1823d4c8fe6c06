//! The end: what is kept for the next boot, then the disks are left in order, then the machine goes down. Whatever
//! hangs in here runs in one child with a deadline; a stuck mount costs its clean state, never the reboot.

use super::kernel::Halt;
use crate::early::{State, clock, identity};
use berth_units::paths;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};

/// In the child: clock and seed are kept, everything is written, the state is unmounted.
///
/// 1. Clock and random seed. 2. `sync`. 3. Unmount; if something still holds it, make it read-only.
pub fn last_steps(state: &State) -> Result<String, String> {
    let mut troubles = Vec::new();
    if matches!(state, State::Persistent { .. }) {
        troubles.extend(clock::save().err());
        troubles.extend(identity::save_seed().err());
    }
    nix::unistd::sync();
    if matches!(state, State::Persistent { .. })
        && let Err(error) = umount2(paths::STATE, MntFlags::empty())
    {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        troubles.push(match mount(None::<&str>, paths::STATE, None::<&str>, flags, None::<&str>) {
            Ok(()) => format!("{} not unmounted ({error}), but made read-only", paths::STATE),
            Err(again) => format!("{} not unmounted: {error}; nor made read-only: {again}", paths::STATE),
        });
    }
    if troubles.is_empty() { Ok(String::new()) } else { Err(troubles.join("; ")) }
}

/// The machine goes down, by whatever way works.
pub fn down(halt: Halt) -> ! {
    if halt == Halt::Poweroff {
        // Comes back only when it cannot be done.
        let _ = reboot(RebootMode::RB_POWER_OFF);
        let _ = reboot(RebootMode::RB_HALT_SYSTEM);
    }
    crate::early::reboot_now()
}
