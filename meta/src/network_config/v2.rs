//! Version 2, as netplan has it: mappings by kind of interface.

use super::keys::{BOND_V2, ETHERNET, MATCH, NAMESERVERS, OVERRIDES, ROUTE_V2, V2, VLAN_V2};
use super::plan::{Kind, Link, Plan, Route};
use super::v1::{bond_parameters, everything};
use super::{idle, number};
use crate::translation::{Key, Sheet, Verdict, name_of, shown};
use crate::yaml::{Mark, Node, Value};

/// What stands in one entry, before it is known what it is.
struct Entry<'n> {
    of: String,
    key: &'n Node,
    value: &'n Node,
}

/// Reads the document.
pub(super) fn read(sheet: &mut Sheet<'_>, network: &Node) -> Plan {
    let mut plan = Plan::default();
    let pairs = sheet.pairs("", network, V2);
    let several = pairs
        .iter()
        .filter(|(key, _, _)| key.name != "version")
        .map(|(_, _, value)| count(value))
        .sum::<usize>()
        > 1;
    for (section, _, value) in pairs.into_iter().filter(|(key, _, _)| key.name != "version") {
        let Value::Map(entries) = &value.value else {
            if value.value != Value::Null {
                sheet.wrong(section.name, value, "a mapping of interfaces");
            }
            continue;
        };
        for (key, value) in entries {
            let of = format!("{}: {}", section.name, name_of(key));
            let entry = Entry { of, key, value };
            one(sheet, &mut plan, section, &entry, several);
        }
    }
    plan
}

fn count(value: &Node) -> usize {
    match &value.value {
        Value::Map(pairs) => pairs.len(),
        _ => 0,
    }
}

fn one(sheet: &mut Sheet<'_>, plan: &mut Plan, section: &'static Key, entry: &Entry<'_>, several: bool) {
    let Entry { of, key, value } = entry;
    let Some(id) = key.text().map(str::to_owned) else {
        return sheet.refuse(
            key.at,
            section.name,
            format!("the name of an interface is {}; write it in quotes", key.kind()),
        );
    };
    let table = match section.name {
        "bonds" => BOND_V2,
        "vlans" => VLAN_V2,
        _ => ETHERNET,
    };
    let mut link = Link::new(id.clone(), key.at, (id, key.at), Kind::Physical);
    let (mut to, mut number_of, mut members, mut parameters) = (None, None, Vec::new(), Vec::new());
    let (mut pattern, mut says_dns) = (None, false);
    let mut overrides = Vec::new();
    for (field, field_key, value) in sheet.pairs(of, value, table) {
        let path = format!("{of}: {}", field.name);
        match field.name {
            "match" => pattern = matching(sheet, &path, value, &mut link),
            "dhcp4" => link.dhcp = sheet.yes(&path, value).unwrap_or(false),
            "dhcp6" => link.dhcp6 = sheet.yes(&path, value).unwrap_or(false),
            "accept-ra" => link.ra = sheet.yes(&path, value),
            "addresses" => link.addresses = addresses(sheet, &path, value),
            "gateway4" | "gateway6" => link.gateways.extend(sheet.texts(&path, value)),
            "mtu" => link.mtu = number(sheet, &path, value).map(|mtu| (mtu, value.at)),
            "nameservers" => {
                for (entry, _, value) in sheet.pairs(&path, value, NAMESERVERS) {
                    let texts = sheet.texts(&format!("{path}: {}", entry.name), value);
                    if entry.name == "search" {
                        plan.search.extend(texts);
                    } else {
                        says_dns |= !texts.is_empty();
                        plan.dns.extend(texts);
                    }
                }
            }
            "routes" => match &value.value {
                Value::List(items) => {
                    items.iter().for_each(|item| link.routes.extend(route(sheet, &path, item)))
                }
                Value::Null => {}
                _ => sheet.wrong(&path, value, "a list of routes"),
            },
            "dhcp4-overrides" | "dhcp6-overrides" => overrides.push((path, value)),
            "interfaces" => members = sheet.texts(&path, value),
            "parameters" => parameters = bond_parameters(sheet, &path, value),
            "id" => number_of = number(sheet, &path, value).map(|id| (id, value.at)),
            "link" => to = sheet.text(&path, value).map(|text| (text, value.at)),
            _ => {}
        }
        link.addressed |= !matches!(
            field.name,
            "match" | "mtu" | "accept-ra" | "interfaces" | "parameters" | "id" | "link"
        );
        let _ = field_key;
    }
    for (path, value) in overrides {
        overriding(sheet, &path, value, says_dns, several);
    }
    link.kind = match section.name {
        "vlans" => match (to, number_of) {
            (Some(to), Some(id)) => Kind::Vlan(to, id),
            _ => return sheet.refuse(key.at, of, "needs id and link"),
        },
        "bonds" => Kind::Bond(members, parameters),
        _ => Kind::Physical,
    };
    if let Some((text, at)) = pattern {
        let only_dhcp = link.dhcp
            && link.addresses.is_empty()
            && link.gateways.is_empty()
            && link.routes.is_empty()
            && link.mtu.is_none()
            && link.ra != Some(false);
        if only_dhcp && !several {
            return idle(
                sheet,
                at,
                of,
                "every Ethernet interface gets DHCP and SLAAC without a word about it",
            );
        }
        let words = format!("{text} matches whatever is called so; name one interface, or its MAC address");
        return sheet.refuse(at, of, words);
    }
    sheet.row(key.at, of.clone(), Verdict::Applied, "");
    plan.links.push(link);
}

