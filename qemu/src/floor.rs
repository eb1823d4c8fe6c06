//! The floor: the least that can serve a page with the same kernel. An initramfs with a static web server, the network
//! driver and a script of a few lines; no verity, no disk, no container.

use crate::bare;
use crate::machine::Kernel;
use anyhow::{Context, Result};
use berth_image::tools::Tools;
use berth_image::tree::{Content, Origin, Tree};
use berth_image::{Options, Outputs, bundle};
use std::path::Path;

/// The network card's driver.
const DRIVER: &str = "virtio_net";

/// Builds kernel and initramfs of the floor below `folder`.
pub fn kernel(tools: &Tools, outputs: &Outputs, folder: &Path) -> Result<Kernel> {
    let modules = bundle::inputs(&Options::default(), &|_| {})?.modules;
    let origin = Origin::berth("floor");
    let mut tree = Tree::new();
    let mut script = String::from("#!/bin/busybox sh\n");
    for dir in ["bin", "dev", "lib", "srv"] {
        tree.dir(dir);
    }
    for path in modules.closure(DRIVER)? {
        let name =
            path.file_name().and_then(|n| n.to_str()).context("a module's name is not text")?.to_owned();
        tree.file(&format!("lib/{name}"), 0o644, Content::Path(path), origin.clone());
        script.push_str(&format!("/bin/busybox insmod /lib/{name}\n"));
    }
    script.push_str("/bin/busybox ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up\n");
    script.push_str("exec /bin/busybox httpd -f -p 8080 -h /srv\n");
    tree.file("bin/busybox", 0o755, Content::Path(tools.resolve("usr/bin/busybox")), origin.clone());
    tree.file("srv/index.html", 0o644, Content::Bytes(b"floor\n".to_vec()), origin.clone());
    tree.file("init", 0o755, Content::Bytes(script.into_bytes()), origin);
    bare::with(outputs, &tree, folder.join("floor.cpio"))
}
