//! Image references, compared as Docker does: `web` is `docker.io/library/web:latest`.

use crate::digest::Digest;
use berth_units::limits::REFERENCE_BYTES;

/// What a unit asks for.
#[derive(Debug, Clone)]
pub struct Reference {
    /// As written, without the pin.
    name: String,
    full: Full,
    /// The manifest must have this digest.
    pub pin: Option<Digest>,
}

/// A name with everything that may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Full {
    repository: String,
    tag: Option<String>,
}

impl Reference {
    /// Parses `name[:tag][@sha256:…]`; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > REFERENCE_BYTES {
            return Err(format!("the image's name has {} bytes; {REFERENCE_BYTES} is the most", text.len()));
        }
        let (name, pin) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                let pin = Digest::parse(digest).ok_or_else(|| {
                    format!("{digest:?} is not a digest; sha256: and 64 lower-case hex digits are expected")
                })?;
                (name, Some(pin))
            }
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("{text:?} is not an image's name"));
        }
        Ok(Self { name: name.to_owned(), full: Full::of(name), pin })
    }

    /// The registry's host as references name it (`docker.io`), and the repository in it.
    pub fn place(&self) -> (&str, &str) {
        self.full.repository.split_once('/').unwrap_or((&self.full.repository, ""))
    }

    /// The tag; `latest` when nothing is said, and `None` when the pin says it all.
    pub fn tag(&self) -> Option<&str> {
        self.full.tag.as_deref().or(if self.pin.is_some() { None } else { Some("latest") })
    }

    /// Whether both mean the same image, however they are written.
    pub fn is(&self, other: &Self) -> bool {
        self.full.repository == other.full.repository && self.tag() == other.tag() && self.pin == other.pin
    }

    /// Whether an image of this name is the one. A name that is pinned itself is so only for the same pin.
    pub fn names(&self, candidate: &str) -> bool {
        let candidate = match candidate.split_once('@') {
            None => candidate,
            Some((name, digest)) if self.pin.is_some() && Digest::parse(digest) == self.pin => name,
            Some(_) => return false,
        };
        if candidate == self.name {
            return true;
        }
        let theirs = Full::of(candidate);
        let tag = |full: &Full| full.tag.clone().unwrap_or_else(|| "latest".to_owned());
        theirs.repository == self.full.repository
            && (tag(&theirs) == tag(&self.full) || (self.full.tag.is_none() && self.pin.is_some()))
    }
}

impl Full {
    fn of(name: &str) -> Self {
        let path_at = name.rfind('/').map_or(0, |i| i + 1);
        let (repository, tag) = match name[path_at..].rfind(':') {
            Some(i) => (&name[..path_at + i], Some(name[path_at + i + 1..].to_owned())),
            None => (name, None),
        };
        let repository = match repository.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
                let host = if host == "index.docker.io" { "docker.io" } else { host };
                let official = host == "docker.io" && !rest.contains('/');
                if official { format!("{host}/library/{rest}") } else { format!("{host}/{rest}") }
            }
            Some(_) => format!("docker.io/{repository}"),
            None => format!("docker.io/library/{repository}"),
        };
        Self { repository, tag }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_full_names_are_one() {
        for (asked, there, same) in [
            ("web", "docker.io/library/web:latest", true),
            ("web:1", "docker.io/library/web:1", true),
            ("docker.io/web:1", "web:1", true),
            ("demo/web:1", "docker.io/demo/web:1", true),
            ("index.docker.io/demo/web:1", "demo/web:1", true),
            ("localhost/web:1", "web:1", false),
            ("localhost:5000/web", "localhost:5000/web:latest", true),
            ("web:1", "web:2", false),
            ("web", "web:1", false),
            ("registry.example/a:1", "registry.example/a:1", true),
            ("UPPER odd", "UPPER", false),
        ] {
            let same_now = Reference::parse(asked).is_ok_and(|r| r.names(there));
            assert_eq!(same_now, same, "{asked} {there}");
        }
    }

    #[test]
    fn a_pin_without_a_tag_takes_any_tag() {
        let pin = Digest::of(b"");
        let asked = Reference::parse(&format!("web@{pin}")).unwrap();
        assert!(asked.names("web:7") && asked.pin == Some(pin));
        assert!(!Reference::parse(&format!("web:1@{pin}")).unwrap().names("web:7"));
    }

    #[test]
    fn a_pinned_name_is_found_by_its_pin_alone() {
        let (pin, other) = (Digest::of(b""), Digest::of(b"other"));
        let asked = Reference::parse(&format!("web:1@{pin}")).unwrap();
        assert!(asked.names(&format!("docker.io/library/web:1@{pin}")));
        assert!(!asked.names(&format!("web:1@{other}")) && !asked.names(&format!("web:2@{pin}")));
        assert!(!Reference::parse("web:1").unwrap().names(&format!("web:1@{pin}")));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in
            ["", "@sha256:00", "web@sha256:zz", "web@md5:00", "a b", "a\n", &"x".repeat(REFERENCE_BYTES + 1)]
        {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }
}
