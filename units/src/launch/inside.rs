//! Mounts below an untrusted root.
//!
//! Every path is resolved by `openat2` with the container's root as its root, so a link in the image leads to another
//! place in the image, never out; missing mount points are made on the way, by the container's own root user.

use super::fault::{At, Fault, Step};
use super::setup::NEW_VOLUME;
use crate::sys::mount::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY, FsContext, open_in_root};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Not to be seen, as in Docker: kernel memory, keys, hardware controls.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/pstore",
];
/// To be seen, not to be changed.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The container's root, while it is being furnished.
pub(super) struct Inside {
    root: OwnedFd,
}

impl Inside {
    /// Attaches a detached mount at `root` in the working folder and takes it as root.
    pub(super) fn enter(tree: &OwnedFd) -> Step<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let open = || nix::fcntl::open("root", flags, Mode::empty()).at(|| "open the root");
        mount::attach(tree.as_fd(), open()?.as_fd()).at(|| "attach the root")?;
        Ok(Self { root: open()? })
    }

    /// Mounts a new file system at `path`.
    pub(super) fn mount(&self, kind: &CStr, options: &[(&CStr, &CStr)], attrs: u64, path: &str) -> Step<()> {
        let failed = || format!("mount {} at {path}", kind.to_string_lossy());
        let context = FsContext::open(kind).at(failed)?;
        for (key, value) in options {
            context.set(key, value).at(failed)?;
        }
        let mounted = context.mount(attrs).at(failed)?;
        mount::attach(mounted.as_fd(), self.folder(path)?.as_fd()).at(failed)
    }

    /// Mounts a tmpfs of `bytes`.
    pub(super) fn tmpfs(&self, path: &str, bytes: u64, mode: &CStr) -> Step<()> {
        let size = CString::new(bytes.to_string()).unwrap_or_default();
        self.mount(
            c"tmpfs",
            &[(c"size", &size), (c"mode", mode)],
            ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC,
            path,
        )
    }

    /// Mounts a copy of what is mounted at `from`, outside the root and relative to the working folder.
    pub(super) fn bind(&self, from: &str, path: &str) -> Step<()> {
        let failed = || format!("bind {path}");
        let is_folder = std::fs::metadata(from).at(failed)?.is_dir();
        let from = CString::new(from).at(failed)?;
        let tree = mount::open_tree(nix::fcntl::AT_FDCWD, &from, true).at(failed)?;
        let target = if is_folder { self.folder(path)? } else { self.file(path)? };
        mount::attach(tree.as_fd(), target.as_fd()).at(failed)
    }

    /// Mounts a volume. One that is new ([`NEW_VOLUME`]) gets owner and mode of what the image has at that path; a
    /// program that runs as a user of its own could not write there otherwise. Where the image has nothing, nothing
    /// is decided: another unit's image may know.
    pub(super) fn volume(&self, from: &str, path: &str) -> Step<()> {
        let failed = || format!("give the new volume at {path} its owner");
        let covered = self.existing(path, OFlag::O_PATH | OFlag::O_DIRECTORY).at(failed)?;
        let covered = covered.map(|folder| fstat(&folder)).transpose().at(failed)?;
        self.bind(from, path)?;
        let (Some(covered), Some(volume)) =
            (covered, self.existing(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).at(failed)?)
        else {
            return Ok(());
        };
        let now = fstat(&volume).at(failed)?;
        let mut entries = Dir::from_fd(volume.try_clone().at(failed)?).at(failed)?;
        let own = |name: &CStr| matches!(name.to_bytes(), b"." | b"..");
        let is_empty = entries.iter().flatten().all(|entry| own(entry.file_name()));
        if now.st_mode & 0o7777 != NEW_VOLUME || !is_empty {
            return Ok(());
        }
        match fchown(&volume, Some(Uid::from_raw(covered.st_uid)), Some(Gid::from_raw(covered.st_gid))) {
            // Mounted read-only here; whoever writes to it will do it.
            Err(nix::Error::EROFS) => return Ok(()),
            done => done.at(failed)?,
        }
        fchmod(&volume, Mode::from_bits_truncate(covered.st_mode & 0o777)).at(failed)
    }

    /// Mounts the secrets, and returns their mount: by its path it may be something else by the time that their owner
    /// is known.
    pub(super) fn secrets(&self) -> Step<OwnedFd> {
        let failed = || "mount /run/secrets";
        let tree = mount::open_tree(nix::fcntl::AT_FDCWD, c"secrets", false).at(failed)?;
        mount::attach(tree.as_fd(), self.folder("/run/secrets")?.as_fd()).at(failed)?;
        Ok(tree)
    }

    /// Hides and write-protects what a container has no business with. What this kernel does not have is no fault.
    pub(super) fn mask(&self) -> Step<()> {
        for path in MASKED {
            let failed = || format!("mask {path}");
            let Some(target) = self.existing(path, OFlag::O_PATH).at(failed)? else { continue };
            let is_folder = fstat(&target).at(failed)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
            let cover = if is_folder { c"empty" } else { c"dev/null" };
            let cover = mount::open_tree(nix::fcntl::AT_FDCWD, cover, false).at(failed)?;
            mount::restrict(cover.as_fd(), ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC, false).at(failed)?;
            mount::attach(cover.as_fd(), target.as_fd()).at(failed)?;
        }
        for path in READ_ONLY {
            let failed = || format!("make {path} read-only");
            let Some(target) = self.existing(path, OFlag::O_PATH).at(failed)? else { continue };
            let tree = mount::open_tree(target.as_fd(), c"", true).at(failed)?;
            mount::restrict(tree.as_fd(), ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC, true)
                .at(failed)?;
            mount::attach(tree.as_fd(), target.as_fd()).at(failed)?;
        }
        Ok(())
    }

    /// Makes the mount at `path` (`/` = the root) read-only.
    pub(super) fn protect(&self, path: &str) -> Step<()> {
        let failed = || format!("make {path} read-only");
        let target = self.existing(path, OFlag::O_PATH).at(failed)?;
        target.map_or(Ok(()), |target| mount::restrict(target.as_fd(), ATTR_RDONLY, false).at(failed))
    }

    /// Writes a kernel setting below `/proc/sys`, if there is such a one.
    pub(super) fn sysctl(&self, path: &str, value: &str) -> Step<()> {
        let failed = || format!("write {path}");
        match self.existing(path, OFlag::O_WRONLY).at(failed)? {
            Some(file) => nix::unistd::write(&file, value.as_bytes()).map(|_| ()).at(failed),
            None => Ok(()),
        }
    }

    /// Makes a folder with all of its parents, as the container's user 0.
    pub(super) fn folder(&self, path: &str) -> Step<OwnedFd> {
        let failed = || format!("make the folder {path}");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        if let Some(found) = self.existing(path, flags).at(failed)? {
            return Ok(found);
        }
        let (parent, name) = split(path);
        if name.is_empty() {
            return Err(Fault::new(failed(), "there is no root folder"));
        }
        let parent = self.folder(parent)?;
        let c_name = CString::new(name).at(failed)?;
        match mkdirat(&parent, c_name.as_c_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(nix::Error::EROFS) => {
                return Err(Fault::new(failed(), "it is missing and its file system is read-only"));
            }
            Err(error) => return Err(error).at(failed),
        }
        match self.existing(path, flags).at(failed)? {
            Some(found) => Ok(found),
            None => Err(Fault::new(failed(), "a symbolic link to nowhere lies there")),
        }
    }

    /// A file to mount over; an empty one if there is none. A link to nowhere is replaced.
    fn file(&self, path: &str) -> Step<OwnedFd> {
        let failed = || format!("make the file {path}");
        if let Some(found) = self.existing(path, OFlag::O_PATH).at(failed)? {
            return Ok(found);
        }
        let (parent, name) = split(path);
        let parent = self.folder(parent)?;
        let c_name = CString::new(name).at(failed)?;
        let _ = unlinkat(&parent, c_name.as_c_str(), UnlinkatFlags::NoRemoveDir);
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        nix::fcntl::openat(&parent, c_name.as_c_str(), flags, Mode::from_bits_truncate(0o644)).at(failed)?;
        self.existing(path, OFlag::O_PATH)
            .and_then(|found| found.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .at(failed)
    }

    fn existing(&self, path: &str, flags: OFlag) -> io::Result<Option<OwnedFd>> {
        match open_in_root(self.root.as_fd(), &CString::new(path)?, flags.bits(), 0) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes this the process's root; nothing of the old one can be reached any more.
    pub(super) fn pivot(self) -> Step<()> {
        nix::unistd::fchdir(&self.root).at(|| "enter the root")?;
        mount::pivot_here().at(|| "pivot_root")?;
        mount::detach_here().at(|| "let the host's mounts go")?;
        nix::unistd::chdir("/").at(|| "enter the root")
    }
}

/// Parent and last component.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("/", path),
    }
}

