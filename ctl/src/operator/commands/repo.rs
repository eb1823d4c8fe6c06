//! `berth repo …`: the publisher's commands. They ask no machine.

use super::{Failure, Out};
use crate::operator::cli::RepoCommand;
use crate::operator::home::HomeError;
use crate::operator::render::Style;
use crate::operator::render::table::{Column, Table, plain};
use berth_fetch::{Pace, Server};
use berth_repo::{Built, Done, Keys, Repository, SecretKey, Setup, Verified, verify, verify_at};
use berth_tuf::time::Time;
use berth_units::model::Proxy;
use serde::Serialize;
use std::path::Path;

/// Digits of a key's id that are shown.
const ID_DIGITS: usize = 12;

pub fn run(command: &RepoCommand, out: Out) -> Result<(), Failure> {
    let now = Time::of_system();
    match command {
        RepoCommand::Init { folder, keys, root_keys, threshold } => {
            let setup = Setup { root_keys: *root_keys, threshold: *threshold };
            let done = Repository::init(folder, keys, setup, now)?;
            let text = format!("repository {} made; its keys are in {}", folder.display(), keys.display());
            show(&done, Some(text), folder, out)
        }
        RepoCommand::Publish { folder, build, keys, channel } => {
            let built = Built::open(build)?;
            let keys = Keys::load(&keys.keys)?;
            let published = Repository::open(folder)?.publish_release(&built, channel, &keys, now)?;
            let release = published.release;
            let text = format!(
                "{} {} for {}, channel {channel}",
                release.product, release.version, release.architecture
            );
            show(&published.done, Some(text), folder, out)
        }
        RepoCommand::Sign { folder, keys } => {
            let keys = Keys::load(&keys.keys)?;
            show(&Repository::open(folder)?.sign(&keys, now)?, None, folder, out)
        }
        RepoCommand::Rotate { folder, old, new, keys } => {
            let keys = Keys::load(&keys.keys)?;
            let repository = Repository::open(folder)?;
            // Before a key is made for nothing.
            repository.whole_id(old)?;
            let key = if new.exists() { SecretKey::load(new)? } else { SecretKey::create(new)? };
            let text = format!("key {} ({}) replaces {old}", short(&key.id()), new.display());
            // The new key signs too; which one it is, the repository is told beside.
            let keys = keys.with(SecretKey::load(new)?);
            show(&repository.rotate(old, &key, &keys, now)?, Some(text), folder, out)
        }
        RepoCommand::Verify { repository, root, ca } => {
            let verified = match repository.contains("://") {
                true => verify_on_server(repository, root.as_deref(), ca.as_deref(), now)?,
                false => verify(Path::new(repository), root.as_deref(), now)?,
            };
            out.show(&shown(&verified), |_, style| human(&verified, style))
        }
    }
}

/// The same through a web server. There the first root vouches for nothing: whoever made the server say it could have made it.
fn verify_on_server(
    address: &str,
    root: Option<&Path>,
    ca: Option<&Path>,
    now: Time,
) -> Result<Verified, Failure> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| HomeError::File { path: path.to_owned(), error });
    let root =
        root.ok_or_else(|| Failure::Usage("--root is needed: the root that machines trust".to_owned()))?;
    let ca =
        ca.map(|path| read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())).transpose()?;
    let server = Server::new(address, ca, Proxy::default(), Pace::default());
    let mut server = server.map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(verify_at(&mut server, &read(root)?, now)?)
}

fn short(id: &str) -> &str {
    id.get(..ID_DIGITS).unwrap_or(id)
}

/// A command's outcome, for `--json`.
#[derive(Serialize)]
struct Outcome<'a> {
    /// Role and version.
    published: &'a [(String, u64)],
    /// Role, signatures, signatures needed.
    waiting: &'a [(String, u64, u64)],
}

fn show(done: &Done, first: Option<String>, folder: &Path, out: Out) -> Result<(), Failure> {
    let outcome = Outcome { published: &done.published, waiting: &done.waiting };
    out.show(&outcome, |outcome, _| {
        let mut text = first.map(|line| line + "\n").unwrap_or_default();
        if !outcome.published.is_empty() {
            let roles: Vec<String> =
                outcome.published.iter().map(|(role, version)| format!("{role} {version}")).collect();
            text += &format!("published: {}\n", roles.join(", "));
        }
        for (role, have, need) in outcome.waiting {
            text += &format!("{role}: {have} of {need} signatures\n");
        }
        if !outcome.waiting.is_empty() {
            text += &format!(
                "this is not published yet; it waits in {} for \"berth repo sign\" with the other keys\n",
                folder.join("staged").display()
            );
        }
        text
    })
}

#[derive(Serialize)]
struct Role<'a> {
    role: &'a str,
    version: u64,
    expires: String,
    threshold: u64,
    keys: &'a [String],
}

#[derive(Serialize)]
struct Shown<'a> {
    roles: Vec<Role<'a>>,
    channels: &'a [(String, String)],
    targets: &'a [(String, u64)],
}

fn shown(verified: &Verified) -> Shown<'_> {
    let roles = verified.roles.iter().map(|report| Role {
        role: &report.role,
        version: report.version,
        expires: report.expires.to_string(),
        threshold: report.threshold,
        keys: &report.keys,
    });
    Shown { roles: roles.collect(), channels: &verified.channels, targets: &verified.targets }
}

fn human(verified: &Verified, style: Style) -> String {
    let column = |head, right| Column { head, right, expendable: 0 };
    let mut table = Table::new(&[
        column("ROLE", false),
        column("VERSION", true),
        column("VALID UNTIL", false),
        column("SIGNED BY", false),
        column("KEYS", false),
    ]);
    for role in &verified.roles {
        let ids: Vec<&str> = role.keys.iter().map(|id| short(id)).collect();
        table.row(vec![
            plain(&role.role),
            plain(role.version.to_string()),
            plain(role.expires.to_string()),
            plain(format!("{} of {}", role.threshold, role.keys.len())),
            plain(ids.join(" ")),
        ]);
    }
    let mut text = table.render(style);
    for (channel, version) in &verified.channels {
        text += &format!("{channel}: {version}\n");
    }
    text + &format!("sound: {} targets, every byte of them\n", verified.targets.len())
}
