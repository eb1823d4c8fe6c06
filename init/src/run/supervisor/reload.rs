//! The source of the machine config, asked again because an operator says so. The same search and the same check as
//! at a first boot; what passes is kept in place of the config that was kept before, and is in force from the next
//! boot. What does not pass changes nothing. Until then the machine runs with the config that it has.

use super::config::{Phase, Search};
use super::generations::{Change, Text};
use super::{META, Refused, Supervisor, refuse};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::control::{ConfigReload, Reply};
use berth_units::generation::Verdict;
use berth_units::lifecycle::State;
use berth_units::model::MachineConfig;
use std::time::Duration;

/// What a search came to.
pub(super) enum Found {
    /// A config.
    Text {
        /// Its text.
        text: Vec<u8>,
        /// Where it was.
        source: String,
    },
    /// One that passes.
    Config {
        /// What it says.
        config: Box<MachineConfig>,
        /// Its text.
        text: Vec<u8>,
        /// Where it was.
        source: String,
    },
    /// One that does not.
    Refused {
        /// Where it was.
        source: String,
        /// Why.
        refused: Refused,
    },
    /// None anywhere.
    Nothing,
    /// The search itself failed.
    Failed(String),
}

impl Supervisor {
    /// An operator wants the source asked again.
    pub(super) fn reload_config(&mut self, now: Duration, k: &mut dyn Kernel) -> Reply {
        if self.is_stopping() {
            return refuse("busy", "the machine is going down");
        }
        let Some(meta) = self.units.get(META) else {
            return refuse("failed", "this system has no unit meta, which looks for a config");
        };
        let idle = matches!(meta.life.state, State::Stopped | State::Finished | State::Failed);
        if self.config_comes() || !idle {
            return refuse("busy", "a config is being looked for already; see \"berth config status\"");
        }
        k.say(console::config_again());
        self.config_status.reload = Some(ConfigReload { state: "reading".into(), ..ConfigReload::default() });
        self.config = Phase::Again(Search::begin(now));
        self.want(META);
        self.run_events(now, k);
        Reply::Done
    }

    /// The search for another config has ended.
    pub(super) fn reloaded(&mut self, found: Found, k: &mut dyn Kernel) {
        self.config = Phase::Settled;
        let mut reload = self.config_status.reload.take().unwrap_or_default();
        match found {
            Found::Config { config, text, source } => {
                reload.sha256 = text::sha256(&text);
                reload.state = "keeping".into();
                let change = Change::of_config(format!("asked for again, from {source}"), Verdict::Trying);
                let of = Text { config: &config, text: &text, current: true };
                self.storing_config = Some(self.record(change, Some(&of), k));
                reload.source = source;
            }
            Found::Refused { source, refused } => {
                reload.state = "refused".into();
                reload.report = text::bounded_lines(&refused.report, limits::REPORT_BYTES);
                k.say(console::config_not_replaced(&source));
                for line in reload.report.lines() {
                    k.say(console::report(line));
                }
                reload.source = source;
            }
            // Has been checked by whoever found it.
            Found::Text { .. } => {}
            Found::Nothing => {
                reload.state = "none".into();
                k.say(console::config_not_found_again());
            }
            Found::Failed(why) => {
                k.say(console::config_reload_failed(&why));
                reload.state = "failed".into();
                reload.report = why;
            }
        }
        self.config_status.reload = Some(reload);
    }

    /// The other config is kept, or not. False if there is none.
    pub(super) fn reload_stored(&mut self, result: &Result<(), String>, k: &mut dyn Kernel) -> bool {
        let Some(reload) = self.config_status.reload.as_mut().filter(|reload| reload.state == "keeping")
        else {
            return false;
        };
        match result {
            Ok(()) => {
                reload.state = "kept".into();
                k.say(console::config_kept(&reload.source, &reload.sha256));
            }
            Err(why) => {
                reload.state = "failed".into();
                reload.report = text::bounded(why, limits::TEXT_BYTES);
                k.say(console::config_reload_failed(&reload.report));
            }
        }
        true
    }
}
