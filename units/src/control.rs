//! What PID 1 and everybody else say to each other.
//!
//! One `SOCK_SEQPACKET` unix socket at [`crate::paths::CONTROL_SOCKET`]; each packet is one JSON value of at most
//! [`crate::limits::MESSAGE_BYTES`], descriptors ride along where a message says so. PID 1 tells the peer by its
//! credentials and cgroup: what a unit may say follows from which unit it is, never from what it claims.
//!
//! Two kinds of connection, told apart by the first packet:
//! * an *operator* connection sends one [`Request`] and gets one [`Reply`] (with descriptors for logs), then closes;
//!   only the unit `api` may open these;
//! * a *worker* connection starts with [`FromWorker::Hello`] and stays open: PID 1 sends [`ToWorker`], the worker
//!   [`FromWorker`].

pub mod client;
pub mod exec;
pub mod install;
pub mod packet;
pub mod sealed;
mod told;
pub mod update;

use crate::generation::History;
use crate::model::{InstallSettings, MachineNetwork, Port, RegistrySettings};
pub use exec::{Copy, ExecEvent, ExecRequest};
pub use install::{DiskStatus, InstallStatus, Keep};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
pub use told::*;
pub use update::{UpdateOffer, UpdateOrder, UpdateSource, UpdateStatus};

/// Any packet towards PID 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToInit {
    /// First and only packet of an operator connection.
    Request(Request),
    /// A worker's packet.
    Worker(FromWorker),
}

/// What an operator may ask.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// All units.
    Ps,
    /// One unit in detail.
    Inspect {
        /// Unit name.
        unit: String,
    },
    /// Start, stop or restart a unit of the machine config. Accepted at once; the unit's state tells how it goes.
    Drive {
        /// Unit name.
        unit: String,
        /// What it is to do.
        order: Drive,
    },
    /// A unit's log. The reply carries read-only descriptors of its segments, oldest first; the asker reads (and
    /// follows) them itself. There is one of the machine itself too, [`OWN_LOG`], and one of the kernel, [`KERNEL_LOG`].
    Logs {
        /// Unit name.
        unit: String,
    },
    /// Get, or remove, an image. Accepted at once; [`Request::Jobs`] tells how it goes.
    Image {
        /// What is to be done.
        order: ImageOrder,
    },
    /// What operators have had done with images since the machine started, oldest first.
    Jobs,
    /// Run a command in a unit. What rides along with the reply, see [`exec`].
    Exec(Box<ExecRequest>),
    /// The machine itself: who it is, what it runs on.
    Machine,
    /// The boot's timeline.
    BootTimes,
    /// Both slots and how they came to be what they are.
    Slots,
    /// Where the machine config came from, and what was wrong with it.
    ConfigStatus,
    /// Ask the source of the machine config again; what it holds is checked, kept, and in force from the next boot.
    /// Accepted at once; [`ConfigStatus::reload`] tells how it goes.
    ConfigReload,
    /// Put a machine config in force while the machine runs; its text rides along as a [`sealed`] memory file. The
    /// reply says what it changes; [`ConfigStatus`] tells how it goes.
    ConfigApply {
        /// It goes back after so many seconds unless [`Request::ConfigConfirm`] has come.
        confirm_s: Option<u64>,
        /// Nothing is changed.
        only_look: bool,
    },
    /// The config in force is to stay.
    ConfigConfirm,
    /// Change some units of the machine config, and leave the others: an [`Edit`](crate::config::edit::Edit) rides along as
    /// JSON in a [`sealed`] memory file. Otherwise as [`Request::ConfigApply`].
    UnitsApply {
        /// As there.
        confirm_s: Option<u64>,
        /// As there.
        only_look: bool,
    },
    /// Put the config of an earlier generation in force again. Otherwise as [`Request::ConfigApply`].
    Rollback {
        /// Its number; `None`: the last one before, as `berth history` has them.
        to: Option<u64>,
        /// As there.
        confirm_s: Option<u64>,
        /// As there.
        only_look: bool,
    },
    /// Run a transient unit; its unit file rides along as a [`sealed`] memory file. Accepted at once; the unit's state
    /// tells how it goes.
    Run {
        /// What it is called; `None`: PID 1 finds a name.
        name: Option<String>,
    },
    /// Remove a transient unit.
    Remove {
        /// Its name.
        unit: String,
        /// Also if it runs.
        force: bool,
    },
    /// The volumes on the state partition.
    Volumes {
        /// Only this one, and how large it is.
        inspect: Option<String>,
    },
    /// Remove a volume that no unit uses.
    VolumeRemove {
        /// Its name.
        volume: String,
    },
    /// The text of the machine config in force, without its secrets.
    ConfigShow,
    /// What has been changed on the machine, and what came of it.
    History,
    /// Look for an update of the system, or take it. Accepted at once; [`Request::UpdateStatus`] tells how it goes.
    Update {
        /// How far to go.
        order: UpdateOrder,
        /// Also a version that did not prove itself on this machine.
        #[serde(default)]
        again: bool,
    },
    /// How updates stand.
    UpdateStatus,
    /// The disks of the machine, and which of them Berth could be installed on.
    Disks,
    /// Install Berth on a disk, with the config in force; only in a system that was started from the installation medium. Accepted
    /// at once; [`Request::InstallStatus`] tells how it goes.
    Install(InstallSettings),
    /// How an installation stands.
    InstallStatus,
    /// Reboot, and come up as a new machine.
    Reset {
        /// What stays.
        keep: Keep,
    },
    /// Stop everything and reboot.
    Reboot,
    /// Stop everything and power off.
    Poweroff,
    /// Stop everything and halt: the machine stays on and does nothing more.
    Halt,
}

