//! As the only program of a machine.

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use std::fs;

fn fs_mount(kind: &str, path: &str, options: &str) {
    fs::create_dir_all(path).unwrap();
    let flags = MsFlags::empty();
    mount(Some(kind), path, Some(kind), flags, Some(options)).unwrap_or_else(|e| panic!("mount {path}: {e}"));
}

/// Moves from the initial root, which cannot be pivoted away from, into a tmpfs, and mounts the kernel's own.
pub fn prepare() {
    fs_mount("tmpfs", "/new", "mode=755");
    for folder in ["modules", "run", "tmp"] {
        fs::create_dir_all(format!("/new/{folder}")).unwrap();
    }
    // Named so that dependencies come first.
    let mut modules: Vec<_> = fs::read_dir("/modules").unwrap().map(|m| m.unwrap().path()).collect();
    modules.sort();
    for module in modules {
        let loaded = finit_module(fs::File::open(&module).unwrap(), c"", ModuleInitFlags::empty());
        println!("module {}: {loaded:?}", module.display());
    }
    std::env::set_current_dir("/new").unwrap();
    let none: Option<&str> = None;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).unwrap();
    nix::unistd::chroot(".").unwrap();
    std::env::set_current_dir("/").unwrap();
    fs_mount("proc", "/proc", "");
    fs_mount("sysfs", "/sys", "");
    fs_mount("devtmpfs", "/dev", "");
    fs_mount("devpts", "/dev/pts", "ptmxmode=0666");
    fs_mount("cgroup2", "/sys/fs/cgroup", "");
    // As on a machine: what is open counts as memory.
    fs::write("/proc/sys/fs/file-max", i64::MAX.to_string()).unwrap();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    println!("kernel {}", release.trim());
    fs::create_dir_all("/state").unwrap();
    let _ = fs::metadata("/dev/vda").map(|_| {
        mount(Some("/dev/vda"), "/state", Some("ext4"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none)
            .unwrap();
        println!("state on ext4");
    });
    if fs::metadata("/dev/vda").is_err() {
        fs_mount("tmpfs", "/state", "mode=755");
    }
    mount(Some("/state"), "/tmp", none, MsFlags::MS_BIND, none).unwrap();
}

pub fn power_off() {
    let _ = reboot(RebootMode::RB_POWER_OFF);
}
