//! What the build host must bring: three Debian packages, four for others than root. Everything else comes with the tools tree.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{self, Progress};

/// Lets others than root make a tree with several owners.
const NOT_ROOT: (&str, &str) = ("uidmap", "/usr/bin/newuidmap");
/// Package, and a file by which its presence is seen.
const NEEDED: [(&str, &str); 3] = [
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
    ("python3", "/usr/bin/python3"),
];

/// Says what is missing, and installs it when told to, or when this is root with nobody at a terminal.
pub fn ensure(install: bool, progress: Progress<'_>) -> Result<()> {
    let more = (!is_root()).then_some(&NOT_ROOT);
    let missing: Vec<&str> = NEEDED
        .iter()
        .chain(more)
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    let unattended = is_root() && !std::io::stdin().is_terminal();
    if !(install || unattended) {
        bail!("this host lacks {list}; run again with --install, or: apt-get install {list}");
    }
    progress(&format!("installing on this host: {list}"));
    let apt = || {
        let mut command = if is_root() { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root() {
            command.arg("apt-get");
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-y");
        command
    };
    run::run("refreshing the host's package lists", apt().arg("update"))?;
    run::run("installing", apt().args(["install", "--no-install-recommends"]).args(&missing))
        .with_context(|| format!("this host lacks {list}"))
}

/// Whether this process has uid 0. (The owner of our own entry in /proc is our effective uid.)
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
