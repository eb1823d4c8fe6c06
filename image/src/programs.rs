//! Our own programs for the machine: static, built by cargo with the profile `guest`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::Progress;
use crate::workspace;

/// What they are built for: glibc, linked statically.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Package and program of each.
const PROGRAMS: [(&str, &str); 2] = [("berth-init", "init"), ("berth-ctl", "berth")];

/// The finished programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// PID 1.
    pub init: PathBuf,
    /// Workers and command line.
    pub berth: PathBuf,
}

/// Builds what is stale; cargo knows what that is. Its folder is its own, so it never waits for, nor disturbs, a
/// build of the host's tools.
pub fn build(progress: Progress<'_>) -> Result<Programs> {
    progress("building the machine's programs");
    // The operator's half of `berth` is for other computers; there is no terminal here.
    let dir = cargo("target/guest", &PROGRAMS, &[GUEST, "--no-default-features"])?.join("guest");
    Ok(Programs { init: dir.join("init"), berth: dir.join("berth") })
}

/// PID 1 of another checkout, as [`build`] makes it: to see that the same sources give the same bytes at any path.
pub fn init_of(checkout: &Path) -> Result<PathBuf> {
    // Both packages are named: features of what they share are those of both.
    let arguments = [GUEST, "--no-default-features", "-p", PROGRAMS[1].0];
    let dir = cargo_in(checkout, "target/guest", &PROGRAMS[..1], &arguments)?;
    Ok(dir.join("guest/init"))
}

/// Workers and command line of another checkout.
pub fn berth_of(checkout: &Path) -> Result<PathBuf> {
    let arguments = [GUEST, "--no-default-features", "-p", PROGRAMS[0].0];
    let dir = cargo_in(checkout, "target/guest", &PROGRAMS[1..], &arguments)?;
    Ok(dir.join("guest/berth"))
}

/// PID 1 with switches to misbehave, for the fault matrix; in no image but a test's.
pub fn faulty_init(progress: Progress<'_>) -> Result<PathBuf> {
    progress("building a PID 1 that can misbehave");
    let dir = cargo("target/guest-faults", &PROGRAMS[..1], &[GUEST, "--features=berth-init/faults"])?;
    Ok(dir.join("guest/init"))
}

/// The launcher's checks, to be `/init` of a machine of their own; in no image.
pub fn launch_check(progress: Progress<'_>) -> Result<PathBuf> {
    progress("building the launcher's checks");
    let dir = cargo("target/guest-checks", &[], &["-p", "berth-units", "--example", "launch_check"])?;
    Ok(dir.join("debug/examples/launch_check"))
}

/// The program that measures the launcher beside its peers (`bench units`); in no image of ours.
pub fn peers(progress: Progress<'_>) -> Result<PathBuf> {
    measuring("peers", progress)
}

/// The program that measures the forms of layers (`bench layers`); in no image of ours.
pub fn layers(progress: Progress<'_>) -> Result<PathBuf> {
    measuring("layers", progress)
}

fn measuring(example: &str, progress: Progress<'_>) -> Result<PathBuf> {
    progress("building the program that measures");
    let dir = cargo("target/guest-peers", &[], &[GUEST, "-p", "berth-units", "--example", example])?;
    Ok(dir.join("guest/examples").join(example))
}

/// `berth` with the operator's half, static, for a guest in which it is measured; in no image of ours.
pub fn operator(progress: Progress<'_>) -> Result<PathBuf> {
    progress("building the operator's program");
    let dir = cargo("target/guest-peers", &PROGRAMS[1..], &[GUEST])?;
    Ok(dir.join("guest/berth"))
}

/// The profile of what runs on the machine.
const GUEST: &str = "--profile=guest";

fn cargo(target: &str, programs: &[(&str, &str)], arguments: &[&str]) -> Result<PathBuf> {
    cargo_in(workspace::repo(), target, programs, arguments)
}

/// Runs cargo; the folder with a folder per profile.
fn cargo_in(checkout: &Path, target: &str, programs: &[(&str, &str)], arguments: &[&str]) -> Result<PathBuf> {
    let target = checkout.join(target);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(checkout).args(["build", "--quiet"]);
    command.arg(format!("--target={TARGET}")).arg("--target-dir").arg(&target);
    for (package, program) in programs {
        command.args(["-p", package, "--bin", program]);
    }
    command.args(arguments);
    // No path of the build host in a program: the same bytes from every checkout.
    let remap = [(checkout.display().to_string(), "berth"), (cargo_home(), "cargo")];
    let fixed = [
        "-C",
        "target-feature=+crt-static",
        // A program that lies anywhere in memory puts right some ten thousand addresses when it starts; packed, their list is
        // a hundredth of the size.
        "-C",
        "link-arg=-Wl,-z,pack-relative-relocs",
    ];
    let remap = remap.iter().map(|(from, to)| format!("--remap-path-prefix={from}=/{to}"));
    let flags: Vec<String> = fixed.iter().map(|&flag| flag.to_owned()).chain(remap).collect();
    // The form in which a path may hold a space.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    command.env_remove("RUSTFLAGS").env_remove("CARGO_BUILD_TARGET").env_remove("RUSTC_WORKSPACE_WRAPPER");
    // What cargo sets for the program that runs this must not reach the build of another package.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let out = command.stdin(Stdio::null()).output().context("could not start cargo")?;
    if !out.status.success() {
        bail!("the machine's programs could not be built\n{}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(target.join(TARGET))
}

fn cargo_home() -> String {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return home.to_string_lossy().into_owned();
    }
    format!("{}/.cargo", std::env::var("HOME").unwrap_or_default())
}
