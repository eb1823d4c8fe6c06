//! A slot's verity tree, read block by block from its medium: nothing of it is believed that the root hash does not
//! vouch for, and one block of each level is held.

use crate::medium::Medium;
use berth_updater::verity::{BLOCK, FAN, RootHash, Superblock, VerityError};
use std::io;

/// Why a tree, or a block under it, is not what the root hash says.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The medium.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// No superblock that is supported.
    #[error("{0}")]
    Format(#[from] VerityError),
    /// More blocks than the partition has.
    #[error("a tree of {0} bytes is longer than its partition")]
    Long(u64),
    /// A block of the tree that is not what the level above says.
    #[error("block {0} of the verity tree has another sum than the level above says")]
    Sum(u64),
}

/// An open tree.
#[derive(Debug)]
pub struct Tree {
    superblock: Superblock,
    root: RootHash,
    /// First block of each level on the medium, the lowest level first.
    starts: Vec<u64>,
    /// The block of each level that was used last: its number within the level.
    held: Vec<Option<(u64, Vec<u8>)>>,
}

impl Tree {
    /// The tree with that root hash. Its top is checked when it is first used.
    pub fn open(medium: &mut dyn Medium, root: &RootHash) -> Result<Tree, TreeError> {
        let mut first = vec![0; BLOCK];
        medium.read_at(0, &mut first)?;
        let superblock = Superblock::parse(&first)?;
        if superblock.hash_bytes() > medium.bytes() {
            return Err(TreeError::Long(superblock.hash_bytes()));
        }
        let levels = superblock.levels();
        let mut starts = Vec::with_capacity(levels.len());
        let mut next = 1;
        for blocks in levels.iter().rev() {
            starts.push(next);
            next += blocks;
        }
        starts.reverse();
        let held = vec![None; levels.len()];
        Ok(Tree { superblock, root: *root, starts, held })
    }

    /// What its superblock says.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Whether this is data block `index`.
    pub fn is_right(&mut self, medium: &mut dyn Medium, index: u64, block: &[u8]) -> Result<bool, TreeError> {
        Ok(self.superblock.sum(block) == self.recorded(medium, 0, index)?)
    }

    /// Checks every block of every level.
    pub fn check(&mut self, medium: &mut dyn Medium) -> Result<(), TreeError> {
        let lowest = self.superblock.levels().first().copied().unwrap_or(0);
        for index in 0..lowest {
            self.load(medium, 0, index)?;
        }
        Ok(())
    }

    /// The sum of block `index` of a tier, as the tier above records it; tier 0 is the data, tier 1 the lowest level.
    fn recorded(&mut self, medium: &mut dyn Medium, tier: usize, index: u64) -> Result<RootHash, TreeError> {
        if tier == self.starts.len() {
            return Ok(self.root);
        }
        let at = usize::try_from(index % FAN).unwrap_or_default() * 32;
        let block = self.load(medium, tier, index / FAN)?;
        let mut sum = [0; 32];
        sum.copy_from_slice(&block[at..at + 32]);
        Ok(sum)
    }

    /// Block `index` of a level, the lowest being 0.
    fn load(&mut self, medium: &mut dyn Medium, level: usize, index: u64) -> Result<&[u8], TreeError> {
        let is_held = matches!(&self.held[level], Some((held, _)) if *held == index);
        if !is_held {
            let expected = self.recorded(medium, level + 1, index)?;
            let mut block = self.held[level].take().map_or_else(|| vec![0; BLOCK], |(_, block)| block);
            let place = self.starts[level] + index;
            medium.read_at(place * BLOCK as u64, &mut block)?;
            if self.superblock.sum(&block) != expected {
                return Err(TreeError::Sum(place));
            }
            self.held[level] = Some((index, block));
        }
        Ok(self.held[level].as_ref().map_or(&[], |(_, block)| block))
    }
}
