//! A volume that says of itself that it belongs to another instance now. A boot does not wait for it: the drivers of all disks would
//! take seconds, each time. Once this boot is found healthy, meta looks at what is labelled so, and what differs is said; taking it is
//! an operator's word, `berth config reload`.

use super::{META, Supervisor};
use crate::run::kernel::Kernel;
use crate::run::{console, limits, text};
use berth_units::control::SeenInstance;
use berth_units::lifecycle::State;
use std::time::Duration;

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Glance {
    /// Nothing is to be looked at.
    #[default]
    None,
    /// Then.
    At(Duration),
    /// Meta looks.
    Asked,
}

impl Glance {
    pub(super) fn next(self) -> Option<Duration> {
        match self {
            Self::At(at) => Some(at),
            Self::None | Self::Asked => None,
        }
    }
}

impl Supervisor {
    /// This boot is healthy, by a config that an earlier one had from a volume.
    pub(super) fn plan_glance(&mut self, now: Duration) {
        let of_volume = self.instance.as_ref().is_some_and(|instance| {
            ["nocloud", "config-drive"].contains(&instance.source.as_str()) && instance.id.is_some()
        });
        if of_volume && self.config_status.source == "state" && self.units.contains_key(META) {
            self.glance = Glance::At(now.saturating_add(limits::GLANCE_AFTER));
        }
    }

    pub(super) fn tick_glance(&mut self, now: Duration) {
        if self.stopping.is_some() || self.glance.next().is_none_or(|at| at > now) {
            return;
        }
        let idle = self
            .units
            .get(META)
            .is_some_and(|run| matches!(run.life.state, State::Stopped | State::Finished | State::Failed));
        if self.config_comes() || !idle {
            // Whoever looks at all of it sees this, too.
            self.glance = Glance::None;
            return;
        }
        self.glance = Glance::Asked;
        self.want(META);
    }

    pub(super) fn seen(&mut self, seen: &[SeenInstance], k: &mut dyn Kernel) {
        if std::mem::take(&mut self.glance) != Glance::Asked {
            return;
        }
        let Some((source, id)) = self.instance.as_ref().and_then(|of| Some((&of.source, of.id.as_ref()?)))
        else {
            return;
        };
        let same = |seen: &&SeenInstance| seen.source == *source;
        if seen.iter().filter(same).any(|seen| seen.id == *id) {
            return;
        }
        if let Some(other) = seen.iter().find(same) {
            let (place, other) = (
                text::bounded(&other.place, limits::TEXT_BYTES),
                text::bounded(&other.id, limits::TEXT_BYTES),
            );
            let note = format!(
                "{place} says that this is instance {other:?} now, not {id:?}; \"berth config reload\" takes what it says"
            );
            k.say(console::config_note(&note));
            self.config_status.notes.push(note);
        }
    }
}
