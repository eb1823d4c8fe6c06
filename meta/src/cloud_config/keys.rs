//! The table of all keys, by cloud-init's schema of its release 25.1 (`schema-cloud-config-v1.json`).

use super::{apply, run, users, write_files};
use crate::translation::{Is, Key, deep, key};

const NO_USERS: &str = "a machine has no users and no login";
const NO_SSH: &str = "there is no SSH server; berth on a laptop is the way in (docs/access.md)";
const NO_PACKAGES: &str =
    "there is no package manager; put the software into an image and run it as a unit: berth: { units: … }";
const NO_PASSWORD: &str = "there is no login; put an SSH public key into ssh_authorized_keys";
const KEYS_ONLY: &str = "keys are not fetched from elsewhere; put the key itself into ssh_authorized_keys";
const NO_AGENT: &str = "no configuration agent runs on the machine; what it would set up is said in berth: { … }, or run it as a unit";
const DISKS: &str = "Berth lays out its own disk; what a unit keeps is a volume: berth: { units: { NAME: { container: { volumes: [\"data:/path\"] } } } }";
const SUBSCRIPTION: &str = "this subscribes another distribution; leave it out";
const REPOSITORIES: &str = "there are no packages and so no repositories of them; images come from registries, berth: { registries: … }";
const ITS_OWN: &str = "a part of cloud-init, which is not here";
const MODULES: &str = "cloud-init's modules are not here; each key says itself what becomes of it";

