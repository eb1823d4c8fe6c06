//! An update repository on this computer, for demonstrations and tests: made, published to, served on loopback.

pub mod bench;
pub mod demo;

use crate::files::Files;
use anyhow::{Context, Result};
use berth_image::{Bundle, image};
use berth_repo::{Built, Keys, Repository, Setup};
use berth_tuf::release;
use berth_tuf::time::Time;
use std::path::{Path, PathBuf};

/// The repository and its keys.
#[derive(Debug)]
pub struct Publisher {
    folder: PathBuf,
    files: Files,
}

impl Publisher {
    /// Makes one in an empty folder, with keys that are thrown away with it, and serves it.
    pub fn new(folder: &Path) -> Result<Publisher> {
        let (repository, keys) = (folder.join("repository"), folder.join("keys"));
        let setup = Setup { root_keys: 1, threshold: 1 };
        Repository::init(&repository, &keys, setup, Time::of_system())?;
        Ok(Publisher { files: Files::serve(&repository)?, folder: folder.to_owned() })
    }

    /// Lets the channel name this system.
    pub fn publish(&self, bundle: &Bundle, version: &str) -> Result<()> {
        let built = self.folder.join(format!("build-{version}"));
        image::write_release(bundle, version, &built)?;
        let keys = Keys::load(&[self.folder.join("keys")])?;
        let repository = Repository::open(&self.repository())?;
        repository.publish_release(&Built::open(&built)?, release::CHANNEL, &keys, Time::of_system())?;
        std::fs::remove_dir_all(&built).with_context(|| built.display().to_string())
    }

    /// The folder that is served.
    pub fn repository(&self) -> PathBuf {
        self.folder.join("repository")
    }

    /// `[update]` of a machine that follows it, without more fields of that table.
    pub fn config(&self) -> Result<String> {
        let root = self.repository().join("metadata/1.root.json");
        let root = std::fs::read_to_string(&root).with_context(|| root.display().to_string())?;
        Ok(format!("[update]\naddress = {:?}\nroot = '''{root}'''\n", self.files.address_for_guest()))
    }
}