/// Reads a file of the image, at most `limit` bytes; whatever is not a readable regular file is empty. Only after
/// [`Inside::pivot`].
pub(super) fn read_bounded(path: &CStr, limit: u64) -> String {
    use std::io::Read;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let Ok(fd) = nix::fcntl::open(path, flags, Mode::empty()) else { return String::new() };
    let regular = nix::sys::stat::fstatat(&fd, c"", AtFlags::AT_EMPTY_PATH)
        .is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFREG);
    let mut text = Vec::new();
    if regular {
        // What was read before an error is used.
        let _ = std::fs::File::from(fd).take(limit).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn inside(dir: &std::path::Path) -> Inside {
        Inside { root: std::fs::File::open(dir).unwrap().into() }
    }

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        std::fs::create_dir_all(root.join("real")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        symlink(&outside, root.join("absolute")).unwrap();
        symlink("../../../../outside", root.join("relative")).unwrap();
        symlink("/real", root.join("good")).unwrap();
        let inside = inside(&root);
        inside.folder("/good/new/deep").unwrap();
        assert!(root.join("real/new/deep").is_dir());
        // A link whose target does not exist inside cannot be mounted on.
        assert!(inside.folder("/absolute").unwrap_err().error.contains("link to nowhere"));
        assert!(inside.folder("/absolute/x").is_err());
        assert!(inside.folder("/relative/x").is_err());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_dangling_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        symlink("/run/systemd/resolve/stub-resolv.conf", root.join("etc/resolv.conf")).unwrap();
        symlink(dir.path().join("target"), root.join("etc/hosts")).unwrap();
        let inside = inside(&root);
        inside.file("/etc/resolv.conf").unwrap();
        inside.file("/etc/hosts").unwrap();
        inside.file("/etc/sub/hostname").unwrap();
        assert!(root.join("etc/resolv.conf").symlink_metadata().unwrap().is_file());
        assert!(root.join("etc/sub/hostname").is_file());
        assert!(!dir.path().join("target").exists());
    }

    #[test]
    fn dots_do_not_climb() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        inside(&root).folder("/../../up").unwrap();
        assert!(root.join("up").is_dir());
        assert!(!dir.path().join("up").exists());
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
        let c = |p: &std::path::Path| CString::new(p.to_str().unwrap()).unwrap();
        assert_eq!(read_bounded(&c(&fifo), 10), "");
        assert_eq!(read_bounded(c"/dev/zero", 10), "");
        let file = dir.path().join("file");
        std::fs::write(&file, "0123456789abc").unwrap();
        assert_eq!(read_bounded(&c(&file), 10), "0123456789");
    }
}
