//! What the pretended machine is like: its usual answers, and the kernel's figures.

use berth_api::stats::Sources;
use berth_units::control::{
    BootTimes, ClockStatus, ConfigChange, ConfigReload, ConfigStatus, DiskStatus, ImageOrder, JobStatus,
    MachineStatus, SlotStatus, SlotsStatus, StepTime, UnitChange, UnitDetail, UnitStatus, UpdateStatus,
    VolumeStatus,
};
use berth_units::generation::{Generation, History, Verdict, What};
use berth_units::model::{NetworkMode, Origin, Port, Protocol};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

/// What another config changes.
pub fn change() -> ConfigChange {
    let changed = |unit: &str, table: &str, restarts| UnitChange {
        unit: unit.into(),
        tables: vec![table.into()],
        restarts,
    };
    ConfigChange {
        sha256: config().sha256,
        added: vec!["new".into()],
        removed: vec!["old".into()],
        changed: vec![changed("db", "unit", false), changed("web", "container", true)],
        machine: vec!["access keys".into()],
        next_boot: vec!["network".into()],
    }
}

/// Nothing has been done.
pub fn update() -> UpdateStatus {
    UpdateStatus {
        version: "1.0".into(),
        state: "idle".into(),
        channel: "stable".into(),
        window: "00:00-24:00".into(),
        ..UpdateStatus::default()
    }
}

/// Job 7: a pull.
pub fn job(state: &str, message: &str) -> JobStatus {
    JobStatus {
        id: 7,
        order: ImageOrder::Pull("example.org/new:1".into()),
        state: state.into(),
        done: 0,
        total: None,
        message: message.into(),
    }
}

pub(super) fn image_files() -> [(String, String); 2] {
    let file = |reference: &str, bytes: &str, kept: bool| {
        let hex = "0123456789abcdef".repeat(4);
        let json = format!(
            r#"{{"format":1,"reference":"{reference}","digest":"sha256:{hex}","layers":["{hex}"],"entrypoint":[],
            "cmd":[],"env":[],"workdir":"","user":"","stop_signal":"","layer_bytes":[{bytes}],"kept":{kept}}}"#
        );
        (berth_units::image::file_name(reference), json)
    };
    [file("example.org/web:1", "12897484", false), file("example.org/kept:1", "2048", true)]
}

