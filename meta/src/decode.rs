//! From what a place holds to the text of a config: gzip and base64 are recognised and undone, anything that is
//! meant for another program is refused by its name.

use crate::yaml::Mark;
use crate::{limits, network_config};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use berth_units::diag::quote;
use berth_units::limits::CONFIG_BYTES;
use flate2::read::MultiGzDecoder;
use std::io::Read;

/// Bytes after decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// They were in a gzip stream, whose own sum was right: nothing was cut off.
    pub checked: bool,
}

/// Decodes what was found.
pub fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    decode_from(Decoded { bytes: bytes.to_vec(), checked: false }).map(|decoded| decoded.bytes)
}

/// The same, half-way.
pub fn decode_from(decoded: Decoded) -> Result<Decoded, String> {
    let decoded = unpack(decoded)?;
    recognise(&decoded.bytes).map(|_| decoded)
}

/// Undoes gzip inside base64 and base64 inside gzip, once each, whatever is inside.
fn unpack(mut decoded: Decoded) -> Result<Decoded, String> {
    if decoded.bytes.len() as u64 > limits::ENCODED_BYTES {
        return Err(format!("it has {} bytes; a config has at most {CONFIG_BYTES}", decoded.bytes.len()));
    }
    for _ in 0..2 {
        if decoded.bytes.starts_with(&[0x1f, 0x8b]) {
            decoded = Decoded { bytes: gunzip(&decoded.bytes)?, checked: true };
        } else if let Some(inner) = base64(&decoded.bytes) {
            decoded = Decoded { bytes: inner.bytes, checked: decoded.checked };
        }
    }
    let bytes = &decoded.bytes;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty; a config has at least the line `format = 1`".to_owned());
    }
    if bytes.len() > CONFIG_BYTES {
        return Err(format!("it has {} bytes; a config has at most {CONFIG_BYTES}", bytes.len()));
    }
    Ok(decoded)
}

/// What a file on a laptop is, and its text. `name` is the file's own: a `network-config` is one, whatever its first line says.
pub fn look(name: &str, bytes: &[u8]) -> Result<(Format, Vec<u8>), String> {
    let bytes = unpack(Decoded { bytes: bytes.to_vec(), checked: false })?.bytes;
    let format = recognise(&bytes);
    if name.starts_with("network-config") || (format.is_err() && network_config::looks_like(&bytes)) {
        return Ok((Format::NetworkConfig, bytes));
    }
    format.map(|format| (format, bytes))
}

/// Decodes base64 with or without line breaks and padding; `None` if it is none. No config looks like it: `=` stands
/// only at base64's end.
pub fn base64(bytes: &[u8]) -> Option<Decoded> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    if bytes.len() as u64 > limits::ENCODED_BYTES {
        return None;
    }
    let text: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    if text.is_empty() {
        return None;
    }
    let engine = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    engine.decode(text).ok().map(|bytes| Decoded { bytes, checked: false })
}

/// Undoes gzip.
pub fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(limits::ENCODED_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|e| format!("its gzip stream is damaged or cut short: {e}"))?;
    if text.len() as u64 > limits::ENCODED_BYTES {
        return Err(format!(
            "unpacked it has more than {} bytes; a config has at most {CONFIG_BYTES}",
            limits::ENCODED_BYTES
        ));
    }
    Ok(text)
}

/// What a decoded text is, by its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A berth.toml.
    Berth,
    /// A `#cloud-config`.
    CloudConfig,
    /// A network-config, which is no user data; only [`look`] says so.
    NetworkConfig,
}

