//! The client's workflow (§5). [`Client::refresh`] takes §5.3 to §5.6 in order; each step is one function.

use crate::error::Error;
use crate::fetch::{Fetch, FetchError};
use crate::metadata::{Authority, Envelope, Listed, Role, Root, Snapshot, Targets, Timestamp};
use crate::state::{Disk, State};
use crate::target::{Target, Verified};
use crate::time::{Clock, Time};
use crate::{hex, limits, names, search};
use ring::digest;
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

/// A repository's client: what it trusts, and where it keeps that.
#[derive(Debug)]
pub struct Client<D> {
    state: State<D>,
    now: Time,
    seen: Time,
    root: Root,
    current: Option<Current>,
}

/// What the last refresh found.
#[derive(Debug)]
struct Current {
    snapshot: Snapshot,
    targets: Targets,
}

impl<D: Disk> Client<D> {
    /// Opens the state, or begins one. The anchor is the root that comes with the system, or from its operator: it is
    /// trusted as it stands, and the kept root goes on from it.
    ///
    /// Another anchor than last time (a newer system brings a newer root, or the operator names another repository)
    /// counts from now on, unless it is an older root of the same repository.
    pub fn open(disk: D, anchor: &[u8], clock: &Clock) -> Result<Self, Error> {
        let mut state = State::new(disk);
        let given = Root::parse("trusted root", anchor)?;
        let hash = hex(digest::digest(&digest::SHA256, anchor).as_ref());
        let known = state.anchor().as_deref() == Some(hash.as_str());
        let kept = state.root().and_then(|bytes| Root::parse("root.json", &bytes).ok());
        let same = |kept: &Root| kept.repository.is_some() && kept.repository == given.repository;
        let root = match kept {
            Some(kept) if known || (same(&kept) && kept.header().version >= given.header().version) => kept,
            None if known => {
                state.keep_root(anchor, given.header().version, false)?;
                given
            }
            kept => {
                let forget = !kept.is_some_and(|kept| same(&kept) && !replaces_online_keys(&given, &kept));
                state.keep_root(anchor, given.header().version, forget)?;
                given
            }
        };
        if !known {
            state.keep_anchor(&hash)?;
        }
        state.settle(root.header().version)?;
        let seen = state.seen();
        Ok(Self { state, now: clock.after(seen), seen, root, current: None })
    }

    /// What counts as now.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The root that is trusted.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Where the state is kept.
    pub fn disk(&self) -> &D {
        self.state.disk()
    }

    /// Gives back where the state is kept.
    pub fn into_disk(self) -> D {
        self.state.into_disk()
    }

    /// Brings the metadata up to date. On an error, what was right so far is kept, and nothing can be looked up.
    pub fn refresh(&mut self, fetch: &mut dyn Fetch) -> Result<(), Error> {
        self.current = None;
        self.roots(fetch)?;
        let timestamp = self.timestamp(fetch)?;
        let snapshot = self.snapshot(fetch, &timestamp.snapshot)?;
        let authority = self.root.targets().clone();
        let targets = self.targets(fetch, &snapshot, "targets", &authority)?;
        if self.now > self.seen {
            self.state.keep_seen(self.now)?;
            self.seen = self.now;
        }
        self.current = Some(Current { snapshot, targets });
        Ok(())
    }

    /// §5.3: one root after the other, each signed by the one before and by itself.
    fn roots(&mut self, fetch: &mut dyn Fetch) -> Result<(), Error> {
        for _ in 0..limits::ROOTS {
            let version = self.root.header().version + 1;
            let file = names::versioned_file(version, "root");
            let Some(bytes) = get(fetch, &file, limits::ROOT_BYTES)? else {
                // Only the last root must be valid (§5.3.10).
                return self.in_time("root.json", self.root.header().expires);
            };
            let next = self.root.successor(&file, &bytes)?;
            self.state.keep_root(&bytes, version, replaces_online_keys(&next, &self.root))?;
            self.root = next;
        }
        let why = format!("{} roots at once; the next refresh goes on", limits::ROOTS);
        Err(Error::Limit { file: "root.json".to_owned(), why })
    }

    /// §5.4: the newest timestamp.
    fn timestamp(&mut self, fetch: &mut dyn Fetch) -> Result<Timestamp, Error> {
        let file = "timestamp.json";
        let kept = self.kept::<Timestamp>("timestamp", limits::TIMESTAMP_BYTES, self.root.timestamp());
        let bytes = needed(fetch, file, limits::TIMESTAMP_BYTES)?;
        let new: Timestamp = verified(file, &bytes, self.root.timestamp())?;
        let newer = match &kept {
            None => true,
            Some((_, kept)) => {
                not_older(file, "itself", new.header().version, kept.header().version)?;
                let newer = new.header().version > kept.header().version;
                if newer {
                    not_older(file, "snapshot.json", new.snapshot.version, kept.snapshot.version)?;
                }
                newer
            }
        };
        // The same version again is the one that is known, whatever the server makes of it (§5.4.3).
        let timestamp = match kept {
            Some((_, kept)) if !newer => kept,
            _ => new,
        };
        self.in_time(file, timestamp.header().expires)?;
        if newer {
            self.state.keep_role("timestamp", &bytes)?;
        }
        Ok(timestamp)
    }

