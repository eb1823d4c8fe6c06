//! From the medium onto a disk.

use super::super::*;
use super::fake::*;
use crate::run::targets::{Disk, Holds, Target};
use berth_units::control::{FromWorker, InstallStatus, Reply, Request};
use berth_units::lifecycle::Exit;
use berth_units::model::InstallSettings;

fn target(there: bool) -> Input {
    let disk = Disk {
        name: "vda".into(),
        bytes: 8 << 30,
        sector_bytes: 512,
        model: String::new(),
        serial: "S4".into(),
        removable: false,
        in_use: false,
        own: false,
        holds: Holds::Nothing,
    };
    Input::DiskChosen(Ok(Box::new(Target { disk, there })))
}

/// A live system whose medium has a config with `[install]`.
fn live(facts: Facts) -> Machine {
    let mut machine = Machine::with_system(facts, &[INSTALL]);
    machine.begin(None);
    machine.worker(META, FromWorker::Hello);
    let text = Some(b"web\ninstall".to_vec());
    machine.give(Input::Worker { unit: META.into(), message: found("seed", Vec::new()), text });
    machine.exit(META, Exit::Code(0));
    machine
}

fn on_medium() -> Facts {
    Facts { medium: true, ..facts() }
}

fn status(machine: &mut Machine) -> InstallStatus {
    match machine.supervisor.ask(&Request::InstallStatus, machine.now, &mut machine.k) {
        Some(Reply::Install(status)) => *status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_config_with_install_installs_and_the_machine_reboots() {
    let mut machine = live(on_medium());
    assert_eq!(machine.called("choose disk Some(Only)"), 1);
    assert_eq!(machine.called("launch install"), 0);
    machine.give(target(false));
    assert!(machine.said("install  onto /dev/vda, 8192 MiB, serial S4"));
    machine.ready(INSTALL);
    assert_eq!(machine.told(INSTALL, "\"sector_bytes\":512"), 1);
    let progress = |done| FromWorker::InstallProgress { step: "writing".into(), done, total: 100 };
    machine.worker(INSTALL, progress(15));
    machine.worker(INSTALL, progress(16));
    machine.worker(INSTALL, progress(55));
    assert_eq!(machine.k.said.iter().filter(|line| line.starts_with("install  writing")).count(), 2);
    assert_eq!((status(&mut machine).state.as_str(), status(&mut machine).done), ("writing", 55));
    machine.worker(INSTALL, FromWorker::Installed);
    assert!(machine.said("install  done: Berth is on /dev/vda"));
    assert_eq!(status(&mut machine).state, "done");
    assert!(machine.supervisor.is_stopping());
}

#[test]
fn what_is_there_already_is_left_alone() {
    let mut machine = live(on_medium());
    machine.give(target(true));
    assert!(machine.said("already, by this config"));
    assert_eq!((machine.called("launch install"), status(&mut machine).state.as_str()), (0, "there already"));
    assert!(!machine.supervisor.is_stopping());
}

#[test]
fn nothing_is_installed_from_a_disk_or_when_the_menu_says_so() {
    for facts in [facts(), Facts { installs_nothing: true, ..on_medium() }] {
        assert_eq!(live(facts).called("choose disk"), 0);
    }
    let mut machine = Machine::boot("web");
    let order = Request::Install(InstallSettings::default());
    let Some(Reply::Error { message, .. }) = machine.supervisor.ask(&order, machine.now, &mut machine.k)
    else {
        panic!()
    };
    assert!(message.contains("installation medium"), "{message}");
}

#[test]
fn a_failure_is_told_and_the_live_system_stays_up() {
    let mut machine = live(on_medium());
    machine.give(Input::DiskChosen(Err("no disk is free; /dev/vda: it holds LVM".into())));
    assert!(machine.said("install  failed: no disk is free"));
    assert!(status(&mut machine).error.contains("LVM"));
    // By hand, and the disk breaks.
    let order = Request::Install(InstallSettings::default());
    assert!(matches!(machine.supervisor.ask(&order, machine.now, &mut machine.k), Some(Reply::Done)));
    machine.settle();
    assert!(matches!(
        machine.supervisor.ask(&order, machine.now, &mut machine.k),
        Some(Reply::Error { message, .. }) if message.contains("under way")
    ));
    machine.give(target(false));
    machine.ready(INSTALL);
    machine
        .worker(INSTALL, FromWorker::InstallFailed { error: "the disk failed while it was written".into() });
    assert_eq!(status(&mut machine).error, "the disk failed while it was written");
    assert!(!machine.supervisor.is_stopping());
}
