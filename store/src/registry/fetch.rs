//! One image, from its reference to the folder.

use super::Pace;
use super::document::media_type;
use super::error::{Again, Error, Failure};
use super::folder::{Folder, Part};
use super::http::Http;
use super::place::Place;
use crate::digest::Digest;
use crate::oci::{Descriptor, INDEX_TYPES, ImageConfig, Index, MANIFEST_TYPES, Manifest, wrong_platform};
use crate::reference::Reference;
use crate::{limits, show};
use berth_units::model::RegistrySettings;
use futures_util::{TryStreamExt, stream};
use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are here.
    pub done: u64,
    /// Bytes in all, of the blobs that were not here at first.
    pub total: u64,
    /// Blobs that are here.
    pub blobs_done: usize,
    /// Blobs in all.
    pub blobs: usize,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Digest of the manifest for this machine.
    pub digest: Digest,
    /// Bytes of the blobs that were fetched now.
    pub bytes: u64,
}

/// Fills one folder; several images at a time.
pub struct Fetcher {
    pub(super) folder: Folder,
    pace: Pace,
    http: RefCell<Rc<Http>>,
    /// Blobs under way: two images that share one fetch it once.
    under_way: RefCell<BTreeMap<Digest, Rc<Mutex<()>>>>,
    /// Images under way.
    running: Rc<()>,
}

/// One image being fetched.
struct Pull<'a> {
    folder: &'a Folder,
    under_way: &'a RefCell<BTreeMap<Digest, Rc<Mutex<()>>>>,
    http: Rc<Http>,
    place: Place,
    progress: Cell<Progress>,
    told: Cell<Instant>,
    tell: &'a dyn Fn(Progress),
}

/// What earlier tries of a blob came to.
#[derive(Default)]
struct Tried {
    /// What was kept from before turned out wrong: begin anew.
    afresh: bool,
    /// Bytes that were there at most: only what is beyond counts as progress, so that tries end.
    furthest: u64,
}

impl Fetcher {
    /// Opens the folder.
    pub fn open(folder: &Path, pace: Pace) -> Result<Self, Error> {
        let http = RefCell::new(Rc::new(Http::new(RegistrySettings::default(), pace)));
        Ok(Self {
            folder: Folder::open(folder)?,
            pace,
            http,
            under_way: RefCell::default(),
            running: Rc::default(),
        })
    }

    /// How registries are reached from now on; what is under way goes on as it began.
    pub fn set(&self, settings: RegistrySettings) {
        self.http.replace(Rc::new(Http::new(settings, self.pace)));
    }

    /// Fetches an image. Layers for which `have` is true are left out, and `tell` hears of progress, at most five
    /// times a second.
    pub async fn fetch(
        &self,
        reference: &str,
        have: &dyn Fn(&Digest) -> bool,
        tell: &dyn Fn(Progress),
    ) -> Result<Fetched, Error> {
        let parsed = Reference::parse(reference).map_err(Error::Reference)?;
        let http = Rc::clone(&self.http.borrow());
        let place = Place::of(&parsed, |host| http.is_plain(host))?;
        let _running = Rc::clone(&self.running);
        // What others have fetched and not named yet is no leftover, whatever the clock says.
        if Rc::strong_count(&self.running) == 2 {
            self.folder.tidy(have)?;
        }
        let (folder, under_way) = (&self.folder, &self.under_way);
        let told = Cell::new(Instant::now());
        let pull = Pull { folder, under_way, http, place, progress: Cell::default(), told, tell };
        let (top, fetched) = pull.image(have).await?;
        self.folder.name(reference, &top)?;
        Ok(fetched)
    }
}

