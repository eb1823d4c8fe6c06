//! What follows from a step of a unit's life is carried out: its image is found, it is forked, signalled, killed, cleaned up, and
//! told of.

use super::{STORE, Supervisor, micros};
use crate::run::kernel::{Kernel, Order};
use crate::run::{console, limits, text};
use berth_units::control::StepTime;
use berth_units::lifecycle::{Effect, Event, State};
use berth_units::privileges;
use std::time::Duration;

impl Supervisor {
    pub(super) fn carry_out(&mut self, name: &str, effect: Effect, now: Duration, k: &mut dyn Kernel) {
        match effect {
            Effect::PrepareImage => self.find_image(name, k),
            Effect::Fork => self.fork(name, now, k),
            Effect::SendStop => {
                let Some(run) = self.units.get(name) else { return };
                let image = run.image.as_ref().map_or("", |image| &image.stop_signal);
                k.signal(name, run.unit.container.stop_signal.as_deref().unwrap_or(image));
            }
            Effect::KillCgroup => k.kill(name),
            Effect::Cleanup => self.clean_up(name, k),
            Effect::Changed => self.look_again = true,
            // The life knows its deadline itself; `next_deadline` asks for it.
            Effect::ArmTimer(_) | Effect::CancelTimer => {}
        }
    }

    pub(super) fn fork(&mut self, name: &str, now: Duration, k: &mut dyn Kernel) {
        let transient = self.units.get(name).is_some_and(|run| run.unit.transient.is_some());
        let Some((id_base, new)) = self.ids.of(name, transient) else {
            return self.refuse_fork(
                name,
                "every id range is taken; remove the folder of unused units on the state partition",
            );
        };
        if new {
            k.store_ids(self.ids.text());
        }
        if !self.health.is_settled() {
            k.step(&format!("start unit {name}"));
        }
        let Some(run) = self.units.get_mut(name) else { return };
        run.detail.clear();
        run.says.clear();
        run.attach_by = None;
        run.forked = Some(now);
        if name == STORE {
            self.images.disks_of_store = self.devices.generation;
        }
        let order = Order { unit: &run.unit, image: run.image.as_ref(), id_base };
        if let Err(reason) = k.launch(&order) {
            self.refuse_fork(name, &reason);
        }
    }

    pub(super) fn refuse_fork(&mut self, name: &str, reason: &str) {
        self.start_failed(name, reason);
        self.event(name, Event::CgroupEmpty);
    }

    pub(super) fn start_failed(&mut self, name: &str, reason: &str) {
        if let Some(run) = self.units.get_mut(name) {
            run.attach_by = None;
            // The first reason is the cause; what follows is the container's death.
            if run.detail.is_empty() {
                run.detail = text::bounded(reason, limits::TEXT_BYTES);
            }
            self.event(name, Event::StartFailed);
        }
    }

    pub(super) fn started(&mut self, name: &str, now: Duration) {
        let Some(run) = self.units.get_mut(name) else { return };
        run.started = Some(now);
        if !run.is_system() && self.first_container.is_none() {
            self.first_container = Some(now);
        }
        if !run.ran {
            run.ran = true;
            let forked = run.forked.unwrap_or(now);
            self.note_time(&format!("unit {name}"), forked, now, "");
        }
        self.event(name, Event::Started);
    }

    pub(super) fn clean_up(&mut self, name: &str, k: &mut dyn Kernel) {
        let Some(run) = self.units.get_mut(name) else { return };
        run.pid = None;
        run.started = None;
        run.forked = None;
        run.attach_by = None;
        run.address = None;
        self.detach(name, k);
        k.cleanup(name);
    }

    pub(super) fn note_time(&mut self, name: &str, start: Duration, end: Duration, outcome: &str) {
        if self.timeline.len() < limits::TIMELINE {
            self.timeline.push(StepTime {
                stage: "main".into(),
                name: name.to_owned(),
                start_us: micros(start),
                took_us: micros(end.saturating_sub(start)),
                outcome: outcome.to_owned(),
            });
        }
    }

    pub(super) fn tell_state(&self, name: &str, state: State, now: Duration, k: &mut dyn Kernel) {
        let Some(run) = self.units.get(name) else { return };
        match state {
            State::Starting if run.unit.container.privileged => {
                k.say(console::privileged(name, &privileges::words(&run.unit)));
            }
            State::Running => k.say(console::running(name, &run.unit.container.image)),
            State::Healthy => k.say(console::healthy(name)),
            State::Unhealthy => k.say(console::state(name, state.word(), run.checks.trouble())),
            // An operator's stop has no reason of its own.
            State::Stopping if !run.life.reason(now).is_empty() => {
                k.say(console::state(name, "sick", &run.reason(now)));
            }
            State::Backoff | State::Failed | State::Finished => {
                k.say(console::state(name, state.word(), &run.reason(now)));
            }
            State::Stopped if run.ran => k.say(console::state(name, state.word(), "")),
            _ => {}
        }
    }
}
