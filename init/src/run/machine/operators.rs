//! What operators ask for and a child has to read or change a disk for: configs' texts, volumes.

use super::{Machine, now};
use crate::early::Seed;
use crate::early::reset::Ask;
use crate::run::chores::{Job, Outcome};
use crate::run::kernel::{Halt, Input, Kernel as _};
use crate::run::passed::Passed;
use crate::run::supervisor::refuse;
use crate::run::{console, generations, limits, targets, text, volumes};
use berth_units::config::edit;
use berth_units::control::{Keep, Reply, VolumeStatus, sealed};
use berth_units::model::Unit;
use berth_units::paths;
use std::collections::BTreeMap;
use std::path::Path;

impl Machine {
    /// Has a child make a text that is too long for its answer: it goes into memory that both have.
    pub(super) fn make_text(
        &mut self,
        job: Job,
        work: impl FnOnce() -> Result<Vec<u8>, String>,
    ) -> Result<(), String> {
        let text = Passed::new().map_err(|error| error.to_string())?;
        let work = || text.put(&work()?).map(|()| String::new());
        self.chores.start(&mut self.reactor, job.clone(), limits::CHILD_STORE, now(), work)?;
        self.texts.push((job, text));
        Ok(())
    }

    /// What it has made.
    pub(super) fn made_text(&mut self, job: &Job, outcome: Outcome) -> Result<Vec<u8>, String> {
        let at = self.texts.iter().position(|(of, _)| of == job);
        let text = at.map(|at| self.texts.remove(at).1);
        outcome?;
        let text = text.ok_or("the text got lost")?;
        let read = text.read(berth_units::limits::CONFIG_BYTES as u64 + 1);
        let bytes = read.map_err(|error| error.to_string())?;
        if bytes.len() > berth_units::limits::CONFIG_BYTES {
            return Err(format!("a config has at most {} bytes", berth_units::limits::CONFIG_BYTES));
        }
        Ok(bytes)
    }

    /// Shows an operator the config of a generation.
    pub fn show_config(&mut self, number: u64, peer: u64) -> Result<(), String> {
        let work = move || {
            let text = generations::config_of(Path::new(paths::STATE_CONFIG), number)?;
            edit::without_secrets(&text).map(String::into_bytes)
        };
        self.make_text(Job::ShowConfig(peer), work)
    }

    /// Has the next start come up as a new machine, with this config if there is one. The answer comes once that is on the disk;
    /// then the machine reboots.
    pub fn reset(&mut self, peer: u64, keep: Keep, config: Option<Vec<u8>>) -> Result<(), String> {
        if self.booted.medium {
            return Err("this machine runs from its installation medium and keeps nothing: reboot it".into());
        }
        let record = &self.booted.record;
        let work = || {
            if let Some(text) = config {
                Seed::put(record.path(), &text)?;
            }
            record.ask(Ask::of(keep)).map(|()| String::new())
        };
        self.chores.start(&mut self.reactor, Job::Reset(peer), limits::CHILD_CONFIRM, now(), work)
    }

    pub(super) fn reset_asked(&mut self, peer: u64, outcome: Outcome) {
        let reply = match outcome {
            Ok(_) => {
                let why = "it comes up as a new machine";
                self.inbox.push_back(Input::Halt { halt: Halt::Reboot, why: why.into() });
                Reply::Done
            }
            Err(why) => refuse("failed", why),
        };
        self.answer(peer, reply);
    }

    /// Lists the machine's disks for an operator.
    pub fn list_disks(&mut self, peer: u64) -> Result<(), String> {
        let own = self.booted.disk.clone();
        let work = move || {
            serde_json::to_string(&targets::look(&own, limits::DISK_OPEN)).map_err(|error| error.to_string())
        };
        self.chores.start(&mut self.reactor, Job::ListDisks(peer), limits::CHILD_TARGET, now(), work)
    }

    /// Lists the volumes for an operator, or one of them with its size.
    pub fn list_volumes(
        &mut self,
        peer: u64,
        inspect: Option<String>,
        used: BTreeMap<String, Vec<String>>,
    ) -> Result<(), String> {
        let name = inspect.clone();
        let work = move || {
            let folder = Path::new(paths::STATE_VOLUMES);
            let list = match &name {
                Some(name) => volumes::inspect(folder, name, &used)?,
                None => volumes::list(folder, &used)?,
            };
            serde_json::to_vec(&list).map_err(|error| error.to_string())
        };
        self.make_text(Job::Volumes(peer, inspect), work)
    }

    pub(super) fn volumes_listed(&mut self, job: &Job, outcome: Outcome) {
        let Job::Volumes(peer, inspect) = job else { return };
        let list = self.made_text(job, outcome);
        let list = list.and_then(|text| {
            serde_json::from_slice::<Vec<VolumeStatus>>(&text).map_err(|error| error.to_string())
        });
        let reply = match (list, inspect) {
            (Ok(list), Some(name)) if list.is_empty() => no_volume(name),
            (Ok(list), _) => Reply::Volumes(list),
            (Err(why), _) => refuse("failed", why),
        };
        self.answer(*peer, reply);
    }

    /// Removes a volume that no unit uses for an operator.
    pub fn remove_volume(&mut self, peer: u64, name: &str) -> Result<(), String> {
        if !berth_units::schema::is_unit_name(name) {
            return Err("this is no volume's name".into());
        }
        let of = name.to_owned();
        let work = move || {
            let there = volumes::remove(Path::new(paths::STATE_VOLUMES), &of)?;
            Ok(if there { "removed".to_owned() } else { String::new() })
        };
        let job = Job::RemoveVolume(peer, name.to_owned());
        self.chores.start(&mut self.reactor, job, limits::CHILD_STORE, now(), work)
    }

    /// A volume that this unit names is being removed: started now, it might write into what is about to go.
    pub(super) fn loses_volume(&self, unit: &Unit) -> bool {
        let names = |name: &str| unit.container.volumes.iter().any(|volume| volume.name == name);
        self.chores.count(|job| matches!(job, Job::RemoveVolume(_, name) if names(name))) > 0
    }

    pub(super) fn volume_removed(&mut self, peer: u64, name: &str, outcome: Outcome) {
        let reply = match outcome {
            Ok(found) if found.is_empty() => no_volume(name),
            Ok(_) => Reply::Done,
            Err(why) => refuse("failed", why),
        };
        if matches!(reply, Reply::Done) {
            self.say(console::volume_removed(name));
            if !self.chores.busy(&Job::EmptyTrash) {
                let work = || volumes::empty_trash(Path::new(paths::STATE_VOLUMES)).map(|()| String::new());
                self.start(Job::EmptyTrash, limits::CHILD_DISCARD, work);
            }
        }
        self.answer(peer, reply);
        self.launch_held();
    }

    pub(super) fn config_shown(&mut self, peer: u64, outcome: Outcome) {
        let text = self.made_text(&Job::ShowConfig(peer), outcome);
        let text =
            text.and_then(|text| sealed::sealed("berth.toml", &text).map_err(|error| error.to_string()));
        let (reply, fds) = match text {
            Ok(fd) => (Reply::ConfigText, vec![fd]),
            Err(why) => (refuse("failed", format!("the config is not shown: {why}")), Vec::new()),
        };
        self.peers.reply(&mut self.reactor, peer, &reply, fds, now());
    }
}

fn no_volume(name: &str) -> Reply {
    let name = text::bounded(name, limits::TEXT_BYTES);
    refuse("not-found", format!("there is no volume {name:?}; \"berth volume ls\" lists them"))
}
