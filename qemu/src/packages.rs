//! Root file systems of real Debian packages, for images that tests run or unpack.

use anyhow::{Context, Result, bail};
use berth_image::cache::{self, Key};
use berth_image::sources::{self, SUITE};
use berth_image::{host, run};
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

/// Part of the key; to be raised when the way in which the tar is made changes.
const FORMAT: &str = "2";
/// Root file systems kept, one for each list of packages.
const KEPT: usize = 8;
/// What no image of a test needs of its packages: texts, and PostgreSQL's compiler, which is most of it.
const LEFT_OUT: [&str; 8] = [
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/share/i18n/*",
    "/usr/lib/x86_64-linux-gnu/libLLVM*",
    "/usr/lib/x86_64-linux-gnu/libz3*",
    "/usr/lib/postgresql/*/lib/bitcode/*",
    "/usr/*/perl*/*",
];

/// A tar of Debian's essential packages and these, installed, with owners, modes, attributes and device nodes as
/// Debian's tools leave them. Made when it is not there yet.
pub fn root_tar(packages: &[&str]) -> Result<PathBuf> {
    tar_of("essential", packages, &[])
}

/// A tar of these packages and what they depend on, as unpacked: no script of theirs has run, so there are no users. Small,
/// for images.
pub fn unpacked_tar(packages: &[&str]) -> Result<PathBuf> {
    tar_of("extract", packages, &LEFT_OUT)
}

/// The same with everything that the packages bring, texts too.
pub fn whole_tar(packages: &[&str]) -> Result<PathBuf> {
    tar_of("extract", packages, &[])
}

fn tar_of(variant: &str, packages: &[&str], left_out: &[&str]) -> Result<PathBuf> {
    let list = packages.join(",");
    let key = Key::new("debian-root", FORMAT).with(SUITE).with(variant).with(&list);
    let key = left_out.iter().fold(key, |key, path| key.with(path)).finish();
    let folder = cache::stage("debian-root", &key, KEPT, &run::silent, |dir| {
        host::ensure(false, &run::silent)?;
        let sources = dir.join("sources");
        std::fs::write(&sources, sources::sources()?)?;
        let mut command = Command::new("mmdebstrap");
        command.arg(format!("--variant={variant}")).arg("--aptopt=APT::Install-Recommends \"false\"");
        command.args(left_out.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
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
