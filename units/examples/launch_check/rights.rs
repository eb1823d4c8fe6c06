//! What a unit is given beyond the defaults: exactly that, and nothing else.

use crate::driver::Bench;
use berth_units::cgroup;
use berth_units::disks;
use berth_units::launch::{Bind, Caps};
use berth_units::model::{Device, IoMax, NetworkMode, Resources};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn device(source: &str, target: &str, read_only: bool) -> Device {
    Device { source: source.into(), target: target.into(), read_only }
}

pub fn mounts_and_devices(bench: &Bench) {
    let mut plan = bench.plan(&["given"]);
    plan.files = vec![("/etc/app/app.conf".into(), "port 80".into())];
    plan.binds = vec![Bind::of("/sys/fs/cgroup", "/host/cgroup")];
    plan.devices = vec![
        device("/dev/zero", "/dev/sub/zero", false),
        device("/dev/full", "/dev/other", true),
        device("/dev/vda", "/dev/vda", true),
    ];
    let reason = bench.fails(&plan);
    assert_eq!(reason, "give it the device /dev/vda: it is on the disk that Berth itself lies on");
    // As if the state were elsewhere.
    plan.state = "/proc".into();
    for user in ["", "alice"] {
        plan.user = user.into();
        let run = bench.run(&plan);
        assert_eq!(run.fact("conf"), "0:0 444 port 80");
        assert_eq!(run.fact("write conf").replace("EACCES", "EROFS"), "EROFS");
        assert_eq!(run.fact("chmod conf").replace("EPERM", "EROFS"), "EROFS");
        assert!(run.fact("cgroups").contains("units"), "{}", run.output);
        assert_ne!(run.fact("write cgroups"), "ok");
        for (path, read, write) in [
            ("/dev/sub/zero", "512 bytes", "ok"),
            ("/dev/other", "512 bytes", "EACCES"),
            ("/dev/vda", "512 bytes", "EACCES"),
        ] {
            assert_eq!(run.fact(&format!("read {path}")), read, "{path} as {user:?}");
            assert_eq!(run.fact(&format!("write {path}")), write, "{path} as {user:?}");
            assert_eq!(run.fact(&format!("chmod {path}")), "EPERM", "{path} as {user:?}");
        }
    }
    let fails = |source: &str| {
        let mut plan = bench.plan(&["given"]);
        plan.devices = vec![device(source, "/dev/x", false)];
        bench.fails(&plan)
    };
    assert_eq!(fails("/dev/none"), "give it the device /dev/none: the machine does not have it");
    assert_eq!(fails("/dev/pts"), "give it the device /dev/pts: it is no device");
    // A link on the way to what is bound is followed by nobody.
    let link = bench.dir().join("link");
    std::os::unix::fs::symlink("/proc", &link).unwrap();
    for source in [link.clone(), link.join("sys")] {
        let mut plan = bench.plan(&["given"]);
        plan.binds = vec![Bind::of(source, "/host")];
        let reason = bench.fails(&plan);
        assert!(reason.starts_with("bind ") && !reason.contains("started"), "{reason}");
    }
}

pub fn setuid_programs(bench: &Bench) {
    let image = bench.extra_layer("setuid");
    fs::create_dir_all(image.join("bin")).unwrap();
    fs::copy(bench.layer(0).join("bin/probe"), image.join("bin/suid")).unwrap();
    fs::set_permissions(image.join("bin/suid"), fs::Permissions::from_mode(0o4755)).unwrap();
    let mut plan = bench.plan(&["start", "/bin/suid"]);
    bench.add_layer(&mut plan, "setuid");
    plan.user = "alice".into();
    let run = bench.run(&plan);
    assert_eq!((run.fact("euid"), run.fact("status NoNewPrivs")), ("1000", "1"));
    plan.new_privs = true;
    let run = bench.run(&plan);
    assert_eq!((run.fact("euid"), run.fact("status NoNewPrivs")), ("0", "0"));
    assert_eq!(run.fact("status Seccomp"), "2", "the filter holds all the same");
    assert_eq!(run.fact("status CapEff"), format!("{:016x}", Caps::DEFAULT.0));
    assert_ne!(run.fact("write /proc/sys/kernel/panic"), "ok");
}

pub fn privileged(bench: &Bench) {
    let mut plan = bench.plan(&["rights"]);
    plan.id_base = None;
    plan.caps = Caps::ALL;
    plan.privileged = true;
    plan.network = NetworkMode::Host;
    plan.binds = vec![Bind { recursive: true, writable: true, ..Bind::of("/", "/host") }];
    let run = bench.run(&plan);
    assert_eq!((run.fact("euid"), run.fact("status Seccomp")), ("0", "0"));
    assert_eq!(run.fact("status CapEff"), format!("{:016x}", Caps::ALL.0));
    assert_eq!(run.fact("processes"), "1");
    for path in [
        "/proc/sys/kernel/panic",
        "/sys/kernel/rcu_expedited",
        "/sys/fs/cgroup/cgroup.procs",
        "/host/proc/sys/kernel/panic",
    ] {
        assert_eq!(run.fact(&format!("write {path}")), "ok", "{path}");
    }
    assert!(run.fact("dev").split(' ').any(|name| name == "kmsg"), "{}", run.fact("dev"));
    assert_ne!(run.fact("firmware"), "0");
    plan.host_pids = true;
    let run = bench.run(&plan);
    assert_ne!(run.fact("processes"), "1");
}

pub fn disk(bench: &Bench) {
    if !bench.limited {
        return;
    }
    let disk = disks::under(Path::new("/state")).expect("the state is on a disk");
    let io_max = IoMax { read: Some(1 << 20), write_ops: Some(50), ..IoMax::default() };
    let limits = Resources { io_weight: Some(50), io_max, ..Resources::default() };
    cgroup::share_disk(Path::new("/sys/fs/cgroup"), disk).unwrap();
    let cgroup = bench.unlimited();
    cgroup.limit_io(&limits, Some(disk)).unwrap();
    let read = |path: &Path| fs::read_to_string(path).unwrap().trim().to_owned();
    assert_eq!(
        read(&cgroup.path().join("io.max")),
        format!("{disk} rbps=1048576 wbps=max riops=max wiops=50")
    );
    assert_eq!(read(&cgroup.path().join("io.weight")), "default 50");
    assert!(read(Path::new("/sys/fs/cgroup/io.cost.qos")).starts_with(&format!("{disk} enable=1")));
    cgroup.limit_io(&limits, None).unwrap();
    cgroup.remove().unwrap();
}
