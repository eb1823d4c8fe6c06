//! Nothing keeps a machine from going down: a disk that takes no more writes, a PID 1 that fails on its way.

use anyhow::Result;
use berth_tests::{Firmware, Guest};
use serde_json::json;
use std::time::Duration;

/// Units, the last steps' own limit, and the machine's.
const DOWN: Duration = Duration::from_secs(120);

#[test]
fn a_state_disk_that_hangs_is_given_up() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.with_config("")?.without_web_image();
    let mut guest = plan.boot()?;
    guest.ready()?;
    // The first write is let through, the next ones in an hour.
    let mut limits = json!({ "device": "d0", "bps": 0, "bps_rd": 0, "bps_wr": 1 });
    for name in ["iops", "iops_rd", "iops_wr"] {
        limits[name] = json!(0);
    }
    guest.running().qmp("block_set_io_throttle", limits)?;
    guest.running().press_power_button()?;
    let line = guest.wait_for("gave up")?;
    assert!(line.contains("not done within 20"), "{line}");
    assert!(["keeping", "writing", "unmounting"].iter().any(|doing| line.contains(doing)), "{line}");
    guest.running().wait_off(DOWN)?;
    Ok(())
}

#[test]
fn a_panic_in_the_last_steps_is_said_and_no_more() -> Result<()> {
    let plan = Guest::new(Firmware::Direct)?.with_config("")?.without_web_image();
    let mut guest = plan.faulty("berth.fault=panic:shutdown:unmount")?.boot()?;
    guest.ready()?;
    guest.running().press_power_button()?;
    guest.wait_for("gave up unmounting the state: it crashed")?;
    guest.running().wait_off(DOWN)?;
    Ok(())
}
