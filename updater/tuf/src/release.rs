//! What a channel of a Berth repository says: the release that a machine should have. The format is in
//! `docs/decisions.md` ("An update repository, and what a release says").

use crate::client::Client;
use crate::error::Error;
use crate::fetch::Fetch;
use crate::json::Value;
use crate::state::Disk;
use crate::target::Target;
use crate::{limits, unhex};

/// The product of this repository's images.
pub const PRODUCT: &str = "berth";
/// The architecture of today's images, in the Discoverable Partitions Specification's words.
pub const ARCHITECTURE: &str = "x86-64";
/// The channel that machines follow unless told otherwise.
pub const CHANNEL: &str = "stable";
/// File names of a release's parts, in a repository and in what a build leaves.
pub const UKI: &str = "berth.efi";
/// See [`UKI`].
pub const ROOT: &str = "root.erofs";
/// See [`UKI`].
pub const VERITY: &str = "root.verity";
/// The file in which a build says what the three beside it are: product, version, architecture, built, root_hash.
pub const FACTS: &str = "release.json";

/// A release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// What it is.
    pub product: String,
    /// Its version, at most [`limits::VERSION_BYTES`] of letters, digits, `.`, `_`, `+`, `~` and `-`.
    pub version: String,
    /// For which machines.
    pub architecture: String,
    /// When it was built, seconds since 1970.
    pub built: u64,
    /// Root hash of its verity tree.
    pub root_hash: [u8; 32],
}

/// A release that a repository offers, with its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it says.
    pub release: Release,
    /// The UKI.
    pub uki: Target,
    /// Data of the root partition.
    pub root: Target,
    /// Data of the verity partition.
    pub verity: Target,
}

/// The target that names a channel's release.
pub fn channel_target(architecture: &str, channel: &str) -> String {
    format!("{architecture}/{channel}.json")
}

/// Whether this can be a version, an architecture or a channel: one part of a path that says nothing else.
pub fn is_word(text: &str) -> bool {
    let taken = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte);
    !text.is_empty()
        && text.len() <= limits::VERSION_BYTES
        && text.bytes().all(taken)
        && !text.starts_with('.')
}

impl Release {
    /// The name of one of its parts in the repository.
    pub fn part(&self, file: &str) -> String {
        format!("{}/{}/{file}", self.architecture, self.version)
    }

    /// As custom data of a channel.
    pub fn to_value(&self) -> Value {
        Value::from([
            ("format", 1.into()),
            ("product", self.product.as_str().into()),
            ("version", self.version.as_str().into()),
            ("architecture", self.architecture.as_str().into()),
            ("built", self.built.into()),
            ("root_hash", crate::hex(&self.root_hash).into()),
            ("uki", self.part(UKI).into()),
            ("root", self.part(ROOT).into()),
            ("verity", self.part(VERITY).into()),
        ])
    }

    /// Reads custom data of a channel.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let text = |name: &str| {
            value.get(name).and_then(Value::as_str).ok_or_else(|| format!("the release has no text {name:?}"))
        };
        if value.get("format").and_then(Value::as_u64) != Some(1) {
            return Err("the release is not of format 1, the only one known here".to_owned());
        }
        let hash = unhex(text("root_hash")?).and_then(|bytes| bytes.try_into().ok());
        let release = Self {
            product: text("product")?.to_owned(),
            version: text("version")?.to_owned(),
            architecture: text("architecture")?.to_owned(),
            built: value.get("built").and_then(Value::as_u64).ok_or("the release has no number \"built\"")?,
            root_hash: hash.ok_or("the release's root hash is none")?,
        };
        for word in [&release.version, &release.architecture] {
            if !is_word(word) {
                return Err(format!("the release calls itself {word:?}"));
            }
        }
        for (name, file) in [("uki", UKI), ("root", ROOT), ("verity", VERITY)] {
            if text(name)? != release.part(file) {
                return Err(format!("the release's {name} is not {:?}", release.part(file)));
            }
        }
        Ok(release)
    }
}

impl<D: Disk> Client<D> {
    /// The release that a channel names for an architecture; none when the repository has no such channel. Refused when
    /// it is another product's, or for other machines.
    pub fn offer(
        &mut self,
        fetch: &mut dyn Fetch,
        architecture: &str,
        channel: &str,
    ) -> Result<Option<Offer>, Error> {
        let name = channel_target(architecture, channel);
        let wrong = |why: String| Error::Malformed { file: name.clone(), why };
        let Some(target) = self.target(fetch, &name)? else { return Ok(None) };
        let custom = target.custom.as_ref().ok_or_else(|| wrong("has no custom data".to_owned()))?;
        let release = Release::parse(custom).map_err(wrong)?;
        if release.product != PRODUCT {
            return Err(wrong(format!("is a release of {:?}, not of {PRODUCT:?}", release.product)));
        }
        if release.architecture != architecture {
            return Err(wrong(format!(
                "is for {}, and this machine is {architecture}",
                release.architecture
            )));
        }
        let mut part = |file: &str| {
            let part = self.target(fetch, &release.part(file))?;
            let same = part.filter(|part| part.role == target.role);
            same.ok_or_else(|| wrong(format!("{} is not offered by {:?}", release.part(file), target.role)))
        };
        let (uki, root, verity) = (part(UKI)?, part(ROOT)?, part(VERITY)?);
        Ok(Some(Offer { release, uki, root, verity }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release() -> Release {
        Release {
            product: PRODUCT.into(),
            version: "1.2.3-rc1".into(),
            architecture: ARCHITECTURE.into(),
            built: 1_795_910_400,
            root_hash: [0xab; 32],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(Release::parse(&release().to_value()).unwrap(), release());
    }

    #[test]
    fn what_is_refused() {
        let changed = |name: &str, value: Value| {
            let Value::Object(mut members) = release().to_value() else { panic!() };
            members.insert(name.to_owned(), value);
            Release::parse(&Value::Object(members)).expect_err(name)
        };
        assert!(changed("format", 2.into()).contains("not of format 1"));
        assert!(changed("version", "../1".into()).contains("calls itself"));
        assert!(changed("version", "1234567890123456".into()).contains("calls itself"));
        assert!(changed("architecture", "".into()).contains("calls itself"));
        assert!(changed("root_hash", "00".into()).contains("root hash"));
        // Parts of another version, or of another machine's release.
        assert!(changed("root", "x86-64/0.9/root.erofs".into()).contains("the release's root is not"));
        assert!(changed("uki", "arm64/1.2.3-rc1/berth.efi".into()).contains("the release's uki is not"));
        assert!(changed("built", Value::Null).contains("built"));
    }
}
