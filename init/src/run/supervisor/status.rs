//! What operators are told.

use super::{Run, Supervisor};
use crate::run::kernel::{Halt, Kernel, Order};
use crate::run::{console, limits};
use berth_units::control::{ConfigStatus, Drive, Reply, Request, StepTime, UnitDetail, UnitStatus};
use berth_units::lifecycle::{Event, Exit, State};
use berth_units::model::Origin;
use berth_units::privileges;
use std::time::Duration;

/// A refusal.
pub fn refuse(kind: &str, message: impl Into<String>) -> Reply {
    Reply::Error { kind: kind.into(), message: message.into() }
}

impl Supervisor {
    /// Answers what can be answered from here; `None` for what the machine itself has to answer (logs, slots, the
    /// whole timeline).
    pub fn ask(&mut self, request: &Request, now: Duration, k: &mut dyn Kernel) -> Option<Reply> {
        let reply = match request {
            Request::Ps => Reply::Units(self.units.values().map(|run| self.status(run, now, k)).collect()),
            Request::Inspect { unit } => match self.units.get(unit) {
                Some(run) => Reply::Unit(Box::new(self.detail(run, now, k))),
                None => self.no_unit(unit),
            },
            Request::Drive { unit, order } => self.drive(unit, *order, now, k),
            Request::Image { order } => self.order_image(order, now, k),
            Request::Jobs => self.job_list(),
            Request::ConfigStatus => {
                let left = self.next_revert().map(|until| until.saturating_sub(now).as_secs());
                Reply::ConfigStatus(ConfigStatus { unconfirmed_s: left, ..self.config_status.clone() })
            }
            Request::Remove { unit, force } => self.remove_unit(unit, *force, now, k),
            Request::History => self.history(),
            Request::Update { order, again } => self.order_update(*order, *again, now, k),
            Request::UpdateStatus => Reply::Update(Box::new(self.update_status(now))),
            Request::Install(settings) => self.order_install(settings, now, k),
            Request::InstallStatus => Reply::Install(Box::new(self.install_status())),
            Request::ConfigConfirm => self.confirm_config(k),
            Request::ConfigReload => self.reload_config(now, k),
            Request::Reboot | Request::Poweroff | Request::Halt => {
                let halt = match request {
                    Request::Reboot => Halt::Reboot,
                    Request::Poweroff => Halt::Poweroff,
                    _ => Halt::Halt,
                };
                if self.is_stopping() {
                    return Some(refuse("busy", "the machine is already going down"));
                }
                self.halt(halt, "asked for by an operator", limits::SHUTDOWN, now, k);
                self.run_events(now, k);
                Reply::Done
            }
            Request::Logs { .. }
            | Request::ConfigApply { .. }
            | Request::UnitsApply { .. }
            | Request::Rollback { .. }
            | Request::Run { .. }
            | Request::Volumes { .. }
            | Request::VolumeRemove { .. }
            | Request::ConfigShow
            | Request::Exec(_)
            | Request::Machine
            | Request::BootTimes
            | Request::Disks
            | Request::Reset { .. }
            | Request::Slots => return None,
        };
        Some(reply)
    }

    fn drive(&mut self, name: &str, order: Drive, now: Duration, k: &mut dyn Kernel) -> Reply {
        let runs: Vec<&Run> = self.runs_of(name).collect();
        if runs.is_empty() {
            return self.no_unit(name);
        }
        if runs.iter().any(|run| run.is_system()) {
            let message = format!(
                "{name} is a system unit; Berth itself decides when it runs, \"berth reboot\" restarts all"
            );
            return refuse("denied", message);
        }
        if self.is_stopping() {
            return refuse("busy", "the machine is going down");
        }
        if let Some(run) = runs.iter().find(|run| run.becomes.is_some()) {
            let message =
                format!("{} stops, as another config wants it; try again in a moment", run.unit.name);
            return refuse("busy", message);
        }
        let names: Vec<String> = runs.iter().map(|run| run.unit.name.clone()).collect();
        k.say(console::driven(name, order));
        for name in names {
            if order != Drive::Start {
                self.event(&name, Event::Stop);
            }
            if order != Drive::Stop {
                self.event(&name, Event::Start);
            }
        }
        self.run_events(now, k);
        Reply::Done
    }

