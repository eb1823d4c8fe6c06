//! What the store tells PID 1 about an image: which layers, in which order, and how the container starts by
//! default. PID 1 never reads anything else of an image.
//!
//! The description lies at `<STATE_IMAGES>/index/<file_name(reference)>` and is replaced atomically, after the layers
//! it names are complete and synced. A layer is a directory `<STATE_IMAGES>/layers/<hex>/` whose owner ids are the
//! container's own (0–65535) and whose whiteouts are overlayfs's (character device 0:0, `user.overlay.opaque=y`:
//! it is mounted with `userxattr`).

use serde::{Deserialize, Serialize};

/// See the module. `deny_unknown_fields`: a description from a newer store is prepared anew, not half understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedImage {
    /// Format version, 1.
    pub format: u32,
    /// The reference as the unit wrote it.
    pub reference: String,
    /// Digest of the image manifest, `sha256:<64 hex>`.
    pub digest: String,
    /// Hex of the layers' diff ids, bottom first, 1 to [`crate::limits::LAYERS`].
    pub layers: Vec<String>,
    /// OCI image config: Entrypoint.
    pub entrypoint: Vec<String>,
    /// OCI image config: Cmd.
    pub cmd: Vec<String>,
    /// OCI image config: Env, `KEY=value`.
    pub env: Vec<String>,
    /// OCI image config: WorkingDir; empty = `/`.
    pub workdir: String,
    /// OCI image config: User; empty = root.
    pub user: String,
    /// OCI image config: StopSignal; empty = SIGTERM.
    pub stop_signal: String,
    /// Bytes of the files of each layer, in the order of `layers`; for people.
    #[serde(default)]
    pub layer_bytes: Vec<u64>,
    /// An operator pulled or loaded it: it stays until an operator removes it, whether a unit needs it or not.
    #[serde(default)]
    pub kept: bool,
}

impl PreparedImage {
    /// Parses and checks a description; the error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > crate::limits::IMAGE_INDEX_BYTES {
            return Err(format!(
                "image description is larger than {} bytes",
                crate::limits::IMAGE_INDEX_BYTES
            ));
        }
        let image: Self = serde_json::from_slice(bytes).map_err(|e| format!("image description: {e}"))?;
        if image.format != 1 {
            return Err(format!("image description has format {}, this Berth reads 1", image.format));
        }
        let hex = |s: &str| s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !image.digest.strip_prefix("sha256:").is_some_and(hex) {
            return Err(format!("image description: {:?} is not a sha256 digest", image.digest));
        }
        if image.layers.is_empty() || image.layers.len() > crate::limits::LAYERS {
            return Err(format!(
                "image has {} layers; 1 to {} can be used",
                image.layers.len(),
                crate::limits::LAYERS
            ));
        }
        if let Some(bad) = image.layers.iter().find(|l| !hex(l)) {
            return Err(format!("image description: {bad:?} is not a layer id"));
        }
        Ok(image)
    }
}

/// The index file's name for a reference: every byte outside `[A-Za-z0-9.-]` becomes `_XX` (hex), so that it can
/// neither leave the folder nor collide; always ends in `.json`.
pub fn file_name(reference: &str) -> String {
    let mut name = String::with_capacity(reference.len() + 5);
    for b in reference.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(b)),
            other => name.push_str(&format!("_{other:02x}")),
        }
    }
    name.push_str(".json");
    name
}
