//! The machine's real programs, built again in a checkout at another path: the same bytes.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use berth_image::run::{run, silent};
use berth_image::{programs, workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the sources, at a path of another length, with a space in it.
fn elsewhere(name: &str) -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).join("another checkout");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).unwrap();
    let mut command = Command::new("cp");
    command.arg("-r");
    for entry in fs::read_dir(workspace::repo()).unwrap() {
        let entry = entry.unwrap();
        if !["target", ".git", "fuzz"].contains(&entry.file_name().to_str().unwrap()) {
            command.arg(entry.path());
        }
    }
    run("copying the sources", command.arg(&copy)).unwrap();
    copy
}

fn same(one: &Path, two: &Path) {
    let (one, two) = (fs::read(one).unwrap(), fs::read(two).unwrap());
    let differs = one.iter().zip(&two).position(|(a, b)| a != b);
    assert!(one == two, "{} and {} bytes, first difference at {differs:?}", one.len(), two.len());
}

#[test]
fn init_is_the_same_from_another_checkout() {
    let copy = elsewhere("init");
    same(&programs::build(&silent).unwrap().init, &programs::init_of(&copy).unwrap());
    fs::remove_dir_all(&copy).unwrap();
}

/// Takes minutes, as everything that talks TLS is built again.
#[test]
#[ignore = "run it by name before a release: see docs/image.md"]
fn berth_is_the_same_from_another_checkout() {
    let copy = elsewhere("berth");
    same(&programs::build(&silent).unwrap().berth, &programs::berth_of(&copy).unwrap());
    fs::remove_dir_all(&copy).unwrap();
}
