//! The steps of [`crate::apply`].

use crate::apply::{Progress, SlotMedia, Step};
use crate::error::ApplyError;
use crate::fat::Esp;
use crate::limits;
use crate::medium::Medium;
use crate::notes::Notes;
use crate::tree::{Tree, TreeError};
use berth_tuf::fetch::Fetch;
use berth_tuf::release::Offer;
use berth_tuf::target::{Checker, Target};
use berth_updater::boot_files::{self, BootFile};
use berth_updater::layout::Slot;
use berth_updater::uki::{self, HEAD_BYTES};
use berth_updater::verity::{BLOCK, Superblock};
use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// Names of partitions, as the partition table and every message have them.
pub(crate) mod place {
    use super::Slot;

    /// A slot's root.
    pub(crate) fn root(slot: Slot) -> String {
        format!("partition {}", slot.root().label)
    }

    /// A slot's verity tree.
    pub(crate) fn verity(slot: Slot) -> String {
        format!("partition {}", slot.verity().label)
    }

    /// The ESP.
    pub(crate) fn esp() -> String {
        "the ESP".to_owned()
    }
}

const TREE: &str = "verity tree";
const ROOT: &str = "root";
const UKI: &str = "UKI";

/// Bytes of the root that were written.
#[derive(Default)]
struct Writes {
    all: u64,
    /// Since the last sync.
    unsynced: u64,
}

/// One run of the procedure.
pub(crate) struct Run<'a> {
    offer: &'a Offer,
    fetch: &'a mut dyn Fetch,
    notes: Notes,
    progress: &'a mut dyn FnMut(Progress),
    /// Bytes that were fetched.
    pub(crate) fetched: u64,
    /// Bytes that were there and right.
    pub(crate) found: u64,
}

fn medium(place: String, what: &'static str) -> impl FnOnce(io::Error) -> ApplyError {
    move |source| ApplyError::Medium { place, what, source }
}

/// Fetches from the server, or says which part it was.
fn open<'f>(
    fetch: &'f mut dyn Fetch,
    part: &'static str,
    target: &Target,
    from: u64,
) -> Result<Box<dyn Read + 'f>, ApplyError> {
    let failed = |why: String| ApplyError::Fetch { part, why };
    let path = target.path().map_err(|error| failed(error.to_string()))?;
    let file = fetch.target(&path, from, target.length - from);
    file.map_err(|error| failed(format!("{path}: {error}")))
}

