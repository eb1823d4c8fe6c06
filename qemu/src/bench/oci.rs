//! What crun is told to run (the runtime specification's `config.json`): what Docker and podman tell it for a container
//! with all defaults, users of its own and no network, with the capabilities and limits that ours has.

use anyhow::{Context, Result};
use berth_units::launch::Caps;
use berth_units::limits::{ID_BASE, ID_RANGE};
use serde_json::{Value, json};

/// The config; `profile` is the seccomp profile of Debian's packages, in the form that Docker and podman share.
pub(super) fn config(profile: &str) -> Result<Value> {
    let caps: Vec<String> = Caps::DEFAULT.names().map(|name| format!("CAP_{name}")).collect();
    let ids = json!([{"containerID": 0, "hostID": ID_BASE, "size": ID_RANGE}]);
    let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    let quiet = ["nosuid", "noexec", "nodev"];
    let shut = |more: &[&'static str]| [quiet.as_slice(), more].concat();
    let namespaces =
        ["pid", "ipc", "uts", "mount", "network", "cgroup", "user"].map(|kind| json!({"type": kind}));
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/first"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 524_288}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "peer",
        "mounts": [
            mount("/proc", "proc", &quiet),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/sys", "sysfs", &shut(&["ro"])),
            mount("/sys/fs/cgroup", "cgroup", &shut(&["ro"])),
            mount("/dev/mqueue", "mqueue", &quiet),
            mount("/dev/shm", "tmpfs", &shut(&["mode=1777", "size=65536k"])),
        ],
        "linux": {
            "namespaces": namespaces,
            "uidMappings": ids,
            "gidMappings": ids,
            "cgroupsPath": "/peers/crun",
            "resources": {"memory": {"limit": 64 << 20, "swap": 64 << 20}, "pids": {"limit": 64}},
            "maskedPaths": [
                "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": seccomp(profile)?,
        },
    }))
}

/// The rules of the profile that hold for these capabilities on x86-64.
fn seccomp(profile: &str) -> Result<Value> {
    let profile: Value = serde_json::from_str(profile).context("the seccomp profile")?;
    let rules = profile["syscalls"].as_array().context("a seccomp profile without rules")?;
    let rules: Vec<Value> = rules.iter().filter(|rule| holds(rule)).map(rule).collect();
    Ok(json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }))
}

fn holds(rule: &Value) -> bool {
    let words = |side: &str, kind: &str| -> Vec<String> {
        let list = rule[side][kind].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let has = |cap: &String| Caps::DEFAULT.has(cap.strip_prefix("CAP_").unwrap_or(cap));
    let here = |arch: &String| matches!(arch.as_str(), "amd64" | "x86" | "x32");
    let (caps, arches) = (words("includes", "caps"), words("includes", "arches"));
    caps.iter().all(has)
        && (arches.is_empty() || arches.iter().any(here))
        && !words("excludes", "caps").iter().any(has)
        && !words("excludes", "arches").iter().any(here)
}

/// Without what only the profile's form knows.
fn rule(rule: &Value) -> Value {
    let mut new = json!({"names": rule["names"], "action": rule["action"]});
    for key in ["args", "errnoRet"] {
        let empty = rule[key].as_array().is_some_and(Vec::is_empty);
        if !rule[key].is_null() && !empty {
            new[key] = rule[key].clone();
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["s390"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}}
    ]}"#;

    #[test]
    fn the_profile_is_cut_to_what_the_container_may() {
        let config = config(PROFILE).unwrap();
        let rules = config["linux"]["seccomp"]["syscalls"].as_array().unwrap();
        let names: Vec<_> = rules.iter().map(|rule| rule["names"][0].as_str().unwrap()).collect();
        assert_eq!(names, ["read", "mount", "chroot", "arch_prctl"]);
        assert_eq!(rules[1]["errnoRet"], 1);
        assert_eq!(rules[0], json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"}));
    }

    #[test]
    fn capabilities_are_ours() {
        let config = config(PROFILE).unwrap();
        let caps = config["process"]["capabilities"]["bounding"].as_array().unwrap();
        assert_eq!(caps.len(), Caps::DEFAULT.names().count());
        assert!(caps.contains(&json!("CAP_SYS_CHROOT")) && !caps.contains(&json!("CAP_SYS_ADMIN")));
    }
}
