//! `write_files`: texts that units mount.

use super::items;
use super::keys::FILE;
use crate::decode;
use crate::toml_text::{Item, Value as Toml};
use crate::translation::{Sheet, Verdict, shown};
use crate::yaml::{Mark, Node, Value};
use berth_units::diag::quote;
use berth_units::limits::{CONFIG_BYTES, CONTENT_NAME_BYTES};
use std::collections::BTreeMap;

/// One file.
struct Entry {
    at: Mark,
    text_at: Mark,
    secret: bool,
    text: String,
}

/// `write_files`.
pub(super) fn write_files(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    let mut files: BTreeMap<String, Entry> = BTreeMap::new();
    let mut room = CONFIG_BYTES;
    for item in items(sheet, "write_files", value) {
        one(sheet, item, &mut files, &mut room);
        if room == 0 {
            return;
        }
    }
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    for (path, entry) in files {
        let Some(name) = name(&path, |name| named.contains_key(name)) else {
            let words = format!("the path {} is too long to be a name in [files]", quote(&path));
            sheet.refuse(entry.at, "write_files", words);
            continue;
        };
        named.insert(name.clone(), path.clone());
        let table = if entry.secret { "secrets" } else { "files" };
        let shown = shown(&path, 80);
        let words = format!("{shown} is {name} in [{table}]; a unit has it by mounts: [\"{name}:{shown}\"]");
        let item = Item { at: entry.text_at, value: Toml::Text(entry.text) };
        match sheet.toml.table(table, entry.at).map(|table| {
            let free = table.get(&name).is_none();
            if free {
                table.0.push((name.clone(), entry.at, item));
            }
            free
        }) {
            Some(true) => sheet.row(entry.at, "write_files", Verdict::Applied, words),
            _ => sheet.refuse(entry.at, "write_files", format!("[{table}] has {name} already, from berth:")),
        }
    }
    let _ = key;
}

/// `room`: bytes that may still come; 0 once they were too many.
fn one(sheet: &mut Sheet<'_>, item: &Node, files: &mut BTreeMap<String, Entry>, room: &mut usize) {
    let path = item.get("path").and_then(Node::text).unwrap_or_default().to_owned();
    let of = match path.is_empty() {
        true => "write_files".to_owned(),
        false => {
            format!("write_files: {}", shown(&path, 64))
        }
    };
    let pairs = sheet.pairs(&of, item, FILE);
    if !matches!(item.value, Value::Map(_)) {
        return;
    }
    let mut content = None;
    let (mut append, mut secret, mut encoding) = (false, false, String::new());
    for (entry, _, value) in pairs {
        match entry.name {
            "content" => content = Some(value),
            "append" => append = sheet.yes(&of, value).unwrap_or(false),
            "encoding" => encoding = sheet.text(&of, value).unwrap_or_default(),
            "permissions" => match mode(value) {
                Some(mode) if mode & 0o111 != 0 => sheet.refuse(
                    value.at,
                    &of,
                    "what is mounted from a config cannot be executed; give the unit a command such as [\"/bin/sh\", PATH], or put the program into its image",
                ),
                Some(mode) => secret = mode & 0o004 == 0,
                None => sheet.wrong(&of, value, "permissions in quotes such as '0644'"),
            },
            _ => {}
        }
    }
    let at = item.pair("path").map_or(item.at, |(key, _)| key.at);
    let plain = path.starts_with('/') && !path.ends_with('/') && !path.split('/').any(|part| part == "..");
    if !plain || path.contains(|c: char| c.is_control() || c == ':') {
        let words = match item.get("path") {
            None => "path is missing; it is where units are to have the file".to_owned(),
            Some(_) => format!("{} is not an absolute path without .. and :", quote(&path)),
        };
        return sheet.refuse(at, &of, words);
    }
    let text_at = content.map_or(at, |content| content.at);
    let text = match text(content, &encoding) {
        Ok(text) => text,
        Err(why) => return sheet.refuse(text_at, &of, why),
    };
    *room = room.saturating_sub(text.len());
    if *room == 0 {
        let words = format!(
            "files with more than {CONFIG_BYTES} bytes together; put large content into a unit's image"
        );
        return sheet.refuse(text_at, "write_files", words);
    }
    match (files.get_mut(&path), append) {
        (Some(entry), true) => {
            entry.text.push_str(&text);
            entry.secret |= secret;
        }
        (Some(entry), false) => {
            sheet.row(entry.at, of, Verdict::NoOp, format!("line {} writes the same path anew", at.line));
            *entry = Entry { at, text_at, secret, text };
        }
        (None, true) => sheet.refuse(
            at,
            &of,
            "there is nothing to append to; a unit's image cannot be changed, so write the whole file here",
        ),
        (None, false) => {
            files.insert(path, Entry { at, text_at, secret, text });
        }
    }
}

