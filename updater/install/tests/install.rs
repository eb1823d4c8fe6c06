//! A whole installation onto a disk in memory: what is on it then is what a machine starts from; a power cut anywhere leaves the
//! old disk as it was, or one that nothing starts and the installer takes again, or the new one, whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

use berth_apply::cuts::{Fate, Log, Memory, Random, Recorded, Replay};
use berth_apply::fat::Esp;
use berth_apply::{Medium, Part, Window};
use berth_install::{InstallError, Media, NOTE, Order, install};
use berth_updater::boot_files::{self, BootFile};
use berth_updater::gpt::Table;
use berth_updater::guid::Guid;
use berth_updater::layout::{self, Slot};
use berth_updater::medium::{SEED_AT, read_seed};
use berth_updater::record::{REC0_AT, Record};
use berth_updater::verity::{self, BLOCK, RootHash};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

const SEED: &[u8] = b"format = 1\n";

struct World {
    hash: RootHash,
    root: Vec<u8>,
    uki: Vec<u8>,
}

impl World {
    fn new() -> World {
        let root: Vec<u8> = (0..300u32).flat_map(|n| n.to_le_bytes().repeat(BLOCK / 4)).collect();
        let uki: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let hash = verity::build(&mut &root[..], 300, [7; 16], b"salt", &mut Vec::new()).unwrap();
        World { hash, root, uki }
    }

    fn media(&self) -> Media {
        let mut tree = Vec::new();
        verity::build(&mut &self.root[..], 300, [7; 16], b"salt", &mut tree).unwrap();
        Media { root: window(&self.root), verity: window(&tree), uki: self.uki.clone(), env: b"env".to_vec() }
    }

    fn order<'a>(&self, sector_bytes: u32, loaders: &'a Loaders) -> Order<'a> {
        Order {
            root_hash: self.hash,
            sector_bytes,
            disk: Guid::named("test"),
            seed: Some(SEED),
            efi: &loaders.efi,
            bios: (&loaders.boot, &loaders.core),
        }
    }
}

struct Loaders {
    efi: Vec<u8>,
    boot: Vec<u8>,
    core: Vec<u8>,
}

impl Loaders {
    fn new() -> Loaders {
        Loaders { efi: vec![0xef; 70_000], boot: vec![0xb0; 512], core: vec![0xc0; 3000] }
    }
}

fn window(bytes: &[u8]) -> Window {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Window::whole(file).unwrap()
}

/// As a stream and as a file, for what reads such.
fn file_of(disk: &Memory) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(Medium::bytes(disk)).unwrap();
    for (at, bytes) in disk.pages() {
        file.write_all_at(bytes, at).unwrap();
    }
    file
}

fn read(disk: &Memory, at: u64, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    disk.read(at, &mut buffer).unwrap();
    buffer
}

fn is_installed(world: &World, disk: &mut Memory, sector: u32) {
    let mut file = file_of(disk);
    let bytes = file.seek(SeekFrom::End(0)).unwrap();
    let found = Table::read(&mut file, sector, bytes / u64::from(sector)).unwrap();
    assert!(found.primary.is_none() && found.backup.is_none());
    let table = found.table;
    assert_eq!(table.disk, Guid::named("test"));
    let at = |part: layout::Part| {
        let (_, entry) = table.by_label(part.kind, part.label).unwrap();
        (entry.first * u64::from(sector), entry.sectors() * u64::from(sector))
    };
    assert!(at(layout::STATE).0 + at(layout::STATE).1 > bytes - (2 << 20), "the state reaches to the end");
    let (uuid, _) = layout::slot_uuids(&world.hash);
    assert_eq!(table.by_uuid(uuid).unwrap().1.label, "root-a");
    assert!(read(disk, at(Slot::A.root()).0, world.root.len()) == world.root);
    let record = at(layout::RECORD).0;
    assert_eq!(Record::parse(&read(disk, record + REC0_AT, 512)).unwrap(), Record::fresh(Slot::A));
    assert_eq!(read_seed(&file, record + SEED_AT).unwrap().unwrap(), SEED);
    assert_eq!(read(disk, 510, 2), [0x55, 0xaa]);
    assert_eq!(read(disk, 0, 1) == [0xb0], sector == 512);
    if sector == 512 {
        let (start, length) = at(layout::ESP);
        let mut part = Part::new(disk, start, length);
        let mut esp = Esp::open(&mut part, Slot::A).unwrap();
        assert_eq!(esp.whole(BootFile::Uki), Some(world.uki.len() as u64));
        let digest = |bytes: &[u8]| Sha256::digest(bytes).into();
        let sums = boot_files::sums(Slot::A, &digest(&world.uki), &digest(b"env"));
        assert_eq!(esp.read_small(BootFile::Sum).unwrap().unwrap(), sums.as_bytes());
        assert_eq!(esp.read_small(BootFile::Env).unwrap().unwrap(), b"env");
        esp.has_room([60 << 20, 512, 512]).unwrap();
    }
}

