//! A FAT32 of one-sector clusters: made here with files in random places, and read back by the letter.

use super::bytes;
use berth_apply::Medium;
use berth_apply::cuts::{Memory, Random};
use std::collections::{BTreeMap, BTreeSet};

pub const CLUSTERS: u32 = 65_600;
const RESERVED: u64 = 32;
const FAT_SECTORS: u64 = (CLUSTERS as u64 + 2).div_ceil(128);
const DATA: u64 = RESERVED + 2 * FAT_SECTORS;
const SECTORS: u64 = DATA + CLUSTERS as u64;
/// Bytes of the file system.
pub const BYTES: u64 = SECTORS * 512;
/// In a sector of its own, so that a cut between FAT and folder is one.
const END: u32 = 0x0fff_ffff;

/// A file system under construction.
pub struct Builder {
    pub disk: Memory,
    pub random: Random,
    used: BTreeSet<u32>,
    /// Clusters are taken from 2 to this one; random among them.
    pub spread: u32,
}

pub fn at(cluster: u32) -> u64 {
    (DATA + u64::from(cluster) - 2) * 512
}

pub fn entry(disk: &Memory, fat: u64, cluster: u32) -> u32 {
    let raw = bytes(disk, (RESERVED + fat * FAT_SECTORS) * 512 + u64::from(cluster) * 4, 4);
    u32::from_le_bytes(raw.try_into().unwrap())
}

pub fn set_entry(disk: &mut Memory, cluster: u32, value: u32) {
    for fat in 0..2 {
        let place = (RESERVED + fat * FAT_SECTORS) * 512 + u64::from(cluster) * 4;
        disk.write_at(place, &value.to_le_bytes()).unwrap();
    }
}

impl Builder {
    pub fn new(seed: u64) -> Builder {
        let mut disk = Memory::new(BYTES);
        let mut boot = vec![0; 512];
        let mut put = |at: usize, bytes: &[u8]| boot[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &[0xeb, 0x58, 0x90]);
        put(3, b"BUILDER ");
        put(11, &512u16.to_le_bytes());
        put(13, &[1]);
        put(14, &(RESERVED as u16).to_le_bytes());
        put(16, &[2]);
        put(21, &[0xf8]);
        put(24, &63u16.to_le_bytes());
        put(26, &255u16.to_le_bytes());
        put(32, &(SECTORS as u32).to_le_bytes());
        put(36, &(FAT_SECTORS as u32).to_le_bytes());
        put(44, &2u32.to_le_bytes());
        put(48, &1u16.to_le_bytes());
        put(50, &6u16.to_le_bytes());
        put(66, &[0x29]);
        put(82, b"FAT32   ");
        put(510, &[0x55, 0xaa]);
        disk.write_at(0, &boot).unwrap();
        disk.write_at(6 * 512, &boot).unwrap();
        let mut info = vec![0; 512];
        info[..4].copy_from_slice(b"RRaA");
        info[484..488].copy_from_slice(b"rrAa");
        info[488..496].fill(0xff);
        info[508..].copy_from_slice(&[0, 0, 0x55, 0xaa]);
        disk.write_at(512, &info).unwrap();
        set_entry(&mut disk, 0, 0x0fff_fff8);
        set_entry(&mut disk, 1, END);
        set_entry(&mut disk, 2, END);
        Builder { disk, random: Random::new(seed), used: BTreeSet::from([2]), spread: 4000 }
    }

    fn take(&mut self) -> u32 {
        loop {
            let cluster = 3 + self.random.below(u64::from(self.spread)) as u32;
            if self.used.insert(cluster) {
                return cluster;
            }
        }
    }

    /// Puts content into a chain; its first cluster.
    pub fn chain(&mut self, content: &[u8]) -> u32 {
        let clusters: Vec<u32> = (0..content.len().div_ceil(512).max(1)).map(|_| self.take()).collect();
        for (index, cluster) in clusters.iter().enumerate() {
            set_entry(&mut self.disk, *cluster, clusters.get(index + 1).copied().unwrap_or(END));
            let from = (index * 512).min(content.len());
            let part = &content[from..(from + 512).min(content.len())];
            self.disk.write_at(at(*cluster), part).unwrap();
        }
        clusters[0]
    }

    /// An entry in a folder's first cluster, which is one sector.
    fn link(&mut self, folder: u32, name: &str, attributes: u8, first: u32, bytes: usize) {
        let content = super::bytes(&self.disk, at(folder), 512);
        let index = content.chunks(32).position(|entry| entry[0] == 0).expect("the folder is full");
        let mut entry = [0; 32];
        let (stem, ending) = name.split_once('.').unwrap_or((name, ""));
        entry[..11].fill(b' ');
        entry[..stem.len()].copy_from_slice(stem.to_ascii_uppercase().as_bytes());
        entry[8..8 + ending.len()].copy_from_slice(ending.to_ascii_uppercase().as_bytes());
        entry[11] = attributes;
        entry[20..22].copy_from_slice(&first.to_le_bytes()[2..]);
        entry[26..28].copy_from_slice(&first.to_le_bytes()[..2]);
        entry[28..32].copy_from_slice(&(bytes as u32).to_le_bytes());
        self.disk.write_at(at(folder) + index as u64 * 32, &entry).unwrap();
    }

