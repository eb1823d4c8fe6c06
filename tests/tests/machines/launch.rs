//! The launcher alone, on the machine's own kernel: a machine whose only program starts containers and looks at them
//! from inside and outside (`units/examples/launch_check.rs`). Each of its checks is told by name.

use anyhow::{Context, Result, bail};
use berth_image::tree::{Content, Origin, Tree};
use berth_image::{Options, bundle, programs};
use berth_qemu::disk;
use berth_qemu::machine::{Bus, Firmware, Kernel, Machine};
use berth_qemu::scratch::{self, Scratch};
use berth_tests::{BOOT, SOON, built};
use std::path::Path;

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

/// The image's kernel with an initrd that holds the checks as `/init`, and modules, named in the order of loading.
fn kernel(folder: &Path) -> Result<Kernel> {
    let quiet = |_: &str| {};
    let modules = bundle::inputs(&Options::default(), &quiet)?.modules;
    let origin = Origin::berth("test");
    let mut tree = Tree::new();
    tree.file("init", 0o755, Content::Path(programs::launch_check(&quiet)?), origin.clone());
    let mut files = Vec::new();
    for file in MODULES.iter().map(|name| modules.closure(name)).collect::<Result<Vec<_>>>()?.concat() {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    for (n, file) in files.into_iter().enumerate() {
        let name = file.file_name().and_then(|n| n.to_str()).context("a module's name is not text")?;
        tree.file(&format!("modules/{n:02}-{name}"), 0o644, Content::Path(file.clone()), origin.clone());
    }
    let mut archive = Vec::new();
    tree.cpio(0, &mut archive)?;
    let initrd = folder.join("checks.cpio");
    std::fs::write(&initrd, archive)?;
    let cmdline = "console=ttyS0 quiet loglevel=4 panic=3".into();
    Ok(Kernel { kernel: built()?.outputs.kernel.clone(), initrd, cmdline })
}

#[test]
fn every_check_of_the_launcher_holds_on_the_machines_kernel() -> Result<()> {
    scratch::remove_on(&scratch::ENDS)?;
    let folder = Scratch::new("test")?;
    let state = folder.path().join("state.ext4");
    disk::copy(&bundle::inputs(&Options::default(), &|_| {})?.state.raw, &state)?;
    let machine = Machine::new(&built()?.tools, Firmware::Direct).kernel(kernel(folder.path())?);
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
