//! Texts that the machine config carries, `[secrets]` and `[files]`, and the units that refer to them.
//!
//! No message shows any of a text; that none shows its line either is [`crate::diag`]'s.

use crate::diag::{Diagnostic, Place, nearest, quote};
use crate::env_file;
use crate::model::{Content, MachineConfig, MountSource, Secret, Unit};
use crate::schema::table::{Reader, section_value};
use crate::schema::values;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) fn read_secrets(reader: &mut Reader, config: &mut MachineConfig, value: &Spanned<DeValue<'_>>) {
    read(reader, "secrets", &mut config.secrets, value);
}

pub(super) fn read_files(reader: &mut Reader, config: &mut MachineConfig, value: &Spanned<DeValue<'_>>) {
    read(reader, "files", &mut config.files, value);
}

fn read(
    reader: &mut Reader,
    table: &str,
    texts: &mut BTreeMap<String, Secret>,
    value: &Spanned<DeValue<'_>>,
) {
    let DeValue::Table(entries) = value.get_ref() else {
        return reader.at(value.span(), || format!("\"{table}\" is a list, expected NAME = \"text\""));
    };
    for (key, value) in entries {
        let name = key.get_ref().as_ref();
        if let Err(why) = values::content_name(name) {
            reader.at(key.span(), || format!("name {} in [{table}] {why}", quote(name)));
        }
        match value.get_ref() {
            DeValue::String(text) => {
                texts.insert(name.to_owned(), Secret::from(text.as_ref()));
            }
            _ => reader
                .at(value.span(), || format!("{} in [{table}] is no text; write it in quotes", quote(name))),
        }
    }
}

/// Gives each unit the texts that it names, and checks those that are read here.
pub(super) fn resolve(reader: &mut Reader, config: &mut MachineConfig, table: &DeTable<'_>) {
    let MachineConfig { secrets, files, units, .. } = config;
    for name in secrets.keys().filter(|name| files.contains_key(*name)) {
        let span = section_value(table, "secrets", name).map_or(0..0, Spanned::span);
        reader.at(span, || format!("{} is in [secrets] and in [files]", quote(name)));
    }
    for unit in units {
        let place = unit.places.unit.clone();
        for content in contents(unit) {
            let name = content.from.as_str();
            content.text = secrets.get(name).or_else(|| files.get(name)).cloned();
            if content.text.is_none() {
                reader.report.push(|| {
                    let near = nearest(name, secrets.keys().chain(files.keys()).map(String::as_str))
                        .map_or_else(String::new, |near| format!("; did you mean {}?", quote(near)));
                    let message = format!("{} is neither in [secrets] nor in [files]{near}", quote(name));
                    Diagnostic::at(place.clone(), message)
                });
            }
        }
        for file in &unit.container.env_file {
            check_env_file(reader, &unit.name, file, table);
        }
    }
}

/// Everything that a unit refers to.
fn contents(unit: &mut Unit) -> impl Iterator<Item = &mut Content> {
    let mounted = unit.container.mounts.iter_mut().filter_map(|mount| match &mut mount.source {
        MountSource::Config(content) => Some(content),
        MountSource::Host(_) => None,
    });
    unit.container.env_file.iter_mut().chain(unit.secrets.values_mut()).chain(mounted)
}

fn check_env_file(reader: &mut Reader, unit: &str, file: &Content, table: &DeTable<'_>) {
    let Some(Err(mistakes)) = file.text.as_ref().map(|text| env_file::parse(text.reveal())) else { return };
    let value =
        ["secrets", "files"].into_iter().find_map(|section| section_value(table, section, &file.from));
    let place = value.map(|value| reader.place(value.span())).unwrap_or_default();
    for (line, why) in mistakes {
        // In a string of several lines without escapes, line is line.
        let place = line_of(reader, value, line).unwrap_or_else(|| place.clone());
        reader.report.push(|| {
            let name = quote(&file.from);
            Diagnostic::at(
                place,
                format!("line {line} of {name}, an environment file of unit {}, {why}", quote(unit)),
            )
        });
    }
}

fn line_of(reader: &Reader, value: Option<&Spanned<DeValue<'_>>>, line: usize) -> Option<Place> {
    let span = value?.span();
    let raw = reader.source.text.get(span.clone())?;
    let body =
        raw.strip_prefix("\"\"\"").or_else(|| raw.strip_prefix("'''")).filter(|body| !body.contains('\\'))?;
    let first = usize::from(body.trim_start_matches('\r').starts_with('\n'));
    let start: usize = raw.split_inclusive('\n').take(first + line - 1).map(str::len).sum();
    let length = raw.get(start..)?.lines().next()?.len();
    Some(reader.place(span.start + start..span.start + start + length))
}
