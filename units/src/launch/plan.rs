//! What is to be started, completely decided: nothing below this looks at a unit or an image again.

use super::LaunchError;
use crate::env_file;
use crate::image::PreparedImage;
use crate::instances;
use crate::limits::ID_RANGE;
use crate::model::{
    CAPABILITIES, Content, DEFAULT_CAPABILITIES, Device, MountSource, NetworkMode, Origin, SYSTEM_IMAGE,
    Secret, Sign, Unit,
};
use crate::paths;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// `PATH` where neither image nor unit sets one; Docker's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where the machine keeps what a container is made from; the defaults are [`paths`], tests use their own.
#[derive(Debug, Clone)]
pub struct Place {
    /// `layers/<hex>/` lie below.
    pub images: PathBuf,
    /// `<unit>/{upper,work,data}` lie below.
    pub units: PathBuf,
    /// `<volume>/` lie below.
    pub volumes: PathBuf,
    /// Name servers, for units on the host's network.
    pub resolv_conf: PathBuf,
    /// Name servers, for units on the bridge.
    pub bridge_resolv_conf: PathBuf,
    /// An existing or creatable folder that the setup child mounts over, in its own mount namespace.
    pub scratch: PathBuf,
    /// `<unit>` below is the socket for what it says of itself.
    pub notify: PathBuf,
    /// The verified root.
    pub system_root: PathBuf,
    /// The state partition: the disk that it is on is nobody's.
    pub state: PathBuf,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            images: paths::STATE_IMAGES.into(),
            units: paths::STATE_UNITS.into(),
            volumes: paths::STATE_VOLUMES.into(),
            resolv_conf: paths::RESOLV_CONF.into(),
            bridge_resolv_conf: paths::BRIDGE_RESOLV_CONF.into(),
            scratch: Path::new(paths::RUN).join("launch"),
            notify: paths::NOTIFY.into(),
            system_root: "/".into(),
            state: paths::STATE.into(),
        }
    }
}

/// The container's root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// Layers of an image, stacked.
    Image {
        /// Layer directories, bottom first.
        layers: Vec<PathBuf>,
        /// The unit's own folder, in which `upper` and `work` are kept as long as the image stays the same; `None`:
        /// the root is read-only.
        writable: Option<PathBuf>,
        /// Manifest digest, of a transient unit with its number: another one means another writable layer.
        digest: String,
    },
    /// The verified root, read-only, with small tmpfs at `/run`, `/var`, `/etc` and `/tmp`.
    System(PathBuf),
}

/// A path of the host that is bound into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: String,
    /// Writable.
    pub writable: bool,
    /// Made as a folder (mode 0700) if it does not exist.
    pub create: bool,
    /// A volume: a new one becomes what the image has at that path, as far as owner and mode go.
    pub volume: bool,
    /// With what is mounted below it.
    pub recursive: bool,
}

impl Bind {
    /// A path that exists, read-only.
    pub fn of(source: impl Into<PathBuf>, target: impl Into<String>) -> Self {
        let (source, target) = (source.into(), target.into());
        Self { source, target, writable: false, create: false, volume: false, recursive: false }
    }
}

/// A set of capabilities, one bit each, as the kernel numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps(pub u64);

impl Caps {
    /// What a container gets unless its unit says otherwise: Docker's set without `MKNOD` (devices are given, not
    /// made), `NET_RAW` (ping works by ICMP sockets) and `AUDIT_WRITE` (there is no audit daemon).
    pub const DEFAULT: Caps = Caps::of(&[
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]);

    /// The number of a name without `CAP_`, if there is one.
    pub const fn number(name: &str) -> Option<u8> {
        let mut n = 0;
        while (n as usize) < CAPABILITIES.len() {
            if same(CAPABILITIES[n as usize], name) {
                return Some(n);
            }
            n += 1;
        }
        None
    }

    /// Whether the set has this capability.
    pub const fn has(self, name: &str) -> bool {
        match Self::number(name) {
            Some(n) => self.0 >> n & 1 == 1,
            None => false,
        }
    }

