//! Software of others, from a registry, as an operator runs it: HAProxy over ten web servers that it finds by their name,
//! PostgreSQL with a volume, on a machine of 512 MiB. What runs where stands in `software/berth.toml`.

use anyhow::{Context, Result, ensure};
use berth_image::tools::{self, Tools};
use berth_qemu::disk;
use berth_store::build::{ImageBuilder, LayerBuilder};
use berth_tests::registry::{self, Served};
use berth_tests::{Firmware, Guest, debian};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Pulling three images, unpacking them and making a database, in emulation.
const FIRST_START: Duration = Duration::from_secs(600);
/// From an event to its consequence, where ten units are looked at every five seconds.
const SOON: Duration = Duration::from_secs(120);
/// Requests at a time.
const CLIENTS: u64 = 8;

/// The images, of Debian's packages and a script.
fn images(dir: &Path) -> Result<Vec<(&'static str, std::path::PathBuf)>> {
    let image = |name: &'static str, packages: &[&str], more: LayerBuilder| {
        let tar = fs::read(debian::unpacked_tar(packages)?)?;
        let image =
            ImageBuilder::new(name).layer_tar(&tar, true)?.layer(&more)?.env("PATH", "/usr/sbin:/usr/bin");
        let path = dir.join(format!("{}.tar", name.replace(['/', ':'], "-")));
        image.write_archive(&path)?;
        Ok::<_, anyhow::Error>((name, path))
    };
    let users = "root:x:0:0::/root:/bin/sh\npostgres:x:100:100::/var/lib/postgresql:/bin/sh\n";
    let web = LayerBuilder::new()
        .dir("tmp", 0o1777)
        .dir("srv/www/cgi-bin", 0o755)
        .file("srv/serve", 0o644, include_str!("software/serve"))
        .file("srv/www/index.html", 0o644, "hello\n")
        .file(
            "srv/www/cgi-bin/die",
            0o755,
            "#!/usr/bin/busybox sh\n/usr/bin/busybox kill -9 $(/usr/bin/busybox cat /tmp/httpd)\n",
        )
        .file(
            "srv/www/cgi-bin/hang",
            0o755,
            "#!/usr/bin/busybox sh\n/usr/bin/busybox kill -STOP $(/usr/bin/busybox cat /tmp/httpd)\n",
        );
    let db = LayerBuilder::new()
        .dir("tmp", 0o1777)
        .file("etc/passwd", 0o644, users)
        .file("etc/group", 0o644, "root:x:0:\npostgres:x:100:\n")
        .file("srv/start", 0o644, include_str!("software/start"))
        .file("srv/visit", 0o644, include_str!("software/visit"))
        .owner(100, 100)
        .dir("var/lib/postgresql", 0o700);
    Ok(vec![
        image("software/haproxy:1", &["base-files", "haproxy"], LayerBuilder::new().dir("tmp", 0o1777))?,
        image("software/web:1", &["base-files", "busybox-static"], web)?,
        image(
            "software/postgresql:17",
            &["base-files", "busybox-static", "dash", "libc-bin", "postgresql-17"],
            db,
        )?,
    ])
}

fn serve_images(tools: &Tools, dir: &Path) -> Result<Served> {
    let served = registry::serve(tools, dir)?;
    for (name, archive) in images(dir)? {
        served.push(tools, &archive, name)?;
    }
    Ok(served)
}

/// A load generator that runs.
struct Load(Child);

/// What it has seen.
#[derive(Debug)]
struct Seen {
    complete: u64,
    lost: u64,
}

impl Load {
    /// For so many seconds.
    fn begin(tools: &Tools, url: &str, seconds: u32) -> Result<Self> {
        let mut command = tools.command("ab");
        command.args([
            "-q",
            "-r",
            "-l",
            "-s",
            "30",
            "-c",
            &CLIENTS.to_string(),
            "-t",
            &seconds.to_string(),
            url,
        ]);
        Ok(Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?))
    }

    fn end(self) -> Result<Seen> {
        let output = self.0.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "ab: {}{text}", String::from_utf8_lossy(&output.stderr));
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().parse::<u64>().ok())
        };
        let complete = number("Complete requests:").with_context(|| format!("ab says {text}"))?;
        let failed = number("Failed requests:").with_context(|| format!("ab says {text}"))?;
        Ok(Seen { complete, lost: failed + number("Non-2xx responses:").unwrap_or(0) })
    }
}

