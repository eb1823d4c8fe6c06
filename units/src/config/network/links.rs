//! `[[network.vlan]]` and `[[network.bond]]`: interfaces that the machine makes of others.

use super::{LARGEST_MTU, MATCH, SMALLEST_MTU, interface_match, is_mac, tables};
use crate::diag::quote;
use crate::model::{
    BOND_HASHES, BOND_MODES, Bond, Interface, LACP_RATES, MachineConfig, MachineNetwork, Vlan,
};
use crate::schema::table::{self, Field, Form, Reader, Set};
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const NAME: Form = Form { expected: "a name of 1 to 15 characters such as \"bond0\"", check: own_name };

/// Modes in which one member is preferred.
const WITH_PRIMARY: [&str; 3] = ["active-backup", "balance-tlb", "balance-alb"];
/// The mode that speaks LACP.
const LACP: &str = "802.3ad";

/// `[[network.vlan]]`.
pub(crate) const VLAN: &[Field<Vlan>] = &[
    Field {
        name: "name",
        required: true,
        default: "",
        example: "\"office\"",
        doc: "What the new interface is called; its addresses are said in an `[[network.interface]]` whose `match` is this.",
        set: Set::Text(&NAME, |vlan, text| vlan.name = text),
    },
    Field {
        name: "link",
        required: true,
        default: "",
        example: "\"eth0\"",
        doc: "The interface that carries it: its name or MAC address, or a bond's name.",
        set: Set::Text(&MATCH, |vlan, text| vlan.link = text),
    },
    Field {
        name: "id",
        required: true,
        default: "",
        example: "42",
        doc: "Its number (802.1Q).",
        set: Set::Number(1, 4094, |vlan, id| vlan.id = u16::try_from(id).unwrap_or_default()),
    },
    Field {
        name: "mtu",
        required: false,
        default: "that of `link`",
        example: "1400",
        doc: "The longest packet in bytes, at most that of `link`.",
        set: Set::Number(SMALLEST_MTU, LARGEST_MTU, |vlan, mtu| vlan.mtu = u32::try_from(mtu).ok()),
    },
];

/// `[[network.bond]]`.
pub(crate) const BOND: &[Field<Bond>] = &[
    Field {
        name: "name",
        required: true,
        default: "",
        example: "\"bond0\"",
        doc: "What the new interface is called; its addresses are said in an `[[network.interface]]` whose `match` is this.",
        set: Set::Text(&NAME, |bond, text| bond.name = text),
    },
    Field {
        name: "interfaces",
        required: true,
        default: "",
        example: "[\"eth0\", \"eth1\"]",
        doc: "Its members: names or MAC addresses, each in one bond only.",
        set: Set::Texts(&MATCH, |bond, texts| {
            bond.interfaces = texts.into_iter().map(|(text, _)| text).collect();
        }),
    },
    Field {
        name: "mode",
        required: true,
        default: "",
        example: "\"active-backup\"",
        doc: "How packets are spread over the members, as Linux names it. `active-backup` needs nothing of the switch, \
              `802.3ad` (LACP), `balance-rr`, `balance-xor` and `broadcast` do.",
        set: Set::Choice(&BOND_MODES, &[], |bond, word| word.clone_into(&mut bond.mode)),
    },
    Field {
        name: "miimon",
        required: false,
        default: "`100`",
        example: "50",
        doc: "Milliseconds between two looks whether the members have a carrier.",
        set: Set::Number(1, 60_000, |bond, ms| bond.miimon = u32::try_from(ms).unwrap_or_default()),
    },
    Field {
        name: "lacp_rate",
        required: false,
        default: "the kernel's, slow",
        example: "\"fast\"",
        doc: "How often the switch is asked to speak: each second or every thirty.",
        set: Set::Choice(&LACP_RATES, &[], |bond, word| bond.lacp_rate = Some(word.to_owned())),
    },
    Field {
        name: "xmit_hash_policy",
        required: false,
        default: "the kernel's, `layer2`",
        example: "\"layer3+4\"",
        doc: "What of a packet decides by which member it goes, in the modes that ask.",
        set: Set::Choice(&BOND_HASHES, &[], |bond, word| bond.xmit_hash_policy = Some(word.to_owned())),
    },
    Field {
        name: "primary",
        required: false,
        default: "none",
        example: "\"eth0\"",
        doc: "The member that is used whenever it has a carrier, in `active-backup`, `balance-tlb` and `balance-alb`.",
        set: Set::Text(&MATCH, |bond, text| bond.primary = Some(text)),
    },
];

