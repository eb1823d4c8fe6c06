//! The procedure that makes an image ready. A power cut at any point leaves the old state or the new one:
//!
//! 1. what an earlier run left in `tmp/` is removed (at start), and so is a description whose layers are not all
//!    there: whoever reads it would count on them;
//! 2. each layer that is not there yet is unpacked into `tmp/<hex>/`, and its digests are checked;
//! 3. the file system is synced;
//! 4. each of them is renamed to `layers/<hex>/`, and `layers/` is synced: from here on they are there;
//! 5. the image's description is written to `tmp/` and synced;
//! 6. it is renamed to `index/<name>.json`, and `index/` is synced: from here on PID 1 finds it.
//!
//! A layer is known by its diff id, so images share layers, and a layer that is there is not read again. One that rests
//! on those below it ([`crate::below`]) is known by theirs as well, and shared only by images that have the same ones.

use crate::below::{self, Below};
use crate::digest::{Digest, Hasher};
use crate::durable::{self, sync_folder};
use crate::error::Error;
use crate::find::{Image, StoredLayer, find};
use crate::layout::Layout;
use crate::reference::Reference;
use crate::tarball::Stream;
use crate::tree::Tree;
use crate::unpack::{Notes, UnpackError, unpack};
use crate::{limits, show, zstd};
use berth_units::image::{PreparedImage, file_name};
use flate2::bufread::MultiGzDecoder;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The image store's folder, and nothing else.
pub struct Store {
    pub(crate) root: PathBuf,
    #[cfg(test)]
    pub(crate) cut_after: std::cell::Cell<u8>,
    /// Writes until the power goes.
    #[cfg(test)]
    pub(crate) writes_left: std::cell::Cell<u32>,
}

/// What was done.
#[derive(Debug)]
pub struct Outcome {
    /// What PID 1 reads.
    pub image: PreparedImage,
    /// Layers unpacked now.
    pub unpacked: usize,
    /// What was left out of them, one sentence each.
    pub notes: Vec<String>,
    /// Files in the source that held the layers; unpacked, they are needed no more.
    pub blobs: Vec<String>,
}

impl Store {
    /// Opens the store at `root`, making its folders and removing what an earlier run left unfinished (step 1).
    pub fn open(root: &Path) -> Result<Self, Error> {
        let failed = |what: &str| {
            let what = format!("{} below {} not made ready", what, root.display());
            move |e: io::Error| Error::state(what, &e)
        };
        remove(&root.join("tmp")).map_err(failed("tmp"))?;
        for folder in ["tmp", "layers", "index"] {
            fs::create_dir_all(root.join(folder)).map_err(failed(folder))?;
        }
        let store = Self {
            root: root.to_owned(),
            #[cfg(test)]
            cut_after: std::cell::Cell::new(0),
            #[cfg(test)]
            writes_left: std::cell::Cell::new(u32::MAX),
        };
        store.drop_empty_promises().map_err(failed("index"))?;
        Ok(store)
    }

