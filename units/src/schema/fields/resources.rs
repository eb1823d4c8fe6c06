//! `[resources]`.

use super::*;

/// What it may use.
pub(super) const RESOURCES: Section<Unit> = Section {
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
};

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
