//! Operators' keys: OpenSSH public key lines, as every cloud injects them.
//!
//! `ssh-ed25519` and `ecdsa-sha2-nistp256` can prove themselves in a TLS 1.3 handshake; others are named with the
//! reason, so that nobody wonders why a key that works elsewhere does not work here.

use crate::limits;
use crate::spki::Spki;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashMap;

/// The key types that work, as OpenSSH spells them.
pub const USABLE: [&str; 2] = ["ssh-ed25519", "ecdsa-sha2-nistp256"];

/// One usable line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorKey {
    /// The key.
    pub spki: Spki,
    /// The comment behind it, most often `user@host`; may be empty.
    pub comment: String,
}

/// Why a line cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The line is empty or a comment
    #[error("there is no key on the line")]
    Empty,
    /// The line is longer than 8192 bytes
    #[error("the line is longer than {} bytes", limits::KEY_LINE_BYTES)]
    TooLong,
    /// Options stand before the key; ignoring `from=` or `restrict` would grant more than was meant
    #[error("options before the key (such as from=\"…\") are not supported; write the key alone")]
    Options,
    /// The type cannot sign a TLS 1.3 handshake here
    #[error(
        "{0} keys cannot be used, only ssh-ed25519 and ecdsa-sha2-nistp256; \"ssh-keygen -t ed25519\" or \"berth key new\" makes one"
    )]
    Type(String),
    /// The base64 part is damaged
    #[error("the key is damaged: {0}")]
    Damaged(&'static str),
}

/// Reads one line of an `authorized_keys` or `.pub` file.
pub fn parse_line(line: &str) -> Result<OperatorKey, KeyError> {
    if line.len() > limits::KEY_LINE_BYTES {
        return Err(KeyError::TooLong);
    }
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Err(KeyError::Empty);
    }
    let mut words = line.splitn(3, [' ', '\t']);
    let kind = words.next().unwrap_or_default();
    if !USABLE.contains(&kind) {
        return Err(if looks_like_a_type(kind) {
            KeyError::Type(kind.to_owned())
        } else {
            KeyError::Options
        });
    }
    let blob = words.next().ok_or(KeyError::Damaged("nothing follows its type"))?;
    let blob = STANDARD.decode(blob).map_err(|_| KeyError::Damaged("it is not base64"))?;
    let spki = parse_blob(kind, &blob)?;
    Ok(OperatorKey { spki, comment: words.next().unwrap_or_default().trim().to_owned() })
}

fn looks_like_a_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-", "rsa-", "webauthn-"].iter().any(|prefix| word.starts_with(prefix))
        && !word.contains(['=', ',', '"'])
}

/// RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4: length-prefixed strings.
fn parse_blob(kind: &str, blob: &[u8]) -> Result<Spki, KeyError> {
    let mut rest = blob;
    if take(&mut rest) != Some(kind.as_bytes()) {
        return Err(KeyError::Damaged("its type inside differs from the one written before it"));
    }
    let spki = if kind == "ssh-ed25519" {
        let key = take(&mut rest).and_then(|k| k.try_into().ok());
        Spki::ed25519(key.ok_or(KeyError::Damaged("an Ed25519 key has 32 bytes"))?)
    } else {
        if take(&mut rest) != Some(b"nistp256") {
            return Err(KeyError::Damaged("its curve is not nistp256"));
        }
        let point = take(&mut rest).and_then(|p| <&[u8; 65]>::try_from(p).ok()).filter(|p| p[0] == 4);
        Spki::p256(point.ok_or(KeyError::Damaged("a P-256 point has 65 bytes and starts with 4"))?)
    };
    if !rest.is_empty() {
        return Err(KeyError::Damaged("something follows the key"));
    }
    Ok(spki)
}

/// Takes one length-prefixed string off the front.
pub fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (taken, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(taken)
}

/// The line for a key: what goes into `[access] keys`. `None` for a type that OpenSSH would not know by us.
pub fn public_line(spki: &Spki, comment: &str) -> Option<String> {
    let (kind, blob) = public_blob(spki)?;
    let line = format!("{kind} {} {comment}", STANDARD.encode(blob));
    Some(line.trim_end().to_owned())
}

/// OpenSSH's name and binary form of a key.
pub fn public_blob(spki: &Spki) -> Option<(&'static str, Vec<u8>)> {
    let (kind, parts): (&'static str, Vec<&[u8]>) = if let Some(key) = spki.as_ed25519() {
        (USABLE[0], vec![USABLE[0].as_bytes(), key])
    } else {
        let point = spki.as_p256()?;
        (USABLE[1], vec![USABLE[1].as_bytes(), b"nistp256", point])
    };
    let mut blob = Vec::new();
    for part in parts {
        put(&mut blob, part);
    }
    Some((kind, blob))
}

/// Appends one length-prefixed string. All of ours are far below 4 GiB.
pub fn put(to: &mut Vec<u8>, part: &[u8]) {
    to.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(part);
}

/// Who may come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorised {
    keys: HashMap<Spki, String>,
    /// One sentence for each line that cannot be used.
    pub unusable: Vec<String>,
}

