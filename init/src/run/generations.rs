//! The machine's history on the state partition: `config/generations/N/` holds a generation's machine config and its
//! record, `config/current` leads to the one whose config is in force at the next boot, `config/committed` to the one to go
//! back to. Everything here may block, and runs in children.
//!
//! What a write does, in this order ([`write`]); a power cut after any of it leaves the old or the new config in force:
//!
//! 1. a new generation's folder is made beside, with its files, and synced;
//! 2. it gets its number, by a rename; of one that is there, the record is replaced by a rename;
//! 3. `current` is replaced by a rename, if its config is to be in force: from here on it is, at the next boot too;
//! 4. `committed` is replaced by a rename, if it has shown that it is good;
//! 5. old ones beyond [`limits::GENERATIONS`] lose their number, then their files.

use super::{files, limits};
use crate::early::files::{replace, sync_folder};
use berth_units::config::edit::Edit;
use berth_units::generation::{Generation, Verdict, What};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::{Deserialize, Serialize};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const FOLDER: &str = "generations";
const CURRENT: &str = "current";
const COMMITTED: &str = "committed";
const CONFIG: &str = "berth.toml";
const RECORD: &str = "record.json";
/// End of the name of what is not complete, or not any more.
const BESIDE: &str = ".new";

/// What is to be written of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its record.
    pub record: Generation,
    /// Its config, should it not have been written yet; `None`: the one that `current` leads to.
    pub config: Option<Vec<u8>>,
    /// Its config is the one in force from now on.
    pub current: bool,
    /// It is the one to go back to from now on.
    pub committed: bool,
}

/// How another config comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipe {
    /// It is that of this generation.
    Of(u64),
    /// It is that of this generation, with an [`Edit`] of its units, in JSON.
    Edited(u64, Vec<u8>),
}

impl Recipe {
    /// The config's text.
    pub fn make(&self, state: &Path) -> Result<Vec<u8>, String> {
        match self {
            Self::Of(number) => config_of(state, *number),
            Self::Edited(number, json) => {
                let edit = Edit::parse(json)?;
                edit.apply(&config_of(state, *number)?).map(String::into_bytes)
            }
        }
    }
}

/// What an earlier boot kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    /// The one whose config is in force.
    pub current: Option<u64>,
    /// The largest number that has been used.
    pub last: u64,
    /// Oldest first; those whose record cannot be read are left out.
    pub generations: Vec<Generation>,
}

/// The machine config in force, if one was kept. Should it be unreadable, the last one that was good.
pub fn config(state: &Path) -> Option<Vec<u8>> {
    [CURRENT, COMMITTED].into_iter().find_map(|link| {
        let path = state.join(link).join(CONFIG);
        let read = files::read(&path, berth_units::limits::CONFIG_BYTES);
        read.unwrap_or_else(|error| {
            log::error!("{}: {error}; another config is looked for", path.display());
            None
        })
    })
}

/// The config of one generation.
pub fn config_of(state: &Path, number: u64) -> Result<Vec<u8>, String> {
    let path = state.join(FOLDER).join(number.to_string()).join(CONFIG);
    match files::read(&path, berth_units::limits::CONFIG_BYTES) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("generation {number} is not kept any more")),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// The history that was kept.
pub fn kept(state: &Path) -> Kept {
    let current = linked(state, CURRENT);
    let numbers = numbers(state);
    let last = numbers.last().copied().unwrap_or_default();
    let newest = numbers.len().saturating_sub(limits::GENERATIONS);
    let mut generations = Vec::new();
    for number in numbers.iter().enumerate().filter(|(n, number)| *n >= newest || Some(**number) == current) {
        let path = state.join(FOLDER).join(number.1.to_string()).join(RECORD);
        let record = files::read(&path, limits::RECORD_BYTES).map_err(|error| error.to_string());
        match record.and_then(|text| Generation::parse(&text.unwrap_or_default())) {
            Ok(record) if record.number == *number.1 => generations.push(record),
            Ok(record) => log::warn!("{}: it is generation {}'s", path.display(), record.number),
            Err(why) => log::warn!("{}: {why}", path.display()),
        }
    }
    Kept { current, last, generations }
}

