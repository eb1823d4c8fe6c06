//! Makes images: deterministic OCI archives out of bytes at hand, for demonstrations and tests. The worker does not
//! use it.
//!
//! ```
//! use berth_store::build::{ImageBuilder, LayerBuilder};
//! let layer = LayerBuilder::new().dir("srv", 0o755).file("srv/index.html", 0o644, "hello").symlink("www", "srv");
//! let archive = ImageBuilder::new("demo/web:1")
//!     .layer(&layer)?
//!     .entrypoint(["/httpd"])
//!     .port("80/tcp")
//!     .archive()?;
//! # Ok::<(), std::io::Error>(())
//! ```

use crate::digest::Digest;
use crate::layout::Layout;
use crate::prepare::Store;
use crate::sys;
use berth_units::image::PreparedImage;
use flate2::{Compression, GzBuilder, write::GzEncoder};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use tar::{EntryType, Header};

/// Makes an archive's image ready below `root`, as the worker does: the description, and what was left out.
pub fn unpack(archive: &Path, root: &Path, reference: &str) -> Result<(PreparedImage, Vec<String>), String> {
    let layout = Layout::path(archive).map_err(|e| e.to_string())?;
    let store = Store::open(root).map_err(|e| e.to_string())?;
    let outcome = store.prepare(&[layout], &[], reference).map_err(|e| e.to_string())?;
    Ok((outcome.image, outcome.notes))
}

/// Extended attributes of a file or folder, by name.
pub fn xattrs(file: &std::fs::File) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let names = sys::flistxattr(file.as_fd())?;
    names.into_iter().map(|name| Ok((name.clone(), sys::fgetxattr(file.as_fd(), &name)?))).collect()
}

/// One layer: files in the order in which they are given, owned by root unless [`LayerBuilder::owner`] says
/// otherwise, with a modification time of zero.
#[derive(Debug, Clone, Default)]
pub struct LayerBuilder {
    entries: Vec<Entry>,
    owner: (u64, u64),
    plain: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    path: String,
    mode: u32,
    owner: (u64, u64),
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Dir,
    File(Vec<u8>),
    Symlink(String),
    Hardlink(String),
}

impl LayerBuilder {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Owner of the entries added from now on.
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Keeps the layer uncompressed (the default is gzip).
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Adds a folder.
    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.push(path, mode, Content::Dir)
    }

    /// Adds a file.
    pub fn file(self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.push(path, mode, Content::File(content.into()))
    }

    /// Adds a symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.push(path, 0o777, Content::Symlink(target.to_owned()))
    }

    /// Adds a hard link to a file that was added before.
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.push(path, 0o644, Content::Hardlink(target.to_owned()))
    }

    fn push(mut self, path: &str, mode: u32, content: Content) -> Self {
        self.entries.push(Entry { path: path.to_owned(), mode, owner: self.owner, content });
        self
    }

    /// The layer as an uncompressed tar.
    pub fn tar(&self) -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for entry in &self.entries {
            let mut header = header(entry.mode);
            header.set_uid(entry.owner.0);
            header.set_gid(entry.owner.1);
            match &entry.content {
                Content::Dir => {
                    header.set_entry_type(EntryType::Directory);
                    tar.append_data(&mut header, format!("{}/", entry.path), io::empty())?;
                }
                Content::File(bytes) => {
                    header.set_size(bytes.len() as u64);
                    tar.append_data(&mut header, &entry.path, bytes.as_slice())?;
                }
                Content::Symlink(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    tar.append_link(&mut header, &entry.path, target)?;
                }
                Content::Hardlink(target) => {
                    header.set_entry_type(EntryType::Link);
                    tar.append_link(&mut header, &entry.path, target)?;
                }
            }
        }
        tar.into_inner()
    }
}

fn header(mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// An image for `linux/amd64`.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    reference: String,
    layers: Vec<Layer>,
    config: Map<String, Value>,
    architecture: String,
}

#[derive(Debug, Clone)]
struct Layer {
    blob: Vec<u8>,
    media_type: String,
    diff_id: Digest,
}

