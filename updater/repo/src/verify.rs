//! Whether a machine would take a repository: asked of the machine's own client, from the first root on.

use crate::documents::{self, Document, RELEASES, Signers};
use crate::error::RepoError;
use crate::layout::{self, Layout};
use berth_tuf::fetch::{Fetch, Folder};
use berth_tuf::json::Value;
use berth_tuf::state::{Disk, Memory};
use berth_tuf::time::{Clock, Time};
use berth_tuf::{Client, Error, limits, names};
use std::path::Path;

/// A sound repository.
#[derive(Debug)]
pub struct Verified {
    /// What the roles say.
    pub roles: Vec<RoleReport>,
    /// All targets, by name, with their length in bytes; the content of each was read and is right.
    pub targets: Vec<(String, u64)>,
    /// Channels, and the version that each names.
    pub channels: Vec<(String, String)>,
}

/// A role, for people.
#[derive(Debug)]
pub struct RoleReport {
    /// Its name.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// When it ends.
    pub expires: Time,
    /// Ids of the keys that sign it.
    pub keys: Vec<String>,
    /// How many must.
    pub threshold: u64,
}

/// Reads a repository's folder as a machine would that trusts `root`, or the folder's first root.
pub fn verify(path: &Path, root: Option<&Path>, now: Time) -> Result<Verified, RepoError> {
    let layout = Layout::new(path);
    let first = layout.metadata().join("1.root.json");
    let anchor = match root {
        Some(root) => std::fs::read(root).map_err(RepoError::file(root))?,
        None => layout::read(&first)?.ok_or_else(|| RepoError::None { path: path.to_owned() })?,
    };
    verify_at(&mut Folder::new(path), &anchor, now)
}

/// Reads a repository, wherever it is, as a machine would that trusts this root; then every target's content.
pub fn verify_at(fetch: &mut dyn Fetch, anchor: &[u8], now: Time) -> Result<Verified, RepoError> {
    let clock = Clock { now, built: Time::default() };
    let mut client = Client::open(Memory::default(), anchor, &clock)?;
    client.refresh(fetch)?;
    // Any name below an architecture makes the client look into the role of releases, and keep it.
    client.target(fetch, "any/channel.json")?;
    let kept = |disk: &Memory, role: &str| -> Result<Document, RepoError> {
        let file = names::role_file(role);
        let bytes = disk.read(&file, limits::TARGETS_BYTES).map_err(RepoError::file(&file))?;
        let wrong = || RepoError::Release { path: file.clone().into(), why: "it is not there".to_owned() };
        bytes.and_then(|bytes| Document::parse(&bytes)).ok_or_else(wrong)
    };
    let releases = kept(client.disk(), RELEASES)?;
    let mut verified = Verified { roles: Vec::new(), targets: Vec::new(), channels: Vec::new() };
    for (name, entry) in releases.signed.get("targets").and_then(Value::as_object).into_iter().flatten() {
        let Some(target) = client.target(fetch, name)? else {
            return Err(Error::Missing { file: name.clone() }.into());
        };
        let mut reader = client.open_target(fetch, &target)?;
        std::io::copy(&mut reader, &mut std::io::sink()).map_err(RepoError::file(name))?;
        drop(reader);
        verified.targets.push((name.clone(), target.length));
        let channel = name.strip_suffix(".json").and_then(|channel| channel.split_once('/'));
        if let (Some((architecture, channel)), true) = (channel, entry.get("custom").is_some()) {
            let offer = client.offer(fetch, architecture, channel)?;
            let version = offer.map(|offer| offer.release.version).unwrap_or_default();
            verified.channels.push((format!("{architecture}/{channel}"), version));
        }
    }
    let root = kept(client.disk(), "root")?;
    let targets = kept(client.disk(), "targets")?;
    for role in names::TOP_LEVEL.into_iter().chain([RELEASES]) {
        let document = kept(client.disk(), role)?;
        let signers = match role {
            RELEASES => documents::signers_of_releases(&targets.signed),
            role => documents::signers_in_root(&root.signed, role),
        };
        let Signers { ids, threshold } =
            signers.ok_or_else(|| RepoError::Argument(format!("no keys are named for {role}")))?;
        verified.roles.push(RoleReport {
            role: role.to_owned(),
            version: document.version(),
            expires: document.expires(),
            keys: ids.into_iter().collect(),
            threshold,
        });
    }
    Ok(verified)
}
