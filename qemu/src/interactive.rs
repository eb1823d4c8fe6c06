//! `cargo run`: from stale sources to a page in the browser, with what is happening said on the way.

use crate::RunOptions;
use anyhow::{Context, Result, bail};
use berth_image::tools::Tools;
use berth_image::{Format, Options, Outputs};
use berth_qemu::machine::{Bus, Firmware, Kernel, Machine};
use berth_qemu::running::Running;
use berth_qemu::{accel, demo, disk, http, scratch};
use berth_units::control::API_PORT;
use berth_units::limits::NAME_BYTES;
use sha2::{Digest, Sha256};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The machine's disk for `cargo run`: room for images, sparse on the host.
const DISK_BYTES: u64 = 4 << 30;
/// Emulated machines take their time; after this, something is wrong.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn build(formats: &[Format], install: bool) -> Result<()> {
    let (_, outputs) = image(install, formats)?;
    println!("{}", outputs.raw.display());
    outputs.formats.values().for_each(|path| println!("{}", path.display()));
    Ok(())
}

fn image(install: bool, formats: &[Format]) -> Result<(Tools, Outputs)> {
    let say = |line: &str| eprintln!("build    {line}");
    let tools = berth_image::tools::ensure_with(install, &say)?;
    let options = Options { formats: formats.iter().copied().collect(), install, ..Options::default() };
    let outputs = berth_image::build(&options, &say)?;
    Ok((tools, outputs))
}

/// What a machine may be called: its folder and its context get the name.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || text.len() > NAME_BYTES || !text.bytes().all(plain) {
        return Err(format!("a-z, 0-9 and \"-\", at most {NAME_BYTES} of them"));
    }
    Ok(text.to_owned())
}

/// The folder of a machine, which is this process's alone as long as the file is open.
fn claim(name: &str) -> Result<(PathBuf, File)> {
    let folder = berth_image::workspace::cache().join("run").join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let path = folder.join("runs");
    let mut lock = File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "the machine \"{name}\" runs already (process {}): end it there with Ctrl-C, or with \"berth poweroff\", \
                 or start another one beside it with --name other",
                pid.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("{} cannot be locked", path.display()));
        }
    }
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    Ok((folder, lock))
}

pub(crate) fn run(options: &RunOptions) -> Result<()> {
    let (folder, _claim) = claim(&options.name)?;
    let (tools, outputs) = image(options.install, &[])?;
    let web = folder.join("web.oci.tar");
    demo::write_web_image(&tools, &web)?;

    let key = berth_ctl::public_key_line()?;
    let config = match &options.config {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?
        }
        None => demo::config(&key),
    };
    let boot_disk = fresh_disk(options, &outputs, &folder, &config)?;

    let web_port = free_from(options.port)?;
    let api_port = free_from(API_PORT)?;
    let firmware = match options.firmware.as_str() {
        "bios" => Firmware::Bios,
        "direct" => Firmware::Direct,
        _ => Firmware::Uefi,
    };
    let mut machine = Machine::new(&tools, firmware)
        .memory(options.memory)
        .disk(&boot_disk, Bus::Virtio)
        .read_only_disk(&web, Bus::Virtio)
        .kernel(Kernel::of(&outputs)?)
        .config(&config)
        .forward(web_port, 8080)
        .forward(api_port, API_PORT)
        .own_process_group()
        .echo();
    for archive in &options.image {
        machine = machine.read_only_disk(archive, Bus::Virtio);
    }
    eprintln!("boot     {} through {}, {} MiB", accel::detect(&tools), options.firmware, options.memory);
    // Ctrl-C means something else here.
    scratch::remove_on(&[SIGTERM, SIGHUP])?;
    let mut running = machine.boot()?;
    let interrupts = interrupts()?;
    let port = if options.config.is_none() { Some(web_port) } else { None };
    greet(&mut running, &options.name, port, api_port)?;
    attend(&mut running, &interrupts)
}

/// The disk of the last run, unless the image, the config or the operator want a new one.
fn fresh_disk(options: &RunOptions, outputs: &Outputs, folder: &Path, config: &str) -> Result<PathBuf> {
    let disk = folder.join("disk.raw");
    let mark = folder.join("disk.made-from");
    let mut hash = Sha256::new();
    hash.update(std::fs::read(&outputs.manifest)?);
    hash.update(config);
    let made_from: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let same = std::fs::read_to_string(&mark).is_ok_and(|old| old == made_from);
    if !same || options.fresh || !disk.exists() {
        // The mark is there only beside a disk that it tells of.
        match std::fs::remove_file(&mark) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let beside = folder.join("disk.raw.new");
        disk::copy(&outputs.raw, &beside)?;
        disk::grow(&beside, DISK_BYTES)?;
        std::fs::rename(&beside, &disk)?;
        std::fs::write(&mark, made_from)?;
    }
    Ok(disk)
}

/// Pins the machine's key for the context, waits for the page, says how to go on.
fn greet(running: &mut Running, name: &str, web_port: Option<u16>, api_port: u16) -> Result<()> {
    let fingerprint = running.machine_key(PATIENCE)?;
    berth_ctl::write_context(name, "127.0.0.1", api_port, Some(&fingerprint), true)?;
    if let Some(port) = web_port {
        let (_, at) = http::wait_200(port, "/", PATIENCE)?;
        let seconds = at.duration_since(running.started()).as_secs_f64();
        println!("\n  The page is there, {seconds:.1} s after power-on:   http://127.0.0.1:{port}/");
    }
    println!(
        "  In a second terminal:    cargo run -q --bin berth -- ps       (or logs web, slots, boot-times, …)"
    );
    println!("  Ctrl-C once shuts the machine down, twice cuts its power.\n");
    Ok(())
}

fn interrupts() -> Result<Arc<AtomicUsize>> {
    let count = Arc::new(AtomicUsize::new(0));
    signal_hook::flag::register_usize(SIGINT, Arc::clone(&count), 1)?;
    Ok(count)
}

/// Until the machine is off. The first Ctrl-C presses its power button, the next one ends it.
fn attend(running: &mut Running, interrupts: &AtomicUsize) -> Result<()> {
    let mut pressed: Option<Instant> = None;
    loop {
        if running.wait_off(Duration::from_millis(200)).is_ok() {
            return Ok(());
        }
        if interrupts.swap(0, Ordering::Relaxed) > 0 {
            if pressed.is_some() {
                bail!("power cut");
            }
            pressed = Some(Instant::now());
            eprintln!("\nshutting down; Ctrl-C again cuts the power");
            running.press_power_button()?;
        }
    }
}

/// The first port from `wanted` on that nobody uses.
fn free_from(wanted: u16) -> Result<u16> {
    (wanted..=wanted.saturating_add(50))
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .with_context(|| format!("ports {wanted} to {} are all in use", wanted.saturating_add(50)))
}
