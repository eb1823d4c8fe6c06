//! Which of the kernel's modules reach the disk: those of `image/modules.list` and what they depend on, unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use berth_init::early::module_file;

use crate::cache::{self, Key};
use crate::debian::{self, Debian, MODULES};
use crate::run::{self, Progress};
use crate::tools::Tools;
use crate::tree::{Origin, Tree};
use crate::workspace;

/// Where the list lies in the checkout.
const LIST: &str = "image/modules.list";
/// What `init` reads of depmod's files; the rest is for other programs.
const KEPT: [&str; 3] = ["modules.dep", "modules.alias", "modules.softdep"];

/// Pruned modules, for the root and for the initrds: folders that hold `VERSION/`.
#[derive(Debug, Clone)]
pub struct Modules {
    /// The kernel's version.
    pub version: String,
    /// For the root.
    pub root: PathBuf,
    /// For the initrd.
    pub initrd: PathBuf,
    /// For direct boot's initrd.
    pub direct: PathBuf,
    /// `initrd` as an archive (cpio, zstd): the first part of every initrd.
    pub archive: PathBuf,
    /// Names the inputs.
    pub key: String,
}

impl Modules {
    /// A module's file and those that it needs, in the order in which they are loaded.
    pub fn closure(&self, name: &str) -> Result<Vec<PathBuf>> {
        let dir = self.root.join(&self.version);
        let index = dir.join("modules.dep");
        let text = fs::read_to_string(&index).with_context(|| index.display().to_string())?;
        let line = text.lines().find_map(|l| l.split_once(':').filter(|(file, _)| module_name(file) == name));
        let (file, needs) = line.with_context(|| format!("no module {name}"))?;
        Ok(needs.split_whitespace().rev().chain([file]).map(|file| dir.join(file)).collect())
    }
}

/// The pruned modules, made when they are not there yet.
pub fn ensure(tools: &Tools, debian: &Debian, progress: Progress<'_>) -> Result<Modules> {
    let path = workspace::repo().join(LIST);
    let list = fs::read_to_string(&path).with_context(|| format!("could not read {LIST}"))?;
    let slimming = include_str!("../../init/src/early/module_file.rs");
    let key = Key::new("modules", include_str!("modules.rs"))
        .with(slimming)
        .with(&list)
        .with(debian.key())
        .finish();
    let package = &debian.kernel()?.dir;
    let version = debian::kernel_version(package)?;
    let dir = cache::stage("modules", &key, 1, progress, |dir| {
        progress("choosing and unpacking kernel modules");
        let kernel = Kernel::read(&package.join(MODULES).join(&version))?;
        let wanted = parse(&list)?;
        for (name, place) in [("root", Place::Root), ("initrd", Place::Initrd), ("direct", Place::Direct)] {
            let roots = wanted.iter().filter(|line| line.place >= place);
            let chosen = kernel.choose(roots)?;
            let to = dir.join(name);
            copy(tools, &kernel, &chosen, &to, &version)?;
            if place >= Place::Initrd {
                slim(&to.join(&version), &chosen)?;
            }
        }
        progress("packing the initrd's modules");
        let mut tree = Tree::new();
        tree.copy(MODULES, &dir.join("initrd"), &Origin::berth(""))?;
        pack(tools, &tree, 0, &dir.join("initrd.cpio.zst"))
    })?;
    let archive = dir.join("initrd.cpio.zst");
    let [root, initrd, direct] = ["root", "initrd", "direct"].map(|name| dir.join(name));
    Ok(Modules { version, root, initrd, direct, archive, key })
}

/// Writes a tree as an initrd, or a part of one: the kernel takes several archives one after the other.
pub fn pack(tools: &Tools, tree: &Tree, time: u64, to: &Path) -> Result<()> {
    let mut archive = Vec::new();
    tree.cpio(time, &mut archive)?;
    let raw = to.with_extension("raw");
    fs::write(&raw, archive).with_context(|| format!("could not write {}", raw.display()))?;
    let mut command = tools.command("zstd");
    run::run("packing the initrd", command.args(["-q", "-19", "-T1", "--rm"]).arg(&raw).arg("-o").arg(to))
}