impl ImageBuilder {
    /// An image without layers; `reference` becomes its `org.opencontainers.image.ref.name`.
    pub fn new(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            layers: Vec::new(),
            config: Map::new(),
            architecture: "amd64".to_owned(),
        }
    }

    /// The same image under another name.
    pub fn named(mut self, reference: &str) -> Self {
        reference.clone_into(&mut self.reference);
        self
    }

    /// Puts a layer on top.
    pub fn layer(self, layer: &LayerBuilder) -> io::Result<Self> {
        let tar = layer.tar()?;
        self.layer_tar(&tar, !layer.plain)
    }

    /// Puts a ready-made tar on top, compressed or not.
    pub fn layer_tar(self, tar: &[u8], gzip: bool) -> io::Result<Self> {
        let diff_id = Digest::of(tar);
        if !gzip {
            return Ok(self.layer_blob(tar.to_vec(), "application/vnd.oci.image.layer.v1.tar", diff_id));
        }
        Ok(self.layer_gzip(gzipped(tar)?, diff_id))
    }

    /// Puts a tar on top that is compressed already, of which this is the digest.
    pub fn layer_gzip(self, blob: Vec<u8>, diff_id: Digest) -> Self {
        self.layer_blob(blob, "application/vnd.oci.image.layer.v1.tar+gzip", diff_id)
    }

    /// Puts any bytes on top, with a media type and a diff id that may be untrue.
    pub fn layer_blob(mut self, blob: Vec<u8>, media_type: &str, diff_id: Digest) -> Self {
        self.layers.push(Layer { blob, media_type: media_type.to_owned(), diff_id });
        self
    }

    /// `Entrypoint`.
    pub fn entrypoint<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        self.set_list("Entrypoint", words)
    }

    /// `Cmd`.
    pub fn cmd<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        self.set_list("Cmd", words)
    }

    /// One more line of `Env`.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        if let Value::Array(list) = self.config.entry("Env").or_insert_with(|| json!([])) {
            list.push(json!(format!("{key}={value}")));
        }
        self
    }

    /// One more exposed port: `80/tcp`.
    pub fn port(mut self, port: &str) -> Self {
        if let Value::Object(ports) = self.config.entry("ExposedPorts").or_insert_with(|| json!({})) {
            ports.insert(port.to_owned(), json!({}));
        }
        self
    }

    /// `User`.
    pub fn user(self, user: &str) -> Self {
        self.set("User", json!(user))
    }

    /// `WorkingDir`.
    pub fn workdir(self, path: &str) -> Self {
        self.set("WorkingDir", json!(path))
    }

    /// `StopSignal`.
    pub fn stop_signal(self, signal: &str) -> Self {
        self.set("StopSignal", json!(signal))
    }

    /// Claims another architecture.
    pub fn architecture(mut self, name: &str) -> Self {
        self.architecture = name.to_owned();
        self
    }

    fn set_list<S: Into<String>>(self, key: &str, words: impl IntoIterator<Item = S>) -> Self {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        self.set(key, json!(words))
    }

    fn set(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    /// The image config's bytes.
    pub fn config_json(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|l| l.diff_id.to_string()).collect();
        json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        })
        .to_string()
        .into_bytes()
    }

    /// The manifest's bytes.
    pub fn manifest_json(&self) -> Vec<u8> {
        let config = self.config_json();
        let layers: Vec<Value> = self.layers.iter().map(|l| descriptor(&l.media_type, &l.blob)).collect();
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        })
        .to_string()
        .into_bytes()
    }

    /// The manifest's digest, which a unit may pin: `demo/web:1@sha256:…`.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest_json())
    }

    /// The files of an OCI image layout, by path, in a fixed order.
    pub fn layout(&self) -> Vec<(String, Vec<u8>)> {
        let manifest = self.manifest_json();
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": self.reference });
        entry["platform"] = json!({ "architecture": self.architecture, "os": "linux" });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        });
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
            blob(manifest),
            blob(self.config_json()),
        ];
        for layer in &self.layers {
            let file = blob(layer.blob.clone());
            if !files.iter().any(|(path, _)| *path == file.0) {
                files.push(file);
            }
        }
        files
    }

    /// The image as an OCI archive.
    pub fn archive(&self) -> io::Result<Vec<u8>> {
        archive(&self.layout())
    }

    /// Writes the image as an OCI archive that can be attached as a disk or put into the OS image.
    pub fn write_archive(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.archive()?)
    }

    /// Writes the image as an OCI layout folder.
    pub fn write_layout(&self, dir: &Path) -> io::Result<()> {
        for (name, bytes) in self.layout() {
            let path = dir.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, bytes)?;
        }
        Ok(())
    }
}

/// The files of a layout as one tar.
pub fn archive(files: &[(String, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = header(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, path, bytes.as_slice())?;
    }
    tar.into_inner()
}

/// gzip that depends on nothing but its input.
pub fn gzipped(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip: GzEncoder<Vec<u8>> =
        GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::new(6));
    gzip.write_all(bytes)?;
    gzip.finish()
}

fn blob(bytes: Vec<u8>) -> (String, Vec<u8>) {
    (format!("blobs/sha256/{}", Digest::of(&bytes).hex()), bytes)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> ImageBuilder {
        let layer = LayerBuilder::new().dir("srv", 0o755).file("srv/a", 0o644, "x").symlink("www", "srv");
        ImageBuilder::new("demo:1").layer(&layer).unwrap().env("A", "b").port("80/tcp").entrypoint(["/a"])
    }

    #[test]
    fn the_same_image_is_the_same_bytes() {
        assert_eq!(demo().archive().unwrap(), demo().archive().unwrap());
    }

    #[test]
    fn an_archive_starts_like_one() {
        let bytes = demo().archive().unwrap();
        assert_eq!(&bytes[257..262], b"ustar");
        assert_eq!(bytes.len() % 512, 0);
    }
}
