//! Where `log`'s records go: to the console and the kernel's log, as every other line.

use crate::early::console;
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            console::say("berth", record.args());
        }
    }

    fn flush(&self) {}
}

/// From now on warnings and errors are seen.
pub fn set_up() {
    if log::set_logger(&Lines).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}
