//! What a container tries that wants out. Each prints how far it came.

use crate::probe::{names, say, text};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, sendmsg, socket,
};
use std::fs;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;

const NONE: Option<&str> = None;

/// Opens the program that it is for writing: by its name, and by a descriptor that a copy of it has been opened with.
pub fn reopen() {
    let write = |path: &str| text(fs::OpenOptions::new().write(true).open(path));
    say("again", &write("/proc/self/exe"));
    let file = fs::File::open("/proc/self/exe").unwrap();
    say("by a copy", &write(&format!("/proc/self/fd/{}", file.as_raw_fd())));
}

/// What is to be hidden: whether anything of it can be seen.
pub fn masks() {
    for path in [
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/kmsg",
        "/proc/latency_stats",
        "/proc/scsi",
        "/proc/timer_list",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
        "/sys/fs/pstore",
    ] {
        let Ok(about) = fs::metadata(path) else { continue };
        let seen = if about.is_dir() {
            names(path).is_ok_and(|names| !names.is_empty())
        } else {
            use std::os::unix::fs::OpenOptionsExt;
            let open = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
            open.and_then(|mut file| file.read(&mut [0; 64])).is_ok_and(|count| count > 0)
        };
        say(path, if seen { "seen" } else { "hidden" });
    }
    let pattern = "/proc/sys/kernel/core_pattern";
    say(&format!("write {pattern}"), &text(fs::OpenOptions::new().write(true).open(pattern)));
}

/// Opens, never writes: where it should fail it would be dangerous.
pub fn helpers() {
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    say("remount", &text(mount(NONE, "/proc/sys", NONE, remount, NONE).map_err(Into::into)));
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/poweroff_cmd",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/release_agent",
        "/sys/fs/cgroup/notify_on_release",
    ] {
        say(&format!("open {path}"), &text(fs::OpenOptions::new().write(true).open(path)));
    }
    fs::create_dir_all("/tmp/cgroup").unwrap();
    for options in ["memory", "rdma", "none,name=escape"] {
        let mounted = mount(Some("x"), "/tmp/cgroup", Some("cgroup"), MsFlags::empty(), Some(options));
        say(&format!("mount cgroup {options}"), &text(mounted.map_err(Into::into)));
        say(
            "open release_agent",
            &text(fs::OpenOptions::new().write(true).open("/tmp/cgroup/release_agent")),
        );
    }
}

/// Each process starts others, for ever.
pub fn bomb() {
    let (mut children, mut said) = (Vec::new(), false);
    loop {
        match std::process::Command::new("/proc/self/exe").args(["probe", "bomb"]).spawn() {
            Ok(child) => children.push(child),
            Err(_) => {
                if !std::mem::replace(&mut said, true) && std::process::id() == 1 {
                    say("ready", "yes");
                    std::io::stdout().flush().unwrap();
                }
                // It goes on trying; this leaves the checks some of the processor.
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}

/// Opens files until no more can be had.
pub fn hoard() {
    let mut files = Vec::new();
    let error = loop {
        match fs::File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => break error,
        }
    };
    say("ready", &format!("{} files, {error}", files.len()));
    std::io::stdout().flush().unwrap();
    loop {
        nix::unistd::pause();
    }
}

/// Says that it is ready, then what nobody should believe or has room for.
pub fn notify() {
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_NONBLOCK, None).unwrap();
    let to = UnixAddr::new("/run/notify.sock").unwrap();
    let send = |text: &[u8], control: &[ControlMessage<'_>]| {
        let parts = [IoSlice::new(text)];
        sendmsg(socket.as_raw_fd(), &parts, control, MsgFlags::empty(), Some(&to))
    };
    send(b"READY=1\nSTATUS=up\nMAINPID=1", &[]).unwrap();
    let forged = UnixCredentials::from(libc::ucred { pid: 4_000_000, uid: 1000, gid: 1000 });
    let forged = send(b"READY=1", &[ControlMessage::ScmCredentials(&forged)]);
    say("forge", &text(forged.map_err(Into::into)));
    let (mut near, far) = std::io::pipe().unwrap();
    let barrier = send(b"BARRIER=1", &[ControlMessage::ScmRights(&[far.as_raw_fd()])]);
    barrier.unwrap();
    drop(far);
    say("sent", "yes");
    std::io::stdout().flush().unwrap();
    let flood = loop {
        if let Err(error) = send(b"FLOOD=1", &[]) {
            break error;
        }
    };
    say("flood", &format!("{flood:?}"));
    std::io::stdout().flush().unwrap();
    let rest = near.read(&mut [0; 1]).unwrap();
    say("barrier", if rest == 0 { "closed" } else { "open" });
    std::io::stdout().flush().unwrap();
    loop {
        nix::unistd::pause();
    }
}
