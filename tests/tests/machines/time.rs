//! A machine whose hardware's clock is wrong asks servers, some of which lie, and is right: now, and after a power cut.

use anyhow::{Context, Result, ensure};
use berth_net::sntp::message::{BYTES, Stamp};
use berth_tests::{Firmware, Guest, SOON};
use serde_json::json;
use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the honest servers are ahead of this computer: what the machine shows then has come from nowhere else.
const AHEAD: Duration = Duration::from_secs(3 * 86_400);
/// Between two looks at the hardware's clock and at what the disk has, which tell nobody that they were set.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// A time server that is ahead of this computer by so many seconds; it lasts as long as the test program. Its port.
fn server(ahead: i128) -> Result<u16> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    let port = socket.local_addr()?.port();
    std::thread::spawn(move || {
        let mut bytes = [0; 2 * BYTES];
        while let Ok((BYTES, asker)) = socket.recv_from(&mut bytes) {
            let Ok(Ok(ns)) = now().map(|now| i128::try_from(now.as_nanos())) else { return };
            let stamp = Stamp::of_unix(ns + ahead * 1_000_000_000).0.to_be_bytes();
            let mut answer = [0; BYTES];
            (answer[0], answer[1]) = (0x24, 2);
            answer[24..32].copy_from_slice(&bytes[40..48]);
            answer[32..40].copy_from_slice(&stamp);
            answer[40..48].copy_from_slice(&stamp);
            if socket.send_to(&answer, asker).is_err() {
                return;
            }
        }
    });
    Ok(port)
}

#[test]
fn a_wrong_clock_is_set_by_the_majority_and_never_falls_behind_again() -> Result<()> {
    let ahead = i128::from(AHEAD.as_secs());
    let servers = [server(ahead)?, server(-10 * 365 * 86_400)?, server(ahead)?];
    let list: Vec<String> = servers.iter().map(|port| format!("\"10.0.2.2:{port}\"")).collect();
    let config = format!("[time]\nservers = [{}]\n", list.join(", "));
    let old = ["-rtc", "base=2000-01-01"];
    let plan = Guest::new(Firmware::Direct)?.with_config(&config)?.without_web_image();
    let plan = plan.reaches_the_host().machine(move |machine| machine.raw(&old));
    let mut guest = plan.boot()?;
    guest.ready()?;
    guest.until("time", |_, says| says.contains("2 of 3 time servers agree"))?;
    let clock = guest.client()?.machine()?.clock;
    ensure!(clock.said.contains(" s, set; 2 of 3 time servers agree"), "{clock:?}");
    ensure!(clock.set && clock.offset_ns.is_some_and(|ns| ns > 0), "{clock:?}");
    let truth = now()?.saturating_add(AHEAD);
    ensure!(truth.as_secs().abs_diff(clock.now_s) < 15, "{clock:?}, but it is {truth:?}");

    // The hardware's clock is set by it, to the day, and the next start has it on the disk.
    let end = Instant::now() + SOON;
    let (set, kept) = loop {
        let date = guest.running().qmp("qom-get", json!({"path": "/machine", "property": "rtc-time"}))?;
        let year = date["tm_year"].as_i64().context("QEMU tells no date")?;
        let kept = guest.client()?.machine()?.clock.kept_s;
        let kept = kept.filter(|&kept| kept >= truth.as_secs() - 15);
        if year > 100 && kept.is_some() || Instant::now() > end {
            break (date, kept);
        }
        std::thread::sleep(LOOK_AGAIN);
    };
    ensure!(set["tm_year"].as_i64() > Some(120), "the hardware's clock was not set: {set}");
    let kept = kept.context("the time was not kept for the next start")?;

    // The power fails, the battery is empty, the servers are gone: it is not 2000 again, and the machine says what is the matter.
    let mut guest = guest.cut_power()?.machine(|machine| machine.isolated()).boot()?;
    let line = guest.wait_for("time     no time server of 3 ")?;
    let clock = guest.client()?.machine()?.clock;
    ensure!(!clock.set && clock.offset_ns.is_none(), "{line}: {clock:?}");
    ensure!(clock.now_s >= kept, "{clock:?}, but {kept} had been kept");
    Ok(())
}
