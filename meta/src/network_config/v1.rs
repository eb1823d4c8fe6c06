//! Version 1: a list of entries, each with its type.

use super::keys::{BOND_V1, NAMESERVER, PARAMETERS, PHYSICAL, REFUSED_TYPES, ROUTE_V1, SUBNET, V1, VLAN_V1};
use super::plan::{Kind, Link, Plan, Route, Text};
use super::{idle, number};
use crate::toml_text::Value as Toml;
use crate::translation::{Key, Sheet, shown};
use crate::yaml::{Mark, Node, Value};
use berth_units::diag::{nearest, quote};
use std::net::Ipv4Addr;

/// Types that are read.
const TYPES: [&str; 6] = ["physical", "bond", "vlan", "nameserver", "route", "loopback"];

/// Reads `config`.
pub(super) fn read(sheet: &mut Sheet<'_>, network: &Node) -> Plan {
    let mut plan = Plan::default();
    for (entry, _, value) in sheet.pairs("", network, V1) {
        if entry.name == "config" {
            match &value.value {
                Value::List(items) => items.iter().for_each(|item| one(sheet, &mut plan, item)),
                Value::Null => {}
                _ => sheet.wrong("config", value, "a list of entries such as - type: physical"),
            }
        }
    }
    plan
}

fn one(sheet: &mut Sheet<'_>, plan: &mut Plan, entry: &Node) {
    let Some((_, kind)) = entry.pair("type") else {
        return sheet.refuse(
            entry.at,
            "config",
            format!("an entry without type, which is {}", TYPES.join(", ")),
        );
    };
    let Some(kind_text) = sheet.text("type", kind) else { return };
    if let Some((_, why)) = REFUSED_TYPES.iter().find(|(name, _)| *name == kind_text) {
        return sheet.refuse(kind.at, &kind_text, *why);
    }
    match kind_text.as_str() {
        "physical" => link(sheet, plan, entry, PHYSICAL),
        "bond" => link(sheet, plan, entry, BOND_V1),
        "vlan" => link(sheet, plan, entry, VLAN_V1),
        "nameserver" => {
            for (entry, _, value) in sheet.pairs("nameserver", entry, NAMESERVER) {
                match entry.name {
                    "address" => plan.dns.extend(sheet.texts("nameserver: address", value)),
                    "search" => plan.search.extend(sheet.texts("nameserver: search", value)),
                    _ => {}
                }
            }
        }
        "route" => plan.routes.extend(route(sheet, entry)),
        "loopback" => idle(sheet, kind.at, "loopback", "it is there in any case"),
        other => {
            let hint = match nearest(other, TYPES) {
                Some(near) => format!("did you mean {}?", quote(near)),
                None => format!("known are {}", TYPES.join(", ")),
            };
            sheet.refuse(kind.at, "type", format!("{} is not known; {hint}", quote(other)));
        }
    }
}

fn link(sheet: &mut Sheet<'_>, plan: &mut Plan, entry: &Node, table: &'static [Key]) {
    let name = entry.get("name").and_then(Node::text).map(str::to_owned);
    let kind = entry.get("type").and_then(Node::text).unwrap_or_default().to_owned();
    let Some(name) = name else {
        let at = entry.get("name").map_or(entry.at, |name| name.at);
        return sheet.refuse(at, &kind, "name is missing, or no text");
    };
    let of = format!("{kind} {}", shown(&name, 32));
    let name_at = entry.get("name").map_or(entry.at, |name| name.at);
    let mut link = Link::new(name.clone(), entry.at, (name.clone(), name_at), Kind::Physical);
    let (mut to, mut id, mut members, mut parameters) = (None, None, Vec::new(), Vec::new());
    for (key, _, value) in sheet.pairs(&of, entry, table) {
        let path = format!("{of}: {}", key.name);
        match key.name {
            "mac_address" => {
                if let Some(mac) = sheet.text(&path, value) {
                    link.matches = (mac, value.at);
                }
            }
            "mtu" => link.mtu = number(sheet, &path, value).map(|mtu| (mtu, value.at)),
            "accept-ra" => link.ra = sheet.yes(&path, value),
            "vlan_link" => to = sheet.text(&path, value).map(|text| (text, value.at)),
            "vlan_id" => id = number(sheet, &path, value).map(|id| (id, value.at)),
            "bond_interfaces" => members = sheet.texts(&path, value),
            "params" => parameters = params(sheet, &of, value),
            "subnets" => match &value.value {
                Value::List(items) => {
                    for item in items {
                        subnet(sheet, plan, &mut link, &of, item);
                    }
                }
                Value::Null => {}
                _ => sheet.wrong(&path, value, "a list of entries such as - type: dhcp4"),
            },
            _ => {}
        }
    }
    link.kind = match kind.as_str() {
        "vlan" => match (to, id) {
            (Some(to), Some(id)) => Kind::Vlan(to, id),
            _ => return sheet.refuse(entry.at, &of, "needs vlan_link and vlan_id"),
        },
        "bond" => Kind::Bond(members, parameters),
        _ => Kind::Physical,
    };
    let verdict = crate::translation::Verdict::Applied;
    sheet.row(entry.at, of, verdict, "");
    plan.links.push(link);
}