/// Every key of a document.
pub const KEYS: &[Key] = &[
    // What is applied.
    deep(
        "berth",
        Is::Applied(apply::berth),
        "berth.toml's own tables in YAML (`units`, `registries`, `update`, …), and `runcmd_image`, the image in which \
          `runcmd` runs",
        &[],
    ),
    key("hostname", Is::Applied(apply::hostname), "`hostname`"),
    key(
        "fqdn",
        Is::Applied(apply::fqdn),
        "`hostname`, if there is no `hostname` or `prefer_fqdn_over_hostname` says so",
    ),
    key(
        "prefer_fqdn_over_hostname",
        Is::Applied(apply::with_hostname),
        "which of the two is the machine's name",
    ),
    key("preserve_hostname", Is::Applied(apply::with_hostname), "`true`: `hostname` and `fqdn` are not used"),
    key(
        "ssh_authorized_keys",
        Is::Applied(users::keys),
        "`[access] keys`, as far as their type can be used; the others are named",
    ),
    deep("users", Is::Applied(users::users), "of each user the SSH keys; there are no users besides", USER),
    deep("user", Is::Applied(users::user), "as an entry of `users`", USER),
    key(
        "allow_public_ssh_keys",
        Is::Applied(users::allow_public_keys),
        "`true`, which holds anyway; `false` is refused: the cloud's own keys are valid \
         beside those named here",
    ),
    deep(
        "write_files",
        Is::Applied(write_files::write_files),
        "a text of `[files]`, or of `[secrets]` if `permissions` let only some read it; a unit mounts it",
        FILE,
    ),
    deep("ntp", Is::Applied(apply::ntp), "`[time] servers`", NTP),
    deep("ca_certs", Is::Applied(apply::ca_certs), "`[trust] ca`", CA_CERTS),
    deep("ca-certs", Is::Applied(apply::ca_certs), "as `ca_certs`", CA_CERTS),
    key("timezone", Is::Applied(apply::timezone), "`[time] timezone`: the variable `TZ` of each unit"),
    deep(
        "resolv_conf",
        Is::Applied(apply::resolv_conf),
        "`[network] dns` and `search`, if `manage_resolv_conf` is true",
        RESOLV_CONF,
    ),
    key("manage_resolv_conf", Is::Applied(apply::with_resolv_conf), "whether `resolv_conf` is used"),
    key(
        "runcmd",
        Is::Applied(run::runcmd),
        "a unit `runcmd` that runs the commands with `/bin/sh` at each boot in the image of `berth: { runcmd_image: IMAGE }`; \
         refused without one: there is no shell on the machine",
    ),
    // What need not be done; the last two are cloud-init's own settings, which people write here all the same.
    key("growpart", Is::NoOp, "the state partition grows to the disk's end at each boot"),
    key(
        "resize_rootfs",
        Is::NoOp,
        "the state partition grows to the disk's end at each boot; the root is read-only",
    ),
    key("disable_root", Is::NoOp, NO_USERS),
    key("disable_root_opts", Is::NoOp, NO_USERS),
    key("groups", Is::NoOp, NO_USERS),
    key("ssh", Is::NoOp, NO_SSH),
    key("ssh_deletekeys", Is::NoOp, NO_SSH),
    key("ssh_genkeytypes", Is::NoOp, NO_SSH),
    key("ssh_fp_console_blacklist", Is::NoOp, NO_SSH),
    key("ssh_key_console_blacklist", Is::NoOp, NO_SSH),
    key("ssh_publish_hostkeys", Is::NoOp, NO_SSH),
    key("ssh_quiet_keygen", Is::NoOp, NO_SSH),
    key("no_ssh_fingerprints", Is::NoOp, "the console shows the machine key's fingerprint"),
    key("authkey_hash", Is::NoOp, "the console shows the machine key's fingerprint"),
    key(
        "locale",
        Is::NoOp,
        "programs run in containers, with the images' locales; a unit may set LANG in its env",
    ),
    key("locale_configfile", Is::NoOp, "programs run in containers, with the images' locales"),
    key("keyboard", Is::NoOp, "nothing on the machine reads a keyboard"),
    key("byobu_by_default", Is::NoOp, NO_USERS),
    key("manage_etc_hosts", Is::NoOp, "each unit gets an /etc/hosts of its own"),
    key("create_hostname_file", Is::NoOp, "there is no such file; the kernel has the name"),
    key("final_message", Is::NoOp, "the console shows when the machine is up"),
    key("output", Is::NoOp, "what units write is in their logs: berth logs UNIT"),
    key("random_seed", Is::NoOp, "the kernel's generator gets its seed from the firmware and the last run"),
    key("grub_dpkg", Is::NoOp, "there is no package manager"),
    key("grub-dpkg", Is::NoOp, "there is no package manager"),
    key("apt_pipelining", Is::NoOp, "there is no package manager"),
    key("yum_repo_dir", Is::NoOp, "there is no package manager"),
    key("mount_default_fields", Is::NoOp, "it only completes `mounts`"),
    key("device_aliases", Is::NoOp, "it only names disks for `disk_setup` and `fs_setup`"),
    key("updates", Is::NoOp, "the network follows interfaces that come and go in any case"),
    key("vendor_data", Is::NoOp, "of vendor data nothing is run"),
    key("merge_how", Is::NoOp, "there is one document"),
    key("merge_type", Is::NoOp, "there is one document"),
    key("launch-index", Is::NoOp, "there is one document, for the instance that gets it"),
    key("migrate", Is::NoOp, ITS_OWN),
    key("cloud_init_modules", Is::NoOp, MODULES),
    key("cloud_config_modules", Is::NoOp, MODULES),
    key("cloud_final_modules", Is::NoOp, MODULES),
    key("system_info", Is::NoOp, "it describes another distribution"),
    key("version", Is::NoOp, "there is one version"),
    key("datasource", Is::NoOp, "where a machine looks for its config is fixed (docs/config-sources.md)"),
    key(
        "datasource_list",
        Is::NoOp,
        "where a machine looks for its config is fixed (docs/config-sources.md)",
    ),
    // What is refused.
    key(
        "bootcmd",
        Is::Refused,
        "there is no shell on the machine; write the commands as runcmd and name the image to run them in: \
         berth: { runcmd_image: IMAGE }, or make them a unit",
    ),
    key("packages", Is::Refused, NO_PACKAGES),
    key("package_update", Is::Refused, NO_PACKAGES),
    key(
        "package_upgrade",
        Is::Refused,
        "there is no package manager; the system updates itself as a whole: berth: { update: { automatic: true } }",
    ),
    key(
        "package_reboot_if_required",
        Is::Refused,
        "there is no package manager; the system updates itself as a whole: berth: { update: { automatic: true } }",
    ),
    key("apt_update", Is::Refused, NO_PACKAGES),
    key(
        "apt_upgrade",
        Is::Refused,
        "there is no package manager; the system updates itself as a whole: berth: { update: { automatic: true } }",
    ),
    key(
        "apt_reboot_if_required",
        Is::Refused,
        "there is no package manager; the system updates itself as a whole: berth: { update: { automatic: true } }",
    ),
    key("apt", Is::Refused, REPOSITORIES),
    key("apk_repos", Is::Refused, REPOSITORIES),
    key("yum_repos", Is::Refused, REPOSITORIES),
    key("zypper", Is::Refused, REPOSITORIES),
    key(
        "snap",
        Is::Refused,
        "there are no snaps; run the software as a unit from an image: berth: { units: … }",
    ),
    key("password", Is::Refused, NO_PASSWORD),
    key("chpasswd", Is::Refused, NO_PASSWORD),
    key("ssh_pwauth", Is::Refused, NO_PASSWORD),
    key("ssh_import_id", Is::Refused, KEYS_ONLY),
    key(
        "ssh_keys",
        Is::Refused,
        "there is no SSH server that could have host keys; the machine makes its own key, and berth pins it on first use",
    ),
    key("mounts", Is::Refused, DISKS),
    key(
        "swap",
        Is::Refused,
        "the machine has no swap; a unit's memory is bounded by berth: { units: { NAME: { resources: { memory: 512M } } } }",
    ),
    key("disk_setup", Is::Refused, DISKS),
    key("fs_setup", Is::Refused, DISKS),
    key("ansible", Is::Refused, NO_AGENT),
    key("chef", Is::Refused, NO_AGENT),
    key("puppet", Is::Refused, NO_AGENT),
    key("salt_minion", Is::Refused, NO_AGENT),
    key("mcollective", Is::Refused, NO_AGENT),
    key("landscape", Is::Refused, NO_AGENT),
    key("lxd", Is::Refused, "Berth runs the containers itself: berth: { units: … }"),
    key("fan", Is::Refused, "there are no overlay networks; units reach each other by their names"),
    key(
        "wireguard",
        Is::Refused,
        "the machine makes no tunnels; run one as a unit with mode = host and NET_ADMIN",
    ),
    key(
        "rsyslog",
        Is::Refused,
        "logs are kept by the machine and read by berth logs; to ship them run a shipper as a unit",
    ),
    key(
        "phone_home",
        Is::Refused,
        "the machine calls nobody; ask it: berth status, or its metrics (docs/metrics.md)",
    ),
    key(
        "reporting",
        Is::Refused,
        "the machine calls nobody; ask it: berth status, or its metrics (docs/metrics.md)",
    ),
    key(
        "power_state",
        Is::Refused,
        "a machine that is up stays up; berth reboot and berth poweroff are for operators",
    ),
    key(
        "disable_ec2_metadata",
        Is::Refused,
        "no route is taken away; a unit that is not to reach the metadata service gets network mode none",
    ),
    key("drivers", Is::Refused, "drivers are part of the system's image; others cannot be installed"),
    key(
        "autoinstall",
        Is::Refused,
        "this is for Ubuntu's installer; docs/install.md says how Berth is installed",
    ),
    key("rh_subscription", Is::Refused, SUBSCRIPTION),
    key("spacewalk", Is::Refused, SUBSCRIPTION),
    key("ubuntu_advantage", Is::Refused, SUBSCRIPTION),
    key("ubuntu_pro", Is::Refused, SUBSCRIPTION),
    // What cloud-init itself does not take, and people write all the same.
    key(
        "network",
        Is::Refused,
        "network configuration has no place in user data, where cloud-init ignores it too; give it as network-config, or in berth.toml's \
         words as berth: { network: … }",
    ),
];

