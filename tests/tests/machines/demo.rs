//! `cargo run -- demo update`: a good version stays; one whose kernel panics, one whose PID 1 hangs, one under which a unit is
//! sick: after each the old one serves again, and the machine says why.

use anyhow::{Result, ensure};
use berth_image::Options;
use berth_qemu::updates;

/// Each line that a user sees.
#[test]
fn a_good_version_stays_and_sick_ones_are_taken_back() -> Result<()> {
    let lines = std::sync::Mutex::new(Vec::new());
    updates::demo::run(&|line| {
        println!("{line}");
        lines.lock().expect("no other thread").push(line.to_owned());
    })?;
    let lines = lines.into_inner().expect("no other thread");
    let old = Options::default().version;
    let mut rest = lines.iter();
    for wanted in [
        "/  it serves".to_owned(),
        "version 2 is published: a good one".into(),
        "berth update reboot".into(),
        "it reboots".into(),
        format!("update   version 2 took the place of {old}"),
        "/  version 2 serves, from slot b".into(),
        "version 3 is published: its kernel panics".into(),
        "update   version 3 did not prove itself".into(),
        "/  version 2 serves again".into(),
        "version 4 is published: its PID 1 hangs".into(),
        "update   version 4 did not prove itself".into(),
        "/  version 2 serves again".into(),
        "version 5 is published: the web unit is sick under it".into(),
        "update   version 5 did not prove itself".into(),
        "/  version 2 serves again".into(),
        "berth update status:".into(),
        "Not taken again, unless with --again:".into(),
    ] {
        ensure!(
            rest.any(|line| line.contains(&wanted)),
            "no {wanted:?} (at its place) in\n{}",
            lines.join("\n")
        );
    }
    Ok(())
}
