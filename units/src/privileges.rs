//! What isolation a unit has given up, in words: `berth ps` shows them beside it.

use crate::launch::Caps;
use crate::model::{DEFAULT_CAPABILITIES, MountSource, NetworkMode, Unit};

/// One word or two for each thing; none for a unit with all defaults.
pub fn words(unit: &Unit) -> Vec<String> {
    let container = &unit.container;
    let grants = unit.system.clone().unwrap_or_default();
    let mut words = Vec::new();
    let mut say = |yes: bool, what: &str| words.extend(yes.then(|| what.to_owned()));
    say(container.privileged, "privileged");
    say(container.host_pids, "host processes");
    say(unit.network.mode == NetworkMode::Host, "host network");
    say(grants.host_users, "host users");
    say(container.new_privs, "new privileges");
    let named = container.capabilities.iter().flatten().chain(&grants.capabilities);
    let extra = named.filter(|name| *name != DEFAULT_CAPABILITIES);
    // What the OS's own units have is told whole: theirs is no default set.
    let extra = extra.filter(|name| unit.system.is_some() || !Caps::DEFAULT.has(name));
    words.extend(extra.map(|name| format!("CAP_{name}")));
    words.extend(grants.control.then(|| "control socket".to_owned()));
    words.extend(grants.block_devices.then(|| "reads block devices".to_owned()));
    words.extend(grants.install.then(|| "writes a disk".to_owned()));
    words.extend(grants.other_slot.then(|| "writes the other slot".to_owned()));
    let paths = grants.mounts.iter().map(|mount| (mount.writable, mount.source.as_str()));
    let paths = paths.chain(container.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Host(source) => Some((mount.writable, source.as_str())),
        MountSource::Config(_) => None,
    }));
    let paths =
        paths.chain(container.devices.iter().map(|device| (!device.read_only, device.source.as_str())));
    words.extend(paths.map(|(writes, path)| format!("{} {path}", if writes { "writes" } else { "reads" })));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;
    use crate::schema::parse_unit;

    fn of(text: &str, origin: Origin) -> Vec<String> {
        words(&parse_unit("f.toml", "f", text.as_bytes(), origin).unwrap())
    }

    #[test]
    fn everything_that_is_given_up_is_said() {
        let none: [&str; 0] = [];
        assert_eq!(of("container.image = \"x\"", Origin::Config), none);
        let text = "[container]\nimage = \"x\"\ncapabilities = [\"default\", \"CHOWN\", \"NET_RAW\"]\nno_new_privs = false\n\
                    mounts = [\"a.conf:/etc/a.conf\", \"/sys/fs/cgroup:/host/cgroup\"]\n\
                    devices = [\"/dev/fuse\", \"/dev/rtc0:ro\"]\nnetwork.mode = \"host\"";
        let text = text.replace("\nnetwork.mode", "\n[network]\nmode");
        assert_eq!(
            of(&text, Origin::Config),
            [
                "host network",
                "new privileges",
                "CAP_NET_RAW",
                "reads /sys/fs/cgroup",
                "writes /dev/fuse",
                "reads /dev/rtc0"
            ]
        );
        let text =
            "[container]\nimage = \"x\"\nprivileged = true\npid = \"host\"\nmounts = [\"/:/host:rw\"]\n";
        assert_eq!(of(text, Origin::Config), ["privileged", "host processes", "writes /"]);
        let text = "[container]\nimage = \"berth:system\"\n[network]\nmode = \"host\"\n[system]\ncontrol = true\n\
                    host_users = true\ncapabilities = [\"CHOWN\", \"NET_ADMIN\"]\nblock_devices = true\n\
                    mounts = [\"/sys/firmware:/sys/firmware\"]\n";
        assert_eq!(
            of(text, Origin::System),
            [
                "host network",
                "host users",
                "CAP_CHOWN",
                "CAP_NET_ADMIN",
                "control socket",
                "reads block devices",
                "reads /sys/firmware"
            ]
        );
    }
}
