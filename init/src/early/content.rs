//! What is in a slot that does not run: told by its partitions alone, nothing of it is mounted or trusted.

use super::disks::{self, partition_node};
use berth_updater::erofs;
use berth_updater::layout::Slot;
use berth_updater::verity::{BLOCK, Superblock, to_hex};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A system in a slot, for `berth slots`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Root hash, hex, computed from the top of its tree of sums.
    pub root_hash: String,
    /// Its version, as its root's label says; empty when it has none.
    pub version: String,
}

impl Content {
    /// Reads it; `None` for a slot without a system. May block as long as the disk does.
    pub fn read(disk: &Path, slot: Slot) -> Result<Option<Content>, String> {
        let mut file = File::open(disk).map_err(|error| format!("{}: {error}", disk.display()))?;
        let table = disks::table(&mut file)?.table;
        let name = disk.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let open = |part: berth_updater::layout::Part| {
            let (number, _) = table
                .by_label(part.kind, part.label)
                .ok_or_else(|| format!("{} has no partition {}", disk.display(), part.label))?;
            let node = partition_node(name, number);
            File::open(&node).map_err(|error| format!("{}: {error}", node.display()))
        };
        Content::of(&open(slot.verity())?, &open(slot.root())?)
    }

    fn of(verity: &File, root: &File) -> Result<Option<Content>, String> {
        let mut blocks = vec![0; 2 * BLOCK];
        verity.read_exact_at(&mut blocks, 0).map_err(|error| error.to_string())?;
        let Ok(superblock) = Superblock::parse(&blocks) else { return Ok(None) };
        let root_hash = to_hex(&superblock.root_hash(&blocks[BLOCK..]));
        let mut start = vec![0; BLOCK];
        let version = root.read_exact_at(&mut start, 0).ok().and_then(|()| erofs::label(&start));
        Ok(Some(Content { root_hash, version: version.unwrap_or_default() }))
    }

    /// For a child's answer, see [`Content::parse`].
    pub fn to_text(&self) -> String {
        format!("{} {}", self.root_hash, self.version)
    }

    /// Reads [`Content::to_text`]; `None` for a slot without a system.
    pub fn parse(text: &str) -> Option<Content> {
        let (root_hash, version) = text.split_once(' ')?;
        Some(Content { root_hash: root_hash.into(), version: version.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn a_system_is_known_by_its_sums_and_its_label() {
        let mut root = vec![7; 200 * BLOCK];
        root[1024..1024 + 4].copy_from_slice(&0xE0F5_E1E2_u32.to_le_bytes());
        root[1024 + 64..1024 + 80].copy_from_slice(b"1.2.3-rc1\0\0\0\0\0\0\0");
        let mut sums = Vec::new();
        let hash =
            berth_updater::verity::build(&mut root.as_slice(), 200, [1; 16], b"salt", &mut sums).unwrap();
        let content = Content::of(&file(&sums), &file(&root)).unwrap().unwrap();
        assert_eq!(content, Content { root_hash: to_hex(&hash), version: "1.2.3-rc1".into() });
        assert_eq!(Content::parse(&content.to_text()), Some(content));
        root[1024] = 0;
        let content = Content::of(&file(&sums), &file(&root)).unwrap().unwrap();
        assert_eq!((content.version.as_str(), content.root_hash), ("", to_hex(&hash)));
        assert_eq!(Content::parse(""), None);
        assert_eq!(Content::of(&file(&[0; 3 * BLOCK]), &file(&root)), Ok(None));
        assert!(Content::of(&file(&[]), &file(&root)).is_err());
    }
}
