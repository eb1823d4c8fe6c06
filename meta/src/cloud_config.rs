//! `#cloud-config` → berth.toml.
//!
//! [`keys::KEYS`] is the one table: each key that cloud-init's schema knows is there with what becomes of it, and
//! `docs/cloud-config.md` is made from it. What is *applied* becomes fields of berth.toml, which Berth's own checker
//! judges; what need not do anything is *no-op*, with a note; whatever else somebody counts on is *refused* by its name.

mod apply;
mod keys;
#[cfg(test)]
mod page;
mod run;
#[cfg(test)]
mod tests;
mod users;
mod write_files;

use crate::translation::{Is, Sheet, Translation};
use crate::yaml::{self, Mark, Node, Value};
use crate::{limits, toml_text};

pub use keys::KEYS;

/// What user data begins with.
pub const HEADER: &str = "#cloud-config";

/// Translates a document, be its first line [`HEADER`] or not. `name` is what messages call it.
pub fn translate(name: &str, text: &[u8]) -> Translation {
    match read(name, text) {
        Ok(parsed) => translated(name, &parsed),
        Err(translation) => translation,
    }
}

/// The YAML of a document; a translation that says why not if there is none at all.
pub(crate) fn read(name: &str, text: &[u8]) -> Result<yaml::Parsed, Translation> {
    let problem = |at: Mark, words: String| Translation {
        problems: vec![format!("{name}:{at}: {words}")],
        rows: vec![crate::translation::Row {
            at,
            key: String::new(),
            verdict: crate::translation::Verdict::Refused,
            words,
        }],
        ..Translation::default()
    };
    if text.len() > berth_units::limits::CONFIG_BYTES {
        let words =
            format!("it has {} bytes; at most {} are read", text.len(), berth_units::limits::CONFIG_BYTES);
        return Err(problem(Mark { line: 1, column: 1 }, words));
    }
    match std::str::from_utf8(text) {
        Ok(text) => Ok(yaml::parse(text)),
        Err(error) => {
            let (at, words) = crate::decode::not_utf8(text, error);
            Err(problem(at, words))
        }
    }
}

fn translated(name: &str, parsed: &yaml::Parsed) -> Translation {
    let mut sheet = Sheet::new(name, &parsed.root);
    let top = Mark { line: 1, column: 1 };
    let _ = sheet.toml.set("format", top, toml_text::Value::Int(1));
    for mistake in &parsed.mistakes {
        sheet.refuse(mistake.at, "", mistake.message.clone());
    }
    match &parsed.root.value {
        Value::Map(_) | Value::Null => {
            for (key, written, value) in sheet.pairs("", &parsed.root, KEYS) {
                if let Is::Applied(apply) = key.is {
                    apply(&mut sheet, written, value);
                }
            }
        }
        _ => {
            let words =
                format!("the document is {}, expected a mapping such as hostname: node1", parsed.root.kind());
            sheet.refuse(parsed.root.at, "", words);
        }
    }
    sheet.finish(true)
}

/// Each value of a list; a word if it is none.
fn items<'n>(sheet: &mut Sheet<'_>, key: &str, value: &'n Node) -> Vec<&'n Node> {
    match &value.value {
        Value::Null => Vec::new(),
        Value::List(items) if items.len() > berth_units::limits::LIST_ITEMS => {
            let most = berth_units::limits::LIST_ITEMS;
            sheet.refuse(value.at, key, format!("has {} entries; at most {most} are taken", items.len()));
            Vec::new()
        }
        Value::List(items) => items.iter().collect(),
        _ => {
            sheet.wrong(key, value, "a list");
            Vec::new()
        }
    }
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let translation = translate("user-data", bytes);
    sound(&translation);
    let accepted = berth_units::config::parse("user-data", translation.toml.as_bytes());
    match translation.problems.is_empty() {
        true => assert!(accepted.is_ok(), "translated to what is refused"),
        false => assert!(translation.toml.is_empty() || accepted.is_ok(), "a salvage that is refused"),
    }
}

/// What is told is short and safe to print.
pub(crate) fn sound(translation: &Translation) {
    let lines = || translation.notes.iter().chain(&translation.problems);
    assert!(lines().count() <= 2 * limits::PROBLEMS + 2, "too many lines");
    for line in lines() {
        assert!(line.len() < 16 * 1024, "a line of {} bytes", line.len());
        assert!(!line.chars().any(char::is_control), "a line that a terminal obeys: {line:?}");
    }
}
