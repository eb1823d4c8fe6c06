//! From what a source says to one text: the config that user data is or becomes, the network that the source knows, and
//! `[instance]`. Checked by the checker that everybody uses; PID 1 keeps it as it keeps any config.
//!
//! What is refused costs neither keys nor network: beside the report goes what of it makes the machine reachable.

use crate::said::{Network, Said};
use crate::translation::Translation;
use crate::{cloud_config, decode, limits, network_config, network_data};
use berth_units::config;
use berth_units::model::{Instance, MachineNetwork};

/// Where a machine config, or what is left of one, came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// For operators: `nocloud (vdb)`, `fw_cfg`.
    pub name: String,
    /// As `[instance]` has it; `None`: a place that knows nothing of instances, whose config is taken as it is.
    pub source: Option<&'static str>,
}

/// What it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Composed {
    /// A config that passes.
    Config(Vec<u8>),
    /// One that does not.
    Refused {
        /// All that is wrong.
        report: String,
        /// What of it makes the machine reachable, as a config; empty: nothing.
        salvage: Vec<u8>,
    },
}

/// Composes it. The notes say what of it has no effect, or another one than its author may think.
pub fn compose(place: &Place, mut said: Said, uuid: Option<&str>) -> (Composed, Vec<String>) {
    let instance = place.source.map(|source| said.instance(source, uuid));
    let Said { user_data, network, mut notes, trouble, .. } = said;
    let mut report = String::new();
    for line in trouble {
        report.push_str(&format!("{}: {line}\n", place.name));
    }
    let user = user_data.map_or_else(User::default, |bytes| User::of(&place.name, &bytes));
    report.push_str(&user.report);
    notes.extend(user.notes);
    let network = network.map(|network| (network.file(), translated(&place.name, &network)));
    let mut tables = String::new();
    if let Some((file, network)) = network {
        if user.has_network {
            notes.push(format!("{file} is not applied: the config has a network of its own"));
        } else {
            tables = network.toml;
            notes.extend(network.notes);
            network.problems.iter().for_each(|line| report.push_str(&format!("{line}\n")));
        }
    }
    if user.has_instance && instance.is_some() {
        report.push_str(&format!(
            "{}: [instance] is what the machine writes of the metadata; leave it out\n",
            place.name
        ));
    }
    notes.truncate(limits::NOTES);
    notes.iter_mut().for_each(|note| *note = cut(std::mem::take(note), limits::NOTE_BYTES));
    if report.is_empty() {
        let text = joined(&user.text, &tables, instance.as_ref());
        match config::parse(&place.name, &text) {
            Ok(_) => return (Composed::Config(text), notes),
            Err(wrong) => report = wrong.to_string(),
        }
    }
    let salvage = salvage(&user.text, &user.salvage, &tables, instance.as_ref());
    (Composed::Refused { report: cut(report, limits::REPORT_BYTES), salvage }, notes)
}

/// User data, read.
#[derive(Debug, Default)]
struct User {
    /// As a config.
    text: Vec<u8>,
    /// What of it is beyond doubt, if it does not pass.
    salvage: String,
    has_network: bool,
    has_instance: bool,
    notes: Vec<String>,
    report: String,
}

impl User {
    fn of(place: &str, stored: &[u8]) -> Self {
        let text = match decode::decode(stored) {
            Ok(text) => text,
            Err(why) => return Self { report: format!("{place}: {why}\n"), ..Self::default() },
        };
        if decode::recognise(&text) == Ok(decode::Format::CloudConfig) {
            return Self::of_cloud_config(place, &text);
        }
        match config::parse(place, &text) {
            Ok(config) => Self {
                has_network: config.network != MachineNetwork::default(),
                has_instance: config.instance.is_some(),
                text,
                ..Self::default()
            },
            Err(report) => Self {
                salvage: config::salvage(&text),
                report: report.to_string(),
                // What its author wrote of the network counts, be it usable or not.
                has_network: has_network(&text),
                ..Self::default()
            },
        }
    }
}

impl User {
    fn of_cloud_config(place: &str, text: &[u8]) -> Self {
        let Translation { toml, notes, problems, .. } = cloud_config::translate(place, text);
        let has_network = has_network(toml.as_bytes());
        match problems.is_empty() {
            true => Self { text: toml.into_bytes(), has_network, notes, ..Self::default() },
            false => {
                let report = problems.join("\n") + "\n";
                Self { salvage: toml, has_network, notes, report, ..Self::default() }
            }
        }
    }
}

/// The text speaks of a network of its own, as far as its lines tell.
fn has_network(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.lines().map(str::trim_start).any(|line| {
        let line = line.trim_start_matches('[').trim_start();
        line.strip_prefix("network").is_some_and(|rest| rest.trim_start().starts_with([']', '.', '=']))
    })
}

fn translated(place: &str, network: &Network) -> network_data::Translation {
    let name = format!("{place} {}", network.file());
    match network {
        Network::Data(bytes) => network_data::translate(&name, bytes),
        Network::Config(bytes) => {
            let Translation { toml, notes, problems, .. } = network_config::translate(&name, bytes);
            network_data::Translation { toml, notes, problems }
        }
    }
}

fn joined(user: &[u8], tables: &str, instance: Option<&Instance>) -> Vec<u8> {
    let mut text = if user.is_empty() { b"format = 1\n".to_vec() } else { user.to_vec() };
    if !tables.is_empty() {
        let newline: &[u8] = if text.ends_with(b"\n") { b"\n" } else { b"\n\n" };
        text.extend(newline);
        text.extend(tables.as_bytes());
    }
    match instance {
        Some(instance) => instance.behind(&text),
        None => text,
    }
}

/// What makes the machine reachable: of the user data, else of the source.
fn salvage(user: &[u8], rest: &str, tables: &str, instance: Option<&Instance>) -> Vec<u8> {
    let rest = if user.is_empty() { rest.as_bytes() } else { user };
    let rest = config::salvage(rest);
    let lines = rest.lines().filter(|line| instance.is_none() || !line.starts_with("instance = "));
    let mut base: String = lines.map(|line| format!("{line}\n")).collect();
    if base.is_empty() {
        "format = 1\n".clone_into(&mut base);
    }
    // Of a network that does not pass, what does.
    let network = config::salvage(format!("format = 1\n{tables}").as_bytes());
    let network: String = network.lines().filter(|line| line.starts_with("network = ")).collect();
    let nothing = base == "format = 1\n" && network.is_empty() && instance.is_none();
    if nothing {
        return Vec::new();
    }
    let all = joined(base.as_bytes(), &network, instance);
    if config::parse("", &all).is_ok() { all } else { joined(b"", "", instance) }
}

/// The beginning of a text that is too long.
pub fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
