//! `GET /metrics`: what [`crate::stats`] has gathered, and what PID 1 says of slots and config, for Prometheus.
//! [`table::METRICS`] is the one place that says which metrics there are.

mod sample;
pub mod table;

pub use sample::Facts;
use sample::Samples;
use table::{METRICS, Of};

/// The media type of the answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics, each with its HELP and TYPE before its samples. One without samples is left out.
pub fn render(facts: &Facts<'_>) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let mut samples = Samples::new(metric, &mut text);
        if let Of::Machine(tell) = metric.of {
            tell(facts, &mut samples);
            continue;
        }
        for unit in &facts.stats.units {
            samples.of_unit(&unit.name);
            match (&metric.of, &unit.usage) {
                (Of::Unit(tell), _) => tell(unit, &mut samples),
                (Of::Usage(tell), Some(usage)) => tell(usage, &mut samples),
                (Of::Usage(_), None) | (Of::Machine(_), _) => {}
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Io, Machine, Stats, Traffic, Unit, Usage};
    use berth_units::control::{ConfigStatus, MachineStatus, SlotStatus, SlotsStatus};
    use berth_units::model::Origin;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write as _;
    use std::path::Path;

    fn unit(name: &str, image: &str, usage: Option<Usage>) -> Unit {
        Unit {
            name: name.into(),
            origin: Origin::Config,
            image: image.into(),
            state: "healthy".into(),
            uptime_s: Some(7),
            restarts: 2,
            oom_kills: 1,
            network: usage.as_ref().map(|_| Traffic { received_bytes: 5, ..Traffic::default() }),
            usage,
        }
    }

    fn rendered() -> String {
        let usage = Usage {
            cpu_user_us: Some(1_500_000),
            cpu_system_us: Some(7),
            memory: Some(4096),
            io: Some(Io { read_bytes: 3, ..Io::default() }),
            ..Usage::default()
        };
        let units = vec![unit("db", "a\"b\\c\nd", None), unit("web", "example.org/web:1", Some(usage))];
        let machine = Machine { load_milli: Some([1070, 0, 0]), ..Machine::default() };
        let stats = Stats { machine, units };
        let slot = SlotStatus { name: "a".into(), state: "good".into(), ..SlotStatus::default() };
        let slots = SlotsStatus { running: "a".into(), slots: vec![slot], ..SlotsStatus::default() };
        let (machine, config) = (MachineStatus::default(), ConfigStatus::default());
        render(&Facts { stats: &stats, machine: &machine, slots: &slots, config: &config })
    }

    #[test]
    fn the_text_is_prometheus_form() {
        let text = rendered();
        for line in [
            "# HELP berth_unit_cpu_seconds_total Processor time of a unit's container, in its programs (user) and in the kernel for them (system).",
            "# TYPE berth_unit_cpu_seconds_total counter",
            "berth_unit_cpu_seconds_total{unit=\"web\",service=\"web\",mode=\"user\"} 1.500000",
            "berth_unit_cpu_seconds_total{unit=\"web\",service=\"web\",mode=\"system\"} 0.000007",
            "berth_unit_info{unit=\"db\",service=\"db\",origin=\"config\",image=\"a\\\"b\\\\c\\nd\"} 1",
            "berth_unit_state{unit=\"web\",service=\"web\",state=\"healthy\"} 1",
            "berth_unit_state{unit=\"web\",service=\"web\",state=\"failed\"} 0",
            "berth_unit_memory_bytes{unit=\"web\",service=\"web\"} 4096",
            "berth_unit_network_receive_bytes_total{unit=\"web\",service=\"web\"} 5",
            "berth_unit_io_bytes_total{unit=\"web\",service=\"web\",operation=\"read\"} 3",
            "berth_machine_load1 1.070",
            "berth_slot_state{slot=\"a\",state=\"good\"} 1",
            "berth_machine_state_persistent 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("berth_unit_memory_bytes{unit=\"db\",service=\"db\"}"));
        // Nothing is known of it, so nothing is said.
        assert!(!text.contains("berth_machine_memory_bytes"));
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn each_metric_is_told_once_and_its_samples_follow() {
        let mut seen = BTreeSet::new();
        let mut now = String::new();
        for line in rendered().lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                now = rest.split(' ').next().unwrap().to_owned();
                assert!(seen.insert(now.clone()), "{now} is told twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert_eq!(rest.split(' ').next(), Some(now.as_str()));
            } else {
                assert_eq!(line.split(['{', ' ']).next(), Some(now.as_str()), "{line}");
            }
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut kinds = BTreeMap::new();
        for metric in METRICS {
            assert!(kinds.insert(metric.name, metric.kind).is_none(), "{} twice", metric.name);
            let counter = metric.kind == table::Kind::Counter;
            assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
            let unit = !matches!(metric.of, Of::Machine(_));
            assert_eq!(metric.labels.starts_with(&["unit", "service"]), unit, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn the_page_lists_them_all() {
        let mut page = String::from(include_str!("metrics/opening.md"));
        for metric in METRICS {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind, help) = (metric.name, metric.kind.word(), metric.help);
            let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        if std::env::var_os("BERTH_BLESS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == page, "docs/metrics.md is not what the code says; BERTH_BLESS=1 rewrites it");
    }
}
