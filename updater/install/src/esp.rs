//! An ESP made anew: a FAT32 with a few files, every one in one piece (Microsoft's FAT specification 1.03).

use crate::InstallError;

/// Sectors before the first FAT; the boot sector's copy is in the sixth.
const RESERVED: u64 = 32;
const BACKUP: u64 = 6;
/// Copies of the FAT.
const FATS: u64 = 2;
/// Bytes of a cluster where sectors are smaller.
const CLUSTER: u64 = 2048;
/// Bytes of a folder's entry.
const ENTRY: usize = 32;
const FOLDER: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const VOLUME: u8 = 0x08;
/// End of a chain.
const END: u32 = 0x0fff_ffff;
/// 1980-01-01, the first day there is.
const FIRST_DAY: [u8; 2] = [0x21, 0];
/// The volume's label, and its name for a BIOS.
const LABEL: &[u8; 11] = b"BERTH      ";
/// The lowest number of clusters of a FAT32.
const CLUSTERS_MIN: u64 = 65_525;

/// A file: its folder below `EFI`, its name, its bytes.
pub struct File<'a> {
    /// `BOOT` or `BERTH`.
    pub folder: &'a str,
    /// Up to eight bytes, a dot, up to three; in lower or in upper case.
    pub name: &'a str,
    /// What is in it.
    pub bytes: &'a [u8],
}

/// What is to be written where, bytes from the partition's start. What lies between is not looked at by anybody.
pub type Pieces<'a> = Vec<(u64, std::borrow::Cow<'a, [u8]>)>;

/// Sizes, in sectors unless it says else.
struct Shape {
    sector: u64,
    sectors: u64,
    per_cluster: u64,
    fat: u64,
    clusters: u64,
}

impl Shape {
    fn of(bytes: u64, sector_bytes: u32) -> Result<Shape, InstallError> {
        let sector = u64::from(sector_bytes);
        let sectors = bytes / sector;
        let per_cluster = (CLUSTER / sector).max(1);
        let most = sectors.saturating_sub(RESERVED) / per_cluster;
        let fat = ((most + 2) * 4).div_ceil(sector);
        let clusters = sectors.saturating_sub(RESERVED + FATS * fat) / per_cluster;
        if clusters < CLUSTERS_MIN || u32::try_from(sectors).is_err() {
            return Err(InstallError::Esp("its size does not suit a FAT32"));
        }
        Ok(Shape { sector, sectors, per_cluster, fat, clusters })
    }

    fn cluster_bytes(&self) -> u64 {
        self.per_cluster * self.sector
    }

    /// Where a cluster lies, in bytes.
    fn at(&self, cluster: u32) -> u64 {
        let data = RESERVED + FATS * self.fat;
        data * self.sector + (u64::from(cluster) - 2) * self.cluster_bytes()
    }
}

/// The file system of a partition of so many bytes that starts at sector `first` of its disk.
pub fn build<'a>(
    bytes: u64,
    sector_bytes: u32,
    first: u64,
    files: &[File<'a>],
) -> Result<Pieces<'a>, InstallError> {
    let shape = Shape::of(bytes, sector_bytes)?;
    let mut fat: Vec<u32> = vec![0x0fff_fff8, END];
    let mut chain = |length: u64| -> Result<u32, InstallError> {
        let start = fat.len();
        let end =
            start + usize::try_from(length.div_ceil(shape.cluster_bytes()).max(1)).unwrap_or(usize::MAX);
        if end as u64 > shape.clusters + 2 {
            return Err(InstallError::Esp("its files do not fit"));
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(END);
        fat.extend((start + 1..end).map(number).chain([END]));
        Ok(number(start))
    };
    // One cluster each, which holds more entries than there are files.
    let [root, efi] = [chain(1)?, chain(1)?];
    let mut pieces: Pieces<'a> = Vec::new();
    let mut folders: Vec<(&str, u32, Vec<u8>)> = Vec::new();
    for file in files {
        let first = chain(file.bytes.len() as u64)?;
        pieces.push((shape.at(first), file.bytes.into()));
        if !folders.iter().any(|(name, ..)| *name == file.folder) {
            let here = chain(1)?;
            folders.push((file.folder, here, dots(here, efi)));
        }
        let size = u32::try_from(file.bytes.len()).map_err(|_| InstallError::Esp("a file is too long"))?;
        if let Some((.., entries)) = folders.iter_mut().find(|(name, ..)| *name == file.folder) {
            entries.extend(entry(file.name, ARCHIVE, first, size));
        }
    }
    let mut volume = [0; ENTRY];
    volume[..11].copy_from_slice(LABEL);
    volume[11] = VOLUME;
    volume[24..26].copy_from_slice(&FIRST_DAY);
    let mut all = vec![(root, [volume.to_vec(), entry("EFI", FOLDER, efi, 0)].concat())];
    // Of the folder above the uppermost ones the number is 0.
    let mut below = dots(efi, 0);
    for (name, here, entries) in folders {
        below.extend(entry(name, FOLDER, here, 0));
        all.push((here, entries));
    }
    all.push((efi, below));
    for (cluster, mut entries) in all {
        entries.resize(usize::try_from(shape.cluster_bytes()).unwrap_or(entries.len()), 0);
        pieces.push((shape.at(cluster), entries.into()));
    }

    let taken = fat.len() as u64 - 2;
    let mut table: Vec<u8> = fat.iter().flat_map(|next| next.to_le_bytes()).collect();
    table.resize(usize::try_from(shape.fat * shape.sector).unwrap_or(table.len()), 0);
    for copy in 0..FATS {
        pieces.push(((RESERVED + copy * shape.fat) * shape.sector, table.clone().into()));
    }
    pieces.extend(head(&shape, first, taken));
    Ok(pieces)
}

