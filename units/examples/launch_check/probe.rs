//! The program in the container: prints facts as `key = value`, and what becomes of things it should not be able to do.

use crate::attempts;
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, SFlag, mknod};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

pub fn run(args: &[String]) -> i32 {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["facts"] => facts(),
        ["layers"] => layers(),
        ["read-fds"] => read_fds(),
        ["make-top"] => make_top(),
        ["secrets"] => secrets(),
        ["reopen"] => attempts::reopen(),
        ["masks"] => attempts::masks(),
        ["helpers"] => attempts::helpers(),
        ["bomb"] => attempts::bomb(),
        ["hoard"] => attempts::hoard(),
        ["notify"] => attempts::notify(),
        ["given"] => given(),
        ["rights"] => rights(),
        ["start", path] => {
            let started = std::process::Command::new(path).args(["probe", "rights"]).status();
            say("started", &text(started.map(|_| ())));
        }
        ["hunt"] => hunt(),
        ["steal"] => steal(),
        ["touch", path] => fs::write(path, "").unwrap(),
        ["sleep"] => loop {
            nix::unistd::pause();
        },
        ["term"] => {
            let mut set = SigSet::empty();
            set.add(Signal::SIGTERM);
            set.thread_block().unwrap();
            say("ready", "yes");
            set.wait().unwrap();
            return 7;
        }
        ["tree"] => {
            let mut children = Vec::new();
            for _ in 0..3 {
                children.push(
                    std::process::Command::new("/proc/self/exe").args(["probe", "sleep"]).spawn().unwrap(),
                );
            }
            say("ready", "yes");
            children[0].wait().unwrap();
        }
        ["forks", count] => {
            let mut children = Vec::new();
            let mut outcome = Ok(());
            for _ in 0..count.parse().unwrap() {
                match std::process::Command::new("/proc/self/exe").args(["probe", "sleep"]).spawn() {
                    Ok(child) => children.push(child),
                    Err(error) => outcome = Err(error),
                }
            }
            say("forks", &text(outcome));
            for mut child in children {
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
        ["eat"] => {
            let mut eaten = Vec::new();
            loop {
                eaten.push(vec![1_u8; 1 << 20]);
            }
        }
        _ => {
            eprintln!("unknown probe {args:?}");
            return 64;
        }
    }
    0
}

pub fn say(key: &str, value: &str) {
    println!("{key} = {value}");
}

/// `ok`, or the error's name.
pub fn text<T>(outcome: std::io::Result<T>) -> String {
    match outcome {
        Ok(_) => "ok".into(),
        Err(error) => error.raw_os_error().map_or(error.to_string(), |n| format!("{:?}", Errno::from_raw(n))),
    }
}

fn facts() {
    say("pid", &std::process::id().to_string());
    say("uid", &nix::unistd::getuid().to_string());
    say("gid", &nix::unistd::getgid().to_string());
    let groups = fs::read_to_string("/proc/self/status").unwrap();
    for line in groups.lines() {
        let (key, value) = line.split_once(':').unwrap();
        say(&format!("status {key}"), value.trim());
        if key == "Groups" {
            say("groups", value.trim());
        }
    }
    say(
        "processes",
        &names("/proc").unwrap().iter().filter(|n| n.parse::<u32>().is_ok()).count().to_string(),
    );
    say("hostname", fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
    say("cgroup", fs::read_to_string("/proc/self/cgroup").unwrap().lines().last().unwrap());
    say("interfaces", &names("/sys/class/net").unwrap().join(" "));
    let lo = fs::read_to_string("/sys/class/net/lo/flags").unwrap();
    let flags = u32::from_str_radix(lo.trim().trim_start_matches("0x"), 16).unwrap();
    say("loopback", if flags & 1 == 1 { "up" } else { "down" });
    say("low port", &text(std::net::TcpListener::bind("127.0.0.1:80")));
    say("dev", &names("/dev").unwrap().join(" "));
    fds();
    for path in ["/dev/null", "/dev/stdout", "/dev/tty"] {
        say(&format!("open {path}"), &text(fs::OpenOptions::new().write(true).open(path)));
    }
    say("openpty", &text(fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx")));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    say("root mounts", &mounts.lines().filter(|l| l.split(' ').nth(4) == Some("/")).count().to_string());
    for line in mounts.lines() {
        say("mount", line);
    }
    for (key, value) in std::env::vars() {
        say(&format!("env {key}"), &value);
    }
    say("cwd", std::env::current_dir().unwrap().to_str().unwrap());
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let files: Vec<_> =
        limits.lines().find(|l| l.starts_with("Max open files")).unwrap().split_whitespace().collect();
    say("limit nofile", &format!("{} {}", files[3], files[4]));
    say("oom_score_adj", fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim());
    let input = fs::read_link("/proc/self/fd/0").unwrap();
    let owner = fs::metadata(&input).map_or_else(|e| e.to_string(), |m| m.uid().to_string());
    say("input", &format!("{} of {owner}", input.display()));
    attempts();
}

fn attempts() {
    say(
        "mknod",
        &text(mknod("/dev/node", SFlag::S_IFCHR, Mode::empty(), libc::makedev(8, 0)).map_err(Into::into)),
    );
    let none: Option<&str> = None;
    say("mount tmpfs", &text(mount(none, "/", Some("tmpfs"), MsFlags::empty(), none).map_err(Into::into)));
    say("unshare user", &text(unshare(CloneFlags::CLONE_NEWUSER).map_err(Into::into)));
    say("unshare mount", &text(unshare(CloneFlags::CLONE_NEWNS).map_err(Into::into)));
    say("sethostname", &text(nix::unistd::sethostname("x").map_err(Into::into)));
    for path in [
        "/proc/sys/kernel/panic",
        "/proc/irq/default_smp_affinity",
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/kernel/rcu_expedited",
        "/etc/resolv.conf",
        "/proc/sys/net/ipv4/ip_forward",
    ] {
        // Opened, not written: where it should fail it would be dangerous.
        say(&format!("write {path}"), &text(fs::OpenOptions::new().write(true).open(path)));
    }
    for path in ["/file", "/etc/file", "/run/file", "/tmp/file", "/scratch/deep/file", "/var/lib/check/file"]
    {
        say(&format!("write {path}"), &text(fs::write(path, "x")));
    }
    say("fill /scratch/deep/big", &text(fs::write("/scratch/deep/big", vec![0; 1 << 20])));
    say("chown /file", &text(chown("/file", Some(65_535), Some(65_535))));
    say("chown outside range", &text(chown("/file", Some(65_536), None)));
    for path in ["/proc/keys", "/proc/kcore"] {
        let mut buffer = [0; 64];
        let outcome = fs::File::open(path).and_then(|mut f| f.read(&mut buffer));
        say(&format!("read {path}"), &outcome.map_or_else(|e| text::<()>(Err(e)), |n| format!("{n} bytes")));
    }
    say("connect", &text(std::os::unix::net::UnixStream::connect("/run/berth/control.sock")));
    for path in ["/sys/firmware", "/var/lib/berth"] {
        let outcome = names(path).map(|n| format!("{} entries", n.len()));
        say(&format!("list {path}"), &outcome.unwrap_or_else(|e| text::<()>(Err(e))));
    }
}

fn layers() {
    for path in ["/bottom", "/both", "/alice", "/removed", "/opaque/old", "/opaque/new"] {
        let outcome = fs::symlink_metadata(path).map(|m| {
            let words = fs::read_to_string(path).unwrap_or_default();
            format!("{}:{} {words}", m.uid(), m.gid())
        });
        say(&format!("owner {path}"), &outcome.unwrap_or_else(|e| text::<()>(Err(e))));
    }
    say("kept", if Path::new("/written").exists() { "yes" } else { "no" });
    fs::write("/written", "x").unwrap();
    fs::set_permissions("/written", fs::Permissions::from_mode(0o640)).unwrap();
    chown("/written", Some(7), Some(8)).unwrap();
}

fn read_fds() {
    fds();
    say("env BERTH_BLOCK_FDS", &std::env::var("BERTH_BLOCK_FDS").unwrap());
    for n in [3, 4] {
        say(&format!("fd {n}"), &fs::read_to_string(format!("/proc/self/fd/{n}")).unwrap());
    }
}

fn secrets() {
    for name in ["password", "long"] {
        let path = Path::new("/run/secrets").join(name);
        let file = fs::metadata(&path).unwrap();
        let words = fs::read_to_string(&path).unwrap();
        say(name, &format!("{}:{} {:o} {words}", file.uid(), file.gid(), file.mode() & 0o7777));
    }
    say("write", &text(fs::write("/run/secrets/new", "x")));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains("/secrets ")).unwrap();
    let words: Vec<&str> = mount.split(' ').collect();
    say("mount", &format!("{} {} {}", words[4], words[5], words.last().unwrap()));
}

/// What `mounts` and `devices` have brought.
fn given() {
    let conf = fs::metadata("/etc/app/app.conf").unwrap();
    let words = fs::read_to_string("/etc/app/app.conf").unwrap();
    say("conf", &format!("{}:{} {:o} {words}", conf.uid(), conf.gid(), conf.mode() & 0o7777));
    say("write conf", &text(fs::write("/etc/app/app.conf", "x")));
    say("chmod conf", &text(fs::set_permissions("/etc/app/app.conf", fs::Permissions::from_mode(0o666))));
    say("cgroups", &names("/host/cgroup").map_or_else(|e| text::<()>(Err(e)), |n| n.join(" ")));
    let procs = "/host/cgroup/units/check/cgroup.procs";
    say("write cgroups", &text(fs::OpenOptions::new().write(true).open(procs)));
    for path in ["/dev/sub/zero", "/dev/other", "/dev/vda"] {
        let read = fs::File::open(path).and_then(|mut f| f.read(&mut [0; 512]));
        say(&format!("read {path}"), &read.map_or_else(|e| text::<()>(Err(e)), |n| format!("{n} bytes")));
        say(&format!("write {path}"), &text(fs::OpenOptions::new().write(true).open(path)));
        say(&format!("chmod {path}"), &text(fs::set_permissions(path, fs::Permissions::from_mode(0o666))));
    }
}

/// Who it is, and what it may.
fn rights() {
    say("euid", &nix::unistd::geteuid().to_string());
    for line in fs::read_to_string("/proc/self/status").unwrap().lines() {
        let (key, value) = line.split_once(':').unwrap();
        say(&format!("status {key}"), value.trim());
    }
    let processes = names("/proc").unwrap().iter().filter(|n| n.parse::<u32>().is_ok()).count();
    say("processes", &processes.to_string());
    for path in [
        "/proc/sys/kernel/panic",
        "/sys/kernel/rcu_expedited",
        "/sys/fs/cgroup/cgroup.procs",
        "/host/proc/sys/kernel/panic",
    ] {
        say(&format!("write {path}"), &text(fs::OpenOptions::new().write(true).open(path)));
    }
    say("dev", &names("/dev").unwrap().join(" "));
    say("firmware", &names("/sys/firmware").unwrap().len().to_string());
    std::io::stdout().flush().unwrap();
}

/// Looks at every other process of its container, again and again until there is a file `/signs/stop`: who they seem to be,
/// and what of those that are not yet its own program can be opened.
fn hunt() {
    let (mut early, mut users, mut got) = (0, BTreeSet::new(), BTreeSet::new());
    say("ready", "yes");
    std::io::stdout().flush().unwrap();
    while !Path::new("/signs/stop").exists() {
        for pid in
            names("/proc").unwrap().iter().filter_map(|n| n.parse::<u32>().ok()).filter(|pid| *pid != 1)
        {
            let proc = Path::new("/proc").join(pid.to_string());
            let Ok(status) = fs::read_to_string(proc.join("status")) else { continue };
            let line = |key| status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default().to_owned();
            for key in ["Uid:", "Gid:", "CapPrm:", "CapBnd:"] {
                users.insert(format!("{key}{}", line(key)).replace('\t', " "));
            }
            if line("Name:").trim() == "probe" {
                continue;
            }
            let mut now = BTreeSet::new();
            for link in ["exe", "cwd", "root", "fd/0", "fd/1", "fd/3"] {
                now.extend(fs::read_link(proc.join(link)).map(|to| format!("{link} {}", to.display())));
                now.extend(fs::File::open(proc.join(link)).map(|_| format!("open {link}")));
            }
            for file in ["mem", "environ", "maps"] {
                let read = fs::File::open(proc.join(file)).and_then(|mut f| f.read(&mut [0; 1]));
                now.extend(read.ok().filter(|n| *n > 0).map(|_| file.to_owned()));
            }
            // What has become its own program meanwhile, or ended, does not count.
            let own = fs::read_link(proc.join("exe")).is_ok_and(|exe| exe == Path::new("/bin/probe"));
            if !own && fs::read_to_string(proc.join("comm")).is_ok_and(|name| name.trim() != "probe") {
                early += 1;
                got.append(&mut now);
            }
        }
    }
    say("early", &early.to_string());
    for user in users {
        say("seen", &user);
    }
    say("got", &Vec::from_iter(got).join(", "));
}

/// Opens the file of a program that somebody outside has brought in.
fn steal() {
    let me = std::process::id().to_string();
    let pids = names("/proc").unwrap().into_iter().filter(|n| n.parse::<u32>().is_ok_and(|pid| pid != 1));
    let other = pids.into_iter().find(|pid| *pid != me).unwrap();
    let exe = Path::new("/proc").join(other).join("exe");
    say("read", &text(fs::File::open(&exe)));
    say("write", &text(fs::OpenOptions::new().write(true).open(&exe)));
}

/// Open descriptors, without the one that lists them.
fn fds() {
    let open: Vec<_> = names("/proc/self/fd")
        .unwrap()
        .into_iter()
        .filter(|n| Path::new("/proc/self/fd").join(n).exists())
        .collect();
    say("fds", &open.join(" "));
    std::io::stdout().flush().unwrap();
}

pub fn names(path: impl AsRef<Path>) -> std::io::Result<Vec<String>> {
    let mut names: Vec<_> =
        fs::read_dir(path)?.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    Ok(names)
}

/// Changes the bottom layer; what the overlay keeps of it becomes the top one.
fn make_top() {
    fs::write("/both", "top").unwrap();
    fs::remove_file("/removed").unwrap();
    fs::remove_dir_all("/opaque").unwrap();
    fs::create_dir("/opaque").unwrap();
    fs::write("/opaque/new", "new").unwrap();
}