    /// §5.5: the snapshot that the timestamp lists.
    fn snapshot(&mut self, fetch: &mut dyn Fetch, listed: &Listed) -> Result<Snapshot, Error> {
        let kept = self.kept::<Snapshot>("snapshot", limits::SNAPSHOT_BYTES, self.root.snapshot());
        let file = self.file(listed.version, "snapshot");
        let kept = match kept {
            Some((bytes, kept)) if is_listed(listed, &bytes, kept.header().version) => {
                self.in_time(&file, kept.header().expires)?;
                return Ok(kept);
            }
            kept => kept.map(|(_, kept)| kept),
        };
        let bytes = self.listed_file(fetch, &file, listed, limits::SNAPSHOT_BYTES)?;
        let new: Snapshot = verified(&file, &bytes, self.root.snapshot())?;
        is_version(&file, new.header().version, listed.version)?;
        for (role, before) in kept.iter().flat_map(|kept| &kept.roles) {
            let Some(now) = new.roles.get(role) else {
                return Err(Error::Withdrawn { file, role: role.clone() });
            };
            not_older(&file, role, now.version, before.version)?;
        }
        self.in_time(&file, new.header().expires)?;
        self.state.keep_role("snapshot", &bytes)?;
        let files: BTreeSet<String> = new.roles.keys().map(|role| names::role_file(role)).collect();
        self.state.prune(|file| files.contains(file))?;
        Ok(new)
    }

    /// §5.6, and §5.6.7.1 for delegated roles: a role with targets, as the snapshot lists it. Whose signatures count is
    /// decided by whoever delegates at this point, also for what is kept.
    fn targets(
        &mut self,
        fetch: &mut dyn Fetch,
        snapshot: &Snapshot,
        role: &str,
        authority: &Authority,
    ) -> Result<Targets, Error> {
        let Some(listed) = snapshot.roles.get(role) else {
            return Err(Error::malformed("snapshot.json", format!("does not list {role:?}")));
        };
        if let Some((bytes, kept)) = self.kept::<Targets>(role, limits::TARGETS_BYTES, authority)
            && is_listed(listed, &bytes, kept.header().version)
            && kept.header().expires > self.now
        {
            return Ok(kept);
        }
        let file = self.file(listed.version, role);
        let bytes = self.listed_file(fetch, &file, listed, limits::TARGETS_BYTES)?;
        let targets: Targets = verified(&file, &bytes, authority)?;
        is_version(&file, targets.header().version, listed.version)?;
        self.in_time(&file, targets.header().expires)?;
        self.state.keep_role(role, &bytes)?;
        Ok(targets)
    }

    /// §5.6.7: looks a target up, in the top role and then in those that it delegates to, each before those after it.
    /// None when nobody who may speak of it does.
    pub fn target(&mut self, fetch: &mut dyn Fetch, name: &str) -> Result<Option<Target>, Error> {
        let wrong = |why: &str| Error::Name { name: name.to_owned(), why: why.to_owned() };
        names::check_target(name).map_err(wrong)?;
        // Put back at the end: what was found stays found, whatever becomes of this search.
        let current = self.current.take().ok_or_else(|| wrong("the metadata has not been refreshed"))?;
        let found = self.search(fetch, &current, name);
        self.current = Some(current);
        found
    }

    fn search(
        &mut self,
        fetch: &mut dyn Fetch,
        current: &Current,
        name: &str,
    ) -> Result<Option<Target>, Error> {
        if let Some(target) = self.offered(&current.targets, "targets", name) {
            return Ok(Some(target));
        }
        let mut visited = BTreeSet::new();
        let mut waiting: Vec<(String, Arc<Authority>)> = Vec::new();
        wait_for(&mut waiting, &current.targets, name);
        while let Some((role, authority)) = waiting.pop() {
            if visited.contains(&role) {
                continue;
            }
            if visited.len() == limits::VISITS {
                let why = format!("more than {} roles would have to be asked", limits::VISITS);
                return Err(Error::Limit { file: format!("target {name:?}"), why });
            }
            let targets = self.targets(fetch, &current.snapshot, &role, &authority)?;
            if let Some(target) = self.offered(&targets, &role, name) {
                return Ok(Some(target));
            }
            visited.insert(role);
            wait_for(&mut waiting, &targets, name);
        }
        Ok(None)
    }