/// The reserved sectors.
fn head<'a>(shape: &Shape, first: u64, taken: u64) -> Pieces<'a> {
    let word = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let half = |number: u64| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
    let mut head = vec![0; usize::try_from(RESERVED * shape.sector).unwrap_or_default()];
    let mut boot = vec![0; usize::try_from(shape.sector).unwrap_or_default()];
    let mut put = |at: usize, bytes: &[u8]| boot[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, 0x58, 0x90]);
    put(3, b"BERTH   ");
    put(11, &half(shape.sector));
    put(13, &half(shape.per_cluster)[..1]);
    put(14, &half(RESERVED));
    put(16, &half(FATS)[..1]);
    put(21, &[0xf8]);
    put(24, &half(63));
    put(26, &half(255));
    put(28, &word(first));
    put(32, &word(shape.sectors));
    put(36, &word(shape.fat));
    put(44, &word(2));
    put(48, &half(1));
    put(50, &half(BACKUP));
    put(64, &[0x80, 0, 0x29]);
    put(67, b"TREB");
    put(71, LABEL);
    put(82, b"FAT32   ");
    put(510, &[0x55, 0xaa]);
    let mut info = vec![0; boot.len()];
    info[..4].copy_from_slice(b"RRaA");
    info[484..488].copy_from_slice(b"rrAa");
    info[488..492].copy_from_slice(&word(shape.clusters - taken));
    info[492..496].copy_from_slice(&word(taken + 2));
    info[510..512].copy_from_slice(&[0x55, 0xaa]);
    for at in [0, BACKUP] {
        let at = usize::try_from(at * shape.sector).unwrap_or_default();
        head[at..at + boot.len()].copy_from_slice(&boot);
        head[at + boot.len()..at + 2 * boot.len()].copy_from_slice(&info);
    }
    vec![(0, head.into())]
}

/// A folder's first entries: itself, and the one above.
fn dots(here: u32, above: u32) -> Vec<u8> {
    [entry(".", FOLDER, here, 0), entry("..", FOLDER, above, 0)].concat()
}

fn entry(name: &str, kind: u8, first: u32, bytes: u32) -> Vec<u8> {
    /// Of name and ending: both are in lower case.
    const LOWER_CASE: u8 = 0x18;
    let mut entry = vec![0; ENTRY];
    entry[..11].fill(b' ');
    let upper = name.to_ascii_uppercase();
    let (base, ending) = match upper.rsplit_once('.') {
        Some((base, ending)) if !base.is_empty() && !base.starts_with('.') => (base, ending),
        _ => (upper.as_str(), ""),
    };
    for (at, text) in [(0, base), (8, ending)] {
        entry[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    entry[11] = kind;
    if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        entry[12] = LOWER_CASE;
    }
    for at in [16, 18, 24] {
        entry[at..at + 2].copy_from_slice(&FIRST_DAY);
    }
    entry[20..22].copy_from_slice(&first.to_le_bytes()[2..]);
    entry[26..28].copy_from_slice(&first.to_le_bytes()[..2]);
    entry[28..32].copy_from_slice(&bytes.to_le_bytes());
    entry
}
