//! The one call that no library has.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `struct fsverity_enable_arg` (include/uapi/linux/fsverity.h).
#[repr(C)]
#[derive(Default)]
struct Enable {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    salt_ptr: u64,
    sig_size: u32,
    reserved1: u32,
    sig_ptr: u64,
    reserved2: [u64; 11],
}

/// `FS_IOC_ENABLE_VERITY`: `_IOW('f', 133, struct fsverity_enable_arg)`.
const ENABLE_VERITY: u64 = 0x4080_6685;

/// Seals a file, open for reading only: from now on each page of it is checked when it comes from the disk
/// (Documentation/filesystems/fsverity.rst). SHA-256, blocks of 4 KiB.
pub fn seal(file: &File) -> io::Result<()> {
    let enable = Enable { version: 1, hash_algorithm: 1, block_size: 4096, ..Enable::default() };
    // SAFETY: the request reads one `Enable`, which lives until it returns.
    match unsafe { nix::libc::ioctl(file.as_raw_fd(), ENABLE_VERITY, &raw const enable) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
