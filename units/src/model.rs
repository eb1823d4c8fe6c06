//! The checked form of a unit file and of the machine config. Built only by [`crate::schema`]; everybody else
//! reads it.

mod install;
mod network;
mod update;

use crate::diag::Place;
pub use install::{AfterInstall, DiskRule, InstallSettings};
pub use network::{BOND_HASHES, BOND_MODES, Bond, Interface, LACP_RATES, MachineNetwork, StaticRoute, Vlan};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
pub use update::{UpdateSettings, Window};

/// Where a unit came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// `/usr/lib/berth/units`: part of the OS image; may carry [`SystemGrants`].
    System,
    /// The machine config.
    Config,
}

/// One unit: a container and how to keep it running.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, at most [`crate::limits::NAME_BYTES`]; of an instance with `.` and its number
    /// behind it, see [`crate::instances`].
    pub name: String,
    /// It is one of several instances of the unit of this name.
    pub instance_of: Option<String>,
    /// Who wrote it.
    pub origin: Origin,
    /// `unit.description`, one line.
    pub description: String,
    /// `unit.after`: start only after these have come so far, if they exist and are wanted.
    pub after: Vec<Dependency>,
    /// `unit.requires`: as `after`, and they must exist; if one fails, this one is not started.
    pub requires: Vec<Dependency>,
    /// `unit.instances`: containers of this unit, 1 to [`crate::limits::INSTANCES`].
    pub instances: u32,
    /// `unit.enabled`: started with the machine.
    pub enabled: bool,
    /// `unit.required_for_boot`: the slot is good only once this unit is healthy.
    pub required_for_boot: bool,
    /// `[container]`.
    pub container: Container,
    /// `[secrets]`: name below `/run/secrets` → what is in it.
    pub secrets: BTreeMap<String, Content>,
    /// `[network]`.
    pub network: Network,
    /// `[resources]`.
    pub resources: Resources,
    /// `[restart]`.
    pub restart: Restart,
    /// `[health]`: what shows that it is well while it runs.
    pub health: Option<Health>,
    /// `[ready]`: what shows that it has come up.
    pub ready: Option<Ready>,
    /// `[system]`, only for [`Origin::System`].
    pub system: Option<SystemGrants>,
    /// It is in no config, and gone when the machine starts again; the number tells its writable layer from those of
    /// earlier units of its name.
    pub transient: Option<u128>,
    /// Where in its file things stand, for messages of later checks.
    pub places: Places,
}

impl Unit {
    /// The name that its file gives it: what others depend on, and ask DNS for.
    pub fn service(&self) -> &str {
        self.instance_of.as_deref().unwrap_or(&self.name)
    }
}

/// One of `unit.after` or `unit.requires`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The other unit.
    pub unit: String,
    /// How far it must have come.
    pub until: Until,
}

/// How far a unit has to come before one that depends on it starts. Of several instances one is enough, for
/// [`Until::Completed`] all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// It runs, or has run to its end (`db`, `db:started`).
    #[default]
    Started,
    /// It is healthy, or has run to its end (`db:ready`).
    Ready,
    /// It has run to its end with success (`job:completed`).
    Completed,
}

impl Until {
    /// The word behind the colon.
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Ready => "ready",
            Self::Completed => "completed",
        }
    }
}

impl std::fmt::Display for Dependency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.until {
            Until::Started => f.write_str(&self.unit),
            until => write!(f, "{}:{}", self.unit, until.word()),
        }
    }
}

/// `[health]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// `command`, `http` or `tcp`.
    pub check: Check,
    /// `interval`: from the end of one check to the next.
    pub interval: Duration,
    /// `timeout`: of one check.
    pub timeout: Duration,
    /// `retries`: failures in a row that make the unit unhealthy, at least 1.
    pub retries: u32,
    /// `start_period`: after the start, failures do not count for so long, unless a check has succeeded before.
    pub start_period: Duration,
    /// `on_failure = "none"`: an unhealthy unit is not restarted.
    pub tolerant: bool,
}

