//! `[network]`: what the machine's own interfaces are given. What it says is carried out by the network agent
//! (`net/src/uplink.rs`).

mod links;

pub(crate) use links::{BOND, VLAN};

use crate::diag::quote;
use crate::limits;
use crate::model::{Interface, MachineConfig, StaticRoute};
use crate::schema::table::{self, Field, Form, Reader, Section, Set};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const ADDRESS: Form =
    Form { expected: "an IP address such as \"192.0.2.1\"", check: |text| ip(text).map(|_| ()) };
const CIDR: Form = Form {
    expected: "an address with prefix such as \"192.0.2.5/24\"",
    check: |text| cidr(text).map(|_| ()),
};
const NETWORK: Form =
    Form { expected: "a network such as \"10.0.0.0/8\"", check: |text| network(text).map(|_| ()) };
const DOMAIN: Form = Form { expected: "a domain such as \"example.org\"", check: domain };
const MATCH: Form =
    Form { expected: "an interface's name or MAC address such as \"eth0\"", check: interface_match };

/// Smallest MTU that may be set: what every IPv4 host must accept (RFC 791).
const SMALLEST_MTU: u64 = 576;
/// Below this, the kernel switches IPv6 off (RFC 8200).
const SMALLEST_MTU_IPV6: u32 = 1280;
const LARGEST_MTU: u64 = 65_535;
/// What C libraries read of `search` (`MAXDNSRCH`; musl's 256 bytes).
const SEARCH_DOMAINS: usize = 6;
const SEARCH_CHARACTERS: usize = 256;

pub(super) const SECTION: Section<MachineConfig> = Section {
    name: "network",
    doc: "Without an `[[network.interface]]`, every Ethernet interface of the hardware gets DHCP and SLAAC. With one, those \
          that none names are left alone.",
    later: &["bridge", "mtu"],
    system: false,
    fields: &[
        Field {
            name: "dns",
            required: false,
            default: "those learned by DHCP and SLAAC",
            example: "[\"192.0.2.53\"]",
            doc: "Name servers, instead of those learned.",
            set: Set::TextOrTexts(&ADDRESS, |config, texts| {
                config.network.dns = texts.iter().filter_map(|(text, _)| ip(text).ok()).collect();
            }),
        },
        Field {
            name: "search",
            required: false,
            default: "that learned by DHCP",
            example: "[\"example.org\"]",
            doc: "Domains in which short names are looked up, instead of those learned; at most 6, 256 characters in all. \
                  Units on the bridge have them behind their own, `berth.internal`.",
            set: Set::TextOrTexts(&DOMAIN, |config, texts| {
                config.network.search = texts.into_iter().map(|(text, _)| text).collect();
            }),
        },
        Field {
            name: "interface",
            required: false,
            default: "none",
            example: "[{ match = \"eth0\", dhcp = true }]",
            doc: "One interface; see below.",
            set: Set::Tables("tables such as [[network.interface]]", read_interfaces),
        },
        Field {
            name: "vlan",
            required: false,
            default: "none",
            example: "[{ name = \"office\", link = \"eth0\", id = 42 }]",
            doc: "One VLAN; see below.",
            set: Set::Tables("tables such as [[network.vlan]]", links::read_vlans),
        },
        Field {
            name: "bond",
            required: false,
            default: "none",
            example: "[{ name = \"bond0\", interfaces = [\"eth0\", \"eth1\"], mode = \"active-backup\" }]",
            doc: "Several interfaces as one; see below.",
            set: Set::Tables("tables such as [[network.bond]]", links::read_bonds),
        },
    ],
};

