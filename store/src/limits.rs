//! Every bound of this crate, with its unit and its reason. Layers per image and the description's size are PID 1's
//! to bound: `berth_units::limits`.

/// Bytes of an index or manifest: the OCI distribution specification lets registries refuse more than 4 MiB.
pub const MANIFEST_BYTES: u64 = 4 << 20;
/// Bytes of an image config; its history grows with every build step, and real ones stay below 100 kB.
pub const CONFIG_BYTES: u64 = 1 << 20;
/// Indexes inside indexes. Multi-platform images have one inside `index.json`; one more for tools that wrap.
pub const INDEX_DEPTH: usize = 3;
/// Manifests looked at for one request, over all indexes of a source.
pub const DESCRIPTORS: usize = 4096;

/// Entries of an archive that holds images. Eight thousand blobs are more than 100 large images.
pub const ARCHIVE_ENTRIES: usize = 16_384;
/// Archives and layouts inside the OS image, and attached disks, looked at for one request.
pub const SOURCES: usize = 64;

/// Bytes of one layer as stored. The largest published ones (machine learning) have about 10 GB.
pub const LAYER_BLOB_BYTES: u64 = 16 << 30;
/// Bytes of one layer's tar, uncompressed: what a small blob that inflates without end is stopped at.
pub const LAYER_TAR_BYTES: u64 = 32 << 30;
/// Bytes that a layer's zstd frame may look back. zstd asks for 8 MiB up to level 19, Go's encoder (BuildKit, skopeo) for 16 at
/// its last level but one; its last, zstd from 20 on, and `--long` want 32 and more. The decoder takes twice as much, and the worker has 64 MiB.
pub const ZSTD_WINDOW_BYTES: u64 = 16 << 20;
/// Bytes of all files of one layer, holes counted in: a sparse file costs no space here, but whoever copies it pays.
pub const LAYER_FILE_BYTES: u64 = 32 << 30;
/// Bytes of one file, holes counted in. A file of an image is not a disk.
pub const FILE_BYTES: u64 = 8 << 30;
/// Files and folders of one layer. The largest known images have about 300,000.
pub const LAYER_ENTRIES: u64 = 1_000_000;
/// Bytes of folder names whose times are set after the layer is complete: about 200,000 folders.
pub const FOLDER_TABLE_BYTES: usize = 16 << 20;

/// Bytes of a path: Linux's PATH_MAX.
pub const PATH_BYTES: usize = 4096;
/// Bytes of one part of a path: every Linux file system's NAME_MAX.
pub const NAME_BYTES: usize = 255;
/// Folders above a file; also the descriptors that unpacking holds open.
pub const PATH_DEPTH: usize = 128;
/// Symbolic links that one path may lead through: Linux's own bound.
pub const PATH_LINKS: usize = 40;
/// Highest uid and gid: a container's range has 65,536.
pub const ID_MAX: u64 = berth_units::limits::ID_RANGE as u64 - 1;

/// Bytes of a pax header, or of a long name: paths, links and extended attributes of one file.
pub const PAX_BYTES: u64 = 1 << 20;
/// Extended attributes of one file.
pub const XATTRS: usize = 64;
/// Bytes of one extended attribute: the kernel's XATTR_SIZE_MAX.
pub const XATTR_BYTES: usize = 64 * 1024;
/// Pieces of a sparse file; 16 bytes of memory each.
pub const SPARSE_PIECES: usize = 65_536;

/// Bytes of an archive that an operator sends, uncompressed: two of the largest layers.
pub const LOAD_BYTES: u64 = 32 << 30;
/// Bytes that it may look back when zstd has compressed it as a whole: 8 MiB do up to level 19, and a layer may be
/// unpacked at the same time.
pub const LOAD_WINDOW_BYTES: u64 = 8 << 20;
/// Images in it.
pub const LOADED: usize = 64;
/// Bytes that stay free on the state partition, for config, records and units' own data.
pub const RESERVE_BYTES: u64 = 16 << 20;
/// Bytes written between two looks at the free space.
pub const RESERVE_EVERY: u64 = 4 << 20;
/// Bytes of one message towards PID 1: it is shown on the console.
pub const MESSAGE_BYTES: usize = 2000;
/// Names listed in a message; the rest is counted.
pub const NAMES_LISTED: usize = 5;

/// Bytes of a token server's answer; real ones have 1 to 4 KiB.
pub const TOKEN_BYTES: u64 = 256 << 10;
/// Bytes of a refusal's text that are read, to say why.
pub const REFUSAL_BYTES: u64 = 16 << 10;
/// Bytes of a `WWW-Authenticate` line.
pub const CHALLENGE_BYTES: usize = 4096;
/// Parameters in it.
pub const CHALLENGE_PARAMETERS: usize = 32;
/// Redirects followed for one request; registries use one.
pub const REDIRECTS: usize = 5;
/// Tries of one request that ends with a cut line, a time limit, 429 or 5xx; more only while bytes arrive.
pub const TRIES: u32 = 5;
/// Seconds that a registry may ask for in `Retry-After`; whoever asks for more is told to the operator.
pub const RETRY_AFTER_SECONDS: u64 = 60;
/// Bytes that must have arrived for a try to count as progress.
pub const PROGRESS_BYTES: u64 = 1 << 20;
/// Seconds until a connection is there, with TLS.
pub const CONNECT_SECONDS: u64 = 15;
/// Seconds until an answer's headers are there, connecting included.
pub const HEADER_SECONDS: u64 = 45;
/// Seconds in which [`STALL_BYTES`] of a body must arrive.
pub const STALL_SECONDS: u64 = 30;
/// Bytes that must arrive in [`STALL_SECONDS`]: slower than any line, so that a server which drips is given up.
pub const STALL_BYTES: u64 = 1024;
/// Images fetched at a time; more wait.
pub const IMAGES: usize = 8;
/// Layers of one image fetched at a time. One TCP connection seldom fills a long line.
pub const FETCHES: usize = 3;
/// Seconds between two reports of progress, in thousandths: five a second.
pub const PROGRESS_MILLIS: u64 = 200;
/// Seconds after which a blob that no image names, or a download that nobody went on with, is removed.
pub const LEFTOVER_SECONDS: u64 = 24 * 3600;
/// Downloads kept to be gone on with.
pub const PARTS: usize = 64;

/// Bytes of the empty state file system written at once; a part that is all zero is left to the disk.
pub const MKSTATE_PART_BYTES: usize = 64 * 1024;
