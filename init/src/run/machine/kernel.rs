//! What the supervisor may have done: the real [`Kernel`].

use super::{Held, IMAGES, Machine, interfaces, needs, now, record_text};
use crate::early::{State, console};
use crate::run::chores::Job;
use crate::run::generations::{self, Recipe, Write};
use crate::run::kernel::{Halt, Input, Kernel, Order};
use crate::run::last::{self, Doing};
use crate::run::supervisor::API;
use crate::run::{limits, targets};
use berth_units::control::{OWN_LOG, Reply, ToWorker};
use berth_units::logs::Stream;
use berth_units::model::{Check, InstallSettings};
use berth_units::paths;
use berth_updater::assess;
use berth_updater::steps::Status;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

impl Kernel for Machine {
    fn launch(&mut self, order: &Order<'_>) -> Result<(), String> {
        let unit = order.unit;
        if unit.name == API && self.record.is_none() {
            self.read_record();
        }
        if unit.name == API && self.other.is_err() {
            self.read_other_slot();
        }
        // All of them are asked for before one is waited for.
        let opens = self.opens_disks(unit);
        if needs(unit).filter(|set| !self.has_features(set)).count() > 0 || opens || self.loses_volume(unit) {
            let held = Held { unit: unit.clone(), image: order.image.cloned(), id_base: order.id_base };
            self.held.insert(unit.name.clone(), held);
            return Ok(());
        }
        self.launch_now(order)
    }

    fn go(&mut self, unit: &str) {
        self.inbox.extend(self.containers.go(unit));
    }

    fn signal(&mut self, unit: &str, stop_signal: &str) {
        self.containers.signal(unit, berth_units::signals::number(stop_signal).unwrap_or(libc::SIGTERM));
    }

    fn kill(&mut self, unit: &str) {
        self.held.remove(unit);
        self.opening.remove(unit);
        self.containers.kill(unit, &mut self.inbox);
    }

    fn forget(&mut self, unit: &str, all: bool) {
        self.containers.forget(unit);
        if all {
            let folder = Path::new(paths::STATE_UNITS).join(unit);
            self.start(Job::Discard(unit.to_owned()), limits::CHILD_DISCARD, move || {
                let gone = berth_units::launch::discard(&folder);
                gone.map(|()| String::new()).map_err(|error| format!("{}: {error}", folder.display()))
            });
        }
    }

    fn check(&mut self, order: &Order<'_>, check: &Check, timeout: Duration) {
        #[cfg(feature = "faults")]
        if crate::early::faults::is_sick(&order.unit.name) {
            let unit = order.unit.name.clone();
            return self.inbox.push_back(Input::Checked { unit, found: Err("sick, as asked for".into()) });
        }
        let inside = self.containers.inside(order);
        let begun =
            inside.and_then(|inside| self.looks.begin(&mut self.reactor, &inside, check, timeout, now()));
        if let Err(why) = begun {
            let unit = order.unit.name.clone();
            self.inbox.push_back(Input::Checked { unit, found: Err(why) });
        }
    }

    fn end_check(&mut self, unit: &str) {
        self.looks.forget(&mut self.reactor, unit);
    }

    fn cleanup(&mut self, unit: &str) {
        self.end_check(unit);
        self.execs.forget(&mut self.reactor, unit);
        self.inbox.retain(|input| input.of_run() != Some(unit));
        let wall = self.wall();
        self.notices.close(&mut self.reactor, unit);
        self.containers.cleanup(&mut self.reactor, unit, wall);
    }

    fn tell(&mut self, worker: &str, message: &ToWorker, netns_of: Option<&str>) -> bool {
        if let ToWorker::Configure { network, .. } = message {
            // All of them are asked for before one is waited for.
            let _ = interfaces(network).filter(|set| !self.has_features(set)).count();
            return self.tell_agent(message.clone());
        }
        let fds = match (netns_of, message) {
            (Some(unit), _) => self.containers.network(unit),
            (None, ToWorker::Load { job }) => self.archives.remove(job).map(|archive| vec![archive]),
            (None, _) => Some(Vec::new()),
        };
        let Some(fds) = fds else { return false };
        self.peers.tell(&mut self.reactor, worker, message, fds, now())
    }

