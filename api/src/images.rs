//! The images on the machine, as the store has described them, and what an operator may have done with them.

use crate::limits;
use crate::respond::Refusal;
use berth_units::control::UnitStatus;
use berth_units::image::PreparedImage;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// One line of `GET /v1/images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// As its unit, or the operator who pulled it, wrote it.
    pub name: String,
    /// Of its manifest, `sha256:…`.
    pub digest: String,
    /// Bytes of the files in its layers, those that it shares with others included.
    pub bytes: u64,
    /// Number of its layers.
    pub layers: usize,
    /// An operator pulled it: it stays until an operator removes it.
    pub kept: bool,
    /// Units that have it as their image.
    pub used_by: Vec<String>,
}

/// Every image that the store has described in `index`, by name. One that this version cannot read is left out: it is
/// another slot's.
pub fn list(index: &Path, units: &[UnitStatus]) -> Vec<Image> {
    let files = std::fs::read_dir(index).into_iter().flatten().flatten().take(limits::IMAGES);
    let mut images: Vec<Image> = files.filter_map(|file| read(&file.path())).collect();
    for image in &mut images {
        let users = units.iter().filter(|unit| unit.image == image.name);
        image.used_by = users.map(|unit| unit.name.clone()).collect();
    }
    images.sort_by(|a, b| a.name.cmp(&b.name));
    images
}

fn read(path: &Path) -> Option<Image> {
    let mut bytes = Vec::new();
    let most = berth_units::limits::IMAGE_INDEX_BYTES as u64 + 1;
    File::open(path).ok()?.take(most).read_to_end(&mut bytes).ok()?;
    let image = PreparedImage::parse(&bytes).ok()?;
    Some(Image {
        name: image.reference,
        digest: image.digest,
        bytes: image.layer_bytes.iter().sum(),
        layers: image.layers.len(),
        kept: image.kept,
        used_by: Vec::new(),
    })
}

/// The name in a query: `image=example.org%2Fweb:1`.
pub fn name_in(query: &str) -> Result<String, Refusal> {
    let refused = |why: &str| Refusal::new("bad-request", why);
    let Some(word) = query.strip_prefix("image=").filter(|word| !word.contains('&')) else {
        return Err(refused("one parameter is expected, the image's name: ?image=example.org/web:1"));
    };
    Some(unescaped(word)?)
        .filter(|name| !name.is_empty() && name.len() <= berth_units::limits::REFERENCE_BYTES)
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or_else(|| refused("this is no image's name"))
}

/// A value of a query, without its escapes.
pub(crate) fn unescaped(word: &str) -> Result<String, Refusal> {
    let refused = |why: &str| Refusal::new("bad-request", why);
    let mut text = Vec::new();
    let mut bytes = word.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        text.push(match byte {
            b'%' => match (hex(bytes.next()), hex(bytes.next())) {
                (Some(high), Some(low)) => u8::try_from(16 * high + low).unwrap_or_default(),
                _ => return Err(refused("a % in a parameter is not followed by two hex digits")),
            },
            other => other,
        });
    }
    String::from_utf8(text).map_err(|_| refused("a parameter is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_queries() {
        let name = |query: &str| name_in(query).map_err(|refusal| refusal.message);
        assert_eq!(name("image=example.org%2Fweb:1@sha256:12"), Ok("example.org/web:1@sha256:12".into()));
        for bad in ["", "image", "image=", "image=a&b=c", "image=%2", "image=%zz", "image=a%20b", "image=%ff"]
        {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert!(name(&format!("image={}", "a".repeat(5000))).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), "{").unwrap();
        assert_eq!(list(folder.path(), &[]), []);
        assert_eq!(list(&folder.path().join("none"), &[]), []);
    }
}
