//! Berth from its installation medium onto a disk: because the machine config says so, or an operator.
//!
//! ```text
//! choosing ─▶ (the unit `install` starts) ─▶ writing ─▶ reading back ─▶ done ─▶ reboot, poweroff, or nothing
//!     └─▶ there already: this very order was carried out before, and the medium was left in the machine
//! ```

use super::{INSTALL, Supervisor, refuse};
use crate::run::kernel::{Halt, Kernel};
use crate::run::targets::{Target, id_of};
use crate::run::{console, limits, text};
use berth_units::control::{InstallStatus, Reply, ToWorker};
use berth_units::lifecycle::{Event, State};
use berth_units::model::{AfterInstall, InstallSettings};
use std::time::Duration;

/// How it stands.
#[derive(Debug, Default)]
pub(super) struct Install {
    status: InstallStatus,
    /// To be begun once the config is kept.
    pub(super) waiting: Option<InstallSettings>,
    order: Option<Order>,
}

#[derive(Debug)]
struct Order {
    then: AfterInstall,
    id: String,
    target: Option<Target>,
    /// The worker has been told.
    told: bool,
    /// Tenths that the console has been told.
    tenths: u64,
}

impl Supervisor {
    /// An operator's order.
    pub(super) fn order_install(
        &mut self,
        settings: &InstallSettings,
        now: Duration,
        k: &mut dyn Kernel,
    ) -> Reply {
        if !self.facts.medium {
            let why =
                "this machine runs from its disk; to install it anew, start it from the installation medium";
            return refuse("failed", why);
        }
        if self.stopping.is_some() {
            return refuse("busy", "the machine is going down");
        }
        if self.install.order.is_some() {
            return refuse("busy", "an installation is under way; see \"berth install --status\"");
        }
        // An operator means it, whatever was done before.
        let salt = format!("{} {}", self.config_status.sha256, k.wall().as_nanos());
        self.begin_install(settings, &salt, k);
        self.run_events(now, k);
        Reply::Done
    }

    pub(super) fn install_status(&self) -> InstallStatus {
        let state = if self.install.status.state.is_empty() { "none" } else { &self.install.status.state };
        InstallStatus { state: state.to_owned(), ..self.install.status.clone() }
    }

    /// The config is kept, or will not be: what it says about an installation is done.
    pub(super) fn install_by_config(&mut self, k: &mut dyn Kernel) {
        if let Some(settings) = self.install.waiting.take() {
            let salt = self.config_status.sha256.clone();
            self.begin_install(&settings, &salt, k);
        }
    }

    fn begin_install(&mut self, settings: &InstallSettings, salt: &str, k: &mut dyn Kernel) {
        let id = id_of(salt, &self.facts.root_hash);
        self.install.status = InstallStatus { state: "choosing".into(), ..InstallStatus::default() };
        k.choose_disk(settings, &id);
        self.install.order = Some(Order { then: settings.then, id, target: None, told: false, tenths: 0 });
    }

    pub(super) fn disk_chosen(&mut self, chosen: Result<Box<Target>, String>, k: &mut dyn Kernel) {
        let Some(order) = &mut self.install.order else { return };
        match chosen {
            Ok(target) if target.there => {
                let disk = format!("/dev/{}", target.disk.name);
                k.say(console::install(&format!(
                    "Berth is on {disk} already, by this config: take the medium out and start again"
                )));
                self.install.status =
                    InstallStatus { state: "there already".into(), disk, ..InstallStatus::default() };
                self.install.order = None;
            }
            Ok(target) => {
                let disk = &target.disk;
                let serial = if disk.serial.is_empty() { "none" } else { &disk.serial };
                let serial = text::bounded(serial, limits::TEXT_BYTES);
                k.say(console::install(&format!(
                    "onto /dev/{}, {} MiB, serial {serial}",
                    disk.name,
                    disk.bytes >> 20
                )));
                self.install.status.disk = format!("/dev/{}", disk.name);
                order.target = Some(*target);
                self.want(INSTALL);
            }
            Err(why) => self.install_failed(&why, k),
        }
    }

    /// The worker is there.
    pub(super) fn tell_installer(&mut self, k: &mut dyn Kernel) {
        let Some(order) = self.install.order.as_mut().filter(|order| !order.told) else { return };
        let Some(target) = &order.target else { return };
        order.told = true;
        let message = ToWorker::Install {
            root_hash: self.facts.root_hash.clone(),
            sector_bytes: target.disk.sector_bytes,
            disk: order.id.clone(),
        };
        k.tell(INSTALL, &message, None);
    }

    pub(super) fn install_progress(&mut self, step: &str, done: u64, total: u64, k: &mut dyn Kernel) {
        let Some(order) = &mut self.install.order else { return };
        let status = &mut self.install.status;
        (status.state, status.done, status.total) = (step.to_owned(), done, total);
        let tenths = done.saturating_mul(10).checked_div(total).unwrap_or(0);
        if tenths > order.tenths {
            order.tenths = tenths;
            k.say(console::install(&format!("{step}, {} % of all", tenths * 10)));
        }
    }

    pub(super) fn installed(&mut self, now: Duration, k: &mut dyn Kernel) {
        let Some(order) = self.install.order.take() else { return };
        self.install.status.state = "done".into();
        self.install.status.done = self.install.status.total;
        let disk = self.install.status.disk.clone();
        self.event(INSTALL, Event::Stop);
        k.say(console::install(&format!("done: Berth is on {disk}, read back and bootable")));
        let halt = match order.then {
            AfterInstall::Reboot => Halt::Reboot,
            AfterInstall::Poweroff => Halt::Poweroff,
            AfterInstall::Stay => return,
        };
        self.halt(halt, "Berth is installed", limits::SHUTDOWN, now, k);
    }

    pub(super) fn install_failed(&mut self, why: &str, k: &mut dyn Kernel) {
        if self.install.order.take().is_none() {
            return;
        }
        let why = text::bounded(why, limits::TEXT_BYTES * 4);
        k.say(console::install(&format!("failed: {why}")));
        self.install.status.state = "failed".into();
        self.install.status.error = why;
        self.event(INSTALL, Event::Stop);
    }

    /// The worker that ended without a word will say none.
    pub(super) fn look_at_installer(&mut self, now: Duration, k: &mut dyn Kernel) {
        if self.install.order.as_ref().is_none_or(|order| order.target.is_none()) {
            return;
        }
        let Some(run) = self.units.get(INSTALL) else { return };
        let waits = self.events.iter().any(|(unit, _)| unit == INSTALL);
        if matches!(run.life.state, State::Failed | State::Finished) && !waits {
            let why =
                format!("the unit {INSTALL} has ended: {}; the disk is not bootable now", run.reason(now));
            self.install_failed(&why, k);
        }
    }
}
