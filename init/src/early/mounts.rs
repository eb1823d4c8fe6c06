//! Mounts of the machine itself, with the least that each needs.

use nix::mount::{MsFlags, mount};
use std::path::Path;

/// One of the kernel's file systems.
pub struct Api {
    /// File system type, also its source.
    pub kind: &'static str,
    /// Where.
    pub target: &'static str,
    /// What is not allowed in it.
    pub flags: MsFlags,
    /// Its own options.
    pub options: &'static str,
}

const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Mounted by the initrd stage and moved along. `/dev` must allow devices; nothing in it is ever run.
pub const FIRST: [Api; 4] = [
    Api {
        kind: "devtmpfs",
        target: "/dev",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        options: "mode=0755",
    },
    Api { kind: "proc", target: "/proc", flags: PLAIN, options: "" },
    Api { kind: "sysfs", target: "/sys", flags: PLAIN, options: "" },
    Api { kind: "tmpfs", target: "/run", flags: PLAIN, options: "mode=0755,size=20%,nr_inodes=64k" },
];

/// Mounted by the main stage.
pub const SECOND: [Api; 3] = [
    Api {
        kind: "cgroup2",
        target: berth_units::paths::CGROUP,
        flags: PLAIN,
        options: "nsdelegate,memory_recursiveprot",
    },
    Api { kind: "tmpfs", target: "/dev/shm", flags: PLAIN, options: "mode=1777,size=10%,nr_inodes=16k" },
    Api { kind: "tmpfs", target: "/tmp", flags: PLAIN, options: "mode=1777,size=10%,nr_inodes=16k" },
];

/// Mounts one of them, making the folder if the file system above lets us.
pub fn api(mount_point: &Api) -> Result<(), String> {
    let _ = std::fs::create_dir(mount_point.target);
    let options = (!mount_point.options.is_empty()).then_some(mount_point.options);
    mount(Some(mount_point.kind), mount_point.target, Some(mount_point.kind), mount_point.flags, options)
        .map_err(|error| format!("{} not mounted at {}: {error}", mount_point.kind, mount_point.target))
}

/// Does something with the kernel's security files, which are mounted only as long.
pub fn with_securityfs(work: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let folder = Path::new("/sys/kernel/security");
    mount(Some("securityfs"), folder, Some("securityfs"), PLAIN, None::<&str>)
        .map_err(|error| format!("securityfs: {error}"))?;
    let result = work(folder);
    let _ = nix::mount::umount(folder);
    result
}

/// Moves a mount.
pub fn shift(from: &Path, to: &Path) -> Result<(), String> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(|error| format!("{} not moved to {}: {error}", from.display(), to.display()))
}

/// What happens in a mount namespace stays there.
pub fn make_private() -> Result<(), String> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|error| format!("mounts not made private: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_them_is_privileged_or_run_and_devices_are_in_dev_only() {
        for api in FIRST.iter().chain(&SECOND) {
            assert!(api.flags.contains(MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC), "{}", api.target);
            assert_eq!(api.flags.contains(MsFlags::MS_NODEV), api.target != "/dev", "{}", api.target);
        }
    }
}
