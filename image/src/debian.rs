//! What comes from Debian: the packages that `mkosi.conf` names, unpacked side by side by mkosi.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cache::{self, Key};
use crate::run::{self, Progress};
use crate::tools::Tools;
use crate::tree::Origin;
use crate::{host, sources, workspace};

/// One unpacked package.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name without the kernel's version, as in `mkosi.conf`.
    pub name: String,
    /// Its real name.
    pub real: String,
    /// Debian's version.
    pub version: String,
    /// What it was built from.
    pub source: String,
    /// That one's version.
    pub source_version: String,
    /// Where it is unpacked.
    pub dir: PathBuf,
}

impl Package {
    /// For the manifest.
    pub fn origin(&self) -> Origin {
        Origin { package: self.real.clone(), version: self.version.clone() }
    }
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Debian {
    packages: Vec<Package>,
    key: String,
}

/// The folder of modules in a kernel package.
pub const MODULES: &str = "usr/lib/modules";

/// The unpacked packages, fetched when they are not there yet.
pub fn ensure(tools: &Tools, install: bool, progress: Progress<'_>) -> Result<Debian> {
    let repo = workspace::repo();
    let key = Key::new("debian", include_str!("debian.rs"))
        .with_path(&repo.join("mkosi.conf"))?
        .with_path(&repo.join("mkosi.prepare.d"))?
        .with(tools.key())
        .finish();
    let dir = cache::stage("debian", &key, 1, progress, |dir| {
        host::ensure(install, progress)?;
        progress("fetching kernel, UKI stub and e2fsck from Debian (mkosi)");
        fetch(tools, dir)
    })?;
    Ok(Debian { packages: packages(&dir)?, key })
}

/// Runs mkosi; its result is `dir/root`.
fn fetch(tools: &Tools, dir: &Path) -> Result<()> {
    let scratch = dir.join("scratch");
    let below = |name: &str| -> Result<PathBuf> {
        let path = scratch.join(name);
        fs::create_dir_all(&path).with_context(|| format!("could not create {}", path.display()))?;
        Ok(path)
    };
    // A file of just this name keeps mkosi from writing package sources of its own.
    let list = below("sandbox/etc/apt/sources.list.d")?.join("mkosi.sources");
    fs::write(&list, sources::sources()?).with_context(|| format!("could not write {}", list.display()))?;
    let mut command = tools.python_module("mkosi", &scratch)?;
    command.current_dir(workspace::repo());
    for (option, path) in [
        ("--directory", workspace::repo().to_owned()),
        ("--tools-tree", tools.root().to_owned()),
        ("--sandbox-tree", scratch.join("sandbox")),
        // An empty base keeps mkosi from installing Debian's essential packages.
        ("--base-tree", below("base")?),
        ("--workspace-dir", below("workspace")?),
        ("--package-cache-dir", below("cache")?),
        ("--output-dir", below("out")?),
    ] {
        command.arg(format!("{option}={}", path.display()));
    }
    run::run("fetching packages", command.args(["--output=root", "--force", "build"]))?;
    let (from, to) = (scratch.join("out/root"), dir.join("root"));
    fs::rename(&from, &to).with_context(|| format!("mkosi left no {}", from.display()))?;
    cache::remove(&scratch)?;
    // The prune needs to know who depends on whom; Debian computes that when the kernel is installed.
    for package in packages(dir)? {
        if package.dir.join(MODULES).is_dir() {
            let version = kernel_version(&package.dir)?;
            run::run(
                "computing the modules' dependencies",
                tools.command("depmod").arg("-b").arg(&package.dir).args(["-m", MODULES, &version]),
            )?;
        }
    }
    Ok(())
}

fn packages(dir: &Path) -> Result<Vec<Package>> {
    let list = dir.join("root/packages.tsv");
    let text = fs::read_to_string(&list).with_context(|| format!("could not read {}", list.display()))?;
    text.lines()
        .map(|line| {
            let mut words = line.split('\t').map(str::to_owned);
            let mut word =
                || words.next().with_context(|| format!("{}: {line:?} lacks a column", list.display()));
            let name = word()?;
            let dir = dir.join("root/packages").join(&name);
            Ok(Package {
                real: word()?,
                version: word()?,
                source: word()?,
                source_version: word()?,
                dir,
                name,
            })
        })
        .collect()
}

/// The one version whose modules a kernel package holds.
pub fn kernel_version(dir: &Path) -> Result<String> {
    let names = cache::sorted_names(&dir.join(MODULES))?;
    match names.as_slice() {
        [one] => one.to_str().map(str::to_owned).context("the kernel's version is not text"),
        _ => bail!("{} holds {} kernels; exactly one is expected", dir.display(), names.len()),
    }
}

impl Debian {
    /// The package of that name.
    pub fn package(&self, name: &str) -> Result<&Package> {
        self.packages
            .iter()
            .find(|package| package.name == name)
            .with_context(|| format!("mkosi.conf does not name the package {name}"))
    }

    /// The kernel's.
    pub fn kernel(&self) -> Result<&Package> {
        self.packages
            .iter()
            .find(|package| package.name.starts_with("linux-image-"))
            .context("mkosi.conf names no package linux-image-…")
    }

    /// All, in the order of `mkosi.conf`.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// Names the inputs.
    pub fn key(&self) -> &str {
        &self.key
    }
}
