//! Where things lie on the build host: the checkout, and the cache below it.

use std::path::{Path, PathBuf};

/// Overrides the folder that holds everything that is built or downloaded.
pub const CACHE_ENV: &str = "BERTH_CACHE";

/// The checkout that this program was built from.
pub fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// `target/berth` of the checkout, or what [`CACHE_ENV`] says.
pub fn cache() -> PathBuf {
    match std::env::var_os(CACHE_ENV) {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => repo().join("target/berth"),
    }
}

/// Where `build` leaves its results unless told otherwise.
pub fn default_out() -> PathBuf {
    cache().join("image")
}
