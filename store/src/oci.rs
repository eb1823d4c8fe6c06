//! The JSON of images: OCI image specification 1.1, and Docker's schema 2, which differs in names only.
//!
//! Only what is used is read. Whatever is `null` counts as absent, as Docker writes it.

use crate::digest::Digest;
use crate::show;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Media types of an index.
pub const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Media types of an image's manifest.
pub const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// Names a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default, deserialize_with = "or_default")]
    media_type: String,
    #[serde(deserialize_with = "digest")]
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    platform: Option<Platform>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default, deserialize_with = "or_default")]
    architecture: String,
    #[serde(default, deserialize_with = "or_default")]
    os: String,
}

impl Descriptor {
    /// One that says no more than this.
    pub fn plain(media_type: &str, digest: Digest, size: u64) -> Self {
        let media_type = media_type.to_owned();
        Self { media_type, digest, size, platform: None, annotations: BTreeMap::new() }
    }

    /// Whether it names an index.
    pub fn is_index(&self) -> bool {
        INDEX_TYPES.contains(&self.media_type.as_str())
    }

    /// Whether it names an image's manifest.
    pub fn is_manifest(&self) -> bool {
        MANIFEST_TYPES.contains(&self.media_type.as_str())
    }

    /// Its media type, for messages.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The name of the image, if the index tells one. containerd and Docker write the whole name into an annotation
    /// of their own and only the tag into the standard one.
    pub fn name(&self) -> Option<&str> {
        let get = |key: &str| self.annotations.get(key).map(String::as_str);
        get("io.containerd.image.name").or_else(|| get("org.opencontainers.image.ref.name"))
    }

    /// Whether it may run here. One that does not say may.
    pub fn is_for_us(&self) -> bool {
        self.platform.as_ref().is_none_or(|p| is_for_us(&p.os, &p.architecture))
    }

    /// `os/architecture`, for messages.
    pub fn platform(&self) -> String {
        self.platform.as_ref().map_or_else(String::new, |p| format!("{}/{}", p.os, p.architecture))
    }
}

fn is_for_us(os: &str, architecture: &str) -> bool {
    (os.is_empty() || os == "linux") && (architecture.is_empty() || architecture == "amd64")
}

/// `index.json`, or an index inside it.
#[derive(Debug, Deserialize)]
pub struct Index {
    /// Its manifests.
    #[serde(default, deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The first image, or index of images, for this machine; the error says which platforms there are.
    pub fn ours(&self) -> Result<&Descriptor, String> {
        let ours = |d: &&Descriptor| d.is_for_us() && (d.is_manifest() || d.is_index());
        self.manifests.iter().find(ours).ok_or_else(|| {
            let mut platforms: Vec<String> = self.manifests.iter().map(Descriptor::platform).collect();
            platforms.dedup();
            wrong_platform(&show::list(&platforms))
        })
    }
}

/// The sentence about an image for other machines.
pub fn wrong_platform(platforms: &str) -> String {
    format!("it is for {}, this machine is linux/amd64", show::name(platforms.as_bytes()))
}

/// An image's manifest.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    /// The image config.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
}

/// An image config.
#[derive(Debug, Deserialize)]
pub struct ImageConfig {
    #[serde(default, deserialize_with = "or_default")]
    architecture: String,
    #[serde(default, deserialize_with = "or_default")]
    os: String,
    /// How a container starts.
    #[serde(default, deserialize_with = "or_default")]
    pub config: RunConfig,
    /// Which layers.
    pub rootfs: RootFs,
}

impl ImageConfig {
    /// What is wrong with the platform, if anything.
    pub fn wrong_platform(&self) -> Option<String> {
        (!is_for_us(&self.os, &self.architecture)).then(|| format!("{}/{}", self.os, self.architecture))
    }
}

/// `config` of an image config.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `Entrypoint`.
    #[serde(default, deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    #[serde(default, deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// `Env`.
    #[serde(default, deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// `WorkingDir`.
    #[serde(default, deserialize_with = "or_default")]
    pub working_dir: String,
    /// `User`.
    #[serde(default, deserialize_with = "or_default")]
    pub user: String,
    /// `StopSignal`.
    #[serde(default, deserialize_with = "or_default")]
    pub stop_signal: String,
}

/// `rootfs` of an image config.
#[derive(Debug, Deserialize)]
pub struct RootFs {
    /// Digests of the layers' uncompressed tars, bottom first.
    #[serde(default, deserialize_with = "digests")]
    pub diff_ids: Vec<Digest>,
}

/// One image of a `docker save` archive's `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SavedImage {
    /// Path of the image config.
    pub config: String,
    /// Its names.
    #[serde(default, deserialize_with = "or_default")]
    pub repo_tags: Vec<String>,
    /// Paths of the layers, bottom first.
    #[serde(default, deserialize_with = "or_default")]
    pub layers: Vec<String>,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

fn digest<'de, D: Deserializer<'de>>(d: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(d)?;
    Digest::parse(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("{:?} is not a sha256 digest", crate::show::name(text.as_bytes())))
    })
}

fn digests<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Digest>, D::Error> {
    Option::<Vec<String>>::deserialize(d)?
        .unwrap_or_default()
        .iter()
        .map(|text| {
            Digest::parse(text).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "{:?} is not a sha256 digest",
                    crate::show::name(text.as_bytes())
                ))
            })
        })
        .collect()
}

/// For fuzzing: reads `bytes` as every kind of document there is.
pub fn fuzz(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Index>(bytes);
    let _ = serde_json::from_slice::<Manifest>(bytes);
    let _ = serde_json::from_slice::<Vec<SavedImage>>(bytes);
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(bytes) {
        let _ = config.wrong_platform();
    }
}