    /// The names in the set, in the kernel's order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        CAPABILITIES.into_iter().enumerate().filter(move |(n, _)| self.0 >> n & 1 == 1).map(|(_, name)| name)
    }

    /// All that there are.
    pub const ALL: Caps = Caps((1 << CAPABILITIES.len()) - 1);

    const fn of(names: &[&str]) -> Self {
        let (mut set, mut i) = (0, 0);
        while i < names.len() {
            if let Some(n) = Self::number(names[i]) {
                set |= 1 << n;
            }
            i += 1;
        }
        Self(set)
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// Everything that [`super::spawn`] needs to know. Not to be printed: environments hold passwords.
pub struct Plan {
    /// Unit name.
    pub unit: String,
    /// Root file system.
    pub root: Root,
    /// Mount the root read-only.
    pub read_only: bool,
    /// The command line, never empty.
    pub argv: Vec<String>,
    /// `KEY=value`, without duplicates. `HOME` is added inside, where the user is known.
    pub env: Vec<String>,
    /// Absolute.
    pub cwd: String,
    /// As in an image config: empty, `uid`, `uid:gid`, `name`, `name:group`.
    pub user: String,
    /// UTS host name.
    pub hostname: String,
    /// First host id of its range; `None`: the host's own ids.
    pub id_base: Option<u32>,
    /// What it may keep.
    pub caps: Caps,
    /// Granted by name, so a user other than root keeps them too (ambient).
    pub caps_ambient: bool,
    /// `RLIMIT_NOFILE`.
    pub nofile: Option<u64>,
    /// tmpfs mounts: path, bytes.
    pub tmpfs: Vec<(String, u64)>,
    /// Files below `/run/secrets`.
    pub secrets: Vec<(String, Secret)>,
    /// Texts as files, read-only: path in the container, text.
    pub files: Vec<(String, Secret)>,
    /// Binds, in order.
    pub binds: Vec<Bind>,
    /// Devices beside those that every container has.
    pub devices: Vec<Device>,
    /// See [`Place::state`].
    pub state: PathBuf,
    /// Its programs may gain rights by being started.
    pub new_privs: bool,
    /// Every device, no seccomp filter, nothing masked or write-protected.
    pub privileged: bool,
    /// The machine's processes, not its own.
    pub host_pids: bool,
    /// Network namespace.
    pub network: NetworkMode,
    /// Bound at `/etc/resolv.conf`, made empty if missing.
    pub resolv_conf: PathBuf,
    /// See [`Place::scratch`].
    pub scratch: PathBuf,
    /// Descriptors handed on, from 3 upwards in this order; their names and numbers go into `BERTH_BLOCK_FDS`.
    pub fds: Vec<(String, OwnedFd)>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("unit", &self.unit).finish_non_exhaustive()
    }
}

impl Plan {
    /// Puts unit and image together. `id_base` is the first id of the unit's own range
    /// ([`crate::limits::ID_RANGE`] wide); units with `system.host_users` do not use it.
    pub fn new(
        unit: &Unit,
        image: Option<&PreparedImage>,
        id_base: u32,
        place: &Place,
    ) -> Result<Plan, LaunchError> {
        let fail = |reason: String| LaunchError::Plan { unit: unit.name.clone(), reason };
        let grants = unit.system.clone().unwrap_or_default();
        let own_folder = place.units.join(&unit.name);
        let container = &unit.container;

        let root = match image {
            _ if container.image == SYSTEM_IMAGE && unit.origin != Origin::System => {
                return Err(fail(format!("image {SYSTEM_IMAGE:?} is for the system's own units")));
            }
            _ if container.image == SYSTEM_IMAGE => Root::System(place.system_root.clone()),
            Some(image) => Root::Image {
                layers: image.layers.iter().map(|hex| place.images.join("layers").join(hex)).collect(),
                writable: (!container.read_only).then(|| own_folder.clone()),
                digest: match unit.transient {
                    None => image.digest.clone(),
                    Some(number) => format!("{} {number}", image.digest),
                },
            },
            None => return Err(fail(format!("image {:?} has not been prepared", container.image))),
        };
        if grants.host_users && unit.origin != Origin::System {
            return Err(fail("only the system's own units may use the host's users".into()));
        }
        if !(grants.host_users || container.privileged)
            && (id_base < ID_RANGE || id_base.checked_add(ID_RANGE).is_none())
        {
            return Err(fail(format!("id range {id_base}+{ID_RANGE} overlaps the host's own ids")));
        }

        let argv = command_line(unit, image);
        if argv.is_empty() {
            return Err(fail(format!("image {:?} names no command; set container.command", container.image)));
        }
        let hostname = container.hostname.clone().unwrap_or_else(|| instances::hostname(&unit.name));
        let mut env = environment(unit, image, &hostname).map_err(fail)?;
        let notifies = unit.ready.as_ref().is_some_and(|ready| ready.sign == Sign::Notify);
        if notifies {
            set_env(&mut env, format!("NOTIFY_SOCKET={}", paths::NOTIFY_INSIDE));
        }
        if argv.iter().chain(&env).any(|text| text.contains('\0')) {
            return Err(fail("its command or environment contains a NUL".into()));
        }
        let secrets = unit.secrets.iter().map(|(name, content)| Ok((name.clone(), text(content)?.clone())));
        let secrets = secrets.collect::<Result<_, _>>().map_err(fail)?;
        let image_workdir = image.map(|i| i.workdir.as_str()).filter(|w| !w.is_empty());
        let cwd = container.workdir.as_deref().or(image_workdir).unwrap_or("/");
        let image_user = image.map(|i| i.user.as_str()).unwrap_or_default();

        let host_users = grants.host_users || container.privileged;
        let named = container.capabilities.as_ref().filter(|_| unit.origin != Origin::System);
        let caps = if container.privileged {
            Caps::ALL
        } else if named.is_none() && grants.capabilities.is_empty() && !grants.host_users {
            Caps::DEFAULT
        } else {
            let mut set = Caps::default();
            for name in named.unwrap_or(&grants.capabilities) {
                if name == DEFAULT_CAPABILITIES {
                    set.0 |= Caps::DEFAULT.0;
                    continue;
                }
                let number = Caps::number(name).ok_or_else(|| {
                    fail(format!("there is no capability {name:?} (write it without CAP_)"))
                })?;
                set.0 |= 1 << number;
            }
            set
        };

        let mut files = Vec::new();
        let mut binds: Vec<Bind> = grants
            .mounts
            .iter()
            .map(|m| Bind { writable: m.writable, ..Bind::of(&m.source, &m.target) })
            .collect();
        for mount in &container.mounts {
            match &mount.source {
                MountSource::Config(content) => {
                    files.push((mount.target.clone(), text(content).map_err(fail)?.clone()));
                }
                MountSource::Host(source) => binds.push(Bind {
                    writable: mount.writable,
                    recursive: container.privileged,
                    ..Bind::of(source, &mount.target)
                }),
            }
        }
        binds.extend(container.volumes.iter().map(|volume| Bind {
            writable: !volume.read_only,
            create: true,
            volume: true,
            ..Bind::of(place.volumes.join(&volume.name), &volume.target)
        }));
        if grants.control {
            binds.push(Bind { writable: true, ..Bind::of(paths::CONTROL_SOCKET, paths::CONTROL_SOCKET) });
        }
        if notifies {
            binds.push(Bind::of(place.notify.join(&unit.name), paths::NOTIFY_INSIDE));
        }
        if grants.data {
            binds.push(Bind {
                writable: true,
                create: true,
                ..Bind::of(own_folder.join("data"), format!("/var/lib/{}", unit.name))
            });
        }

        Ok(Plan {
            unit: unit.name.clone(),
            root,
            read_only: container.read_only || container.image == SYSTEM_IMAGE,
            argv,
            env,
            cwd: cwd.to_owned(),
            user: container.user.as_deref().unwrap_or(image_user).to_owned(),
            hostname,
            id_base: (!host_users).then_some(id_base),
            caps,
            caps_ambient: !grants.capabilities.is_empty(),
            nofile: unit.resources.nofile,
            tmpfs: container.tmpfs.iter().map(|(path, size)| (path.clone(), *size)).collect(),
            secrets,
            files,
            binds,
            devices: container.devices.clone(),
            state: place.state.clone(),
            new_privs: container.new_privs,
            privileged: container.privileged,
            host_pids: container.host_pids,
            network: unit.network.mode,
            resolv_conf: match unit.network.mode {
                NetworkMode::Bridge => place.bridge_resolv_conf.clone(),
                NetworkMode::Host | NetworkMode::None => place.resolv_conf.clone(),
            },
            scratch: place.scratch.clone(),
            fds: Vec::new(),
        })
    }
}

