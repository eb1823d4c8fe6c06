//! `bench layers`: the forms that an image's layers can have on disk, as the table of `docs/images.md`.
//!
//! One image of Debian's packages is put on a disk in each form. How long that takes is measured here, how fast the image
//! starts and is read on a machine with the image's kernel, in turn.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use super::page::median;
use crate::bare;
use crate::machine::{Bus, Firmware, Machine};
use crate::packages::unpacked_tar;
use crate::scratch::{self, Scratch};
use anyhow::{Context, Result, ensure};
use berth_image::tools::{self, Tools};
use berth_image::{Options, programs, workspace};
use berth_store::build::{self, ImageBuilder};
use berth_store::digest::Digest;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Layers of the image.
const LAYERS: u64 = 5;
/// What is in it.
pub(super) const PACKAGES: [&str; 5] = ["base-files", "busybox-static", "dash", "libc-bin", "postgresql-17"];
/// What is read of it when something starts.
const PROGRAM: &str = "usr/lib/postgresql/17/bin/postgres";
/// Ends a hang.
const PATIENCE: Duration = Duration::from_secs(900);
/// What the machine's program needs of the kernel.
const MODULES: [&str; 6] = ["virtio_blk", "crc32c_generic", "quota_v2", "ext4", "overlay", "erofs"];
/// Bytes of the disk; it is sparse.
const DISK: u64 = 3 << 30;

/// A form: its folder on the disk, what it is, options of `mkfs.erofs` (`None`: folders), what the worker needs.
struct Form {
    folder: &'static str,
    what: &'static str,
    erofs: Option<&'static [&'static str]>,
    privilege: &'static str,
}

const FORMS: [Form; 4] = [
    Form {
        folder: "form-1-folders",
        what: "folders",
        erofs: None,
        privilege: "CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP in the store's folder",
    },
    Form {
        folder: "form-2-erofs",
        what: "erofs, plain",
        erofs: Some(&[]),
        privilege: "none; PID 1 mounts a file system that a worker wrote",
    },
    Form {
        folder: "form-3-erofs-lz4",
        what: "erofs, lz4hc",
        erofs: Some(&["-zlz4hc,9"]),
        privilege: "the same",
    },
    Form {
        folder: "form-4-erofs-verity",
        what: "erofs, plain, sealed by fs-verity",
        erofs: Some(&[]),
        privilege: "the same",
    },
];

/// What was measured of a form.
#[derive(Default)]
struct Measured {
    /// Seconds to make it of compressed layers, checked and synced.
    made: f64,
    /// Bytes that it takes on the disk.
    bytes: u64,
    /// What the machine told, milliseconds, by figure.
    told: BTreeMap<String, Vec<f64>>,
}

/// Runs it all and prints the table.
pub fn run() -> Result<()> {
    scratch::remove_on(&scratch::ENDS)?;
    let say = |line: &str| eprintln!("{line}");
    let tools = tools::ensure(&say)?;
    let outputs = berth_image::build(&Options::default(), &say)?;
    let folder = Scratch::new("layers")?;
    let state = folder.path().join("state");
    fs::create_dir(&state)?;
    let layers = split(&fs::read(unpacked_tar(&PACKAGES)?)?)?;
    let bytes: usize = layers.iter().map(Vec::len).sum();
    say(&format!("an image of {LAYERS} layers, {} MB unpacked", bytes / 1_000_000));
    let mut image = ImageBuilder::new("bench/layers:1");
    let mut blobs = Vec::new();
    for (number, tar) in layers.iter().enumerate() {
        let path = folder.path().join(format!("{number}.tar.gz"));
        let blob = build::gzipped(tar)?;
        fs::write(&path, &blob)?;
        image = image.layer_gzip(blob, Digest::of(tar));
        blobs.push(path);
    }
    let archive = folder.path().join("image.tar");
    image.write_archive(&archive)?;
    fs::write(state.join("program"), PROGRAM)?;

    let mut all = Vec::new();
    for form in &FORMS {
        say(&format!("making {}", form.what));
        let target = state.join(form.folder);
        fs::create_dir(&target)?;
        let begun = Instant::now();
        match form.erofs {
            None => folders(&archive, &folder.path().join("store"), &target)?,
            Some(options) => erofs(&tools, &blobs, options, &target)?,
        }
        let made = begun.elapsed().as_secs_f64();
        all.push(Measured { made, bytes: allocated(&target)?, ..Measured::default() });
    }
    let path = folder.path().join("state.ext4");
    File::create(&path)?.set_len(DISK)?;
    let mut command = tools.command("mke2fs");
    command.args(["-q", "-t", "ext4", "-O", "verity,quota", "-d"]).arg(&state).arg(&path);
    tools::output("mke2fs", &mut command)?;

    let program = programs::layers(&say)?;
    let kernel = bare::kernel(&outputs, folder.path(), &program, &MODULES)?;
    say("measuring on a machine");
    let machine = Machine::new(&tools, Firmware::Direct).kernel(kernel).disk(&path, Bus::Virtio);
    let mut running = machine.no_network().no_reboot().no_watchdog().boot()?;
    running.wait_off(PATIENCE)?;
    let lines = running.console().lines();
    ensure!(lines.iter().any(|line| line.text == "done"), "not measured:\n{}", running.console().tail());
    for line in lines {
        let words: Vec<&str> = line.text.split(' ').collect();
        let [form, figure, value] = words[..] else { continue };
        let Some(at) = FORMS.iter().position(|known| known.folder == form) else { continue };
        if let Some(measured) = all.get_mut(at) {
            let value = value.parse().with_context(|| line.text.clone())?;
            measured.told.entry(figure.to_owned()).or_default().push(value);
        }
    }
    print(&all)
}

