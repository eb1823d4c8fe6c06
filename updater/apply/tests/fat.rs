//! The ESP's writer on file systems in any state: its own files are right afterwards, everybody else's as they were.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers fail by panicking"
)]

mod support;

use berth_apply::Medium;
use berth_apply::cuts::{Log, Memory, Random, Recorded};
use berth_apply::fat::{Esp, EspError};
use berth_updater::boot_files::BootFile;
use berth_updater::layout::Slot;
use proptest::prelude::*;
use support::fat::{BYTES, Builder, CLUSTERS, Seen, at, entry, set_entry};

/// Folders, other people's files, slot A, and slot B with files of these sizes.
fn esp(seed: u64, b: &[usize]) -> Memory {
    let mut builder = Builder::new(seed);
    let efi = builder.folder(2, "EFI");
    let boot = builder.folder(efi, "BOOT");
    builder.file(boot, "BOOTX64.EFI", &b"grub ".repeat(700));
    builder.file(2, "NOTES.TXT", b"of somebody");
    let berth = builder.folder(efi, "BERTH");
    for name in ["a.efi", "a.env", "a.sum"] {
        builder.file(berth, name, &name.as_bytes().repeat(300));
    }
    for (name, bytes) in ["b.efi", "b.env", "b.sum"].into_iter().zip(b) {
        builder.file(berth, name, &vec![b'o'; *bytes]);
    }
    builder.disk
}

fn others(seen: &Seen) -> Vec<(&String, &Option<Vec<u8>>)> {
    seen.files.iter().filter(|(path, _)| !path.starts_with("efi/berth/b.")).collect()
}

/// Writes three files of these sizes, as a run does.
fn write(disk: &mut dyn Medium, sizes: [u64; 3], fill: u8) -> Result<(), EspError> {
    let mut esp = Esp::open(disk, Slot::B)?;
    esp.has_room(sizes)?;
    esp.void("nothing")?;
    for (file, bytes) in BootFile::ALL.into_iter().zip(sizes) {
        esp.shape(file, bytes, b"nothing")?;
        esp.write(file, 0, &vec![fill; usize::try_from(bytes).unwrap()])?;
    }
    esp.finish()
}

fn wrote(seen: &Seen, sizes: [u64; 3], fill: u8) {
    for (name, bytes) in ["b.efi", "b.env", "b.sum"].into_iter().zip(sizes) {
        let content = seen.files[&format!("efi/berth/{name}")].as_ref().expect(name);
        assert!(*content == vec![fill; usize::try_from(bytes).unwrap()], "{name}");
    }
}

/// Where the entries of slot B's files are, and their clusters.
fn entries(disk: &Memory) -> Vec<(u64, Vec<u32>)> {
    let mut found = Vec::new();
    for cluster in 2..CLUSTERS.min(5000) {
        let sector = support::bytes(disk, at(cluster), 512);
        for (index, entry) in sector.chunks(32).enumerate() {
            if entry.starts_with(b"B       ") && entry[11] == 0x20 {
                let half = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
                let mut chain = vec![half(20) << 16 | half(26)];
                while let next @ 2..0x0fff_fff0 = entry_of(disk, *chain.last().unwrap()) {
                    chain.push(next);
                }
                found.push((at(cluster) + index as u64 * 32, chain));
            }
        }
    }
    found
}

fn entry_of(disk: &Memory, cluster: u32) -> u32 {
    entry(disk, 0, cluster)
}

