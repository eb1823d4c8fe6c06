//! What a process does to itself before it becomes a container's.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

fn unit(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// All signals unblocked and at their default action: nothing of PID 1's handling is inherited.
pub(crate) fn reset_signals() {
    // Real-time signals are nobody's to ignore here, and exec itself takes handlers back.
    for signal in 1..=31 {
        // SAFETY: SIG_DFL is a valid disposition; for SIGKILL, SIGSTOP and libc's own the call fails, which is right.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: `sigset_t` is plain data, initialised by sigemptyset before it is read.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Closes (or marks close-on-exec) every descriptor from `first` to `last`.
///
/// Whoever still holds an `OwnedFd` in that range must not use it again; the children end by `_exit` or exec, so no
/// destructor runs.
pub(crate) fn close_range(first: u32, last: u32, only_cloexec: bool) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    let flags = if only_cloexec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: three integers. Descriptors closed here belong to a forked copy that never touches them again.
    unit(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })
}

/// A copy of `fd` with a number of at least `least`, close-on-exec.
pub(crate) fn dup_above(fd: RawFd, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor or fails.
    let new = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Puts a copy of `fd` at number `to`, kept over exec. Only for a child about to exec: what was at `to` is closed
/// whoever owns it.
pub(crate) fn dup_to(fd: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes two integers; see above for the owner of `to`.
    unit(unsafe { libc::dup2(fd.as_raw_fd(), to) }.into())
}

/// Removes everything but `keep` from the bounding set.
pub(crate) fn bound_capabilities(keep: u64) -> io::Result<()> {
    for number in 0..64_u64 {
        if keep >> number & 1 == 0 {
            // SAFETY: integers only.
            let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) };
            if done < 0 {
                let error = io::Error::last_os_error();
                // The first number that this kernel does not know: the end of the set.
                if error.raw_os_error() == Some(libc::EINVAL) {
                    return Ok(());
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Sets permitted and effective to `set`, and inheritable and ambient to `ambient`.
pub(crate) fn set_capabilities(set: u64, ambient: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let half = |n: u32| {
        let word = |set: u64| u32::try_from(set >> (32 * n) & 0xffff_ffff).unwrap_or(0);
        Data { effective: word(set), permitted: word(set), inheritable: word(ambient & set) }
    };
    // _LINUX_CAPABILITY_VERSION_3
    let header = Header { version: 0x2008_0522, pid: 0 };
    let data = [half(0), half(1)];
    // SAFETY: version 3 reads one header and two data blocks, which is what is passed.
    unit(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    // SAFETY: integers only.
    unit(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) }.into())?;
    for number in (0..64_u64).filter(|n| ambient & set & 1 << n != 0) {
        // SAFETY: integers only.
        unit(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) }.into())?;
    }
    Ok(())
}

/// Keeps permitted capabilities over the next change from uid 0 to another.
pub(crate) fn keep_capabilities() -> io::Result<()> {
    // SAFETY: integers only.
    unit(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }.into())
}

/// `no_new_privs`, for good.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: integers only.
    unit(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}

/// Loads a seccomp filter for this process and what it becomes.
pub(crate) fn install_filter(code: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: code.as_ptr().cast_mut() };
    // SAFETY: `program` points to `len` instructions, which the kernel copies and checks; it writes nothing.
    unit(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
}

/// A session keyring of its own, so that PID 1's is not reachable.
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unit(unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>(), 0, 0, 0)
    })
}

/// Brings the loopback interface of this network namespace up.
pub(crate) fn loopback_up() -> io::Result<()> {
    // SAFETY: makes a new descriptor or fails.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it; nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: `ifreq` is plain data; all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`.
    unit(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())
}

/// Soft and hard limit of one resource; a hard limit that this process may not raise stays as it is.
pub(crate) fn set_limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one `rlimit`.
    let done = unit(unsafe { libc::setrlimit(resource, &raw const limit) }.into());
    let Err(error) = done else { return Ok(()) };
    if error.raw_os_error() != Some(libc::EPERM) {
        return Err(error);
    }
    // SAFETY: the kernel writes one `rlimit`.
    unit(unsafe { libc::getrlimit(resource, &raw mut limit) }.into())?;
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: as above.
    unit(unsafe { libc::setrlimit(resource, &raw const limit) }.into())
}

/// Nobody without rights over the host may trace this process, or read its memory and descriptors; until exec.
pub(crate) fn unreadable() -> io::Result<()> {
    // SAFETY: integers only.
    unit(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }.into())
}

/// Makes a terminal the one that controls this session.
pub(crate) fn control_by(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    unit(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }.into())
}

/// The other end of a terminal, by its master.
pub(crate) fn terminal_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    unit(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) }.into())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes an integer and makes a new descriptor or fails.
    let peer = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    unit(peer.into())?;
    // SAFETY: the kernel has just made it; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(peer) })
}

/// Sets a terminal's size.
pub(crate) fn set_window(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    unit(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())
}

/// A terminal's size: rows, columns.
pub(crate) fn window(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    unit(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) }.into())?;
    Ok((size.ws_row, size.ws_col))
}

/// `execve`; returns only if it failed.
pub(crate) fn exec(path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both lists end with null and point to C strings that live longer than the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// As [`exec`], of an open file.
pub(crate) fn exec_file(file: BorrowedFd<'_>, argv: &[CString], env: &[CString]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: the descriptor is open, the path an empty C string with static lifetime; for the lists see `exec`.
    unsafe {
        libc::execveat(
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr().cast(),
            env.as_ptr().cast(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(list: &[CString]) -> Vec<*const libc::c_char> {
    list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

const _: () = assert!(size_of::<libc::sock_filter>() == 8);

/// The status bits of the wall clock (adjtimex(2)). Changes nothing, needs no right.
pub(crate) fn clock_status() -> io::Result<libc::c_int> {
    // SAFETY: all zeros is a `timex`: it holds integers only, and asks for no change.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `timex`, which lives through the call.
    if unsafe { libc::adjtimex(&raw mut clock) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(clock.status)
}
