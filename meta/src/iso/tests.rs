use super::*;
use crate::samples::{CONFIG, sample};
use proptest::prelude::*;

const ALL: [&str; 5] = ["rock-joliet.iso", "rock.iso", "joliet.iso", "plain.iso", "xorriso.iso"];

fn read(bytes: &[u8]) -> Result<(Vec<String>, Option<String>), DiskError> {
    let disk = Disk::from_bytes(bytes);
    let iso = Iso::open(&disk)?.ok_or(DiskError::Unusable("not an ISO".to_owned()))?;
    let file = iso.find("user-data")?;
    let text = file.map(|f| iso.read(&f, limits::ENCODED_BYTES)).transpose()?;
    Ok((iso.labels(), text.map(|t| String::from_utf8(t).unwrap())))
}

#[test]
fn volumes_of_other_programs_are_read() {
    for name in ALL {
        let (labels, text) = read(&sample(name)).unwrap();
        assert!(labels.iter().all(|l| l.eq_ignore_ascii_case("cidata")), "{name} {labels:?}");
        assert_eq!(text.as_deref(), Some(CONFIG), "{name}");
    }
    assert_eq!(read(&sample("rock-joliet.iso")).unwrap().0.len(), 2);
}

#[test]
fn a_name_that_is_not_there_is_not_found() {
    for name in ALL {
        let bytes = sample(name);
        let disk = Disk::from_bytes(&bytes);
        let iso = Iso::open(&disk).unwrap().unwrap();
        assert_eq!(iso.find("network-config").unwrap(), None);
    }
}

/// Byte offset of the primary descriptor's root record.
const ROOT: usize = 16 * SECTOR + 156;

#[test]
fn torn_and_lying_volumes_are_told() {
    let sound = sample("rock.iso");
    for len in [17 * SECTOR, 20 * SECTOR, 24 * SECTOR] {
        let error = read(&sound[..len]).unwrap_err().to_string();
        assert!(error.contains("cut short"), "{len}: {error}");
    }
    let with = |at: usize, value: &[u8]| {
        let mut bytes = sound.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        read(&bytes).map_err(|e| e.to_string())
    };
    assert!(with(ROOT + 10, &u32::MAX.to_le_bytes()).unwrap_err().contains("a folder of it has"));
    assert!(with(ROOT + 2, &u32::MAX.to_le_bytes()).unwrap_err().contains("beyond its end"));
    assert!(with(16 * SECTOR + 128, &[0, 0]).unwrap_err().contains("only 2048"));
    // A folder that is its own descriptor: no records of this shape.
    assert!(with(ROOT + 2, &16_u32.to_le_bytes()).map_or(true, |(_, text)| text.is_none()));
}

#[test]
fn rock_ridge_continuations_are_bounded() {
    let mut bytes = sample("rock.iso");
    let name = bytes.windows(14).position(|w| w.starts_with(b"NM") && w.ends_with(b"user-data")).unwrap();
    let root = usize::try_from(u32_at(&bytes, ROOT + 2)).unwrap();
    // The fields become one CE that points at itself.
    let block = u32::try_from(name / SECTOR).unwrap();
    assert!(name / SECTOR == root);
    let mut field = b"CE\x1c\x01".to_vec();
    for number in [block, u32::try_from(name % SECTOR).unwrap(), 28] {
        field.extend(number.to_le_bytes());
        field.extend(number.to_be_bytes());
    }
    bytes[name..name + 28].copy_from_slice(&field);
    assert_eq!(read(&bytes).unwrap().1, None);
}

#[test]
fn a_file_larger_than_a_config_is_refused_unread() {
    let bytes = sample("rock.iso");
    let disk = Disk::from_bytes(&bytes);
    let iso = Iso::open(&disk).unwrap().unwrap();
    let file = iso.find("user-data").unwrap().unwrap();
    assert!(iso.read(&file, 10).unwrap_err().to_string().contains("at most 10"));
}

#[test]
fn other_disks_are_no_isos() {
    for bytes in [vec![], vec![0; 40_000], vec![0xff; 32_800]] {
        assert!(Iso::open(&Disk::from_bytes(&bytes)).unwrap().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn damage_never_panics_nor_hangs(
        name in 0..3_usize,
        changes in proptest::collection::vec((16 * SECTOR..40 * SECTOR, any::<u8>()), 1..20),
        in_root in any::<bool>(),
    ) {
        let mut bytes = sample(["rock-joliet.iso", "xorriso.iso", "plain.iso"][name]);
        let root = usize::try_from(u32_at(&bytes, ROOT + 2)).unwrap() * SECTOR;
        for (at, value) in changes {
            let at = if in_root { root + at % 600 } else { at };
            bytes[at] = value;
        }
        fuzz(&bytes);
    }
}
