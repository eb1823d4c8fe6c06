//! Bounds of the build.

/// Finished bundles kept in the cache, about 45 MB each: the shipped one and those of a test run.
pub const BUNDLES_KEPT: usize = 8;
/// Roots kept beside them, whose files theirs are: most bundles of a test run have the same.
pub const ROOTS_KEPT: usize = 4;
/// Bytes moved at once when a disk is copied: also the size of a hole that is kept.
pub const COPY_BYTES: usize = 64 << 10;
/// Bytes of a cluster on the ESP, in sectors of 512: FAT32 needs more than 65,525 clusters.
pub const ESP_CLUSTER_SECTORS: u64 = 4;
