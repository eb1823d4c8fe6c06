//! What a machine keeps of images, and what it removes.

use anyhow::Result;
use berth_qemu::demo::{self, HEADING};
use berth_store::build::{self, LayerBuilder};
use berth_tests::{Bus, Event, Firmware, Guest, Plan, WEB, config, state_tool};
use berth_units::control::JobStatus;
use std::io::Cursor;

const OLD: &str = "[units.old.container]\nimage = \"berth.example/old:1\"\nargs = [\"-p\", \"8081\"]\n";

/// What lies in a folder of the store, on the disk of a machine that is off.
fn stored(plan: &Plan, folder: &str) -> Result<Vec<String>> {
    let listed =
        state_tool(plan.built()?, "debugfs", &["-R", &format!("ls -p /images/{folder}")], plan.disk())?;
    let names = listed.lines().filter_map(|line| line.split('/').nth(5));
    Ok(names.filter(|name| !matches!(*name, "" | "." | "..")).map(str::to_owned).collect())
}

/// A unit leaves the config: once nobody would go back to it and the machine has been healthy without it, its image goes,
/// and what others share stays.
#[test]
fn an_image_whose_unit_is_gone_is_removed_after_a_healthy_boot() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?;
    let archive = plan.file("old.oci.tar");
    let more = LayerBuilder::new().file("srv/more", 0o644, vec![7; 3 << 20]);
    demo::web_image(&plan.built()?.tools)?
        .named("berth.example/old:1")
        .layer(&more)?
        .write_archive(&archive)?;
    let plan = plan.machine(move |machine| machine.read_only_disk(&archive, Bus::Virtio));
    let mut guest = plan.with_config(&format!("{WEB}{OLD}"))?.boot()?;
    guest.healthy("web")?;
    guest.healthy("old")?;
    guest.ready()?;

    let plan = guest.power_off()?;
    assert_eq!((stored(&plan, "index")?.len(), stored(&plan, "layers")?.len()), (2, 3));
    let another = config(&format!("{WEB}[files]\nnote = \"another\"\n"))?;
    let mut guest = plan.with_exact_config(&config(WEB)?).boot()?;
    guest.ready()?;
    // The config before has the unit; from the one after that, nobody goes back to it.
    guest.client()?.config_change(another.into_bytes(), None, false)?;
    guest.wait_for("config   applied from operator")?;
    guest.client()?.config_reload()?;
    guest.wait_for("is kept and in force from the next boot")?;
    guest.client()?.reboot()?;
    guest.wait_event(&Event::Reset { by_guest: true })?;
    guest.rebooted();
    guest.ready()?;
    guest.wait_for("store    removed what nothing needs: 1 image and 1 layer")?;
    assert!(guest.page("/")?.contains(HEADING));

    let plan = guest.power_off()?;
    assert_eq!((stored(&plan, "index")?.len(), stored(&plan, "layers")?.len()), (1, 2));
    assert_eq!(stored(&plan, "tmp")?.len(), 0);
    let mut guest = plan.boot()?;
    guest.ready()?;
    assert!(guest.page("/")?.contains(HEADING));
    Ok(())
}

/// No registry has it, no disk: the unit waits, and starts when an operator has sent it.
#[test]
fn an_archive_that_an_operator_sends_is_what_a_unit_waits_for() -> Result<()> {
    let config = WEB.replace("berth.example/web:1", "berth.example/sent:1");
    let mut guest = Guest::new(Firmware::Direct)?.with_config(&config)?.boot()?;
    guest.ready()?;
    guest.wait_for("web      backoff: image not available")?;
    let image = demo::web_image(&guest.plan().built()?.tools)?.named("berth.example/sent:1");
    let archive = build::gzipped(&image.archive()?)?;
    let half = archive[..archive.len() / 2].to_vec();
    assert!(load(&mut guest, half)?.message.contains("not taken"));
    let job = load(&mut guest, archive)?;
    assert_eq!((job.state.as_str(), job.message.as_str()), ("done", "berth.example/sent:1"));
    guest.healthy("web")?;
    assert!(guest.page("/")?.contains(HEADING));
    let images = guest.client()?.images()?;
    assert!(images[0].kept && images[0].used_by == ["web"], "{images:?}");
    Ok(())
}

fn load(guest: &mut Guest, archive: Vec<u8>) -> Result<JobStatus> {
    let id = guest.client()?.load(Box::new(Cursor::new(archive)), &|_| ())?;
    guest.job_over(id)
}
