//! `[container]`.

use super::*;

/// What runs, and as whom.
pub(super) const CONTAINER: Section<Unit> = Section {
    name: "container",
    doc: "The image, and what to run in it.",
    later: &["seccomp", "userns", "init"],
    system: false,
    fields: &[
        Field {
            name: "image",
            required: true,
            default: "",
            example: "\"example.org/web:1\"",
            doc: "The image's name as its archive gives it, with `@sha256:…` behind it if exactly one build is \
                  meant. Images come from OCI or docker-save archives that are attached as disks, from \
                  archives and OCI layouts in the OS image, and what is in none of these from the registry that the name \
                  begins with (Docker Hub without one), once: what has been pulled stays.",
            set: Set::Text(&IMAGE, |unit, text| unit.container.image = text),
        },
        Field {
            name: "command",
            required: false,
            default: "the image's entrypoint",
            example: "[\"/bin/server\"]",
            doc: "The program and its first arguments. Not a shell line: each argument is one string.",
            set: Set::Texts(&WORD, |unit, words| unit.container.command = Some(only(words))),
        },
        Field {
            name: "args",
            required: false,
            default: "the image's cmd; nothing if `command` is given",
            example: "[\"--port\", \"80\"]",
            doc: "Arguments behind `command`.",
            set: Set::Texts(&WORD, |unit, words| unit.container.args = Some(only(words))),
        },
        Field {
            name: "env",
            required: false,
            default: "`{}`",
            example: "{ PORT = \"80\" }",
            doc: "Environment variables, added to the image's or replacing them.",
            set: Set::Pairs(&ENV_NAME, &ENV_VALUE, |unit, env| unit.container.env = env),
        },
        Field {
            name: "env_file",
            required: false,
            default: "`[]`",
            example: "[\"shop.env\"]",
            doc: "Environment files, by their names in the machine config's `[files]` or `[secrets]`. As Docker's: one \
                  `NAME=value` a line, the value as it stands, `#` begins a comment line. Later ones replace earlier \
                  ones, `env` replaces both.",
            set: Set::TextOrTexts(&CONTENT_NAME, |unit, names| {
                unit.container.env_file = only(names).into_iter().map(content).collect();
            }),
        },
        Field {
            name: "workdir",
            required: false,
            default: "the image's",
            example: "\"/srv\"",
            doc: "Working directory.",
            set: Set::Text(&PATH, |unit, path| unit.container.workdir = Some(path)),
        },
        Field {
            name: "user",
            required: false,
            default: "the image's",
            example: "\"1000:1000\"",
            doc: "User, and group if it is not the user's own: numbers, or names as the image knows them. Number 0 \
                  is root inside the container only; the machine sees the unit's own range.",
            set: Set::Text(&USER, |unit, user| unit.container.user = Some(user)),
        },
        Field {
            name: "read_only",
            required: false,
            default: "`false`",
            example: "true",
            doc: "Nothing but `tmpfs` can be written to.",
            set: Set::Bool(|unit, yes| unit.container.read_only = yes),
        },
        Field {
            name: "tmpfs",
            required: false,
            default: "`{}`",
            example: "{ \"/tmp\" = \"64M\" }",
            doc: "Folders in memory, empty at each start, and their sizes. What they hold counts as the unit's \
                  memory.",
            set: Set::Pairs(&TMPFS_PATH, &TMPFS_SIZE, |unit, sizes| {
                let sizes = sizes.into_iter();
                unit.container.tmpfs =
                    sizes.filter_map(|(path, size)| Some((path, values::size(&size).ok()?))).collect();
            }),
        },
        Field {
            name: "volumes",
            required: false,
            default: "`[]`",
            example: "[\"shop-data:/var/lib/shop\"]",
            doc: "Folders on the state partition that outlive the container, its image and every update: `NAME:/path`, with \
                  `:ro` behind if the unit is not to write there. Units that name the same one share it. A new one is \
                  empty, and gets owner and mode of the folder that the first image has at that path.",
            set: Set::Texts(&VOLUME, |unit, texts| {
                unit.container.volumes =
                    texts.iter().filter_map(|(text, _)| values::volume(text).ok()).collect();
            }),
        },
        Field {
            name: "mounts",
            required: false,
            default: "`[]`",
            example: "[\"shop.conf:/etc/shop.conf\", \"/sys/fs/cgroup:/host/cgroup\"]",
            doc: "What else is in the container, read-only. `NAME:/path`: a text of the machine config's `[files]` or `[secrets]` \
                  as a file that everybody in the container may read. `/path/of/the/machine:/path`: of the machine there \
                  is `/sys/fs/cgroup`, `/usr/lib/modules` and `/usr/lib/os-release`, with what lies below; a \
                  `privileged` unit can have any path, with what is mounted below it, and `:rw` behind it.",
            set: Set::Texts(&UNIT_MOUNT, |unit, texts| {
                unit.container.mounts =
                    texts.iter().filter_map(|(text, _)| values::unit_mount(text).ok()).collect();
            }),
        },
        Field {
            name: "devices",
            required: false,
            default: "`[]`",
            example: "[\"/dev/fuse\", \"/dev/ttyS1:/dev/modem\"]",
            doc: "Devices of the machine: `/dev/NAME`, with `:/dev/OTHER` behind if it is called so in the container, and \
                  `:ro` if it is only to be read. Every user in the container may open them. A device that is not there \
                  is an error at the start; the disk that Berth itself lies on is given to nobody.",
            set: Set::Texts(&DEVICE, |unit, texts| {
                unit.container.devices =
                    texts.iter().filter_map(|(text, _)| values::device(text).ok()).collect();
            }),
        },
        Field {
            name: "hostname",
            required: false,
            default: "the unit's name",
            example: "\"shop.example.org\"",
            doc: "The host name that the container sees.",
            set: Set::Text(&HOSTNAME, |unit, text| unit.container.hostname = Some(text)),
        },
        Field {
            name: "capabilities",
            required: false,
            default: "the default set",
            example: "[\"default\", \"NET_RAW\"]",
            doc: "Capabilities that the program may have over the unit's own namespaces: names without `CAP_`, and `default` \
                  for all that a container has unless it is said otherwise, named below this table. `[]`: none.",
            set: Set::Texts(&CAPABILITIES_OR_DEFAULT, |unit, names| {
                unit.container.capabilities = Some(only(names));
            }),
        },
        Field {
            name: "no_new_privs",
            required: false,
            default: "`true`",
            example: "false",
            doc: "No program gains rights by being started. `false`: `sudo` and other setuid programs of the image work, over the \
                  unit's own users; not for what `berth exec` or a health check starts.",
            set: Set::Bool(|unit, yes| unit.container.new_privs = !yes),
        },
        Field {
            name: "privileged",
            required: false,
            default: "`false`",
            example: "true",
            doc: "The unit is the machine's root: its user 0 is the machine's, with every capability and device, without a seccomp \
                  filter and without anything masked or read-only in `/proc` and `/sys`. Whoever is in it can do anything to \
                  the machine. For debugging; `berth ps` and the console say it.",
            set: Set::Bool(|unit, yes| unit.container.privileged = yes),
        },
        Field {
            name: "pid",
            required: false,
            default: "`\"private\"`",
            example: "\"host\"",
            doc: "`host`: it sees the machine's processes; only with `privileged`. `private`: its own.",
            set: Set::Choice(&["private", "host"], &[], |unit, word| {
                unit.container.host_pids = word == "host";
            }),
        },
        Field {
            name: "stop_signal",
            required: false,
            default: "the image's, else `SIGTERM`",
            example: "\"SIGINT\"",
            doc: "The signal that asks the program to end.",
            set: Set::Text(&SIGNAL, |unit, text| unit.container.stop_signal = Some(text)),
        },
        Field {
            name: "stop_timeout",
            required: false,
            default: "`\"10s\"`",
            example: "\"30s\"",
            doc: "How long the program has to end after the stop signal, before it is killed.",
            set: Set::Text(&STOP_TIME, |unit, text| set_time(&mut unit.restart.stop_timeout, &text)),
        },
    ],
};
