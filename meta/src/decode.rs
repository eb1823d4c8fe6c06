//! From what a place holds to the text of a config: gzip and base64 are recognised and undone, anything that is
//! meant for another program is refused by its name.

use crate::limits;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
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

/// The same, half-way: gzip inside base64 and base64 inside gzip, once each.
pub fn decode_from(mut decoded: Decoded) -> Result<Decoded, String> {
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
    match foreign(bytes) {
        Some(what) => Err(format!(
            "it is {what}; this Berth reads berth.toml (first line `format = 1`), #cloud-config comes later"
        )),
        None => Ok(decoded),
    }
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

fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
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

/// What else user-data may be, by its first line (cloud-init's "User-Data Formats").
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let formats: [(&[u8], &str); 10] = [
        (b"#cloud-config", "a #cloud-config"),
        (b"#cloud-boothook", "a #cloud-boothook"),
        (b"#include", "a list of #include addresses"),
        (b"#part-handler", "a #part-handler"),
        (b"## template: jinja", "a jinja template"),
        (b"#!", "a script, and nothing here could run it"),
        (b"Content-Type: multipart", "a MIME archive"),
        (b"MIME-Version:", "a MIME archive"),
        (b"{\"ignition\"", "an Ignition config"),
        (b"version: ", "a YAML file"),
    ];
    formats.iter().find(|(start, _)| text.starts_with(start)).map(|(_, what)| *what)
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(text) = decode(bytes) {
        let _ = berth_units::config::parse("user-data", &text);
    }
}

#[cfg(test)]
pub(crate) mod tests;