/// What an operator may have a unit do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drive {
    /// Run, also after it has failed or was stopped. Its restarts are counted anew.
    Start,
    /// Stay down until it is started, or the machine is.
    Stop,
    /// Stop, then start.
    Restart,
}

impl std::fmt::Display for Drive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        })
    }
}

/// What an operator may have done with images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageOrder {
    /// Get it from its registry, also if another one of this name is here, and keep it.
    Pull(String),
    /// Remove it, unless a unit needs it.
    Remove(String),
    /// Remove every image that no unit needs.
    Prune,
    /// Keep every image of an OCI or Docker archive. One descriptor rides along, from which the archive is read.
    Load,
}

impl std::fmt::Display for ImageOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pull(image) => write!(f, "pull {image}"),
            Self::Remove(image) => write!(f, "remove {image}"),
            Self::Prune => f.write_str("prune"),
            Self::Load => f.write_str("load"),
        }
    }
}

/// One of these, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Counts up from 1.
    pub id: u64,
    /// What was asked for.
    pub order: ImageOrder,
    /// `waiting`, `pulling`, `unpacking`, `loading`, `removing`; then `done` or `failed`.
    pub state: String,
    /// Bytes that are there, while it is pulled.
    pub done: u64,
    /// Bytes in all, once that is known.
    pub total: Option<u64>,
    /// What came of it, or what it waits for.
    pub message: String,
}

impl JobStatus {
    /// Nothing more comes of it.
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "done" | "failed")
    }
}

