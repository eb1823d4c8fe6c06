//! Metadata being made: what is said, and the signatures under it.

use crate::keys::Keys;
use berth_tuf::json::{self, Value};
use berth_tuf::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// The delegated role that signs releases.
pub const RELEASES: &str = "releases";
/// The names that it may sign: `ARCH/CHANNEL.json` and `ARCH/VERSION/FILE`.
const RELEASES_PATHS: [&str; 2] = ["*/*", "*/*/*"];
const SPECIFICATION: &str = "1.0.34";
const DAY: u64 = 86_400;

/// A file of metadata that is being made.
#[derive(Debug, Clone)]
pub struct Document {
    pub signed: Value,
    signatures: BTreeMap<String, String>,
}

/// Keys, by id, and how many must sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    pub ids: BTreeSet<String>,
    pub threshold: u64,
}

impl Document {
    /// Version 1 of a kind.
    pub fn new(kind: &str, expires: Time) -> Self {
        let signed = Value::from([
            ("_type", kind.into()),
            ("spec_version", SPECIFICATION.into()),
            ("version", 1.into()),
            ("expires", expires.to_string().into()),
        ]);
        Self { signed, signatures: BTreeMap::new() }
    }

    /// Reads what was written before.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let value = json::parse(bytes).ok()?;
        let text = |item: &Value, name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
        let signatures = value.get("signatures")?.as_array()?.iter();
        let signatures = signatures.map(|item| Some((text(item, "keyid")?, text(item, "sig")?)));
        Some(Self { signed: value.get("signed")?.clone(), signatures: signatures.collect::<Option<_>>()? })
    }

    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let one = |(keyid, sig): (&String, &String)| {
            Value::from([("keyid", keyid.as_str().into()), ("sig", sig.as_str().into())])
        };
        let signatures: Vec<Value> = self.signatures.iter().map(one).collect();
        Value::from([("signatures", signatures.into()), ("signed", self.signed.clone())]).to_json()
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.signed.get("version").and_then(Value::as_u64).unwrap_or_default()
    }

    /// Its end.
    pub fn expires(&self) -> Time {
        let text = self.signed.get("expires").and_then(Value::as_str).unwrap_or_default();
        Time::parse(text).unwrap_or_default()
    }

    /// The next version, to be signed anew.
    pub fn renew(&mut self, now: Time, days: u64) {
        let version = self.version() + 1;
        set(&mut self.signed, "version", version.into());
        set(&mut self.signed, "expires", after(now, days).to_string().into());
        self.signatures.clear();
    }

    /// Signs with those of the keys at hand that count. Returns how many have signed, over all.
    pub fn sign(&mut self, signers: &Signers, keys: &Keys) -> u64 {
        let message = self.signed.canonical();
        for key in signers.ids.iter().filter_map(|id| keys.get(id)) {
            self.signatures.insert(key.id(), key.sign(&message));
        }
        signers.ids.iter().filter(|id| self.signatures.contains_key(*id)).count() as u64
    }
}

/// So many days later.
pub fn after(now: Time, days: u64) -> Time {
    Time::from_seconds(now.seconds() + days * DAY)
}

/// Sets a member of an object.
pub fn set(value: &mut Value, name: &str, member: Value) {
    set_at(value, &[name], member);
}

/// Sets a member of objects inside each other, which are made when they are not there.
pub fn set_at(value: &mut Value, path: &[&str], member: Value) {
    let Value::Object(members) = value else { return };
    match path {
        [] => {}
        [name] => {
            members.insert((*name).to_owned(), member);
        }
        [name, rest @ ..] => {
            let empty = || Value::Object(BTreeMap::new());
            set_at(members.entry((*name).to_owned()).or_insert_with(empty), rest, member);
        }
    }
}

impl Signers {
    /// Those of a role in a root, or of a delegation.
    pub fn read(role: Option<&Value>) -> Option<Self> {
        let ids = role?.get("keyids")?.as_array()?.iter().map(|id| id.as_str().map(str::to_owned));
        Some(Self { ids: ids.collect::<Option<_>>()?, threshold: role?.get("threshold")?.as_u64()? })
    }

    pub fn to_value(&self) -> Value {
        let ids: Vec<Value> = self.ids.iter().map(|id| id.as_str().into()).collect();
        Value::from([("keyids", Value::Array(ids)), ("threshold", self.threshold.into())])
    }

    /// The beginnings of the ids, for messages.
    pub fn shown(&self) -> String {
        let short: Vec<&str> = self.ids.iter().map(|id| id.get(..12).unwrap_or(id)).collect();
        short.join(", ")
    }
}

/// The signers of a role that a root names.
pub fn signers_in_root(root: &Value, role: &str) -> Option<Signers> {
    Signers::read(root.get("roles").and_then(|roles| roles.get(role)))
}

/// The signers of releases, as the top role of targets names them.
pub fn signers_of_releases(targets: &Value) -> Option<Signers> {
    let roles = targets.get("delegations")?.get("roles")?.as_array()?;
    Signers::read(roles.iter().find(|role| role.get("name").and_then(Value::as_str) == Some(RELEASES)))
}

/// The delegation to releases, with its keys.
pub fn delegations(signers: &Signers, keys: BTreeMap<String, Value>) -> Value {
    let mut role = signers.to_value();
    set(&mut role, "name", RELEASES.into());
    set(&mut role, "terminating", true.into());
    set(&mut role, "paths", RELEASES_PATHS.to_vec().into());
    Value::from([("keys", Value::Object(keys)), ("roles", Value::Array(vec![role]))])
}
