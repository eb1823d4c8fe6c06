//! `docs/cloud-config.md`: what is said by hand, and the tables of keys.

use super::KEYS;
use crate::network_config::keys;
use crate::translation::{Key, Verdict};
use std::fmt::Write as _;

const OPENING: &str = include_str!("page/opening.md");
const NETWORK: &str = include_str!("page/network.md");

/// The page.
pub fn page() -> String {
    let mut out = OPENING.to_owned();
    for (verdict, title, head, text) in [
        (
            Verdict::Applied,
            "Applied",
            "becomes",
            "What is behind a key in parentheses is a key of its mapping.",
        ),
        (Verdict::NoOp, "No-op", "because", "These do nothing, and a note says so."),
        (
            Verdict::Refused,
            "Refused",
            "instead",
            "One of these refuses the document, unless its value asks for nothing (`packages: []`, `package_update: false`).",
        ),
    ] {
        let _ = write!(out, "\n## {title}\n\n{text}\n\n| key | {head} |\n|---|---|\n");
        rows(&mut out, verdict, "", KEYS);
    }
    out.push_str(NETWORK);
    for (title, table) in [
        ("Version 1", keys::V1),
        ("Version 1: `physical`", keys::PHYSICAL),
        ("Version 1: `bond`", keys::BOND_V1),
        ("Version 1: `vlan`", keys::VLAN_V1),
        ("Version 1: `subnets`", keys::SUBNET),
        ("Version 1: `route`, and `routes` of a subnet", keys::ROUTE_V1),
        ("Version 1: `nameserver`", keys::NAMESERVER),
        ("Version 2", keys::V2),
        ("Version 2: `ethernets`", keys::ETHERNET),
        ("Version 2: `bonds`", keys::BOND_V2),
        ("Version 2: `vlans`", keys::VLAN_V2),
        ("Version 2: `routes`", keys::ROUTE_V2),
        ("Version 2: `dhcp4-overrides`, `dhcp6-overrides`", keys::OVERRIDES),
        ("Bonds: `parameters`; version 1: `params`, with `bond-` in front", keys::PARAMETERS),
    ] {
        let _ = write!(
            out,
            "\n## {title}\n\n| key | verdict | what it becomes, why, or what instead |\n|---|---|---|\n"
        );
        network_rows(&mut out, table);
        if title == "Version 1" {
            for (name, why) in keys::REFUSED_TYPES {
                let _ = writeln!(out, "| `config` of type `{name}` | refused | {why} |");
            }
        }
    }
    out
}

/// Neighbours with the same words are one row.
fn network_rows(out: &mut String, table: &[Key]) {
    for group in table.chunk_by(|one, other| one.doc == other.doc && one.verdict() == other.verdict()) {
        let names: Vec<String> = group.iter().map(|key| format!("`{}`", key.name)).collect();
        if let Some(first) = group.first() {
            let _ = writeln!(out, "| {} | {} | {} |", names.join(", "), first.verdict(), cell(first.doc));
        }
    }
}

/// Keys with the same words are one row.
fn rows(out: &mut String, verdict: Verdict, of: &str, keys: &[Key]) {
    let mut done: Vec<&str> = Vec::new();
    let of_this = || keys.iter().filter(|key| key.verdict() == verdict);
    for key in of_this() {
        if !done.contains(&key.doc) {
            done.push(key.doc);
            let alike: Vec<String> = of_this()
                .filter(|other| other.doc == key.doc && (other.below.is_empty() || std::ptr::eq(*other, key)))
                .map(
                    |key| {
                        if of.is_empty() {
                            format!("`{}`", key.name)
                        } else {
                            format!("({of}) `{}`", key.name)
                        }
                    },
                )
                .collect();
            let _ = writeln!(out, "| {} | {} |", alike.join(", "), cell(key.doc));
        }
    }
    let mut seen: Vec<*const Key> = Vec::new();
    for key in keys.iter().filter(|key| !key.below.is_empty()) {
        if !seen.contains(&key.below.as_ptr()) {
            seen.push(key.below.as_ptr());
            rows(out, verdict, key.name, key.below);
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
