//! What the early stages ask of the kernel.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Turns a `-1` into the error it stands for.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The processor's cycle counter.
pub fn cycles() -> u64 {
    // SAFETY: every x86-64 processor has it, and PID 1 never disables it for itself.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// `WDIOC_SETTIMEOUT`; returns the seconds that the device will keep.
pub fn watchdog_set_timeout(device: &File, seconds: u32) -> io::Result<u32> {
    const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;
    let mut value = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
    // SAFETY: the request reads and writes one int, which `value` is.
    check(unsafe { libc::ioctl(device.as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut value) })?;
    Ok(u32::try_from(value).unwrap_or(seconds))
}

/// `WDIOC_GETTIMEOUT`: the seconds that the device keeps.
pub fn watchdog_timeout(device: &File) -> io::Result<u32> {
    const WDIOC_GETTIMEOUT: libc::c_ulong = 0x8004_5707;
    let mut value: libc::c_int = 0;
    // SAFETY: the request writes one int, which `value` is.
    check(unsafe { libc::ioctl(device.as_raw_fd(), WDIOC_GETTIMEOUT, &raw mut value) })?;
    u32::try_from(value).ok().filter(|&seconds| seconds > 0).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `WDIOC_KEEPALIVE`.
pub fn watchdog_keepalive(device: &File) -> io::Result<()> {
    const WDIOC_KEEPALIVE: libc::c_ulong = 0x8004_5705;
    let mut unused: libc::c_int = 0;
    // SAFETY: the request is declared with an int and touches none.
    check(unsafe { libc::ioctl(device.as_raw_fd(), WDIOC_KEEPALIVE, &raw mut unused) }).map(|_| ())
}

/// A netlink socket that gets the kernel's uevents, not blocking.
pub fn uevent_socket(buffer: usize) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, flags, libc::NETLINK_KOBJECT_UEVENT) })?;
    // SAFETY: the descriptor is fresh and owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let size = libc::c_int::try_from(buffer).unwrap_or(libc::c_int::MAX);
    // SAFETY: the option is one int, and its length is given. Failure only means a smaller buffer.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const size).cast(),
            size_of_val_u32(&size),
        )
    };
    // SAFETY: all-zero is a valid sockaddr_nl.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
    address.nl_groups = 1;
    // SAFETY: the address is a sockaddr_nl of the length given.
    check(unsafe { libc::bind(fd, (&raw const address).cast(), size_of_val_u32(&address)) })?;
    Ok(socket)
}

/// Receives one message; `None` when it does not come from the kernel.
pub fn receive_kernel(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: all-zero is a valid sockaddr_nl.
    let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut length = size_of_val_u32(&from);
    // SAFETY: the buffer and the address are valid for the lengths given.
    let count = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut from).cast(),
            &raw mut length,
        )
    };
    match usize::try_from(count) {
        Ok(count) => Ok((from.nl_pid == 0).then_some(count)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

fn size_of_val_u32<T>(value: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of_val(value)).unwrap_or_default()
}

/// `finit_module`; the kernel decompresses it itself if told to.
pub fn load_module(file: &File, compressed: bool) -> io::Result<()> {
    const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: the parameter string is an empty C string that lives for ever.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `init_module`: a module from memory.
pub fn load_module_bytes(module: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and length are those of the slice, which the kernel copies; the parameter string is an
    // empty C string that lives for ever.
    let result = unsafe { libc::syscall(libc::SYS_init_module, module.as_ptr(), module.len(), c"".as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `TIOCOUTQ`: bytes that a terminal has taken and not sent yet.
pub fn unsent(terminal: &File) -> io::Result<libc::c_int> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int, which `bytes` is.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(bytes)
}

/// `BLKROSET`: nobody can write to this block device any more, through whatever descriptor, until it is taken back (`false`).
pub fn block_read_only(device: &File, yes: bool) -> io::Result<()> {
    const BLKROSET: libc::c_ulong = 0x125d;
    let read_only = libc::c_int::from(yes);
    // SAFETY: the request reads one int, which `read_only` is.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKROSET, &raw const read_only) }).map(|_| ())
}

/// `BLKDISCARD`: the first so many bytes of a block device are not needed any more. Not every disk can be told.
pub fn discard(device: &File, bytes: u64) -> io::Result<()> {
    const BLKDISCARD: libc::c_ulong = 0x1277;
    let range = [0u64, bytes];
    // SAFETY: the request reads two u64, which `range` is.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKDISCARD, &raw const range) }).map(|_| ())
}

/// Bytes of a block device.
pub fn block_bytes(device: &File) -> io::Result<u64> {
    const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;
    let mut bytes = 0u64;
    // SAFETY: the request writes one u64, which `bytes` is.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKGETSIZE64, &raw mut bytes) })?;
    Ok(bytes)
}

/// Bytes of a block device's logical sector.
pub fn sector_bytes(device: &File) -> io::Result<u32> {
    const BLKSSZGET: libc::c_ulong = 0x1268;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int, which `bytes` is.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BLKSSZGET, &raw mut bytes) })?;
    u32::try_from(bytes).map_err(io::Error::other)
}

/// Makes the kernel read a disk's partition table again.
pub fn reread_partitions(disk: &File) -> io::Result<()> {
    const BLKRRPART: libc::c_ulong = 0x125f;
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(disk.as_raw_fd(), BLKRRPART, 0) }).map(|_| ())
}

#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: libc::c_int,
    names: [u8; 128],
}

#[repr(C)]
struct BlkpgArgument {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut BlkpgPartition,
}

