//! Every bound of this crate, with its unit and its reason. The worker has 32 MiB in all, page cache included.

/// Bytes of a piece of the UKI or of the verity tree: what is held of a download.
pub const PIECE_BYTES: usize = 256 << 10;
/// Blocks of a piece of the root: those that one block of the verity tree sums, 512 KiB.
pub const ROOT_BLOCKS: u64 = berth_updater::verity::FAN;
/// Bytes written between two syncs: so many pages are dirty at most.
pub const SYNC_BYTES: u64 = 4 << 20;
/// Bytes of the UKI after which it is synced and a note kept: so much is fetched twice after a cut.
pub const NOTE_EVERY: u64 = 1 << 20;
/// Blocks that are right already, one after the other, behind which the root is asked for anew instead of read on.
pub const GAP_BLOCKS: u64 = 256;
/// Bytes of a note.
pub const NOTE_BYTES: u64 = 128;
/// Bytes of one FAT of the ESP: it is held in memory. Enough for 262,142 clusters; ours has 81,750.
pub const FAT_BYTES: u64 = 1 << 20;
/// Folders of the ESP that are looked through; ours has three.
pub const FOLDERS: usize = 256;
/// Clusters of one folder of the ESP.
pub const FOLDER_CLUSTERS: usize = 256;
/// Bytes of a slot's environment block or sums that are read; ours have 1,024 and 166.
pub const SMALL_FILE_BYTES: u64 = 8 << 10;
