//! OpenStack's config drive: a volume labelled `config-2`, of which `openstack/latest/` is read: `meta_data.json`, `user_data`,
//! `network_data.json`, `vendor_data.json` (OpenStack's "Metadata service", "Config drive").

use crate::nocloud::VENDOR;
use crate::said::{self, Network, Said};
use crate::volume::Files;
use serde_json::{Map, Value};

/// Reads it.
pub fn read(files: &Files<'_>) -> Said {
    let mut said = Said::default();
    let file = |name: &str, said: &mut Said| {
        let bytes = files.read_or_tell(&format!("openstack/latest/{name}"), said)?;
        (!bytes.iter().all(u8::is_ascii_whitespace)).then_some(bytes)
    };
    if let Some(bytes) = file("meta_data.json", &mut said) {
        meta_data(&bytes, &mut said);
    }
    said.user_data = file("user_data", &mut said);
    said.network = file("network_data.json", &mut said).map(Network::Data);
    // Every drive has one; most have nothing in it.
    let vendor = file("vendor_data.json", &mut said);
    if vendor
        .is_some_and(|bytes| serde_json::from_slice::<Map<_, _>>(&bytes).is_ok_and(|table| !table.is_empty()))
    {
        said.notes.push(VENDOR.to_owned());
    }
    if said.is_empty() {
        said.trouble.push("it has no openstack/latest/meta_data.json".to_owned());
    }
    said
}

fn meta_data(bytes: &[u8], said: &mut Said) {
    let table: Map<String, Value> = match serde_json::from_slice(bytes) {
        Ok(table) => table,
        Err(error) => return said.trouble.push(format!("meta_data.json is no JSON table: {error}")),
    };
    said.id = said::text(table.get("uuid"));
    said.hostname = said::text(table.get("hostname"));
    // `keys` says the same as `public_keys`, with more kinds.
    if let Some(value) = table.get("public_keys") {
        said::keys(value, &mut said.keys);
    }
    if said::text(table.get("admin_pass")).is_some() {
        said.notes.push("admin_pass is not applied: there is no login; access is by keys".to_owned());
    }
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let mut said = Said::default();
    meta_data(bytes, &mut said);
    let _ = said.instance("config-drive", None);
}