/// `'0644'`, `'0o644'`, `'644'`, and 0644 without quotes, which YAML has made a number of; cloud-init reads all of them.
fn mode(value: &Node) -> Option<u32> {
    let mode = match &value.value {
        Value::Text(text) => u32::from_str_radix(text.trim().trim_start_matches("0o"), 8).ok()?,
        Value::Int(number) => u32::try_from(*number).ok()?,
        _ => return None,
    };
    (mode <= 0o7777).then_some(mode)
}

fn text(content: Option<&Node>, encoding: &str) -> Result<String, String> {
    let bytes = match content.map_or(&Value::Null, |content| &content.value) {
        Value::Text(text) => text.clone().into_bytes(),
        Value::Bytes(bytes) => bytes.clone(),
        Value::Null => Vec::new(),
        _ => {
            return Err(format!(
                "content is {}, expected a text; write it in quotes or as a block",
                content.map_or("nothing", Node::kind)
            ));
        }
    };
    let base64 = |bytes: &[u8]| match bytes.iter().all(u8::is_ascii_whitespace) {
        true => Ok(Vec::new()),
        false => decode::base64(bytes)
            .map(|decoded| decoded.bytes)
            .ok_or_else(|| "content is not the base64 that encoding says".to_owned()),
    };
    let gunzip =
        |bytes: &[u8]| decode::gunzip(bytes).map_err(|why| format!("content is gzip by encoding, but {why}"));
    // cloud-init's names, and that it takes an unknown one for plain text, are in its cc_write_files.
    let bytes = match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "text/plain" | "text" => bytes,
        "b64" | "base64" => base64(&bytes)?,
        "gz" | "gzip" | "gz+b64" | "gzip+b64" | "gz+base64" | "gzip+base64" if bytes.is_empty() => bytes,
        "gz" | "gzip" => gunzip(&bytes)?,
        "gz+b64" | "gzip+b64" | "gz+base64" | "gzip+base64" => gunzip(&base64(&bytes)?)?,
        other => {
            return Err(format!(
                "encoding {} is not known; text/plain, gzip, base64 and gzip+base64 are",
                quote(other)
            ));
        }
    };
    String::from_utf8(bytes).map_err(|_| {
        "content is not UTF-8 text; what is binary belongs into the unit's image, or a volume".to_owned()
    })
}

/// `/etc/app/a b.conf` → `etc-app-a-b.conf`, with a number behind it if another path has that.
fn name(path: &str, taken: impl Fn(&str) -> bool) -> Option<String> {
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = path.chars().map(fits).collect();
    let name = name.trim_start_matches(['-', '.']);
    let name = if name.is_empty() { "file" } else { name };
    let all = std::iter::once(name.to_owned()).chain((2..=512).map(|n| format!("{name}-{n}")));
    all.filter(|name| name.len() <= CONTENT_NAME_BYTES).find(|name| !taken(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_names() {
        let free = |_: &str| false;
        assert_eq!(name("/etc/app/a b.conf", free).unwrap(), "etc-app-a-b.conf");
        assert_eq!(name("/.hidden", free).unwrap(), "hidden");
        assert_eq!(name("/é", free).unwrap(), "file");
        assert_eq!(name("/a", |name| name == "a").unwrap(), "a-2");
        assert_eq!(name(&format!("/{}", "x".repeat(200)), free), None);
    }
}
