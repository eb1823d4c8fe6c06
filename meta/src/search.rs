//! Looks in each place in turn, and writes down what it saw.

use crate::disk::Disk;
use crate::nocloud::{self, Volume};
use crate::{cloud_config, decode, fwcfg, limits, smbios};
use berth_units::config;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where to look.
pub struct Places {
    /// What the installer, or whoever made the installation medium, laid for this start.
    pub seed: PathBuf,
    /// The raw SMBIOS tables.
    pub smbios: PathBuf,
    /// The folder of the fw_cfg entry.
    pub fw_cfg: PathBuf,
    /// Disks and partitions by name, or why they cannot be read.
    pub disks: Vec<(String, Result<Disk, String>)>,
}

/// What came of it. `looked` has a line for each place, in the order of looking.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A config that the checker accepts.
    Found {
        /// Where.
        source: String,
        /// Its text.
        text: Vec<u8>,
        /// See above.
        looked: Vec<String>,
    },
    /// Something that was meant to be one.
    Refused {
        /// Where.
        source: String,
        /// What is wrong, completely.
        report: String,
        /// Its keys, as far as they are beyond doubt.
        keys: Vec<String>,
        /// See above.
        looked: Vec<String>,
    },
    /// Nothing.
    None {
        /// See above.
        looked: Vec<String>,
    },
}

/// A place that holds something: its name for the operator, and the bytes, or why there are none.
type Hit = (String, Result<Vec<u8>, String>);

/// Looks. The first place that holds anything decides: a broken config is told, never skipped for another one.
pub fn search(places: &Places) -> Outcome {
    let mut looked = Vec::new();
    let hit = in_seed(&places.seed, &mut looked)
        .or_else(|| in_smbios(&places.smbios, &mut looked))
        .or_else(|| in_fw_cfg(&places.fw_cfg, &mut looked))
        .or_else(|| on_disks(&places.disks, &mut looked));
    let looked = bounded(looked);
    let Some((source, bytes)) = hit else { return Outcome::None { looked } };
    let text = match bytes.and_then(|bytes| decode::decode(&bytes)) {
        Ok(text) => text,
        Err(why) => {
            let report = cut(format!("{source}: {why}\n"), limits::REPORT_BYTES);
            return Outcome::Refused { source, report, keys: Vec::new(), looked };
        }
    };
    if decode::recognise(&text) == Ok(decode::Format::CloudConfig) {
        let translation = cloud_config::translate(&source, &text);
        let text = translation.toml.into_bytes();
        if translation.problems.is_empty() {
            return Outcome::Found { source, text, looked };
        }
        let report = cut(translation.problems.join("\n") + "\n", limits::REPORT_BYTES);
        return Outcome::Refused { source, report, keys: few(config::access_keys(&text)), looked };
    }
    match config::parse(&source, &text) {
        Ok(_) => Outcome::Found { source, text, looked },
        Err(report) => {
            let report = cut(report.to_string(), limits::REPORT_BYTES);
            Outcome::Refused { source, report, keys: few(config::access_keys(&text)), looked }
        }
    }
}

/// As many as fit into a message beside the report.
fn few(keys: Vec<String>) -> Vec<String> {
    let mut room = limits::KEYS_BYTES;
    let fits = |key: &String| {
        let left = room.checked_sub(key.len());
        room = left.unwrap_or(room);
        left.is_some()
    };
    keys.into_iter().take_while(fits).collect()
}

/// PID 1 has checked its sum and laid it there.
fn in_seed(path: &Path, looked: &mut Vec<String>) -> Option<Hit> {
    const PLACE: &str = "laid for this start";
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limits::ENCODED_BYTES).read_to_end(&mut bytes));
    let found = match read {
        Ok(_) => Ok(bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            looked.push(format!("{PLACE}: nothing"));
            return None;
        }
        Err(e) => Err(e.to_string()),
    };
    looked.push(format!("{PLACE}: a config"));
    Some(("seed".to_owned(), found))
}

fn in_smbios(tables: &Path, looked: &mut Vec<String>) -> Option<Hit> {
    const PLACE: &str = "SMBIOS type 11";
    let mut bytes = Vec::new();
    match File::open(tables).and_then(|file| file.take(limits::SMBIOS_BYTES).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            looked.push(format!("{PLACE}: this machine has no SMBIOS tables"));
            return None;
        }
        Err(e) => {
            looked.push(format!("{PLACE}: {}: {e}", tables.display()));
            return None;
        }
    }
    let found = match smbios::find(&bytes) {
        Ok(smbios::Found::Nothing(0)) => {
            looked.push(format!("{PLACE}: no strings"));
            return None;
        }
        Ok(smbios::Found::Nothing(n)) => {
            looked.push(format!("{PLACE}: no berth.config among {n} strings"));
            return None;
        }
        Ok(smbios::Found::Config(given)) => given.decode(),
        Err(e) => Err(e),
    };
    looked.push(format!(
        "{PLACE}: {}",
        if found.is_ok() { "a config" } else { "a config that cannot be used" }
    ));
    Some(("smbios".to_owned(), found))
}

fn in_fw_cfg(entry: &Path, looked: &mut Vec<String>) -> Option<Hit> {
    const PLACE: &str = "fw_cfg opt/berth/config";
    let found = fwcfg::read(entry).transpose();
    looked.push(match &found {
        None => format!("{PLACE}: not there"),
        Some(Ok(bytes)) => format!("{PLACE}: {} bytes", bytes.len()),
        Some(Err(e)) => format!("{PLACE}: {e}"),
    });
    found.map(|bytes| ("fw_cfg".to_owned(), bytes))
}

fn on_disks(disks: &[(String, Result<Disk, String>)], looked: &mut Vec<String>) -> Option<Hit> {
    let mut hits: Vec<(&str, Result<Vec<u8>, String>)> = Vec::new();
    for (name, disk) in disks {
        let volume = match disk {
            Ok(disk) => nocloud::probe(disk),
            Err(e) => Volume::Other(format!("not readable: {e}")),
        };
        match volume {
            Volume::Other(what) => looked.push(format!("NoCloud: {name}: {what}")),
            Volume::Config(content) => {
                looked.push(format!(
                    "NoCloud: {name}: labelled {}{}",
                    nocloud::LABEL,
                    if content.is_ok() { ", with user-data" } else { ", but its user-data cannot be read" }
                ));
                // A hybrid image shows the same volume as a disk and as its first partition.
                let same = |(other, theirs): &(&str, Result<Vec<u8>, String>)| {
                    name.starts_with(other) && *theirs == content
                };
                if !hits.iter().any(same) {
                    hits.push((name, content));
                }
            }
        }
    }
    if disks.is_empty() {
        looked.push("NoCloud: no disk but Berth's own".to_owned());
    }
    match hits.len() {
        0 => None,
        1 => hits.pop().map(|(name, content)| (format!("nocloud ({name})"), content)),
        _ => {
            let names: Vec<&str> = hits.iter().map(|(name, _)| *name).collect();
            let names = names.join(" and ");
            let why = format!("both are labelled {}; detach the one that is not meant", nocloud::LABEL);
            Some((format!("nocloud ({names})"), Err(why)))
        }
    }
}

fn bounded(lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(limits::LOOKED_LINES);
    let mut lines: Vec<String> =
        lines.into_iter().take(limits::LOOKED_LINES).map(|line| cut(line, limits::LINE_BYTES)).collect();
    if more > 0 {
        lines.push(format!("and {more} more places"));
    }
    lines
}

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