pub(super) fn read_vlans(reader: &mut Reader, config: &mut MachineConfig, value: &Spanned<DeValue<'_>>) {
    for (fields, span) in tables(reader, "vlan", "tables such as [[network.vlan]] (two brackets)", value) {
        let mut vlan = Vlan::default();
        table::read_fields(reader, "network.vlan", VLAN, &["protocol", "qos"], fields, |_| None, &mut vlan);
        table::need_fields(reader, "network.vlan", VLAN, fields, span);
        config.network.vlans.push(vlan);
    }
}

pub(super) fn read_bonds(reader: &mut Reader, config: &mut MachineConfig, value: &Spanned<DeValue<'_>>) {
    for (fields, span) in tables(reader, "bond", "tables such as [[network.bond]] (two brackets)", value) {
        let mut bond = Bond::default();
        let later = ["arp_interval", "arp_ip_target", "updelay", "downdelay", "fail_over_mac", "min_links"];
        table::read_fields(reader, "network.bond", BOND, &later, fields, |_| None, &mut bond);
        table::need_fields(reader, "network.bond", BOND, fields, span);
        if let Some(list) = fields.get("interfaces")
            && matches!(list.get_ref(), DeValue::Array(members) if members.is_empty())
        {
            reader.at(list.span(), || {
                "a bond needs a member, for example interfaces = [\"eth0\", \"eth1\"]".into()
            });
        }
        config.network.bonds.push(bond);
    }
}

/// Two ways to name one interface, as far as the file says.
fn same(one: &str, other: &str) -> bool {
    if is_mac(one) { one.eq_ignore_ascii_case(other) } else { one == other }
}

/// Where `[[network.LIST]]` number `n` says `field`, or begins.
fn span(table: &DeTable<'_>, list: &str, n: usize, field: &str) -> Range<usize> {
    let Some(DeValue::Array(all)) = table::section_value(table, "network", list).map(Spanned::get_ref) else {
        return 0..0;
    };
    all.get(n).map_or(0..0, |item| match item.get_ref() {
        DeValue::Table(fields) => fields.get(field).map_or(item.span(), Spanned::span),
        _ => item.span(),
    })
}

/// What vlans, bonds and interfaces have to do with each other.
pub(super) fn check(reader: &mut Reader, network: &MachineNetwork, table: &DeTable<'_>) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let vlans = network.vlans.iter().enumerate().map(|(n, vlan)| ("vlan", n, vlan.name.as_str()));
    let bonds = network.bonds.iter().enumerate().map(|(n, bond)| ("bond", n, bond.name.as_str()));
    for (list, n, name) in vlans.chain(bonds).filter(|(.., name)| !name.is_empty()) {
        if let Some(other) = names.insert(name, list) {
            reader.at(span(table, list, n, "name"), || {
                format!("{} is the name of a {other} already", quote(name))
            });
        }
    }
    for (n, vlan) in network.vlans.iter().enumerate() {
        vlan_is_sound(reader, network, vlan, n, |field| span(table, "vlan", n, field));
    }
    for (n, bond) in network.bonds.iter().enumerate() {
        bond_is_sound(reader, network, bond, n, |field| span(table, "bond", n, field));
    }
    let members =
        || network.bonds.iter().flat_map(|bond| bond.interfaces.iter().map(move |member| (bond, member)));
    for (n, interface) in network.interfaces.iter().enumerate() {
        let Some((bond, _)) = members().find(|(_, member)| same(member, &interface.matches)) else {
            continue;
        };
        let (bond, said) = (quote(&bond.name), said(interface));
        if let Some(field) = said {
            reader.at(span(table, "interface", n, field), || {
                let place = format!("[[network.interface]] with match = {bond}");
                match field {
                    "dhcp" => format!("a member of bond {bond} has no lease of its own; dhcp = false here, or take it out: {place} has the bond's"),
                    _ => format!("{} is a member of bond {bond}; {field} belongs into {place}", quote(&interface.matches)),
                }
            });
        }
    }
}

/// What an interface asks for that a bond's member cannot have.
fn said(interface: &Interface) -> Option<&'static str> {
    [
        ("address", !interface.addresses.is_empty()),
        ("gateway", !interface.gateways.is_empty()),
        ("routes", !interface.routes.is_empty()),
        ("mtu", interface.mtu.is_some()),
        ("dhcp6", interface.dhcp6 == Some(true)),
        ("dhcp", interface.dhcp),
    ]
    .into_iter()
    .find_map(|(field, yes)| yes.then_some(field))
}

