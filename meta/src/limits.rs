//! Every bound of this crate, with its unit and its reason. The config's own size is `berth_units::limits`'s.

/// Bytes of a config as stored: base64 of the largest one, with line breaks.
pub const ENCODED_BYTES: u64 = 3 << 19;
/// Bytes of the SMBIOS tables that are read. QEMU makes up to 64 KiB with the 32-bit entry point.
pub const SMBIOS_BYTES: u64 = 4 << 20;
/// Bytes of the fw_cfg file: the kernel reads it quadratically, 64 KiB take 0.07 s, 1 MiB takes 21 s.
pub const FW_CFG_BYTES: u64 = 64 * 1024;
/// Bytes of a plain config that may do without a checksum in SMBIOS. Longer strings have been cut without a word.
pub const UNCHECKED_BYTES: usize = 1024;

/// Bytes of a volume's label on the kernel's command line; an ISO 9660's has 32 at most.
pub const LABEL_BYTES: usize = 64;
/// Disks and partitions looked at.
pub const DISKS: usize = 64;
/// Bytes read from one disk in all, whatever its structures say: no loop is longer than this.
pub const DISK_READ_BYTES: u64 = 16 << 20;
/// Bytes of one folder: 8,192 FAT entries. A config volume has a handful.
pub const FOLDER_BYTES: u64 = 256 * 1024;
/// Volume descriptors of an ISO; three are usual.
pub const ISO_DESCRIPTORS: u64 = 32;
/// Continuations of one entry's Rock Ridge fields; each is up to a sector.
pub const ISO_CONTINUATIONS: usize = 8;

/// Bytes of a report towards PID 1; with the lines of [`LOOKED_LINES`] and [`NOTES`] it fits a control message.
pub const REPORT_BYTES: usize = 32 * 1024;
/// Lines on what has no effect.
pub const NOTES: usize = 64;
/// Bytes of one such line: it has a way out in it.
pub const NOTE_BYTES: usize = 500;
/// Lines about where was looked.
pub const LOOKED_LINES: usize = 64;
/// Bytes of one such line.
pub const LINE_BYTES: usize = 300;

/// Values of a YAML document, each copy by an alias counted: a config of 1 MiB has some ten thousand.
pub const YAML_NODES: usize = 50_000;
/// Bytes of text in them, copies counted: four times the largest config.
pub const YAML_BYTES: usize = 4 << 20;
/// Levels of lists and mappings below each other. A cloud-config with units has eight.
pub const YAML_DEPTH: usize = 48;
/// Mistakes of a document that are told; the rest is counted.
pub const PROBLEMS: usize = 50;
