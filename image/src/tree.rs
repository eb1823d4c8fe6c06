//! A folder tree in memory: what the root, the initrd and the ESP are made from, with each file's origin.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache;

/// Who made a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Package: of Debian, or one of ours.
    pub package: String,
    /// Its version.
    pub version: String,
}

impl Origin {
    /// Berth itself.
    pub fn berth(version: &str) -> Origin {
        Origin { package: "berth".into(), version: version.into() }
    }
}

/// A file's bytes.
#[derive(Debug, Clone)]
pub enum Content {
    /// At hand.
    Bytes(Vec<u8>),
    /// In a file of the build host.
    Path(PathBuf),
}

impl Content {
    /// The bytes.
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::Path(path) => {
                fs::read(path).with_context(|| format!("could not read {}", path.display()))
            }
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone)]
pub enum Node {
    /// A folder.
    Dir,
    /// A regular file with its mode.
    File(u32, Content, Origin),
}

/// Paths without a leading slash, sorted: a folder comes before what it holds.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

/// Mode of every folder: nobody writes to a verified root.
const DIR_MODE: u32 = 0o755;

impl Tree {
    /// An empty tree.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// Adds a folder and those above it.
    pub fn dir(&mut self, path: &str) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            self.nodes.entry(path[..at].to_owned()).or_insert(Node::Dir);
        }
        self.nodes.entry(path.to_owned()).or_insert(Node::Dir);
    }

    /// Adds a file, and the folders above it.
    pub fn file(&mut self, path: &str, mode: u32, content: Content, origin: Origin) {
        let path = path.trim_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.dir(parent);
        }
        self.nodes.insert(path.to_owned(), Node::File(mode, content, origin));
    }

    /// Adds everything below a folder of the build host; files are data (mode 0644).
    pub fn copy(&mut self, path: &str, from: &Path, origin: &Origin) -> Result<()> {
        self.dir(path);
        for name in cache::sorted_names(from)? {
            let below =
                format!("{}/{}", path.trim_matches('/'), name.to_str().context("a file's name is not text")?);
            let source = from.join(&name);
            if source.is_dir() {
                self.copy(&below, &source, origin)?;
            } else {
                self.file(&below, 0o644, Content::Path(source), origin.clone());
            }
        }
        Ok(())
    }

    /// All paths in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Lays the tree out below `dir`, which must not exist.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let mode = |path: &Path, mode: u32| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .with_context(|| format!("could not set the mode of {}", path.display()))
        };
        fs::create_dir_all(dir).with_context(|| format!("could not create {}", dir.display()))?;
        mode(dir, DIR_MODE)?;
        for (path, node) in self.iter() {
            let target = dir.join(path);
            match node {
                Node::Dir => {
                    fs::create_dir(&target)
                        .with_context(|| format!("could not create {}", target.display()))?;
                    mode(&target, DIR_MODE)?;
                }
                Node::File(bits, content, _) => {
                    match content {
                        Content::Bytes(bytes) => fs::write(&target, bytes),
                        Content::Path(source) => fs::copy(source, &target).map(drop),
                    }
                    .with_context(|| format!("could not write {}", target.display()))?;
                    mode(&target, *bits)?;
                }
            }
        }
        Ok(())
    }

    /// A cpio archive of kind `newc` (the kernel's `buffer-format.rst`), as an initrd: owner 0, the time given,
    /// numbers in order of paths. The same tree gives the same bytes.
    pub fn cpio(&self, time: u64, out: &mut impl Write) -> Result<()> {
        let time = u32::try_from(time).unwrap_or(u32::MAX);
        let mut number = 0;
        let mut entry = |path: &str, mode: u32, links: u32, data: &[u8]| -> Result<()> {
            number += 1;
            let size =
                u32::try_from(data.len()).with_context(|| format!("{path} is too large for an initrd"))?;
            let name = u32::try_from(path.len() + 1).context("a path is too long for an initrd")?;
            let mut header = String::from("070701");
            for field in [number, mode, 0, 0, links, time, size, 0, 0, 0, 0, name, 0] {
                use std::fmt::Write as _;
                let _ = write!(header, "{field:08x}");
            }
            let mut head = header.into_bytes();
            head.extend_from_slice(path.as_bytes());
            head.push(0);
            head.resize(head.len().next_multiple_of(4), 0);
            out.write_all(&head)?;
            out.write_all(data)?;
            out.write_all(&vec![0; data.len().next_multiple_of(4) - data.len()])?;
            Ok(())
        };
        for (path, node) in self.iter() {
            match node {
                Node::Dir => entry(path, 0o040_000 | DIR_MODE, 2, &[])?,
                Node::File(mode, content, _) => entry(path, 0o100_000 | mode, 1, &content.read()?)?,
            }
        }
        entry("TRAILER!!!", 0, 1, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new();
        let origin = Origin::berth("1");
        tree.file("/usr/lib/x", 0o755, Content::Bytes(b"hello".to_vec()), origin.clone());
        tree.dir("dev");
        tree.file("init", 0o755, Content::Bytes(vec![]), origin);
        tree
    }

    #[test]
    fn folders_come_before_what_they_hold() {
        let paths: Vec<String> = tree().iter().map(|(path, _)| path.to_owned()).collect();
        assert_eq!(paths, ["dev", "init", "usr", "usr/lib", "usr/lib/x"]);
    }

    #[test]
    fn cpio_is_aligned_and_repeatable() {
        let mut first = Vec::new();
        tree().cpio(7, &mut first).unwrap();
        let mut second = Vec::new();
        tree().cpio(7, &mut second).unwrap();
        assert_eq!(first, second);
        assert_eq!(first.len() % 4, 0);
        assert!(first.starts_with(b"070701000000010000"));
        let text = String::from_utf8_lossy(&first);
        assert_eq!(text.matches("070701").count(), 6);
        assert!(text.contains("TRAILER!!!\0"));
        assert!(text.contains("hello\0\0\0"));
    }

    #[test]
    fn modes_are_set_whatever_the_umask() {
        let dir = std::env::temp_dir().join(format!("berth-tree-{}", std::process::id()));
        tree().write(&dir).unwrap();
        let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("usr"), mode("usr/lib/x"), mode("")), (0o755, 0o755, 0o755));
        fs::remove_dir_all(&dir).unwrap();
    }
}
