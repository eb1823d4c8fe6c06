//! The worker: does what PID 1 says, once.

use crate::{InstallError, Order, Progress, install, open};
use berth_apply::Window;
use berth_units::control::client::Client;
use berth_units::control::{FromWorker, ToWorker};
use berth_units::model::INSTALL_DISKS;
use berth_units::{given, paths};
use berth_updater::guid::Guid;
use berth_updater::verity::parse_root_hash;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two words about how far it is.
const TELL_AGAIN: Duration = Duration::from_millis(500);
/// Bytes of a loader's file at most.
const LOADER_BYTES: u64 = 4 << 20;

/// `berth worker install`.
pub fn run() -> ExitCode {
    match Client::worker().and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The unit's log is the only place left.
            eprintln!("install: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mut init: Client) -> io::Result<()> {
    init.tell(FromWorker::Ready)?;
    loop {
        let ToWorker::Install { root_hash, sector_bytes, disk } = init.recv()?.0 else { continue };
        let done = begin(&root_hash, sector_bytes, &disk, &init);
        init.tell(match done {
            Ok(()) => FromWorker::Installed,
            Err(error) => FromWorker::InstallFailed { error },
        })?;
    }
}

fn begin(root_hash: &str, sector_bytes: u32, guid: &str, init: &Client) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut disks = given::block_devices(&given::block_fds(), INSTALL_DISKS.len());
    let mut take = |name: &str| -> Result<File, String> {
        let at = disks.iter().position(|(of, _)| of == name);
        let at = at.ok_or_else(|| format!("the {name} could not be opened; see \"berth logs berth\""))?;
        disks.remove(at).1.map_err(|error| format!("the {name}: {error}"))
    };
    let [medium, disk] = INSTALL_DISKS;
    let (medium, disk) = (take(medium)?, take(disk)?);
    let loader = |name: &str| read(&Path::new(paths::LOADERS).join(name), LOADER_BYTES);
    let [efi, boot, core] = [loader("BOOTX64.EFI")?, loader("boot.img")?, loader("core.img")?];
    let seed = config().map_err(|error| text(&error))?;
    let order = Order {
        root_hash: parse_root_hash(root_hash).ok_or("PID 1 sent no root hash")?,
        sector_bytes,
        disk: Guid::parse(guid).ok_or("PID 1 sent no GUID for the disk")?,
        seed: seed.as_deref(),
        efi: &efi,
        bios: (&boot, &core),
    };
    let mut media = open(medium).map_err(|error: InstallError| text(&error))?;
    let mut disk = Window::whole(disk).map_err(|error| text(&error))?;
    let mut told: Option<(&str, Instant)> = None;
    let mut progress = |now: Progress| {
        if told.is_some_and(|(step, at)| step == now.step && at.elapsed() < TELL_AGAIN) {
            return;
        }
        told = Some((now.step, Instant::now()));
        // PID 1 that is gone ends this process; nobody else hears it.
        let (step, done, total) = (now.step.to_owned(), now.done, now.total);
        let _ = init.tell(FromWorker::InstallProgress { step, done, total });
    };
    install(&mut media, &order, &mut disk, &mut progress).map_err(|error| text(&error))
}

/// The config for the new machine, compressed.
fn config() -> io::Result<Option<Vec<u8>>> {
    let text = match std::fs::read(paths::INSTALL_CONFIG) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&text)?;
    packed.finish().map(Some)
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| about(&error))?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, most), &mut bytes).map_err(|error| about(&error))?;
    Ok(bytes)
}