    fn drop_empty_promises(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join("index"))? {
            let path = entry?.path();
            let image = fs::read(&path).ok().and_then(|bytes| PreparedImage::parse(&bytes).ok());
            // What cannot be read may be another slot's.
            if image.is_some_and(|image| !self.is_complete(&image)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn is_complete(&self, image: &PreparedImage) -> bool {
        image.layers.iter().all(|hex| self.root.join("layers").join(hex).is_dir())
    }

    /// Makes the image ready. `problems` are places that could not be looked into.
    pub fn prepare(
        &self,
        layouts: &[Layout],
        problems: &[String],
        reference: &str,
    ) -> Result<Outcome, Error> {
        let parsed = Reference::parse(reference).map_err(Error::Reference)?;
        match find(layouts, &parsed, problems) {
            Err(Error::NotFound(why)) => self.earlier(&parsed, reference)?.ok_or(Error::NotFound(why)),
            found => self.unpack_image(reference, &found?, false),
        }
    }

    /// The same for an image that an operator wants kept, out of this place and no other.
    pub fn prepare_kept(&self, layout: &Layout, reference: &str) -> Result<Outcome, Error> {
        let parsed = Reference::parse(reference).map_err(Error::Reference)?;
        self.unpack_image(reference, &find(std::slice::from_ref(layout), &parsed, &[])?, true)
    }

    fn unpack_image(&self, reference: &str, image: &Image<'_>, kept: bool) -> Result<Outcome, Error> {
        let mut notes = Notes::default();
        let result = self.commit(reference, image, kept, &mut notes);
        if result.is_err() && !self.is_cut() {
            for layer in &image.layers {
                // Best effort: the next start removes it again.
                let _ = remove(&self.temporary(&layer.diff_id.hex()));
            }
        }
        let (image, unpacked, blobs) = {
            let blobs = image.layers.iter().map(|layer| layer.member.clone()).collect();
            let (description, unpacked) = result?;
            (description, unpacked, blobs)
        };
        Ok(Outcome { image, unpacked, notes: sentences(&notes), blobs })
    }

    fn commit(
        &self,
        reference: &str,
        image: &Image<'_>,
        kept: bool,
        notes: &mut Notes,
    ) -> Result<(PreparedImage, usize), Error> {
        let mut description = describe(reference, image)?;
        let known = self.images();
        description.kept = kept || known.iter().any(|image| image.kept && image.reference == reference);
        let mut stack: Vec<Ready> = Vec::new();
        for layer in wanted(image) {
            let ready = match self.there(&layer.diff_id, &stack, &known) {
                Some(ready) => ready,
                None => self.unpack(image.layout, layer, &stack, notes)?,
            };
            stack.push(ready);
        }
        self.done(2)?;
        let failed = |what: String| move |e: io::Error| Error::state(what, &e);
        // overlayfs does not ask a layer's root whether it hides what is below.
        let lowest = stack.iter().rposition(|ready| ready.is_opaque()).unwrap_or(0);
        description.layers = stack[lowest..].iter().map(|ready| ready.name.clone()).collect();
        description.layer_bytes = stack[lowest..].iter().map(|ready| ready.bytes).collect();
        let fresh: Vec<&Ready> = stack.iter().filter(|ready| ready.fresh).collect();
        let layers = self.root.join("layers");
        if !fresh.is_empty() {
            let synced = File::open(&layers).and_then(|f| Ok(nix::unistd::syncfs(f)?));
            synced.map_err(failed("layers not written".to_owned()))?;
            self.done(3)?;
            for layer in &fresh {
                let target = layers.join(&layer.name);
                fs::rename(&layer.path, &target)
                    .map_err(failed(format!("layer {} not put in place", target.display())))?;
            }
            sync_folder(&layers).map_err(failed("layers not put in place".to_owned()))?;
            self.done(4)?;
        }
        self.done(5)?;
        self.keep_description(&description)?;
        Ok((description, fresh.len()))
    }

    /// Steps 5 and 6.
    fn keep_description(&self, description: &PreparedImage) -> Result<(), Error> {
        let name = file_name(&description.reference);
        let write = || -> io::Result<()> {
            let bytes = serde_json::to_vec(description)?;
            PreparedImage::parse(&bytes).map_err(io::Error::other)?;
            let target = self.root.join("index").join(&name);
            if fs::read(&target).is_ok_and(|old| old == bytes) {
                return Ok(());
            }
            let temporary = self.temporary(&name);
            durable::write(&temporary, &bytes)?;
            fs::rename(&temporary, target)?;
            sync_folder(&self.root.join("index"))
        };
        write().map_err(|e| Error::state(format!("description {name} not written"), &e))
    }

    /// A layer that is there already, to lie on this stack.
    fn there(&self, diff_id: &Digest, stack: &[Ready], known: &[PreparedImage]) -> Option<Ready> {
        [diff_id.hex(), resting(diff_id, stack)].into_iter().find_map(|name| {
            let path = self.root.join("layers").join(&name);
            let sizes = known.iter().flat_map(|image| image.layers.iter().zip(&image.layer_bytes));
            let bytes = sizes.clone().find(|(layer, _)| **layer == name).map_or(0, |(_, bytes)| *bytes);
            path.is_dir().then_some(Ready { name, path, fresh: false, bytes })
        })
    }

    /// Every image that is described here and whose description can be read.
    pub(crate) fn images(&self) -> Vec<PreparedImage> {
        let files = fs::read_dir(self.root.join("index")).into_iter().flatten().flatten();
        files.filter_map(|file| read(&file.path())).collect()
    }

    /// Step 2 for one layer. Its stored bytes and its content are hashed while they go by, and count for nothing
    /// before both digests are right.
    fn unpack(
        &self,
        layout: &Layout,
        layer: &StoredLayer,
        stack: &[Ready],
        notes: &mut Notes,
    ) -> Result<Ready, Error> {
        let blob = layout.open(&layer.member)?.ok_or_else(|| match &layer.blob {
            Some((digest, _)) => layout.missing(digest),
            None => layout.unreadable(format!("{} is missing", show::name(layer.member.as_bytes()))),
        })?;
        let size = blob.size();
        if let Some((digest, stated)) = layer.blob.filter(|(_, stated)| *stated != size) {
            return Err(layout.unreadable(format!(
                "blob {digest} has {size} bytes, the manifest says {stated}; the archive is damaged or cut short"
            )));
        }
        let short = layer.diff_id.hex()[..12].to_owned();
        let refused = |why: String| Error::Layer { layer: short.clone(), why };
        if size > limits::LAYER_BLOB_BYTES {
            return Err(refused(format!("it has {size} bytes; {} is the most", limits::LAYER_BLOB_BYTES)));
        }
        let bytes_before = notes.bytes;
        let temporary = self.temporary(&layer.diff_id.hex());
        let made = remove(&temporary).and_then(|()| fs::create_dir(&temporary)).and_then(|()| {
            fs::set_permissions(&temporary, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        });
        let below = || -> io::Result<Vec<OwnedFd>> {
            stack.iter().rev().map(|ready| File::open(&ready.path).map(OwnedFd::from)).collect()
        };
        let mut tree = made
            .and_then(|()| Tree::open(&temporary, Below::new(below()?)))
            .map_err(|e| Error::state(format!("{} not made", temporary.display()), &e))?;

        let mut stored = buffered(Hashed::new(blob, limits::LAYER_BLOB_BYTES));
        let magic = stored.fill_buf().map_err(|e| layout.unreadable(e.to_string()))?;
        let content = if magic.starts_with(&[0x1f, 0x8b]) {
            let tar = Hashed::new(MultiGzDecoder::new(&mut stored), limits::LAYER_TAR_BYTES);
            unpack(buffered(tar), &mut tree, notes).map(|tar| Some(tar.into_inner().finish()))
        } else if magic.starts_with(&zstd::MAGIC) || magic.get(1..4) == Some(&[0x2a, 0x4d, 0x18]) {
            let frames = zstd::Frames::new(&mut stored, limits::ZSTD_WINDOW_BYTES);
            let tar = Hashed::new(frames, limits::LAYER_TAR_BYTES);
            unpack(buffered(tar), &mut tree, notes).map(|tar| Some(tar.into_inner().finish()))
        } else {
            unpack(Plain(&mut stored), &mut tree, notes).map(|_| None)
        };
        // Whatever follows the archive belongs to the digests too.
        let content = match content {
            Ok(None) => Ok(None),
            Ok(Some(rest)) => rest.map(Some).map_err(|e| UnpackError::Tar(e.into())),
            Err(e) => Err(e),
        };
        if matches!(content, Err(UnpackError::Entry { .. } | UnpackError::Limit(_))) {
            content.map_err(|e| refused(e.to_string()))?;
            return Err(refused("not unpacked".to_owned()));
        }
        let found = io::copy(&mut stored, &mut io::sink())
            .and_then(|_| stored.into_inner().finish())
            .map_err(|e| layout.unreadable(format!("layer {short}: {e}")))?;
        if let Some((digest, _)) = layer.blob.filter(|(digest, _)| *digest != found) {
            return Err(layout.differs(&digest, &found));
        }
        // Damage is told by digests first, since it looks like anything.
        let content = content.map_err(|e| refused(e.to_string()))?.unwrap_or(found);
        if content != layer.diff_id {
            return Err(layout.unreadable(format!(
                "layer {short}: its content is {content}, the image config says {}; the image is inconsistent",
                layer.diff_id
            )));
        }
        let name = match tree.rests_on_others() {
            true => resting(&layer.diff_id, stack),
            false => layer.diff_id.hex(),
        };
        Ok(Ready { name, path: temporary, fresh: true, bytes: notes.bytes - bytes_before })
    }

    /// An image made ready before, whose source is gone: as good as ever. One that has another form of the same name gets
    /// this one too.
    fn earlier(&self, parsed: &Reference, reference: &str) -> Result<Option<Outcome>, Error> {
        let mut known = self.images();
        known.retain(|image| {
            let pinned = parsed.pin.is_none_or(|pin| pin.to_string() == image.digest);
            self.is_complete(image)
                && (image.reference == reference || pinned && parsed.names(&image.reference))
        });
        known.sort_by_key(|image| image.reference != reference);
        let Some(mut image) = known.into_iter().next() else { return Ok(None) };
        if image.reference != reference {
            reference.clone_into(&mut image.reference);
            image.kept = false;
            self.keep_description(&image)?;
        }
        Ok(Some(Outcome {
            image,
            unpacked: 0,
            blobs: Vec::new(),
            notes: vec![
                "its source is not attached any more; the copy on the state partition is used".to_owned(),
            ],
        }))
    }

    fn temporary(&self, name: &str) -> PathBuf {
        self.root.join("tmp").join(name)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    fn done(&self, _step: u8) -> Result<(), Error> {
        Ok(())
    }

    /// Tests cut the power after a step: nothing is tidied up.
    #[cfg(test)]
    fn done(&self, step: u8) -> Result<(), Error> {
        if self.cut_after.get() == step { Err(Error::Unusable("cut".to_owned())) } else { Ok(()) }
    }

    /// One more write, for tests that cut the power after any of them.
    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub(crate) fn written(&self) -> Result<(), Error> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn written(&self) -> Result<(), Error> {
        let left = self.writes_left.get().saturating_sub(1);
        self.writes_left.set(left);
        if left == 0 { Err(Error::Unusable("cut".to_owned())) } else { Ok(()) }
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    fn is_cut(&self) -> bool {
        false
    }

    #[cfg(test)]
    fn is_cut(&self) -> bool {
        self.cut_after.get() > 0
    }
}

/// A layer of the image at hand.
struct Ready {
    /// Of its folder in `layers/`.
    name: String,
    /// Where it lies now.
    path: PathBuf,
    /// Unpacked just now.
    fresh: bool,
    /// Of its files.
    bytes: u64,
}

impl Ready {
    fn is_opaque(&self) -> bool {
        File::open(&self.path).is_ok_and(|root| below::is_opaque(root.as_fd()))
    }
}

/// The name of a layer that rests on those below.
fn resting(diff_id: &Digest, stack: &[Ready]) -> String {
    let mut hasher = Hasher::default();
    for name in stack.iter().map(|ready| ready.name.as_str()).chain([diff_id.hex().as_str()]) {
        hasher.update(name.as_bytes());
        hasher.update(b" on top\n");
    }
    hasher.digest().hex()
}

/// The layers to stack. overlayfs takes no layer twice; of equal ones the topmost decides alone, since it has
/// everything that the lower ones could show.
fn wanted<'a>(image: &'a Image<'_>) -> Vec<&'a StoredLayer> {
    let again = |i: usize| image.layers[i + 1..].iter().any(|l| l.diff_id == image.layers[i].diff_id);
    image.layers.iter().enumerate().filter(|(i, _)| !again(*i)).map(|(_, layer)| layer).collect()
}

/// The description, checked by the same function that PID 1 reads it with.
fn describe(reference: &str, image: &Image<'_>) -> Result<PreparedImage, Error> {
    let run = &image.config.config;
    let description = PreparedImage {
        format: 1,
        reference: reference.to_owned(),
        digest: image.digest.to_string(),
        layers: wanted(image).iter().map(|l| l.diff_id.hex()).collect(),
        entrypoint: run.entrypoint.clone(),
        cmd: run.cmd.clone(),
        env: run.env.clone(),
        workdir: run.working_dir.clone(),
        user: run.user.clone(),
        stop_signal: run.stop_signal.clone(),
        layer_bytes: Vec::new(),
        kept: false,
    };
    let words = [&description.workdir, &description.user, &description.stop_signal];
    let lists = description.entrypoint.iter().chain(&description.cmd).chain(&description.env);
    if lists.chain(words).any(|word| word.contains('\0')) {
        return Err(Error::Unusable("its config has a NUL byte in a word".to_owned()));
    }
    let checked = serde_json::to_vec(&description).map_err(|e| e.to_string());
    checked.and_then(|bytes| PreparedImage::parse(&bytes)).map_err(Error::Unusable)
}

fn sentences(notes: &Notes) -> Vec<String> {
    let mut all = Vec::new();
    if !notes.devices.is_empty() {
        all.push(format!("device nodes left out: {}", show::list(&notes.devices)));
    }
    if !notes.attributes.is_empty() {
        all.push(format!("extended attributes not kept: {}", show::list(&notes.attributes)));
    }
    all
}

/// A description, if this version can read it.
pub(crate) fn read(path: &Path) -> Option<PreparedImage> {
    let mut bytes = Vec::new();
    let most = berth_units::limits::IMAGE_INDEX_BYTES as u64 + 1;
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    PreparedImage::parse(&bytes).ok()
}

/// Removes a file or folder that may not be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Hashes what is read, up to a bound.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
    left: u64,
}

impl<R: Read> Hashed<R> {
    fn new(inner: R, most: u64) -> Self {
        Self { inner, hasher: Hasher::default(), left: most }
    }

    /// Reads the rest; the digest of everything.
    fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.hasher.digest())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::other("the layer's content is larger than Berth unpacks (32 GiB)"))?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// A decoder asked for 512 bytes, as a tar's headers are, is several times slower than one asked for many.
impl<R: Read> Stream for BufReader<Hashed<R>> {}

fn buffered<R: Read>(inner: R) -> BufReader<R> {
    BufReader::with_capacity(64 * 1024, inner)
}

/// A layer that is not compressed: one hash serves as digest and as diff id.
struct Plain<'a, R>(&'a mut BufReader<R>);

impl<R: Read> Read for Plain<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> Stream for Plain<'_, R> {}

#[cfg(test)]
mod tests;
