//! Every field of a unit file. The reference page and the parser both come from here.

use super::table::{Field, Section, Set};
use super::values::{self, *};
use crate::diag::Place;
use crate::limits;
use crate::model::{
    Check, Content, Dependency, Health, NetworkMode, Ready, RestartPolicy, Sign, SystemGrants, Unit,
};
use std::time::Duration;

/// Tables of the design that this version does not have.
pub(crate) const LATER: &[&str] = &["schedule", "logs", "update"];

/// A unit file.
pub(crate) const UNIT_FILE: &[Section<Unit>] = &[
    Section {
        name: "",
        doc: "Beside the tables below.",
        later: &[],
        system: false,
        fields: &[Field {
            name: "secrets",
            required: false,
            default: "`{}`",
            example: "{ db-password = \"shop-db-password\" }",
            doc: "Secrets for the program, by reference: `/run/secrets/NAME` is a file in memory that holds the text which the \
                  machine config has under the name behind it, in `[secrets]` or `[files]`. It belongs to the unit's \
                  user, with mode 0400.",
            set: Set::Pairs(&CONTENT_NAME, &CONTENT_NAME, |unit, pairs| {
                unit.secrets = pairs.into_iter().map(|(name, from)| (name, content(from))).collect();
            }),
        }],
    },
    Section {
        name: "unit",
        doc: "What the unit is, and what it waits for.",
        later: &["wants", "conflicts"],
        system: false,
        fields: &[
            Field {
                name: "description",
                required: false,
                default: "`\"\"`",
                example: "\"The shop\"",
                doc: "One line for people.",
                set: Set::Text(&LINE, |unit, text| unit.description = text),
            },
            Field {
                name: "after",
                required: false,
                default: "`[]`",
                example: "[\"db:ready\"]",
                doc: "Start only when these units run or have finished; with `:ready` behind the name when they are healthy, with \
                      `:completed` when they have ended with success. Of a unit with several instances one is enough (all for \
                      `:completed`). A unit that does not exist, is not wanted or has failed is not waited for. They also \
                      stop only after this one.",
                set: Set::Texts(&DEPENDENCY, |unit, names| {
                    (unit.after, unit.places.after) = dependencies(names);
                }),
            },
            Field {
                name: "requires",
                required: false,
                default: "`[]`",
                example: "[\"db\"]",
                doc: "As `after`, and these units must exist; if one fails for good, this one is not started.",
                set: Set::Texts(&DEPENDENCY, |unit, names| {
                    (unit.requires, unit.places.requires) = dependencies(names);
                }),
            },
            Field {
                name: "instances",
                required: false,
                default: "`1`",
                example: "3",
                doc: "Containers of this unit. With more than one they are called NAME.1, NAME.2 and so on, each with its own \
                      state, log and address, and share the volumes; the unit's name leads by DNS to all that are healthy. \
                      They cannot publish ports.",
                set: Set::Number(1, limits::INSTANCES as u64, |unit, number| {
                    unit.instances = u32::try_from(number).unwrap_or(1);
                }),
            },
            Field {
                name: "enabled",
                required: false,
                default: "`true`",
                example: "false",
                doc: "Whether it is started with the machine. What is not can be started by an operator, until the machine \
                      goes down. `berth stop --disable` and `berth start --enable` write this field.",
                set: Set::Bool(|unit, yes| unit.enabled = yes),
            },
            Field {
                name: "required_for_boot",
                required: false,
                default: "`false`",
                example: "true",
                doc: "A freshly updated system is kept only once this unit is healthy; else the machine goes back to \
                      the slot that it ran before.",
                set: Set::Bool(|unit, yes| unit.required_for_boot = yes),
            },
        ],
    },
    Section {
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
    },
    Section {
        name: "network",
        doc: "How the unit is connected.",
        later: &["dns", "aliases"],
        system: false,
        fields: &[
            Field {
                name: "mode",
                required: false,
                default: "`\"bridge\"`",
                example: "\"bridge\"",
                doc: "`bridge`: an own network with an address behind the machine's. `host`: the machine's own network. \
                      `none`: no network but loopback.",
                set: Set::Choice(&["bridge", "host", "none"], &["unit:"], |unit, word| {
                    unit.network.mode = match word {
                        "host" => NetworkMode::Host,
                        "none" => NetworkMode::None,
                        _ => NetworkMode::Bridge,
                    };
                }),
            },
            Field {
                name: "ports",
                required: false,
                default: "`[]`",
                example: "[\"8080:80\", \"127.0.0.1:5353:53/udp\"]",
                doc: "Ports of the machine that lead into the unit: `machine:container`, with an address of the machine \
                      in front if not all are meant, and `/udp` behind if it is not TCP. Only with `mode = \"bridge\"`. \
                      No two units can have the same one.",
                set: Set::Texts(&PORT, |unit, texts| {
                    let ports = texts
                        .into_iter()
                        .filter_map(|(text, place)| Some((values::port(&text).ok()?, place)));
                    (unit.network.ports, unit.places.ports) = ports.unzip();
                }),
            },
        ],
    },
    Section {
        name: "resources",
        doc: "What the unit may use at most. Sizes are whole numbers with `K`, `M`, `G` or `T` (powers of 1024).",
        later: &["oom_policy"],
        system: false,
        fields: &[
            Field {
                name: "memory",
                required: false,
                default: "no limit",
                example: "\"64M\"",
                doc: "Memory; above it, the kernel kills in the unit (cgroup `memory.max`).",
                set: Set::Text(&MEMORY, |unit, text| unit.resources.memory = values::size(&text).ok()),
            },
            Field {
                name: "cpus",
                required: false,
                default: "no limit",
                example: "0.5",
                doc: "CPU time, in CPUs (cgroup `cpu.max`).",
                set: Set::Cpus(|unit, milli| unit.resources.cpus_milli = Some(milli)),
            },
            Field {
                name: "pids",
                required: false,
                default: "`4096`",
                example: "100",
                doc: "Processes and threads (cgroup `pids.max`).",
                set: Set::Number(1, limits::LARGEST_PIDS, |unit, number| {
                    unit.resources.pids = u32::try_from(number).unwrap_or(u32::MAX);
                }),
            },
            Field {
                name: "memory_high",
                required: false,
                default: "no limit",
                example: "\"48M\"",
                doc: "Memory above which the unit is slowed down and its caches are taken away (cgroup `memory.high`).",
                set: Set::Text(&MEMORY, |unit, text| unit.resources.memory_high = values::size(&text).ok()),
            },
            Field {
                name: "swap",
                required: false,
                default: "none if `memory` is given, else no limit",
                example: "\"64M\"",
                doc: "Memory that may be swapped out, where the machine swaps (cgroup `memory.swap.max`).",
                set: Set::Text(&SWAP, |unit, text| unit.resources.swap = values::size(&text).ok()),
            },
            Field {
                name: "cpu_weight",
                required: false,
                default: "100",
                example: "50",
                doc: "Share of the CPUs when they are busy, against the other units' (cgroup `cpu.weight`).",
                set: Set::Number(1, 10_000, |unit, number| {
                    unit.resources.cpu_weight = u32::try_from(number).ok();
                }),
            },
            Field {
                name: "cpuset",
                required: false,
                default: "all",
                example: "\"0-1\"",
                doc: "CPUs that the unit may run on (cgroup `cpuset.cpus`). Those that the machine does not have are an error at the \
                      start.",
                set: Set::Text(&CPUSET, |unit, text| unit.resources.cpuset = Some(text)),
            },
            Field {
                name: "nofile",
                required: false,
                default: "1024, which a program may raise to 524,288",
                example: "65536",
                doc: "Files that each process may have open (`RLIMIT_NOFILE`).",
                set: Set::Number(16, 1 << 30, |unit, number| unit.resources.nofile = Some(number)),
            },
            Field {
                name: "io_weight",
                required: false,
                default: "100",
                example: "50",
                doc: "Share of the disk when it is busy, against the other units' (cgroup `io.weight`). The first unit that says it \
                      has the kernel reckon what the disk can do (`io.cost.qos`). It and `io_max` are about the disk on which the \
                      state partition is: there are images, volumes and writable layers.",
                set: Set::Number(1, 10_000, |unit, number| {
                    unit.resources.io_weight = u32::try_from(number).ok();
                }),
            },
            Field {
                name: "io_max",
                required: false,
                default: "no limit",
                example: "{ read = \"20M\", write = \"5M\", write_ops = 200 }",
                doc: "What it may read and write at most in a second (cgroup `io.max`): `read` and `write` in bytes, `read_ops` and \
                      `write_ops` in operations. What is in memory already costs nothing.",
                set: Set::Table(IO_MAX),
            },
        ],
    },
    Section {
        name: "restart",
        doc: "What follows when the program ends by itself. Times are whole numbers with `ms`, `s`, `m`, `h` or `d`, \
              several of them behind each other if need be.",
        later: &["backoff", "on_limit"],
        system: false,
        fields: &[
            Field {
                name: "policy",
                required: false,
                default: "`\"always\"`",
                example: "\"on-failure\"",
                doc: "`always`: it is started again. `on-failure`: only if it ended with an exit code other than 0, or by \
                      a signal. `no`: never.",
                set: Set::Choice(&["always", "on-failure", "no"], &[], |unit, word| {
                    unit.restart.policy = match word {
                        "no" => RestartPolicy::No,
                        "on-failure" => RestartPolicy::OnFailure,
                        _ => RestartPolicy::Always,
                    };
                }),
            },
            Field {
                name: "delay",
                required: false,
                default: "`\"500ms\"`",
                example: "\"1s\"",
                doc: "Pause before the first restart. It doubles with each one, and is as short again after a run of at \
                      least `max_delay`.",
                set: Set::Text(&DELAY, |unit, text| set_time(&mut unit.restart.delay, &text)),
            },
            Field {
                name: "max_delay",
                required: false,
                default: "`\"1m\"`",
                example: "\"5m\"",
                doc: "Longest pause.",
                set: Set::Text(&DELAY, |unit, text| set_time(&mut unit.restart.max_delay, &text)),
            },
            Field {
                name: "limit",
                required: false,
                default: "`10`",
                example: "5",
                doc: "After so many restarts within `interval` the unit has failed and stays down until the \
                      next boot. 0: no limit.",
                set: Set::Number(0, limits::RESTARTS_REMEMBERED as u64, |unit, number| {
                    unit.restart.limit = u32::try_from(number).unwrap_or(u32::MAX);
                }),
            },
            Field {
                name: "interval",
                required: false,
                default: "`\"10m\"`",
                example: "\"1h\"",
                doc: "See `limit`.",
                set: Set::Text(&INTERVAL, |unit, text| set_time(&mut unit.restart.interval, &text)),
            },
        ],
    },
    Section {
        name: "health",
        doc: "What shows that the unit is well while it runs: `command`, `http` or `tcp`, one of them. A healthy unit is found \
              by its name; one that is not leaves the answers to it.",
        later: &[],
        system: false,
        fields: &[
            Field {
                name: "command",
                required: false,
                default: "none",
                example: "[\"/bin/check\", \"--quick\"]",
                doc: "A program of the image, run in the container as the unit's own is; exit code 0 is health, the last line \
                      that it writes the reason if it is another.",
                set: Set::Texts(&WORD, |unit, words| health(unit).check = Check::Command(only(words))),
            },
            Field {
                name: "http",
                required: false,
                default: "none",
                example: "\"http://localhost:8080/health\"",
                doc: "Asked from inside the container by Berth's own program, so the image needs none: a status from 200 to 399 is \
                      health.",
                set: Set::Text(&HTTP_TARGET, |unit, text| {
                    if let Ok(target) = values::http_target(&text) {
                        health(unit).check = Check::Probe(target);
                    }
                }),
            },
            Field {
                name: "tcp",
                required: false,
                default: "none",
                example: "\"localhost:5432\"",
                doc: "The same: health is that it takes a connection.",
                set: Set::Text(&TCP_TARGET, |unit, text| {
                    if let Ok(target) = values::tcp_target(&text) {
                        health(unit).check = Check::Probe(target);
                    }
                }),
            },
            Field {
                name: "interval",
                required: false,
                default: "`\"10s\"`",
                example: "\"30s\"",
                doc: "Pause between two checks. Until the first success they follow each other faster.",
                set: Set::Text(&CHECK_TIME, |unit, text| set_time(&mut health(unit).interval, &text)),
            },
            Field {
                name: "timeout",
                required: false,
                default: "`\"5s\"`",
                example: "\"2s\"",
                doc: "A check that takes longer is killed, and has failed.",
                set: Set::Text(&CHECK_TIME, |unit, text| set_time(&mut health(unit).timeout, &text)),
            },
            Field {
                name: "retries",
                required: false,
                default: "`3`",
                example: "5",
                doc: "So many failures in a row make the unit unhealthy.",
                set: Set::Number(1, 100, |unit, number| {
                    health(unit).retries = u32::try_from(number).unwrap_or(1);
                }),
            },
            Field {
                name: "start_period",
                required: false,
                default: "`\"30s\"`",
                example: "\"2m\"",
                doc: "For so long after the start failures do not count, unless a check has succeeded before.",
                set: Set::Text(&TIME, |unit, text| set_time(&mut health(unit).start_period, &text)),
            },
            Field {
                name: "on_failure",
                required: false,
                default: "`\"restart\"`",
                example: "\"none\"",
                doc: "`restart`: an unhealthy unit is stopped, and follows its `[restart]` as after a failure. `none`: it is left \
                      running.",
                set: Set::Choice(&["restart", "none"], &[], |unit, word| {
                    health(unit).tolerant = word == "none"
                }),
            },
        ],
    },
    Section {
        name: "ready",
        doc: "What shows that the unit has come up, if it is not the first success of `[health]`. Without either a unit counts as \
              healthy when it has run for two seconds.",
        later: &["log_line"],
        system: false,
        fields: &[
            Field {
                name: "port",
                required: false,
                default: "none; the table needs it, or `notify`",
                example: "5432",
                doc: "It takes TCP connections at this port of its own loopback.",
                set: Set::Number(1, 65_535, |unit, number| {
                    ready(unit).sign = Sign::Port(u16::try_from(number).unwrap_or(u16::MAX));
                }),
            },
            Field {
                name: "notify",
                required: false,
                default: "no",
                example: "true",
                doc: "It says so itself, as systemd's services do: `READY=1` to the socket that `NOTIFY_SOCKET` names (sd_notify(3)). \
                      `STATUS=` is shown by `berth ps`, `RELOADING=1` and `STOPPING=1` too; nothing else is heard. Any \
                      process of the unit may speak, 32 times a second.",
                set: Set::Bool(|unit, yes| {
                    if yes {
                        ready(unit).sign = Sign::Notify;
                    }
                }),
            },
            Field {
                name: "timeout",
                required: false,
                default: "`\"1m\"`",
                example: "\"5m\"",
                doc: "Not ready so long after its start, it is stopped and has failed.",
                set: Set::Text(&CHECK_TIME, |unit, text| set_time(&mut ready(unit).timeout, &text)),
            },
        ],
    },
    Section {
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
                    grants(unit).mounts =
                        texts.iter().filter_map(|(text, _)| values::mount(text).ok()).collect();
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
        ],
    },
];

