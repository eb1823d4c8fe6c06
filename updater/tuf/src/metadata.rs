//! The four kinds of metadata (§4), read from what [`crate::json`] took, and who must have signed them.
//!
//! Members that are not known are kept for the signature and otherwise ignored, as §4 says; but what is known must be
//! right in full.

use crate::error::Error;
use crate::json::{self, Value};
use crate::key::Key;
use crate::target::{Checker, Target};
use crate::time::Time;
use crate::{limits, names, unhex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A file of metadata whose signatures have not been looked at yet.
#[derive(Debug)]
pub struct Envelope {
    signed: Value,
    signatures: BTreeMap<String, Vec<u8>>,
}

/// A set of keys and how many of them must sign (§4.2: a role's keyids and threshold).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    keys: BTreeMap<String, Arc<Key>>,
    threshold: u64,
}

/// What every kind has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Counts up from 1.
    pub version: u64,
    /// From here on it is not valid.
    pub expires: Time,
}

/// A kind of metadata.
pub trait Role: Sized {
    /// `_type`.
    const KIND: &'static str;
    /// Reads what is between the signatures.
    fn read(header: Header, signed: &Value) -> Result<Self, String>;
    /// Version and end.
    fn header(&self) -> Header;
}

/// The root (§4.3): whose word counts for what.
#[derive(Debug, Clone)]
pub struct Root {
    header: Header,
    /// Whether files have versions and hashes in their names.
    pub consistent_snapshot: bool,
    /// What Berth's publisher calls the repository, for as long as it lives; others have none.
    pub repository: Option<String>,
    roles: [Authority; 4],
}

/// A file of metadata as another one lists it (§4.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its version.
    pub version: u64,
    /// Its length, bytes, where it is said.
    pub length: Option<u64>,
    /// Its hashes, where they are said.
    pub hashes: Option<Hashes>,
}

/// The timestamp (§4.6): which snapshot is the newest.
#[derive(Debug, Clone)]
pub struct Timestamp {
    header: Header,
    /// The snapshot.
    pub snapshot: Listed,
}

/// The snapshot (§4.4): which versions of all roles with targets belong together.
#[derive(Debug, Clone)]
pub struct Snapshot {
    header: Header,
    /// By role, without `.json`.
    pub roles: BTreeMap<String, Listed>,
}

/// A role with targets (§4.5).
#[derive(Debug, Clone)]
pub struct Targets {
    header: Header,
    /// By name.
    pub targets: BTreeMap<String, Target>,
    /// To whom it passes on which names, in the order in which they are asked.
    pub delegations: Vec<Delegation>,
}

/// Whom a role trusts with some names.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// The delegated role.
    pub role: String,
    /// Its keys.
    pub authority: Arc<Authority>,
    /// Whether nobody else is asked about a name that fits.
    pub terminating: bool,
    /// Which names.
    pub names: Names,
}

/// Which names a delegation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Shell patterns.
    Patterns(Vec<String>),
    /// Beginnings of the SHA-256 of the name, in hexadecimal.
    HashPrefixes(Vec<String>),
}

/// Hashes of a file, of the kinds that are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hashes {
    /// SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// SHA-512.
    pub sha512: Option<[u8; 64]>,
}

impl Hashes {
    /// Whether there is none of a kind that is known here.
    pub fn is_empty(&self) -> bool {
        self.sha256.is_none() && self.sha512.is_none()
    }

    /// The hash that is part of a file's name.
    pub fn prefix(&self) -> Option<String> {
        let long = || self.sha512.map(|hash| crate::hex(&hash));
        self.sha256.map(|hash| crate::hex(&hash)).or_else(long)
    }

    fn read(value: &Value) -> Result<Self, String> {
        let members =
            value.as_object().filter(|members| !members.is_empty()).ok_or("hashes that are none")?;
        let hash = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_str().and_then(unhex).map(Some).ok_or(format!("a hash {name:?} that is none"))
            }
        };
        let wrong = |_| "a hash of the wrong length";
        Ok(Self {
            sha256: hash("sha256")?.map(|bytes| bytes.try_into().map_err(wrong)).transpose()?,
            sha512: hash("sha512")?.map(|bytes| bytes.try_into().map_err(wrong)).transpose()?,
        })
    }
}