/// One look at a unit, from inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A command line of the image's; exit code 0 is health.
    Command(Vec<String>),
    /// By Berth's own program.
    Probe(crate::probe::Target),
}

/// `[ready]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// `port` or `notify`.
    pub sign: Sign,
    /// `timeout`: not ready so long after its start, it is stopped and counts as failed.
    pub timeout: Duration,
}

/// What shows that a unit has come up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// `port`: it takes TCP connections there, on its own loopback.
    Port(u16),
    /// `notify`: it says so, as sd_notify(3) describes.
    Notify,
}

/// Where in its file a unit says what. Two units that differ in nothing else are equal.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The unit itself.
    pub unit: Place,
    /// Each of `after`.
    pub after: Vec<Place>,
    /// Each of `requires`.
    pub requires: Vec<Place>,
    /// Each of `ports`.
    pub ports: Vec<Place>,
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// `[container]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Container {
    /// Image reference: a name as in the archive's or layout's `org.opencontainers.image.ref.name`, optionally
    /// with `@sha256:…`. System units say [`SYSTEM_IMAGE`]: the verified root itself.
    pub image: String,
    /// Replaces the image's entrypoint.
    pub command: Option<Vec<String>>,
    /// Replaces the image's cmd.
    pub args: Option<Vec<String>>,
    /// Added to, or replacing, the image's environment.
    pub env: BTreeMap<String, String>,
    /// Environment files, between the image's environment and `env`.
    pub env_file: Vec<Content>,
    /// Replaces the image's working directory. Absolute.
    pub workdir: Option<String>,
    /// `uid`, `uid:gid`, `name` or `name:group` (names are looked up inside the image).
    pub user: Option<String>,
    /// Mount the root read-only.
    pub read_only: bool,
    /// tmpfs mounts: absolute path → size in bytes.
    pub tmpfs: BTreeMap<String, u64>,
    /// The machine's folders that outlive the container.
    pub volumes: Vec<Volume>,
    /// UTS host name; the unit's name if not said.
    pub hostname: Option<String>,
    /// Sent to stop it, instead of the image's: a name with or without `SIG`, or a number.
    pub stop_signal: Option<String>,
    /// Capabilities (without `CAP_`) instead of the default set; [`DEFAULT_CAPABILITIES`] stands for that set.
    pub capabilities: Option<Vec<String>>,
    /// Texts of the machine config as files, and paths of the machine.
    pub mounts: Vec<Mount>,
    /// Device nodes of the machine.
    pub devices: Vec<Device>,
    /// `no_new_privs = false`: a program may gain rights by what it starts (setuid).
    pub new_privs: bool,
    /// `privileged`: nothing of the machine is kept from it.
    pub privileged: bool,
    /// `pid = "host"`: it sees the machine's processes.
    pub host_pids: bool,
}

/// One of [`Container::mounts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// May be written to; only a path of the machine.
    pub writable: bool,
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A text that the machine config carries, as a file.
    Config(Content),
    /// An absolute path of the machine.
    Host(String),
}

/// One of [`Container::devices`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Path on the machine, below `/dev/`.
    pub source: String,
    /// Path in the container, below `/dev/`.
    pub target: String,
    /// May be opened for reading only.
    pub read_only: bool,
}

/// A text that no message, log or debug print shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// To whom it is meant for, and nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An entry of the machine config's `[secrets]` or `[files]` that a unit refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its name there.
    pub from: String,
    /// What it holds; `None` in a unit that was read without its machine config.
    pub text: Option<Secret>,
}

/// In a list of capabilities: all that a container gets if nothing is said.
pub const DEFAULT_CAPABILITIES: &str = "default";

/// One of [`Container::volumes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Below [`crate::paths::STATE_VOLUMES`]; units that name the same one share it.
    pub name: String,
    /// Absolute path in the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// The image name that means "the verified root".
pub const SYSTEM_IMAGE: &str = "berth:system";

/// `[network]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    /// `mode`.
    pub mode: NetworkMode,
    /// `ports`, only with bridge: `"8080:80"`, `"127.0.0.1:8080:80/tcp"`, `"5353:53/udp"`.
    pub ports: Vec<Port>,
}