/// Damages slot B's files in one of many ways.
fn damage(disk: &mut Memory, files: &[(u64, Vec<u32>)], random: &mut Random) {
    let (place, chain) = &files[usize::try_from(random.below(3)).unwrap()];
    let (place, first) = (*place, chain[0]);
    let any = chain[usize::try_from(random.below(chain.len() as u64)).unwrap()];
    // The root folder, a file of somebody else, a free cluster, none at all.
    let elsewhere = [2, 3, first, CLUSTERS, CLUSTERS + 2, 0x0fff_fff7, 0, 1];
    let other = elsewhere[usize::try_from(random.below(8)).unwrap()];
    match random.below(5) {
        0 => set_entry(disk, any, other),
        1 => {
            let entry = [other.to_le_bytes()[..2].to_vec(), other.to_le_bytes()[2..].to_vec()];
            disk.write_at(place + 26, &entry[0]).unwrap();
            disk.write_at(place + 20, &entry[1]).unwrap();
        }
        2 => disk.write_at(place + 28, &u32::try_from(random.below(1 << 20)).unwrap().to_le_bytes()).unwrap(),
        3 => disk.write_at(place, &[0xe5]).unwrap(),
        // One copy of the FAT.
        _ => disk.write_at(32 * 512 + u64::from(any) * 4, &other.to_le_bytes()).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_grow_and_shrink_and_nothing_else_changes(
        seed in any::<u64>(),
        before in prop_oneof![Just(vec![]), prop::collection::vec(0usize..40_000, 3)],
        rounds in prop::collection::vec([1u64..60_000, 1..3000, 1..600], 1..4),
    ) {
        let mut disk = esp(seed, &before);
        let start = Seen::of(&disk);
        prop_assert!(start.complaints.is_empty());
        for (round, sizes) in rounds.into_iter().enumerate() {
            let fill = b'a' + u8::try_from(round).unwrap();
            write(&mut disk, sizes, fill).unwrap();
            let seen = Seen::of(&disk);
            prop_assert!(seen.complaints.is_empty(), "{:?}", seen.complaints);
            prop_assert_eq!(others(&seen), others(&start));
            wrote(&seen, sizes, fill);
        }
    }

    #[test]
    fn damaged_files_are_written_anew_and_harm_nobody(
        seed in any::<u64>(),
        before in prop::collection::vec(1usize..30_000, 3),
        sizes in [1u64..60_000, 1..3000, 1..600],
        blows in 1..4,
    ) {
        let mut disk = esp(seed, &before);
        let start = Seen::of(&disk);
        let mut random = Random::new(seed);
        let files = entries(&disk);
        (0..blows).for_each(|_| damage(&mut disk, &files, &mut random));
        let damaged = Seen::of(&disk);
        write(&mut disk, sizes, b'n').unwrap();
        let seen = Seen::of(&disk);
        prop_assert_eq!(others(&seen), others(&start));
        wrote(&seen, sizes, b'n');
        // What nobody owned before is left to a checker; nothing is added.
        let lost = |seen: &Seen| seen.complaints.iter().filter(|what| what.ends_with("is lost")).count();
        prop_assert_eq!(seen.complaints.len(), lost(&seen), "{:?}", seen.complaints);
        prop_assert!(lost(&seen) <= lost(&damaged).max(before.iter().map(|bytes| bytes.div_ceil(512)).sum()));
    }
}

#[test]
fn a_full_disk_is_said_before_a_byte_is_written() {
    let mut disk = esp(1, &[5000, 1024, 166]);
    // All that is free but three clusters is somebody's.
    let free: Vec<u32> = (2..CLUSTERS + 2).filter(|cluster| entry(&disk, 0, *cluster) == 0).collect();
    free.iter().skip(3).for_each(|cluster| set_entry(&mut disk, *cluster, 0x0fff_ffff));
    let log = Log::default();
    let mut recorded = Recorded::new(disk, 0, &log);
    // 10, 2 and 1 clusters are there, and 3 are free.
    let error = write(&mut recorded, [13 * 512, 1025, 166], b'n').unwrap_err();
    assert_eq!(
        error.to_string(),
        "the ESP has room for 8192 bytes of slot b, and the release needs 8704; remove from it what is not Berth's, or \
         install the disk anew"
    );
    assert!(log.events().is_empty());
    write(&mut recorded, [13 * 512, 1024, 166], b'n').unwrap();
    wrote(&Seen::of(&recorded.inner), [13 * 512, 1024, 166], b'n');
}

#[test]
fn what_is_no_fat32_of_ours_is_refused_with_the_way_out() {
    let good = esp(1, &[5000, 1024, 166]);
    let refused = |change: &dyn Fn(&mut Memory)| {
        let mut disk = good.clone();
        change(&mut disk);
        let log = Log::default();
        let error = write(&mut Recorded::new(disk, 0, &log), [600, 600, 166], b'n').unwrap_err();
        assert!(log.events().is_empty());
        error.to_string()
    };
    for (at, value, why) in [
        (510, 0u8, "no signature"),
        (12, 4, "sectors do not have 512 bytes"),
        (13, 3, "impossible sizes"),
        (13, 2, "too few clusters"),
        (16, 0, "impossible sizes"),
        (17, 2, "another FAT"),
        (35, 1, "longer than its partition"),
        (36, 0, "longer than 1 MiB, or too short"),
        (40, 0x80, "do not mirror"),
        (44, 0, "no root folder"),
    ] {
        let error = refused(&|disk| disk.write_at(at, &[value]).unwrap());
        assert!(error.contains(why) && error.contains("installed anew"), "byte {at}: {error}");
    }
    let error = refused(&|disk| *disk = Memory::new(BYTES));
    assert!(error.contains("no signature"), "{error}");
    // The folder is gone: no file system that an installation made.
    let error = refused(&|disk| {
        let folder = (2..5000).find(|cluster| {
            support::bytes(disk, at(*cluster) + 64, 5) == b"BERTH"
                || support::bytes(disk, at(*cluster) + 96, 5) == b"BERTH"
        });
        let place = at(folder.unwrap());
        let index = (0..16).find(|index| support::bytes(disk, place + index * 32, 5) == b"BERTH").unwrap();
        disk.write_at(place + index * 32, &[0xe5]).unwrap();
    });
    assert!(error.contains("no folder EFI/berth; run fsck.fat"), "{error}");
}
