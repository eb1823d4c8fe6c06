//! What a FAT32 boot sector says of the file system, checked (Microsoft's FAT specification 1.03).

use super::EspError;
use crate::limits;

/// Bytes of a sector; GRUB's view of the disk, and that of every disk image of ours.
pub const SECTOR: u64 = 512;
/// The same, of a buffer.
pub const SECTOR_LEN: usize = 512;
/// Clusters below which it would be a FAT16.
const CLUSTERS_MIN: u32 = 65_525;

/// Where everything is, in bytes from the partition's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a cluster.
    pub cluster_bytes: u64,
    /// The first FAT.
    pub fat_at: u64,
    /// Bytes of one FAT.
    pub fat_bytes: u64,
    /// FATs, one after the other.
    pub fats: u64,
    /// Cluster 2.
    pub data_at: u64,
    /// The number of clusters; they are numbered from 2.
    pub clusters: u32,
    /// First cluster of the root folder.
    pub root: u32,
    /// The sector with the count of free clusters.
    pub info_at: Option<u64>,
}

impl Geometry {
    /// Reads the boot sector of a partition of that many bytes.
    pub fn parse(boot: &[u8; 512], partition_bytes: u64) -> Result<Geometry, EspError> {
        let half = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let word = |at: usize| half(at) | (half(at + 2) << 16);
        let no = EspError::NotFat32;
        if half(510) != 0xaa55 {
            return Err(no("its first sector has no signature"));
        }
        if half(11) != SECTOR {
            return Err(no("its sectors do not have 512 bytes"));
        }
        let (per_cluster, reserved, fats) = (u64::from(boot[13]), half(14), u64::from(boot[16]));
        if !per_cluster.is_power_of_two() || reserved == 0 || !(1..=2).contains(&fats) {
            return Err(no("its boot sector has impossible sizes"));
        }
        let (fat_sectors, sectors) = (word(36), if half(19) == 0 { word(32) } else { half(19) });
        if half(17) != 0 || half(22) != 0 || fat_sectors == 0 || half(42) != 0 {
            return Err(no("it is another FAT"));
        }
        if half(40) & 0x80 != 0 {
            return Err(no("its FATs do not mirror each other"));
        }
        let data = reserved + fats * fat_sectors;
        if sectors * SECTOR > partition_bytes || data >= sectors {
            return Err(no("it is longer than its partition"));
        }
        let clusters = u32::try_from((sectors - data) / per_cluster).unwrap_or(u32::MAX);
        if clusters < CLUSTERS_MIN {
            return Err(no("it has too few clusters"));
        }
        let fat_bytes = fat_sectors * SECTOR;
        if fat_bytes > limits::FAT_BYTES || (u64::from(clusters) + 2) * 4 > fat_bytes {
            return Err(no("its FAT is longer than 1 MiB, or too short for its clusters"));
        }
        let geometry = Geometry {
            cluster_bytes: per_cluster * SECTOR,
            fat_at: reserved * SECTOR,
            fat_bytes,
            fats,
            data_at: data * SECTOR,
            clusters,
            root: u32::try_from(word(44)).unwrap_or(0),
            info_at: Some(half(48)).filter(|at| (1..reserved).contains(at)).map(|at| at * SECTOR),
        };
        if !geometry.has(geometry.root) {
            return Err(no("it has no root folder"));
        }
        Ok(geometry)
    }

    /// Whether there is a cluster of that number.
    pub fn has(&self, cluster: u32) -> bool {
        cluster >= 2 && cluster - 2 < self.clusters
    }

    /// Where a cluster's data is.
    pub fn at(&self, cluster: u32) -> u64 {
        self.data_at + u64::from(cluster.saturating_sub(2)) * self.cluster_bytes
    }

    /// Clusters that so many bytes take.
    pub fn clusters_of(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_bytes)
    }
}
