//! OpenStack's `network_data.json`: links, networks on them, and services, as `[network]` of a machine config.
//!
//! After nova's schema (`doc/api_schemas/network_data.json`). What makes addresses is kept; what says how the hypervisor connects a
//! link (`vif_id`, the types `ovs`, `tap`, `vhostuser` …) is no matter of the machine.

use berth_units::config::toml_string as string;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What it becomes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// The tables.
    pub toml: String,
    /// What of it has no effect.
    pub notes: Vec<String>,
    /// What is not understood.
    pub problems: Vec<String>,
}

/// One `[[network.interface]]`.
#[derive(Debug, Default)]
struct Interface {
    dhcp: bool,
    dhcp6: bool,
    ra: Option<bool>,
    addresses: Vec<String>,
    gateways: Vec<String>,
    routes: Vec<String>,
    mtu: Option<u64>,
    has_network: bool,
    /// It is a bond's, and has no addresses of its own.
    member: bool,
}

/// Entries of one list that are looked at.
const ENTRIES: usize = 256;

/// Translates it; `name` is that of the file, for messages.
pub fn translate(name: &str, text: &[u8]) -> Translation {
    let mut out = Translation::default();
    let data: Map<String, Value> = match serde_json::from_slice(text) {
        Ok(data) => data,
        Err(error) => {
            out.problems.push(format!("{name}: is no JSON table: {error}"));
            return out;
        }
    };
    let mut links: BTreeMap<String, (String, Interface)> = BTreeMap::new();
    let mut stacked = String::new();
    read_links(name, list(&data, "links"), &mut links, &mut stacked, &mut out);
    for (n, network) in list(&data, "networks").iter().take(ENTRIES).enumerate() {
        let at = format!("{name}: networks[{n}]");
        let link = word(network, "link");
        match links.get_mut(&link) {
            Some((_, interface)) => read_network(&at, network, interface, &mut out),
            None => out.problems.push(format!("{at}: there is no link {link:?}")),
        }
    }
    let dns: Vec<String> = list(&data, "services")
        .iter()
        .take(ENTRIES)
        .filter(|service| word(service, "type") == "dns")
        .filter_map(|service| word(service, "address").parse::<IpAddr>().ok())
        .map(|address| string(&address.to_string()))
        .collect();
    if !dns.is_empty() {
        let _ = writeln!(out.toml, "[network]\ndns = [{}]\n", dns.join(", "));
    }
    for (matches, interface) in links.values().filter(|(_, interface)| !interface.member) {
        out.toml.push_str(&table(matches, interface));
    }
    out.toml.push_str(&stacked);
    out
}

fn read_links(
    name: &str,
    list: &[Value],
    links: &mut BTreeMap<String, (String, Interface)>,
    stacked: &mut String,
    out: &mut Translation,
) {
    // By its id, what a vlan or bond of it calls a link: its MAC, or a bond's or vlan's name.
    let mut called: BTreeMap<String, String> = BTreeMap::new();
    for link in list.iter().take(ENTRIES) {
        let mac = word(link, "ethernet_mac_address").to_ascii_lowercase();
        let id = word(link, "id");
        let own = !matches!(word(link, "type").as_str(), "bond" | "vlan") && !mac.is_empty();
        called.insert(id.clone(), if own { mac } else { interface_name(&id) });
    }
    let members: Vec<String> =
        list.iter().take(ENTRIES).flat_map(|link| list_of(link, "bond_links")).collect();
    for (n, link) in list.iter().take(ENTRIES).enumerate() {
        let at = format!("{name}: links[{n}]");
        let (id, kind) = (word(link, "id"), word(link, "type"));
        let own = called.get(&id).cloned().unwrap_or_default();
        match kind.as_str() {
            "vlan" => {
                let below = called.get(&word(link, "vlan_link")).cloned().unwrap_or_default();
                let tag = link.get("vlan_id").and_then(Value::as_u64).unwrap_or_default();
                let _ = writeln!(
                    stacked,
                    "[[network.vlan]]\nname = {}\nlink = {}\nid = {tag}",
                    string(&own),
                    string(&below)
                );
                if let Some(mtu) = link.get("mtu").and_then(number) {
                    let _ = writeln!(stacked, "mtu = {mtu}");
                }
                stacked.push('\n');
            }
            "bond" => {
                let of = list_of(link, "bond_links");
                let of: Vec<String> =
                    of.iter().map(|id| string(called.get(id).map_or("", String::as_str))).collect();
                let _ = writeln!(
                    stacked,
                    "[[network.bond]]\nname = {}\ninterfaces = [{}]",
                    string(&own),
                    of.join(", ")
                );
                for (theirs, ours) in [("bond_mode", "mode"), ("bond_xmit_hash_policy", "xmit_hash_policy")] {
                    let value = word(link, theirs);
                    if !value.is_empty() {
                        let _ = writeln!(stacked, "{ours} = {}", string(&value));
                    }
                }
                if let Some(miimon) = link.get("bond_miimon").and_then(number) {
                    let _ = writeln!(stacked, "miimon = {miimon}");
                }
                stacked.push('\n');
            }
            _ if own.is_empty() || !own.contains(':') => {
                out.problems.push(format!("{at}: a link of type {kind:?} has no ethernet_mac_address"));
                continue;
            }
            _ => {}
        }
        let mtu = link.get("mtu").and_then(number).filter(|_| kind != "vlan");
        let member = members.contains(&id);
        links.insert(id, (own, Interface { mtu, member, ..Interface::default() }));
    }
}

