//! The tools tree: a Debian trixie folder with every program that builds or boots the image.
//!
//! One `mmdebstrap` call makes it. Its programs run in place through the tree's own dynamic loader
//! ([`Tools::command`]): no chroot, no root, and they see the host's paths.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cache::{self, Key};
use crate::run::{self, Progress};
use crate::sources::{self, SUITE};
use crate::{host, workspace};

/// Where the package list lies in the checkout.
const LIST: &str = "image/tools.list";
/// Part of the key; to be raised when the way in which the tree is made changes.
const FORMAT: &str = "1";
/// Documentation and translations are no tools.
const EXCLUDED: [&str; 4] =
    ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];
/// Folders with programs, in order.
const BIN: [&str; 2] = ["usr/bin", "usr/sbin"];
/// Symbolic links followed before giving up.
const MAX_LINKS: u32 = 32;

/// A complete tools tree.
#[derive(Debug, Clone)]
pub struct Tools {
    root: PathBuf,
    key: String,
}

/// The tools tree, made when it is not there yet (about a minute and 400 MB).
pub fn ensure(progress: Progress<'_>) -> Result<Tools> {
    ensure_with(false, progress)
}

/// Like [`ensure`]; `install` lets it install what the host lacks.
pub fn ensure_with(install: bool, progress: Progress<'_>) -> Result<Tools> {
    let list =
        fs::read_to_string(workspace::repo().join(LIST)).with_context(|| format!("could not read {LIST}"))?;
    let packages = packages(&list);
    let key = Key::new("tools", FORMAT).with(SUITE).with(packages.join(",")).finish();
    let root = cache::stage("tools", &key, 1, progress, |dir| {
        host::ensure(install, progress)?;
        let sources = sources::sources()?;
        progress(&format!("making the tools tree: {} packages of {SUITE} (about a minute)", packages.len()));
        debootstrap(dir, &packages, &sources)
    })?;
    Ok(Tools { root, key })
}

/// The names in a list with `#` comments.
fn packages(list: &str) -> Vec<&str> {
    list.lines().filter_map(|line| line.split('#').next()).flat_map(str::split_whitespace).collect()
}

fn debootstrap(dir: &Path, packages: &[&str], sources: &str) -> Result<()> {
    let file = dir.with_extension("sources");
    fs::write(&file, sources).with_context(|| format!("could not write {}", file.display()))?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=apt", "--skip=cleanup/reproducible"]);
    command.arg(format!("--include={}", packages.join(",")));
    command.arg("--aptopt=APT::Install-Recommends \"false\"");
    for glob in EXCLUDED {
        command.arg(format!("--dpkgopt=path-exclude={glob}"));
    }
    // The sources come as standard input: mmdebstrap names its copy of a file after that file.
    command.arg(SUITE).arg(dir).arg("-");
    let input = fs::File::open(&file).with_context(|| format!("could not open {}", file.display()))?;
    let out = command.stdin(Stdio::from(input)).output().context("could not start mmdebstrap")?;
    let _ = fs::remove_file(&file);
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n    ");
        bail!("mmdebstrap could not make the tools tree ({})\n    {tail}", out.status);
    }
    Ok(())
}

