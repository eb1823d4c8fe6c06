//! `[system]`: of the OS image's own units only.

use super::*;

/// What a part of the system is granted.
pub(super) const SYSTEM: Section<Unit> = Section {
    name: "system",
    doc: "What only units of the OS image may have. Everything is off unless said.",
    later: &[],
    system: true,
    fields: &[
        Field {
            name: "control",
            required: false,
            default: "`false`",
            example: "true",
            doc: "PID 1's control socket, for its workers.",
            set: Set::Bool(|unit, yes| grants(unit).control = yes),
        },
        Field {
            name: "host_users",
            required: false,
            default: "`false`",
            example: "true",
            doc: "No user namespace of its own: uid 0 is the machine's, with only `capabilities`.",
            set: Set::Bool(|unit, yes| grants(unit).host_users = yes),
        },
        Field {
            name: "capabilities",
            required: false,
            default: "`[]`",
            example: "[\"NET_ADMIN\"]",
            doc: "Capabilities instead of the default set.",
            set: Set::Texts(&CAPABILITY, |unit, names| grants(unit).capabilities = only(names)),
        },
        Field {
            name: "mounts",
            required: false,
            default: "`[]`",
            example: "[\"/run/berth/net:/run/berth/net:rw\"]",
            doc: "Paths of the machine in the container: `source:target`, read-only unless `:rw` is behind it.",
            set: Set::Texts(&MOUNT, |unit, texts| {
                grants(unit).mounts = texts.iter().filter_map(|(text, _)| values::mount(text).ok()).collect();
            }),
        },
        Field {
            name: "data",
            required: false,
            default: "`false`",
            example: "true",
            doc: "A folder of its own on the state partition, at `/var/lib/<unit>`.",
            set: Set::Bool(|unit, yes| grants(unit).data = yes),
        },
        Field {
            name: "block_devices",
            required: false,
            default: "`false`",
            example: "true",
            doc: "Read-only descriptors of all block devices but Berth's own disk.",
            set: Set::Bool(|unit, yes| grants(unit).block_devices = yes),
        },
        Field {
            name: "other_slot",
            required: false,
            default: "`false`",
            example: "true",
            doc: "Descriptors of the slot that does not run and of the ESP, to be written.",
            set: Set::Bool(|unit, yes| grants(unit).other_slot = yes),
        },
        Field {
            name: "install",
            required: false,
            default: "`false`",
            example: "true",
            doc: "Descriptors of the installation medium, and of the disk that was chosen, to be written.",
            set: Set::Bool(|unit, yes| grants(unit).install = yes),
        },
    ],
};

fn grants(unit: &mut Unit) -> &mut SystemGrants {
    unit.system.get_or_insert_default()
}
