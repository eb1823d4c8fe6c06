//! network-config, versions 1 and 2 → `[network]` of berth.toml.
//!
//! Both versions are read into one [`plan::Plan`] (`v1`, `v2`; the tables of their keys are in `keys`), from which the text is
//! made. As in `cloud_config`, what Berth does not do is refused by its name, and what need not be done is noted.

pub mod keys;
mod plan;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use crate::cloud_config::{read, sound};
use crate::translation::{Sheet, Translation, Verdict};
use crate::yaml::{self, Mark, Node, Value};

/// Translates a document, with `network:` at its top or without. `name` is what messages call it.
pub fn translate(name: &str, text: &[u8]) -> Translation {
    match read(name, text) {
        Ok(parsed) => translated(name, &parsed),
        Err(translation) => translation,
    }
}

/// Whether a document looks like one: it has a version and what a network-config has, or `network:` at its top.
pub fn looks_like(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let root = yaml::parse(text).root;
    let known = |node: &Node| {
        keys::V1.iter().chain(keys::V2).any(|key| key.name != "version" && node.get(key.name).is_some())
    };
    root.get("network").is_some() || (root.get("version").is_some() && known(&root))
}

fn translated(name: &str, parsed: &yaml::Parsed) -> Translation {
    let root = &parsed.root;
    let mut sheet = Sheet::new(name, root);
    for mistake in &parsed.mistakes {
        sheet.refuse(mistake.at, "", mistake.message.clone());
    }
    let network = match root.pair("network") {
        Some((_, network)) => {
            others(&mut sheet, root);
            network
        }
        None => root,
    };
    // After a mistake of syntax, parts of the network may be missing, and a part of it is worse than none.
    if parsed.whole {
        network_of(&mut sheet, network);
    }
    sheet.finish(false)
}

/// What stands beside `network`.
fn others(sheet: &mut Sheet<'_>, root: &Node) {
    let Value::Map(pairs) = &root.value else { return };
    for (key, _) in pairs.iter().filter(|(key, _)| key.text() != Some("network")) {
        let name = crate::translation::name_of(key);
        sheet.refuse(key.at, &name, "beside network there is nothing in a network-config");
    }
}

fn network_of(sheet: &mut Sheet<'_>, network: &Node) {
    if !matches!(network.value, Value::Map(_)) {
        return sheet.wrong("network", network, "a mapping with version and what belongs to it");
    }
    if network.get("config").and_then(Node::text) == Some("disabled") {
        let at = network.get("config").map_or(network.at, |config| config.at);
        return sheet.refuse(at, "config", "disabled: a machine without a network could not be asked anything; leave network-config out for DHCP and SLAAC");
    }
    let version = network.get("version").map(|version| (&version.value, version.at));
    let plan = match version {
        Some((Value::Int(1), _)) => v1::read(sheet, network),
        Some((Value::Int(2), _)) => v2::read(sheet, network),
        Some((Value::Text(text), _)) if text == "1" => v1::read(sheet, network),
        Some((Value::Text(text), _)) if text == "2" => v2::read(sheet, network),
        Some((_, at)) => return sheet.refuse(at, "version", "there are versions 1 and 2"),
        None => return sheet.refuse(network.at, "version", "is missing; 1 or 2"),
    };
    plan.write(sheet);
}

/// A number, also one in quotes.
fn number(sheet: &mut Sheet<'_>, key: &str, value: &Node) -> Option<i64> {
    let number = match &value.value {
        Value::Int(number) if !value.written.as_ref().is_some_and(|text| text.contains(':')) => {
            i64::try_from(*number).ok()
        }
        Value::Text(text) => text.trim().parse().ok(),
        Value::Null => return None,
        _ => None,
    };
    if number.is_none() {
        sheet.wrong(key, value, "a whole number");
    }
    number
}

/// A row for something that was read and does not count.
fn idle(sheet: &mut Sheet<'_>, at: Mark, key: &str, words: &str) {
    sheet.row(at, key, Verdict::NoOp, words);
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let translation = translate("network-config", bytes);
    sound(&translation);
    let whole = format!("format = 1\n{}", translation.toml);
    let accepted = berth_units::config::parse("network-config", whole.as_bytes());
    assert!(accepted.is_ok(), "translated to what is refused");
    let _ = looks_like(bytes);
}
