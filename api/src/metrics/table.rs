//! Every metric, in the order in which they are told. `docs/metrics.md` is made from this table.

use super::sample::{Facts, Samples};
use crate::stats::{Io, Pressure, Traffic, Unit, Usage, Waited};
use berth_units::lifecycle::State;
use berth_units::model::Origin;

/// What a figure may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It grows, and begins anew when what it counts does.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Kind {
    /// Prometheus' word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One metric.
pub struct Metric {
    /// Its name, as Prometheus' conventions want it.
    pub name: &'static str,
    /// What it may do.
    pub kind: Kind,
    /// Labels, in the order in which they are told.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
    /// Its samples.
    pub of: Of,
}

/// Whose figures.
pub enum Of {
    /// The machine's.
    Machine(fn(&Facts<'_>, &mut Samples<'_>)),
    /// Each unit's.
    Unit(fn(&Unit, &mut Samples<'_>)),
    /// Each container's, if there is one.
    Usage(fn(&Usage, &mut Samples<'_>)),
}

/// States of a slot, see [`berth_units::control::SlotStatus::state`].
const SLOT_STATES: [&str; 6] = ["good", "trial", "empty", "failed", "spare", "unknown"];
/// States of the machine's config, see [`berth_units::control::ConfigStatus::state`].
const CONFIG_STATES: [&str; 4] = ["applied", "refused", "none", "reading"];

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str, of: Of) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help, of }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str, of: Of) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help, of }
}

fn is(yes: bool) -> u64 {
    u64::from(yes)
}

/// One sample for each of `all`: 1 for the one that it is.
fn states<'s>(samples: &mut Samples<'_>, labels: &[&str], all: impl Iterator<Item = &'s str>, now: &str) {
    for state in all {
        samples.count(&[labels, &[state]].concat(), is(state == now));
    }
}

fn waited(samples: &mut Samples<'_>, pressure: &Pressure, of: fn(&Waited) -> u64) {
    for (resource, waited) in [("cpu", pressure.cpu), ("io", pressure.io), ("memory", pressure.memory)] {
        if let Some(waited) = waited {
            samples.micros(&[resource], of(&waited));
        }
    }
}

fn io(samples: &mut Samples<'_>, usage: &Usage, of: fn(&Io) -> [u64; 2]) {
    if let Some([read, written]) = usage.io.as_ref().map(of) {
        samples.count(&["read"], read);
        samples.count(&["write"], written);
    }
}

fn interfaces(samples: &mut Samples<'_>, facts: &Facts<'_>, of: fn(&Traffic) -> u64) {
    for (name, traffic) in &facts.stats.machine.interfaces {
        samples.count(&[name], of(traffic));
    }
}