fn print(all: &[Measured]) -> Result<()> {
    println!(
        "| form | made, s | on disk, MB | start cold, ms | start warm, ms | read, MB/s | what the worker needs |\n|---|---|---|---|---|---|---|"
    );
    for (form, measured) in FORMS.iter().zip(all) {
        let middle = |figure: &str| median(&mut measured.told.get(figure).cloned().unwrap_or_default());
        println!(
            "| {} | {:.1} | {} | {:.0} | {:.1} | {:.0} | {} |",
            form.what,
            measured.made,
            measured.bytes / 1_000_000,
            middle("cold"),
            middle("warm"),
            middle("bytes") / 1000.0 / middle("read"),
            form.privilege,
        );
    }
    let lines = |paths: &[&str]| -> Result<usize> {
        paths.iter().map(|path| Ok(fs::read_to_string(workspace::repo().join(path))?.lines().count())).sum()
    };
    println!(
        "\nOf our own, folders are {} lines (store/src/unpack.rs, tree.rs).",
        lines(&["store/src/unpack.rs", "store/src/tree.rs"])?
    );
    Ok(())
}

/// The tar's files, each in the layer that chance gives it (hard links where their target is), folders in all.
pub(super) fn split(tar: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut layers: Vec<_> = (0..LAYERS).map(|_| tar::Builder::new(Vec::new())).collect();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let path = entry.path()?.into_owned();
        let mut header = entry.header().clone();
        let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if kind.is_dir() {
            layers.iter_mut().try_for_each(|layer| layer.append_data(&mut header, &path, &[][..]))?;
            continue;
        }
        let named = if kind.is_hard_link() { link.clone().unwrap_or_default() } else { path.clone() };
        let mut hasher = DefaultHasher::new();
        named.to_string_lossy().trim_start_matches("./").hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % LAYERS)?;
        let Some(layer) = layers.get_mut(at) else { continue };
        match link {
            Some(link) => layer.append_link(&mut header, &path, &link)?,
            None if kind.is_file() => layer.append_data(&mut header, &path, &content[..])?,
            None => {}
        }
    }
    layers.into_iter().map(|layer| Ok(layer.into_inner()?)).collect()
}

/// As the store does it; its folders become the form's, in the image's order.
fn folders(archive: &Path, store: &Path, target: &Path) -> Result<()> {
    let (image, _) = build::unpack(archive, store, "bench/layers:1").map_err(anyhow::Error::msg)?;
    for (number, hex) in image.layers.iter().enumerate() {
        fs::rename(store.join("layers").join(hex), target.join(number.to_string()))?;
    }
    Ok(())
}

/// Each layer a file.
fn erofs(tools: &Tools, blobs: &[PathBuf], options: &[&str], target: &Path) -> Result<()> {
    for (number, blob) in blobs.iter().enumerate() {
        let file = target.join(number.to_string());
        let mut command = tools.command("mkfs.erofs");
        command.args(["--quiet", "--tar=f", "--gzip", "--aufs", "-T0"]).args(options).arg(&file).arg(blob);
        tools::output("mkfs.erofs", &mut command)?;
        File::open(&file)?.sync_all()?;
    }
    Ok(())
}

/// What a folder takes on its disk.
fn allocated(path: &Path) -> Result<u64> {
    let found = fs::symlink_metadata(path)?;
    let mut bytes = found.blocks() * 512;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            bytes += allocated(&entry?.path())?;
        }
    }
    Ok(bytes)
}