/// One line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    number: usize,
    what: &'a str,
    place: Place,
}

/// Where a module goes; each place is part of the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Root,
    Initrd,
    Direct,
}

fn parse(list: &str) -> Result<Vec<Wanted<'_>>> {
    let mut lines = Vec::new();
    for (index, line) in list.lines().enumerate() {
        let number = index + 1;
        let text = line.split('#').next().unwrap_or_default();
        let mut words = text.split_whitespace();
        let Some(what) = words.next() else { continue };
        let place = match (words.next(), words.next()) {
            (None, _) => Place::Root,
            (Some("initrd"), None) => Place::Initrd,
            (Some("direct"), None) => Place::Direct,
            _ => bail!("{LIST}:{number}: after a module's name only \"initrd\" or \"direct\" may stand"),
        };
        lines.push(Wanted { number, what, place });
    }
    Ok(lines)
}

/// What depmod says about the whole kernel package.
#[derive(Default)]
struct Kernel {
    dir: PathBuf,
    /// Module name → file, relative to `dir`.
    files: BTreeMap<String, String>,
    /// File → files that it needs.
    needs: BTreeMap<String, Vec<String>>,
    /// Module name → module names or aliases to be loaded before or after it.
    soft: BTreeMap<String, Vec<String>>,
    /// Alias without wildcards → module names. (A soft dependency may name one: `crypto-crc32c`.)
    aliases: BTreeMap<String, Vec<String>>,
}

/// A module's name: its file's, without extensions, `-` being `_`.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

impl Kernel {
    fn read(dir: &Path) -> Result<Kernel> {
        let text = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))
        };
        let mut kernel = Kernel { dir: dir.to_owned(), ..Kernel::default() };
        for line in text("modules.dep")?.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            kernel.files.insert(module_name(file), file.to_owned());
            kernel.needs.insert(file.to_owned(), needs.split_whitespace().map(str::to_owned).collect());
        }
        for line in text("modules.softdep")?.lines() {
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(name)) = (words.next(), words.next()) {
                let others = words.filter(|word| !word.ends_with(':')).map(str::to_owned);
                kernel.soft.entry(module_name(name)).or_default().extend(others);
            }
        }
        for line in text("modules.alias")?.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(alias), Some(name)) = (words.next(), words.next(), words.next())
                && !alias.contains(['*', '?', '['])
            {
                kernel.aliases.entry(alias.to_owned()).or_default().push(module_name(name));
            }
        }
        Ok(kernel)
    }

    /// The files of these lines and of all that they need, hard and soft.
    fn choose<'a>(&self, wanted: impl Iterator<Item = &'a Wanted<'a>>) -> Result<BTreeSet<String>> {
        let mut todo: Vec<&str> = Vec::new();
        for line in wanted {
            let before = todo.len();
            if line.what.ends_with('/') {
                let folder = format!("kernel/{}", line.what);
                todo.extend(self.needs.keys().filter(|file| file.starts_with(&folder)).map(String::as_str));
            } else if let Some(file) = self.files.get(&module_name(line.what)) {
                todo.push(file);
            }
            if todo.len() == before {
                bail!("{LIST}:{}: the kernel has no module {:?}", line.number, line.what);
            }
        }
        let mut chosen = BTreeSet::new();
        while let Some(file) = todo.pop() {
            if !chosen.insert(file.to_owned()) {
                continue;
            }
            todo.extend(self.needs.get(file).into_iter().flatten().map(String::as_str));
            for other in self.soft.get(&module_name(file)).into_iter().flatten() {
                let behind = self.aliases.get(other).into_iter().flatten().cloned();
                let names = behind.chain([module_name(other)]);
                todo.extend(names.filter_map(|name| self.files.get(&name)).map(String::as_str));
            }
        }
        Ok(chosen)
    }
}

