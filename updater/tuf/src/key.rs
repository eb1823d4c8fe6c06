//! Public keys: Ed25519, which Berth's own repositories use, and what the specification names besides (ECDSA on P-256,
//! RSA-PSS), so that any repository can be followed.

use crate::json::Value;
use crate::{limits, unhex};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{self, UnparsedPublicKey};

/// A public key. Equal when it is the same key, whatever it is called and however it was written down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Its 32 bytes.
    Ed25519([u8; 32]),
    /// The uncompressed point.
    P256([u8; 65]),
    /// PKCS#1's `RSAPublicKey`, 2,048 to 8,192 bits; used with PSS, SHA-256 and a salt as long.
    RsaPss(Vec<u8>),
    /// Of a kind that is not known here. It verifies nothing.
    Unknown,
}

/// Begin of every `SubjectPublicKeyInfo` (RFC 5480) of an uncompressed P-256 point.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// `rsaEncryption` (RFC 8017), with the null that goes with it.
const RSA_ALGORITHM: [u8; 13] =
    [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

impl Key {
    /// Reads a key object (§4.2). A kind that is not known is [`Key::Unknown`]; one that is known and broken, an error.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let text =
            |name: &str| value.get(name).and_then(Value::as_str).ok_or(format!("a key has no {name:?}"));
        let (kind, scheme) = (text("keytype")?, text("scheme")?);
        let public = value.get("keyval").and_then(|keyval| keyval.get("public")).and_then(Value::as_str);
        let public = public.ok_or("a key has no \"keyval\" with a \"public\"")?;
        let broken = || format!("a key of type {kind:?} that is not one");
        match (kind, scheme) {
            ("ed25519", "ed25519") => {
                let bytes = unhex(public).ok_or_else(broken)?;
                Ok(Self::Ed25519(bytes.try_into().map_err(|_| broken())?))
            }
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                let der = pem(public).ok_or_else(broken)?;
                let point = der.strip_prefix(&P256_SPKI).ok_or_else(broken)?;
                Ok(Self::P256(point.try_into().map_err(|_| broken())?))
            }
            ("rsa", "rsassa-pss-sha256") => {
                let der = pem(public).ok_or_else(broken)?;
                Ok(Self::RsaPss(rsa(&der).ok_or_else(broken)?.to_vec()))
            }
            _ => Ok(Self::Unknown),
        }
    }

    /// Whether the signature of these bytes is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verify = |how: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(how, key).verify(message, signature).is_ok()
        };
        match self {
            Self::Ed25519(key) => verify(&signature::ED25519, key),
            Self::P256(key) => verify(&signature::ECDSA_P256_SHA256_ASN1, key),
            Self::RsaPss(key) => verify(&signature::RSA_PSS_2048_8192_SHA256, key),
            Self::Unknown => false,
        }
    }
}

/// The content of a PEM file that holds one public key.
fn pem(text: &str) -> Option<Vec<u8>> {
    let inner =
        text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    let joined: String = inner.split_ascii_whitespace().collect();
    (joined.len() <= limits::RSA_BITS).then(|| STANDARD.decode(joined).ok())?
}

/// `RSAPublicKey` out of a `SubjectPublicKeyInfo`.
fn rsa(der: &[u8]) -> Option<&[u8]> {
    let (info, rest) = element(0x30, der)?;
    let (algorithm, info) = element(0x30, info)?;
    let (bits, end) = element(0x03, info)?;
    let fits = rest.is_empty() && end.is_empty() && algorithm == RSA_ALGORITHM;
    fits.then(|| bits.strip_prefix(&[0]))?
}

/// One DER element of a type: its content, and what follows.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, length, rest) = match der {
        [first, length @ ..=0x7f, rest @ ..] => (*first, usize::from(*length), rest),
        [first, 0x81, length @ 0x80..=0xff, rest @ ..] => (*first, usize::from(*length), rest),
        [first, 0x82, high @ 1..=0xff, low, rest @ ..] => {
            (*first, usize::from(*high) << 8 | usize::from(*low), rest)
        }
        _ => return None,
    };
    (first == tag).then(|| rest.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    fn object(kind: &str, scheme: &str, public: &str) -> Value {
        Value::from([
            ("keytype", kind.into()),
            ("scheme", scheme.into()),
            ("keyval", Value::from([("public", public.into())])),
        ])
    }

    /// `openssl ecparam -name prime256v1 -genkey`, and a signature by it.
    const P256: &str = include_str!("testdata/p256.pem");
    const P256_SIGNATURE: &str = include_str!("testdata/p256.sig");
    /// `openssl genrsa 2048`, and a PSS signature with a salt of 32 bytes.
    const RSA: &str = include_str!("testdata/rsa.pem");
    const RSA_SIGNATURE: &str = include_str!("testdata/rsa.sig");
    const MESSAGE: &[u8] = b"what was signed";

    #[test]
    fn ed25519() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = crate::hex(pair.public_key().as_ref());
        let key = Key::parse(&object("ed25519", "ed25519", &public)).unwrap();
        let signature = pair.sign(MESSAGE);
        assert!(key.verifies(MESSAGE, signature.as_ref()));
        assert!(!key.verifies(b"something else", signature.as_ref()));
        assert!(!key.verifies(MESSAGE, &[]));
        // The same key by another spelling is the same key.
        assert_eq!(Key::parse(&object("ed25519", "ed25519", &public.to_uppercase())).unwrap(), key);
        for broken in ["", "00", &public[2..], &format!("{public}00"), &public.replace(&public[..1], "g")] {
            assert!(Key::parse(&object("ed25519", "ed25519", broken)).is_err(), "{broken}");
        }
    }

    #[test]
    fn what_openssl_made() {
        for (kind, scheme, pem, signature) in [
            ("ecdsa", "ecdsa-sha2-nistp256", P256, P256_SIGNATURE),
            ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", P256, P256_SIGNATURE),
            ("rsa", "rsassa-pss-sha256", RSA, RSA_SIGNATURE),
        ] {
            let key = Key::parse(&object(kind, scheme, pem)).unwrap();
            let signature = unhex(signature.trim()).unwrap();
            assert!(key.verifies(MESSAGE, &signature), "{kind}");
            assert!(!key.verifies(b"something else", &signature), "{kind}");
            assert_eq!(Key::parse(&object(kind, scheme, &pem.replace('\n', "\r\n"))).unwrap(), key);
            let cut: String = pem.lines().filter(|line| !line.ends_with("==")).skip(1).collect();
            assert!(Key::parse(&object(kind, scheme, &cut)).is_err(), "{kind}");
        }
        assert!(Key::parse(&object("rsa", "rsassa-pss-sha256", P256)).is_err());
        assert!(Key::parse(&object("ecdsa", "ecdsa-sha2-nistp256", RSA)).is_err());
    }

    #[test]
    fn a_kind_that_is_not_known_verifies_nothing() {
        let key = Key::parse(&object("sphincs+", "shake", "00")).unwrap();
        assert_eq!(key, Key::Unknown);
        assert!(!key.verifies(MESSAGE, b""));
        assert!(Key::parse(&Value::Null).is_err());
    }
}