/// `network.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// Own namespace, attached to the machine's bridge.
    #[default]
    Bridge,
    /// The machine's own namespace.
    Host,
    /// Own namespace with loopback only.
    None,
}

/// One published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Address on the machine; unspecified = all.
    pub host_address: Ipv4Addr,
    /// Port on the machine, 1–65535.
    pub host: u16,
    /// Port in the container, 1–65535.
    pub container: u16,
    /// tcp or udp.
    pub protocol: Protocol,
}

/// Transport of a [`Port`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// `[resources]`. `None` = no limit of its own, except `pids`.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    /// `memory`: bytes (`"64M"`), cgroup `memory.max`.
    pub memory: Option<u64>,
    /// `cpus`: CPUs' worth of time in thousandths (`cpus = 0.5` → 500), cgroup `cpu.max`.
    pub cpus_milli: Option<u32>,
    /// `pids`: tasks, cgroup `pids.max`.
    pub pids: u32,
    /// `memory_high`: bytes, cgroup `memory.high`.
    pub memory_high: Option<u64>,
    /// `swap`: bytes, cgroup `memory.swap.max`; without it none if `memory` is limited.
    pub swap: Option<u64>,
    /// `cpu_weight`: 1 to 10,000, cgroup `cpu.weight`.
    pub cpu_weight: Option<u32>,
    /// `cpuset`: `0-3,6`, cgroup `cpuset.cpus`.
    pub cpuset: Option<String>,
    /// `nofile`: open files of each process (`RLIMIT_NOFILE`, both limits).
    pub nofile: Option<u64>,
    /// `io_weight`: 1 to 10,000, cgroup `io.weight`, of the state partition's disk.
    pub io_weight: Option<u32>,
    /// `io_max`: cgroup `io.max`, of the state partition's disk.
    pub io_max: IoMax,
}

/// `resources.io_max`, each a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoMax {
    /// `read`: bytes.
    pub read: Option<u64>,
    /// `write`: bytes.
    pub write: Option<u64>,
    /// `read_ops`: operations.
    pub read_ops: Option<u64>,
    /// `write_ops`: operations.
    pub write_ops: Option<u64>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory: None,
            cpus_milli: None,
            pids: 4096,
            memory_high: None,
            swap: None,
            cpu_weight: None,
            cpuset: None,
            nofile: None,
            io_weight: None,
            io_max: IoMax::default(),
        }
    }
}

/// `[restart]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Restart {
    /// `policy`.
    pub policy: RestartPolicy,
    /// `delay`: before the first restart.
    pub delay: Duration,
    /// `max_delay`: where doubling stops.
    pub max_delay: Duration,
    /// `limit`: restarts within `interval` after which the unit is failed; 0 = none.
    pub limit: u32,
    /// `interval`.
    pub interval: Duration,
    /// How long after the stop signal SIGKILL follows (`stop_timeout`).
    pub stop_timeout: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Always,
            delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(60),
            limit: 10,
            interval: Duration::from_secs(600),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// `restart.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    No,
    /// After a non-zero exit or a signal.
    OnFailure,
    /// Always.
    Always,
}

/// `[system]`: what only the OS's own units may have. Everything is off unless said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SystemGrants {
    /// PID 1's control socket is bound at [`crate::paths::CONTROL_SOCKET`] and accepts this unit as a worker.
    pub control: bool,
    /// Run without a user namespace of its own (uid 0 is the host's, with only `capabilities`).
    pub host_users: bool,
    /// Capabilities (without `CAP_`), instead of the default set: `["NET_ADMIN"]`.
    pub capabilities: Vec<String>,
    /// Host paths bound into the container.
    pub mounts: Vec<SystemMount>,
    /// A folder on the state partition that belongs to the unit, writable, at `/var/lib/<unit>`.
    pub data: bool,
    /// Read-only descriptors of every block device that is not Berth's own disk, named in `BERTH_BLOCK_FDS`
    /// (`vdb=5,sr0=6`).
    pub block_devices: bool,
    /// Descriptors, to be read and written, of the slot that does not run and of the ESP, named in `BERTH_BLOCK_FDS` as
    /// [`SLOT_PARTS`].
    pub other_slot: bool,
    /// Descriptors of the installation medium, to be read, and of the disk that was chosen, to be written, named in
    /// `BERTH_BLOCK_FDS` as [`INSTALL_DISKS`].
    pub install: bool,
}

