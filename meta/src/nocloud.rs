//! A NoCloud volume: `user-data`, `meta-data`, `vendor-data` and `network-config` in its root folder, each of which may be missing
//! or empty, but not all.

use crate::said::{self, Network, Said};
use crate::volume::Files;

/// Reads it.
pub fn read(files: &Files<'_>) -> Said {
    let mut said = Said::default();
    let mut empty = Vec::new();
    let mut file = |name: &'static str, said: &mut Said| {
        let bytes = files.read_or_tell(name, said)?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            empty.push(name);
            return None;
        }
        Some(bytes)
    };
    if let Some(bytes) = file("meta-data", &mut said) {
        meta_data(&bytes, &mut said);
    }
    said.user_data = file("user-data", &mut said);
    said.network = file("network-config", &mut said).map(Network::Config);
    if file("vendor-data", &mut said).is_some() {
        said.notes.push(VENDOR.to_owned());
    }
    for name in &empty {
        said.notes.push(format!("{name} is empty"));
    }
    if said.is_empty() {
        said.trouble.push(match empty.is_empty() {
            true => "it has neither user-data nor meta-data in its root folder".to_owned(),
            false => format!("nothing is in it: {} empty", one_or_more(&empty)),
        });
    }
    said
}

/// Said of vendor data, wherever it comes from.
pub const VENDOR: &str =
    "vendor-data is not applied: what runs on this machine is said by its owner, in user-data";

fn one_or_more(names: &[&str]) -> String {
    format!("{} {}", names.join(" and "), if names.len() == 1 { "is" } else { "are" })
}

/// `meta-data`: YAML, of which JSON is a part.
fn meta_data(bytes: &[u8], said: &mut Said) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let table = match std::str::from_utf8(bytes) {
        Ok(text) => said::table(text),
        Err(_) => Err("is not UTF-8 text".to_owned()),
    };
    let table = match table {
        Ok(table) => table,
        Err(why) => return said.trouble.push(format!("meta-data {why}")),
    };
    let first = |names: [&str; 2]| names.into_iter().find_map(|name| table.get(name));
    said.id = said::text(first(["instance-id", "instance_id"]));
    said.hostname = said::text(first(["local-hostname", "hostname"]));
    if let Some(value) = first(["public-keys", "public_keys"]) {
        said::keys(value, &mut said.keys);
    }
    if table.contains_key("network-interfaces") {
        said.notes.push("network-interfaces in meta-data is not applied: it is Debian's old format; write a file network-config".to_owned());
    }
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let mut said = Said::default();
    meta_data(bytes, &mut said);
    let _ = said.instance("nocloud", None);
}

#[cfg(test)]
mod tests;