/// `match`; gives back a pattern.
fn matching(sheet: &mut Sheet<'_>, path: &str, value: &Node, link: &mut Link) -> Option<(String, Mark)> {
    let (mut mac, mut name) = (None, None);
    for (entry, _, value) in sheet.pairs(path, value, MATCH) {
        let text = sheet.text(path, value).map(|text| (text, value.at));
        match entry.name {
            "macaddress" => mac = text,
            _ => name = text,
        }
    }
    if let Some(mac) = mac {
        link.matches = mac;
        return None;
    }
    let (name, at) = name?;
    if name.contains(['*', '?', '[']) {
        return Some((shown(&name, 32), at));
    }
    link.matches = (name, at);
    None
}

/// Texts, or mappings from an address to what netplan says of it.
fn addresses(sheet: &mut Sheet<'_>, path: &str, value: &Node) -> Vec<(String, Mark)> {
    if let Value::List(items) = &value.value
        && let Some(item) = items.iter().find(|item| matches!(item.value, Value::Map(_)))
    {
        sheet.refuse(item.at, path, "an address has no label or lifetime; write the address alone");
        return Vec::new();
    }
    sheet.texts(path, value)
}

fn route(sheet: &mut Sheet<'_>, path: &str, entry: &Node) -> Option<Route> {
    let (mut to, mut via, mut metric, mut on_link) = (None, None, None, false);
    for (key, _, value) in sheet.pairs(path, entry, ROUTE_V2) {
        match key.name {
            "to" => to = sheet.text(path, value).map(|text| (text, value.at)),
            "via" => via = sheet.text(path, value).map(|text| (text, value.at)),
            "metric" => metric = number(sheet, path, value).map(|metric| (metric, value.at)),
            "on-link" => on_link = sheet.yes(path, value).unwrap_or(false),
            _ => {}
        }
    }
    let Some((to, at)) = to else {
        sheet.refuse(entry.at, path, "a route without to");
        return None;
    };
    let whole = match to.as_str() {
        "default" => everything(via.as_ref()),
        text if text.contains('/') => text.to_owned(),
        text => format!("{text}/{}", if text.contains(':') { 128 } else { 32 }),
    };
    Some(Route { at: entry.at, to: (whole, at), via, metric, on_link })
}

/// What DHCP is not to do.
fn overriding(sheet: &mut Sheet<'_>, path: &str, value: &Node, says_dns: bool, several: bool) {
    for (entry, key, value) in sheet.pairs(path, value, OVERRIDES) {
        let path = format!("{path}: {}", entry.name);
        let off = matches!(&value.value, Value::Bool(false)) || value.text() == Some("false");
        match entry.name {
            "use-dns" if off && !says_dns => {
                sheet.refuse(
                    key.at,
                    &path,
                    "name servers that DHCP names are used unless nameservers names others",
                );
            }
            "route-metric" if several => {
                sheet.refuse(key.at, &path, "what DHCP names has metric 1000 and the interface's number; give routes of your own a metric");
            }
            "route-metric" => idle(sheet, key.at, &path, "there is one interface"),
            "use-dns" | "use-ntp" | "use-routes" | "use-mtu" | "use-domains"
                if !off || says_dns && entry.name == "use-dns" =>
            {
                idle(sheet, key.at, &path, "it is so in any case");
            }
            _ => sheet.refuse(
                key.at,
                &path,
                entry.doc.trim_start_matches("`false` is refused").trim_start_matches(": "),
            ),
        }
    }
}