/// A name that Linux takes.
fn interface_name(id: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    id.chars().filter(fits).take(15).collect()
}

fn read_network(at: &str, network: &Value, interface: &mut Interface, out: &mut Translation) {
    interface.has_network = true;
    match word(network, "type").as_str() {
        "ipv4_dhcp" => interface.dhcp = true,
        "ipv6_dhcp" | "ipv6_dhcpv6-stateful" => interface.dhcp6 = true,
        "ipv6_slaac" | "ipv6_dhcpv6-stateless" => interface.ra = Some(true),
        "ipv4" | "ipv6" => match address(network, "ip_address") {
            Some(address) => interface.addresses.push(address),
            None => out.problems.push(format!(
                "{at}: {:?} with {:?} is no address with its netmask",
                word(network, "ip_address"),
                word(network, "netmask")
            )),
        },
        other => out
            .problems
            .push(format!("{at}: type {other:?}; known are ipv4, ipv4_dhcp, ipv6, ipv6_dhcp, ipv6_slaac")),
    }
    let gateway = word(network, "gateway");
    if !gateway.is_empty() {
        interface.gateways.push(gateway);
    }
    for route in list_in(network, "routes").iter().take(ENTRIES) {
        let (to, via) = (address(route, "network"), word(route, "gateway"));
        match to {
            Some(to) if to == "0.0.0.0/0" || to == "::/0" => {
                if !interface.gateways.contains(&via) {
                    interface.gateways.push(via);
                }
            }
            Some(to) => interface.routes.push(format!("{{ to = {}, via = {} }}", string(&to), string(&via))),
            None => out.problems.push(format!("{at}: a route to {:?} is none", word(route, "network"))),
        }
    }
}

fn table(matches: &str, interface: &Interface) -> String {
    let quoted = |list: &[String]| list.iter().map(|text| string(text)).collect::<Vec<_>>().join(", ");
    let mut text = format!("[[network.interface]]\nmatch = {}\n", string(matches));
    let _ = writeln!(text, "dhcp = {}", interface.dhcp);
    // A link without a network is one for others to use.
    if !interface.has_network {
        text.push_str("ra = false\n");
    }
    if interface.dhcp6 {
        text.push_str("dhcp6 = true\n");
    }
    if let Some(ra) = interface.ra {
        let _ = writeln!(text, "ra = {ra}");
    }
    for (name, list) in [("address", &interface.addresses), ("gateway", &interface.gateways)] {
        if !list.is_empty() {
            let _ = writeln!(text, "{name} = [{}]", quoted(list));
        }
    }
    if !interface.routes.is_empty() {
        let _ = writeln!(text, "routes = [{}]", interface.routes.join(", "));
    }
    if let Some(mtu) = interface.mtu {
        let _ = writeln!(text, "mtu = {mtu}");
    }
    text.push('\n');
    text
}

/// An address with its prefix's length, from a netmask or as it is.
fn address(value: &Value, field: &str) -> Option<String> {
    let text = word(value, field);
    if let Some((address, prefix)) = text.split_once('/') {
        address.parse::<IpAddr>().ok()?;
        return Some(format!("{address}/{}", prefix.parse::<u8>().ok()?));
    }
    let address: IpAddr = text.parse().ok()?;
    let mask = word(value, "netmask");
    let prefix = match (address, mask.parse::<u8>()) {
        (_, Ok(prefix)) => prefix.into(),
        (IpAddr::V4(_), _) => {
            let mask = mask.parse::<Ipv4Addr>().ok()?.to_bits();
            (mask.count_ones() == mask.leading_ones()).then_some(mask.count_ones())?
        }
        (IpAddr::V6(_), _) => {
            let mask = mask.parse::<Ipv6Addr>().ok()?.to_bits();
            (mask.count_ones() == mask.leading_ones()).then_some(mask.count_ones())?
        }
    };
    Some(format!("{address}/{prefix}"))
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn word(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

fn list<'a>(table: &'a Map<String, Value>, field: &str) -> &'a [Value] {
    table.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn list_in<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn list_of(value: &Value, field: &str) -> Vec<String> {
    list_in(value, field).iter().take(ENTRIES).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// For fuzzing: what it makes is TOML, whether or not the checker likes it.
pub fn fuzz(bytes: &[u8]) {
    let made = translate("network_data.json", bytes);
    let _ = berth_units::config::parse("network_data.json", format!("format = 1\n{}", made.toml).as_bytes());
}

#[cfg(test)]
mod tests;