/// `params` of a bond: `bond-mode`, `bond_mode`, `mode`.
fn params(sheet: &mut Sheet<'_>, of: &str, value: &Node) -> Vec<(&'static str, Mark, Toml)> {
    let Value::Map(pairs) = &value.value else {
        if value.value != Value::Null {
            sheet.wrong(of, value, "a mapping such as bond-mode: active-backup");
        }
        return Vec::new();
    };
    // The same names without what stands in front, and with one kind of dash.
    let plain = pairs.iter().map(|(key, value)| {
        let mut key = key.clone();
        if let Value::Text(text) = &mut key.value {
            let short = text.trim_start_matches("bond-").trim_start_matches("bond_").replace('_', "-");
            *text = short;
        }
        (key, value.clone())
    });
    let plain = Node { at: value.at, value: Value::Map(plain.collect()), written: None };
    bond_parameters(sheet, of, &plain)
}

/// What a bond's parameters are in berth.toml.
pub(super) fn bond_parameters(
    sheet: &mut Sheet<'_>,
    of: &str,
    value: &Node,
) -> Vec<(&'static str, Mark, Toml)> {
    let mut fields = Vec::new();
    for (entry, key, value) in sheet.pairs(of, value, PARAMETERS) {
        let path = format!("{of}: {}", entry.name);
        let field = match entry.name {
            "mode" => "mode",
            "lacp-rate" => "lacp_rate",
            "transmit-hash-policy" | "xmit-hash-policy" => "xmit_hash_policy",
            "primary" => "primary",
            _ => {
                // Milliseconds, also as netplan writes them.
                let text = value.text().map(|text| text.trim().trim_end_matches("ms").to_owned());
                let plain =
                    Node { value: text.map_or_else(|| value.value.clone(), Value::Text), ..value.clone() };
                if let Some(time) = number(sheet, &path, &plain) {
                    fields.push(("miimon", key.at, Toml::Int(time)));
                }
                continue;
            }
        };
        // The kernel's numbers of modes and rates are taken as well.
        let text = match (&value.value, field) {
            (Value::Int(number), "mode") => {
                usize::try_from(*number).ok().and_then(|n| MODES.get(n)).map(|mode| (*mode).to_owned())
            }
            (Value::Int(0), "lacp_rate") => Some("slow".to_owned()),
            (Value::Int(1), "lacp_rate") => Some("fast".to_owned()),
            _ => sheet.text(&path, value),
        };
        if let Some(text) = text {
            fields.push((field, value.at, Toml::Text(text)));
        }
    }
    fields
}

/// By the numbers of `Documentation/networking/bonding.rst`.
const MODES: [&str; 7] =
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];