    pub fn folder(&mut self, above: u32, name: &str) -> u32 {
        let first = self.chain(&[0; 512]);
        self.link(first, ".", 0x10, first, 0);
        self.link(first, "..", 0x10, if above == 2 { 0 } else { above }, 0);
        // "." and ".." have no ending to be cut off.
        for (index, name) in [(0, b".          "), (1, b"..         ")] {
            self.disk.write_at(at(first) + index * 32, name).unwrap();
        }
        self.link(above, name, 0x10, first, 0);
        first
    }

    pub fn file(&mut self, folder: u32, name: &str, content: &[u8]) {
        let first = self.chain(content);
        self.link(folder, name, 0x20, first, content.len());
    }
}

/// What another program sees of a file system.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Content by path, in lower case; none where it cannot be read whole.
    pub files: BTreeMap<String, Option<Vec<u8>>>,
    /// What a checker would complain about.
    pub complaints: Vec<String>,
    owned: BTreeSet<u32>,
}

impl Seen {
    pub fn of(disk: &Memory) -> Seen {
        let mut seen = Seen::default();
        let fat = bytes(disk, RESERVED * 512, (FAT_SECTORS * 512) as usize);
        let copy = bytes(disk, (RESERVED + FAT_SECTORS) * 512, (FAT_SECTORS * 512) as usize);
        if fat != copy {
            seen.complaints.push("the FATs differ".into());
        }
        seen.folder(disk, &fat, "", 2);
        let value = |cluster: u32| {
            let at = cluster as usize * 4;
            u32::from_le_bytes(fat[at..at + 4].try_into().unwrap()) & 0x0fff_ffff
        };
        let used: Vec<u32> = (2..CLUSTERS + 2).filter(|cluster| value(*cluster) != 0).collect();
        for cluster in used.iter().filter(|cluster| !seen.owned.contains(cluster)) {
            seen.complaints.push(format!("cluster {cluster} is lost"));
        }
        let info = bytes(disk, 512 + 488, 4);
        let free = u32::from_le_bytes(info.try_into().unwrap());
        if free != u32::MAX && free != CLUSTERS - used.len() as u32 {
            seen.complaints.push(format!("FSInfo says {free} are free"));
        }
        seen
    }

    fn chain(&mut self, fat: &[u8], path: &str, first: u32) -> Option<Vec<u32>> {
        let mut chain = Vec::new();
        let mut cluster = first;
        loop {
            if !(2..CLUSTERS + 2).contains(&cluster) {
                self.complaints.push(format!("{path} leads to {cluster}"));
                return None;
            }
            let at = cluster as usize * 4;
            let next = u32::from_le_bytes(fat[at..at + 4].try_into().unwrap()) & 0x0fff_ffff;
            if next == 0 {
                self.complaints.push(format!("{path} breaks off at {cluster}, which is free"));
                return None;
            }
            if !self.owned.insert(cluster) {
                self.complaints.push(format!("{path} shares {cluster}"));
                return None;
            }
            chain.push(cluster);
            if next >= 0x0fff_fff8 {
                return Some(chain);
            }
            cluster = next;
        }
    }

    fn folder(&mut self, disk: &Memory, fat: &[u8], path: &str, first: u32) {
        let Some(chain) = self.chain(fat, path, first) else { return };
        let content: Vec<u8> = chain.iter().flat_map(|cluster| bytes(disk, at(*cluster), 512)).collect();
        for entry in content.chunks(32).take_while(|entry| entry[0] != 0) {
            if entry[0] == 0xe5 || entry[0] == b'.' || entry[11] & 8 != 0 {
                continue;
            }
            let text = |part: &[u8]| String::from_utf8_lossy(part).trim_end().to_lowercase();
            let (stem, ending) = (text(&entry[..8]), text(&entry[8..11]));
            let name = if ending.is_empty() { stem } else { format!("{stem}.{ending}") };
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let half = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
            let first = half(20) << 16 | half(26);
            let length = u32::from_le_bytes(entry[28..32].try_into().unwrap()) as usize;
            if entry[11] & 0x10 != 0 {
                self.folder(disk, fat, &path, first);
                continue;
            }
            let content = self.chain(fat, &path, first).and_then(|chain| {
                if chain.len() != length.div_ceil(512).max(1) {
                    self.complaints.push(format!("{path}: {length} bytes in {} clusters", chain.len()));
                }
                let mut all: Vec<u8> =
                    chain.iter().flat_map(|cluster| bytes(disk, at(*cluster), 512)).collect();
                (all.len() >= length).then(|| {
                    all.truncate(length);
                    all
                })
            });
            if self.files.insert(path.clone(), content).is_some() {
                self.complaints.push(format!("{path} is there twice"));
            }
        }
    }
}