/// `[[network.interface]]`.
pub(crate) const INTERFACE: &[Field<Interface>] = &[
    Field {
        name: "match",
        required: true,
        default: "",
        example: "\"eth0\"",
        doc: "The interface's name, or the MAC address that its hardware has; a vlan's or bond's name.",
        set: Set::Text(&MATCH, |interface, text| interface.matches = text),
    },
    Field {
        name: "dhcp",
        required: false,
        default: "`true` unless `address` is given",
        example: "true",
        doc: "Ask for an IPv4 address.",
        set: Set::Bool(|interface, yes| interface.dhcp = yes),
    },
    Field {
        name: "dhcp6",
        required: false,
        default: "as routers advertise: addresses with the flag M, name servers and domains only with O",
        example: "true",
        doc: "Ask for an IPv6 address by DHCPv6, whatever routers say; `false`: never.",
        set: Set::Bool(|interface, yes| interface.dhcp6 = Some(yes)),
    },
    Field {
        name: "ra",
        required: false,
        default: "`true`",
        example: "false",
        doc: "Listen to routers: IPv6 addresses, routes and name servers that they advertise (SLAAC).",
        set: Set::Bool(|interface, yes| interface.ra = yes),
    },
    Field {
        name: "address",
        required: false,
        default: "`[]`",
        example: "\"192.0.2.5/24\"",
        doc: "Its own addresses, each with the length of its network's prefix.",
        set: Set::TextOrTexts(&CIDR, |interface, texts| {
            interface.addresses = texts.into_iter().map(|(text, _)| text).collect();
        }),
    },
    Field {
        name: "gateway",
        required: false,
        default: "`[]`",
        example: "\"192.0.2.1\"",
        doc: "Where everything else goes: one IPv4 and one IPv6 address at most, each reachable from `address`.",
        set: Set::TextOrTexts(&ADDRESS, |interface, texts| {
            interface.gateways = texts.iter().filter_map(|(text, _)| ip(text).ok()).collect();
        }),
    },
    Field {
        name: "routes",
        required: false,
        default: "`[]`",
        example: "[{ to = \"10.0.0.0/8\", via = \"192.0.2.9\" }]",
        doc: "Further routes; see below.",
        set: Set::Tables(
            "a list of tables such as { to = \"10.0.0.0/8\", via = \"192.0.2.9\" }",
            read_routes,
        ),
    },
    Field {
        name: "mtu",
        required: false,
        default: "the driver's, or DHCP's",
        example: "9000",
        doc: "The longest packet in bytes. One below 1280 leaves the interface without IPv6.",
        set: Set::Number(SMALLEST_MTU, LARGEST_MTU, |interface, mtu| {
            interface.mtu = u32::try_from(mtu).ok();
        }),
    },
];

/// `routes` of an interface.
pub(crate) const ROUTE: &[Field<StaticRoute>] = &[
    Field {
        name: "to",
        required: true,
        default: "",
        example: "\"10.0.0.0/8\"",
        doc: "The network that it leads to; `0.0.0.0/0` and `::/0` are everything.",
        set: Set::Text(&NETWORK, |route, text| route.to = text),
    },
    Field {
        name: "via",
        required: false,
        default: "none: the network is on the link itself",
        example: "\"192.0.2.9\"",
        doc: "The router, reachable from the interface's addresses.",
        set: Set::Text(&ADDRESS, |route, text| route.via = ip(&text).ok()),
    },
    Field {
        name: "metric",
        required: false,
        default: "500 and the interface's number, which comes before 1000 and that number, of what is learned",
        example: "100",
        doc: "Of several routes to one network, that with the lowest is taken.",
        set: Set::Number(1, u32::MAX as u64, |route, metric| route.metric = u32::try_from(metric).ok()),
    },
];

/// What is to be told of the table as a whole.
pub(super) fn check(reader: &mut Reader, config: &MachineConfig, table: &DeTable<'_>) {
    let search = &config.network.search;
    let characters = search.iter().fold(search.len(), |sum, domain| sum.saturating_add(domain.len()));
    if search.len() > SEARCH_DOMAINS || characters > SEARCH_CHARACTERS {
        let span = table::section_value(table, "network", "search").map_or(0..0, Spanned::span);
        reader.at(span, || {
            format!(
                "search has {} domains of {characters} characters with the spaces between them; C libraries read no more than \
                 {SEARCH_DOMAINS} and {SEARCH_CHARACTERS}",
                search.len()
            )
        });
    }
    links::check(reader, &config.network, table);
}

/// The tables of an array of tables such as `[[network.interface]]`, each with its place.
fn tables<'a, 'i>(
    reader: &mut Reader,
    name: &str,
    expected: &str,
    value: &'a Spanned<DeValue<'i>>,
) -> Vec<(&'a DeTable<'i>, std::ops::Range<usize>)> {
    let DeValue::Array(all) = value.get_ref() else {
        reader.at(value.span(), || format!("\"{name}\" is one table, expected {expected}"));
        return Vec::new();
    };
    if all.len() > limits::LIST_ITEMS {
        reader.at(value.span(), || {
            format!("{name} has {} entries; at most {} are taken", all.len(), limits::LIST_ITEMS)
        });
        return Vec::new();
    }
    let mut tables = Vec::new();
    for table in all {
        match table.get_ref() {
            DeValue::Table(fields) => tables.push((fields, table.span())),
            _ => reader.at(table.span(), || format!("expected {expected}")),
        }
    }
    tables
}

