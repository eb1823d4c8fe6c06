//! The container that `cargo run` shows: a web server as an OCI archive of two layers, made from Debian's static
//! busybox. Attached to the machine as a disk; the OS image itself carries no shell.

use anyhow::{Context, Result};
use berth_image::tools::Tools;
use berth_store::build::{ImageBuilder, LayerBuilder};
use std::path::Path;

/// The reference under which units find the image.
pub const WEB_IMAGE: &str = "berth.example/web:1";

/// The page's heading; tests look for it.
pub const HEADING: &str = "Hello from a container on Berth";

const PAGE: &str = include_str!("demo.html");

/// Writes the archive; the same bytes for the same busybox. A machine that reads an older one keeps that.
pub fn write_web_image(tools: &Tools, to: &Path) -> Result<()> {
    let beside = to.with_extension("new");
    std::fs::write(&beside, web_image(tools)?.archive()?)
        .and_then(|()| std::fs::rename(&beside, to))
        .with_context(|| format!("{} cannot be written", to.display()))
}

/// The image.
pub fn web_image(tools: &Tools) -> Result<ImageBuilder> {
    let busybox = tools.resolve("usr/bin/busybox");
    let program = std::fs::read(&busybox).with_context(|| format!("{} cannot be read", busybox.display()))?;
    let base = LayerBuilder::new()
        .dir("bin", 0o755)
        .file("bin/busybox", 0o755, program)
        .symlink("bin/sh", "busybox")
        .symlink("bin/httpd", "busybox")
        .dir("etc", 0o755)
        .file("etc/passwd", 0o644, "root:x:0:0:root:/:/bin/sh\nwww:x:33:33:www:/srv:/bin/false\n")
        .file("etc/group", 0o644, "root:x:0:\nwww:x:33:\n")
        .dir("tmp", 0o1777)
        .dir("srv", 0o755)
        .file("srv/draft.html", 0o644, "not yet\n")
        .owner(33, 33)
        .dir("home", 0o750);
    // The second layer takes the draft away.
    let content = LayerBuilder::new().dir("srv", 0o755).file("srv/.wh.draft.html", 0o644, "").file(
        "srv/index.html",
        0o644,
        PAGE.replace("{HEADING}", HEADING),
    );
    let image = ImageBuilder::new(WEB_IMAGE)
        .layer(&base)?
        .layer(&content)?
        .env("PATH", "/bin")
        .user("www")
        .workdir("/srv")
        .entrypoint(["/bin/httpd", "-f", "-v"])
        .cmd(["-p", "8080", "-h", "/srv"]);
    Ok(image)
}

/// The machine config of `cargo run`: the operator's key and one unit.
pub fn config(operator_key: &str) -> String {
    config_with(operator_key, "mode = \"bridge\"\nports = [\"8080:8080\"]")
}

/// The same with another `[network]` table.
pub fn config_with(operator_key: &str, network: &str) -> String {
    format!(
        r#"format = 1
hostname = "berth"

[access]
keys = ["{operator_key}"]

[units.web.unit]
description = "A web server, to look at"

[units.web.container]
image = "{WEB_IMAGE}"
read_only = true

[units.web.network]
{network}

[units.web.resources]
memory = "32M"
pids = 32
"#
    )
}