fn vlan_is_sound(
    reader: &mut Reader,
    network: &MachineNetwork,
    vlan: &Vlan,
    n: usize,
    span: impl Fn(&str) -> Range<usize>,
) {
    let link = &vlan.link;
    if network.vlans.iter().any(|other| other.name == *link) {
        reader.at(span("link"), || {
            format!("{} is a vlan itself; a vlan in a vlan is not there yet", quote(link))
        });
    }
    let of = |bond: &&Bond| bond.interfaces.iter().any(|member| same(member, link));
    if let Some(bond) = network.bonds.iter().find(of) {
        reader.at(span("link"), || {
            let bond = quote(&bond.name);
            format!("{} is a member of bond {bond}; the vlan's link is the bond: link = {bond}", quote(link))
        });
    }
    let earlier = network.vlans.iter().take(n);
    let alike = |other: &&Vlan| other.id != 0 && other.id == vlan.id && same(&other.link, link);
    if let Some(other) = earlier.clone().find(alike) {
        reader.at(span("id"), || {
            format!("vlan {} of {} is {} already", vlan.id, quote(link), quote(&other.name))
        });
    }
    let mtu_of = |name: &str| network.interfaces.iter().find(|i| same(&i.matches, name)).and_then(|i| i.mtu);
    let own = mtu_of(&vlan.name);
    if let (Some(mtu), Some(other)) = (vlan.mtu, own) {
        reader.at(span("mtu"), || {
            format!(
                "mtu is {mtu} here and {other} in the [[network.interface]] of {}; take one out",
                quote(&vlan.name)
            )
        });
    }
    if let (Some(mtu), Some(most)) = (vlan.mtu.or(own), mtu_of(link))
        && mtu > most
    {
        reader.at(span("mtu"), || {
            format!("an MTU of {mtu} is more than the {most} of its link {}", quote(link))
        });
    }
}

fn bond_is_sound(
    reader: &mut Reader,
    network: &MachineNetwork,
    bond: &Bond,
    n: usize,
    span: impl Fn(&str) -> Range<usize>,
) {
    let members = &bond.interfaces;
    for (at, member) in members.iter().enumerate() {
        let twice = members.iter().take(at).any(|other| same(other, member));
        let of = |other: &&Bond| other.interfaces.iter().any(|other| same(other, member));
        let other = network.bonds.iter().take(n).find(of);
        let made = network.vlans.iter().any(|vlan| vlan.name == *member)
            || network.bonds.iter().any(|bond| bond.name == *member);
        let member = quote(member);
        match other {
            _ if twice => reader.at(span("interfaces"), || format!("{member} is in it twice")),
            _ if made => reader.at(span("interfaces"), || {
                format!("{member} is a vlan or bond; members are interfaces of the hardware")
            }),
            Some(other) => reader.at(span("interfaces"), || {
                format!("{member} is a member of bond {} already", quote(&other.name))
            }),
            None => {}
        }
    }
    if let Some(primary) = &bond.primary {
        if !members.is_empty() && !members.iter().any(|member| same(member, primary)) {
            reader.at(span("primary"), || {
                let members = members.iter().map(|member| quote(member)).collect::<Vec<_>>().join(" or ");
                format!("{} is no member of the bond; say {members}, as in interfaces", quote(primary))
            });
        }
        if !bond.mode.is_empty() && !WITH_PRIMARY.contains(&bond.mode.as_str()) {
            reader.at(span("primary"), || {
                format!("the mode {} has no primary; {} have", quote(&bond.mode), WITH_PRIMARY.join(", "))
            });
        }
    }
    if bond.lacp_rate.is_some() && !bond.mode.is_empty() && bond.mode != LACP {
        reader
            .at(span("lacp_rate"), || format!("the mode {} speaks no LACP; {LACP} does", quote(&bond.mode)));
    }
}

/// A name that a new interface may have.
fn own_name(text: &str) -> Result<(), String> {
    if is_mac(text) {
        return Err("is a MAC address".into());
    }
    interface_match(text)?;
    // The bridge and its ports (`net/src/plan.rs`), the loopback, and words of the kernel's own settings.
    if text.starts_with("berth") || text.starts_with("bu") || matches!(text, "lo" | "all" | "default") {
        return Err("is a name that the system has use for".into());
    }
    if text.contains('%') {
        return Err("has a character that is a pattern's".into());
    }
    Ok(())
}
