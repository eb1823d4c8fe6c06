//! What a document is that a registry sent: an index or an image's manifest.

use crate::oci::{INDEX_TYPES, MANIFEST_TYPES};
use crate::show;
use serde_json::Value;

/// What a document of a registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Index,
    Manifest,
}

/// The media type of a document. Its content decides, for the digest vouches for that alone; what else is said of it
/// must not contradict, so that nobody reads it as something else.
pub fn media_type(bytes: &[u8], content_type: Option<&str>) -> Result<&'static str, String> {
    let sent = content_type.map_or_else(String::new, |t| format!(" (as {:?})", show::name(t.as_bytes())));
    let value: Value =
        serde_json::from_slice(bytes).map_err(|_| format!("something that is no manifest{sent}"))?;
    let kind = match (value.get("manifests"), value.get("config").or(value.get("layers"))) {
        (Some(_), None) => Kind::Index,
        (None, Some(_)) => Kind::Manifest,
        (Some(_), Some(_)) => return Err("a document that is an index and a manifest at once".to_owned()),
        (None, None) if value["schemaVersion"] == 1 => {
            return Err(
                "a manifest in Docker's first format, which holds no digests; push the image again with a newer tool"
                    .to_owned(),
            );
        }
        (None, None) => return Err(format!("something that is no manifest{sent}")),
    };
    let types = match kind {
        Kind::Index => INDEX_TYPES,
        Kind::Manifest => MANIFEST_TYPES,
    };
    let known = |text: &str| [INDEX_TYPES, MANIFEST_TYPES].concat().into_iter().find(|t| *t == text);
    let inside = value["mediaType"].as_str();
    let claims = [("calls itself", inside), ("is sent as", content_type.filter(|t| known(t).is_some()))];
    let mut found = types[0];
    for (how, claim) in claims.into_iter().rev() {
        let Some(claim) = claim else { continue };
        let Some(own) = types.iter().find(|t| **t == claim) else {
            return Err(format!(
                "a document that {how} {:?} and is {}",
                show::name(claim.as_bytes()),
                if kind == Kind::Index { "an index" } else { "an image's manifest" }
            ));
        };
        found = own;
    }
    Ok(found)
}
