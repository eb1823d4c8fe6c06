//! Pulls beside podman's, a part of `bench units`: one image from one registry, Debian's docker-registry on this computer, which
//! the guest reaches. Who pulls, and what is between two pulls, is in `units/examples/peers/pull.rs`.

use super::layers;
use super::page::round;
use super::units::{self, Bench, medians};
use crate::packages::unpacked_tar;
use crate::registry;
use anyhow::Result;
use berth_store::build::{ImageBuilder, gzipped};
use berth_store::digest::Digest;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// What the registry calls it.
const NAME: &str = "bench/pull:1";
/// All pulls, in emulation: each takes up to two minutes, and its removal some seconds.
const MEASURED: Duration = Duration::from_secs(3600);

/// How often each side pulls: each takes a thousand times a start.
fn pulls(n: u32) -> u32 {
    n.div_ceil(10).max(3)
}

/// The figures.
pub(super) fn measure(bench: &Bench, n: u32) -> Result<Value> {
    let n = pulls(n);
    eprintln!("making an image to be pulled");
    let folder = bench.folder.path();
    let archive = folder.join("pulled.tar");
    let image = write_image(&archive)?;
    let served = registry::serve(&bench.tools, folder)?;
    served.push(&bench.tools, &archive, NAME)?;
    fs::remove_file(&archive)?;
    let host = served.host_of_guest();
    let config = format!("[registries.\"{host}\"]\nplain_http = true\n");
    let lines = bench.peers(&["pull", &n.to_string(), &format!("{host}/{NAME}")], &config, MEASURED)?;
    let medians = medians(&lines, "pull", "podman", n)?;
    let most = |words: &str| {
        let bytes = lines.iter().filter_map(|line| line.strip_prefix(words)?.trim().parse().ok());
        bytes.max().unwrap_or(0_u64).div_ceil(1 << 20)
    };
    Ok(json!({
        "pulls": n,
        "pull_image_mb": image.tars / 1_000_000,
        "pull_registry_mb": image.blobs / 1_000_000,
        "pull_ratio_to_podman": round(medians.ratio),
        "pull_seconds_berth": round(medians.berth / 1000.0),
        "pull_seconds_podman": round(medians.peer / 1000.0),
        "pull_peak_mib": most("pull fetch peak ").max(most("pull store peak ")),
        "pull_held_mib": most("pull held "),
    }))
}

/// Bytes of an image's layers.
#[derive(Default)]
struct Sizes {
    tars: usize,
    blobs: usize,
}

/// Writes the archive of an image of Debian's packages: those of other benches and tests, which are there already.
fn write_image(to: &Path) -> Result<Sizes> {
    let mut image = ImageBuilder::new(NAME);
    let mut sizes = Sizes::default();
    for packages in [&units::PACKAGES[..], &layers::PACKAGES, &["base-files", "busybox-static"]] {
        for tar in layers::split(&fs::read(unpacked_tar(packages)?)?)? {
            let blob = gzipped(&tar)?;
            sizes.tars += tar.len();
            sizes.blobs += blob.len();
            image = image.layer_gzip(blob, Digest::of(&tar));
        }
    }
    image.write_archive(to)?;
    Ok(sizes)
}
