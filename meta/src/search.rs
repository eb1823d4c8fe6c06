//! Looks in each place in turn, and writes down what it saw.

use crate::compose::{Composed, Place, compose, cut};
use crate::disk::Disk;
use crate::said::Said;
use crate::smbios::System;
use crate::volume::{self, Kind, Volume};
use crate::{fwcfg, limits, providers, smbios};
use berth_units::control::SeenInstance;
use berth_units::diag::quote;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where to look.
pub struct Places {
    /// What the installer, or whoever made the installation medium, laid for this start.
    pub seed: PathBuf,
    /// The label of a volume that the kernel's command line names.
    pub named: Option<String>,
    /// The raw SMBIOS tables.
    pub smbios: PathBuf,
    /// The folder of the fw_cfg entry.
    pub fw_cfg: PathBuf,
    /// Disks and partitions by name, or why they cannot be read.
    pub disks: Vec<(String, Result<Disk, String>)>,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was found.
    pub found: Found,
    /// A line for each place, in the order of looking.
    pub looked: Vec<String>,
    /// What of it has no effect, one line each.
    pub notes: Vec<String>,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A config that the checker accepts.
    Config {
        /// Where.
        source: String,
        /// Its text.
        text: Vec<u8>,
    },
    /// Something that was meant to be one.
    Refused {
        /// Where.
        source: String,
        /// What is wrong, completely.
        report: String,
        /// What of it makes the machine reachable, as a config; empty: nothing.
        salvage: Vec<u8>,
    },
    /// Nothing.
    None {
        /// The cloud that the firmware says this is.
        cloud: Option<&'static str>,
    },
}

impl Found {
    /// Of what was composed at a place.
    pub fn of(place: Place, composed: Composed) -> Self {
        let source = place.name;
        match composed {
            Composed::Config(text) => Self::Config { source, text },
            Composed::Refused { report, salvage } => Self::Refused { source, report, salvage },
        }
    }
}

/// A place that holds something, and what it says.
type Hit = (Place, Said);

/// Looks. The first place that holds anything decides: a broken config is told, never skipped for another one. `uuid`: the
/// machine's, for the config that is made.
pub fn search(places: &Places, uuid: Option<&str>) -> Outcome {
    let mut looked = Vec::new();
    let mut notes = Vec::new();
    let mut system = System::default();
    let laid = in_seed(&places.seed, &mut looked);
    let named = places.named.as_deref().filter(|_| laid.is_none());
    let on_command_line = named.and_then(|label| {
        let hit = on_disks(&places.disks, Some(label), &mut Vec::new());
        let found = if hit.is_some() { "and it is there" } else { "which is not there" };
        looked.push(format!("kernel command line: names the volume {}, {found}", quote(label)));
        hit
    });
    if laid.is_none() && named.is_none() {
        looked.push("kernel command line: names no volume".to_owned());
    }
    let hit = laid
        .or(on_command_line)
        .or_else(|| in_smbios(&places.smbios, &mut system, &mut looked))
        .or_else(|| in_fw_cfg(&places.fw_cfg, &mut looked))
        .or_else(|| on_disks(&places.disks, None, &mut looked));
    let served = system.serial.split(';').any(|word| word.starts_with("s=") || word.starts_with("seedfrom="));
    if system.serial.starts_with("ds=nocloud") && served {
        notes.push(format!(
            "the serial number in SMBIOS names a NoCloud server, {}: not supported; attach a volume labelled cidata instead",
            quote(&system.serial)
        ));
    }
    let found = match hit {
        Some((place, said)) => {
            let (composed, more) = compose(&place, said, uuid);
            notes.extend(more);
            Found::of(place, composed)
        }
        None => {
            let cloud = providers::of(&system);
            looked.push(match cloud {
                Some(cloud) => format!("cloud: the firmware says that this is {}", cloud.title),
                None => "cloud: none that the firmware names and Berth knows".to_owned(),
            });
            Found::None { cloud: cloud.map(|cloud| cloud.name) }
        }
    };
    Outcome { found, looked: bounded(looked), notes }
}

