//! `docs/units.md`, made from the tables of fields.

use super::fields;
use super::table::{Field, Section, Set};
use crate::config;
use crate::launch::Caps;
use std::fmt::Write as _;

const OPENING: &str = include_str!("reference/opening.md");
const CONFIG: &str = include_str!("reference/config.md");

/// The whole page.
pub fn page() -> String {
    let mut out = String::from(OPENING);
    for section in fields::UNIT_FILE {
        write_section(&mut out, section);
        if section.name == "container" {
            let names: Vec<String> = Caps::DEFAULT.names().map(|name| format!("`{name}`")).collect();
            let _ = write!(out, "\n`default` in `capabilities`: {}.\n", names.join(", "));
        }
    }
    write_later(&mut out, fields::LATER);
    out.push_str(CONFIG);
    for section in config::CONFIG_FILE {
        write_section(&mut out, section);
    }
    out.push_str("\n### `[[network.interface]]`\n\nOne interface.\n\n");
    write_fields(&mut out, config::INTERFACE);
    out.push_str("\n`routes`:\n\n");
    write_fields(&mut out, config::ROUTE);
    out.push_str("\n### `[[network.vlan]]`\n\nA network of its own on another interface's cable. An interface that carries one and has no addresses needs no `[[network.interface]]`.\n\n");
    write_fields(&mut out, config::VLAN);
    out.push_str("\n### `[[network.bond]]`\n\nSeveral cables as one.\n\n");
    write_fields(&mut out, config::BOND);
    out.push_str("\n### `[registries.\"HOST:PORT\"]`\n\nOne registry.\n\n");
    write_fields(&mut out, config::REGISTRY);
    write_later(&mut out, config::LATER);
    out
}

fn write_section<T>(out: &mut String, section: &Section<T>) {
    let title = if section.name.is_empty() { "The file".to_owned() } else { format!("`[{}]`", section.name) };
    let _ = write!(out, "\n### {title}\n\n{}\n\n", section.doc);
    write_fields(out, section.fields);
    for field in section.fields {
        if let Set::Table(fields) = &field.set {
            let _ = write!(out, "\n`{}`:\n\n", field.name);
            write_fields(out, fields);
        }
    }
    if !section.later.is_empty() {
        let names: Vec<String> = section.later.iter().map(|name| format!("`{name}`")).collect();
        let _ = write!(out, "\nNot there yet, and refused by name: {}.\n", names.join(", "));
    }
}

fn write_fields<T>(out: &mut String, fields: &[Field<T>]) {
    out.push_str("| field | what | default | example |\n|---|---|---|---|\n");
    for field in fields {
        let default = if field.required { "**required**" } else { field.default };
        let later = match &field.set {
            Set::Choice(_, later, _) if !later.is_empty() => " More words are not there yet.",
            _ => "",
        };
        let cells = [
            format!("`{}`", field.name),
            format!("{}: {}{later}", capital(&field.set.expected()), field.doc),
            default.to_owned(),
            format!("`{}`", field.example),
        ];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
}

fn write_later(out: &mut String, later: &[&str]) {
    let names: Vec<String> = later.iter().map(|name| format!("`[{name}]`")).collect();
    let _ = write!(out, "\nTables not there yet, and refused by name: {}.\n", names.join(", "));
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
