//! The floor: the least that can serve a page with the same kernel. An initramfs with a static web server, the network
//! driver and a script of six lines; no verity, no disk, no container.

use crate::machine::Kernel;
use anyhow::{Context, Result};
use berth_image::cpio::Archive;
use berth_image::tools::Tools;
use berth_image::{Outputs, modules};
use std::path::Path;

/// What the network card needs.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_net"];

/// Builds kernel and initramfs of the floor below `folder`.
pub fn kernel(tools: &Tools, outputs: &Outputs, folder: &Path) -> Result<Kernel> {
    let mut archive = Archive::new();
    let mut script = String::from("#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs dev /dev\n");
    for dir in ["bin", "dev", "lib", "srv"] {
        archive.dir(dir, 0o755);
    }
    for (name, bytes) in modules::closure(tools, outputs, &MODULES)? {
        archive.file(&format!("lib/{name}"), 0o644, &bytes);
        script.push_str(&format!("/bin/busybox insmod /lib/{name}\n"));
    }
    script.push_str("/bin/busybox ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up\n");
    script.push_str("exec /bin/busybox httpd -f -p 8080 -h /srv\n");
    let busybox = tools.resolve("usr/bin/busybox");
    archive.file("bin/busybox", 0o755, &std::fs::read(&busybox).with_context(|| busybox.display().to_string())?);
    archive.file("srv/index.html", 0o644, b"floor\n");
    archive.file("init", 0o755, script.as_bytes());
    let initrd = folder.join("floor.cpio");
    std::fs::write(&initrd, archive.finish())?;
    Ok(Kernel { kernel: outputs.kernel.clone(), initrd, cmdline: "console=ttyS0 quiet panic=3".into() })
}
