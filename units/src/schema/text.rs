//! Bytes → text → TOML: what is wrong with a file before any field is looked at.

use super::table::Reader;
use crate::diag::{Diagnostic, Place, Report, quote};
use crate::limits;
use std::ops::Range;
use std::sync::Arc;
use toml::de::DeTable;

pub(crate) use crate::diag::Source;

/// First bytes of files that people hand over by mistake.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"PK\x03\x04", "a zip file"),
    (b"\x7fELF", "a program"),
    (b"QFI\xfb", "a qcow2 disk image"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
];

/// A parsed file.
pub(crate) enum Document<'i> {
    /// Without syntax errors, or with duplicate keys only.
    Whole(DeTable<'i>),
    /// What could be read around syntax errors.
    Partly(DeTable<'i>),
    /// Nothing that further checks would make sense of.
    Unreadable,
}

/// Size and encoding. A byte order mark is dropped; line ends may be LF or CRLF.
pub(crate) fn source(file: &str, bytes: &[u8]) -> Result<Arc<Source>, Report> {
    let refuse = |message: String| Report::of(Diagnostic::file(file, message));
    if bytes.len() > limits::CONFIG_BYTES {
        return Err(refuse(format!(
            "has {} bytes; at most {} (1 MiB) are read. Put large content into the image",
            bytes.len(),
            limits::CONFIG_BYTES
        )));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_mark = |b: &&u8| matches!(b, b'[' | b']' | b'{' | b'}' | b'=' | b',' | b'.' | b'\n');
    let marks = bytes.iter().filter(is_mark).count();
    if marks > limits::CONFIG_MARKS {
        return Err(refuse(format!(
            "has {marks} brackets, commas, dots, equals signs and line ends; at most {} are read",
            limits::CONFIG_MARKS
        )));
    }
    if let Some((_, what)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(refuse(format!("is {what}, not a TOML file; a TOML file is UTF-8 text")));
    }
    let valid = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) => error.valid_up_to(),
    };
    let (text, rest) = bytes.split_at(valid);
    let text = String::from_utf8_lossy(text).into_owned();
    let nul = text.find('\0');
    let source = Arc::new(Source { file: file.to_owned(), text });
    let at =
        |span: Range<usize>, message: String| Report::of(Diagnostic::at(Place::new(&source, span), message));
    if let Some(nul) = nul {
        return Err(at(nul..nul + 1, "NUL byte; a TOML file is text".into()));
    }
    if let Some(byte) = rest.first() {
        let end = source.text.len();
        return Err(at(end..end, format!("byte 0x{byte:02x} is not UTF-8; a TOML file is UTF-8 text")));
    }
    Ok(source)
}

/// A syntax error, worded.
pub(crate) struct SyntaxError {
    span: Range<usize>,
    message: String,
    duplicate: bool,
}

/// Syntax. As much of the document as could be read comes with the errors.
pub(crate) fn parse(source: &Source) -> (Document<'_>, Vec<SyntaxError>) {
    let text = source.text.as_str();
    let (table, errors) = if text.len() <= limits::RECOVER_BYTES {
        let (table, errors) = DeTable::parse_recoverable(text);
        (Some(table), errors)
    } else {
        match DeTable::parse(text) {
            Ok(table) => (Some(table), Vec::new()),
            Err(error) => (None, vec![error]),
        }
    };
    let mut errors: Vec<SyntaxError> = errors.iter().map(|error| worded(text, error)).collect();
    errors.sort_by_key(|error| error.span.start);
    // The rest of the file looks like part of a list that is not closed: one mistake, not one for each line of it.
    let open = errors.iter().any(|error| error.message.contains("unclosed array"));
    if open && let Some(at) = errors.iter().position(|error| error.message.contains("array")) {
        errors.truncate(at + 1);
        if let Some(last) = errors.last_mut() {
            last.message = "not valid TOML: the list before this is not closed, expected , or ]".into();
        }
    }
    // Of what is wrong with one line, the first thing.
    let (mut at, mut line_number, mut last) = (0, 0, None);
    errors.retain(|error| {
        let to = error.span.start.min(text.len());
        let between = text.as_bytes().get(at..to).unwrap_or_default();
        line_number += between.iter().filter(|b| **b == b'\n').count();
        at = to;
        last.replace(line_number) != Some(line_number)
    });
    // A header that cannot be read puts what follows into the wrong table.
    let astray = open
        || errors
            .iter()
            .any(|error| !error.duplicate && line(text, error.span.start).trim_start().starts_with('['));
    let document = match table {
        None => Document::Unreadable,
        Some(_) if astray => Document::Unreadable,
        Some(table) if errors.iter().all(|error| error.duplicate) => Document::Whole(table.into_inner()),
        Some(table) => Document::Partly(table.into_inner()),
    };
    (document, errors)
}

fn worded(text: &str, error: &toml::de::Error) -> SyntaxError {
    let span = error.span().unwrap_or(text.len()..text.len());
    let duplicate = error.message().starts_with("duplicate key");
    let message = if duplicate {
        let key = text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\'']);
        let header = line(text, span.start).trim_start().starts_with('[');
        format!("{} {} is there twice", if header { "table" } else { "field" }, quote(key))
    } else {
        let said = error.message();
        format!("not valid TOML: {}", said.strip_suffix(", expected literal string").unwrap_or(said))
    };
    SyntaxError { span, message, duplicate }
}

/// The line around a byte.
fn line(text: &str, at: usize) -> &str {
    text.get(line_start(text, at)..).and_then(|rest| rest.split('\n').next()).unwrap_or_default()
}

/// Joins syntax errors and what the further checks found; of the latter only what no syntax error can have caused.
pub(crate) fn merge(reader: &mut Reader, errors: Vec<SyntaxError>) {
    let source = Arc::clone(&reader.source);
    let lines: Vec<usize> = errors
        .iter()
        .take(limits::DIAGNOSTICS)
        .map(|error| line_start(&source.text, error.span.start))
        .collect();
    let mut found = std::mem::take(&mut reader.report);
    if reader.partly {
        found.diagnostics.retain(|found| !lines.contains(&line_start(&source.text, found.place.start())));
    }
    let mut report = Report::default();
    for error in errors {
        report.push(|| {
            let place = Place::new(&source, error.span);
            // What the parser takes for a name may be the rest of a text that was not closed.
            let message = match error.duplicate && place.is_private() {
                true => "a name is there twice".to_owned(),
                false => error.message,
            };
            Diagnostic::at(place, message)
        });
    }
    report.append(found);
    reader.report = report;
}

fn line_start(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at.min(text.len())).rposition(|b| *b == b'\n').map_or(0, |n| n + 1)
}
