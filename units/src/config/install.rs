//! `[install]`: onto which disk a machine that was started from the installation medium puts itself.

use crate::model::{AfterInstall, DiskRule, MachineConfig};
use crate::schema::table::{Field, Form, Section, Set};
use crate::schema::values;

const DISK: Form = Form {
    expected: "only, smallest, largest, serial:NUMBER, or a path such as \"/dev/nvme0n1\"",
    check: |text| DiskRule::parse(text).map(drop).ok_or_else(|| "names no disk".into()),
};
const THEN: Form = Form {
    expected: "reboot, poweroff or stay",
    check: |text| AfterInstall::parse(text).map(drop).ok_or_else(|| "is none of them".into()),
};
const SIZE: Form = Form { expected: "a size such as \"16G\"", check: |text| values::size(text).map(drop) };

pub(super) const SECTION: Section<MachineConfig> = Section {
    name: "install",
    doc: "Says that a machine started from the installation medium is to put Berth, with this config, onto one of its disks, \
          without a question (`docs/install.md`). On a machine that runs from its disk it means nothing, nor without `disk`. Never taken are the \
          medium itself, disks in use, and those too small.",
    later: &["layout", "raid", "encrypt"],
    system: false,
    fields: &[
        Field {
            name: "disk",
            required: false,
            default: "none: nothing is installed",
            example: "\"serial:S4EVNX0R123456\"",
            doc: "Which one: `only`, the one that is free (two of them are an error); `smallest` or `largest` of those that are free \
                  (two alike are an error); `serial:NUMBER`; or its path. `berth disks` lists them.",
            set: Set::Text(&DISK, |config, text| config.install.disk = DiskRule::parse(&text)),
        },
        Field {
            name: "min_size",
            required: false,
            default: "none",
            example: "\"16G\"",
            doc: "Smaller disks are not taken.",
            set: Set::Text(&SIZE, |config, text| {
                config.install.min_size = values::size(&text).unwrap_or_default()
            }),
        },
        Field {
            name: "erase",
            required: false,
            default: "`false`",
            example: "true",
            doc: "A disk that holds something is free too, and loses it. Without it only empty disks are taken.",
            set: Set::Bool(|config, yes| config.install.erase = yes),
        },
        Field {
            name: "removable",
            required: false,
            default: "`false`",
            example: "true",
            doc: "A disk that says it can be taken out, such as a stick, is free too.",
            set: Set::Bool(|config, yes| config.install.removable = yes),
        },
        Field {
            name: "then",
            required: false,
            default: "`\"reboot\"`",
            example: "\"poweroff\"",
            doc: "What the machine does once it is installed: `reboot`, `poweroff`, or `stay`.",
            set: Set::Text(&THEN, |config, text| {
                config.install.then = AfterInstall::parse(&text).unwrap_or_default()
            }),
        },
    ],
};