/// A place that knows nothing of instances.
fn plain(name: &str, config: Result<Vec<u8>, String>) -> Hit {
    let place = Place { name: name.to_owned(), source: None };
    let said = match config {
        Ok(bytes) => Said { user_data: Some(bytes), ..Said::default() },
        Err(why) => Said { trouble: vec![why], ..Said::default() },
    };
    (place, said)
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
    Some(plain("seed", found))
}

fn in_smbios(tables: &Path, system: &mut System, looked: &mut Vec<String>) -> Option<Hit> {
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
    *system = smbios::system(&bytes);
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
    Some(plain("smbios", found))
}

fn in_fw_cfg(entry: &Path, looked: &mut Vec<String>) -> Option<Hit> {
    const PLACE: &str = "fw_cfg opt/berth/config";
    let found = fwcfg::read(entry).transpose();
    looked.push(match &found {
        None => format!("{PLACE}: not there"),
        Some(Ok(bytes)) => format!("{PLACE}: {} bytes", bytes.len()),
        Some(Err(e)) => format!("{PLACE}: {e}"),
    });
    found.map(|bytes| plain("fw_cfg", bytes))
}

fn on_disks(
    disks: &[(String, Result<Disk, String>)],
    named: Option<&str>,
    looked: &mut Vec<String>,
) -> Option<Hit> {
    let mut hits: Vec<(Kind, &str, Said)> = Vec::new();
    for (name, disk) in disks {
        let volume = match disk {
            Ok(disk) => volume::probe(disk, named),
            Err(e) => Volume::Other(format!("not readable: {e}")),
        };
        match volume {
            Volume::Other(what) => looked.push(format!("NoCloud, config drive: {name}: {what}")),
            Volume::Seed(kind, said) => {
                looked.push(format!("{}: {name}: labelled {}, {}", kind.title(), kind.label(), holds(&said)));
                // A hybrid image shows the same volume as a disk and as its first partition.
                let same = |(of, other, theirs): &(Kind, &str, Said)| {
                    *of == kind && name.starts_with(other) && *theirs == *said
                };
                if !hits.iter().any(same) {
                    hits.push((kind, name, *said));
                }
            }
        }
    }
    if disks.is_empty() {
        looked.push("NoCloud, config drive: no disk but Berth's own".to_owned());
    }
    let kind = hits.iter().map(|(kind, ..)| *kind).min()?;
    let mut hits: Vec<(&str, Said)> =
        hits.into_iter().filter(|(of, ..)| *of == kind).map(|(_, name, said)| (name, said)).collect();
    let names: Vec<&str> = hits.iter().map(|(name, _)| *name).collect();
    let place =
        Place { name: format!("{} ({})", kind.source(), names.join(" and ")), source: Some(kind.source()) };
    let said = match hits.len() {
        1 => hits.pop()?.1,
        // Whoever wrote either may come in; nobody knows which is meant.
        _ => Said {
            trouble: vec![format!("both are labelled {}; detach the one that is not meant", kind.label())],
            keys: hits.into_iter().flat_map(|(_, said)| said.keys).collect(),
            ..Said::default()
        },
    };
    Some((place, said))
}

/// Which instances the volumes here belong to.
pub fn glance(disks: &[(String, Result<Disk, String>)]) -> Vec<SeenInstance> {
    let seen = disks.iter().filter_map(|(name, disk)| match volume::probe(disk.as_ref().ok()?, None) {
        Volume::Seed(kind, said) => {
            let id = cut(said.id?.trim().to_owned(), limits::LINE_BYTES);
            let source = kind.source().to_owned();
            Some(SeenInstance { place: format!("{source} ({name})"), source, id })
        }
        Volume::Other(_) => None,
    });
    seen.collect()
}

/// What a volume holds, for the list of what was looked at.
fn holds(said: &Said) -> String {
    let what = [
        ("user-data", said.user_data.is_some()),
        ("an instance id", said.id.is_some()),
        ("keys", !said.keys.is_empty()),
        ("a network", said.network.is_some()),
    ];
    let what: Vec<&str> = what.into_iter().filter_map(|(word, there)| there.then_some(word)).collect();
    let what = if what.is_empty() {
        "with nothing that can be used".to_owned()
    } else {
        format!("with {}", what.join(", "))
    };
    if said.trouble.is_empty() { what } else { format!("{what}; not all of it can be read") }
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

#[cfg(test)]
mod tests;
