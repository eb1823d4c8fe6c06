//! SMBIOS type 11 ("OEM strings"), read from the raw tables that the kernel shows.
//!
//! | string | means |
//! |---|---|
//! | `berth.config=TEXT` | the config as it is |
//! | `berth.config.b64=BASE64` | the config, or its gzip, in base64 |
//! | `berth.config.sha256=HEX` | SHA-256 of the config, as `sha256sum berth.toml` prints it |
//! | `berth.config.length=N` | its length in bytes |
//!
//! Firmware has been seen to cut a string of 200,000 bytes at 3,550 without a word, so a config of more than
//! [`limits::UNCHECKED_BYTES`] bytes needs the sum, unless it is gzip'd, which carries one.

use crate::{decode, limits};
use sha2::{Digest, Sha256};

/// Where the kernel shows the tables.
pub const TABLES: &str = "/sys/firmware/dmi/tables/DMI";

/// What the strings say.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing about a config; so many strings were looked at.
    Nothing(usize),
    /// A config, as given and with its sums.
    Config(Given),
}

/// A config as given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Given {
    text: Option<Vec<u8>>,
    base64: Option<Vec<u8>>,
    sha256: Option<Vec<u8>>,
    length: Option<Vec<u8>>,
}

/// Looks through the tables. The error says what is wrong with them.
pub fn find(tables: &[u8]) -> Result<Found, String> {
    let mut given = Given::default();
    let mut count = 0;
    for string in strings(tables) {
        let string = string?;
        count += 1;
        for (prefix, slot) in [
            (&b"berth.config="[..], &mut given.text),
            (b"berth.config.b64=", &mut given.base64),
            (b"berth.config.sha256=", &mut given.sha256),
            (b"berth.config.length=", &mut given.length),
        ] {
            if let Some(value) = string.strip_prefix(prefix)
                && slot.replace(value.to_vec()).is_some()
            {
                let prefix = String::from_utf8_lossy(prefix);
                return Err(format!("two strings begin with {prefix}; one machine has one config"));
            }
        }
    }
    Ok(if given == Given::default() { Found::Nothing(count) } else { Found::Config(given) })
}

impl Given {
    /// The config itself, with sum and length checked.
    pub fn decode(&self) -> Result<Vec<u8>, String> {
        let stored = match (&self.text, &self.base64) {
            (Some(_), Some(_)) => {
                return Err("both berth.config= and berth.config.b64= are there; give one".to_owned());
            }
            (None, None) => {
                return Err(
                    "a sum or length is there, but neither berth.config= nor berth.config.b64=".to_owned()
                );
            }
            (Some(text), None) => decode::Decoded { bytes: text.clone(), checked: false },
            (None, Some(base64)) => decode::base64(base64).ok_or(
                "berth.config.b64= is not base64; the string may have been cut by the firmware, \
                 compare it with `base64 -w0 berth.toml`",
            )?,
        };
        let config = decode::decode_from(stored)?;
        let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.trim().parse::<usize>().ok();
        if let Some(length) = &self.length {
            let stated = number(length).ok_or("berth.config.length= is not a number")?;
            if stated != config.bytes.len() {
                return Err(format!(
                    "the config has {} bytes, but berth.config.length= says {stated}; the firmware cut the string, \
                     use gzip in berth.config.b64= or a cidata volume",
                    config.bytes.len()
                ));
            }
        }
        let Some(sum) = &self.sha256 else {
            if config.checked || config.bytes.len() <= limits::UNCHECKED_BYTES {
                return Ok(config.bytes);
            }
            return Err(format!(
                "a config of {} bytes without berth.config.sha256=; firmware cuts long strings silently, so from {} \
                 bytes on give its sha256sum, or gzip it",
                config.bytes.len(),
                limits::UNCHECKED_BYTES + 1
            ));
        };
        let found: String = Sha256::digest(&config.bytes).iter().map(|b| format!("{b:02x}")).collect();
        let stated = String::from_utf8_lossy(sum).trim().to_ascii_lowercase();
        if found != stated {
            return Err(format!(
                "the config's sha256 is {found}, but berth.config.sha256= says {}; the string was cut or changed",
                stated.chars().take(64).collect::<String>().escape_debug()
            ));
        }
        Ok(config.bytes)
    }
}

/// What the firmware says of the machine: type 1, "System Information".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// Manufacturer.
    pub vendor: String,
    /// Product name.
    pub product: String,
    /// Serial number.
    pub serial: String,
    /// The UUID in both byte orders, 32 hex digits each: firmware older than SMBIOS 2.6 has the other one.
    pub uuids: Vec<String>,
}

/// Looks for it; nothing of what cannot be read.
pub fn system(tables: &[u8]) -> System {
    let Some((_, fields, strings)) = structures(tables).flatten().find(|(kind, ..)| *kind == 1) else {
        return System::default();
    };
    let strings: Vec<&[u8]> = strings.split(|b| *b == 0).collect();
    let text = |at: usize| {
        let number = fields.get(at).copied().map_or(0, usize::from);
        let bytes = number.checked_sub(1).and_then(|n| strings.get(n)).copied().unwrap_or_default();
        String::from_utf8_lossy(&bytes[..bytes.len().min(STRING_BYTES)]).trim().to_owned()
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let uuids = fields.get(8..24).map(|big| {
        let mut little = big.to_vec();
        [0..4, 4..6, 6..8].into_iter().for_each(|part| little[part].reverse());
        vec![hex(big), hex(&little)]
    });
    System { vendor: text(4), product: text(5), serial: text(7), uuids: uuids.unwrap_or_default() }
}

/// Bytes of a string of type 1 that are looked at.
const STRING_BYTES: usize = 1024;

/// All strings of all type 11 structures.
fn strings(tables: &[u8]) -> impl Iterator<Item = Result<&[u8], String>> {
    structures(tables).flat_map(|structure| {
        let (strings, error) = match structure {
            Ok((11, _, strings)) => (Some(strings), None),
            Ok(_) => (None, None),
            Err(e) => (None, Some(Err(e))),
        };
        strings.into_iter().flat_map(|s| s.split(|b| *b == 0).filter(|s| !s.is_empty()).map(Ok)).chain(error)
    })
}

/// Type, formatted area and string area of each structure: header (type, length, handle), formatted area, then strings, each ended
/// by a zero and all of them by another (SMBIOS 3, section 6.1). A table may end without its end mark.
fn structures(tables: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8], &[u8]), String>> {
    let mut rest = Some(tables);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| bytes.len() >= 4 && bytes[0] != 127)?;
        let damaged =
            || Some(Err("the SMBIOS tables are damaged or were cut short by the firmware".to_owned()));
        let formatted = usize::from(bytes[1]);
        let Some(strings) = bytes.get(formatted..).filter(|_| formatted >= 4) else { return damaged() };
        let Some(end) = strings.windows(2).position(|pair| pair == [0, 0]) else { return damaged() };
        rest = strings.get(end + 2..);
        Some(Ok((bytes[0], &bytes[..formatted], &strings[..end])))
    })
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    let _ = crate::providers::of(&system(bytes));
    if let Ok(Found::Config(given)) = find(bytes) {
        let _ = given.decode();
    }
}

#[cfg(test)]
pub(crate) mod tests;
