//! Finds an image by reference among the places that hold some, down to its manifest.

use crate::digest::Digest;
use crate::error::Error;
use crate::layout::Layout;
use crate::oci::{Descriptor, ImageConfig, Index, Manifest, SavedImage, wrong_platform};
use crate::reference::Reference;
use crate::{limits, show};

/// An image whose every description has been checked against its digest; the layers have not been read.
pub struct Image<'a> {
    /// Where its blobs lie.
    pub layout: &'a Layout,
    /// The manifest's digest; of an archive by `docker save` without one, the config's ("image id").
    pub digest: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers as stored, bottom first; as many as the config has diff ids.
    pub layers: Vec<StoredLayer>,
}

/// A layer as it lies in a layout.
pub struct StoredLayer {
    /// Its file in the layout.
    pub member: String,
    /// What the manifest says of it; `docker save` without manifests says nothing, the diff id alone counts there.
    pub blob: Option<(Digest, u64)>,
    /// Digest of the tar inside.
    pub diff_id: Digest,
}

enum Hit {
    Oci(Descriptor),
    Saved(SavedImage),
}

/// Finds the image. `problems` are places that could not be looked into: they are told when nothing is found.
pub fn find<'a>(
    layouts: &'a [Layout],
    reference: &Reference,
    problems: &[String],
) -> Result<Image<'a>, Error> {
    let mut problems = problems.to_vec();
    let mut seen = Vec::new();
    let mut hits: Vec<(&Layout, Hit)> = Vec::new();
    for layout in layouts {
        match images_of(layout) {
            Ok(images) => {
                for (names, hit) in images {
                    let by_digest =
                        matches!(&hit, Hit::Oci(d) if names.is_empty() && reference.pin == Some(d.digest));
                    if by_digest || names.iter().any(|n| reference.names(n)) {
                        hits.push((layout, hit));
                    } else {
                        let name = names.first().map_or("an image without a name", String::as_str);
                        seen.push(format!("{} ({})", show::name(name.as_bytes()), layout.name));
                    }
                }
            }
            Err(e) => problems.push(e.to_string()),
        }
    }
    if hits.is_empty() {
        return Err(not_found(layouts.len(), &seen, &problems));
    }
    let mut image: Option<Image<'a>> = None;
    let mut refused = None;
    for (layout, hit) in hits {
        let found = match hit {
            Hit::Oci(descriptor) => resolve(layout, &descriptor, reference.pin, 0),
            Hit::Saved(saved) => from_saved(layout, &saved, reference.pin),
        };
        match (found, &image) {
            (Ok(found), None) => image = Some(found),
            (Ok(found), Some(first)) if found.digest == first.digest => {}
            (Ok(found), Some(first)) => {
                return Err(Error::Unusable(format!(
                    "{} has it as {}, {} as {}; pin the one you mean with @sha256:…",
                    first.layout.name, first.digest, found.layout.name, found.digest
                )));
            }
            (Err(e), _) => refused = refused.or(Some(e)),
        }
    }
    // Of two copies the sound one is taken, and of several platforms ours.
    image.ok_or_else(|| refused.unwrap_or_else(|| not_found(layouts.len(), &seen, &problems)))
}

/// The names of all images in a layout, as many as [`limits::LOADED`].
pub fn names(layout: &Layout) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = images_of(layout)?.into_iter().flat_map(|(names, _)| names).collect();
    names.sort();
    names.dedup();
    if names.len() > limits::LOADED {
        return Err(layout.unreadable(format!("more than {} images are in it", limits::LOADED)));
    }
    Ok(names)
}

fn not_found(places: usize, seen: &[String], problems: &[String]) -> Error {
    let mut text = match (places, seen) {
        (0, _) => {
            "not found: no image in the OS image and no attached disk that is an OCI archive".to_owned()
        }
        (_, []) => "not found: no attached disk and no archive in the OS image names any image".to_owned(),
        _ => format!("not found; there are: {}", show::list(seen)),
    };
    if !problems.is_empty() {
        text.push_str(&format!("; not usable: {}", show::list(problems)));
    }
    Error::NotFound(text)
}

/// Every image that a layout lists, with its names.
fn images_of(layout: &Layout) -> Result<Vec<(Vec<String>, Hit)>, Error> {
    if let Some(bytes) = layout.small("index.json", limits::MANIFEST_BYTES)? {
        let index: Index = json(layout, "index.json", &bytes)?;
        if index.manifests.len() > limits::DESCRIPTORS {
            return Err(
                layout.unreadable(format!("index.json lists more than {} images", limits::DESCRIPTORS))
            );
        }
        let entry = |d: Descriptor| (d.name().map(str::to_owned).into_iter().collect(), Hit::Oci(d));
        return Ok(index.manifests.into_iter().map(entry).collect());
    }
    if let Some(bytes) = layout.small("manifest.json", limits::MANIFEST_BYTES)? {
        let images: Vec<SavedImage> = json(layout, "manifest.json", &bytes)?;
        return Ok(images.into_iter().map(|i| (i.repo_tags.clone(), Hit::Saved(i))).collect());
    }
    Err(layout.unreadable(
        "neither index.json (OCI) nor manifest.json (docker save) is in it, at the top".to_owned(),
    ))
}

fn json<T: serde::de::DeserializeOwned>(layout: &Layout, what: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes)
        .map_err(|e| layout.unreadable(format!("{what}: {}", show::bounded(e.to_string()))))
}

