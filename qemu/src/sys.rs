//! The crate's only `unsafe`: what must happen between fork and exec of QEMU.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the child die with the thread that starts it, so that a killed harness leaves no guest behind.
pub(crate) fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure runs in the forked child before exec and only calls prctl(2), which is async-signal-safe
    // and takes no pointer here.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
}