impl Pull<'_> {
    async fn image(&self, have: &dyn Fn(&Digest) -> bool) -> Result<(Descriptor, Fetched), Error> {
        let (top, mut bytes) = match self.place.pin {
            Some(pin) => self.document(&pin).await?,
            None => self.persist(async || self.ask_document(&self.place.wanted).await).await?,
        };
        let mut descriptor = top.clone();
        for _ in 0..=limits::INDEX_DEPTH {
            if descriptor.is_manifest() {
                return Ok((top, self.manifest(&descriptor, &bytes, have).await?));
            }
            let index: Index = self.json("an index", &bytes)?;
            if index.manifests.len() > limits::DESCRIPTORS {
                return Err(self.bad(format!("an index of more than {} images", limits::DESCRIPTORS)));
            }
            let child = index.ours().map_err(Error::Unusable)?.clone();
            let found;
            (found, bytes) = self.document(&child.digest).await?;
            if found.size != child.size || found.is_index() != child.is_index() {
                return Err(self.bad(format!(
                    "an index that says of {} what is not so: {}, {} bytes, where it is {}, {} bytes",
                    child.digest,
                    show::name(child.media_type().as_bytes()),
                    child.size,
                    found.media_type(),
                    found.size
                )));
            }
            descriptor = child;
        }
        Err(self.bad(format!("more than {} indexes inside each other", limits::INDEX_DEPTH)))
    }

    /// An index or manifest by digest; from the folder where it is there.
    async fn document(&self, digest: &Digest) -> Result<(Descriptor, Vec<u8>), Error> {
        if let Some(bytes) = self.folder.read(digest, limits::MANIFEST_BYTES)
            && let Ok(media_type) = media_type(&bytes, None)
        {
            return Ok((Descriptor::plain(media_type, *digest, bytes.len() as u64), bytes));
        }
        let wanted = digest.to_string();
        let (descriptor, bytes) = self.persist(async || self.ask_document(&wanted).await).await?;
        Ok((descriptor, bytes))
    }

    async fn ask_document(&self, wanted: &str) -> Result<(Descriptor, Vec<u8>), Failure> {
        let accept = [INDEX_TYPES, MANIFEST_TYPES].concat().join(", ");
        let what = format!("manifests/{wanted}");
        let answer = self.http.get(&self.place, &what, &accept, None).await?;
        if answer.status != StatusCode::OK {
            return Err(self.bad(format!("{} for a manifest", answer.status.as_u16())).into());
        }
        let content_type = answer.media_type();
        let length = answer.length();
        let bytes = answer.whole(limits::MANIFEST_BYTES, "a manifest").await?;
        if length.is_some_and(|length| length != bytes.len() as u64) {
            let why = "a manifest that is cut short".to_owned();
            return Err(Failure::soon(self.bad(why)));
        }
        let found = Digest::of(&bytes);
        if let Some(asked) = Digest::parse(wanted).filter(|asked| *asked != found) {
            return Err(self.bad(format!("{found} where {asked} was asked for")).into());
        }
        let media_type = media_type(&bytes, content_type.as_deref()).map_err(|why| self.bad(why))?;
        self.folder.put(&found, &bytes)?;
        Ok((Descriptor::plain(media_type, found, bytes.len() as u64), bytes))
    }

    async fn manifest(
        &self,
        descriptor: &Descriptor,
        bytes: &[u8],
        have: &dyn Fn(&Digest) -> bool,
    ) -> Result<Fetched, Error> {
        let manifest: Manifest = self.json("a manifest", bytes)?;
        let most = berth_units::limits::LAYERS;
        if manifest.layers.len() > most {
            return Err(Error::Unusable(format!(
                "it has {} layers; {most} is the most that can be stacked, build it with fewer",
                manifest.layers.len()
            )));
        }
        let config = &manifest.config;
        if config.size > limits::CONFIG_BYTES {
            let most = limits::CONFIG_BYTES;
            return Err(self.bad(format!("a config of {} bytes; {most} is the most", config.size)));
        }
        self.blob(config).await?;
        let bytes = self.folder.read(&config.digest, limits::CONFIG_BYTES);
        let bytes = bytes.ok_or_else(|| Error::Folder(format!("blob {} is gone", config.digest)))?;
        let parsed: ImageConfig = self.json("a config", &bytes)?;
        if let Some(platform) = parsed.wrong_platform() {
            return Err(Error::Unusable(wrong_platform(&platform)));
        }
        let diff_ids = &parsed.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            return Err(self.bad(format!(
                "a manifest with {} layers and a config with {}",
                manifest.layers.len(),
                diff_ids.len()
            )));
        }
        let mut wanted: BTreeMap<Digest, &Descriptor> = BTreeMap::new();
        for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
            if layer.size > limits::LAYER_BLOB_BYTES {
                let most = limits::LAYER_BLOB_BYTES;
                return Err(self.bad(format!("a layer of {} bytes; {most} is the most", layer.size)));
            }
            if !have(diff_id) && !self.folder.has(&layer.digest, layer.size) {
                wanted.insert(layer.digest, layer);
            }
        }
        let total = wanted.values().map(|layer| layer.size).sum();
        self.progress.set(Progress { total, blobs: wanted.len(), ..Progress::default() });
        (self.tell)(self.progress.get());
        stream::iter(wanted.values().map(Ok::<_, Error>))
            .try_for_each_concurrent(limits::FETCHES, |layer| self.blob(layer))
            .await?;
        (self.tell)(self.progress.get());
        Ok(Fetched { digest: descriptor.digest, bytes: total })
    }

    /// One blob, unless it is there.
    async fn blob(&self, blob: &Descriptor) -> Result<(), Error> {
        let turn = Rc::clone(self.under_way.borrow_mut().entry(blob.digest).or_default());
        let fetched = {
            let _mine = turn.lock().await;
            self.blob_in_turn(blob).await
        };
        // The last one out takes the lock along.
        let mut under_way = self.under_way.borrow_mut();
        if Rc::strong_count(&turn) <= 2 {
            under_way.remove(&blob.digest);
        }
        fetched
    }

    async fn blob_in_turn(&self, blob: &Descriptor) -> Result<(), Error> {
        if self.folder.has(&blob.digest, blob.size) {
            self.count(blob.size, 1);
            return Ok(());
        }
        let mut tried = Tried::default();
        let part = self.persist(async || self.ask_blob(blob, &mut tried).await).await?;
        self.folder.keep(part, &blob.digest)?;
        self.count(0, 1);
        Ok(())
    }

    async fn ask_blob(&self, blob: &Descriptor, tried: &mut Tried) -> Result<Part, Failure> {
        let digest = &blob.digest;
        let mut part = self.folder.part(digest)?;
        if tried.afresh || part.len > blob.size {
            self.folder.restart(&mut part, digest)?;
        }
        let begun_at = part.len;
        tried.furthest = tried.furthest.max(begun_at);
        self.count(begun_at, 0);
        if let Err(mut failure) = self.go_on(blob, &mut part).await {
            self.uncount(part.len);
            let gained = part.len.saturating_sub(tried.furthest);
            if failure.again == Again::Soon && gained >= limits::PROGRESS_BYTES {
                tried.furthest = part.len;
                failure.again = Again::Now;
            }
            return Err(failure);
        }
        let found = self.folder.found(&part);
        if found == *digest {
            return Ok(part);
        }
        self.uncount(part.len);
        let error = self.bad(format!("{found} where {digest} was asked for"));
        self.folder.restart(&mut part, digest)?;
        // What was kept from before may be to blame, but only once.
        let again = if begun_at > 0 && !tried.afresh { Again::Now } else { Again::Never };
        tried.afresh = true;
        Err(Failure { error, again })
    }

    /// Until the part has the blob's size.
    async fn go_on(&self, blob: &Descriptor, part: &mut Part) -> Result<(), Failure> {
        if part.len == blob.size {
            return Ok(());
        }
        let (digest, size) = (&blob.digest, blob.size);
        let from = Some(part.len).filter(|len| *len > 0);
        let what = format!("blobs/{digest}");
        let mut answer = self.http.get(&self.place, &what, "*/*", from).await?;
        let expected = match answer.status {
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
                if range.and_then(range_start) != from {
                    return Err(self
                        .bad(format!(
                            "another part of blob {digest} than was asked for ({:?})",
                            show::name(range.unwrap_or_default().as_bytes())
                        ))
                        .into());
                }
                size - part.len
            }
            StatusCode::OK => {
                self.uncount(part.len);
                self.folder.restart(part, digest)?;
                size
            }
            _ => {
                self.uncount(part.len);
                self.folder.restart(part, digest)?;
                return Err(Failure::soon(self.bad(format!("no end of blob {digest}"))));
            }
        };
        if let Some(length) = answer.length().filter(|length| *length != expected) {
            return Err(self
                .bad(format!("{length} bytes of blob {digest}, where the manifest leaves {expected}"))
                .into());
        }
        while let Some(chunk) = answer.chunk().await? {
            if part.len + chunk.len() as u64 > size {
                self.uncount(part.len);
                self.folder.restart(part, digest)?;
                return Err(self.bad(format!("more than the {size} bytes of blob {digest}")).into());
            }
            self.folder.add(part, digest, &chunk)?;
            self.count(chunk.len() as u64, 0);
        }
        if part.len < size {
            let why = format!("{} of the {size} bytes of blob {digest}", part.len);
            return Err(Failure::soon(self.bad(why)));
        }
        Ok(())
    }

    /// Tries again what may go better.
    async fn persist<T>(&self, mut attempt: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Error> {
        let mut tries = 1;
        let mut pause = self.http.pace.pause;
        loop {
            let failure = match attempt().await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            let wait = match failure.again {
                Again::Never => return Err(failure.error),
                Again::Now => {
                    tries = 1;
                    Duration::ZERO
                }
                Again::Soon => pause,
                Again::After(asked) => asked.max(pause),
            };
            if tries >= limits::TRIES {
                return Err(failure.error);
            }
            if wait > Duration::ZERO {
                tries += 1;
                pause *= 2;
                tokio::time::sleep(wait).await;
            }
        }
    }

    fn count(&self, bytes: u64, blobs: usize) {
        let mut progress = self.progress.get();
        if progress.blobs == 0 {
            return;
        }
        progress.done = (progress.done + bytes).min(progress.total);
        progress.blobs_done += blobs;
        self.progress.set(progress);
        if self.told.get().elapsed() >= Duration::from_millis(limits::PROGRESS_MILLIS) {
            self.told.set(Instant::now());
            (self.tell)(progress);
        }
    }

    fn uncount(&self, bytes: u64) {
        let mut progress = self.progress.get();
        progress.done = progress.done.saturating_sub(bytes);
        self.progress.set(progress);
    }

    fn bad(&self, why: String) -> Error {
        Error::Bad { host: self.place.host.clone(), why }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, what: &str, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes)
            .map_err(|e| self.bad(format!("{what} that cannot be read: {}", show::bounded(e.to_string()))))
    }
}

/// `bytes 100-999/1000`
pub(super) fn range_start(text: &str) -> Option<u64> {
    text.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let _ = media_type(bytes, None);
    let text = String::from_utf8_lossy(bytes);
    let _ = media_type(bytes, Some(&text));
    let _ = range_start(&text);
    if let Ok(reference) = Reference::parse(&text)
        && let Ok(place) = Place::of(&reference, |_| false)
    {
        let url = place.url("manifests/x").map(|url| url.path().starts_with("/v2/"));
        assert!(url.is_ok_and(|sound| sound), "{text}");
    }
}