    fn find_image(&mut self, reference: &str) {
        self.has_features(IMAGES);
        self.next_images.push_back(reference.to_owned());
        self.find_images();
    }

    fn write_generation(&mut self, write: Write) {
        if self.next_generations.len() >= limits::GENERATION_WRITES {
            let result = Err("the disk is too slow: others wait to be written".into());
            self.inbox.push_back(Input::GenerationWritten { number: write.record.number, result });
            return;
        }
        self.next_generations.push_back(write);
        self.write_generations();
    }

    fn make_config(&mut self, recipe: Recipe) {
        let work = move || recipe.make(Path::new(paths::STATE_CONFIG));
        if let Err(why) = self.make_text(Job::MakeConfig, work) {
            self.inbox.push_back(Input::ConfigMade(Err(why)));
        }
    }

    fn config_kept(&mut self) {
        // What is kept in memory only is not kept.
        if matches!(self.booted.state, State::Persistent { .. })
            && let Some(seed) = self.booted.seed.take()
        {
            self.start(Job::Seed, limits::CHILD_RECORD, move || seed.take().map(|()| String::new()));
        }
    }

    fn choose_disk(&mut self, settings: &InstallSettings, id: &str) {
        let (own, firmware) = (self.booted.disk.clone(), self.booted.firmware);
        let (settings, id) = (settings.clone(), id.to_owned());
        self.start(Job::Target, limits::CHILD_TARGET, move || {
            let disks = targets::look(&own, limits::DISK_OPEN);
            let target = targets::choose(&disks, &settings, firmware, &id)?;
            let failed = |error: std::io::Error| format!("{}: {error}", paths::INSTALL_CONFIG);
            match generations::config(Path::new(paths::STATE_CONFIG)) {
                Some(text) => crate::early::files::replace(Path::new(paths::INSTALL_CONFIG), &text, 0o444),
                None => match std::fs::remove_file(paths::INSTALL_CONFIG) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                },
            }
            .map_err(failed)?;
            serde_json::to_string(&target).map_err(|error| error.to_string())
        });
    }

    fn answer(&mut self, peer: u64, reply: Reply) {
        self.peers.reply(&mut self.reactor, peer, &reply, Vec::new(), now());
    }

    fn store_ids(&mut self, text: String) {
        self.keep_text(Job::Ids, text);
    }

    fn set_trial(&mut self, on: bool) {
        let record = &self.booted.record;
        let work = || record.set_trial(on).map(|()| String::new());
        if let Err(error) =
            self.chores.start(&mut self.reactor, Job::Trial, limits::CHILD_CONFIRM, now(), work)
        {
            self.chore_ended(Job::Trial, Err(error));
        }
    }

    fn store_trials(&mut self, text: String) {
        self.keep_text(Job::Trials, text);
    }

    fn other_slot(&self) -> Result<Option<(String, String)>, String> {
        let content = self.other.as_ref().map_err(Clone::clone)?;
        Ok(content.as_ref().map(|content| (content.version.clone(), content.root_hash.clone())))
    }

    fn other_slot_changed(&mut self) {
        self.read_other_slot();
    }

    fn load_drivers(&mut self) {
        if let Some(coldplug) = &self.booted.coldplug {
            coldplug.devices_now();
            // The child ends, and that is how we know, when it hears that the boot is over.
            coldplug.boot_over();
        }
    }

    fn boot_over(&mut self) {
        if let Some(coldplug) = &self.booted.coldplug {
            coldplug.boot_over();
        }
    }

    fn hostname(&mut self, name: &str) {
        if let Err(error) = nix::unistd::sethostname(name) {
            log::error!("host name {name:?} not set: {error}");
        }
    }

    fn say(&mut self, line: String) {
        console::line(&line);
        let wall = self.wall();
        if let Some(writer) = self.containers.log(OWN_LOG) {
            writer.feed(Stream::Stdout, format!("{line}\n").as_bytes(), wall);
        }
    }

    fn step(&mut self, name: &str) {
        self.step = name.to_owned();
        if self.condemned {
            return;
        }
        if self.chores.busy(&Job::Step) {
            self.next_step = Some(name.to_owned());
            return;
        }
        let record = &mut self.booted.record;
        let work = || {
            record.step("main", name, Status::Running, "");
            Ok(String::new())
        };
        if let Err(error) = self.chores.start(&mut self.reactor, Job::Step, limits::CHILD_RECORD, now(), work)
        {
            log::warn!("step record not written: {error}");
        }
    }

    fn step_failed(&mut self, reason: &str) {
        self.next_step = None;
        self.chores.kill_all(&mut self.reactor, &Job::Step);
        let (record, step) = (&mut self.booted.record, &self.step);
        let work = || {
            record.step("main", step, Status::Failed, reason);
            Ok(String::new())
        };
        if let Err(error) = self.chores.start(&mut self.reactor, Job::Step, limits::CHILD_RECORD, now(), work)
        {
            log::warn!("step record not written: {error}");
        }
    }

    fn confirm(&mut self) {
        #[cfg(feature = "faults")]
        crate::early::faults::strike("loop", "confirm");
        self.step = "healthy".into();
        self.next_step = None;
        // A step that is still being written must not come after.
        self.chores.kill_all(&mut self.reactor, &Job::Step);
        let (record, slot, start) = (&mut self.booted.record, self.booted.slot, self.booted.start);
        let work = || {
            let (now, _) = record.read();
            match assess::after(start, now.as_ref(), slot, assess::Event::Healthy) {
                assess::Action::Write(next) => record.write(&next)?,
                assess::Action::Reboot | assess::Action::Stay => {}
            }
            record.step("main", "healthy", Status::Ok, "");
            Ok(record_text(record).unwrap_or_default())
        };
        if let Err(error) =
            self.chores.start(&mut self.reactor, Job::Confirm, limits::CHILD_CONFIRM, now(), work)
        {
            self.chore_ended(Job::Confirm, Err(error));
        }
    }

    fn condemn(&mut self, reason: &str, broken: bool) {
        if self.condemned {
            return;
        }
        self.condemned = true;
        self.next_step = None;
        // What they would still write must not come after.
        self.chores.kill_all(&mut self.reactor, &Job::Step);
        self.chores.kill_all(&mut self.reactor, &Job::Confirm);
        self.chores.kill_all(&mut self.reactor, &Job::Trial);
        let (record, slot, step) = (&mut self.booted.record, self.booted.slot, &self.step);
        let work = || {
            record.step("main", step, Status::Failed, reason);
            record.last_words(Status::Failed, reason);
            match record.read().0.filter(|_| broken).and_then(|now| assess::distrust(&now, slot)) {
                Some(next) => record.write(&next).map(|()| String::new()),
                None => Ok(String::new()),
            }
        };
        if let Err(error) =
            self.chores.start(&mut self.reactor, Job::Condemn, limits::CHILD_CONFIRM, now(), work)
        {
            log::error!("step record not written: {error}");
        }
    }

    fn finish(&mut self, halt: Halt) {
        let state = self.booted.state.clone();
        let doing = Doing::nothing();
        let shared = doing.share();
        self.last = Some(doing);
        let work = move || last::last_steps(&state, &shared);
        if let Err(error) = self.chores.start(&mut self.reactor, Job::Last(halt), limits::FINISH, now(), work)
        {
            self.chore_ended(Job::Last(halt), Err(error));
        }
    }

    fn last_lines(&self, unit: &str) -> Vec<String> {
        self.containers.last_lines(unit)
    }

    fn memory(&self, unit: &str) -> Option<u64> {
        self.containers.memory(unit)
    }

    fn move_clock(&mut self, by_ns: i64, error_ns: i64, at_once: bool) -> Result<(), String> {
        crate::sys::early::move_clock(by_ns, error_ns / 1000, at_once).map_err(|error| error.to_string())?;
        let due = self.clock_kept.is_none_or(|at| now().saturating_sub(at) >= limits::CLOCK_KEEP);
        if at_once || due {
            self.keep_clock();
        }
        Ok(())
    }

    fn clock_is_set(&self) -> bool {
        berth_units::clock::is_set()
    }

    fn clock_kept(&self) -> Option<u64> {
        self.kept_s
    }

    fn earliest(&self) -> Duration {
        self.booted.built
    }

    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