/// From a descriptor to the manifest for this machine.
fn resolve<'a>(
    layout: &'a Layout,
    descriptor: &Descriptor,
    pin: Option<Digest>,
    depth: usize,
) -> Result<Image<'a>, Error> {
    // A pin of the whole index holds for what the index names.
    let pin = pin.filter(|p| *p != descriptor.digest || !descriptor.is_index());
    if descriptor.is_index() {
        if depth >= limits::INDEX_DEPTH {
            return Err(
                layout.unreadable(format!("more than {} indexes inside each other", limits::INDEX_DEPTH))
            );
        }
        let bytes = layout.blob(&descriptor.digest, limits::MANIFEST_BYTES)?;
        let index: Index = json(layout, &format!("index {}", descriptor.digest), &bytes)?;
        if index.manifests.len() > limits::DESCRIPTORS {
            return Err(layout.unreadable(format!("an index lists more than {} images", limits::DESCRIPTORS)));
        }
        let pinned = index.manifests.iter().find(|d| Some(d.digest) == pin);
        let child = pinned.map_or_else(|| index.ours(), Ok).map_err(Error::Unusable)?;
        return resolve(layout, child, pin, depth + 1);
    }
    if !descriptor.is_manifest() {
        return Err(Error::Unusable(format!(
            "{} holds something else under this name: {}",
            layout.name,
            show::name(descriptor.media_type().as_bytes())
        )));
    }
    if !descriptor.is_for_us() {
        return Err(Error::Unusable(wrong_platform(&descriptor.platform())));
    }
    if let Some(pin) = pin.filter(|p| *p != descriptor.digest) {
        return Err(Error::Unusable(format!(
            "{} has it as {}, but the unit pins {pin}; attach the pinned image or change the pin",
            layout.name, descriptor.digest
        )));
    }
    let bytes = layout.blob(&descriptor.digest, limits::MANIFEST_BYTES)?;
    let manifest: Manifest = json(layout, &format!("manifest {}", descriptor.digest), &bytes)?;
    let config_bytes = layout.blob(&manifest.config.digest, limits::CONFIG_BYTES)?;
    let config: ImageConfig = json(layout, &format!("config {}", manifest.config.digest), &config_bytes)?;
    if let Some(odd) = manifest.layers.iter().find(|l| !is_layer(l.media_type())) {
        return Err(Error::Unusable(format!(
            "it has a layer of type {}, which is not a file system layer",
            show::name(odd.media_type().as_bytes())
        )));
    }
    let layers =
        manifest.layers.iter().map(|l| (crate::layout::blob_path(&l.digest), Some((l.digest, l.size))));
    assemble(layout, descriptor.digest, config, layers.collect())
}

fn is_layer(media_type: &str) -> bool {
    // An encrypted layer is called tar+gzip+encrypted.
    media_type.contains(".tar") && !media_type.contains("encrypted")
        || media_type.starts_with("application/vnd.docker.image.rootfs.diff.tar")
}

/// An image of a `docker save` archive without an index (Docker before 25, podman's `docker-archive`).
fn from_saved<'a>(layout: &'a Layout, saved: &SavedImage, pin: Option<Digest>) -> Result<Image<'a>, Error> {
    let bytes = layout.small(&saved.config, limits::CONFIG_BYTES)?.ok_or_else(|| {
        layout.unreadable(format!("config {} is missing", show::name(saved.config.as_bytes())))
    })?;
    let digest = Digest::of(&bytes);
    if let Some(pin) = pin {
        return Err(Error::Unusable(format!(
            "{} was made by docker save and has no manifest that {pin} could be; save it as an OCI archive \
             (docker 25 or later, podman save --format oci-archive, skopeo copy)",
            layout.name
        )));
    }
    let config: ImageConfig = json(layout, "config", &bytes)?;
    let layers = saved.layers.iter().map(|path| (path.clone(), None)).collect();
    assemble(layout, digest, config, layers)
}

fn assemble(
    layout: &Layout,
    digest: Digest,
    config: ImageConfig,
    stored: Vec<(String, Option<(Digest, u64)>)>,
) -> Result<Image<'_>, Error> {
    if let Some(platform) = config.wrong_platform() {
        return Err(Error::Unusable(wrong_platform(&platform)));
    }
    let most = berth_units::limits::LAYERS;
    match stored.len() {
        0 => return Err(Error::Unusable("it has no layers, so there is nothing to run".to_owned())),
        n if n > most => {
            return Err(Error::Unusable(format!(
                "it has {n} layers; {most} is the most that can be stacked, build it with fewer"
            )));
        }
        n if n != config.rootfs.diff_ids.len() => {
            return Err(layout.unreadable(format!(
                "the manifest has {n} layers and the image config {}",
                config.rootfs.diff_ids.len()
            )));
        }
        _ => {}
    }
    let layers = stored
        .into_iter()
        .zip(&config.rootfs.diff_ids)
        .map(|((member, blob), diff_id)| StoredLayer { member, blob, diff_id: *diff_id })
        .collect();
    Ok(Image { layout, digest, config, layers })
}

/// For fuzzing: an archive's table, every image in it down to its config, and what its layers begin with.
pub fn fuzz(bytes: &[u8]) {
    let bytes: std::rc::Rc<[u8]> = bytes.into();
    let Ok(layout) = Layout::archive("fuzz", Box::new(bytes)) else { return };
    for (_, hit) in images_of(&layout).unwrap_or_default() {
        let image = match hit {
            Hit::Oci(descriptor) => resolve(&layout, &descriptor, None, 0),
            Hit::Saved(saved) => from_saved(&layout, &saved, None),
        };
        for layer in image.iter().flat_map(|image| &image.layers) {
            let _ = layout.small(&layer.member, limits::CONFIG_BYTES);
        }
    }
}