/// Copies the chosen modules to `dir/VERSION`, unpacks them, and lets depmod describe what is there. A module's
/// signature is inside, so unpacking keeps it.
fn copy(tools: &Tools, kernel: &Kernel, chosen: &BTreeSet<String>, dir: &Path, version: &str) -> Result<()> {
    let to = dir.join(version);
    let mut packed = Vec::new();
    for file in chosen {
        let target = to.join(file);
        let parent = target.parent().unwrap_or(&to);
        fs::create_dir_all(parent).with_context(|| format!("could not create {}", parent.display()))?;
        fs::copy(kernel.dir.join(file), &target).with_context(|| format!("could not copy {file}"))?;
        if file.ends_with(".xz") {
            packed.push(target);
        }
    }
    if !packed.is_empty() {
        run::run("unpacking modules", tools.command("xz").arg("-d").args(&packed))?;
    }
    for name in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(kernel.dir.join(name), to.join(name)).with_context(|| format!("could not copy {name}"))?;
    }
    // depmod looks for `<-b>/<-m>/VERSION`.
    let (base, name) = (dir.parent().unwrap_or(dir), dir.file_name().unwrap_or_default());
    run::run(
        "computing the modules' dependencies",
        tools.command("depmod").arg("-b").arg(base).arg("-m").arg(name).arg(version),
    )?;
    for name in cache::sorted_names(&to)? {
        let keep = name == "kernel" || KEPT.iter().any(|kept| name == *kept);
        if !keep {
            fs::remove_file(to.join(&name))
                .with_context(|| format!("could not remove {}", name.display()))?;
        }
    }
    Ok(())
}

/// Leaves out of an initrd's modules what `init` would leave out when it loads them.
fn slim(dir: &Path, chosen: &BTreeSet<String>) -> Result<()> {
    for file in chosen {
        let path = dir.join(file.trim_end_matches(".xz"));
        let bytes = fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let slim = module_file::slimmed(&bytes).with_context(|| format!("{file} is not a module"))?;
        fs::write(&path, slim).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Kernel {
        let line = |file: &str, needs: &[&str]| {
            (file.to_owned(), needs.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
        };
        let needs = BTreeMap::from([
            line("kernel/a/top-mod.ko.xz", &["kernel/b/mid.ko.xz"]),
            line("kernel/b/mid.ko.xz", &["kernel/b/low.ko.xz"]),
            line("kernel/b/low.ko.xz", &[]),
            line("kernel/c/soft.ko.xz", &[]),
            line("kernel/c/other.ko.xz", &[]),
        ]);
        let files = needs.keys().map(|file| (module_name(file), file.clone())).collect();
        let soft = BTreeMap::from([("mid".to_owned(), vec!["crypto-x".to_owned(), "builtin".to_owned()])]);
        let aliases = BTreeMap::from([("crypto-x".to_owned(), vec!["soft".to_owned()])]);
        Kernel { dir: PathBuf::new(), files, needs, soft, aliases }
    }

    fn chosen(list: &str) -> Result<Vec<String>> {
        let wanted = parse(list)?;
        Ok(kernel().choose(wanted.iter())?.into_iter().map(|file| module_name(&file)).collect())
    }

    #[test]
    fn dependencies_are_followed_hard_and_soft() {
        assert_eq!(chosen("top_mod # why\n").unwrap(), ["top_mod", "low", "mid", "soft"]);
        assert_eq!(chosen("top-mod initrd\n").unwrap(), ["top_mod", "low", "mid", "soft"]);
        assert_eq!(chosen("c/\n").unwrap(), ["other", "soft"]);
    }

    #[test]
    fn a_line_that_names_nothing_is_refused_by_number() {
        let error = chosen("mid\n\nmidd\n").unwrap_err();
        assert!(error.to_string().contains("modules.list:3"), "{error}");
        assert!(chosen("z/\n").is_err());
        assert!(chosen("mid maybe\n").is_err());
        assert!(chosen("mid initrd initrd\n").is_err());
    }
}