/// An entry of `users`.
pub const USER: &[Key] = &[
    key("name", Is::Part, "only what messages call the user"),
    key("ssh_authorized_keys", Is::Part, "`[access] keys`"),
    key("ssh-authorized-keys", Is::Part, "`[access] keys`"),
    key("ssh_import_id", Is::Refused, KEYS_ONLY),
    key("ssh-import-id", Is::Refused, KEYS_ONLY),
    key("passwd", Is::Refused, NO_PASSWORD),
    key("hashed_passwd", Is::Refused, NO_PASSWORD),
    key("hashed-passwd", Is::Refused, NO_PASSWORD),
    key("plain_text_passwd", Is::Refused, NO_PASSWORD),
    key("plain-text-passwd", Is::Refused, NO_PASSWORD),
    key("snapuser", Is::Refused, KEYS_ONLY),
    key("lock_passwd", Is::NoOp, NO_USERS),
    key("lock-passwd", Is::NoOp, NO_USERS),
    key("gecos", Is::NoOp, NO_USERS),
    key("groups", Is::NoOp, NO_USERS),
    key("primary_group", Is::NoOp, NO_USERS),
    key("primary-group", Is::NoOp, NO_USERS),
    key("homedir", Is::NoOp, NO_USERS),
    key("shell", Is::NoOp, NO_USERS),
    key("sudo", Is::NoOp, NO_USERS),
    key("doas", Is::NoOp, NO_USERS),
    key("uid", Is::NoOp, NO_USERS),
    key("system", Is::NoOp, NO_USERS),
    key("inactive", Is::NoOp, NO_USERS),
    key("expiredate", Is::NoOp, NO_USERS),
    key("no_create_home", Is::NoOp, NO_USERS),
    key("no-create-home", Is::NoOp, NO_USERS),
    key("no_user_group", Is::NoOp, NO_USERS),
    key("no-user-group", Is::NoOp, NO_USERS),
    key("no_log_init", Is::NoOp, NO_USERS),
    key("no-log-init", Is::NoOp, NO_USERS),
    key("create_groups", Is::NoOp, NO_USERS),
    key("create-groups", Is::NoOp, NO_USERS),
    key("selinux_user", Is::NoOp, NO_USERS),
    key("selinux-user", Is::NoOp, NO_USERS),
    key("ssh_redirect_user", Is::NoOp, NO_USERS),
    key("ssh-redirect-user", Is::NoOp, NO_USERS),
];