/// The table.
pub const METRICS: &[Metric] = &[
    gauge(
        "berth_build_info",
        &["version", "kernel", "firmware"],
        "Always 1; what the machine runs.",
        Of::Machine(|f, s| {
            s.count(&[&f.machine.version, &f.machine.kernel, &f.slots.firmware], 1);
        }),
    ),
    gauge(
        "berth_machine_uptime_seconds",
        &[],
        "Time since the kernel started.",
        Of::Machine(|f, s| s.maybe(f.stats.machine.uptime_s)),
    ),
    gauge(
        "berth_machine_boot_time_seconds",
        &[],
        "When the kernel started, by the clock as it is now, since 1970.",
        Of::Machine(|f, s| s.maybe(f.stats.machine.boot_time_s)),
    ),
    gauge("berth_machine_cpus", &[], "Processors.", Of::Machine(|f, s| s.maybe(f.stats.machine.cpus))),
    counter(
        "berth_machine_cpu_seconds_total",
        &["mode"],
        "Processor time, of all processors, by what it was spent on.",
        Of::Machine(|f, s| f.stats.machine.cpu_us.iter().for_each(|(mode, us)| s.micros(&[mode], *us))),
    ),
    gauge(
        "berth_machine_load1",
        &[],
        "Tasks that run or wait, on average over one minute.",
        Of::Machine(|f, s| load(s, f, 0)),
    ),
    gauge(
        "berth_machine_load5",
        &[],
        "Tasks that run or wait, on average over five minutes.",
        Of::Machine(|f, s| load(s, f, 1)),
    ),
    gauge(
        "berth_machine_load15",
        &[],
        "Tasks that run or wait, on average over fifteen minutes.",
        Of::Machine(|f, s| load(s, f, 2)),
    ),
    gauge(
        "berth_machine_memory_bytes",
        &[],
        "Memory of the machine.",
        Of::Machine(|f, s| s.maybe(f.stats.machine.memory)),
    ),
    gauge(
        "berth_machine_memory_available_bytes",
        &[],
        "Memory that programs can still have.",
        Of::Machine(|f, s| s.maybe(f.stats.machine.memory_available)),
    ),
    gauge(
        "berth_machine_init_resident_memory_bytes",
        &[],
        "Resident memory of PID 1.",
        Of::Machine(|f, s| s.count(&[], f.machine.pid1_rss_kib.saturating_mul(1024))),
    ),
    counter(
        "berth_machine_pressure_waiting_seconds_total",
        &["resource"],
        "Time in which at least one task waited for a resource; absent where the kernel does not count it.",
        Of::Machine(|f, s| waited(s, &f.stats.machine.pressure, |w| w.some_us)),
    ),
    counter(
        "berth_machine_pressure_stalled_seconds_total",
        &["resource"],
        "Time in which every task waited for a resource.",
        Of::Machine(|f, s| waited(s, &f.stats.machine.pressure, |w| w.full_us)),
    ),
    gauge(
        "berth_machine_state_size_bytes",
        &[],
        "Size of the file system with config, images and volumes.",
        Of::Machine(|f, s| s.maybe(f.stats.machine.state.map(|space| space.size))),
    ),
    gauge(
        "berth_machine_state_available_bytes",
        &[],
        "Room that is left in it.",
        Of::Machine(|f, s| s.maybe(f.stats.machine.state.map(|space| space.available))),
    ),
    gauge(
        "berth_machine_state_persistent",
        &[],
        "1 if it lies on a disk, 0 if it is a temporary one and lost at the next boot.",
        Of::Machine(|f, s| s.count(&[], is(f.machine.state_problem.is_empty()))),
    ),
    counter(
        "berth_machine_network_receive_bytes_total",
        &["device"],
        "Bytes that came in over an interface of the machine.",
        Of::Machine(|f, s| interfaces(s, f, |t| t.received_bytes)),
    ),
    counter(
        "berth_machine_network_receive_packets_total",
        &["device"],
        "Packets that came in over an interface of the machine.",
        Of::Machine(|f, s| interfaces(s, f, |t| t.received_packets)),
    ),
    counter(
        "berth_machine_network_transmit_bytes_total",
        &["device"],
        "Bytes that went out over an interface of the machine.",
        Of::Machine(|f, s| interfaces(s, f, |t| t.sent_bytes)),
    ),
    counter(
        "berth_machine_network_transmit_packets_total",
        &["device"],
        "Packets that went out over an interface of the machine.",
        Of::Machine(|f, s| interfaces(s, f, |t| t.sent_packets)),
    ),
    gauge(
        "berth_clock_synchronized",
        &[],
        "1 if the clock was right within the last hours by time servers, 0 if it runs on from what the hardware said.",
        Of::Machine(|f, s| s.count(&[], is(f.machine.clock.set))),
    ),
    gauge(
        "berth_clock_offset_seconds",
        &[],
        "By how much the clock was behind time servers when they were last asked; it was corrected then.",
        Of::Machine(|f, s| {
            if let Some(offset) = f.machine.clock.offset_ns {
                s.nanos(offset);
            }
        }),
    ),
    gauge(
        "berth_clock_check_age_seconds",
        &[],
        "Time since time servers were last heard.",
        Of::Machine(|f, s| s.maybe(f.machine.clock.ago_s)),
    ),
    gauge(
        "berth_config_state",
        &["state"],
        "1 for what the machine's config is: applied, refused, none, reading; 0 for the others.",
        Of::Machine(|f, s| states(s, &[], CONFIG_STATES.into_iter(), &f.config.state)),
    ),
    gauge(
        "berth_slot_info",
        &["slot", "version", "root_hash"],
        "Always 1; which system is in a slot, as far as it is known.",
        Of::Machine(|f, s| {
            for slot in &f.slots.slots {
                s.count(&[&slot.name, &slot.version, &slot.root_hash], 1);
            }
        }),
    ),
    gauge(
        "berth_slot_state",
        &["slot", "state"],
        "1 for the state that a slot is in, 0 for the others.",
        Of::Machine(|f, s| {
            for slot in &f.slots.slots {
                states(s, &[&slot.name], SLOT_STATES.into_iter(), &slot.state);
            }
        }),
    ),
    gauge(
        "berth_slot_running",
        &["slot"],
        "1 for the slot that runs.",
        Of::Machine(|f, s| {
            for slot in &f.slots.slots {
                s.count(&[&slot.name], is(slot.name == f.slots.running));
            }
        }),
    ),
    gauge(
        "berth_boot_healthy",
        &[],
        "1 once this boot was found healthy, so that its slot is a good one.",
        Of::Machine(|f, s| s.count(&[], is(f.slots.confirmed))),
    ),
    gauge(
        "berth_boot_rescue",
        &[],
        "1 if this boot is a rescue, without the user's units.",
        Of::Machine(|f, s| s.count(&[], is(f.slots.rescue.is_some()))),
    ),
    gauge(
        "berth_boot_starts",
        &[],
        "Starts of the good slot since it was last healthy.",
        Of::Machine(|f, s| s.count(&[], f.slots.starts.into())),
    ),
    gauge(
        "berth_unit_info",
        &["unit", "service", "origin", "image"],
        "Always 1; where a unit comes from (config or system) and its image.",
        Of::Unit(|u, s| {
            let origin = match u.origin {
                Origin::System => "system",
                Origin::Config => "config",
            };
            s.count(&[origin, &u.image], 1);
        }),
    ),
    gauge(
        "berth_unit_state",
        &["unit", "service", "state"],
        "1 for the state of the life cycle that a unit is in, 0 for the others.",
        Of::Unit(|u, s| {
            let all = State::ALL.map(|state| state.to_string());
            states(s, &[], all.iter().map(String::as_str), &u.state);
        }),
    ),
    gauge(
        "berth_unit_uptime_seconds",
        &["unit", "service"],
        "Time since a unit's container started; absent while it has none.",
        Of::Unit(|u, s| s.maybe(u.uptime_s)),
    ),
    counter(
        "berth_unit_restarts_total",
        &["unit", "service"],
        "Restarts of a unit since boot.",
        Of::Unit(|u, s| s.count(&[], u.restarts.into())),
    ),
    counter(
        "berth_unit_oom_kills_total",
        &["unit", "service"],
        "Runs of a unit, since boot, that the kernel ended for want of memory.",
        Of::Unit(|u, s| s.count(&[], u.oom_kills.into())),
    ),
    counter(
        "berth_unit_cpu_seconds_total",
        &["unit", "service", "mode"],
        "Processor time of a unit's container, in its programs (user) and in the kernel for them (system).",
        Of::Usage(|u, s| {
            for (mode, us) in [("user", u.cpu_user_us), ("system", u.cpu_system_us)] {
                if let Some(us) = us {
                    s.micros(&[mode], us);
                }
            }
        }),
    ),
    counter(
        "berth_unit_cpu_throttled_seconds_total",
        &["unit", "service"],
        "Time in which a unit was held back by its limit of processor time.",
        Of::Usage(|u, s| {
            if let Some(us) = u.cpu_throttled_us {
                s.micros(&[], us);
            }
        }),
    ),
    gauge(
        "berth_unit_memory_bytes",
        &["unit", "service"],
        "Memory that a unit has now, cached files of its own included.",
        Of::Usage(|u, s| s.maybe(u.memory)),
    ),
    gauge(
        "berth_unit_memory_inactive_file_bytes",
        &["unit", "service"],
        "Of it, cached files that the kernel drops first; berth stats leaves them out.",
        Of::Usage(|u, s| s.maybe(u.memory_inactive_file)),
    ),
    gauge(
        "berth_unit_memory_peak_bytes",
        &["unit", "service"],
        "The most memory that a unit's container has had.",
        Of::Usage(|u, s| s.maybe(u.memory_peak)),
    ),
    gauge(
        "berth_unit_memory_limit_bytes",
        &["unit", "service"],
        "Memory that a unit may have; absent where nothing limits it but the machine.",
        Of::Usage(|u, s| s.maybe(u.memory_limit)),
    ),
    gauge(
        "berth_unit_pids",
        &["unit", "service"],
        "Processes and threads of a unit.",
        Of::Usage(|u, s| s.maybe(u.pids)),
    ),
    gauge(
        "berth_unit_pids_limit",
        &["unit", "service"],
        "Processes and threads that a unit may have.",
        Of::Usage(|u, s| s.maybe(u.pids_limit)),
    ),
    counter(
        "berth_unit_io_bytes_total",
        &["unit", "service", "operation"],
        "Bytes that a unit's container read from disks and wrote to them.",
        Of::Usage(|u, s| io(s, u, |io| [io.read_bytes, io.written_bytes])),
    ),
    counter(
        "berth_unit_io_operations_total",
        &["unit", "service", "operation"],
        "Requests to disks of a unit's container.",
        Of::Usage(|u, s| io(s, u, |io| [io.reads, io.writes])),
    ),
    counter(
        "berth_unit_pressure_waiting_seconds_total",
        &["unit", "service", "resource"],
        "Time in which at least one task of a unit waited for a resource; absent where the kernel does not count it.",
        Of::Usage(|u, s| waited(s, &u.pressure, |w| w.some_us)),
    ),
    counter(
        "berth_unit_pressure_stalled_seconds_total",
        &["unit", "service", "resource"],
        "Time in which every task of a unit waited for a resource.",
        Of::Usage(|u, s| waited(s, &u.pressure, |w| w.full_us)),
    ),
    counter(
        "berth_unit_network_receive_bytes_total",
        &["unit", "service"],
        "Bytes that a unit on the bridge received.",
        Of::Unit(|u, s| s.maybe(u.network.map(|t| t.received_bytes))),
    ),
    counter(
        "berth_unit_network_receive_packets_total",
        &["unit", "service"],
        "Packets that a unit on the bridge received.",
        Of::Unit(|u, s| s.maybe(u.network.map(|t| t.received_packets))),
    ),
    counter(
        "berth_unit_network_transmit_bytes_total",
        &["unit", "service"],
        "Bytes that a unit on the bridge sent.",
        Of::Unit(|u, s| s.maybe(u.network.map(|t| t.sent_bytes))),
    ),
    counter(
        "berth_unit_network_transmit_packets_total",
        &["unit", "service"],
        "Packets that a unit on the bridge sent.",
        Of::Unit(|u, s| s.maybe(u.network.map(|t| t.sent_packets))),
    ),
];

fn load(samples: &mut Samples<'_>, facts: &Facts<'_>, which: usize) {
    if let Some(load) = facts.stats.machine.load_milli.and_then(|all| all.get(which).copied()) {
        samples.milli(load);
    }
}