impl Authorised {
    /// From the lines that PID 1 sends. Empty lines and comments are passed over.
    pub fn from_lines<S: AsRef<str>>(lines: &[S]) -> Self {
        let mut all = Self::default();
        for (number, line) in lines.iter().enumerate().map(|(i, l)| (i + 1, l.as_ref())) {
            if all.keys.len() >= limits::KEYS {
                all.unusable.push(format!("keys after the first {} are not looked at", limits::KEYS));
                break;
            }
            match parse_line(line) {
                Ok(key) => {
                    all.keys.entry(key.spki).or_insert(key.comment);
                }
                Err(KeyError::Empty) => {}
                Err(error) => all.unusable.push(format!("key {number}{}: {error}", comment_of(line))),
            }
        }
        all
    }

    /// The comment of an authorised key.
    pub fn get(&self, key: &Spki) -> Option<&str> {
        self.keys.get(key).map(String::as_str)
    }

    /// Number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Nobody may come in.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// ` (me@laptop)`, for a message about a line that could not be parsed.
fn comment_of(line: &str) -> String {
    let comment: String =
        line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ").chars().take(60).collect();
    if comment.is_empty() { comment } else { format!(" ({comment})") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Made by ssh-keygen of OpenSSH 9.2.
    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICoSPr3kwfnEQbZvbmqLt/K2VlzByCVC8hrAXDEraZHE me@laptop";
    const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHk3Hrfmg3g9lj/9xrG4faZngIU4ekC93KOnTtt58WOXhKBerz2aKNx0YrOIqhuUwQ00i/ZRtU8z/Jfn6LKdWXw= me@laptop";
    const P384: &str = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBEBFOoynx8X1bWxToychXfqCb+LWydFqmn2AtEtlDNhlZEzy/n8a1YEG1BTvk9CUgP6kCTohOYWvKb9HlBedwDRcWXNWcfVyW5O0oIjhc34CTt+2rRpNjlwiQ2guSGLbdQ== me@laptop";
    const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCm8g+TsRom8FKBxhN4EFWV3id3vDiEwkD3Z9V7Dr9dqodZ419/sbIwu1efzuTxEQXu/3hHAm5PmTu2oBPGSeSbrx8wsOq/FjqFpgUHU/WUIpi9o6FCaJ2T9G6cqxzF1GmSo4kr59c4nE3INx+QEI541GjA5U1KUUr8y5PtRRkpa+5BKKKP5eJ2JDO9iFjTvq9sNN74TaBTiXdnD2/JdTB66gP8wmDwME7jVIwGSGITbUa1NT12Z6VBX2+X+JLRf95SgG7JytGK6oXsH2S+gnUy0Csy2Docl0wfsuTwwEHwpwwJOdHYK0yk5kqvenuz2NhDrsHu1BkihKbuWFKfUG2J me@laptop";

    #[test]
    fn reads_what_ssh_keygen_writes() {
        for line in [ED25519, P256] {
            let key = parse_line(line).unwrap();
            assert_eq!(key.comment, "me@laptop");
            assert_eq!(public_line(&key.spki, "me@laptop").unwrap(), line);
        }
    }

    #[test]
    fn names_what_it_cannot_use_and_why() {
        let lines =
            [RSA, "", "# old", ED25519, P384, "from=\"192.0.2.1\" ssh-ed25519 AAAA x", "ssh-ed25519 %%%"];
        let all = Authorised::from_lines(&lines);
        assert_eq!(all.len(), 1);
        let text = all.unusable.join("\n");
        let expected = "\
key 1 (me@laptop): ssh-rsa keys cannot be used, only ssh-ed25519 and ecdsa-sha2-nistp256; \"ssh-keygen -t ed25519\" or \"berth key new\" makes one
key 5 (me@laptop): ecdsa-sha2-nistp384 keys cannot be used, only ssh-ed25519 and ecdsa-sha2-nistp256; \"ssh-keygen -t ed25519\" or \"berth key new\" makes one
key 6 (AAAA x): options before the key (such as from=\"…\") are not supported; write the key alone
key 7: the key is damaged: it is not base64";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_type_that_lies_is_damage() {
        let lie = ED25519.replacen("ssh-ed25519", "ecdsa-sha2-nistp256", 1);
        assert!(matches!(parse_line(&lie), Err(KeyError::Damaged(_))));
        assert_eq!(parse_line(&"x".repeat(limits::KEY_LINE_BYTES + 1)), Err(KeyError::TooLong));
    }

    #[test]
    fn keys_are_capped() {
        let lines: Vec<String> = (0..=limits::KEYS)
            .map(|n| {
                let mut raw = [0; 32];
                raw[..8].copy_from_slice(&n.to_be_bytes());
                public_line(&Spki::ed25519(&raw), "").unwrap()
            })
            .collect();
        let all = Authorised::from_lines(&lines);
        assert_eq!(all.len(), limits::KEYS);
        assert_eq!(all.unusable.len(), 1);
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in ".{0,200}") {
            let _ = parse_line(&line);
        }

        #[test]
        fn any_blob_is_read_or_refused(blob in proptest::collection::vec(any::<u8>(), 0..120)) {
            for kind in USABLE {
                let _ = parse_line(&format!("{kind} {}", STANDARD.encode(&blob)));
            }
        }
    }
}
