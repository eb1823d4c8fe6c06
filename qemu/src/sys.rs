//! The crate's only `unsafe`: what must happen between fork and exec of QEMU.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the child die with the thread that starts it, so that a killed harness leaves no guest behind.
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: the closure runs in the forked child before exec and only calls prctl(2) and getppid(2), which are
    // async-signal-safe and take no pointer here; making an error from an error number does not allocate.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // Or the parent had died before.
            if libc::getppid().cast_unsigned() != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}
