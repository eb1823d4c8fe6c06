use super::*;
use crate::samples::{CONFIG, long_config, sample};
use proptest::prelude::*;

const ALL: [&str; 5] = ["fat12.img", "fat16.img", "fat32.img", "big-sectors.img", "mtools.img"];

/// Labels and `user-data` of a volume.
fn read(bytes: &[u8]) -> Result<(Vec<String>, Option<String>), DiskError> {
    let disk = Disk::from_bytes(bytes);
    let fat = Fat::open(&disk)?.ok_or(DiskError::Unusable("not FAT".to_owned()))?;
    let file = fat.find("user-data")?;
    let text = file.map(|f| fat.read(&f, limits::ENCODED_BYTES)).transpose()?;
    Ok((fat.labels()?, text.map(|t| String::from_utf8(t).unwrap())))
}

#[test]
fn volumes_of_other_programs_are_read() {
    for name in ALL {
        let (labels, text) = read(&sample(name)).unwrap();
        assert!(
            labels.iter().all(|l| l.eq_ignore_ascii_case("cidata")) && !labels.is_empty(),
            "{name} {labels:?}"
        );
        let expected = if name == "mtools.img" { CONFIG.to_owned() } else { long_config() };
        assert_eq!(text, Some(expected), "{name}");
    }
    assert_eq!(read(&sample("empty.img")).unwrap().1, None);
    assert_eq!(read(&sample("other.img")).unwrap().0, ["DATA", "DATA"]);
}

#[test]
fn each_width_is_told_by_its_size() {
    for (name, width) in
        [("fat12.img", Width::Twelve), ("fat16.img", Width::Sixteen), ("fat32.img", Width::ThirtyTwo)]
    {
        let bytes = sample(name);
        let disk = Disk::from_bytes(&bytes);
        assert_eq!(Fat::open(&disk).unwrap().unwrap().width, width);
    }
}

/// The sample with its label in only one of the two places.
fn with_one_label(name: &str, keep_boot: bool) -> Vec<u8> {
    let mut bytes = sample(name);
    let at = if name == "fat32.img" { 71 } else { 43 };
    let root =
        bytes.windows(12).skip(512).position(|w| w[..11].eq_ignore_ascii_case(b"CIDATA     ") && w[11] == 8);
    let root = root.unwrap() + 512;
    if keep_boot {
        bytes[root] = 0xe5;
    } else {
        bytes[at..at + 11].copy_from_slice(b"NO NAME    ");
    }
    bytes
}

#[test]
fn a_label_may_be_in_one_place_only() {
    for name in ["fat12.img", "fat16.img", "fat32.img"] {
        for keep_boot in [true, false] {
            let (labels, text) = read(&with_one_label(name, keep_boot)).unwrap();
            assert_eq!(labels.len(), 1, "{name} {keep_boot}");
            assert!(labels[0].eq_ignore_ascii_case("cidata"));
            assert!(text.is_some());
        }
    }
}

#[test]
fn a_small_volume_without_the_short_table_size_is_fat32() {
    // The FAT32 sample, claiming to be small: what Linux reads as FAT32 all the same.
    let mut bytes = sample("fat32.img");
    bytes[32..36].copy_from_slice(&3000_u32.to_le_bytes());
    assert_eq!(read(&bytes).unwrap().1, Some(long_config()));
}

/// Where the allocation table's entry of user-data's first cluster is, in the FAT16 sample.
fn first_entry(bytes: &[u8]) -> usize {
    let disk = Disk::from_bytes(bytes);
    let fat = Fat::open(&disk).unwrap().unwrap();
    let first = fat.find("user-data").unwrap().unwrap().first;
    usize::try_from(fat.fat_at).unwrap() + 2 * usize::try_from(first).unwrap()
}

