//! A repository as its publisher sees it: what it says now, and how that changes.
//!
//! A change is made to the documents in memory; [`Repository::commit`] signs what changed, in the order in which one
//! rests on the other, and writes it. When signatures are missing on what people sign (root, top role of targets),
//! nothing readers see is touched: the documents wait in `staged/`.

use crate::documents::{self, Document, RELEASES, Signers, after, set, set_at};
use crate::error::RepoError;
use crate::keys::{self, Keys, SecretKey};
use crate::layout::{self, Layout};
use crate::limits;
use berth_tuf::json::Value;
use berth_tuf::metadata::{Envelope, Root, Targets};
use berth_tuf::time::Time;
use berth_tuf::{hex, metadata, names};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// How many keys a new repository's root has, and how many of them must sign.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Keys.
    pub root_keys: u8,
    /// Signatures.
    pub threshold: u8,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// Roles of which readers see a new version.
    pub published: Vec<(String, u64)>,
    /// Roles that wait for signatures in `staged/`: how many are there, and how many it takes.
    pub waiting: Vec<(String, u64, u64)>,
}

/// A repository, held for changing.
#[derive(Debug)]
pub struct Repository {
    layout: Layout,
    _lock: fs::File,
    pub(crate) root: Document,
    /// The root before, whose keys must sign the new one too.
    root_before: Option<Document>,
    pub(crate) targets: Document,
    pub(crate) releases: Document,
    snapshot: Document,
    timestamp: Document,
    changed: BTreeSet<&'static str>,
}

const ROOT: &str = "root";
const TARGETS: &str = "targets";
const SNAPSHOT: &str = "snapshot";
const TIMESTAMP: &str = "timestamp";

impl Repository {
    /// Makes a repository and its keys: `root-N.key`, `releases.key`, `online.key` in a folder that must not hold any.
    pub fn init(path: &Path, keys: &Path, setup: Setup, now: Time) -> Result<Done, RepoError> {
        if setup.threshold == 0 || setup.threshold > setup.root_keys || setup.root_keys > limits::ROOT_KEYS {
            let why = format!("{} of {} root keys cannot sign", setup.threshold, setup.root_keys);
            return Err(RepoError::Argument(why));
        }
        let layout = Layout::new(path);
        if layout.metadata().exists() {
            return Err(RepoError::Exists { path: layout.metadata() });
        }
        keys::make_folder(keys)?;
        let names = (1..=setup.root_keys).map(|number| format!("root-{number}.key"));
        let files: Vec<_> = names
            .chain(["releases.key".to_owned(), "online.key".to_owned()])
            .map(|name| keys.join(name))
            .collect();
        if let Some(there) = files.iter().find(|file| file.exists()) {
            return Err(RepoError::Exists { path: there.clone() });
        }
        let made = files.iter().map(|file| SecretKey::create(file)).collect::<Result<Vec<_>, _>>()?;
        let (roots, [releases, online]) = made.split_at(usize::from(setup.root_keys)) else {
            return Err(RepoError::Argument("no keys".to_owned()));
        };
        let people =
            Signers { ids: roots.iter().map(SecretKey::id).collect(), threshold: u64::from(setup.threshold) };
        let one = |key: &SecretKey| Signers { ids: BTreeSet::from([key.id()]), threshold: 1 };
        let public = |keys: &[&SecretKey]| keys.iter().map(|key| (key.id(), key.public())).collect();
        let mut root = Document::new(ROOT, after(now, limits::ROOT_DAYS));
        set(&mut root.signed, "consistent_snapshot", true.into());
        set(&mut root.signed, metadata::REPOSITORY, random_word()?.into());
        let root_keys: Vec<&SecretKey> = roots.iter().chain([online]).collect();
        set(&mut root.signed, "keys", Value::Object(public(&root_keys)));
        for (role, signers) in
            [(ROOT, people.clone()), (TARGETS, people), (SNAPSHOT, one(online)), (TIMESTAMP, one(online))]
        {
            set_at(&mut root.signed, &["roles", role], signers.to_value());
        }
        let mut targets = Document::new(TARGETS, after(now, limits::ROOT_DAYS));
        set(&mut targets.signed, "targets", Value::Object(BTreeMap::new()));
        let delegations = documents::delegations(&one(releases), public(&[releases]));
        set(&mut targets.signed, "delegations", delegations);
        let mut first = Document::new(TARGETS, after(now, limits::RELEASES_DAYS));
        set(&mut first.signed, "targets", Value::Object(BTreeMap::new()));
        fs::create_dir_all(layout.metadata()).map_err(RepoError::file(layout.metadata()))?;
        fs::create_dir_all(layout.targets()).map_err(RepoError::file(layout.targets()))?;
        let mut repository = Self {
            _lock: lock(&layout)?,
            layout,
            root,
            root_before: None,
            targets,
            releases: first,
            snapshot: Document::new(SNAPSHOT, after(now, limits::SNAPSHOT_DAYS)),
            timestamp: Document::new(TIMESTAMP, after(now, limits::TIMESTAMP_DAYS)),
            changed: BTreeSet::from([ROOT, TARGETS, RELEASES]),
        };
        repository.commit(&Keys::of(made), now)
    }