/// Writes a generation, or what has become of one.
pub fn write(state: &Path, write: &Write) -> Result<(), String> {
    let folder = state.join(FOLDER);
    let number = write.record.number;
    let own = folder.join(number.to_string());
    let record = serde_json::to_vec_pretty(&write.record).map_err(|error| error.to_string())?;
    let failed = |what: &'static str| move |error: io::Error| format!("generation {number}: {what}: {error}");
    if own.exists() {
        let path = own.join(RECORD);
        replace(&path, &record, 0o600).map_err(failed("record"))?;
    } else {
        let beside = folder.join(format!("{number}{BESIDE}"));
        remove(&beside).map_err(failed("what a power cut left"))?;
        make(&beside, state, &record, write.config.as_deref()).map_err(failed("not written"))?;
        fs::rename(&beside, &own).and_then(|()| sync_folder(&folder)).map_err(failed("not named"))?;
    }
    if write.current {
        lead(state, CURRENT, number).map_err(failed(CURRENT))?;
    }
    if write.committed {
        lead(state, COMMITTED, number).map_err(failed(COMMITTED))?;
    }
    // Who could not be removed is removed the next time.
    if let Err(error) = prune(state) {
        log::warn!("old generations: {error}");
    }
    Ok(())
}

fn make(folder: &Path, state: &Path, record: &[u8], config: Option<&[u8]>) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    match config {
        Some(text) => replace(&folder.join(CONFIG), text, 0o600)?,
        // Files of configs are replaced, never written to: both names lead to the same bytes.
        None => match fs::hard_link(state.join(CURRENT).join(CONFIG), folder.join(CONFIG)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // A machine without a config has updates all the same.
            _ => {}
        },
    }
    replace(&folder.join(RECORD), record, 0o600)
}

/// Has a link lead to a generation.
fn lead(state: &Path, link: &str, number: u64) -> io::Result<()> {
    if linked(state, link) == Some(number) {
        return Ok(());
    }
    let beside = state.join(format!("{link}{BESIDE}"));
    remove(&beside)?;
    symlink(Path::new(FOLDER).join(number.to_string()), &beside)?;
    fs::rename(&beside, state.join(link))?;
    sync_folder(state)
}

/// The generation that a link leads to.
fn linked(state: &Path, link: &str) -> Option<u64> {
    let target = fs::read_link(state.join(link)).ok()?;
    target.strip_prefix(FOLDER).ok()?.to_str()?.parse().ok()
}

/// Every generation that is there, in order.
fn numbers(state: &Path) -> Vec<u64> {
    let entries = fs::read_dir(state.join(FOLDER)).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> =
        entries.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    numbers.sort_unstable();
    numbers
}

fn prune(state: &Path) -> io::Result<()> {
    let folder = state.join(FOLDER);
    let kept = [linked(state, CURRENT), linked(state, COMMITTED)];
    let numbers = numbers(state);
    let old = &numbers[..numbers.len().saturating_sub(limits::GENERATIONS)];
    for number in old.iter().filter(|number| !kept.contains(&Some(**number))) {
        let gone = folder.join(format!("{number}{BESIDE}"));
        remove(&gone)?;
        fs::rename(folder.join(number.to_string()), gone)?;
    }
    for entry in fs::read_dir(&folder)?.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(BESIDE)) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file, a link or a folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// A machine that ran before there were generations has its config in a folder `current`: it becomes generation 1. The
