//! OpenSSH public key lines: which can be used, and why others cannot.

use crate::diag::quote;

/// The key types with which an operator can come in, and the bytes of their key blobs (RFC 8709, RFC 5656).
const USABLE: [(&str, usize); 2] = [("ssh-ed25519", 51), ("ecdsa-sha2-nistp256", 104)];

/// Types that exist and cannot be used.
const OTHERS: [(&str, &str); 7] = [
    ("ssh-rsa", "TLS 1.3 and ssh-agent have no signature in common for it"),
    ("ssh-dss", "it is broken"),
    ("ecdsa-sha2-nistp384", "only nistp256 is taken"),
    ("ecdsa-sha2-nistp521", "only nistp256 is taken"),
    ("sk-ssh-ed25519@openssh.com", "a security key signs no TLS handshake"),
    ("sk-ecdsa-sha2-nistp256@openssh.com", "a security key signs no TLS handshake"),
    ("-----BEGIN", "this is a file, not a line; if it is a private key, it is not secret any more"),
];

/// Why a line of OpenSSH's cannot be an access key. It names its type, and shows nothing else of it.
pub fn check(line: &str) -> Result<(), String> {
    if line.chars().any(char::is_control) {
        return Err("has a line break or control character".into());
    }
    let mut words = line.split_ascii_whitespace();
    let (kind, blob) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if let Some((_, why)) = OTHERS.iter().find(|(other, _)| *other == kind) {
        return Err(format!("is of type {}, which cannot be used: {why}", quote(kind)));
    }
    let Some((_, length)) = USABLE.iter().find(|(usable, _)| *usable == kind) else {
        return Err(format!("is of type {}, which cannot be used", quote(kind)));
    };
    let bytes = decode(blob).ok_or_else(|| "is not base64 after its type".to_owned())?;
    let named = bytes.get(4..).is_some_and(|rest| rest.starts_with(kind.as_bytes()));
    if bytes.len() != *length || !named {
        return Err("is damaged or cut short".into());
    }
    Ok(())
}

/// Standard base64 with padding (RFC 4648 §4).
fn decode(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if text.is_empty() || !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(body.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in body.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
        bits &= 0xff;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ssh-keygen -t ed25519` and `-t ecdsa`.
    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC operator@laptop";
    const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBELZauvDfhpN3brsSalJsRr1kbkMxNplNLmh/6tNDrKaeF8LHJCOLAsudEt8iKibsBP0FNWKBh2MuOvkSxK1UE8= operator@laptop";

    #[test]
    fn keys_that_can_be_used() {
        assert_eq!(check(ED25519), Ok(()));
        assert_eq!(check(P256), Ok(()));
        assert_eq!(check(ED25519.rsplit_once(' ').unwrap().0), Ok(()));
    }

    #[test]
    fn keys_that_cannot() {
        for (line, why) in [
            ("", "is of type \"\", which cannot be used"),
            ("ssh-ed25519", "is not base64 after its type"),
            ("ssh-ed25519 AAAA", "is damaged or cut short"),
            ("ssh-ed25519 AAAA*AAA", "is not base64 after its type"),
            (
                "ssh-rsa AAAA",
                "is of type \"ssh-rsa\", which cannot be used: TLS 1.3 and ssh-agent have no signature in common for it",
            ),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----",
                "is of type \"-----BEGIN\", which cannot be used: this is a file, not a line; if it is a private key, it is not secret any more",
            ),
        ] {
            assert_eq!(check(line).unwrap_err(), why);
        }
        assert!(check(&ED25519.replace("ssh-ed25519 ", "ecdsa-sha2-nistp256 ")).is_err());
    }

    #[test]
    fn base64() {
        assert_eq!(decode("TWFu").unwrap(), b"Man");
        assert_eq!(decode("TWE=").unwrap(), b"Ma");
        assert_eq!(decode("TQ==").unwrap(), b"M");
        assert_eq!(decode("TQ="), None);
        assert_eq!(decode("===="), None);
    }
}