/// PID 1's answer to a [`Request`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "reply", content = "body", rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Ps`].
    Units(Vec<UnitStatus>),
    /// To [`Request::Inspect`].
    Unit(Box<UnitDetail>),
    /// To [`Request::Logs`]: this many descriptors follow in the same packet. Ask again when the newest one was
    /// rotated away (`generation` changed).
    Log {
        /// Counts rotations.
        generation: u64,
        /// Number of descriptors, 0 to 2.
        segments: usize,
    },
    /// To [`Request::Exec`].
    Exec,
    /// To [`Request::Machine`].
    Machine(MachineStatus),
    /// To [`Request::BootTimes`].
    BootTimes(BootTimes),
    /// To [`Request::Slots`].
    Slots(SlotsStatus),
    /// To [`Request::ConfigApply`].
    ConfigChange(Box<ConfigChange>),
    /// To [`Request::ConfigStatus`].
    ConfigStatus(ConfigStatus),
    /// To [`Request::History`].
    History(Box<History>),
    /// To [`Request::Volumes`].
    Volumes(Vec<VolumeStatus>),
    /// To [`Request::Run`]: what the unit is called.
    Name(String),
    /// To [`Request::ConfigShow`]: the text rides along as a [`sealed`] memory file.
    ConfigText,
    /// To [`Request::UpdateStatus`].
    Update(Box<UpdateStatus>),
    /// To [`Request::Disks`].
    Disks(Vec<DiskStatus>),
    /// To [`Request::InstallStatus`].
    Install(Box<InstallStatus>),
    /// To [`Request::Image`]: it is this job's now.
    Job(u64),
    /// To [`Request::Jobs`].
    Jobs(Vec<JobStatus>),
    /// Accepted; nothing to return.
    Done,
    /// Refused; `kind` is one of `not-found`, `denied`, `bad-request`, `busy`, `failed`.
    Error {
        /// Machine-readable class.
        kind: String,
        /// What failed, on what, why, what to do.
        message: String,
    },
}

/// From PID 1 to a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub enum ToWorker {
    /// To meta: look for a config. Comes once, after Hello.
    Look {
        /// The machine's SMBIOS UUID, 32 hex digits, if it has one.
        uuid: Option<String>,
    },
    /// To meta: say which instances the volumes here belong to. Comes once, after Hello, in the place of [`ToWorker::Look`].
    Glance,
    /// To cloud: ask the machine's cloud. Comes once, after Hello.
    AskCloud {
        /// As meta has said.
        cloud: String,
        /// As for meta.
        uuid: Option<String>,
        /// Seconds until it gives up.
        deadline_s: u64,
    },
    /// To the store: make this image ready, then write its description to the index.
    Prepare {
        /// Image reference.
        reference: String,
        /// An operator had it pulled: it is made out of what the fetcher has, whatever is attached or here, and kept.
        #[serde(default)]
        pulled: bool,
    },
    /// To the store: this image stays. Comes once for each that something needs, before [`ToWorker::Collect`].
    InUse {
        /// Image reference, as its unit has it.
        reference: String,
        /// Layers of it on which containers run at this moment, as in [`crate::image::PreparedImage::layers`]: the
        /// reference may lead to others by now.
        layers: Vec<String>,
    },
    /// To the store: remove what nothing needs, by the list that came before.
    Collect {
        /// How much.
        sweep: Sweep,
    },
    /// To the store: one descriptor rides along, from which an archive is to be read; each image in it is made ready and
    /// kept.
    Load {
        /// Number of the job, under which it is answered.
        job: u64,
    },
    /// To the fetcher: how registries are reached. Comes once after Hello and on every change.
    Registries {
        /// Hosts, proxies, and who we are there.
        settings: RegistrySettings,
    },
    /// To the fetcher: get this image from its registry into [`crate::paths::STATE_FETCHED`].
    Fetch {
        /// Image reference.
        reference: String,
    },
    /// To the unit `install`: put Berth on the disk of which it has the descriptor.
    Install {
        /// Of the running system, hex.
        root_hash: String,
        /// Bytes of the disk's logical sectors.
        sector_bytes: u32,
        /// The GUID that the disk is to have.
        disk: String,
    },
    /// To the network agent: this is the machine's network config. Comes once after Hello and on every change.
    Configure {
        /// The config; default = DHCP everywhere.
        network: MachineNetwork,
        /// For DHCP's host name option.
        hostname: String,
        /// 32 hex digits; the units' IPv6 network is made from it.
        machine_id: String,
    },
    /// To the unit that keeps the time: whom to ask. Comes once after Hello and on every change.
    Time {
        /// `[time] servers`; `None`: those that DHCP names, or everybody's; none in it: nobody.
        servers: Option<Vec<String>>,
    },
    /// To the network agent: two descriptors ride along, the unit's network namespace and a `NETLINK_ROUTE` socket
    /// opened inside it (by the container before its exec), so that the agent needs no right to enter it. Give it
    /// an interface `eth0` on the bridge with an address, bring `lo` up, and publish its ports.
    Attach {
        /// Unit name.
        unit: String,
        /// Ports to publish.
        ports: Vec<Port>,
    },
    /// To the network agent: the unit is gone; drop its address and ports.
    Detach {
        /// Unit name.
        unit: String,
    },
    /// To the network agent: the whole table of names, whenever it has changed; comes after Hello, before any unit.
    Names {
        /// DNS name → names of the units behind it that are in service, perhaps none.
        names: BTreeMap<String, Vec<String>>,
    },
    /// To the unit `update`: ask the repository what it offers, and answer.
    UpdateCheck {
        /// Where.
        source: Box<UpdateSource>,
        /// When the running system was built, seconds since 1970: it is later than that.
        built_s: u64,
    },
    /// To the unit `update`, after [`FromWorker::UpdateOffer`]: write that to the other slot.
    UpdateWrite {
        /// The offer's.
        root_hash: String,
        /// The slot to write, `a` or `b`.
        slot: String,
        /// Root hash of what runs: two slots with the same would be taken for each other.
        running: String,
    },
    /// To the API server: who may come in. Comes once after Hello and on every change.
    Access {
        /// OpenSSH public key lines.
        keys: Vec<String>,
        /// The machine's name, for its certificate.
        hostname: String,
    },
}

