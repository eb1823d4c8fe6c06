//! The outputs: disk images, the parts for direct boot, manifest and SBOM.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_tuf::release;
use berth_updater::layout::Slot;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::bundle::{self, Bundle, FileFacts, Inputs, Options};
use crate::cache::{self, Key, hex};
use crate::formats::{self, Format};
use crate::run::Progress;
use crate::{disk, sbom, stamp};

/// What a build leaves in its folder.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// The disk, sparse.
    pub raw: PathBuf,
    /// The other forms that were asked for.
    pub formats: BTreeMap<Format, PathBuf>,
    /// For direct boot, with `raw` as the disk.
    pub kernel: PathBuf,
    /// For direct boot.
    pub initrd: PathBuf,
    /// The command line of direct boot, in a file.
    pub cmdline: PathBuf,
    /// Every file, its size, sum and origin.
    pub manifest: PathBuf,
    /// SPDX 2.3.
    pub sbom: PathBuf,
    /// A folder with the three parts of a release and what they are: what `berth repo publish` takes.
    pub update: PathBuf,
    /// What is in slot A.
    pub bundle: Bundle,
}

/// The manifest.
#[derive(Serialize)]
struct Manifest<'a> {
    name: &'static str,
    version: &'a str,
    build_time: u64,
    root_hash: String,
    files: Vec<FileFacts>,
}

/// What the parts of a release are; `berth_tuf::release` is the format's other side.
#[derive(Serialize)]
struct Facts<'a> {
    product: &'static str,
    version: &'a str,
    architecture: &'static str,
    built: u64,
    root_hash: String,
}

/// Builds what is stale.
pub fn build(options: &Options, progress: Progress<'_>) -> Result<Outputs> {
    let inputs = bundle::inputs(options, progress)?;
    let bundle = bundle::from_inputs(&inputs, options, progress)?;
    let out = &options.out;
    fs::create_dir_all(out).with_context(|| format!("could not create {}", out.display()))?;
    let mut outputs = Outputs {
        raw: out.join("berth.raw"),
        formats: BTreeMap::new(),
        kernel: out.join("vmlinuz"),
        initrd: out.join("initrd"),
        cmdline: out.join("cmdline.txt"),
        manifest: out.join("manifest.json"),
        sbom: out.join("sbom.spdx.json"),
        update: out.join("update"),
        bundle,
    };
    let code = concat!(
        include_str!("image.rs"),
        include_str!("disk.rs"),
        include_str!("esp.rs"),
        include_str!("formats.rs"),
        include_str!("iso.rs"),
        include_str!("sbom.rs")
    );
    let key = Key::new("image", code)
        .with(&outputs.bundle.key)
        .with(&inputs.cores.key)
        .with(&inputs.state.key)
        .with(stamp::epoch()?.to_string())
        .finish();
    let stamp = out.join(".key");
    let current =
        fs::read_to_string(&stamp).is_ok_and(|text| text == key) && outputs.raw.exists() && !options.fresh;
    if !current {
        let _ = fs::remove_file(&stamp);
        let _lock = cache::lock("image", progress)?;
        progress("putting the disk together");
        write_all(&inputs, options, &outputs)?;
        for format in Format::ALL {
            let _ = fs::remove_file(out.join(format.file()));
        }
        write(&stamp, key.as_bytes())?;
    }
    let mut made = BTreeMap::new();
    let source = formats::Source {
        tools: &inputs.tools,
        cores: &inputs.cores,
        bundle: &outputs.bundle,
        raw: &outputs.raw,
    };
    for &format in &options.formats {
        let there = out.join(format.file());
        let path = if there.exists() { there } else { formats::make(format, &source, progress)? };
        made.insert(format, path);
    }
    outputs.formats = made;
    Ok(outputs)
}

fn write_all(inputs: &Inputs, options: &Options, outputs: &Outputs) -> Result<()> {
    let bundle = &outputs.bundle;
    let half = outputs.raw.with_extension("new");
    let mut disk = disk::create(&inputs.tools, &inputs.cores, &inputs.state.raw, &half)?;
    disk.install(&inputs.tools, Slot::A, bundle)?;
    drop(disk);
    rename(&half, &outputs.raw)?;
    for (from, to) in [(&bundle.kernel, &outputs.kernel), (&bundle.initrd, &outputs.initrd)] {
        copy(from, to)?;
    }
    write_release(bundle, &options.version, &outputs.update)?;
    write(&outputs.cmdline, format!("{}\n", bundle.cmdline).as_bytes())?;
    let mut files = bundle.files.clone();
    files.extend(esp_facts(inputs, options, bundle)?);
    files.sort();
    let manifest = Manifest {
        name: "berth",
        version: &options.version,
        build_time: stamp::epoch()?,
        root_hash: hex(&bundle.root_hash),
        files,
    };
    write(&outputs.sbom, &json(&sbom::document(inputs, options, &manifest.files)?)?)?;
    write(&outputs.manifest, &json(&manifest)?)
}

/// What `berth repo publish` takes: the parts of a system, and what they are, in a folder.
pub fn write_release(bundle: &Bundle, version: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    let part = |name: &str| folder.join(name);
    copy(&bundle.uki, &part(release::UKI))?;
    copy(&bundle.root, &part(release::ROOT))?;
    copy(&bundle.verity, &part(release::VERITY))?;
    let facts = Facts {
        product: release::PRODUCT,
        version,
        architecture: release::ARCHITECTURE,
        built: stamp::epoch()?,
        root_hash: hex(&bundle.root_hash),
    };
    write(&part(release::FACTS), &json(&facts)?)
}

/// In the place of what is there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let _ = fs::remove_file(to);
    fs::copy(from, to).map(drop).with_context(|| format!("could not write {}", to.display()))
}

/// The ESP's files; the sums and the env file are ours, the rest is made from Debian's parts.
fn esp_facts(inputs: &Inputs, options: &Options, bundle: &Bundle) -> Result<Vec<FileFacts>> {
    let facts = |path: &str, bytes: &[u8], package: &str, version: String| FileFacts {
        place: "esp".into(),
        path: path.into(),
        mode: "0644".into(),
        size: bytes.len() as u64,
        sha256: hex(&Sha256::digest(bytes)),
        package: package.into(),
        version,
    };
    let kernel = inputs.debian.kernel()?;
    let grub_version = inputs.tools.version("grub-efi-amd64-bin")?;
    let uki = read(&bundle.uki)?;
    Ok(vec![
        facts("/EFI/BOOT/BOOTX64.EFI", &read(&inputs.cores.efi)?, "grub-efi-amd64-bin", grub_version),
        facts("/EFI/berth/a.efi", &uki, &kernel.real, kernel.version.clone()),
        facts("/EFI/berth/a.env", bundle.env.as_bytes(), "berth", options.version.clone()),
    ])
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).context("writing JSON")?;
    text.push(b'\n');
    Ok(text)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("could not write {}", path.display()))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("could not move {} into place", from.display()))
}