/// Tells the kernel that a partition, mounted or not, has grown. `start` and `length` in bytes.
pub fn resize_partition(disk: &File, number: i32, start: i64, length: i64) -> io::Result<()> {
    const BLKPG: libc::c_ulong = 0x1269;
    const BLKPG_RESIZE_PARTITION: libc::c_int = 3;
    let mut partition = BlkpgPartition { start, length, number, names: [0; 128] };
    let size = libc::c_int::try_from(size_of::<BlkpgPartition>()).unwrap_or_default();
    let mut argument =
        BlkpgArgument { operation: BLKPG_RESIZE_PARTITION, flags: 0, length: size, data: &raw mut partition };
    // SAFETY: the argument and the partition it points to are the kernel's structures and live through the call.
    check(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG, &raw mut argument) }).map(|_| ())
}

/// Grows a mounted ext4, by any descriptor in it, to that many blocks.
pub fn ext4_resize(mount: &File, blocks: u64) -> io::Result<()> {
    const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;
    // SAFETY: the request reads one u64, which `blocks` is.
    check(unsafe { libc::ioctl(mount.as_raw_fd(), EXT4_IOC_RESIZE_FS, &raw const blocks) }).map(|_| ())
}

/// Mixes a seed into the kernel's pool and counts it as `bits` of entropy.
pub fn add_entropy(random: &File, seed: &[u8], bits: u32) -> io::Result<()> {
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    // struct rand_pool_info: two ints, then the bytes. Built as bytes, so nothing depends on padding.
    let mut info = Vec::with_capacity(8 + seed.len());
    info.extend_from_slice(&bits.to_ne_bytes());
    info.extend_from_slice(&u32::try_from(seed.len()).map_err(io::Error::other)?.to_ne_bytes());
    info.extend_from_slice(seed);
    // SAFETY: the request reads the two ints and as many bytes as the second says, all of them in `info`; a byte
    // vector from the allocator is aligned for an int.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, info.as_ptr()) }).map(|_| ())
}

/// Locks what PID 1 uses in memory. Its program needs no lock: it is a file of the initramfs, which is memory itself, so
/// pages of it that nothing has used yet need no disk to appear.
pub fn lock_memory() -> io::Result<()> {
    // What the initrd stage allocated and freed (modules' files, indexes) would stay resident for good.
    // SAFETY: it only gives memory back that nobody uses.
    unsafe { libc::malloc_trim(0) };
    // Pages that are really used: stacks and heaps reserve far more.
    // SAFETY: locking has no memory preconditions.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) }).map(|_| ())
}

/// Lets PID 1 have as many descriptors open as all units together need; the kernel gives it 1,024.
pub fn raise_open_files() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: 1 << 16, rlim_max: 1 << 19 };
    // SAFETY: the kernel reads one `rlimit`.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map(|_| ())
}

/// Sets the wall clock.
pub fn set_clock(seconds: i64) -> io::Result<()> {
    let time = libc::timespec { tv_sec: seconds, tv_nsec: 0 };
    // SAFETY: the timespec is valid and lives through the call.
    check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) }).map(|_| ())
}

/// Moves the wall clock by so many nanoseconds: at once, or by 0.5 ms in each second. From then on the kernel counts it as
/// in step with others, within `error_us`, and sets the hardware's clock by it every 11 minutes.
pub fn move_clock(by_ns: i64, error_us: i64, at_once: bool) -> io::Result<()> {
    // SAFETY: all zeros is a `timex`: it holds integers only.
    let mut change: libc::timex = unsafe { std::mem::zeroed() };
    if at_once {
        change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
        change.time.tv_sec = by_ns.div_euclid(1_000_000_000);
        // With ADJ_NANO these are nanoseconds, from 0 on.
        change.time.tv_usec = by_ns.rem_euclid(1_000_000_000);
    } else {
        change.modes = libc::ADJ_OFFSET_SINGLESHOT;
        change.offset = by_ns / 1000;
    }
    // SAFETY: the kernel reads and writes one `timex`, which lives through the call.
    check(unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &raw mut change) })?;
    // SAFETY: as above.
    let mut mark: libc::timex = unsafe { std::mem::zeroed() };
    mark.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR;
    (mark.maxerror, mark.esterror) = (error_us, error_us);
    // SAFETY: as above.
    check(unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &raw mut mark) }).map(|_| ())
}

/// Ctrl-Alt-Del sends SIGINT to PID 1 instead of rebooting at once.
pub fn ctrl_alt_del_as_signal() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::reboot(libc::LINUX_REBOOT_CMD_CAD_OFF) }).map(|_| ())
}

/// Lets everybody else go first.
pub fn be_patient() -> io::Result<()> {
    // SAFETY: no memory is involved; 0 means this process.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 15) }).map(|_| ())
}

/// One request of the device mapper. `buffer` starts with the kernel's `struct dm_ioctl`.
pub fn device_mapper(control: &File, request: u8, buffer: &mut [u8]) -> io::Result<()> {
    // _IOWR(0xfd, request, struct dm_ioctl); the structure has 312 bytes.
    let code = 0xc138_fd00 | libc::c_ulong::from(request);
    let length = u32::try_from(buffer.len()).map_err(io::Error::other)?;
    if length < 312 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The kernel reads and writes as many bytes as the structure's `data_size` says: it says what we have.
    buffer[12..16].copy_from_slice(&length.to_ne_bytes());
    // SAFETY: the kernel touches at most `data_size` bytes from the pointer, and the buffer has them.
    check(unsafe { libc::ioctl(control.as_raw_fd(), code, buffer.as_mut_ptr()) }).map(|_| ())
}
