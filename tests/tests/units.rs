//! Units on a booted machine: what a container may, what it is kept from, and what is said about one that fails.

use anyhow::Result;
use berth_tests::{Firmware, Guest, Plan};
use std::time::{Duration, Instant};

/// A unit whose program is a line of shell.
fn shell(name: &str, line: &str, more: &str) -> String {
    format!(
        "[units.{name}.container]\nimage = \"berth.example/web:1\"\nuser = \"root\"\n\
         command = [\"/bin/sh\", \"-c\", '''{line}''']\n{more}\n"
    )
}

/// Asks until a unit's state and reason satisfy `wanted`.
fn until(guest: &mut Guest, unit: &str, wanted: impl Fn(&str, &str) -> bool) -> Result<()> {
    let end = Instant::now() + berth_tests::SOON;
    loop {
        let status = guest.unit(unit)?;
        if wanted(&status.state, &status.reason) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "{unit} is {}: {}", status.state, status.reason);
        // Each question is a connection of its own; there is no event for a state.
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn plan(units: &[String]) -> Result<Plan> {
    Guest::new(Firmware::Direct)?.with_config(&units.concat())
}

#[test]
fn a_container_sees_itself_only_and_has_few_rights() -> Result<()> {
    let look = "b=/bin/busybox; $b cat /proc/net/dev /proc/self/uid_map; $b grep -E \"NoNewPrivs|Seccomp:\" \
                /proc/self/status; echo uid $($b id -u) greeting $GREETING in $($b pwd); $b ps -o pid | $b wc -l; \
                $b mknod /data/null c 1 3 || echo no nodes; $b touch /x || echo root is read-only; \
                $b touch /data/x && echo data is writable; exec $b sleep 1000";
    let alone = shell(
        "alone",
        look,
        "read_only = true\nworkdir = \"/srv\"\ntmpfs = { \"/data\" = \"1M\" }\nenv = { GREETING = \"hello\" }\n\
         [units.alone.network]\nmode = \"none\"\n",
    );
    let late = shell(
        "late",
        "exec /bin/busybox sleep 1000",
        "[units.late.unit]\nrequires = [\"alone\"]\nafter = [\"alone\"]\n",
    );
    let mut guest = plan(&[alone, late])?.boot()?;
    guest.ready()?;
    guest.healthy("alone")?;
    guest.healthy("late")?;
    let log = guest.log("alone")?.join("\n");
    let has = |text: &str| assert!(log.contains(text), "no {text:?} in:\n{log}");
    has("lo:");
    has("uid 0 greeting hello in /srv");
    has("NoNewPrivs:\t1");
    has("Seccomp:\t2");
    has("no nodes");
    has("root is read-only");
    has("data is writable");
    assert!(!log.contains("eth0"), "{log}");
    let map = log.lines().find(|line| line.trim_end().ends_with(" 65536")).unwrap_or_default();
    let outside = map.split_whitespace().nth(1).and_then(|id| id.parse::<u32>().ok());
    assert!(outside.is_some_and(|id| id >= 1 << 20), "root inside is {outside:?} outside");
    Ok(())
}

#[test]
fn a_unit_that_fails_is_told_with_its_reason() -> Result<()> {
    let crash = shell(
        "crash",
        "exit 3",
        "[units.crash.restart]\npolicy = \"always\"\ndelay = \"200ms\"\nlimit = 2\ninterval = \"60s\"\n",
    );
    let greedy = shell(
        "greedy",
        "x=aaaaaaaa; while :; do x=$x$x; done",
        "[units.greedy.resources]\nmemory = \"16M\"\n[units.greedy.restart]\npolicy = \"no\"\n",
    );
    let chatty =
        shell("chatty", "/bin/busybox yes | /bin/busybox head -c 3000000; exec /bin/busybox sleep 1000", "");
    let nobody = "[units.nobody.container]\nimage = \"berth.example/none:1\"\n".to_owned();
    let mut guest = plan(&[crash, greedy, chatty, nobody])?.boot()?;
    guest.ready()?;
    until(&mut guest, "crash", |state, reason| state == "failed" && reason.contains("exit code 3"))?;
    until(&mut guest, "greedy", |state, reason| state == "failed" && reason.contains("memory"))?;
    until(&mut guest, "nobody", |_, reason| reason.contains("berth.example/none:1"))?;
    guest.healthy("chatty")?;
    let kept: usize = guest.log("chatty")?.iter().map(|line| line.len() + 24).sum();
    assert!((100_000..600_000).contains(&kept), "{kept} bytes are kept of 3 MB");
    Ok(())
}