impl Envelope {
    /// Reads a file. Its signatures are only looked for.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Value::Object(mut members) = json::parse(bytes).map_err(|error| error.to_string())? else {
            return Err("not an object".to_owned());
        };
        let signed = members.remove("signed").ok_or("has no \"signed\"")?;
        let list = members.get("signatures").and_then(Value::as_array).ok_or("has no list \"signatures\"")?;
        if list.len() > limits::KEYS {
            return Err(format!("has more than {} signatures", limits::KEYS));
        }
        let mut signatures = BTreeMap::new();
        for item in list {
            let keyid = text(item, "keyid")?;
            // One that is no signature at all counts like one that is wrong: not.
            let bytes = unhex(text(item, "sig")?).unwrap_or_default();
            if signatures.insert(keyid.to_owned(), bytes).is_some() {
                return Err(format!("has two signatures of key {keyid:?}"));
            }
        }
        Ok(Self { signed, signatures })
    }

    /// What was signed, whoever did: for keys that are being replaced.
    pub fn signed(&self) -> &Value {
        &self.signed
    }

    /// How many distinct keys of an authority signed it.
    pub fn signed_by(&self, authority: &Authority) -> usize {
        let message = self.signed.canonical();
        let good = |(keyid, key): &(&String, &Arc<Key>)| {
            self.signatures.get(*keyid).is_some_and(|signature| key.verifies(&message, signature))
        };
        authority.keys.iter().filter(good).map(|(_, key)| key).collect::<BTreeSet<_>>().len()
    }

    /// Fails unless enough keys of an authority signed it (§5.3.4 and the like).
    pub fn verify(&self, file: &str, authority: &Authority) -> Result<(), Error> {
        let (have, need) = (self.signed_by(authority), authority.threshold);
        if (have as u64) < need {
            return Err(Error::Threshold { file: file.to_owned(), have, need });
        }
        Ok(())
    }

    /// Its content as metadata of a kind. Whoever calls this has called [`Self::verify`], but for a root, which brings
    /// its own keys.
    pub fn read<R: Role>(&self, file: &str) -> Result<R, Error> {
        self.read_as().map_err(|why| Error::malformed(file, why))
    }

    fn read_as<R: Role>(&self) -> Result<R, String> {
        let signed = &self.signed;
        let kind = text(signed, "_type")?;
        if kind != R::KIND {
            return Err(format!("is of type {kind:?}, not {:?}", R::KIND));
        }
        let specification = text(signed, "spec_version")?;
        if specification.split('.').next() != Some("1") {
            return Err(format!("follows version {specification:?} of the specification; 1 is known here"));
        }
        let expires = text(signed, "expires")?;
        let expires =
            Time::parse(expires).ok_or_else(|| format!("\"expires\" is {expires:?}, which is no time"))?;
        R::read(Header { version: version(signed)?, expires }, signed)
    }
}

impl Authority {
    /// How many keys must sign.
    pub fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Whether a key that counted in the older authority no longer does: it was replaced, as after a theft.
    pub fn lost_a_key_of(&self, older: &Self) -> bool {
        let mine: BTreeSet<&Arc<Key>> = self.keys.values().collect();
        older.keys.values().any(|key| !mine.contains(key))
    }

    /// Reads `keyids` and `threshold` of a role, and its keys out of those of the file.
    fn read(role: &Value, keys: &BTreeMap<String, Arc<Key>>) -> Result<Self, String> {
        let threshold = number(role, "threshold")?;
        if threshold == 0 {
            return Err("a role that takes no signature".to_owned());
        }
        let mut own = BTreeMap::new();
        for keyid in list(role, "keyids", limits::KEYS)? {
            let keyid = keyid.as_str().ok_or("a key id that is no text")?;
            // A key id without its key can never sign; it does no harm.
            let key = keys.get(keyid).cloned().unwrap_or_else(|| Arc::new(Key::Unknown));
            if own.insert(keyid.to_owned(), key).is_some() {
                return Err(format!("a role that lists key {keyid:?} twice"));
            }
        }
        Ok(Self { keys: own, threshold })
    }
}

fn keys(holder: &Value) -> Result<BTreeMap<String, Arc<Key>>, String> {
    let members = holder.get("keys").and_then(Value::as_object).ok_or("has no object \"keys\"")?;
    if members.len() > limits::KEYS {
        return Err(format!("has more than {} keys", limits::KEYS));
    }
    members.iter().map(|(keyid, key)| Ok((keyid.clone(), Arc::new(Key::parse(key)?)))).collect()
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, String> {
    value.get(name).and_then(Value::as_str).ok_or_else(|| format!("has no text {name:?}"))
}

fn number(value: &Value, name: &str) -> Result<u64, String> {
    value.get(name).and_then(Value::as_u64).ok_or_else(|| format!("has no number {name:?}"))
}

fn version(value: &Value) -> Result<u64, String> {
    number(value, "version")
        .and_then(|version| if version == 0 { Err("has version 0".into()) } else { Ok(version) })
}

fn list<'a>(value: &'a Value, name: &str, most: usize) -> Result<&'a [Value], String> {
    let items = value.get(name).and_then(Value::as_array).ok_or_else(|| format!("has no list {name:?}"))?;
    if items.len() > most { Err(format!("has more than {most} {name:?}")) } else { Ok(items) }
}

