//! Removes what nothing needs any more. What is needed, PID 1 says: the images of every unit that it knows, and the
//! layers that running containers stand on.
//!
//! The procedure; a power cut at any point leaves each image whole or gone, and never a layer without its files:
//!
//! 1. the descriptions of images that nothing needs are removed, and `index/` is synced: from here on nobody counts on
//!    their layers;
//! 2. each layer that no description names any more, nor a running container, is moved to `tmp/`;
//! 3. `layers/` and `tmp/` are synced;
//! 4. what was moved is removed; what a cut leaves of it, the next start removes;
//! 5. in what was fetched, those images lose their names, and then their blobs ([`Folder::forget`]).
//!
//! What an operator pulled or loaded is spared by the sweep after a boot, and goes only when an operator says so.
//!
//! Of a description that this version cannot read nobody knows the layers: as long as there is one that is needed, all
//! layers stay.

use crate::digest::Digest;
use crate::durable;
use crate::error::Error;
use crate::prepare::{Store, read, remove};
use crate::reference::Reference;
use crate::registry::Folder;
use berth_units::control::Sweep;
use berth_units::image::file_name;
use nix::sys::statvfs::statvfs;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

/// What has to stay.
#[derive(Debug, Default)]
pub struct Needed {
    references: BTreeSet<String>,
    layers: BTreeSet<String>,
}

impl Needed {
    /// This image, and layers of it on which containers run.
    pub fn add(&mut self, reference: String, layers: Vec<String>) {
        self.references.insert(reference);
        self.layers.extend(layers);
    }
}

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Images that are not there any more.
    pub images: u64,
    /// Layers that are not.
    pub layers: u64,
    /// Bytes that are free now and were not before.
    pub bytes: u64,
    /// What could not be removed: the first of it, and why.
    pub trouble: Option<String>,
}

impl Store {
    /// See the module. `fetched` is the fetcher's folder, in which nobody may be at work meanwhile.
    pub fn collect(&self, fetched: &Path, needed: &Needed, sweep: &Sweep) -> Collected {
        let mut collected = Collected::default();
        let before = self.free();
        let done = self
            .spared(needed, sweep)
            .and_then(|spared| self.collect_images(&spared, &mut collected).map(|()| spared))
            .and_then(|spared| self.forget(fetched, &spared));
        collected.bytes = self.free().saturating_sub(before);
        if let Err(e) = done {
            collected.trouble.get_or_insert(e.to_string());
        }
        collected
    }

    /// What is needed, and what else this sweep leaves alone.
    fn spared(&self, needed: &Needed, sweep: &Sweep) -> Result<Needed, Error> {
        let mut spared = Needed { references: needed.references.clone(), layers: needed.layers.clone() };
        let mut known = self.images();
        match sweep {
            Sweep::All => return Ok(spared),
            Sweep::Unneeded => known.retain(|image| image.kept),
            Sweep::One(name) => {
                let asked = Reference::parse(name).map_err(Error::Reference)?;
                let is_asked = |other: &str| {
                    other == name || Reference::parse(other).is_ok_and(|other| other.is(&asked))
                };
                if needed.references.iter().any(|other| is_asked(other)) {
                    let why = format!("image {name} is a unit's; take the unit out of the config first");
                    return Err(Error::Unusable(why));
                }
                if !known.iter().any(|image| is_asked(&image.reference)) {
                    let why = format!("there is no image {name} here; \"berth images\" lists them");
                    return Err(Error::Unusable(why));
                }
                known.retain(|image| !is_asked(&image.reference));
            }
        }
        spared.references.extend(known.into_iter().map(|image| image.reference));
        Ok(spared)
    }

    fn free(&self) -> u64 {
        statvfs(&self.root).map_or(0, |space| space.blocks_available().saturating_mul(space.fragment_size()))
    }

    fn collect_images(&self, needed: &Needed, collected: &mut Collected) -> Result<(), Error> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| Error::state(what, &e)
        };
        let index = self.root.join("index");
        let wanted: BTreeSet<String> = needed.references.iter().map(|name| file_name(name)).collect();
        let mut named = needed.layers.clone();
        let mut unread = None;
        for file in names(&index).map_err(failed("index not read"))? {
            let path = index.join(&file);
            if !file.to_str().is_some_and(|name| wanted.contains(name)) {
                remove(&path).map_err(failed("an image's description not removed"))?;
                self.written()?;
                collected.images += 1;
            } else if let Some(image) = read(&path) {
                named.extend(image.layers);
            } else {
                unread = Some(path);
            }
        }
        durable::sync_folder(&index).map_err(failed("index not written"))?;
        self.written()?;
        if let Some(path) = unread {
            let why = format!("no layer was removed: {} cannot be read by this version", path.display());
            collected.trouble = Some(why);
            return Ok(());
        }
        let (layers, tmp) = (self.root.join("layers"), self.root.join("tmp"));
        let mut moved = Vec::new();
        for layer in names(&layers).map_err(failed("layers not read"))? {
            if !layer.to_str().is_some_and(|name| named.contains(name)) {
                let target = tmp.join(&layer);
                let rename = remove(&target).and_then(|()| fs::rename(layers.join(&layer), &target));
                rename.map_err(failed("a layer not moved away"))?;
                self.written()?;
                moved.push(target);
            }
        }
        for folder in [&layers, &tmp].into_iter().filter(|_| !moved.is_empty()) {
            durable::sync_folder(folder).map_err(failed("layers not moved away"))?;
            self.written()?;
        }
        for layer in moved {
            // One that stays is removed by the next start; the others need not wait for that.
            match remove(&layer) {
                Ok(()) => collected.layers += 1,
                Err(e) => {
                    let why = failed("a layer not removed")(e).to_string();
                    collected.trouble.get_or_insert(why);
                }
            }
            self.written()?;
        }
        Ok(())
    }

    /// Step 5, and what a fetch that was given up has left.
    fn forget(&self, fetched: &Path, needed: &Needed) -> Result<(), Error> {
        if !fetched.join("index.json").exists() {
            return Ok(());
        }
        let needed: Vec<Reference> =
            needed.references.iter().filter_map(|name| Reference::parse(name).ok()).collect();
        let keep = |name: &Reference| needed.iter().any(|needed| needed.is(name));
        let unpacked = |diff_id: &Digest| self.root.join("layers").join(diff_id.hex()).is_dir();
        Folder::open(fetched)
            .and_then(|folder| folder.forget(&keep).and_then(|()| folder.tidy(&unpacked)))
            .map_err(|e| Error::State {
                what: "what was fetched is not tidied up".into(),
                why: e.to_string(),
            })
    }
}

fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}

#[cfg(test)]
mod tests;