/// A volume that says to which instance it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenInstance {
    /// Its kind, as `[instance] source` has it.
    pub source: String,
    /// For operators: `nocloud (vdb)`.
    pub place: String,
    /// The instance's id.
    pub id: String,
}

/// Which images the store removes; never one that was called [`ToWorker::InUse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sweep {
    /// All that no operator asked for.
    Unneeded,
    /// All.
    All,
    /// This one.
    One(String),
}

/// From a worker to PID 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub enum FromWorker {
    /// First packet; PID 1 knows the unit by its cgroup.
    Hello,
    /// This worker does its job now: its unit is healthy.
    Ready,
    /// One sentence for `berth ps` and the console: `lease 10.0.2.15/24 on eth0 from 10.0.2.2`.
    Status {
        /// The sentence.
        text: String,
    },
    /// From the store.
    Prepared {
        /// As asked.
        reference: String,
    },
    /// From the store.
    PrepareFailed {
        /// As asked.
        reference: String,
        /// What failed, on what, why, what to do.
        error: String,
        /// It is nowhere on this machine, so a registry may be asked. Else what is here cannot be used.
        #[serde(default)]
        absent: bool,
    },
    /// From the store, to [`ToWorker::Collect`].
    Collected {
        /// Images that are not there any more.
        images: u64,
        /// Layers that are not.
        layers: u64,
        /// Bytes that are free now and were not before.
        bytes: u64,
        /// What could not be removed, and why.
        trouble: Option<String>,
    },
    /// From the store, to [`ToWorker::Load`].
    Loaded {
        /// As asked.
        job: u64,
        /// The images that are there now.
        images: Vec<String>,
        /// Why not all are.
        error: Option<String>,
    },
    /// From the fetcher: everything that the image consists of is there, checked and synced.
    Fetched {
        /// As asked.
        reference: String,
        /// Digest of the manifest for this machine, `sha256:<64 hex>`.
        digest: String,
    },
    /// From the fetcher.
    FetchFailed {
        /// As asked.
        reference: String,
        /// What failed, on what, why, what to do.
        error: String,
    },
    /// From the fetcher: bytes of the image that are there, at most a few times a second, and only when there are more
    /// than before.
    FetchProgress {
        /// As asked.
        reference: String,
        /// Bytes that are there.
        done: u64,
        /// Bytes in all; `None` as long as only the registry's index is known.
        total: Option<u64>,
    },
    /// From the unit that keeps the time: what most servers agree on. PID 1 moves the clock, or does not.
    Clock {
        /// Nanoseconds to add to the clock.
        offset_ns: i64,
        /// Give or take.
        error_ns: i64,
        /// Servers that agree.
        agree: u32,
        /// Servers that answered.
        of: u32,
    },
    /// From the unit `update`, to [`ToWorker::UpdateCheck`].
    UpdateOffer(UpdateOffer),
    /// From the unit `update`: bytes that are written, at most a few times a second.
    UpdateProgress {
        /// Bytes that are there.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// From the unit `update`, to [`ToWorker::UpdateWrite`]: the other slot holds it, read back and checked.
    UpdateWritten {
        /// As asked.
        root_hash: String,
    },
    /// From the unit `update`: what was asked cannot be done, or not now.
    UpdateFailed {
        /// What failed, on what, why, what to do.
        error: String,
    },
    /// From the unit `install`, at most a few times a second.
    InstallProgress {
        /// `writing` or `reading back`.
        step: String,
        /// Bytes that are written and read back.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// From the unit `install`: the disk is bootable, everything on it was read back.
    Installed,
    /// From the unit `install`.
    InstallFailed {
        /// What failed, on what, why, what to do.
        error: String,
    },
    /// From the network agent: the machine's addresses now (for the console and `berth ps`).
    Addresses {
        /// Global addresses with interface: `("eth0", "10.0.2.15/24")`.
        addresses: Vec<(String, String)>,
    },
    /// From the network agent.
    Attached {
        /// Unit name.
        unit: String,
        /// Its address.
        address: IpAddr,
    },
    /// From the network agent.
    AttachFailed {
        /// Unit name.
        unit: String,
        /// Why.
        error: String,
    },
    /// From meta or cloud: a config was found. One descriptor rides along: a sealed memfd with the text (at most
    /// [`crate::limits::CONFIG_BYTES`]), already decoded. PID 1 checks it again, stores and applies it.
    ConfigFound {
        /// `smbios`, `fw_cfg`, `nocloud (vdb)`.
        source: String,
        /// What was looked for, in order, and what was found, one line each.
        looked: Vec<String>,
        /// What of it has no effect, or another one than its author may think, one line each.
        #[serde(default)]
        notes: Vec<String>,
    },
    /// From meta or cloud: a config was found and is not usable. One descriptor may ride along: a sealed memfd with what makes
    /// the machine reachable all the same, as a config, see [`crate::config::salvage`].
    ConfigRefused {
        /// As above.
        source: String,
        /// The whole report.
        report: String,
        /// As above.
        looked: Vec<String>,
        /// As above.
        #[serde(default)]
        notes: Vec<String>,
    },
    /// From meta or cloud: nothing was found.
    ConfigNone {
        /// As above.
        looked: Vec<String>,
        /// As above.
        #[serde(default)]
        notes: Vec<String>,
        /// The cloud that the firmware says this is, which may be asked: `ec2`, `gce`.
        #[serde(default)]
        cloud: Option<String>,
    },
    /// From meta, to [`ToWorker::Glance`].
    Instances {
        /// Each volume that says which.
        seen: Vec<SeenInstance>,
    },
    /// From the API server: it listens, and this is its key (`sha256:<hex of the SPKI>`), for the console.
    ApiKey {
        /// Fingerprint.
        fingerprint: String,
        /// Port.
        port: u16,
    },
}

/// Name of the machine's own log; no unit is called so.
pub const OWN_LOG: &str = "berth";
/// Name of the kernel's log; no unit is called so.
pub const KERNEL_LOG: &str = "kernel";

/// The API's TCP port.
pub const API_PORT: u16 = 7443;
