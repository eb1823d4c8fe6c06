//! What the tests share: an image, a folder, a client.

use crate::mock::{Mock, Repository};
use berth_store::build::{ImageBuilder, LayerBuilder};
use berth_store::digest::Digest;
use berth_store::registry::{Fetched, Fetcher, Pace, Progress};
use berth_units::model::{Registry, RegistrySettings};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

/// An image of two layers, `demo/web:1`; the second one has 3 MiB that gzip cannot make smaller.
pub fn web() -> Repository {
    static MADE: LazyLock<Repository> = LazyLock::new(make_web);
    MADE.clone()
}

fn make_web() -> Repository {
    let small = LayerBuilder::new().file("a", 0o644, "alpha");
    let large = LayerBuilder::new().file("b", 0o644, noise(3 << 20));
    let image = ImageBuilder::new("demo/web:1").layer(&small).unwrap().layer(&large).unwrap();
    Repository::new("demo/web", "1", image.layout())
}

/// Bytes without any order.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// Short pauses, and limits that no busy test machine reaches.
pub fn pace() -> Pace {
    let pause = Duration::from_millis(5);
    Pace {
        connect: Duration::from_secs(30),
        header: Duration::from_secs(60),
        stall: Duration::from_secs(60),
        pause,
    }
}

/// Settings that say of a mock what must be said: no TLS, or its authority.
pub fn settings(mocks: &[&Mock]) -> RegistrySettings {
    let host = |mock: &&Mock| {
        let ca = Some(mock.ca.clone()).filter(|ca| !ca.is_empty());
        (mock.host.clone(), Registry { plain_http: ca.is_none(), ca, ..Registry::default() })
    };
    RegistrySettings { registries: mocks.iter().map(host).collect(), ..RegistrySettings::default() }
}

/// A folder to fetch into.
pub struct Lab {
    dir: tempfile::TempDir,
    pub pace: Pace,
}

impl Lab {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), pace: pace() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn fetch(&self, reference: &str, settings: RegistrySettings) -> Result<Fetched, String> {
        self.fetch_with(reference, settings, &|_| false, &|_| ())
    }

    pub fn fetch_with(
        &self,
        reference: &str,
        settings: RegistrySettings,
        have: &dyn Fn(&Digest) -> bool,
        tell: &dyn Fn(Progress),
    ) -> Result<Fetched, String> {
        let fetcher = Fetcher::open(self.dir.path(), self.pace).map_err(|e| e.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        fetcher.set(settings);
        runtime.block_on(fetcher.fetch(reference, have, tell)).map_err(|e| e.to_string())
    }

    /// What the folder has of a blob.
    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())).ok()
    }

    /// Names in `index.json`.
    pub fn names(&self) -> Vec<String> {
        let bytes = std::fs::read(self.path("index.json")).unwrap_or_default();
        let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let name = |entry: &serde_json::Value| {
            entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned()
        };
        index["manifests"].as_array().map(|all| all.iter().map(name).collect()).unwrap_or_default()
    }

    /// Everything of the image is there, byte by byte.
    pub fn assert_whole(&self, repository: &Repository, tag: &str) {
        let digest = repository.tag(tag);
        assert_eq!(self.blob(&digest), Some(repository.blob(&digest)));
        for (layer, _) in repository.layers(tag) {
            assert!(self.blob(&layer) == Some(repository.blob(&layer)), "layer {layer} differs");
        }
        assert_eq!(std::fs::read_dir(self.path("tmp")).unwrap().count(), 0);
        assert!(Path::new(&self.path("oci-layout")).is_file());
    }
}