fn read_interfaces(reader: &mut Reader, config: &mut MachineConfig, value: &Spanned<DeValue<'_>>) {
    const TABLE: &str = "network.interface";
    let expected = "tables such as [[network.interface]] (two brackets)";
    for (fields, span) in tables(reader, "interface", expected, value) {
        let mut interface = Interface::default();
        table::read_fields(reader, TABLE, INTERFACE, &[], fields, |_| None, &mut interface);
        interface.dhcp &= fields.contains_key("dhcp") || interface.addresses.is_empty();
        table::need_fields(reader, TABLE, INTERFACE, fields, span.clone());
        let checked = Checked::new(fields, &interface);
        checked.gateways(reader);
        checked.routes(reader);
        checked.mtu(reader);
        let same = |other: &Interface| other.matches.eq_ignore_ascii_case(&interface.matches);
        if !interface.matches.is_empty() && config.network.interfaces.iter().any(same) {
            let span = fields.get("match").map_or(span, Spanned::span);
            reader.at(span, || format!("interface {} is described twice", quote(&interface.matches)));
        }
        config.network.interfaces.push(interface);
    }
}

fn read_routes(reader: &mut Reader, interface: &mut Interface, value: &Spanned<DeValue<'_>>) {
    let expected = "a list of tables such as { to = \"10.0.0.0/8\", via = \"192.0.2.9\" }";
    for (fields, span) in tables(reader, "routes", expected, value) {
        let mut route = StaticRoute::default();
        table::read_fields(reader, "network.interface.routes", ROUTE, &[], fields, |_| None, &mut route);
        table::need_fields(reader, "network.interface.routes", ROUTE, fields, span);
        interface.routes.push(route);
    }
}

/// One interface as it was read, and as it stands in the file.
struct Checked<'a, 'i> {
    fields: &'a DeTable<'i>,
    interface: &'a Interface,
    addresses: Vec<(IpAddr, u8)>,
}

impl<'a, 'i> Checked<'a, 'i> {
    fn new(fields: &'a DeTable<'i>, interface: &'a Interface) -> Self {
        let addresses = interface.addresses.iter().filter_map(|text| cidr(text).ok()).collect();
        Self { fields, interface, addresses }
    }

    fn gateways(&self, reader: &mut Reader) {
        let Some(gateway) = self.fields.get("gateway") else { return };
        let all = &self.interface.gateways;
        for v6 in [false, true] {
            if all.iter().filter(|gateway| gateway.is_ipv6() == v6).count() > 1 {
                let version = if v6 { 6 } else { 4 };
                reader.at(gateway.span(), || format!("there is more than one IPv{version} gateway"));
            }
        }
        for to in all.iter().filter(|to| !self.reaches(**to)) {
            let dhcp = self.interface.dhcp && to.is_ipv4();
            reader.at(gateway.span(), || match (self.addresses.is_empty(), dhcp) {
                (true, true) => "a gateway needs an address; DHCP brings its own".to_owned(),
                (true, false) => "a gateway needs an address".to_owned(),
                (false, _) => {
                    format!("gateway {to} is in none of the interface's networks, so nothing would get there")
                }
            });
        }
    }

    fn routes(&self, reader: &mut Reader) {
        let Some(DeValue::Array(items)) = self.fields.get("routes").map(Spanned::get_ref) else { return };
        if items.len() != self.interface.routes.len() {
            // One of them is no table, which is told already.
            return;
        }
        let mut seen = BTreeSet::new();
        for (route, item) in self.interface.routes.iter().zip(items) {
            let Ok((to, prefix)) = network(&route.to) else { continue };
            let of = |name: &str| match item.get_ref() {
                DeValue::Table(fields) => fields.get(name).map_or(item.span(), Spanned::span),
                _ => item.span(),
            };
            let gateway = prefix == 0
                && route.metric.is_none()
                && self.interface.gateways.iter().any(|gateway| gateway.is_ipv4() == to.is_ipv4());
            if gateway {
                reader.at(of("to"), || {
                    "everything goes through gateway already; give this route a metric".into()
                });
            } else if !seen.insert((to, prefix, route.metric)) {
                reader.at(of("to"), || {
                    format!("there are two routes to {} with one metric; give one of them another", route.to)
                });
            }
            let Some(via) = route.via else { continue };
            if via.is_ipv4() != to.is_ipv4() {
                let (one, other) = if to.is_ipv4() { (4, 6) } else { (6, 4) };
                reader.at(of("via"), || {
                    format!("a network of IPv{one} is not reached through an IPv{other} address")
                });
            } else if !self.reaches(via) && !self.learns(via) {
                reader.at(of("via"), || {
                    let host = if via.is_ipv4() { 32 } else { 128 };
                    format!(
                        "router {via} is in none of the interface's networks, so nothing would get there; if it is on this \
                         link all the same, put {{ to = \"{via}/{host}\" }} before"
                    )
                });
            }
        }
    }