impl Role for Root {
    const KIND: &'static str = "root";

    fn read(header: Header, signed: &Value) -> Result<Self, String> {
        let keys = keys(signed)?;
        let role = |name: &str| {
            let role = signed.get("roles").and_then(|roles| roles.get(name));
            Authority::read(role.ok_or_else(|| format!("has no role {name:?}"))?, &keys)
        };
        let [root, timestamp, snapshot, targets] = names::TOP_LEVEL;
        Ok(Self {
            header,
            consistent_snapshot: match signed.get("consistent_snapshot") {
                None => false,
                Some(value) => value.as_bool().ok_or("\"consistent_snapshot\" is neither true nor false")?,
            },
            repository: signed.get(REPOSITORY).and_then(Value::as_str).map(str::to_owned),
            roles: [role(root)?, role(timestamp)?, role(snapshot)?, role(targets)?],
        })
    }

    fn header(&self) -> Header {
        self.header
    }
}

/// The root's member that says what the repository is called.
pub const REPOSITORY: &str = "x-berth-repository";

impl Root {
    /// Who signs roots.
    pub fn root(&self) -> &Authority {
        &self.roles[0]
    }

    /// Who signs timestamps.
    pub fn timestamp(&self) -> &Authority {
        &self.roles[1]
    }

    /// Who signs snapshots.
    pub fn snapshot(&self) -> &Authority {
        &self.roles[2]
    }

    /// Who signs the top role of targets.
    pub fn targets(&self) -> &Authority {
        &self.roles[3]
    }

    /// Reads a root that vouches for itself: enough of its own keys signed it.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let envelope = Envelope::parse(bytes).map_err(|why| Error::malformed(file, why))?;
        let root: Self = envelope.read(file)?;
        envelope.verify(file, root.root())?;
        Ok(root)
    }

    /// Reads the next root (§5.3.4, §5.3.5): enough keys of this one and enough of its own signed it, and its version is
    /// the next.
    pub fn successor(&self, file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let envelope = Envelope::parse(bytes).map_err(|why| Error::malformed(file, why))?;
        envelope.verify(file, self.root())?;
        let next: Self = envelope.read(file)?;
        envelope.verify(file, next.root())?;
        let wanted = self.header.version + 1;
        if next.header.version != wanted {
            return Err(Error::Version { file: file.to_owned(), found: next.header.version, wanted });
        }
        Ok(next)
    }
}

impl Listed {
    fn read(value: &Value) -> Result<Self, String> {
        let length = match value.get("length") {
            None => None,
            Some(length) => Some(length.as_u64().ok_or("a length that is none")?),
        };
        let hashes = value.get("hashes").map(Hashes::read).transpose()?;
        Ok(Self { version: version(value)?, length, hashes })
    }

    /// Fails unless these bytes are those that were listed, as far as that says (§5.5.2 and the like).
    pub fn check(&self, file: &str, bytes: &[u8]) -> Result<(), Error> {
        let content = |why| Error::Content { file: file.to_owned(), why };
        if let Some(length) = self.length.filter(|length| *length != bytes.len() as u64) {
            return Err(content(format!("it has {} bytes, not the {length} that were signed", bytes.len())));
        }
        let Some(hashes) = self.hashes else { return Ok(()) };
        let mut checker = Checker::new(&hashes);
        checker.update(bytes);
        checker.finish(None, &hashes).map_err(content)
    }
}

impl Role for Timestamp {
    const KIND: &'static str = "timestamp";

    fn read(header: Header, signed: &Value) -> Result<Self, String> {
        let snapshot = signed.get("meta").and_then(|meta| meta.get("snapshot.json"));
        Ok(Self { header, snapshot: Listed::read(snapshot.ok_or("does not list \"snapshot.json\"")?)? })
    }

    fn header(&self) -> Header {
        self.header
    }
}

impl Role for Snapshot {
    const KIND: &'static str = "snapshot";