const IO_OPS: (u64, u64) = (1, 1 << 32);

/// `[resources] io_max`.
const IO_MAX: &[Field<Unit>] = &[
    Field {
        name: "read",
        required: false,
        default: "no limit",
        example: "\"20M\"",
        doc: "Bytes read.",
        set: Set::Text(&IO_RATE, |unit, text| unit.resources.io_max.read = values::size(&text).ok()),
    },
    Field {
        name: "write",
        required: false,
        default: "no limit",
        example: "\"5M\"",
        doc: "Bytes written.",
        set: Set::Text(&IO_RATE, |unit, text| unit.resources.io_max.write = values::size(&text).ok()),
    },
    Field {
        name: "read_ops",
        required: false,
        default: "no limit",
        example: "500",
        doc: "Reads.",
        set: Set::Number(IO_OPS.0, IO_OPS.1, |unit, number| unit.resources.io_max.read_ops = Some(number)),
    },
    Field {
        name: "write_ops",
        required: false,
        default: "no limit",
        example: "200",
        doc: "Writes.",
        set: Set::Number(IO_OPS.0, IO_OPS.1, |unit, number| unit.resources.io_max.write_ops = Some(number)),
    },
];

/// The strings without their places.
fn only(texts: Vec<(String, Place)>) -> Vec<String> {
    texts.into_iter().map(|(text, _)| text).collect()
}

fn content(from: String) -> Content {
    Content { from, text: None }
}

fn set_time(field: &mut Duration, text: &str) {
    if let Ok(time) = values::time(text) {
        *field = time;
    }
}

fn grants(unit: &mut Unit) -> &mut SystemGrants {
    unit.system.get_or_insert_default()
}

fn dependencies(texts: Vec<(String, Place)>) -> (Vec<Dependency>, Vec<Place>) {
    texts.into_iter().filter_map(|(text, place)| Some((values::dependency(&text).ok()?, place))).unzip()
}

fn health(unit: &mut Unit) -> &mut Health {
    unit.health.get_or_insert_with(|| Health {
        check: Check::Command(Vec::new()),
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        retries: 3,
        start_period: Duration::from_secs(30),
        tolerant: false,
    })
}

fn ready(unit: &mut Unit) -> &mut Ready {
    unit.ready.get_or_insert(Ready { sign: Sign::Port(0), timeout: Duration::from_secs(60) })
}