/// Names of the descriptors of [`SystemGrants::install`].
pub const INSTALL_DISKS: [&str; 2] = ["medium", "disk"];

/// Names of the descriptors of [`SystemGrants::other_slot`].
pub const SLOT_PARTS: [&str; 3] = ["root", "verity", "esp"];

/// One bind mount of a system unit.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemMount {
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Writable.
    pub writable: bool,
}

/// `berth.toml`, checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MachineConfig {
    /// `hostname`.
    pub hostname: Option<String>,
    /// `[access] keys`: OpenSSH public key lines of the operators.
    pub access_keys: Vec<String>,
    /// `[instance]`: what a cloud or a volume said of this machine. Its name and keys are in `hostname` and `access_keys` too.
    pub instance: Option<Instance>,
    /// `[network]`.
    pub network: MachineNetwork,
    /// `[time] servers`: names or addresses, each with a port if it is not 123. `None`: DHCP's, or everybody's.
    pub time_servers: Option<Vec<String>>,
    /// `[time] timezone`, which is in the units' environment already.
    pub timezone: Option<String>,
    /// `[trust] ca`, which is in `registries` and `update` already.
    pub trust: Option<String>,
    /// `[registries]`, `[proxy]`.
    pub registries: RegistrySettings,
    /// `[update]`.
    pub update: UpdateSettings,
    /// `[install]`.
    pub install: InstallSettings,
    /// `[secrets]`.
    pub secrets: BTreeMap<String, Secret>,
    /// `[files]`.
    pub files: BTreeMap<String, Secret>,
    /// `[units.<name>]`.
    pub units: Vec<Unit>,
}

/// `[instance]` of the machine config.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instance {
    /// `source`: `nocloud`, `config-drive`, `ec2`, `gce`.
    pub source: String,
    /// `id`: what the source calls the instance.
    pub id: Option<String>,
    /// `uuid`: SMBIOS's when the source was asked, 32 hex digits.
    pub uuid: Option<String>,
    /// `hostname`: the machine's name, unless the config has another.
    pub hostname: Option<String>,
    /// `keys`: valid beside those of `[access]`.
    pub keys: Vec<String>,
}

/// `[registries]`, `[proxy]` and `[trust]` of the machine config; serialisable because PID 1 hands it to the fetcher.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RegistrySettings {
    /// By `host` or `host:port`, as image references have it (`docker.io` for Docker Hub).
    pub registries: BTreeMap<String, Registry>,
    /// `[proxy]`.
    pub proxy: Proxy,
    /// `[trust] ca`: certificates in PEM that are trusted for every registry.
    #[serde(default)]
    pub ca: Option<String>,
}

/// `[registries."host:port"]`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Registry {
    /// `plain_http`: without TLS.
    pub plain_http: bool,
    /// `ca`: certificates in PEM that are trusted for this host beside the public ones.
    pub ca: Option<String>,
    /// `auth`: base64 of `user:password`, as in Docker's `config.json`.
    pub auth: Option<String>,
    /// `identitytoken`, as in Docker's `config.json`.
    pub identity_token: Option<String>,
}

/// Without the secrets.
impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("plain_http", &self.plain_http)
            .field("ca", &self.ca.is_some())
            .field("auth", &self.auth.is_some())
            .field("identity_token", &self.identity_token.is_some())
            .finish()
    }
}

/// `[proxy]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Proxy {
    /// `http`: for registries without TLS, `http://host:port`.
    pub http: Option<String>,
    /// `https`: for all others.
    pub https: Option<String>,
    /// `no_proxy`: hosts, domains with a leading dot, and networks that are reached directly.
    pub no_proxy: Vec<String>,
}

/// Linux 6.12's capabilities without `CAP_`, in the kernel's order (`include/uapi/linux/capability.h`).
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