impl Tools {
    /// The tree's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names the tree's inputs; part of the key of what is made with it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A command that runs `name` of the tree on the host's own paths, without privileges. Only for compiled
    /// programs; a name that the tree lacks fails when the command is started.
    pub fn command(&self, name: &str) -> Command {
        let program = BIN
            .iter()
            .map(|bin| self.resolve(&format!("{bin}/{name}")))
            .find(|path| path.exists())
            .unwrap_or_else(|| self.root.join("usr/bin").join(name));
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(self.resolve("usr/lib64/ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg("--argv0").arg(name).arg(program);
        // Converters of character sets (mtools) and QEMU's modules must be those of the tree.
        command.env("GCONV_PATH", libraries.join("gconv")).env("LC_ALL", "C.UTF-8");
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        command.env("MTOOLS_SKIP_CHECK", "1").env("MTOOLSRC", "/dev/null");
        if name.starts_with("qemu-system-") {
            for data in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(self.root.join(data));
            }
        }
        command
    }

    /// UEFI firmware, without Secure Boot; read only.
    pub fn ovmf_code(&self) -> PathBuf {
        self.root.join("usr/share/OVMF/OVMF_CODE_4M.fd")
    }

    /// Its empty variables; each guest needs a copy of its own.
    pub fn ovmf_vars(&self) -> PathBuf {
        self.root.join("usr/share/OVMF/OVMF_VARS_4M.fd")
    }

    /// BIOS firmware.
    pub fn seabios(&self) -> PathBuf {
        self.root.join("usr/share/seabios/bios-256k.bin")
    }

    /// A file of the tree, with symbolic links followed as if the tree were the root.
    pub fn resolve(&self, path: &str) -> PathBuf {
        let mut todo: Vec<std::ffi::OsString> = reversed(Path::new(path));
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            match fs::read_link(self.root.join(&next)) {
                Ok(target) if links < MAX_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        at = PathBuf::new();
                    }
                    todo.extend(reversed(&target));
                }
                _ => at = next,
            }
        }
        self.root.join(at)
    }

    /// The installed version of one of the tree's packages.
    pub fn version(&self, package: &str) -> Result<String> {
        let path = self.root.join("var/lib/dpkg/status");
        let status =
            fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
        status
            .split("\n\n")
            .find(|entry| entry.lines().next().and_then(|l| l.strip_prefix("Package: ")) == Some(package))
            .and_then(|entry| entry.lines().find_map(|line| line.strip_prefix("Version: ")))
            .map(str::to_owned)
            .with_context(|| format!("the tools tree has no package {package}"))
    }

    /// A `python3 -m MODULE` of the tree on the host's own paths: by the host's interpreter, so that a program which
    /// starts itself again finds itself.
    pub fn python_module(&self, module: &str, scratch: &Path) -> Result<Command> {
        let packages = scratch.join("python");
        cache::remove(&packages)?;
        fs::create_dir_all(&packages).with_context(|| format!("could not create {}", packages.display()))?;
        let target = self.root.join("usr/lib/python3/dist-packages").join(module);
        std::os::unix::fs::symlink(&target, packages.join(module))
            .with_context(|| format!("could not link {}", target.display()))?;
        let mut command = Command::new("/usr/bin/python3");
        command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["-B", "-m", module]);
        Ok(command)
    }
}

fn reversed(path: &Path) -> Vec<std::ffi::OsString> {
    path.components()
        .rev()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

/// Runs a program of the tree and returns what it wrote.
pub fn output(what: &str, command: &mut Command) -> Result<Vec<u8>> {
    run::output(what, command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blanks_are_no_packages() {
        assert_eq!(packages("# head\na  # why\n\n b c\n"), ["a", "b", "c"]);
    }

    #[test]
    fn links_stay_inside_the_tree() {
        let dir = std::env::temp_dir().join(format!("berth-tools-{}", std::process::id()));
        fs::create_dir_all(dir.join("usr/lib")).unwrap();
        std::os::unix::fs::symlink("/usr/lib", dir.join("lib")).unwrap();
        std::os::unix::fs::symlink("../../../../etc/x", dir.join("usr/lib/y")).unwrap();
        std::os::unix::fs::symlink("loop", dir.join("loop")).unwrap();
        let tools = Tools { root: dir.clone(), key: String::new() };
        assert_eq!(tools.resolve("lib/ld.so"), dir.join("usr/lib/ld.so"));
        assert_eq!(tools.resolve("/lib/y"), dir.join("etc/x"));
        assert_eq!(tools.resolve("loop"), dir.join("loop"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
