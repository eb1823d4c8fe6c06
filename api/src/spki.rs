//! A bare public key: the `SubjectPublicKeyInfo` of RFC 5280, the only part of a certificate that counts here.

use crate::limits;
use sha2::{Digest, Sha256};
use std::fmt;

/// DER of a `SubjectPublicKeyInfo`. Two keys are the same when their bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spki(Vec<u8>);

/// Up to the key's own bytes: RFC 8410 section 4, `id-Ed25519`.
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Up to the point: RFC 5480 section 2, `id-ecPublicKey` with `secp256r1`.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a certificate has no key for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The peer's certificate has more than 8192 bytes
    #[error("the certificate has more than {} bytes", limits::CERTIFICATE_BYTES)]
    TooLarge,
    /// The certificate is not DER of an X.509 certificate
    #[error("the certificate is not DER of an X.509 certificate")]
    Malformed,
}

impl Spki {
    /// From an Ed25519 public key.
    pub fn ed25519(key: &[u8; 32]) -> Self {
        Self([ED25519, key].concat())
    }

    /// From an uncompressed point on P-256 (`04 || x || y`). Whether it lies on the curve is found out when a
    /// signature is checked with it.
    pub fn p256(point: &[u8; 65]) -> Self {
        Self([P256, point].concat())
    }

    /// The key inside an X.509 certificate. Walks to it and looks at nothing else, so that a certificate that a
    /// stricter parser would refuse (version 1, unknown critical extensions, absurd dates) still carries its key.
    pub fn of_certificate(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > limits::CERTIFICATE_BYTES {
            return Err(CertificateError::TooLarge);
        }
        walk(der).map(|whole| Self(whole.to_vec())).ok_or(CertificateError::Malformed)
    }

    /// From the DER itself, of a key of another kind.
    pub(crate) fn of_parts(der: Vec<u8>) -> Self {
        Self(der)
    }

    /// The DER.
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// `sha256:<hex>`: what is pinned, and shown on the console.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(&self.0);
        digest.iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
    }

    /// The Ed25519 key, if it is one.
    pub fn as_ed25519(&self) -> Option<&[u8; 32]> {
        self.0.strip_prefix(ED25519)?.try_into().ok()
    }

    /// The P-256 point, if it is one.
    pub fn as_p256(&self) -> Option<&[u8; 65]> {
        self.0.strip_prefix(P256)?.try_into().ok()
    }
}

impl fmt::Display for Spki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;

/// Certificate → tbsCertificate → past version, serialNumber, signature, issuer, validity, subject → the key.
fn walk(der: &[u8]) -> Option<&[u8]> {
    let certificate = Element::first(der)?.expect(SEQUENCE)?;
    let mut rest = Element::first(certificate.content)?.expect(SEQUENCE)?.content;
    let first = Element::first(rest)?;
    if first.tag == VERSION {
        rest = first.rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        rest = Element::first(rest)?.expect(tag)?.rest;
    }
    Some(Element::first(rest)?.expect(SEQUENCE)?.whole)
}

/// One element of DER.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn first(input: &'a [u8]) -> Option<Self> {
        let (&tag, after) = input.split_first()?;
        let (&first, after) = after.split_first()?;
        let (length, content) = match first {
            0..=0x7f => (usize::from(first), after),
            // A certificate of at most 8 KiB needs no more than two bytes of length.
            0x81 => (usize::from(*after.first()?), after.get(1..)?),
            0x82 => (usize::from(u16::from_be_bytes([*after.first()?, *after.get(1)?])), after.get(2..)?),
            _ => return None,
        };
        let rest = content.get(length..)?;
        Some(Self { tag, content: &content[..length], whole: &input[..input.len() - rest.len()], rest })
    }

    fn expect(self, tag: u8) -> Option<Self> {
        (self.tag == tag).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> (rcgen::KeyPair, Vec<u8>) {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let der = rcgen::CertificateParams::new(vec!["x".into()]).unwrap().self_signed(&key).unwrap();
        (key, der.der().to_vec())
    }

    #[test]
    fn finds_the_key_that_made_the_certificate() {
        use rcgen::PublicKeyData;
        for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256] {
            let (key, der) = certificate(algorithm);
            let spki = Spki::of_certificate(&der).unwrap();
            assert_eq!(spki.as_der(), key.subject_public_key_info());
        }
    }

    #[test]
    fn builds_the_same_bytes_as_others_do() {
        let (key, der) = certificate(&rcgen::PKCS_ED25519);
        let raw: [u8; 32] = key.public_key_raw().try_into().unwrap();
        assert_eq!(Spki::ed25519(&raw), Spki::of_certificate(&der).unwrap());
        assert_eq!(Spki::ed25519(&raw).as_ed25519(), Some(&raw));

        let (key, der) = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        let raw: [u8; 65] = key.public_key_raw().try_into().unwrap();
        assert_eq!(Spki::p256(&raw), Spki::of_certificate(&der).unwrap());
        assert_eq!(Spki::p256(&raw).as_p256(), Some(&raw));
        assert_eq!(Spki::p256(&raw).as_ed25519(), None);
    }

    #[test]
    fn the_fingerprint_is_of_the_der() {
        // printf '302a300506032b6570032100%064d' 0 | xxd -r -p | sha256sum
        assert_eq!(
            Spki::ed25519(&[0; 32]).fingerprint(),
            "sha256:722abd12e99a5367f375aeb9672a8e07712e03c2add16fa8d6914d1cfa2efe0c"
        );
    }

    #[test]
    fn too_large_and_cut_certificates_are_refused() {
        let (_, der) = certificate(&rcgen::PKCS_ED25519);
        assert_eq!(
            Spki::of_certificate(&vec![0x30; limits::CERTIFICATE_BYTES + 1]),
            Err(CertificateError::TooLarge)
        );
        for cut in 0..der.len() {
            assert_eq!(Spki::of_certificate(&der[..cut]), Err(CertificateError::Malformed), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_never_more_than_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Spki::of_certificate(&bytes);
        }

        #[test]
        fn a_damaged_certificate_is_never_more_than_an_error(at in 0usize..300, to in any::<u8>()) {
            let (_, mut der) = certificate(&rcgen::PKCS_ED25519);
            let at = at % der.len();
            der[at] = to;
            let _ = Spki::of_certificate(&der);
        }
    }
}