/// Fills the buffer from a download of `length` bytes that stands at `at`; how much that was.
fn fill(
    reader: &mut dyn Read,
    part: &'static str,
    buffer: &mut [u8],
    at: u64,
    length: u64,
) -> Result<u64, ApplyError> {
    let mut done = 0;
    while done < buffer.len() {
        let failed = |why: String| ApplyError::Fetch { part, why };
        match reader.read(&mut buffer[done..]) {
            Ok(0) => {
                let end = at + done as u64;
                return Err(failed(format!("it ended at byte {end} of {length}")));
            }
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    Ok(done as u64)
}

/// One block of the root, right; else an error.
fn fetch_block(
    reader: &mut dyn Read,
    to: &mut SlotMedia<'_>,
    tree: &mut Tree,
    index: u64,
    block: &mut [u8],
    length: u64,
) -> Result<(), ApplyError> {
    let at = index * BLOCK as u64;
    fill(reader, ROOT, block, at, length)?;
    if tree.is_right(to.verity, index, block).map_err(of_tree(to.slot))? {
        return Ok(());
    }
    Err(ApplyError::Content { part: ROOT, why: format!("its bytes from {at} on differ") })
}

/// Pieces of so many bytes: where each starts, and its length.
fn pieces(from: u64, length: u64, bytes: usize) -> impl Iterator<Item = (u64, usize)> {
    (from..length).step_by(bytes).map(move |at| {
        let rest = usize::try_from(length - at).unwrap_or(usize::MAX);
        (at, rest.min(bytes))
    })
}

/// Some blocks of the root as they are on the medium, and which of them are right.
struct Piece {
    first: u64,
    data: Vec<u8>,
    right: Vec<bool>,
}

impl Piece {
    /// Those from `first` on that one block of the tree sums.
    fn read(
        root: &mut dyn Medium,
        verity: &mut dyn Medium,
        tree: &mut Tree,
        first: u64,
        slot: Slot,
    ) -> Result<Piece, ApplyError> {
        let blocks = tree.superblock().data_blocks;
        let end = ((first / limits::ROOT_BLOCKS + 1) * limits::ROOT_BLOCKS).min(blocks);
        let count = usize::try_from(end - first).unwrap_or_default();
        let mut data = vec![0; count * BLOCK];
        root.read_at(first * BLOCK as u64, &mut data).map_err(medium(place::root(slot), "read"))?;
        let mut right = Vec::with_capacity(count);
        for (index, block) in (first..).zip(data.chunks_exact(BLOCK)) {
            right.push(tree.is_right(verity, index, block).map_err(of_tree(slot))?);
        }
        Ok(Piece { first, data, right })
    }

    fn end(&self) -> u64 {
        self.first + self.right.len() as u64
    }
}

/// A tree that was right a moment ago.
fn of_tree(slot: Slot) -> impl FnOnce(TreeError) -> ApplyError {
    move |error| match error {
        TreeError::Io(error) => medium(place::verity(slot), "read")(error),
        error => ApplyError::ReadBack { place: place::verity(slot), why: error.to_string() },
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        offer: &'a Offer,
        fetch: &'a mut dyn Fetch,
        notes: Notes,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Run<'a> {
        Run { offer, fetch, notes, progress, fetched: 0, found: 0 }
    }

    fn say(&mut self, step: Step, done: u64, total: u64) {
        (self.progress)(Progress { step, done, total, fetched: self.fetched });
    }

    fn unusable(&self, why: impl ToString) -> ApplyError {
        ApplyError::Release { version: self.offer.release.version.clone(), why: why.to_string() }
    }

    /// Whether the slot's sums are those of this release's UKI: only then can it be there already.
    pub(crate) fn claims(&self, to: &mut SlotMedia<'_>) -> Result<bool, ApplyError> {
        let Some(hash) = self.offer.uki.hashes.sha256 else { return Ok(false) };
        let text = Esp::open(to.esp, to.slot)?.read_small(BootFile::Sum)?;
        let line = boot_files::sums(to.slot, &hash, &[0; 32]);
        let first = line.lines().next().map(str::as_bytes);
        Ok(text.is_some_and(|text| text.split(|byte| *byte == b'\n').next() == first))
    }

    /// Step 3. What is there is kept if it is the signed one.
    pub(crate) fn tree(&mut self, to: &mut SlotMedia<'_>) -> Result<(), ApplyError> {
        let target = &self.offer.verity;
        let mut checker = Checker::new(&target.hashes);
        let mut buffer = vec![0; limits::PIECE_BYTES];
        for (at, length) in pieces(0, target.length, buffer.len()) {
            let read = to.verity.read_at(at, &mut buffer[..length]);
            read.map_err(medium(place::verity(to.slot), "read"))?;
            checker.update(&buffer[..length]);
        }
        if checker.finish(Some(target.length), &target.hashes).is_ok() {
            self.found += target.length;
        } else {
            self.fetch_tree(to, &mut buffer)?;
        }
        let whole = self.whole_tree(to)?;
        whole.map(drop).map_err(|why| self.unusable(why))
    }

    fn fetch_tree(&mut self, to: &mut SlotMedia<'_>, buffer: &mut [u8]) -> Result<(), ApplyError> {
        let target = &self.offer.verity;
        let mut checker = Checker::new(&target.hashes);
        let mut reader = open(self.fetch, TREE, target, 0)?;
        let content = |why: String| ApplyError::Content { part: TREE, why };
        let mut unsynced = 0;
        for (at, length) in pieces(0, target.length, buffer.len()) {
            let piece = &mut buffer[..length];
            self.fetched += fill(&mut *reader, TREE, piece, at, target.length)?;
            checker.update(piece);
            if at == 0 {
                // Not one byte of what has nothing to do with this release.
                let superblock = Superblock::parse(piece).map_err(|error| content(error.to_string()))?;
                let single = superblock.data_blocks == 1;
                let top = piece.get(BLOCK..2 * BLOCK).unwrap_or_default();
                if !single && !superblock.matches(top, &self.offer.release.root_hash) {
                    return Err(content("its top has another hash".to_owned()));
                }
            }
            to.verity.write_at(at, piece).map_err(medium(place::verity(to.slot), "written"))?;
            unsynced += length as u64;
            if unsynced >= limits::SYNC_BYTES {
                to.verity.flush().map_err(medium(place::verity(to.slot), "synced"))?;
                unsynced = 0;
            }
            let (done, fetched) = (at + length as u64, self.fetched);
            (self.progress)(Progress { step: Step::Tree, done, total: target.length, fetched });
        }
        to.verity.flush().map_err(medium(place::verity(to.slot), "synced"))?;
        checker.finish(Some(target.length), &target.hashes).map_err(content)
    }

    /// The tree of the slot, every block of every level checked; else what is wrong with it.
    fn whole_tree(&self, to: &mut SlotMedia<'_>) -> Result<Result<Tree, String>, ApplyError> {
        let checked = Tree::open(to.verity, &self.offer.release.root_hash).and_then(|mut tree| {
            tree.check(to.verity)?;
            Ok(tree)
        });
        match checked {
            Ok(tree) if tree.superblock().data_blocks * BLOCK as u64 != self.offer.root.length => {
                Ok(Err("its verity tree is of a root of another size".to_owned()))
            }
            Ok(tree) => Ok(Ok(tree)),
            Err(TreeError::Io(error)) => Err(medium(place::verity(to.slot), "read")(error)),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Step 4. One pass over the root; a download begins at each block that is wrong, and ends where enough are right.
    pub(crate) fn root(&mut self, to: &mut SlotMedia<'_>) -> Result<(), ApplyError> {
        let mut tree = self.whole_tree(to)?.map_err(|why| self.unusable(why))?;
        let blocks = tree.superblock().data_blocks;
        let mut next = 0;
        let mut writes = Writes::default();
        while next < blocks {
            let piece = Piece::read(to.root, to.verity, &mut tree, next, to.slot)?;
            next += piece.right.iter().take_while(|right| **right).count() as u64;
            self.say(Step::Root, next * BLOCK as u64, self.offer.root.length);
            if next < piece.end() {
                drop(piece);
                next = self.fetch_root(to, &mut tree, next, &mut writes)?;
            }
        }
        self.found += self.offer.root.length - writes.all;
        to.root.flush().map_err(medium(place::root(to.slot), "synced"))
    }

    /// From block `from` on, which is wrong; where it ended.
    fn fetch_root(
        &mut self,
        to: &mut SlotMedia<'_>,
        tree: &mut Tree,
        from: u64,
        writes: &mut Writes,
    ) -> Result<u64, ApplyError> {
        let target = &self.offer.root;
        let blocks = tree.superblock().data_blocks;
        let mut reader = open(self.fetch, ROOT, target, from * BLOCK as u64)?;
        // Where the download stands, and which block comes next: those between are right.
        let (mut stands, mut next) = (from, from);
        while next < blocks {
            let mut piece = Piece::read(to.root, to.verity, tree, next, to.slot)?;
            let runs: Vec<(usize, usize)> = wrong_runs(&piece.right);
            for (start, end) in runs {
                let first = piece.first + start as u64;
                if first - stands >= limits::GAP_BLOCKS {
                    return Ok(first);
                }
                let mut passed = [0; BLOCK];
                for index in stands..first {
                    self.fetched +=
                        fill(&mut *reader, ROOT, &mut passed, index * BLOCK as u64, target.length)?;
                }
                let run = &mut piece.data[start * BLOCK..end * BLOCK];
                let mut right = 0;
                let mut fetched = Ok(());
                for (index, block) in (first..).zip(run.chunks_mut(BLOCK)) {
                    fetched = fetch_block(&mut *reader, to, tree, index, block, target.length);
                    if fetched.is_err() {
                        break;
                    }
                    self.fetched += BLOCK as u64;
                    right += BLOCK;
                }
                stands = piece.first + end as u64;
                // Also what came before a line broke: the next try goes on behind it.
                let run = &run[..right];
                let write = to.root.write_at(first * BLOCK as u64, run);
                write.map_err(medium(place::root(to.slot), "written"))?;
                fetched?;
                writes.all += run.len() as u64;
                writes.unsynced += run.len() as u64;
                if writes.unsynced >= limits::SYNC_BYTES {
                    to.root.flush().map_err(medium(place::root(to.slot), "synced"))?;
                    writes.unsynced = 0;
                }
            }
            next = piece.end();
            let (done, fetched) = (next * BLOCK as u64, self.fetched);
            (self.progress)(Progress { step: Step::Root, done, total: target.length, fetched });
            if next - stands >= limits::GAP_BLOCKS {
                break;
            }
        }
        Ok(next)
    }

    /// Step 5. A beginning that a note speaks of is hashed and kept; if that turns out wrong, all is fetched again.
    pub(crate) fn uki(&mut self, to: &mut SlotMedia<'_>) -> Result<(), ApplyError> {
        let target = &self.offer.uki;
        let mut esp = Esp::open(to.esp, to.slot)?;
        let hash = target.hashes.sha256.map(|hash| berth_tuf::hex(&hash)).unwrap_or_default();
        let kept = if esp.is_shaped(BootFile::Uki, target.length) { self.notes.read(&hash) } else { 0 };
        esp.shape(BootFile::Uki, target.length, b"")?;
        let mut from = kept.min(target.length);
        loop {
            match self.uki_from(&mut esp, &hash, from)? {
                Ok(()) => {
                    self.found += from;
                    return Ok(());
                }
                Err(_) if from > 0 => from = 0,
                Err(why) => {
                    self.notes.forget();
                    return Err(ApplyError::Content { part: UKI, why });
                }
            }
        }
    }

    /// Keeps the first bytes, fetches the rest; whether all of it is what was signed.
    fn uki_from(
        &mut self,
        esp: &mut Esp<'_>,
        hash: &str,
        from: u64,
    ) -> Result<Result<(), String>, ApplyError> {
        let target = &self.offer.uki;
        let mut checker = Checker::new(&target.hashes);
        let mut buffer = vec![0; limits::PIECE_BYTES];
        for (at, length) in pieces(0, from, buffer.len()) {
            esp.read(BootFile::Uki, at, &mut buffer[..length])?;
            checker.update(&buffer[..length]);
        }
        if from < target.length {
            let mut reader = open(self.fetch, UKI, target, from)?;
            let mut noted = from;
            for (at, length) in pieces(from, target.length, buffer.len()) {
                let piece = &mut buffer[..length];
                let filled = fill(&mut *reader, UKI, piece, at, target.length);
                if filled.is_err() && at > noted {
                    esp.flush()?;
                    self.notes.keep(hash, at);
                }
                self.fetched += filled?;
                checker.update(piece);
                esp.write(BootFile::Uki, at, piece)?;
                let done = at + length as u64;
                if done - noted >= limits::NOTE_EVERY || done == target.length {
                    esp.flush()?;
                    self.notes.keep(hash, done);
                    noted = done;
                }
                let fetched = self.fetched;
                (self.progress)(Progress { step: Step::Uki, done, total: target.length, fetched });
            }
        }
        Ok(checker.finish(Some(target.length), &target.hashes))
    }

    /// Step 6; gives the sums that the slot is to get.
    pub(crate) fn env(&mut self, to: &mut SlotMedia<'_>, no_sums: &str) -> Result<String, ApplyError> {
        let mut esp = Esp::open(to.esp, to.slot)?;
        let env = self.env_of(&mut esp)?.map_err(|why| self.unusable(why))?;
        let uki = hash_of(&mut esp, BootFile::Uki, self.offer.uki.length)?;
        esp.shape(BootFile::Env, env.len() as u64, b"")?;
        esp.write(BootFile::Env, 0, env.as_bytes())?;
        esp.shape(BootFile::Sum, no_sums.len() as u64, no_sums.as_bytes())?;
        // A file of sums that was shorter before shows more of its cluster now.
        esp.void(no_sums)?;
        esp.finish()?;
        Ok(boot_files::sums(to.slot, &uki, &Sha256::digest(env.as_bytes()).into()))
    }

    /// The environment block of the UKI on the ESP; else what is wrong with that.
    fn env_of(&self, esp: &mut Esp<'_>) -> Result<Result<String, String>, ApplyError> {
        let length = self.offer.uki.length;
        let read = |esp: &mut Esp<'_>, at: u64, bytes: u64| {
            let mut buffer = vec![0; usize::try_from(bytes).unwrap_or_default()];
            esp.read(BootFile::Uki, at, &mut buffer).map(|()| buffer)
        };
        let head = read(esp, 0, length.min(HEAD_BYTES as u64))?;
        let sections = match uki::sections(&head, length) {
            Ok(sections) => sections,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let found = uki::find(&sections, ".cmdline");
        let part = match found {
            Ok(part) if part.bytes <= uki::CMDLINE_BYTES => part,
            Ok(_) => return Ok(Err("the UKI's command line is too long".to_owned())),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let text = read(esp, part.at, part.bytes)?;
        let env = || -> Result<String, String> {
            let text = uki::cmdline(&text).map_err(|error| error.to_string())?;
            if uki::root_hash(text) != Some(self.offer.release.root_hash) {
                return Err("the UKI's command line does not name this release's root hash".to_owned());
            }
            uki::env(&sections, text).map_err(|error| error.to_string())
        };
        Ok(env())
    }

    /// Step 7.
    pub(crate) fn read_back(&mut self, to: &mut SlotMedia<'_>) -> Result<(), ApplyError> {
        let slot = to.slot;
        for (medium, place) in [
            (&mut *to.verity, place::verity(slot)),
            (&mut *to.root, place::root(slot)),
            (&mut *to.esp, place::esp()),
        ] {
            medium.flush().map_err(self::medium(place.clone(), "synced"))?;
            medium.forget().map_err(self::medium(place, "read anew"))?;
        }
        self.check_data(to)?;
        let mut esp = Esp::open(to.esp, to.slot)?;
        self.check_files(&mut esp).map(drop)
    }

    /// All of the slot, its sums included.
    pub(crate) fn check(&mut self, of: &mut SlotMedia<'_>) -> Result<(), ApplyError> {
        self.check_data(of)?;
        let mut esp = Esp::open(of.esp, of.slot)?;
        let sums = self.check_files(&mut esp)?;
        check_sums(&mut esp, of.slot, &sums)
    }

    /// Tree and root.
    fn check_data(&mut self, of: &mut SlotMedia<'_>) -> Result<(), ApplyError> {
        let total = self.offer.root.length + self.offer.uki.length;
        let mut tree = self
            .whole_tree(of)?
            .map_err(|why| ApplyError::ReadBack { place: place::verity(of.slot), why })?;
        let mut next = 0;
        while next < tree.superblock().data_blocks {
            let piece = Piece::read(of.root, of.verity, &mut tree, next, of.slot)?;
            if let Some((start, _)) = wrong_runs(&piece.right).first() {
                let at = (piece.first + *start as u64) * BLOCK as u64;
                let why = format!("its bytes from {at} on differ");
                return Err(ApplyError::ReadBack { place: place::root(of.slot), why });
            }
            next = piece.end();
            self.say(Step::Check, next * BLOCK as u64, total);
        }
        Ok(())
    }

    /// UKI and environment block; gives the sums that go with them.
    fn check_files(&mut self, esp: &mut Esp<'_>) -> Result<String, ApplyError> {
        let differs = |file: BootFile, slot: Slot, why: &str| ApplyError::ReadBack {
            place: format!("{} on the ESP", file.path(slot)),
            why: why.to_owned(),
        };
        let (slot, target) = (esp.slot(), &self.offer.uki);
        if !esp.is_shaped(BootFile::Uki, target.length) {
            return Err(differs(BootFile::Uki, slot, "it has another size"));
        }
        let mut checker = Checker::new(&target.hashes);
        let mut sha256 = Sha256::new();
        let mut buffer = vec![0; limits::PIECE_BYTES];
        for (at, length) in pieces(0, target.length, buffer.len()) {
            esp.read(BootFile::Uki, at, &mut buffer[..length])?;
            checker.update(&buffer[..length]);
            sha256.update(&buffer[..length]);
        }
        let verdict = checker.finish(Some(target.length), &target.hashes);
        verdict.map_err(|why| differs(BootFile::Uki, slot, &why))?;
        let total = self.offer.root.length + target.length;
        self.say(Step::Check, total, total);
        let env = self.env_of(esp)?.map_err(|why| self.unusable(why))?;
        if esp.read_small(BootFile::Env)?.as_deref() != Some(env.as_bytes()) {
            return Err(differs(BootFile::Env, slot, "it is not what the UKI says"));
        }
        Ok(boot_files::sums(slot, &sha256.finalize().into(), &Sha256::digest(env.as_bytes()).into()))
    }

    /// Step 8.
    pub(crate) fn sums(&mut self, to: &mut SlotMedia<'_>, sums: &str) -> Result<(), ApplyError> {
        let mut esp = Esp::open(to.esp, to.slot)?;
        esp.write_start(BootFile::Sum, sums.as_bytes())?;
        drop(esp);
        to.esp.forget().map_err(medium(place::esp(), "read anew"))?;
        let mut esp = Esp::open(to.esp, to.slot)?;
        check_sums(&mut esp, to.slot, sums)
    }
}

fn check_sums(esp: &mut Esp<'_>, slot: Slot, sums: &str) -> Result<(), ApplyError> {
    if esp.read_small(BootFile::Sum)?.as_deref() == Some(sums.as_bytes()) {
        return Ok(());
    }
    let place = format!("{} on the ESP", BootFile::Sum.path(slot));
    Err(ApplyError::ReadBack { place, why: "its sums are others".to_owned() })
}

/// SHA-256 of a file of the ESP.
pub(crate) fn hash_of(esp: &mut Esp<'_>, file: BootFile, length: u64) -> Result<[u8; 32], ApplyError> {
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; limits::PIECE_BYTES];
    for (at, length) in pieces(0, length, buffer.len()) {
        esp.read(file, at, &mut buffer[..length])?;
        sha256.update(&buffer[..length]);
    }
    Ok(sha256.finalize().into())
}

/// Neighbouring blocks that are wrong: first and the one behind the last.
fn wrong_runs(right: &[bool]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, _) in right.iter().enumerate().filter(|(_, right)| !**right) {
        match runs.last_mut() {
            Some((_, end)) if *end == index => *end += 1,
            _ => runs.push((index, index + 1)),
        }
    }
    runs
}
