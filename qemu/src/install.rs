//! `cargo run -- demo install`: a machine with an empty disk is started from the ISO, installs itself, and serves from its disk; its screen
//! is kept as pictures where one is asked for.

use crate::lines::Event;
use crate::machine::{Bus, Firmware, Machine};
use crate::running::Running;
use crate::scratch::{self, Scratch};
use crate::{demo, disk, http};
use anyhow::{Context, Result};
use berth_image::run::Progress;
use berth_image::{Format, Options};
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// Two boots and some fifty MB, in emulation.
const PATIENCE: Duration = Duration::from_secs(300);
/// Bytes of the disk.
const DISK: u64 = 2 << 30;

/// Runs it; each line is for people. `pictures`: a folder for `installing.png` and `running.png`.
pub fn run(say: Progress<'_>, pictures: Option<&Path>) -> Result<()> {
    scratch::remove_on(&scratch::ENDS)?;
    let build = |line: &str| say(&format!("build    {line}"));
    let tools = berth_image::tools::ensure(&build)?;
    let options = Options { formats: [Format::Iso].into(), ..Options::default() };
    let outputs = berth_image::build(&options, &build)?;
    let folder = Scratch::new("demo")?;
    let [target, iso, web] = ["disk.raw", "berth.iso", "web.tar"].map(|name| folder.path().join(name));
    File::create(&target)?.set_len(DISK)?;
    fs::copy(&outputs.formats[&Format::Iso], &iso)?;
    demo::write_web_image(&tools, &web)?;
    let config = demo::config(&berth_ctl::public_key_line()?);
    disk::lay(&iso, &format!("{config}\n[install]\ndisk = \"only\"\nthen = \"poweroff\"\n"))?;
    say("iso      berth.iso has a config with [install] disk = \"only\"");

    let port = http::free_port()?;
    let machine = Machine::new(&tools, Firmware::Uefi)
        .disk(&target, Bus::Nvme)
        .serial("S4EVNX0R123456")
        .read_only_disk(&web, Bus::Virtio)
        .disk(&iso, Bus::Cdrom)
        .boot_order(&[0, 2])
        .forward(port, 8080);
    let mut running = machine.boot()?;
    for wanted in ["boot disk", "install  onto", "install  writing, "] {
        say(&running.wait_for(wanted, PATIENCE)?.text);
    }
    picture(&mut running, pictures, "installing.png")?;
    say(&running.wait_for("install  done", PATIENCE)?.text);
    running.wait_off(PATIENCE)?;
    drop(running);

    say("power    on again, the ISO still in the drive");
    let mut running = machine.boot()?;
    for wanted in ["boot disk", "config   applied"] {
        say(&running.wait_for(wanted, PATIENCE)?.text);
    }
    running.wait_event_like("a good slot", PATIENCE, |event| matches!(event, Event::SlotGood(_)))?;
    http::wait_200(port, "/", PATIENCE).with_context(|| running.console().tail())?;
    say("page     served from the disk");
    picture(&mut running, pictures, "running.png")?;
    running.press_power_button()?;
    running.wait_off(PATIENCE).map(drop)
}

fn picture(running: &mut Running, folder: Option<&Path>, name: &str) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    fs::create_dir_all(folder)?;
    running.screenshot(&folder.join(name))
}