fn subnet(sheet: &mut Sheet<'_>, plan: &mut Plan, link: &mut Link, of: &str, subnet: &Node) {
    let Some(kind) = subnet.get("type").and_then(Node::text).map(str::to_owned) else {
        return sheet.refuse(subnet.at, of, "a subnet without type");
    };
    let (mut address, mut length, mut gateways) = (None, None, Vec::new());
    for (key, _, value) in sheet.pairs(of, subnet, SUBNET) {
        let path = format!("{of}: {}", key.name);
        match key.name {
            "address" => address = sheet.text(&path, value).map(|text| (text, value.at)),
            "netmask" | "prefix" => length = prefix(sheet, &path, value),
            "gateway" => gateways = sheet.texts(&path, value),
            "dns_nameservers" => plan.dns.extend(sheet.texts(&path, value)),
            "dns_search" => plan.search.extend(sheet.texts(&path, value)),
            "routes" => match &value.value {
                Value::List(items) => {
                    for item in items {
                        link.routes.extend(route(sheet, item));
                    }
                }
                Value::Null => {}
                _ => sheet.wrong(&path, value, "a list of routes"),
            },
            "control" if value.text() == Some("manual") => {
                sheet.refuse(
                    value.at,
                    &path,
                    "manual: an interface that is named is up; take this subnet out",
                );
            }
            _ => {}
        }
    }
    let at = subnet.get("type").map_or(subnet.at, |kind| kind.at);
    link.addressed = true;
    match kind.as_str() {
        "dhcp" | "dhcp4" => link.dhcp = true,
        "dhcp6" | "ipv6_dhcpv6-stateful" => link.dhcp6 = true,
        "ipv6_slaac" => link.ra = Some(true),
        "ipv6_dhcpv6-stateless" => {
            link.ra = Some(true);
            idle(
                sheet,
                at,
                &format!("{of}: {kind}"),
                "addresses, and name servers too, come from router advertisements",
            );
        }
        "manual" => {}
        "static" | "static6" => {
            let Some((address, at)) = address else {
                return sheet.refuse(subnet.at, of, "a static subnet without address");
            };
            let whole = match (address.contains('/'), length) {
                (false, Some(length)) => format!("{address}/{length}"),
                // A host of its own is what cloud-init makes of one without a mask.
                (false, None) => format!("{address}/{}", if address.contains(':') { 128 } else { 32 }),
                (true, _) => address,
            };
            link.addresses.push((whole, at));
        }
        other => {
            const KNOWN: [&str; 9] = [
                "dhcp",
                "dhcp4",
                "dhcp6",
                "static",
                "static6",
                "manual",
                "ipv6_slaac",
                "ipv6_dhcpv6-stateful",
                "ipv6_dhcpv6-stateless",
            ];
            let hint = nearest(other, KNOWN)
                .map_or_else(|| KNOWN.join(", "), |near| format!("did you mean {}?", quote(near)));
            sheet.refuse(at, of, format!("type {} of a subnet is not known; {hint}", quote(other)));
        }
    }
    for gateway in gateways {
        if !link.gateways.iter().any(|(other, _)| *other == gateway.0) {
            link.gateways.push(gateway);
        }
    }
}

/// `24`, `255.255.255.0`, `64`, `ffff:ffff:ffff:ffff::`.
fn prefix(sheet: &mut Sheet<'_>, path: &str, value: &Node) -> Option<u32> {
    let text = match &value.value {
        Value::Int(number) => number.to_string(),
        Value::Text(text) => text.trim().trim_start_matches('/').to_owned(),
        Value::Null => return None,
        _ => {
            sheet.wrong(path, value, "a netmask such as 255.255.255.0");
            return None;
        }
    };
    let ones = |bits: u128, width: u32| {
        let ones = bits.count_ones();
        let whole = if ones == 0 { 0 } else { u128::MAX << (width - ones) & (u128::MAX >> (128 - width)) };
        (whole == bits).then_some(ones)
    };
    let length = match (text.parse::<u32>(), text.parse::<Ipv4Addr>(), text.parse::<std::net::Ipv6Addr>()) {
        (Ok(length), _, _) if length <= 128 => Some(length),
        (_, Ok(mask), _) => ones(u128::from(mask.to_bits()), 32),
        (_, _, Ok(mask)) => ones(mask.to_bits(), 128),
        _ => None,
    };
    if length.is_none() {
        sheet.refuse(value.at, path, format!("{} is not a netmask such as 255.255.255.0", quote(&text)));
    }
    length
}

fn route(sheet: &mut Sheet<'_>, entry: &Node) -> Option<Route> {
    let (mut to, mut length, mut via, mut metric): (Option<Text>, _, Option<Text>, _) =
        (None, None, None, None);
    for (key, _, value) in sheet.pairs("route", entry, ROUTE_V1) {
        let path = format!("route: {}", key.name);
        match key.name {
            "destination" | "network" => to = sheet.text(&path, value).map(|text| (text, value.at)),
            "netmask" | "prefix" => length = prefix(sheet, &path, value),
            "gateway" => via = sheet.text(&path, value).map(|text| (text, value.at)),
            "metric" => metric = number(sheet, &path, value).map(|metric| (metric, value.at)),
            _ => {}
        }
    }
    let Some((to, at)) = to else {
        sheet.refuse(entry.at, "route", "destination is missing");
        return None;
    };
    let v6 = to.contains(':');
    let whole = match (to.as_str(), length) {
        (text, _) if text.contains('/') => text.to_owned(),
        ("0.0.0.0", None) | ("::", None) => format!("{to}/0"),
        ("default", _) => everything(via.as_ref()),
        (text, Some(length)) => format!("{text}/{length}"),
        (text, None) => format!("{text}/{}", if v6 { 128 } else { 32 }),
    };
    Some(Route { at: entry.at, to: (whole, at), via, metric, on_link: false })
}

/// The network that `default` means, by the family of its router.
pub(super) fn everything(via: Option<&Text>) -> String {
    if via.is_some_and(|(via, _)| via.contains(':')) { "::/0" } else { "0.0.0.0/0" }.to_owned()
}
