//! The procedure, in the order in which it is written down in `docs/updates.md`.

use crate::error::ApplyError;
use crate::fat::Esp;
use crate::medium::Medium;
use crate::notes::Notes;
use crate::procedure::{Run, hash_of, place};
use berth_tuf::fetch::Fetch;
use berth_tuf::release::Offer;
use berth_updater::boot_files::{self, BootFile};
use berth_updater::layout::Slot;
use berth_updater::verity::{BLOCK, RootHash, Superblock};
use sha2::{Digest, Sha256};
use std::path::Path;

/// A slot's partitions, and the ESP.
pub struct SlotMedia<'m> {
    /// Which slot; never the one that runs.
    pub slot: Slot,
    /// Its root partition.
    pub root: &'m mut dyn Medium,
    /// Its verity partition.
    pub verity: &'m mut dyn Medium,
    /// The ESP.
    pub esp: &'m mut dyn Medium,
    /// The root hash of what runs, which must not be in both slots.
    pub running: Option<RootHash>,
}

impl std::fmt::Debug for SlotMedia<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "SlotMedia({})", self.slot)
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The verity tree is fetched.
    Tree,
    /// The root is compared, and what differs fetched.
    Root,
    /// The UKI is fetched.
    Uki,
    /// All is read back from the disk.
    Check,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub step: Step,
    /// Bytes of it that are done.
    pub done: u64,
    /// Its bytes.
    pub total: u64,
    /// Bytes fetched so far, in all steps.
    pub fetched: u64,
}

/// What was done. The slot holds the release, checked, and is not yet the one to be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// It was there already: nothing was written.
    pub already: bool,
    /// Bytes that were fetched.
    pub fetched: u64,
    /// Bytes that were there before and right.
    pub found: u64,
}

/// Writes a release into a slot, and reads it back.
///
/// 1. Sizes: what does not fit is refused before a byte is written.
/// 2. The slot's sums are made to fit nothing.
/// 3. The verity tree: fetched, written, checked by its signed hash and by the root hash.
/// 4. The root: block by block, those that the tree does not know are fetched, checked and written.
/// 5. The UKI: its file gets its clusters, then its content; checked by its signed hash.
/// 6. The environment block, cut from the UKI; the sums' file, still without them; the rest of the ESP's bookkeeping.
/// 7. All is synced, forgotten by the kernel, read back and checked.
/// 8. The sums, in one write of one sector; synced, read back.
pub fn apply(
    offer: &Offer,
    fetch: &mut dyn Fetch,
    to: &mut SlotMedia<'_>,
    notes: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Written, ApplyError> {
    let mut run = Run::new(offer, fetch, Notes::new(notes), progress);
    sizes(offer, to)?;
    if run.claims(to)? && run.check(to).is_ok() {
        let found = offer.root.length + offer.verity.length + offer.uki.length;
        return Ok(Written { already: true, fetched: 0, found });
    }
    let no_sums = boot_files::no_sums(to.slot);
    Esp::open(to.esp, to.slot)?.void(&no_sums)?;
    run.tree(to)?;
    run.root(to)?;
    run.uki(to)?;
    let sums = run.env(to, &no_sums)?;
    run.read_back(to)?;
    run.sums(to, &sums)?;
    Ok(Written { already: false, fetched: run.fetched, found: run.found })
}

/// Whether a slot holds a release: every block of its root by the tree, its UKI by the signed hash, its other files by
/// content. Reads all of it and writes nothing.
pub fn check(
    offer: &Offer,
    of: &mut SlotMedia<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ApplyError> {
    let mut nothing = Nothing;
    Run::new(offer, &mut nothing, Notes::new(Path::new("")), progress).check(of)
}

/// A server that has nothing.
struct Nothing;

impl Fetch for Nothing {
    fn metadata(
        &mut self,
        _: &str,
        _: u64,
    ) -> Result<Box<dyn std::io::Read + '_>, berth_tuf::fetch::FetchError> {
        Err(berth_tuf::fetch::FetchError::Missing)
    }

    fn target(
        &mut self,
        _: &str,
        _: u64,
        _: u64,
    ) -> Result<Box<dyn std::io::Read + '_>, berth_tuf::fetch::FetchError> {
        Err(berth_tuf::fetch::FetchError::Missing)
    }
}

/// Step 1.
fn sizes(offer: &Offer, to: &mut SlotMedia<'_>) -> Result<(), ApplyError> {
    let release = &offer.release;
    if to.running == Some(release.root_hash) {
        return Err(ApplyError::Runs { version: release.version.clone(), slot: to.slot });
    }
    let wrong = |why: String| ApplyError::Release { version: release.version.clone(), why };
    for (part, target) in [("root", &offer.root), ("verity tree", &offer.verity), ("UKI", &offer.uki)] {
        if target.hashes.is_empty() {
            return Err(wrong(format!("its {part} has no hash of a kind that is known here")));
        }
    }
    let places = [
        ("root", offer.root.length, place::root(to.slot), to.root.bytes()),
        ("verity tree", offer.verity.length, place::verity(to.slot), to.verity.bytes()),
    ];
    for (part, bytes, place, room) in places {
        if bytes > room {
            return Err(ApplyError::Size { part, bytes, place, room });
        }
    }
    let data_blocks = offer.root.length / BLOCK as u64;
    if data_blocks == 0 || !offer.root.length.is_multiple_of(BLOCK as u64) {
        return Err(wrong(format!("its root of {} bytes is not whole blocks", offer.root.length)));
    }
    let tree = Superblock { uuid: [0; 16], data_blocks, salt: Vec::new() }.hash_bytes();
    if offer.verity.length != tree {
        let length = offer.verity.length;
        return Err(wrong(format!(
            "its verity tree has {length} bytes, and one over its root would have {tree}"
        )));
    }
    // The sums of the slot have the length of any sums, the environment block a whole number of KiB: two at most.
    let sums = boot_files::no_sums(to.slot).len() as u64;
    Esp::open(to.esp, to.slot)?.has_room([offer.uki.length, crate::limits::SMALL_FILE_BYTES, sums])?;
    Ok(())
}

/// Whether the boot loader would start a slot: its files are there and have the sums that were written with them. What
/// the UKI then starts is another question, see [`check`].
pub fn holds(esp: &mut dyn Medium, slot: Slot) -> Result<bool, ApplyError> {
    let mut esp = Esp::open(esp, slot)?;
    let (Some(sums), Some(env)) = (esp.read_small(BootFile::Sum)?, esp.read_small(BootFile::Env)?) else {
        return Ok(false);
    };
    if sums == boot_files::no_sums(slot).as_bytes() {
        return Ok(false);
    }
    let Some(length) = esp.whole(BootFile::Uki) else { return Ok(false) };
    let uki = hash_of(&mut esp, BootFile::Uki, length)?;
    Ok(sums == boot_files::sums(slot, &uki, &Sha256::digest(&env).into()).as_bytes())
}
