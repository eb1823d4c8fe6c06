//! Unit files: text → checked [`Unit`], or every mistake at once.
//!
//! [`fields`] is the one description: each field's name, type, default and meaning, and how it is read. The parser
//! walks a file along it; [`reference`] makes `docs/units.md` of it, [`json`] the JSON schemas. A field that is not in it does not exist; one
//! that the design has and this version has not is refused by name as *not there yet*, so that nobody mistakes it
//! for a typing error.
//!
//! Order of the checks: size, encoding, control characters ([`text`]); syntax, by the toml crate; names and values,
//! field by field ([`values`]); then what fields mean together. A file with syntax errors is checked further as far
//! as it could be read.

pub(crate) mod fields;
pub mod json;
pub(crate) mod keys;
pub mod reference;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod values;

#[cfg(test)]
mod tests;

use crate::diag::{Diagnostic, Place, Report, quote};
use crate::model::{
    Container, Dependency, MountSource, Network, NetworkMode, Origin, Places, Resources, Restart,
    SYSTEM_IMAGE, Sign, SystemGrants, Unit,
};
use crate::paths;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use table::{Reader, section_value};
use text::Document;
use toml::de::{DeTable, DeValue};

/// A time as unit files have it: `5m`, `1h30m`.
pub fn parse_time(text: &str) -> Result<std::time::Duration, String> {
    values::time(text)
}

/// Bytes of a size such as `16G`; an error says what is wrong with it.
pub fn size(text: &str) -> Result<u64, String> {
    values::size(text)
}

/// A unit's name, as its file is called: `web`.
pub fn is_unit_name(text: &str) -> bool {
    values::unit_name(text).is_ok()
}

/// Reads one unit file. `file_name` is for messages; `unit_name` is what the file is called without `.toml`.
pub fn parse_unit(file_name: &str, unit_name: &str, text: &[u8], origin: Origin) -> Result<Unit, Report> {
    let source = text::source(file_name, text)?;
    let (document, errors) = text::parse(&source);
    let mut reader = Reader::new(source.clone(), origin);
    if let Err(why) = values::unit_name(unit_name) {
        reader.report.push(|| Diagnostic::file(file_name, format!("unit name {} {why}", quote(unit_name))));
    }
    reader.partly = !matches!(document, Document::Whole(_));
    let unit = match &document {
        Document::Unreadable => None,
        Document::Whole(table) | Document::Partly(table) => {
            Some(read_unit(&mut reader, table, unit_name, Place::new(&source, 0..0), None))
        }
    };
    text::merge(&mut reader, errors);
    reader.report.finish()?;
    unit.ok_or_else(|| Report::of(Diagnostic::file(file_name, "is not readable")))
}

/// Reads the OS image's own unit files: `(file name, text)`, names ending in `.toml`.
pub fn parse_system_units<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Vec<Unit>, Report> {
    let mut report = Report::default();
    let mut units = Vec::new();
    for (file, text) in files {
        let base = file.rsplit('/').next().unwrap_or(file);
        match parse_unit(file, base.strip_suffix(".toml").unwrap_or(base), text, Origin::System) {
            Ok(unit) => units.push(unit),
            Err(more) => report.append(more),
        }
    }
    report.finish()?;
    crate::graph::Graph::new(&units)?;
    Ok(units)
}

/// Reads a unit out of a table that was parsed already: a whole file, or `[units.NAME]` of the machine config.
/// `whole` is where to complain about what is missing.
pub(crate) fn read_unit(
    reader: &mut Reader,
    table: &DeTable<'_>,
    name: &str,
    place: Place,
    whole: Option<Range<usize>>,
) -> Unit {
    let mut unit = blank(name, reader.origin, place);
    table::read_sections(reader, fields::UNIT_FILE, fields::LATER, table, whole, &mut unit);
    check_together(reader, table, &unit);
    unit
}

/// Every field at its default.
pub(crate) fn blank(name: &str, origin: Origin, place: Place) -> Unit {
    Unit {
        name: name.to_owned(),
        instance_of: None,
        origin,
        description: String::new(),
        after: Vec::new(),
        requires: Vec::new(),
        instances: 1,
        enabled: true,
        required_for_boot: false,
        container: Container { image: String::new(), ..Container::default() },
        secrets: BTreeMap::new(),
        network: Network::default(),
        resources: Resources::default(),
        restart: Restart::default(),
        health: None,
        ready: None,
        transient: None,
        system: (origin == Origin::System).then(SystemGrants::default),
        places: Places { unit: place, ..Places::default() },
    }
}