#[test]
fn loops_and_ways_to_nowhere_are_found() {
    let sound = sample("fat16.img");
    let at = first_entry(&sound);
    let number = u16::try_from((at - usize::from(u16_at(&sound, 14)) * 512) / 2).unwrap();
    for (entry, why) in [
        (number, "twice"),
        (0, "end after"),
        (1, "does not exist"),
        (0xfff0, "does not exist"),
        (0xfff7, "bad cluster"),
        (0xffff, "end after"),
    ] {
        let mut bytes = sound.clone();
        bytes[at..at + 2].copy_from_slice(&entry.to_le_bytes());
        let error = read(&bytes).unwrap_err().to_string();
        // Entry 0 means free, 1 is reserved: neither continues a file.
        assert!(error.contains(why) || entry == 0 && error.contains("does not exist"), "{entry:x}: {error}");
    }
}

#[test]
fn a_root_folder_that_is_a_loop_is_found() {
    let mut bytes = sample("fat32.img");
    let fat_at = usize::from(u16_at(&bytes, 14)) * 512;
    let root = usize::try_from(u32_at(&bytes, 44)).unwrap();
    bytes[fat_at + 4 * root..][..4].copy_from_slice(&u32::try_from(root).unwrap().to_le_bytes());
    let disk = Disk::from_bytes(&bytes);
    let fat = Fat::open(&disk).unwrap().unwrap();
    assert!(fat.find("user-data").unwrap_err().to_string().contains("twice"));
    // Its label is still known from the boot sector, so the damage is told.
    assert_eq!(fat.labels().unwrap().len(), 1);
}

#[test]
fn a_torn_volume_is_said_to_be_short() {
    let bytes = sample("fat12.img");
    for len in [600, 3000, 5000] {
        let error = read(&bytes[..len]).unwrap_err().to_string();
        assert!(error.contains("cut short"), "{len}: {error}");
    }
}

#[test]
fn a_file_larger_than_a_config_is_refused_unread() {
    let mut bytes = sample("mtools.img");
    let at = bytes
        .windows(11)
        .position(|w| w == b"USER-D~1   ")
        .unwrap_or_else(|| bytes.windows(8).position(|w| w == b"USER-DAT").unwrap());
    bytes[at + 28..at + 32].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(read(&bytes).unwrap_err().to_string().contains("4294967295 bytes"));
}

#[test]
fn other_boot_sectors_are_not_fat() {
    for bytes in [vec![0; 512], vec![0xff; 4096], vec![0xeb; 512], b"short".to_vec()] {
        assert!(Fat::open(&Disk::from_bytes(&bytes)).unwrap().is_none());
    }
    // A partition table's sector has the same signature.
    let mut mbr = vec![0; 512];
    mbr[510] = 0x55;
    mbr[511] = 0xaa;
    assert!(Fat::open(&Disk::from_bytes(&mbr)).unwrap().is_none());
}

#[test]
fn long_names_must_match_their_short_ones() {
    let sound = sample("fat12.img");
    // A wrong checksum: the long name is another file's, and only the short one is left.
    let mut bytes = sound.clone();
    let long = bytes.windows(10).position(|w| w == b"u\0s\0e\0r\0-\0").unwrap() - 1;
    bytes[long + 13] ^= 1;
    assert_eq!(read(&bytes).unwrap().1, None);
    assert!(read(&sound).unwrap().1.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damage_never_panics_nor_hangs(
        name in 0..2_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        in_head in any::<bool>(),
    ) {
        let mut bytes = sample(["fat12.img", "mtools.img"][name]);
        let range = if in_head { 64 } else { 6000.min(bytes.len()) };
        for (at, value) in changes {
            bytes[at.index(range)] = value;
        }
        fuzz(&bytes);
    }

    #[test]
    fn rubbish_with_a_signature_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 512..3000)) {
        bytes[0] = 0xeb;
        bytes[510] = 0x55;
        bytes[511] = 0xaa;
        bytes[11..13].copy_from_slice(&512_u16.to_le_bytes());
        bytes[13] = 1;
        bytes[16] = 1;
        bytes[21] = 0xf8;
        fuzz(&bytes);
    }
}
