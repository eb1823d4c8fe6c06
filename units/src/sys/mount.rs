//! The mount API by descriptors (Linux 5.2 and later) and `openat2`.

use std::ffi::CStr;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `MOUNT_ATTR_*` (`include/uapi/linux/mount.h`).
pub(crate) const ATTR_RDONLY: u64 = 0x1;
pub(crate) const ATTR_NOSUID: u64 = 0x2;
pub(crate) const ATTR_NODEV: u64 = 0x4;
pub(crate) const ATTR_NOEXEC: u64 = 0x8;
const ATTR_IDMAP: u64 = 0x0010_0000;

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

/// How often `openat2` may be disturbed by somebody else's renames before it fails.
const OPEN_TRIES: u32 = 128;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// A new descriptor, or errno.
fn fd(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: every caller passes the result of a system call that returns a new descriptor of its own.
        Ok(raw) if raw >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(raw) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn unit(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A detached copy of the mount at `path` below `dir` (`c""` = `dir` itself), with what is mounted below it if
/// `recursive`.
pub(crate) fn open_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.cast_unsigned();
    if recursive {
        flags |= libc::AT_RECURSIVE.cast_unsigned();
    }
    // SAFETY: `dir` is open and `path` a C string for the length of the call.
    fd(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// Attaches a detached mount on top of the file or folder `target`.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both descriptors are open, both paths are empty C strings with static lifetime.
    unit(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
}

fn setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `mount` is open, the path is an empty C string, `attr` is a `struct mount_attr` of the size given.
    unit(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
}

/// Adds `MOUNT_ATTR_*` flags to a mount.
pub fn restrict(mount: BorrowedFd<'_>, attrs: u64, recursive: bool) -> io::Result<()> {
    setattr(mount, recursive, &MountAttr { set: attrs, clear: 0, propagation: 0, userns: 0 })
}

/// Shows the files of a detached mount with their ids mapped by `userns`.
pub(crate) fn idmap(mount: BorrowedFd<'_>, userns: BorrowedFd<'_>) -> io::Result<()> {
    let userns = u64::from(userns.as_raw_fd().unsigned_abs());
    setattr(mount, false, &MountAttr { set: ATTR_IDMAP, clear: 0, propagation: 0, userns })
}

/// A new mount of that kind with these parameters, attached nowhere, and gone when its descriptor is closed. `attrs`:
/// `MOUNT_ATTR_*`. Errors are the kernel's numbers, as they are.
pub fn detached(kind: &CStr, options: &[(&CStr, &CStr)], attrs: u64) -> io::Result<OwnedFd> {
    let context = FsContext::open(kind)?;
    for (key, value) in options {
        context.try_config(FSCONFIG_SET_STRING, Some(key), Some(value))?;
    }
    context.try_mount(attrs)
}

/// A file system being configured.
pub(crate) struct FsContext(OwnedFd);

impl FsContext {
    /// `fsopen`.
    pub(crate) fn open(kind: &CStr) -> io::Result<Self> {
        // SAFETY: `kind` is a C string.
        fd(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) }).map(Self)
    }

    fn try_config(&self, command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>) -> io::Result<()> {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: key and value are C strings or null, as the command asks.
        let done = unsafe {
            libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, pointer(key), pointer(value), 0)
        };
        unit(done)
    }

    fn try_mount(&self, attrs: u64) -> io::Result<OwnedFd> {
        self.try_config(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: the context's descriptor is open; the rest are integers.
        fd(unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attrs) })
    }

    /// Sets a parameter.
    pub(crate) fn set(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        self.try_config(FSCONFIG_SET_STRING, Some(key), Some(value)).map_err(|error| self.explain(error))
    }

    /// Sets a flag.
    pub(crate) fn flag(&self, key: &CStr) -> io::Result<()> {
        self.try_config(FSCONFIG_SET_FLAG, Some(key), None).map_err(|error| self.explain(error))
    }

    /// Makes the detached mount.
    pub(crate) fn mount(self, attrs: u64) -> io::Result<OwnedFd> {
        self.try_mount(attrs).map_err(|error| self.explain(error))
    }

    /// The kernel's own words, which the context keeps, together with the error.
    fn explain(&self, error: io::Error) -> io::Error {
        let mut text = [0_u8; 256];
        // SAFETY: the buffer is writable for its whole length.
        let got = unsafe { libc::read(self.0.as_raw_fd(), text.as_mut_ptr().cast(), text.len()) };
        match usize::try_from(got) {
            // "e text"
            Ok(n) if n > 2 => {
                let words = String::from_utf8_lossy(&text[2..n]).trim().to_owned();
                io::Error::new(error.kind(), format!("{error} ({words})"))
            }
            _ => error,
        }
    }
}

/// `openat2` below `dir`, which is the root for absolute paths, links and `..`; `flags` get `O_CLOEXEC` added.
pub(crate) fn open_in_root(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    openat2(dir, path, flags, mode, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS)
}

/// `openat2` of an absolute path in which nothing may be a link.
pub(crate) fn open_plain(path: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    openat2(nix::fcntl::AT_FDCWD, path, flags, mode, libc::RESOLVE_NO_SYMLINKS)
}

/// The same, if it takes nothing that the kernel would have to read from a disk: else it fails at once.
pub(crate) fn open_at_hand(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    openat2(nix::fcntl::AT_FDCWD, path, flags, 0, libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_CACHED)
}

fn openat2(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: `open_how` consists of integers only; all zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    how.mode = u64::from(mode);
    how.resolve = resolve;
    // With this flag EAGAIN is an answer, which does not change.
    let mut tries = if resolve & libc::RESOLVE_CACHED == 0 { 0 } else { OPEN_TRIES };
    loop {
        // SAFETY: `dir` is open, `path` a C string, `how` an `open_how` of the size given.
        let opened = fd(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        });
        match opened {
            // Somebody somewhere renamed or mounted while a `..` was looked up.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries < OPEN_TRIES => tries += 1,
            opened => return opened,
        }
    }
}

/// Makes the current folder the root and puts the old root on top of it, from where [`detach_here`] removes it.
pub(crate) fn pivot_here() -> io::Result<()> {
    // SAFETY: both paths are C strings with static lifetime.
    unit(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
}

/// Lazily unmounts what is mounted on the current folder.
pub(crate) fn detach_here() -> io::Result<()> {
    // SAFETY: the path is a C string with static lifetime.
    unit(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }.into())
}

/// Makes every mount of this namespace private.
pub(crate) fn make_private() -> io::Result<()> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: for a change of propagation the kernel reads only the target, a C string with static lifetime.
    unit(
        unsafe { libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) }
            .into(),
    )
}

/// Makes a device node below `dir`; `mode` with its kind, `S_IFCHR` or `S_IFBLK`.
pub(crate) fn mknod(dir: BorrowedFd<'_>, name: &CStr, mode: u32, device: libc::dev_t) -> io::Result<()> {
    // SAFETY: `dir` is open and `name` a C string.
    unit(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, device) }.into())
}
