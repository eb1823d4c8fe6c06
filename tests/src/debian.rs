//! Root file systems of real Debian packages, for images that tests run or unpack.

use anyhow::{Context, Result, bail};
use berth_image::cache::{self, Key};
use berth_image::sources::{self, SUITE};
use berth_image::{host, run};
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

/// Part of the key; to be raised when the way in which the tar is made changes.
const FORMAT: &str = "1";
/// Root file systems kept, one for each list of packages.
const KEPT: usize = 6;

/// A tar of Debian's essential packages and these, installed, with owners, modes, attributes and device nodes as
/// Debian's tools leave them. Made when it is not there yet.
pub fn root_tar(packages: &[&str]) -> Result<PathBuf> {
    let list = packages.join(",");
    let key = Key::new("debian-root", FORMAT).with(SUITE).with(&list).finish();
    let folder = cache::stage("debian-root", &key, KEPT, &run::silent, |dir| {
        host::ensure(false, &run::silent)?;
        let sources = dir.join("sources");
        std::fs::write(&sources, sources::sources()?)?;
        let mut command = Command::new("mmdebstrap");
        command.args(["--variant=essential", "--aptopt=APT::Install-Recommends \"false\""]);
        if !list.is_empty() {
            command.arg(format!("--include={list}"));
        }
        command.arg(SUITE).arg(dir.join("root.tar")).arg("-").stdin(File::open(&sources)?);
        let out = command.output().context("could not start mmdebstrap")?;
        if !out.status.success() {
            bail!("mmdebstrap made no root file system: {}", String::from_utf8_lossy(&out.stderr));
        }
        Ok(())
    })?;
    Ok(folder.join("root.tar"))
}