    fn mtu(&self, reader: &mut Reader) {
        let (Some(span), Some(mtu)) = (self.fields.get("mtu").map(Spanned::span), self.interface.mtu) else {
            return;
        };
        if mtu < SMALLEST_MTU_IPV6 && self.addresses.iter().any(|(address, _)| address.is_ipv6()) {
            reader.at(span, || {
                format!("an MTU of {mtu} leaves the interface without IPv6, of which it is to have an address; it takes {SMALLEST_MTU_IPV6}")
            });
        }
    }

    /// The address is on the interface's link, as far as the file says.
    fn reaches(&self, to: IpAddr) -> bool {
        let link_local = matches!(to, IpAddr::V6(to) if to.is_unicast_link_local());
        let on_link = |route: &StaticRoute| {
            let network = network(&route.to).ok().filter(|_| route.via.is_none());
            network.is_some_and(|(network, prefix)| masked(to, prefix) == network)
        };
        link_local
            || self.addresses.iter().any(|(address, prefix)| reaches(*address, *prefix, to))
            || self.interface.routes.iter().any(on_link)
    }

    /// The interface is told its networks by others, and this address may be in one.
    fn learns(&self, to: IpAddr) -> bool {
        if to.is_ipv4() {
            self.interface.dhcp
        } else {
            self.interface.ra || self.interface.dhcp6 == Some(true)
        }
    }
}

/// The gateway is in the address's network; a host address (/32, /128) reaches any, as clouds have it.
fn reaches(address: IpAddr, prefix: u8, to: IpAddr) -> bool {
    let host = if address.is_ipv4() { 32 } else { 128 };
    address.is_ipv4() == to.is_ipv4() && (prefix == host || masked(address, prefix) == masked(to, prefix))
}

/// The network that an address is in.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

fn ip(text: &str) -> Result<IpAddr, String> {
    if text.contains('/') {
        return Err("has a prefix length".into());
    }
    text.parse().map_err(|_| "is not an IP address".to_owned())
}

/// Address and prefix length.
pub fn cidr(text: &str) -> Result<(IpAddr, u8), String> {
    with_prefix(text, 1)
}

/// A network: an address without bits beyond its prefix.
fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let (address, prefix) = with_prefix(text, 0)?;
    let whole = masked(address, prefix);
    if whole != address {
        return Err(format!(
            "has bits beyond its prefix; the network is {}",
            quote(&format!("{whole}/{prefix}"))
        ));
    }
    Ok((address, prefix))
}

fn with_prefix(text: &str, least: u8) -> Result<(IpAddr, u8), String> {
    let (address, prefix) =
        text.split_once('/').ok_or_else(|| "has no prefix length such as /24".to_owned())?;
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("has {} for an address, which is no IP address", quote(address)))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    match prefix.parse::<u8>() {
        Ok(prefix) if digits && (least..=longest).contains(&prefix) => Ok((address, prefix)),
        _ => Err(format!("has {} for a prefix length, which are {least} to {longest}", quote(prefix))),
    }
}

/// A domain as `resolv.conf` takes it.
fn domain(text: &str) -> Result<(), String> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let fits = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(inside);
    if text.len() > 253 || !text.strip_suffix('.').unwrap_or(text).split('.').all(fits) {
        return Err("is not a domain".into());
    }
    Ok(())
}

/// Six pairs of hex digits.
fn is_mac(text: &str) -> bool {
    text.split(':').count() == 6
        && text.split(':').all(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A name as Linux allows it (IFNAMSIZ), or six pairs of hex digits.
fn interface_match(text: &str) -> Result<(), String> {
    if is_mac(text) {
        return Ok(());
    }
    if text.contains(':') {
        return Err("is not a MAC address".into());
    }
    if text.is_empty() || text.len() > 15 {
        return Err("has not 1 to 15 characters".into());
    }
    if matches!(text, "." | "..") || text.bytes().any(|b| !b.is_ascii_graphic() || b == b'/') {
        return Err("has a character that no interface's name has".into());
    }
    Ok(())
}
