//! What the build host must bring: three Debian packages, four for others than root. Everything else comes with the tools tree.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{self, Progress};

/// Lets others than root make a tree with several owners.
const NOT_ROOT: (&str, &str) = ("uidmap", "newuidmap");
/// Package, and what it is seen by: a program, or a file.
const NEEDED: [(&str, &str); 3] = [
    ("mmdebstrap", "mmdebstrap"),
    ("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
    ("python3", "python3"),
];

/// Says what is missing, and installs it when told to, or when this is root with nobody at a terminal.
pub fn ensure(install: bool, progress: Progress<'_>) -> Result<()> {
    let more = (!is_root()).then_some(&NOT_ROOT);
    let needed: Vec<_> = NEEDED.iter().chain(more).copied().collect();
    bring(&needed, install, progress)
}

/// The same for one program that only some tests use.
pub fn need(package: &'static str, program: &str, progress: Progress<'_>) -> Result<()> {
    bring(&[(package, program)], false, progress)
}

fn bring(needed: &[(&'static str, &str)], install: bool, progress: Progress<'_>) -> Result<()> {
    let missing = missing(needed, &std::env::var_os("PATH").unwrap_or_default());
    let unattended = is_root() && !attended();
    if missing.is_empty() {
        return Ok(());
    }
    if !(install || unattended) {
        return Err(lacks(&missing));
    }
    self::install(&missing, progress)
}

/// The packages whose mark is not there.
fn missing(needed: &[(&'static str, &str)], path: &OsStr) -> Vec<&'static str> {
    let there = |mark: &str| match mark.starts_with('/') {
        true => Path::new(mark).exists(),
        false => std::env::split_paths(path).any(|folder| folder.join(mark).is_file()),
    };
    needed.iter().filter(|(_, mark)| !there(mark)).map(|(package, _)| *package).collect()
}

/// Whether somebody may be there to decide.
fn attended() -> bool {
    std::io::stdin().is_terminal() || std::io::stderr().is_terminal()
}

fn lacks(missing: &[&str]) -> anyhow::Error {
    let list = missing.join(" ");
    anyhow::anyhow!(
        "this host lacks {list}; \"cargo run -- build --install\" installs them, and so does: apt-get install {list}"
    )
}

fn install(missing: &[&str], progress: Progress<'_>) -> Result<()> {
    let list = missing.join(" ");
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
    run::run("installing", apt().args(["install", "--no-install-recommends"]).args(missing))
        .with_context(|| format!("this host lacks {list}"))
}

/// Whether this process has uid 0. (The owner of our own entry in /proc is our effective uid.)
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_way_out() {
        let mut needed = NEEDED.to_vec();
        needed.push(NOT_ROOT);
        let bare = missing(&needed, OsStr::new(""));
        for package in ["mmdebstrap", "python3", "uidmap"] {
            assert!(bare.contains(&package), "{bare:?}");
        }
        let said = lacks(&["mmdebstrap", "uidmap"]).to_string();
        assert!(said.starts_with("this host lacks mmdebstrap uidmap; "), "{said}");
        assert!(said.contains("--install") && said.ends_with("apt-get install mmdebstrap uidmap"), "{said}");
    }

    #[test]
    fn what_is_there_is_not_missing() {
        let needed =
            [("dash", "sh"), ("base-files", "/etc"), ("nothing", "no-such-program"), ("folder", "..")];
        assert_eq!(missing(&needed, OsStr::new("/nowhere:/bin")), ["nothing", "folder"]);
    }
}