/// A kernel's figures for `web`, and for the machine.
pub(super) fn figures(folder: &Path) -> Sources {
    let files = [
        ("cgroups/units/web/cpu.stat", "usage_usec 900\nuser_usec 600\nsystem_usec 300\nthrottled_usec 0\n"),
        ("cgroups/units/web/memory.current", "12897484\n"),
        ("cgroups/units/web/memory.stat", "anon 1\ninactive_file 1048576\n"),
        ("cgroups/units/web/memory.peak", "13000000\n"),
        ("cgroups/units/web/memory.max", "67108864\n"),
        ("cgroups/units/web/pids.current", "3\n"),
        ("cgroups/units/web/pids.max", "512\n"),
        ("cgroups/units/web/io.stat", "254:0 rbytes=4096 wbytes=512 rios=1 wios=2 dbytes=0 dios=0\n"),
        ("cgroups/units/web/memory.pressure", "some avg10=0.00 total=2500000\nfull avg10=0.00 total=7\n"),
        ("proc/uptime", "270000.12 1.00\n"),
        ("proc/loadavg", "0.42 0.10 0.05 1/80 99\n"),
        ("sys/class/net/v0002/ifalias", "web\n"),
        ("sys/class/net/v0002/statistics/rx_bytes", "2048\n"),
        ("sys/class/net/v0002/statistics/rx_packets", "20\n"),
        ("sys/class/net/v0002/statistics/tx_bytes", "1024\n"),
        ("sys/class/net/v0002/statistics/tx_packets", "10\n"),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let at = |name: &str| folder.join(name);
    Sources { cgroups: at("cgroups"), proc: at("proc"), sys: at("sys"), state: at("data") }
}

/// What `units` shows.
pub fn units() -> Vec<UnitStatus> {
    let system = UnitStatus {
        name: "net".into(),
        origin: Origin::System,
        state: "healthy".into(),
        reason: String::new(),
        image: "berth:system".into(),
        uptime_s: Some(200),
        restarts: 0,
        oom_kills: 0,
        pid: Some(41),
        memory: Some(1_900_000),
        address: None,
        ports: Vec::new(),
        privileges: vec!["host network".into(), "host users".into(), "CAP_NET_ADMIN".into()],
    };
    let failing = UnitStatus {
        name: "worker".into(),
        origin: Origin::Config,
        state: "backoff".into(),
        reason: "exit code 1, restart 3 in 4 s".into(),
        image: "example.org/worker:2".into(),
        uptime_s: None,
        restarts: 2,
        oom_kills: 1,
        pid: None,
        memory: None,
        address: None,
        ports: Vec::new(),
        privileges: Vec::new(),
    };
    vec![system, detail().status, failing]
}

/// What `inspect web` shows.
pub fn detail() -> UnitDetail {
    let port = |host_address, host| Port { host_address, host, container: 80, protocol: Protocol::Tcp };
    let status = UnitStatus {
        name: "web".into(),
        origin: Origin::Config,
        state: "healthy".into(),
        reason: String::new(),
        image: "example.org/web:1".into(),
        uptime_s: Some(7_500),
        restarts: 0,
        oom_kills: 0,
        pid: Some(77),
        memory: Some(12_897_484),
        address: Some(Ipv4Addr::new(10, 88, 0, 2).into()),
        ports: vec![port(Ipv4Addr::UNSPECIFIED, 8080), port(Ipv4Addr::LOCALHOST, 8081)],
        privileges: Vec::new(),
    };
    UnitDetail {
        status,
        description: "The web server".into(),
        after: vec!["db".into()],
        requires: Vec::new(),
        required_for_boot: true,
        digest: Some(format!("sha256:{}", "0123456789abcdef".repeat(4))),
        command: vec!["/bin/web".into(), "--title".into(), "two words".into()],
        network: NetworkMode::Bridge,
        uid_base: Some(1_114_112),
        cgroup: "/sys/fs/cgroup/units/web".into(),
        exit_code: Some(1),
        transient: false,
        exits: vec!["2026-11-24T08:00:00Z exit code 1".into()],
    }
}

/// What `boot-times` shows.
pub fn boot_times() -> BootTimes {
    let step = |stage: &str, name: &str, start_us, took_us, outcome: &str| StepTime {
        stage: stage.into(),
        name: name.into(),
        start_us,
        took_us,
        outcome: outcome.into(),
    };
    BootTimes {
        firmware_us: Some(812_000),
        loader_us: Some(304_000),
        kernel_us: 231_000,
        initrd_us: 83_100,
        steps: vec![
            step("initrd", "mount root", 260_000, 12_345, ""),
            step("main", "state", 330_000, 430, "no state partition; a temporary one is used"),
        ],
        first_container_us: Some(612_000),
    }
}

/// What `slots` shows.
pub fn slots() -> SlotsStatus {
    let slot = |name: &str, state: &str, version: &str, root_hash: String, reason: &str| SlotStatus {
        name: name.into(),
        state: state.into(),
        version: version.into(),
        root_hash,
        reason: reason.into(),
    };
    SlotsStatus {
        running: "a".into(),
        good: Some("a".into()),
        trial: None,
        starts: 0,
        confirmed: true,
        rescue: None,
        panic: None,
        record_note: None,
        firmware: "uefi".into(),
        slots: vec![
            slot("a", "good", "0.1.0", "ab".repeat(32), ""),
            slot(
                "b",
                "failed",
                "0.1.1",
                "cd".repeat(32),
                "stopped in step \"mount root\": block 5120 differs",
            ),
        ],
    }
}

/// What `config status` shows.
pub fn config() -> ConfigStatus {
    ConfigStatus {
        unconfirmed_s: None,
        state: "refused".into(),
        source: "nocloud (vdb)".into(),
        sha256: "ef".repeat(32),
        looked: vec!["smbios: nothing".into(), "nocloud: user-data on vdb".into()],
        notes: vec!["vendor-data is not applied".into()],
        instance: "i-0123 (nocloud)".into(),
        report: "user-data:7:1: unknown field \"memroy\" in [resources]; did you mean \"memory\"?\n".into(),
        note: "1 access key of it is valid until a config is applied".into(),
        reload: Some(ConfigReload {
            state: "kept".into(),
            source: "nocloud (vdc)".into(),
            sha256: "ab".repeat(32),
            ..ConfigReload::default()
        }),
    }
}

/// What `history` shows.
pub fn history() -> History {
    let generation = |number, what, why: &str, version: &str, state, reason: &str| Generation {
        format: Generation::format(),
        number,
        made: 1_795_507_200 + 60 * number,
        what,
        why: why.into(),
        slot: if version == "0.2.0" { "b" } else { "a" }.into(),
        version: version.into(),
        root_hash: "ab".repeat(32),
        config_sha256: if number == 2 { config().sha256 } else { "cd".repeat(32) },
        images: BTreeMap::new(),
        state,
        reason: reason.into(),
    };
    History {
        in_force: Some(4),
        generations: vec![
            generation(2, What::Config, "found by smbios", "0.1.0", Verdict::Superseded, ""),
            generation(3, What::System, "update", "0.2.0", Verdict::Reverted, "its kernel panicked"),
            generation(4, What::Config, "sent by an operator", "0.1.0", Verdict::Committed, ""),
        ],
    }
}

/// What `volume ls` shows, or `volume inspect`.
pub fn volumes(counted: bool) -> Vec<VolumeStatus> {
    let volume = |name: &str, used_by: &[&str]| VolumeStatus {
        name: name.into(),
        used_by: used_by.iter().map(|unit| (*unit).to_owned()).collect(),
        bytes: counted.then_some(3 << 20),
        whole: counted,
    };
    vec![volume("shop", &["db", "web"]), volume("old", &[])]
}

/// The disks.
pub fn disks() -> Vec<DiskStatus> {
    let disk = |path: &str, gib: u64, serial: &str, holds: &str, trouble: &str| DiskStatus {
        path: path.into(),
        bytes: gib << 30,
        sector_bytes: 512,
        model: "QEMU HARDDISK".into(),
        serial: serial.into(),
        removable: false,
        holds: holds.into(),
        trouble: trouble.into(),
    };
    vec![
        disk("/dev/sda", 8, "S4EVNX0R1", "nothing", ""),
        disk("/dev/sdb", 4, "", "an LVM physical volume", "it holds an LVM physical volume"),
    ]
}

/// What `machine` shows.
pub fn machine() -> MachineStatus {
    MachineStatus {
        hostname: "web1".into(),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        version: "0.1.0".into(),
        kernel: "6.12.57+deb13-amd64".into(),
        uptime_s: 270_000,
        addresses: vec![("eth0".into(), "10.0.2.15/24".into())],
        memory_kib: 128 * 1024,
        memory_available_kib: 61_234,
        pid1_rss_kib: 1_700,
        state_problem: String::new(),
        state_note: String::new(),
        clock: ClockStatus {
            set: true,
            now_s: 1_795_507_200,
            said: "off by 0.003 s, slewed; 3 of 4 time servers agree".into(),
            offset_ns: Some(3_123_456),
            ago_s: Some(130),
            kept_s: None,
        },
    }
}