    /// Opens a repository for changing; waits for whoever does so now.
    pub fn open(path: &Path) -> Result<Self, RepoError> {
        let layout = Layout::new(path);
        let none = || RepoError::None { path: path.to_owned() };
        if !layout.metadata().join("timestamp.json").exists() {
            return Err(none());
        }
        let lock = lock(&layout)?;
        let load = |file: String| -> Result<Document, RepoError> {
            let path = layout.metadata().join(file);
            let bytes = layout::read(&path)?.ok_or_else(none)?;
            Document::parse(&bytes).ok_or(RepoError::Release { path, why: "it is no metadata".to_owned() })
        };
        let root = load(names::versioned_file(layout.newest(ROOT)?, ROOT))?;
        let timestamp = load(names::role_file(TIMESTAMP))?;
        let listed = |document: &Document, file: &str| {
            let meta = document.signed.get("meta").and_then(|meta| meta.get(file));
            meta.and_then(|meta| meta.get("version")).and_then(Value::as_u64).ok_or_else(none)
        };
        let snapshot = load(names::versioned_file(listed(&timestamp, "snapshot.json")?, SNAPSHOT))?;
        let targets = load(names::versioned_file(listed(&snapshot, "targets.json")?, TARGETS))?;
        let releases = load(names::versioned_file(listed(&snapshot, "releases.json")?, RELEASES))?;
        let root_before = Some(root.clone());
        let changed = BTreeSet::new();
        Ok(Self { layout, _lock: lock, root, root_before, targets, releases, snapshot, timestamp, changed })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Signs what waits for signatures, and again what the keys at hand may: timestamp and snapshot in any case, the rest
    /// when half of its time has passed. What readers see is kept alive also while people have yet to sign.
    pub fn sign(mut self, keys: &Keys, now: Time) -> Result<Done, RepoError> {
        let mut waiting = Vec::new();
        if self.layout.staged().exists() {
            let seen = (self.root.clone(), self.targets.clone(), self.releases.clone());
            self.take_staged()?;
            if !self.changed.is_empty() {
                let done = self.commit(keys, now)?;
                if done.waiting.is_empty() {
                    self.clear_staged()?;
                    return Ok(done);
                }
                if !self.is_online(keys) {
                    return Ok(done);
                }
                waiting = done.waiting;
            } else {
                // A cut left the folder behind.
                self.clear_staged()?;
            }
            (self.root, self.targets, self.releases) = seen;
            self.changed.clear();
        }
        if waiting.is_empty() {
            self.renew_people(keys, now);
        }
        self.renew_releases(keys, now);
        let done = self.commit(keys, now)?;
        waiting.extend(done.waiting);
        Ok(Done { published: done.published, waiting })
    }

    fn has_key(&self, role: &str, keys: &Keys) -> bool {
        self.signers(role).is_some_and(|all| all.ids.iter().any(|id| keys.get(id).is_some()))
    }

    fn is_online(&self, keys: &Keys) -> bool {
        self.has_key(SNAPSHOT, keys) && self.has_key(TIMESTAMP, keys)
    }

    fn renew_people(&mut self, keys: &Keys, now: Time) {
        let half = after(now, limits::ROOT_DAYS / 2);
        if self.root.expires() < half && self.has_key(ROOT, keys) {
            self.renew(ROOT, now);
        }
        if self.targets.expires() < half && self.has_key(TARGETS, keys) {
            self.renew(TARGETS, now);
        }
    }

    fn renew_releases(&mut self, keys: &Keys, now: Time) {
        let staged = self.layout.staged().join(names::role_file(RELEASES)).exists();
        if !staged
            && self.releases.expires() < after(now, limits::RELEASES_DAYS / 2)
            && self.has_key(RELEASES, keys)
        {
            self.renew(RELEASES, now);
        }
    }

    /// Puts a new key in the place of another, wherever that counts. The old one is named by its id, or the beginning
    /// of it. The new key must be among those at hand.
    pub fn rotate(mut self, old: &str, new: &SecretKey, keys: &Keys, now: Time) -> Result<Done, RepoError> {
        self.nothing_staged()?;
        let old = self.whole_id(old)?;
        let replace = |signers: &mut Signers| {
            let there = signers.ids.remove(&old);
            if there {
                signers.ids.insert(new.id());
            }
            there
        };
        let (mut in_root, mut of_people) = (false, false);
        for role in names::TOP_LEVEL {
            let Some(mut signers) = documents::signers_in_root(&self.root.signed, role) else { continue };
            if replace(&mut signers) {
                in_root = true;
                of_people |= role == TARGETS;
                set_at(&mut self.root.signed, &["roles", role], signers.to_value());
            }
        }
        if in_root {
            let mut known =
                self.root.signed.get("keys").and_then(Value::as_object).cloned().unwrap_or_default();
            known.remove(&old);
            known.insert(new.id(), new.public());
            set(&mut self.root.signed, "keys", Value::Object(known));
            self.renew(ROOT, now);
        }
        if of_people {
            // It was signed by a key that no longer counts.
            self.renew(TARGETS, now);
        }
        if let Some(mut signers) = documents::signers_of_releases(&self.targets.signed)
            && replace(&mut signers)
        {
            let public = BTreeMap::from([(new.id(), new.public())]);
            set(&mut self.targets.signed, "delegations", documents::delegations(&signers, public));
            if !of_people {
                self.renew(TARGETS, now);
            }
            self.renew(RELEASES, now);
        }
        self.commit(keys, now)
    }

    /// The id of a key that counts here, by its beginning.
    pub fn whole_id(&self, old: &str) -> Result<String, RepoError> {
        let roles = names::TOP_LEVEL.into_iter().chain([RELEASES]);
        let ids: BTreeSet<String> =
            roles.filter_map(|role| self.signers(role)).flat_map(|all| all.ids).collect();
        let fitting: Vec<&String> = ids.iter().filter(|id| id.starts_with(old)).collect();
        match fitting[..] {
            [one] if old.len() >= 8 => Ok(one.clone()),
            _ => {
                let all: Vec<&str> = ids.iter().map(|id| id.get(..12).unwrap_or(id)).collect();
                Err(RepoError::Argument(format!(
                    "{old:?} is not the beginning (8 digits or more) of one key that counts here; these do: {}",
                    all.join(", ")
                )))
            }
        }
    }

    /// Fails while something waits that a change would be lost beside.
    fn nothing_staged(&self) -> Result<(), RepoError> {
        let path = self.layout.staged();
        if path.exists() { Err(RepoError::Staged { path }) } else { Ok(()) }
    }

    /// The same for a release: new root keys that wait for signatures do not hold one up.
    pub(crate) fn no_releases_staged(&self) -> Result<(), RepoError> {
        let path = self.layout.staged();
        let there = path.join(names::role_file(RELEASES)).exists();
        if there { Err(RepoError::Staged { path }) } else { Ok(()) }
    }

    fn clear_staged(&self) -> Result<(), RepoError> {
        match fs::remove_dir_all(self.layout.staged()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(RepoError::file(self.layout.staged())(error))
            }
            _ => Ok(()),
        }
    }