#[test]
fn a_disk_of_either_kind_has_all_of_it() {
    let (world, loaders) = (World::new(), Loaders::new());
    for (sector, bytes) in [(512, layout::DISK_BYTES), (512, 3 << 30), (4096, 1 << 30)] {
        let mut disk = Memory::new(bytes);
        let mut last = None;
        install(&mut world.media(), &world.order(sector, &loaders), &mut disk, &mut |now| last = Some(now))
            .unwrap();
        let last = last.unwrap();
        assert_eq!((last.step, last.done), ("reading back", last.total));
        is_installed(&world, &mut disk, sector);
    }
}

#[test]
fn a_cut_leaves_the_old_disk_or_one_to_begin_again_or_the_new_one() {
    let (world, loaders) = (World::new(), Loaders::new());
    let mut before = Memory::new(700 << 20);
    for at in [0, 512, 1 << 20, 300 << 20, (700 << 20) - 512] {
        before.write_at(at, &b"old and dear ".repeat(40)[..512]).unwrap();
    }
    let log = Log::default();
    let mut disk = Recorded::new(before.clone(), 0, &log);
    install(&mut world.media(), &world.order(512, &loaders), &mut disk, &mut |_| ()).unwrap();
    let after = disk.inner.clone();
    let events = log.events();
    let (old, new) = (read(&before, 0, 512), read(&after, 0, 512));
    let mut replay = Replay::new(&events, vec![before.clone()]);
    let mut random = Random::new(9);
    let (mut begun, mut done) = (0, 0);
    loop {
        for fate in Fate::ALL {
            let state = replay.state(fate, &mut random).unwrap().remove(0);
            let first = read(&state, 0, 512);
            if first == old {
                assert!(
                    state.equals(&before).unwrap(),
                    "changed and started all the same, at {}",
                    replay.played()
                );
            } else if first == new {
                assert!(state.equals(&after).unwrap(), "bootable and not whole, at {}", replay.played());
                done += 1;
            } else {
                assert!(first.starts_with(NOTE), "neither old, begun nor new, at {}", replay.played());
                begun += 1;
            }
        }
        if !replay.step().unwrap() {
            break;
        }
    }
    assert!(begun > 100 && done >= Fate::ALL.len(), "{begun} {done}");
}

/// A disk that forgets, or breaks.
struct Sick {
    inner: Memory,
    lies_at: Option<u64>,
    fails_after: usize,
    writes: usize,
}

impl Medium for Sick {
    fn bytes(&self) -> u64 {
        Medium::bytes(&self.inner)
    }
    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(at, buffer)
    }
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.writes += 1;
        if self.writes > self.fails_after {
            return Err(io::Error::other("no such device"));
        }
        self.inner.write_at(at, bytes)?;
        if let Some(place) = self.lies_at.filter(|place| (at..at + bytes.len() as u64).contains(place)) {
            self.inner.write_at(place, &[0x5a])?;
        }
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn forget(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_vanishes_or_forgets_is_named_and_not_bootable() {
    let (world, loaders) = (World::new(), Loaders::new());
    let try_on = |lies_at, fails_after| {
        let mut disk = Sick { inner: Memory::new(layout::DISK_BYTES), lies_at, fails_after, writes: 0 };
        let result = install(&mut world.media(), &world.order(512, &loaders), &mut disk, &mut |_| ());
        let first = read(&disk.inner, 0, 512);
        assert!(first.starts_with(NOTE) || fails_after == 0, "{result:?}");
        result.unwrap_err()
    };
    for writes in [0, 5, 20] {
        assert!(matches!(try_on(None, writes), InstallError::Disk { .. }));
    }
    // In the ESP's files, the record, the root.
    for (at, what) in [(3 << 20, "the ESP"), (162 << 20, "the boot record"), ((163 << 20) + 5000, "the root")]
    {
        let error = try_on(Some(at), usize::MAX);
        assert!(matches!(&error, InstallError::ReadBack(part) if *part == what), "{error}");
    }
}

#[test]
fn a_medium_that_is_damaged_leaves_the_disk_alone_or_unstarted() {
    let (world, loaders) = (World::new(), Loaders::new());
    let mut media = world.media();
    let mut tree = vec![0; 8192];
    media.verity.read_at(0, &mut tree).unwrap();
    tree[5000] ^= 1;
    media.verity = window(&tree);
    let mut disk = Memory::new(layout::DISK_BYTES);
    let result = install(&mut media, &world.order(512, &loaders), &mut disk, &mut |_| ());
    assert!(matches!(result, Err(InstallError::Medium { what: "verity tree", .. })), "{result:?}");
    assert_eq!(disk.pages().count(), 0);

    let mut media = world.media();
    let mut root = world.root.clone();
    root[200 * BLOCK] ^= 1;
    media.root = window(&root);
    let result = install(&mut media, &world.order(512, &loaders), &mut disk, &mut |_| ());
    assert!(
        matches!(&result, Err(InstallError::Medium { why, .. }) if why.contains("block 200")),
        "{result:?}"
    );
    assert!(read(&disk, 0, 512).starts_with(NOTE));
    let small =
        install(&mut world.media(), &world.order(512, &loaders), &mut Memory::new(1 << 20), &mut |_| ());
    assert!(matches!(small, Err(InstallError::Small { .. })));
}