/// What fields mean together.
fn check_together(reader: &mut Reader, table: &DeTable<'_>, unit: &Unit) {
    if unit.network.mode != NetworkMode::Bridge
        && let Some(ports) = section_value(table, "network", "ports")
        && !unit.network.ports.is_empty()
    {
        let mode = if unit.network.mode == NetworkMode::Host { "host" } else { "none" };
        reader.at(ports.span(), || {
            let why = if mode == "host" {
                "a unit in the machine's own network listens there by itself"
            } else {
                "a unit without a network cannot be reached"
            };
            format!("ports need mode = \"bridge\", and mode is \"{mode}\": {why}")
        });
    }
    let restart = &unit.restart;
    if restart.max_delay < restart.delay {
        let said =
            section_value(table, "restart", "max_delay").or_else(|| section_value(table, "restart", "delay"));
        if let Some(said) = said {
            reader.at(said.span(), || {
                format!(
                    "max_delay ({}) is shorter than delay ({})",
                    values::show_time(restart.max_delay),
                    values::show_time(restart.delay)
                )
            });
        }
    }
    if let Some(image) = section_value(table, "container", "image")
        && unit.origin == Origin::Config
        && unit.container.image == SYSTEM_IMAGE
    {
        reader.at(image.span(), || format!("the image {} is for units of the OS image", quote(SYSTEM_IMAGE)));
    }
    check_rights(reader, table, unit);
    check_health(reader, table, unit);
    check_ready(reader, table, unit);
    let longest = crate::instances::hostname(&crate::instances::name(&unit.name, unit.instances));
    if unit.instances > 1
        && longest.len() > crate::limits::NAME_BYTES
        && let Some(instances) = section_value(table, "unit", "instances")
    {
        reader.at(instances.span(), || format!("the name is too long for instances: {longest}"));
    }
    if unit.instances > 1
        && !unit.network.ports.is_empty()
        && let Some(ports) = section_value(table, "network", "ports")
    {
        reader.at(ports.span(), || {
            format!(
                "{} instances cannot have one port of the machine; publish a port of a unit that passes on to them by \
                 their name, {}",
                unit.instances,
                quote(&unit.name)
            )
        });
    }
    twice(reader, &unit.after, &unit.places.after);
    twice(reader, &unit.requires, &unit.places.requires);
    for (n, port) in unit.network.ports.iter().enumerate() {
        let earlier = unit.network.ports.iter().take(n).any(|other| crate::config::collide(port, other));
        if let Some(place) = unit.places.ports.get(n).filter(|_| earlier) {
            reader.report.push(|| {
                let shown = crate::config::show_port(port);
                Diagnostic::at(place.clone(), format!("{shown} is published twice"))
            });
        }
    }
}

/// What is had only together with `privileged`, or not with it.
fn check_rights(reader: &mut Reader, table: &DeTable<'_>, unit: &Unit) {
    let container = &unit.container;
    let said = |field| section_value(table, "container", field).map(toml::Spanned::span);
    if container.privileged {
        if let Some(span) = said("capabilities") {
            reader.at(span, || {
                "a privileged unit has every capability; take capabilities or privileged out".to_owned()
            });
        }
        return;
    }
    if let Some(span) = said("pid").filter(|_| container.host_pids) {
        reader.at(span, || "pid = \"host\" needs privileged = true".to_owned());
    }
    let Some(span) = said("mounts") else { return };
    for mount in &container.mounts {
        let MountSource::Host(source) = &mount.source else { continue };
        let shown = |path: &&str| Path::new(source).starts_with(path);
        let why = match (paths::SHOWN.iter().any(shown), mount.writable) {
            (true, false) => continue,
            (true, true) => "is read-only for units that are not privileged".to_owned(),
            (false, _) => format!(
                "is of the machine, of which units that are not privileged can have {}; files that a unit needs can be in the \
                 machine config's [files], what it keeps in a volume",
                paths::SHOWN.join(", ")
            ),
        };
        reader.at(span.clone(), || format!("mount {} {why}", quote(source)));
    }
}

/// What shows readiness.
fn check_ready(reader: &mut Reader, table: &DeTable<'_>, unit: &Unit) {
    let Some((header, value)) = table.get_key_value("ready") else { return };
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        return;
    }
    let said = |field| section_value(table, "ready", field);
    let notify = unit.ready.as_ref().is_some_and(|ready| ready.sign == Sign::Notify);
    match (said("port"), said("notify")) {
        (Some(port), Some(_)) => {
            reader.at(port.span(), || "[ready] has port and notify; one of them".to_owned())
        }
        (None, Some(off)) if !notify && matches!(off.get_ref(), DeValue::Boolean(_)) => {
            reader.at(off.span(), || {
                "[ready] needs notify = true, or port, for example port = 5432".to_owned()
            });
        }
        (None, None) if said("log_line").is_none() => reader.missing(Some(header.span()), || {
            "[ready] needs port, for example port = 5432, or notify = true".to_owned()
        }),
        _ => {}
    }
}

/// Exactly one check.
fn check_health(reader: &mut Reader, table: &DeTable<'_>, unit: &Unit) {
    let checks = ["command", "http", "tcp"].map(|field| section_value(table, "health", field));
    let Some((header, value)) = table.get_key_value("health") else { return };
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        return;
    }
    let mut found = checks.into_iter().flatten();
    match (found.next(), found.next()) {
        (None, _) => reader.missing(Some(header.span()), || {
            "[health] needs command, http or tcp, for example http = \"http://localhost/health\"".to_owned()
        }),
        (Some(_), Some(second)) => {
            reader.at(second.span(), || {
                "[health] has two checks; command, http or tcp, one of them".to_owned()
            });
        }
        (Some(_), None) => {}
    }
    if let Some(health) = &unit.health
        && matches!(&health.check, crate::model::Check::Command(words) if words.is_empty())
        && let Some(command) = section_value(table, "health", "command")
    {
        reader.at(command.span(), || "command in [health] names no program".to_owned());
    }
}

fn twice(reader: &mut Reader, names: &[Dependency], places: &[Place]) {
    let mut seen = BTreeSet::new();
    for (name, place) in names.iter().map(|to| &to.unit).zip(places) {
        if !seen.insert(name) {
            reader.report.push(|| Diagnostic::at(place.clone(), format!("{} is named twice", quote(name))));
        }
    }
}