    fn read(header: Header, signed: &Value) -> Result<Self, String> {
        let meta = signed.get("meta").and_then(Value::as_object).ok_or("has no object \"meta\"")?;
        if meta.len() > limits::ROLES {
            return Err(format!("lists more than {} roles", limits::ROLES));
        }
        let read = |(file, listed): (&String, &Value)| {
            let role =
                file.strip_suffix(".json").ok_or_else(|| format!("lists {file:?}, which is no metadata"))?;
            Ok::<_, String>((role.to_owned(), Listed::read(listed)?))
        };
        Ok(Self { header, roles: meta.iter().map(read).collect::<Result<_, _>>()? })
    }

    fn header(&self) -> Header {
        self.header
    }
}

impl Role for Targets {
    const KIND: &'static str = "targets";

    fn read(header: Header, signed: &Value) -> Result<Self, String> {
        let members = signed.get("targets").and_then(Value::as_object).ok_or("has no object \"targets\"")?;
        let mut targets = BTreeMap::new();
        for (name, value) in members {
            names::check_target(name).map_err(|why| format!("target {name:?}: {why}"))?;
            let hashes = value.get("hashes").ok_or_else(|| format!("target {name:?} has no hashes"))?;
            let target = Target {
                name: name.clone(),
                length: number(value, "length")?,
                hashes: Hashes::read(hashes)?,
                custom: value.get("custom").cloned(),
                role: String::new(),
                consistent: false,
            };
            targets.insert(name.clone(), target);
        }
        let delegations = signed.get("delegations").map(delegations).transpose()?.unwrap_or_default();
        Ok(Self { header, targets, delegations })
    }

    fn header(&self) -> Header {
        self.header
    }
}

fn delegations(value: &Value) -> Result<Vec<Delegation>, String> {
    if value.get("succinct_roles").is_some() {
        return Err("delegates by \"succinct_roles\" (TAP 15), which is not known here".to_owned());
    }
    let keys = keys(value)?;
    let mut seen = BTreeSet::new();
    let mut delegations = Vec::new();
    for item in list(value, "roles", limits::ROLES)? {
        let role = text(item, "name")?;
        names::check_role(role)?;
        if !seen.insert(role) {
            return Err(format!("delegates to {role:?} twice"));
        }
        let terminating = item.get("terminating").and_then(Value::as_bool);
        delegations.push(Delegation {
            role: role.to_owned(),
            authority: Arc::new(Authority::read(item, &keys)?),
            terminating: terminating.ok_or("a delegation without \"terminating\"")?,
            names: delegated_names(item).map_err(|why| format!("delegation to {role:?}: {why}"))?,
        });
    }
    Ok(delegations)
}

fn delegated_names(item: &Value) -> Result<Names, String> {
    let texts = |name: &str, right: fn(&str) -> bool| {
        let items = list(item, name, limits::ROLES)?.iter().map(|item| {
            item.as_str()
                .filter(|text| right(text))
                .map(str::to_owned)
                .ok_or(format!("{name:?} has one that is not taken"))
        });
        items.collect::<Result<Vec<_>, String>>()
    };
    match (item.get("paths").is_some(), item.get("path_hash_prefixes").is_some()) {
        (true, false) => Ok(Names::Patterns(texts("paths", |pattern| {
            // Brackets and backslashes of glob(7) are refused rather than read in one of the ways in which others do.
            pattern.len() <= limits::PATTERN_BYTES && !pattern.contains(['[', ']', '\\'])
        })?)),
        (false, true) => Ok(Names::HashPrefixes(texts("path_hash_prefixes", |prefix| {
            prefix.len() <= 64 && prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })?)),
        _ => Err("has not one of \"paths\" and \"path_hash_prefixes\"".to_owned()),
    }
}

/// Any bytes as each kind of metadata; signatures are counted against the keys that a root brings along.
pub fn fuzz(bytes: &[u8]) {
    let Ok(envelope) = Envelope::parse(bytes) else { return };
    if let Ok(root) = envelope.read::<Root>("fuzz") {
        let _ = envelope.verify("fuzz", root.root());
    }
    let _ = (envelope.read::<Timestamp>("fuzz"), envelope.read::<Snapshot>("fuzz"));
    if let Ok(targets) = envelope.read::<Targets>("fuzz") {
        for name in targets.targets.keys().take(8) {
            let _ = crate::search::asked(&targets, name).count();
        }
    }
    let again = json::parse(&envelope.signed.to_json());
    assert_eq!(again.as_ref(), Ok(&envelope.signed), "what is written is read again");
}