    /// As the unit was, or would be, launched.
    pub fn order_of(&self, name: &str) -> Option<Order<'_>> {
        let run = self.units.get(name)?;
        let id_base = self.ids.get(name).unwrap_or_default();
        Some(Order { unit: &run.unit, image: run.image.as_ref(), id_base })
    }

    /// It is a unit of the OS.
    pub fn is_system(&self, name: &str) -> bool {
        self.units.get(name).is_some_and(Run::is_system)
    }

    /// The answer about a unit that does not exist, with the nearest name that does.
    pub fn no_unit(&self, name: &str) -> Reply {
        let instances = self.runs_of(name).count();
        if instances > 0 {
            let message = format!("{name} has {instances} instances; name one of them, {name}.1 for example");
            return refuse("not-found", message);
        }
        let near = self
            .units
            .keys()
            .map(|known| (strsim::damerau_levenshtein(known, name), known))
            .filter(|(distance, _)| *distance <= 2)
            .min();
        let hint = near.map(|(_, known)| format!("; did you mean \"{known}\"?")).unwrap_or_default();
        let name: String = name.chars().take(64).collect();
        refuse("not-found", format!("there is no unit {name:?}{hint}; \"berth ps --all\" lists them"))
    }

    /// What the main loop adds to the boot's timeline, and when the first user container ran.
    pub fn timeline(&self) -> (&[StepTime], Option<Duration>) {
        (&self.timeline, self.first_container)
    }

    /// The host name in force.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The machine's addresses, with their interfaces.
    pub fn addresses(&self) -> &[(String, String)] {
        &self.addresses
    }

    /// This boot was found healthy and its slot marked good.
    pub fn is_confirmed(&self) -> bool {
        self.health.is_confirmed()
    }

    fn status(&self, run: &Run, now: Duration, k: &dyn Kernel) -> UnitStatus {
        let unit = &run.unit;
        let has_run = run.life.state.has_run();
        UnitStatus {
            name: unit.name.clone(),
            origin: unit.origin,
            state: run.life.state.to_string(),
            reason: self.why(run, now),
            image: unit.container.image.clone(),
            uptime_s: run.started.map(|at| now.saturating_sub(at).as_secs()),
            restarts: run.life.restarts,
            oom_kills: run.oom_kills,
            pid: run.pid,
            memory: if has_run { k.memory(&unit.name) } else { None },
            address: run.address,
            ports: unit.network.ports.clone(),
            privileges: privileges::words(unit),
        }
    }

    fn why(&self, run: &Run, now: Duration) -> String {
        match run.life.state {
            State::Waiting => match self.waits_for(&run.unit) {
                Some(other) => format!("for {other}"),
                None => String::new(),
            },
            State::Preparing => {
                let far = self.how_far(&run.unit.container.image);
                far.unwrap_or_else(|| "the store is making the image ready".into())
            }
            State::Starting if run.attach_by.is_some() => "waiting for its network".into(),
            State::Running | State::Healthy | State::Unhealthy => {
                let parts = [run.checks.trouble(), &run.says];
                let said: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                said.join("; ")
            }
            _ => run.reason(now),
        }
    }

    fn detail(&self, run: &Run, now: Duration, k: &dyn Kernel) -> UnitDetail {
        let unit = &run.unit;
        let image = run.image.as_ref();
        let host_users =
            unit.container.privileged || unit.system.as_ref().is_some_and(|grants| grants.host_users);
        UnitDetail {
            status: self.status(run, now, k),
            description: unit.description.clone(),
            after: unit.after.iter().map(ToString::to_string).collect(),
            requires: unit.requires.iter().map(ToString::to_string).collect(),
            required_for_boot: unit.required_for_boot || unit.origin == Origin::System,
            digest: image.map(|image| image.digest.clone()),
            command: command(run),
            network: unit.network.mode,
            uid_base: if host_users { None } else { self.ids.get(&unit.name) },
            cgroup: berth_units::paths::cgroup(unit.origin, &unit.name),
            exit_code: run.life.last_exit.map(|exit| match exit {
                Exit::Code(code) => code,
                Exit::Signal(number) => 128_i32.saturating_add(number),
            }),
            transient: unit.transient.is_some(),
            exits: run.exits.iter().cloned().collect(),
        }
    }
}

fn command(run: &Run) -> Vec<String> {
    let container = &run.unit.container;
    let image = run.image.as_ref();
    let entrypoint = container.command.clone().or_else(|| image.map(|i| i.entrypoint.clone()));
    // A command of one's own replaces the image's arguments, too.
    let default_args = || image.filter(|_| container.command.is_none()).map(|i| i.cmd.clone());
    let args = container.args.clone().or_else(default_args);
    [entrypoint.unwrap_or_default(), args.unwrap_or_default()].concat()
}