/// What user data is (cloud-init's "User-Data Formats"); what it is instead, and the way out, if it is neither of ours.
/// Whatever looks like nothing else is taken for a berth.toml, whose checker has its own words.
pub fn recognise(bytes: &[u8]) -> Result<Format, String> {
    if let Some(what) = wide(bytes) {
        return Err(format!("it is {what}; save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let (at, words) = not_utf8(bytes, error);
            return Err(format!("line {}, column {}: {words}", at.line, at.column));
        }
    };
    let start = text.trim_start();
    let first = start.lines().next().unwrap_or_default().trim_end();
    let lower = first.to_ascii_lowercase();
    let is = |what: &str, way_out: &str| Err(format!("it is {what}; {way_out}"));
    // As cloud-init, in any case and behind empty lines.
    if let Some(rest) = lower.strip_prefix("#cloud-config") {
        return match rest {
            "" => Ok(Format::CloudConfig),
            "-archive" => is(
                "a #cloud-config-archive, several documents in one",
                "give one #cloud-config, or one berth.toml",
            ),
            "-jsonp" => {
                is("a #cloud-config-jsonp, a patch of another document", "give the whole #cloud-config")
            }
            rest if rest.starts_with([' ', '\t']) => Ok(Format::CloudConfig),
            _ => Err(format!(
                "its first line is {}; a cloud-config begins with the line {CLOUD_CONFIG}",
                quote(first)
            )),
        };
    }
    let squeezed: String = lower.chars().filter(|c| !c.is_whitespace() && *c != '_').collect();
    if ["#cloud-config", "#cloudconfig", "cloud-config", "##cloud-config"].contains(&squeezed.as_str()) {
        return Err(format!(
            "its first line is {}, which is a comment and nothing else; write {CLOUD_CONFIG}, without a space",
            quote(first)
        ));
    }
    match lower.as_str() {
        line if line.starts_with("#cloud-boothook") => is("a #cloud-boothook, a script", SCRIPT),
        line if line.starts_with("#include") => {
            is("a list of #include addresses", "nothing is fetched; give the document itself")
        }
        line if line.starts_with("#part-handler") => is("a #part-handler, a Python program", SCRIPT),
        line if line.starts_with("## template:") => is(
            "a template (jinja)",
            "templates are not filled in; give what it comes to, from #cloud-config on",
        ),
        line if line.starts_with("#!") => is("a script, and nothing here could run it", SCRIPT),
        line if line.starts_with("#upstart-job") => is("an upstart job", SCRIPT),
        line if line.starts_with("#ps1")
            || line.starts_with("<powershell")
            || line.starts_with("rem cmd") =>
        {
            is("a script for Windows", SCRIPT)
        }
        line if line.starts_with("content-type:")
            || line.starts_with("mime-version:")
            || line.starts_with("from ") =>
        {
            is("a MIME archive", "give the one part of it that is a #cloud-config, or a berth.toml")
        }
        line if line.starts_with("#kubernetes") || line.starts_with("apiversion:") => {
            is("a Kubernetes document", "write what it runs as units of a berth.toml (docs/units.md)")
        }
        line if line.starts_with("-----begin") || line.starts_with("ssh-") || line.starts_with("ecdsa-") => {
            is("a key", "put it into a berth.toml, [access] keys, or a #cloud-config, ssh_authorized_keys")
        }
        line if line.starts_with("<?xml") || line.starts_with('<') => is("XML", BOTH),
        line if line.starts_with('{') => match start.get(..4096).unwrap_or(start).contains("\"ignition\"") {
            true => is("an Ignition config", BOTH),
            false => is(
                "JSON",
                "a cloud-config may be JSON, behind a first line #cloud-config; or give a berth.toml",
            ),
        },
        _ => match without_header(start) {
            Some(what) => is(what.0, what.1),
            None => Ok(Format::Berth),
        },
    }
}

/// The first line of a cloud-config.
const CLOUD_CONFIG: &str = crate::cloud_config::HEADER;
const SCRIPT: &str = "there is no shell on the machine; write what it does as units of a berth.toml (docs/units.md), or as runcmd with an image in a \
                      #cloud-config (docs/cloud-config.md)";
const BOTH: &str = "this Berth reads berth.toml (first line `format = 1`) and #cloud-config";

/// YAML that does not say what it is, by its first line that is no comment.
fn without_header(text: &str) -> Option<(&'static str, &'static str)> {
    let line = text.lines().map(str::trim_end).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let (key, rest) = match line {
        "---" => ("", ""),
        _ => line.split_once(':')?,
    };
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if !plain || !(rest.is_empty() || rest.starts_with(' ')) {
        return None;
    }
    Some(match key {
        "network" | "ethernets" => (
            "a network-config",
            "it goes beside user data, into the file network-config; user data is a berth.toml or a #cloud-config",
        ),
        "variant" => ("a Butane config", BOTH),
        "instance-id" | "local-hostname" => (
            "meta-data",
            "it goes beside user data, into the file meta-data; user data is a berth.toml or a #cloud-config",
        ),
        _ => (
            "YAML that does not say what it is",
            "if it is a cloud-config, make #cloud-config its first line",
        ),
    })
}

/// Text in two or four bytes a character.
fn wide(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [0, a, 0, b, ..] | [a, 0, b, 0, ..] if a.is_ascii() && b.is_ascii() && *a > 0 && *b > 0 => {
            Some("UTF-16")
        }
        _ => None,
    }
}

/// Where a text stops being UTF-8, in words.
pub(crate) fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> (Mark, String) {
    let (before, rest) = bytes.split_at(error.valid_up_to().min(bytes.len()));
    let before = String::from_utf8_lossy(before);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let byte = rest.first().copied().unwrap_or_default();
    let words = format!("byte 0x{byte:02x} is not UTF-8, as in Latin-1 text; save it as UTF-8");
    (Mark { line, column }, words)
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(text) = decode(bytes) {
        let format = recognise(&text);
        assert!(format.is_ok(), "decoded, and not recognised: {format:?}");
        match format {
            Ok(Format::CloudConfig) => crate::cloud_config::fuzz(&text),
            _ => drop(berth_units::config::parse("user-data", &text)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
