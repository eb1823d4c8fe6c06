//! The keys that become one field each, and `berth`.

use super::keys::{CA_CERTS, NTP, RESOLV_CONF};
use super::run;
use crate::toml_text::{Item, Table, Value as Toml};
use crate::translation::{Sheet, list, name_of};
use crate::yaml::{Mark, Node, Value};

/// `hostname`, unless `fqdn` or nothing is wanted.
pub(super) fn hostname(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    let Some(text) = sheet.text("hostname", value) else { return };
    if says(sheet, "preserve_hostname") {
        return sheet.no_op(key, "preserve_hostname is true");
    }
    if says(sheet, "prefer_fqdn_over_hostname") && sheet.root.get("fqdn").and_then(Node::text).is_some() {
        return sheet.no_op(key, "prefer_fqdn_over_hostname is true, and there is fqdn");
    }
    sheet.set("", "hostname", value.at, Toml::Text(text));
    sheet.applied(key, "");
}

/// `fqdn`, if it is the one that is wanted.
pub(super) fn fqdn(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    let Some(text) = sheet.text("fqdn", value) else { return };
    if says(sheet, "preserve_hostname") {
        return sheet.no_op(key, "preserve_hostname is true");
    }
    let other = sheet.root.get("hostname").and_then(Node::text).is_some();
    if other && !says(sheet, "prefer_fqdn_over_hostname") {
        return sheet.no_op(
            key,
            "a machine has one name, and there is hostname; prefer_fqdn_over_hostname: true takes this one",
        );
    }
    sheet.set("", "hostname", value.at, Toml::Text(text));
    sheet.applied(key, "");
}

/// `preserve_hostname`, `prefer_fqdn_over_hostname`: looked at with the others.
pub(super) fn with_hostname(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    if sheet.yes(&name_of(key), value).is_some() {
        sheet.applied(key, "");
    }
}