/// As Docker does it: `command` replaces the entrypoint and drops the image's cmd, `args` replaces the cmd.
fn command_line(unit: &Unit, image: Option<&PreparedImage>) -> Vec<String> {
    let container = &unit.container;
    let (entrypoint, cmd) = match (&container.command, image) {
        (Some(command), _) => (command.as_slice(), &[][..]),
        (None, Some(image)) => (image.entrypoint.as_slice(), image.cmd.as_slice()),
        (None, None) => (&[][..], &[][..]),
    };
    let args = container.args.as_deref().unwrap_or(cmd);
    entrypoint.iter().chain(args).cloned().collect()
}

/// What the machine config has under that name.
fn text(content: &Content) -> Result<&Secret, String> {
    content.text.as_ref().ok_or_else(|| format!("the machine config has no {:?}", content.from))
}

/// Defaults, then the image's, then the unit's files and its own; a later one replaces an earlier one in its place.
fn environment(unit: &Unit, image: Option<&PreparedImage>, hostname: &str) -> Result<Vec<String>, String> {
    let mut env: Vec<String> = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    for entry in image.map(|i| i.env.as_slice()).unwrap_or_default() {
        // `KEY` alone, or `=value`, sets nothing.
        if entry.find('=').is_some_and(|at| at > 0) {
            set_env(&mut env, entry.clone());
        }
    }
    for file in &unit.container.env_file {
        let pairs = env_file::parse(text(file)?.reveal());
        for (key, value) in pairs.map_err(|_| format!("environment file {:?} has mistakes", file.from))? {
            set_env(&mut env, format!("{key}={value}"));
        }
    }
    for (key, value) in &unit.container.env {
        set_env(&mut env, format!("{key}={value}"));
    }
    Ok(env)
}

/// Adds `KEY=value`, or replaces what `KEY` was.
pub(super) fn set_env(env: &mut Vec<String>, entry: String) {
    let key = entry.split('=').next().unwrap_or_default();
    match env.iter_mut().find(|e| e.split('=').next() == Some(key)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