    fn offered(&self, targets: &Targets, role: &str, name: &str) -> Option<Target> {
        let target = targets.targets.get(name)?.clone();
        Some(Target { role: role.to_owned(), consistent: self.root.consistent_snapshot, ..target })
    }

    /// §5.7: opens a target's content; the reader fails at its end unless it was what was signed.
    pub fn open_target<'a>(&self, fetch: &'a mut dyn Fetch, target: &Target) -> Result<Verified<'a>, Error> {
        if target.length > limits::ARTIFACT_BYTES {
            let why = format!("{} bytes are more than any machine takes", target.length);
            return Err(Error::Limit { file: target.name.clone(), why });
        }
        let path = target.path()?;
        let failed = |error: FetchError| match error {
            FetchError::Missing => Error::Missing { file: path.clone() },
            FetchError::Failed(why) => Error::Fetch { file: path.clone(), why },
        };
        Ok(Verified::new(fetch.target(&path, 0, target.length).map_err(failed)?, target))
    }

    /// The kept metadata of a role, with its bytes, if it is there and right; whether it has expired is not asked.
    fn kept<R: Role>(&self, role: &str, limit: u64, authority: &Authority) -> Option<(Vec<u8>, R)> {
        let bytes = self.state.role(role, limit)?;
        let read = verified(&names::role_file(role), &bytes, authority).ok()?;
        Some((bytes, read))
    }

    fn file(&self, version: u64, role: &str) -> String {
        if self.root.consistent_snapshot {
            names::versioned_file(version, role)
        } else {
            names::role_file(role)
        }
    }

    fn listed_file(
        &self,
        fetch: &mut dyn Fetch,
        file: &str,
        listed: &Listed,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let bytes = needed(fetch, file, listed.length.unwrap_or(limit).min(limit))?;
        listed.check(file, &bytes)?;
        Ok(bytes)
    }

    fn in_time(&self, file: &str, until: Time) -> Result<(), Error> {
        if until > self.now {
            return Ok(());
        }
        Err(Error::Expired { file: file.to_owned(), until, now: self.now })
    }
}

/// Puts the roles that a role asks about a name on the stack, the first one on top; a terminating one ends all others'
/// waiting.
fn wait_for(waiting: &mut Vec<(String, Arc<Authority>)>, targets: &Targets, name: &str) {
    let asked: Vec<_> = search::asked(targets, name).collect();
    if asked.last().is_some_and(|last| last.terminating) {
        waiting.clear();
    }
    waiting.extend(asked.iter().rev().map(|one| (one.role.clone(), Arc::clone(&one.authority))));
}

/// §5.3.11: whether a root takes trust from keys that signed timestamps or snapshots. What these said of versions is
/// then forgotten, or whoever stole them could have made every later version look old.
fn replaces_online_keys(new: &Root, old: &Root) -> bool {
    new.timestamp().lost_a_key_of(old.timestamp()) || new.snapshot().lost_a_key_of(old.snapshot())
}

fn verified<R: Role>(file: &str, bytes: &[u8], authority: &Authority) -> Result<R, Error> {
    let envelope = Envelope::parse(bytes).map_err(|why| Error::malformed(file, why))?;
    envelope.verify(file, authority)?;
    envelope.read(file)
}

fn is_listed(listed: &Listed, bytes: &[u8], version: u64) -> bool {
    version == listed.version && listed.check("", bytes).is_ok()
}

fn is_version(file: &str, found: u64, wanted: u64) -> Result<(), Error> {
    if found == wanted { Ok(()) } else { Err(Error::Version { file: file.to_owned(), found, wanted }) }
}

fn not_older(file: &str, what: &str, found: u64, known: u64) -> Result<(), Error> {
    if found >= known {
        return Ok(());
    }
    Err(Error::Rollback { file: file.to_owned(), what: what.to_owned(), found, known })
}

/// A file of metadata; none when the server has none. One byte above the limit is an error, and the last one read.
fn get(fetch: &mut dyn Fetch, file: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let failed = |why: String| Error::Fetch { file: file.to_owned(), why };
    let reader = match fetch.metadata(file, limit) {
        Err(FetchError::Missing) => return Ok(None),
        Err(FetchError::Failed(why)) => return Err(failed(why)),
        Ok(reader) => reader,
    };
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(Error::Limit { file: file.to_owned(), why: format!("longer than {limit} bytes") });
    }
    Ok(Some(bytes))
}

fn needed(fetch: &mut dyn Fetch, file: &str, limit: u64) -> Result<Vec<u8>, Error> {
    get(fetch, file, limit)?.ok_or_else(|| Error::Missing { file: file.to_owned() })
}
