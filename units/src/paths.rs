//! Where things lie on the machine. No other crate repeats one of these.

use crate::model::Origin;

/// The verified root's own folder: programs, units, build facts.
pub const LIB: &str = "/usr/lib/berth";
/// The multi-call program of the workers and the command line.
pub const BERTH: &str = "/usr/lib/berth/berth";
/// e2fsck, static; runs only in a unit that holds the state partition's device.
pub const E2FSCK: &str = "/usr/lib/berth/e2fsck";
/// An empty state file system, zstd; grown after it is written.
pub const EMPTY_STATE: &str = "/usr/lib/berth/state.ext4.zst";
/// Unit files shipped in the OS image: the system units.
pub const SYSTEM_UNITS: &str = "/usr/lib/berth/units";
/// OCI archives shipped in the OS image.
pub const SYSTEM_IMAGES: &str = "/usr/lib/berth/images";
/// Facts of the build: version, build time (`os-release` format).
pub const OS_RELEASE: &str = "/usr/lib/os-release";
/// Kernel modules, `modules.dep` and `modules.alias` below `<version>/`.
pub const MODULES: &str = "/usr/lib/modules";

/// Everything volatile of ours.
pub const RUN: &str = "/run/berth";
/// PID 1's control socket (`SOCK_SEQPACKET`), see [`crate::control`].
pub const CONTROL_SOCKET: &str = "/run/berth/control.sock";
/// Name servers learned by the network agent, bound as `/etc/resolv.conf` into containers on the host's network. The
/// folder is the agent's to write.
pub const RESOLV_CONF: &str = "/run/berth/net/resolv.conf";
/// The same for containers on the bridge: the agent answers their questions itself.
pub const BRIDGE_RESOLV_CONF: &str = "/run/berth/net/resolv-bridge.conf";
/// Time servers that DHCP has named, an address a line; in the same folder.
pub const TIME_SERVERS: &str = "/run/berth/net/time-servers";
/// What PID 1 has for the unit `install`, which sees it read-only: the config for the new machine, if there is one.
pub const INSTALL: &str = "/run/berth/install";
/// In [`INSTALL`].
pub const INSTALL_CONFIG: &str = "/run/berth/install/berth.toml";
/// GRUB for a new disk: `BOOTX64.EFI`, `boot.img` (sector 0 for a BIOS) and `core.img`.
pub const LOADERS: &str = "/usr/lib/berth/boot";
/// What PID 1 has for the unit `meta`, which sees it read-only.
pub const META: &str = "/run/berth/meta";
/// In [`META`]: a config that was laid on the disk or on the installation medium for this start.
pub const SEED: &str = "/run/berth/meta/seed";
/// Per-unit logs, bounded, in memory.
pub const LOGS: &str = "/run/berth/logs";
/// Sockets for what units with `ready.notify` say, one each.
pub const NOTIFY: &str = "/run/berth/notify";
/// Where such a unit finds its own.
pub const NOTIFY_INSIDE: &str = "/run/notify.sock";
/// What the kernel of an earlier start said when it panicked.
pub const PANIC: &str = "/run/berth/panic";

/// The state partition's mount point.
pub const STATE: &str = "/var/lib/berth";
/// Applied machine config.
pub const STATE_CONFIG: &str = "/var/lib/berth/config";
/// Image store: `layers/<hex>/` and `index/<name>.json`, written by the store worker only.
pub const STATE_IMAGES: &str = "/var/lib/berth/images";
/// What came from registries, an OCI image layout; written by the fetcher only.
pub const STATE_FETCHED: &str = "/var/lib/berth/images/fetched";
/// Per-unit writable layers and data: `<unit>/{upper,work,data}`.
pub const STATE_UNITS: &str = "/var/lib/berth/units";

/// The users' data: one folder a volume. Nothing of Berth's ever removes one unasked.
pub const STATE_VOLUMES: &str = "/var/lib/berth/volumes";

/// What the unit `update` keeps: trusted metadata, how far it has come.
pub const STATE_UPDATE: &str = "/var/lib/berth/update";
/// What PID 1 remembers of updates: the one on trial, what was quarantined.
pub const STATE_TRIALS: &str = "/var/lib/berth/trials.json";
/// The update repository that the image was made for: its trusted root, and its address. Both may be missing.
pub const UPDATE_ROOT: &str = "/usr/lib/berth/update/root.json";
/// See [`UPDATE_ROOT`].
pub const UPDATE_ADDRESS: &str = "/usr/lib/berth/update/address";

/// What any unit may have mounted, read-only, itself or what lies below: it says how the machine is built and what its
/// units use, to whoever has it, and nothing else.
pub const SHOWN: [&str; 3] = [CGROUP, MODULES, OS_RELEASE];

/// cgroup v2.
pub const CGROUP: &str = "/sys/fs/cgroup";
/// Parent cgroup of system units.
pub const CGROUP_SYSTEM: &str = "/sys/fs/cgroup/system";
/// Parent cgroup of the user's units.
pub const CGROUP_UNITS: &str = "/sys/fs/cgroup/units";
/// Where the API server sees [`CGROUP`], read-only: its own cgroup namespace shows it nobody else's.
pub const API_CGROUPS: &str = "/run/cgroups";

/// The cgroup of a unit.
pub fn cgroup(origin: Origin, unit: &str) -> String {
    let parent = match origin {
        Origin::System => CGROUP_SYSTEM,
        Origin::Config => CGROUP_UNITS,
    };
    format!("{parent}/{unit}")
}