    fn take_staged(&mut self) -> Result<(), RepoError> {
        let parts: [(&'static str, &mut Document); 3] =
            [(ROOT, &mut self.root), (TARGETS, &mut self.targets), (RELEASES, &mut self.releases)];
        for (role, document) in parts {
            let path = self.layout.staged().join(names::role_file(role));
            let Some(bytes) = layout::read(&path)? else { continue };
            let wrong = || RepoError::Release { path: path.clone(), why: "it is no metadata".to_owned() };
            let staged = Document::parse(&bytes).ok_or_else(wrong)?;
            // Once it is published, what was left of the folder by a cut means nothing.
            if staged.version() > document.version() {
                *document = staged;
                self.changed.insert(role);
            }
        }
        Ok(())
    }

    /// The next version of a role, to be signed.
    pub(crate) fn renew(&mut self, role: &'static str, now: Time) {
        let (document, days) = match role {
            ROOT => (&mut self.root, limits::ROOT_DAYS),
            TARGETS => (&mut self.targets, limits::ROOT_DAYS),
            _ => (&mut self.releases, limits::RELEASES_DAYS),
        };
        document.renew(now, days);
        self.changed.insert(role);
    }

    fn signers(&self, role: &str) -> Option<Signers> {
        match role {
            RELEASES => documents::signers_of_releases(&self.targets.signed),
            role => documents::signers_in_root(&self.root.signed, role),
        }
    }

    fn need(&self, role: &str) -> Result<Signers, RepoError> {
        let path = self.layout.path().to_owned();
        self.signers(role).ok_or(RepoError::Release { path, why: format!("no keys are named for {role}") })
    }

    /// Signs what changed and writes it:
    ///
    /// 1. Root, targets, releases are signed. If one lacks signatures, all that changed goes to `staged/`, and that is all.
    /// 2. What will be read is checked as a client does: others may have added signatures that are none.
    /// 3. Snapshot and timestamp are signed.
    /// 4. Versioned files are written: targets, releases, snapshot, root.
    /// 5. `timestamp.json` replaces the old one.
    pub(crate) fn commit(&mut self, keys: &Keys, now: Time) -> Result<Done, RepoError> {
        let online = self.need(TIMESTAMP)?;
        let mut lacking = Vec::new();
        for role in [ROOT, TARGETS, RELEASES] {
            if !self.changed.contains(role) {
                continue;
            }
            let mut wanted = vec![self.need(role)?];
            if role == ROOT
                && let Some(before) = &self.root_before
            {
                wanted.extend(documents::signers_in_root(&before.signed, ROOT));
            }
            let document = match role {
                ROOT => &mut self.root,
                TARGETS => &mut self.targets,
                _ => &mut self.releases,
            };
            for signers in wanted {
                let have = document.sign(&signers, keys);
                if have < signers.threshold {
                    lacking.push((role.to_owned(), have, signers.threshold));
                }
            }
        }
        lacking.dedup();
        if !lacking.is_empty() {
            return self.stage(lacking);
        }
        for role in [SNAPSHOT, TIMESTAMP] {
            let signers = self.need(role)?;
            if !signers.ids.iter().any(|id| keys.get(id).is_some()) {
                if !self.changed.is_empty() {
                    // Everything that people sign is signed: whoever has the last key finishes.
                    return self.stage(vec![(role.to_owned(), 0, online.threshold)]);
                }
                return Err(RepoError::NoKey { role: role.to_owned(), ids: signers.shown() });
            }
        }
        self.check()?;
        self.publish(keys, now)
    }

    fn check(&self) -> Result<(), RepoError> {
        let parse = |file: &str, document: &Document| {
            let why = |why| RepoError::Release { path: file.into(), why };
            Envelope::parse(&document.to_bytes()).map_err(why)
        };
        let bytes = self.root.to_bytes();
        let root = match &self.root_before {
            Some(before) if self.changed.contains(ROOT) => {
                Root::parse("root.json", &before.to_bytes())?.successor("the new root.json", &bytes)?
            }
            _ => Root::parse("root.json", &bytes)?,
        };
        let top = parse("targets.json", &self.targets)?;
        top.verify("targets.json", root.targets())?;
        let top: Targets = top.read("targets.json")?;
        let delegation = top.delegations.iter().find(|delegation| delegation.role == RELEASES);
        let delegation = delegation.ok_or_else(|| RepoError::Release {
            path: "targets.json".into(),
            why: "it names nobody for releases".to_owned(),
        })?;
        let releases = parse("releases.json", &self.releases)?;
        releases.verify("releases.json", &delegation.authority)?;
        releases.read::<Targets>("releases.json")?;
        Ok(())
    }

    fn stage(&self, lacking: Vec<(String, u64, u64)>) -> Result<Done, RepoError> {
        for (role, document) in [(ROOT, &self.root), (TARGETS, &self.targets), (RELEASES, &self.releases)] {
            if self.changed.contains(role) {
                layout::write(&self.layout.staged().join(names::role_file(role)), &document.to_bytes())?;
            }
        }
        Ok(Done { published: Vec::new(), waiting: lacking })
    }

    fn publish(&mut self, keys: &Keys, now: Time) -> Result<Done, RepoError> {
        let metadata = self.layout.metadata();
        let first = !metadata.join("timestamp.json").exists();
        for (file, document) in [("targets.json", &self.targets), ("releases.json", &self.releases)] {
            let listed = listed(document.version(), &document.to_bytes());
            set_at(&mut self.snapshot.signed, &["meta", file], listed);
        }
        if !first {
            self.snapshot.renew(now, limits::SNAPSHOT_DAYS);
            self.timestamp.renew(now, limits::TIMESTAMP_DAYS);
        }
        self.snapshot.sign(&self.need(SNAPSHOT)?, keys);
        let snapshot = listed(self.snapshot.version(), &self.snapshot.to_bytes());
        set_at(&mut self.timestamp.signed, &["meta", "snapshot.json"], snapshot);
        self.timestamp.sign(&self.need(TIMESTAMP)?, keys);
        let mut done = Vec::new();
        for (role, document) in [
            (TARGETS, &self.targets),
            (RELEASES, &self.releases),
            (SNAPSHOT, &self.snapshot),
            (ROOT, &self.root),
        ] {
            if role == SNAPSHOT || self.changed.contains(role) {
                let file = names::versioned_file(document.version(), role);
                layout::write(&metadata.join(file), &document.to_bytes())?;
                done.push((role.to_owned(), document.version()));
            }
        }
        layout::write(&metadata.join(names::role_file(TIMESTAMP)), &self.timestamp.to_bytes())?;
        done.push((TIMESTAMP.to_owned(), self.timestamp.version()));
        self.changed.clear();
        Ok(Done { published: done, waiting: Vec::new() })
    }
}

fn lock(layout: &Layout) -> Result<fs::File, RepoError> {
    let path = layout.lock();
    let file = fs::File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(RepoError::file(&path))?;
    file.lock().map_err(RepoError::file(&path))?;
    Ok(file)
}

fn listed(version: u64, bytes: &[u8]) -> Value {
    let sha256: Value = hex(digest(&SHA256, bytes).as_ref()).into();
    Value::from([
        ("version", version.into()),
        ("length", (bytes.len() as u64).into()),
        ("hashes", Value::from([("sha256", sha256)])),
    ])
}

fn random_word() -> Result<String, RepoError> {
    let mut bytes = [0; 16];
    let failed = |_| RepoError::Argument("the system gave no random bytes".to_owned());
    SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    Ok(hex(&bytes))
}