fn says(sheet: &Sheet<'_>, key: &str) -> bool {
    match sheet.root.get(key).map(|value| &value.value) {
        Some(Value::Bool(yes)) => *yes,
        Some(Value::Text(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// `timezone`.
pub(super) fn timezone(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    let Some(text) = sheet.text("timezone", value) else { return };
    sheet.set("time", "timezone", value.at, Toml::Text(text));
    sheet.applied(key, "");
}

/// `ntp`.
pub(super) fn ntp(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    let (mut servers, mut pools, mut enabled) = (Vec::new(), Vec::new(), true);
    for (entry, _, value) in sheet.pairs("ntp", value, NTP) {
        match entry.name {
            "servers" => servers = sheet.texts("ntp: servers", value),
            "pools" => pools = sheet.texts("ntp: pools", value),
            "enabled" => enabled = sheet.yes("ntp: enabled", value).unwrap_or(true),
            _ => {}
        }
    }
    servers.extend(pools);
    if !enabled {
        sheet.set("time", "servers", key.at, Toml::List(Vec::new()));
        return sheet.applied(key, "nobody is asked for the time; the clock is the hardware's");
    }
    if servers.is_empty() {
        return sheet
            .no_op(key, "it names no servers, so those are asked that DHCP names, or else the public pool");
    }
    sheet.set("time", "servers", key.at, list(servers));
    sheet.applied(key, "");
}

/// `ca_certs`, `ca-certs`.
pub(super) fn ca_certs(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    let name = name_of(key);
    let mut trusted = Vec::new();
    for (_, _, value) in sheet.pairs(&name, value, CA_CERTS) {
        trusted = sheet.texts(&format!("{name}: trusted"), value);
    }
    if trusted.is_empty() {
        return sheet.no_op(key, "it names no certificates");
    }
    sheet.set("trust", "ca", key.at, list(trusted));
    sheet.applied(key, "trusted for registries and updates; units have their images' own certificates");
}

/// `resolv_conf`.
pub(super) fn resolv_conf(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    if !says(sheet, "manage_resolv_conf") {
        return sheet.no_op(key, "manage_resolv_conf is not true");
    }
    let mut search = Vec::new();
    for (entry, key, value) in sheet.pairs("resolv_conf", value, RESOLV_CONF) {
        let texts = sheet.texts(&format!("resolv_conf: {}", entry.name), value);
        match entry.name {
            "nameservers" if !texts.is_empty() => sheet.set("network", "dns", key.at, list(texts)),
            "nameservers" => {}
            _ => search.extend(texts),
        }
    }
    if !search.is_empty() {
        sheet.set("network", "search", key.at, list(search));
    }
    sheet.applied(key, "");
}

/// `manage_resolv_conf`: looked at with `resolv_conf`.
pub(super) fn with_resolv_conf(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    if sheet.yes(&name_of(key), value).is_some() {
        sheet.applied(key, "");
    }
}

/// `berth`: the words of berth.toml itself.
pub(super) fn berth(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    let Value::Map(pairs) = &value.value else {
        if value.value != Value::Null {
            sheet.wrong("berth", value, "a mapping of berth.toml's tables such as units");
        }
        return;
    };
    for (name, value) in pairs {
        let Some(text) = name.text() else {
            sheet.refuse(name.at, "berth", format!("a key is {}; keys are texts", name.kind_as_written()));
            continue;
        };
        if text == run::IMAGE {
            if sheet.root.get("runcmd").is_none_or(crate::translation::asks_nothing) {
                sheet.row(
                    name.at,
                    "berth: runcmd_image",
                    crate::translation::Verdict::NoOp,
                    "there is no runcmd",
                );
            }
            continue;
        }
        // Said here again, it has to be the one there is.
        if text == "format" && value.value == Value::Int(1) {
            continue;
        }
        if let Some(item) = converted(sheet, "berth", value) {
            let mut path = vec![text.to_owned()];
            let mut toml = std::mem::take(&mut sheet.toml);
            put(sheet, &mut toml, &mut path, name.at, item);
            sheet.toml = toml;
        }
    }
    sheet.applied(key, "");
}

/// Puts a value where its path leads; tables and access keys are joined with what is there.
fn put(sheet: &mut Sheet<'_>, table: &mut Table, path: &mut Vec<String>, at: Mark, item: Item) {
    let Some(name) = path.last().cloned() else { return };
    let Some((_, first, there)) = table.0.iter_mut().find(|(key, _, _)| *key == name) else {
        table.0.push((name, at, item));
        return;
    };
    match (&mut there.value, item.value) {
        (Toml::Table(there), Toml::Table(more)) => {
            for (key, at, item) in more.0 {
                path.push(key);
                put(sheet, there, path, at, item);
                path.pop();
            }
        }
        (Toml::List(there), Toml::List(more)) if path.iter().map(String::as_str).eq(["access", "keys"]) => {
            there.extend(more);
        }
        _ => sheet.refuse(at, "berth", format!("{} is said already, at {first}", path.join("."))),
    }
}

/// A YAML value as a TOML one. TOML has no null.
fn converted(sheet: &mut Sheet<'_>, path: &str, node: &Node) -> Option<Item> {
    let value = match &node.value {
        Value::Bool(yes) => Toml::Bool(*yes),
        Value::Int(_) if node.is_sexagesimal() => {
            sheet.refuse(
                node.at,
                path,
                "is a number to base 60 in YAML, expected a text; write it in quotes",
            );
            return None;
        }
        Value::Int(number) => match i64::try_from(*number) {
            Ok(number) => Toml::Int(number),
            Err(_) => {
                sheet.refuse(node.at, path, "a number too large");
                return None;
            }
        },
        Value::Float(number) => Toml::Float(*number),
        Value::Text(text) => Toml::Text(text.clone()),
        Value::Bytes(bytes) => match String::from_utf8(bytes.clone()) {
            Ok(text) => Toml::Text(text),
            Err(_) => {
                sheet.refuse(node.at, path, "is binary, expected a text");
                return None;
            }
        },
        Value::Null => {
            sheet.refuse(node.at, path, "a value is missing here; take the key out, or write its value");
            return None;
        }
        Value::List(items) => {
            Toml::List(items.iter().filter_map(|item| converted(sheet, path, item)).collect())
        }
        Value::Map(pairs) => {
            let mut table = Table::default();
            for (key, value) in pairs {
                let Some(name) = key.text() else {
                    let words = format!("a key is {}; write it in quotes", key.kind_as_written());
                    sheet.refuse(key.at, path, words);
                    continue;
                };
                if let Some(item) = converted(sheet, path, value) {
                    table.0.push((name.to_owned(), key.at, item));
                }
            }
            Toml::Table(table)
        }
    };
    Some(Item { at: node.at, value })
}
