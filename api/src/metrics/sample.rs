//! Samples in Prometheus' text form (prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4).

use super::table::Metric;
use crate::stats::Stats;
use berth_units::control::{ConfigStatus, MachineStatus, SlotsStatus};
use berth_units::instances;
use std::fmt::Write as _;

/// What is known at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What is used.
    pub stats: &'a Stats,
    /// What PID 1 says of the machine.
    pub machine: &'a MachineStatus,
    /// Of the slots.
    pub slots: &'a SlotsStatus,
    /// Of the config.
    pub config: &'a ConfigStatus,
}

/// The samples of one metric, as they are written. The first comes with what the metric is.
pub struct Samples<'a> {
    metric: &'a Metric,
    /// Values of labels that all samples begin with.
    first: Vec<&'a str>,
    text: &'a mut String,
    told: bool,
}

impl<'a> Samples<'a> {
    /// Those of `metric`, to the end of `text`.
    pub fn new(metric: &'a Metric, text: &'a mut String) -> Self {
        Self { metric, first: Vec::new(), text, told: false }
    }

    /// From here on they are this unit's.
    pub fn of_unit(&mut self, name: &'a str) {
        self.first = vec![name, instances::service(name)];
    }

    /// A whole number. `labels`: values of the labels that are not told yet, in order.
    pub fn count(&mut self, labels: &[&str], value: u64) {
        self.add(labels, format_args!("{value}"));
    }

    /// A whole number without further labels, if it is known.
    pub fn maybe(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.count(&[], value);
        }
    }

    /// Microseconds, told in seconds.
    pub fn micros(&mut self, labels: &[&str], value: u64) {
        self.add(labels, format_args!("{}.{:06}", value / 1_000_000, value % 1_000_000));
    }

    /// Nanoseconds, told in seconds, without further labels.
    pub fn nanos(&mut self, value: i64) {
        let (sign, ns) = (if value < 0 { "-" } else { "" }, value.unsigned_abs());
        self.add(&[], format_args!("{sign}{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000));
    }

    /// Thousandths, without further labels.
    pub fn milli(&mut self, value: u64) {
        self.add(&[], format_args!("{}.{:03}", value / 1000, value % 1000));
    }

    fn add(&mut self, labels: &[&str], value: std::fmt::Arguments<'_>) {
        let Metric { name, kind, help, labels: names, .. } = self.metric;
        debug_assert_eq!(self.first.len() + labels.len(), names.len(), "labels of {name}");
        if !self.told {
            self.told = true;
            let help = help.replace('\\', r"\\").replace('\n', r"\n");
            // Writing to a String does not fail.
            let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {}\n", kind.word());
        }
        self.text.push_str(name);
        let values = self.first.iter().chain(labels);
        for (at, (label, value)) in names.iter().zip(values).enumerate() {
            let _ = write!(self.text, "{}{label}=\"{}\"", if at == 0 { '{' } else { ',' }, escape(value));
        }
        let close = if names.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}
