//! Where a reference leads: which host, which repository, which manifest.

use super::error::Error;
use crate::digest::Digest;
use crate::reference::Reference;
use reqwest::Url;

/// A repository in a registry, and what is wanted of it.
#[derive(Debug)]
pub struct Place {
    /// As references and settings call it: `docker.io`.
    pub host: String,
    /// Path of the repository.
    pub repository: String,
    /// What the registry is asked for: the digest where there is one, else the tag.
    pub wanted: String,
    /// The manifest, or the index above it, must have this digest.
    pub pin: Option<Digest>,
    base: Url,
}

impl Place {
    /// Where `reference` leads; `plain` says whether a host speaks HTTP without TLS.
    pub fn of(reference: &Reference, plain: impl Fn(&str) -> bool) -> Result<Self, Error> {
        let (host, repository) = reference.place();
        let refused = |what: &str| Error::Reference(what.to_owned());
        let sound = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let part = |part: &str| !part.is_empty() && !part.starts_with('.') && sound(part);
        if !repository.split('/').all(part) {
            return Err(refused("the repository's name may hold letters, digits and . _ - / only"));
        }
        let wanted = match (reference.pin, reference.tag()) {
            (Some(pin), _) => pin.to_string(),
            (None, Some(tag)) if part(tag) && tag.len() <= 128 => tag.to_owned(),
            _ => return Err(refused("the tag may hold letters, digits and . _ - only, 128 at most")),
        };
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
        // Where Docker's own registry really is.
        let there = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let scheme = if plain(host) { "http" } else { "https" };
        let base = Some(format!("{scheme}://{there}/v2/{repository}/"))
            .filter(|_| host.bytes().all(is_host))
            .and_then(|url| Url::parse(&url).ok())
            .ok_or_else(|| refused("the registry's name is not a host, with a port or without"))?;
        Ok(Self {
            host: host.to_owned(),
            repository: repository.to_owned(),
            wanted,
            pin: reference.pin,
            base,
        })
    }

    /// `manifests/latest`, `blobs/sha256:…` of it.
    pub fn url(&self, what: &str) -> Result<Url, Error> {
        let text = format!("{}{what}", self.base);
        Url::parse(&text).map_err(|e| Error::Reference(format!("{text}: {e}")))
    }

    /// What a token must be good for.
    pub fn scope(&self) -> String {
        format!("repository:{}:pull", self.repository)
    }
}

/// A URL's host as settings name it: with the port, if it is not the scheme's own.
pub fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None if host == "registry-1.docker.io" => "docker.io".to_owned(),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_to_urls() {
        let digest = Digest::of(b"");
        for (reference, url) in [
            ("web", "https://registry-1.docker.io/v2/library/web/manifests/latest".to_owned()),
            ("demo/web:2", "https://registry-1.docker.io/v2/demo/web/manifests/2".to_owned()),
            ("example.org/a/b:1", "https://example.org/v2/a/b/manifests/1".to_owned()),
            ("plain:5000/a", "http://plain:5000/v2/a/manifests/latest".to_owned()),
            ("localhost:5000/a", "https://localhost:5000/v2/a/manifests/latest".to_owned()),
            ("[::1]:5000/a:b", "https://[::1]:5000/v2/a/manifests/b".to_owned()),
            (&format!("example.org/a:1@{digest}"), format!("https://example.org/v2/a/manifests/{digest}")),
        ] {
            let place = Place::of(&Reference::parse(reference).unwrap(), |h| h == "plain:5000").unwrap();
            let found = place.url(&format!("manifests/{}", place.wanted)).unwrap();
            assert_eq!(found.as_str(), url);
        }
        for bad in [
            "example.org/../a",
            "example.org/a//b",
            "example.org/a?b",
            "a:b:c",
            "ex%2e.org/a",
            "a.b@c/d",
            "example.org/",
        ] {
            let refused =
                Reference::parse(bad).map_err(Error::Reference).and_then(|r| Place::of(&r, |_| false));
            assert!(refused.is_err(), "{bad}: {refused:?}");
        }
    }
}