/// folder and the link change places in one step.
pub fn adopt(state: &Path) -> Result<(), String> {
    let current = state.join(CURRENT);
    match fs::symlink_metadata(&current) {
        Ok(found) if found.is_dir() => {}
        _ => return Ok(()),
    }
    let failed = |error: io::Error| format!("{}: not made a generation: {error}", current.display());
    let text = files::read(&current.join(CONFIG), berth_units::limits::CONFIG_BYTES).map_err(failed)?;
    let Some(text) = text else { return fs::remove_dir_all(&current).map_err(failed) };
    let record = Generation {
        format: Generation::format(),
        number: 1,
        made: 0,
        what: What::Config,
        why: "kept before there were generations".into(),
        slot: String::new(),
        version: String::new(),
        root_hash: String::new(),
        config_sha256: super::text::sha256(&text),
        images: Default::default(),
        state: Verdict::Trying,
        reason: String::new(),
    };
    write(state, &Write { record, config: Some(text), current: false, committed: false })?;
    let beside: PathBuf = state.join(format!("{CURRENT}{BESIDE}"));
    remove(&beside).and_then(|()| symlink(Path::new(FOLDER).join("1"), &beside)).map_err(failed)?;
    renameat2(AT_FDCWD, &beside, AT_FDCWD, &current, RenameFlags::RENAME_EXCHANGE)
        .map_err(|error| failed(error.into()))?;
    sync_folder(state).and_then(|()| remove(&beside)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Generation {
        Generation {
            format: Generation::format(),
            number,
            made: 1_795_507_200 + number,
            what: What::Config,
            why: "sent by an operator".into(),
            slot: "a".into(),
            version: "0.1.0".into(),
            root_hash: String::new(),
            config_sha256: String::new(),
            images: Default::default(),
            state: Verdict::Committed,
            reason: String::new(),
        }
    }

    fn new(number: u64) -> Write {
        let text = format!("# {number}\n").into_bytes();
        Write { record: record(number), config: Some(text), current: true, committed: true }
    }

    fn empty() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        folder
    }

    fn text(state: &Path) -> Option<String> {
        config(state).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn what_is_written_is_kept_and_the_oldest_go() {
        let folder = empty();
        let state = folder.path();
        assert_eq!((kept(state), config(state)), (Kept::default(), None));
        // The first stays the one to go back to, however many follow.
        write(state, &new(1)).unwrap();
        let most = limits::GENERATIONS as u64;
        for number in 2..=most + 5 {
            write(state, &Write { committed: false, ..new(number) }).unwrap();
        }
        let found = kept(state);
        assert_eq!((found.current, found.last, found.generations.len()), (Some(most + 5), most + 5, 20));
        assert_eq!(found.generations.last(), Some(&record(most + 5)));
        assert_eq!(text(state), Some(format!("# {}\n", most + 5)));
        assert_eq!(numbers(state).len(), limits::GENERATIONS + 1);
        assert_eq!(config_of(state, 1).unwrap(), b"# 1\n");
        assert!(config_of(state, 2).unwrap_err().contains("not kept any more"));
        let mode = fs::metadata(state.join("generations/1/berth.toml")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_verdict_changes_the_record_and_nothing_else() {
        let folder = empty();
        let state = folder.path();
        write(state, &new(1)).unwrap();
        write(state, &Write { current: false, committed: false, ..new(2) }).unwrap();
        assert_eq!(text(state).unwrap(), "# 1\n");
        let verdict = Generation { state: Verdict::Reverted, reason: "not confirmed".into(), ..record(2) };
        let back = Write { record: verdict.clone(), config: None, current: false, committed: false };
        write(state, &back).unwrap();
        assert_eq!(kept(state).generations[1], verdict);
        assert_eq!(config_of(state, 2).unwrap(), b"# 2\n");
        // An update's has the config that is in force.
        write(state, &Write { record: record(3), ..back }).unwrap();
        assert_eq!(
            (config_of(state, 3).unwrap().as_slice(), text(state).unwrap().as_str()),
            (&b"# 1\n"[..], "# 1\n")
        );
    }

    #[test]
    fn what_a_cut_leaves_is_the_old_or_the_new() {
        let folder = empty();
        let state = folder.path();
        write(state, &new(1)).unwrap();
        // After 1: half a folder beside.
        fs::create_dir(state.join("generations/2.new")).unwrap();
        fs::write(state.join("generations/2.new/berth.toml"), "# ha").unwrap();
        // After half of 3: a link beside.
        symlink("generations/2", state.join("current.new")).unwrap();
        assert_eq!((text(state).unwrap().as_str(), kept(state).last), ("# 1\n", 1));
        write(state, &new(2)).unwrap();
        assert_eq!((text(state).unwrap().as_str(), kept(state).current), ("# 2\n", Some(2)));
        assert_eq!(fs::read_dir(state).unwrap().count(), 3);
        assert_eq!(fs::read_dir(state.join(FOLDER)).unwrap().count(), 2);
    }

    #[test]
    fn a_config_that_cannot_be_read_gives_way_to_the_last_good_one() {
        let folder = empty();
        let state = folder.path();
        write(state, &new(1)).unwrap();
        write(state, &Write { committed: false, ..new(2) }).unwrap();
        fs::remove_file(state.join("generations/2/berth.toml")).unwrap();
        fs::create_dir(state.join("generations/2/berth.toml")).unwrap();
        assert_eq!(text(state).unwrap(), "# 1\n");
        fs::write(state.join("generations/2/record.json"), "{").unwrap();
        let found = kept(state);
        assert_eq!((found.generations.len(), found.last), (1, 2));
    }

    #[test]
    fn a_config_from_before_there_were_generations_is_the_first() {
        let folder = empty();
        let state = folder.path();
        adopt(state).unwrap();
        fs::create_dir(state.join(CURRENT)).unwrap();
        adopt(state).unwrap();
        assert!(!state.join(CURRENT).exists(), "an empty one is in the way");
        fs::create_dir(state.join(CURRENT)).unwrap();
        fs::write(state.join("current/berth.toml"), "# old\n").unwrap();
        adopt(state).unwrap();
        adopt(state).unwrap();
        assert_eq!((text(state).unwrap().as_str(), kept(state).current), ("# old\n", Some(1)));
        assert_eq!(fs::read_dir(state).unwrap().count(), 2);
    }
}