/// What a page holds.
fn body(guest: &Guest, path: &str) -> Result<String> {
    let page = guest.page(path)?;
    let (_, body) = page.split_once("\r\n\r\n").with_context(|| page.clone())?;
    Ok(body.to_owned())
}

/// Waits until the load balancer knows of so many servers.
fn servers(guest: &Guest, count: usize, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    loop {
        let seen = body(guest, "/servers").unwrap_or_default();
        if seen == count.to_string() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "HAProxy knows of {seen:?} servers, not {count}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until the database has counted this start.
fn visit(guest: &mut Guest, count: u32) -> Result<()> {
    guest.until_within("visits", FIRST_START, |state, _| matches!(state, "finished" | "failed"))?;
    let (visits, db) = (guest.log("visits")?, guest.log("db")?.join("\n"));
    ensure!(visits.last() == Some(&format!("visits: {count}")), "the database says {visits:?}:\n{db}");
    Ok(())
}

/// Restarts of all web instances.
fn restarts(guest: &mut Guest) -> Result<u32> {
    let end = Instant::now() + SOON;
    let units = loop {
        // A machine that serves with all it has, on an emulated processor, may let an operator wait.
        match guest.client()?.units() {
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(200)),
            answer => break answer?,
        }
    };
    Ok(units.iter().filter(|unit| unit.name.starts_with("web.")).map(|unit| unit.restarts).sum())
}

#[test]
fn a_load_balancer_ten_servers_and_a_database() -> Result<()> {
    let tools = tools::ensure(&|_| ())?;
    let dir = tempfile::tempdir()?;
    let served = serve_images(&tools, dir.path())?;
    let config = include_str!("software/berth.toml").replace("REGISTRY", &served.host_of_guest());
    let plan = Guest::new(Firmware::Uefi)?
        .with_config(&config)?
        .without_web_image()
        .reaches_the_host()
        .prepare(|path, _| disk::grow(path, 3 << 30))?;
    let mut guest = plan.boot()?;
    visit(&mut guest, 1)?;
    servers(&guest, 10, SOON)?;
    assert_eq!(body(&guest, "/")?, "hello\n");
    let url = format!("http://127.0.0.1:{}/", guest.ports().0);

    // One is killed: what was under way on it is lost, and nothing else.
    let load = Load::begin(&tools, &url, 20)?;
    let _ = guest.answer("/cgi-bin/die");
    let end = Instant::now() + SOON;
    while restarts(&mut guest)? != 1 {
        ensure!(Instant::now() < end, "no instance was restarted");
        std::thread::sleep(Duration::from_millis(200));
    }
    let seen = load.end()?;
    println!("one of ten killed: {seen:?}");
    assert!(seen.lost <= CLIENTS, "more is lost than was under way: {seen:?}");
    assert!(seen.complete > 100, "{seen:?}");
    servers(&guest, 10, SOON)?;

    // One hangs: it leaves the answers, is restarted and comes back.
    let load = Load::begin(&tools, &url, 40)?;
    let _ = guest.answer("/cgi-bin/hang");
    servers(&guest, 9, SOON)?;
    // Under load it is its queue that is full, and takes no connection; without, an answer that is missing.
    guest.wait_for("sick: unhealthy (2 checks in a row failed: http://localhost:80/ ")?;
    servers(&guest, 10, SOON)?;
    let seen = load.end()?;
    println!("one of ten hung: {seen:?}");
    assert!(seen.complete > 10 * seen.lost, "one in ten hung for a while: {seen:?}");
    assert_eq!(restarts(&mut guest)?, 2, "two were restarted, once each");

    // The registry is away, the machine is started anew: everything comes up, and the database has its rows.
    drop(served);
    guest.client()?.reboot()?;
    guest.rebooted();
    guest.ready()?;
    visit(&mut guest, 2)?;
    servers(&guest, 10, SOON)?;
    assert_eq!(body(&guest, "/")?, "hello\n");
    let machine = guest.client()?.machine()?;
    println!("{} of {} KiB of memory are free", machine.memory_available_kib, machine.memory_kib);
    Ok(())
}
