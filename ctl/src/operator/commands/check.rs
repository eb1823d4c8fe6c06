//! `berth config check`: what a machine would say of a berth.toml, a cloud-config or a network-config.

use super::local::shown_name;
use super::{Failure, Out};
use crate::operator::home::HomeError;
use crate::operator::render::Style;
use crate::operator::render::style::Tone;
use crate::operator::render::table::{Column, Table, cell, plain};
use berth_meta::decode::{self, Format};
use berth_meta::limits::ENCODED_BYTES;
use berth_meta::translation::{Row, Translation, Verdict};
use berth_meta::{cloud_config, network_config};
use berth_units::diag::Report;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// One file, for `--json`.
#[derive(Serialize)]
struct Checked {
    file: String,
    ok: bool,
    /// `berth.toml`, `cloud-config` or `network-config`; nothing if it is none of them.
    format: Option<&'static str>,
    /// All mistakes, as they are printed.
    report: String,
    /// What became of each key of a document that is translated.
    keys: Vec<Key>,
    /// What it is translated to; after mistakes what of it would be used all the same.
    toml: Option<String>,
}

#[derive(Serialize)]
struct Key {
    line: usize,
    column: usize,
    key: String,
    verdict: String,
    words: String,
}

/// `berth config check FILE`.
pub fn check(file: &Path, out: Out) -> Result<(), Failure> {
    let name = shown_name(file);
    let bytes = read(file)?;
    let own = file.file_name().unwrap_or_default().to_string_lossy();
    let (format, text) = match decode::look(&own, &bytes) {
        Ok(found) => found,
        Err(why) => return tell(out, nothing(&name, format!("{name}: {why}\n"))),
    };
    let translation = match format {
        Format::Berth => return toml(&name, &text, out),
        Format::CloudConfig => cloud_config::translate(&name, &text),
        Format::NetworkConfig => network_config::translate(&name, &text),
    };
    let format = if format == Format::CloudConfig { "cloud-config" } else { "network-config" };
    let ok = translation.problems.is_empty();
    if out.json {
        let keys = translation.rows.iter().map(|row| Key {
            line: row.at.line,
            column: row.at.column,
            key: row.key.clone(),
            verdict: row.verdict.to_string(),
            words: row.words.clone(),
        });
        return tell(
            out,
            Checked {
                file: name,
                ok,
                format: Some(format),
                report: translation.problems.iter().map(|line| format!("{line}\n")).collect(),
                keys: keys.collect(),
                toml: Some(translation.toml.clone()),
            },
        );
    }
    // Words are never cut: they say what to write instead.
    out.text(shown(&name, format, &translation, Style { columns: None, ..out.style }))?;
    if ok { Ok(()) } else { Err(Failure::Said) }
}

fn toml(name: &str, text: &[u8], out: Out) -> Result<(), Failure> {
    let verdict = berth_units::config::parse(name, text).map(|config| match config.units.len() {
        1 => "1 unit".to_owned(),
        n => format!("{n} units"),
    });
    if !out.json {
        out.text(match &verdict {
            Ok(what) => format!("{name}: {what}, no mistakes\n"),
            Err(report) if out.style.colour => report.coloured(),
            Err(report) => report.to_string(),
        })?;
        return if verdict.is_ok() { Ok(()) } else { Err(Failure::Said) };
    }
    let report = verdict.as_ref().err().map(Report::to_string).unwrap_or_default();
    tell(out, Checked { ok: verdict.is_ok(), format: Some("berth.toml"), ..nothing(name, report) })
}

fn nothing(name: &str, report: String) -> Checked {
    Checked { file: name.to_owned(), ok: false, format: None, report, keys: Vec::new(), toml: None }
}

fn tell(out: Out, checked: Checked) -> Result<(), Failure> {
    let ok = checked.ok;
    out.show(&[checked], |checked, _| checked.iter().map(|one| one.report.as_str()).collect())?;
    if ok { Ok(()) } else { Err(Failure::Said) }
}

/// The table of keys, and a last line of what comes of it.
fn shown(name: &str, format: &str, translation: &Translation, style: Style) -> String {
    let mut table = Table::new(&[
        Column { head: "PLACE", right: false, expendable: 0 },
        Column { head: "KEY", right: false, expendable: 0 },
        Column { head: "VERDICT", right: false, expendable: 0 },
        Column { head: "", right: false, expendable: 0 },
    ]);
    for Row { at, key, verdict, words } in &translation.rows {
        let tone = match verdict {
            Verdict::Applied => Tone::Good,
            Verdict::NoOp => Tone::Notice,
            Verdict::Refused => Tone::Bad,
        };
        table.row(vec![plain(at.to_string()), plain(key), cell(verdict.to_string(), tone), plain(words)]);
    }
    let count = |verdict| translation.rows.iter().filter(|row| row.verdict == verdict).count();
    let rows = if translation.rows.is_empty() { String::new() } else { table.render(style) + "\n" };
    let more = match translation.more {
        0 => String::new(),
        more => format!("and {more} more\n"),
    };
    let verdict = match translation.problems.is_empty() {
        true => "a machine takes it",
        false if format == "network-config" => "a machine refuses it",
        false => "a machine refuses it, and uses keys, hostname and network as far as they are beyond doubt",
    };
    format!(
        "{rows}{more}{name}: a {format}; {} applied, {} no-op, {} refused: {verdict}\n",
        count(Verdict::Applied),
        count(Verdict::NoOp),
        count(Verdict::Refused)
    )
}

/// A little more than is allowed, so that the decoder can say that it is too much.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let result = if file == Path::new("-") {
        io::stdin().lock().take(ENCODED_BYTES + 1).read_to_end(&mut bytes)
    } else {
        File::open(file).and_then(|open| open.take(ENCODED_BYTES + 1).read_to_end(&mut bytes))
    };
    result.map_err(|error| HomeError::File { path: file.to_owned(), error })?;
    Ok(bytes)
}