/// An entry of `write_files`.
pub const FILE: &[Key] = &[
    key(
        "path",
        Is::Part,
        "the name in `[files]`: its parts joined by `-`, `/etc/app/a.conf` is `etc-app-a.conf`",
    ),
    key("content", Is::Part, "the text; UTF-8 once it is decoded"),
    key("encoding", Is::Part, "`text/plain`, and each of gzip, base64 and both as cloud-init spells them"),
    key(
        "permissions",
        Is::Part,
        "if not everybody may read it, the text is one of `[secrets]`; in a container it is read-only for everybody all the same, so an \
         executable is refused",
    ),
    key("append", Is::Part, "behind an earlier entry of the same path; refused without one"),
    key("owner", Is::NoOp, "in a container everybody may read it and nobody write"),
    key("defer", Is::NoOp, "files are there before any unit starts"),
    key(
        "source",
        Is::Refused,
        "files are not fetched; put the text into content, or large content into the unit's image",
    ),
];

/// `ntp`.
pub const NTP: &[Key] = &[
    key("servers", Is::Part, "`[time] servers`"),
    key("pools", Is::Part, "`[time] servers`, behind `servers`"),
    key("enabled", Is::Part, "`false`: nobody is asked, the clock is the hardware's"),
    key("peers", Is::Refused, "nobody is given the time; write it among servers"),
    key("allow", Is::NoOp, "nobody is given the time"),
    key("ntp_client", Is::NoOp, "Berth asks the servers itself"),
    key("config", Is::NoOp, "Berth asks the servers itself"),
];

/// `ca_certs`.
pub const CA_CERTS: &[Key] = &[
    key(
        "trusted",
        Is::Part,
        "`[trust] ca`: for registries and the update repository; units have their images' own",
    ),
    key(
        "remove_defaults",
        Is::Refused,
        "the public authorities are part of the system; a registry's images can be pinned by digest",
    ),
    key(
        "remove-defaults",
        Is::Refused,
        "the public authorities are part of the system; a registry's images can be pinned by digest",
    ),
];

/// `resolv_conf`.
pub const RESOLV_CONF: &[Key] = &[
    key("nameservers", Is::Part, "`[network] dns`"),
    key("searchdomains", Is::Part, "`[network] search`"),
    key("domain", Is::Part, "`[network] search`"),
    key("sortlist", Is::NoOp, "addresses are taken in the order of the answer"),
    key("options", Is::NoOp, "each unit's resolver has its image's options"),
];
