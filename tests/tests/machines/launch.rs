//! The launcher alone, on the machine's own kernel: a machine whose only program starts containers and looks at them
//! from inside and outside (`units/examples/launch_check.rs`). Each of its checks is told by name.

use anyhow::{Result, bail};
use berth_image::{Options, bundle, programs};
use berth_qemu::machine::{Bus, Firmware, Machine};
use berth_qemu::scratch::{self, Scratch};
use berth_qemu::{bare, disk};
use berth_tests::{BOOT, SOON, built};

/// What the containers need of the kernel, and what a state partition of ext4 needs.
const MODULES: [&str; 5] = ["virtio_blk", "crc32c_generic", "quota_v2", "ext4", "overlay"];

/// The checks by name; one that is missing in the output, or added to it, fails the test.
const CHECKS: [&str; 30] = [
    "isolation",
    "ids and layers",
    "network modes",
    "users",
    "read-only root and tmpfs",
    "system unit",
    "images with hostile links",
    "failures say what and where",
    "giving up",
    "signals and the cgroup's end",
    "limits",
    "descriptors",
    "secrets",
    "mounts and devices",
    "setuid programs",
    "privileged",
    "reading and writing a disk",
    "entering",
    "entering as somebody else",
    "entering that fails",
    "what is seen of those that enter",
    "the end of those that enter",
    "the starter's own program",
    "leaked descriptors",
    "masks",
    "links that are swapped",
    "helpers of the kernel",
    "exhaustion",
    "notifications",
    "time",
];

#[test]
fn every_check_of_the_launcher_holds_on_the_machines_kernel() -> Result<()> {
    scratch::remove_on(&scratch::ENDS)?;
    let folder = Scratch::new("test")?;
    let state = folder.path().join("state.ext4");
    disk::copy(&bundle::inputs(&Options::default(), &|_| {})?.state.raw, &state)?;
    let program = programs::launch_check(&|_| {})?;
    let kernel = bare::kernel(&built()?.outputs, folder.path(), &program, &MODULES)?;
    let machine = Machine::new(&built()?.tools, Firmware::Direct).kernel(kernel);
    let mut running = machine.disk(&state, Bus::Virtio).no_network().no_reboot().boot()?;

    running.wait_for("state on ext4", BOOT)?;
    for name in CHECKS {
        let line = running.wait_for(&format!("check {name} ... "), SOON)?;
        if !line.text.ends_with("ok") {
            bail!("the check {name:?} does not hold; the console:\n{}", running.console().tail());
        }
    }
    running.wait_for(&format!("checks: {} passed, 0 failed", CHECKS.len()), SOON)?;
    running.wait_off(SOON)?;
    Ok(())
}
