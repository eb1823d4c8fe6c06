//! Operators' private keys, from and to the files that people have: OpenSSH's own format and PKCS#8 in PEM.
//! Encrypted files and ssh-agent are not supported yet, and are named as such.

use super::pem;
use berth_api::identity::{Identity, IdentityError};
use berth_api::keys::{self, put, take};
use berth_api::spki::Spki;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes of a key file; a 16,384-bit RSA key, which is then refused by name, has about 13,000.
const FILE_BYTES: u64 = 64 * 1024;

/// A private key and where it came from.
#[derive(Debug)]
pub struct PrivateKey {
    identity: Identity,
    /// Comment of the public line, most often `user@host`.
    pub comment: String,
    /// The file.
    pub path: PathBuf,
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateKeyError {
    /// The file cannot be read or written
    #[error("key {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others may read it
    #[error("key {path} can be read by others (mode {mode:03o}); run \"chmod 600 {path}\"")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It has a passphrase
    #[error(
        "key {path} has a passphrase, and neither passphrases nor ssh-agent are supported yet; \
         make a key for Berth with \"berth key new\""
    )]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// It is no key of ours
    #[error("key {path} cannot be used: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// There is one already
    #[error("{path} exists already; \"berth key show\" prints its public half")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl PrivateKey {
    /// Makes an Ed25519 key and writes it to `path` (0600) in OpenSSH's format, its public half to `path.pub`.
    pub fn create(path: &Path, comment: &str) -> Result<Self, PrivateKeyError> {
        let identity = Identity::generate_ed25519()?;
        let key = Self { identity, comment: comment.to_owned(), path: path.to_owned() };
        let text = key.to_openssh()?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => PrivateKeyError::Exists { path: path.to_owned() },
            _ => PrivateKeyError::File { path: path.to_owned(), error },
        };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        let public = path.with_extension("pub");
        fs::write(&public, key.public_line() + "\n")
            .map_err(|error| PrivateKeyError::File { path: public, error })?;
        Ok(key)
    }

    /// Reads a key file, which nobody else may be able to read.
    pub fn load(path: &Path) -> Result<Self, PrivateKeyError> {
        let failed = |error| PrivateKeyError::File { path: path.to_owned(), error };
        let file = fs::File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(PrivateKeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text, path)
    }

    /// Reads the text of a key file; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PrivateKeyError> {
        let unusable = |why: &str| PrivateKeyError::Unusable { path: path.to_owned(), why: why.to_owned() };
        let (label, der) = pem::decode(text).ok_or_else(|| unusable("it holds no PEM block"))?;
        let (pkcs8, comment) = match label.as_str() {
            "PRIVATE KEY" => (der, String::new()),
            "OPENSSH PRIVATE KEY" => from_openssh(&der).map_err(|error| match error {
                OpenSsh::Encrypted => PrivateKeyError::Encrypted { path: path.to_owned() },
                OpenSsh::Type(kind) => unusable(&keys::KeyError::Type(kind).to_string()),
                OpenSsh::Damaged => unusable("it is damaged"),
            })?,
            "ENCRYPTED PRIVATE KEY" => return Err(PrivateKeyError::Encrypted { path: path.to_owned() }),
            other => {
                return Err(unusable(&format!(
                    "it is a {other:?}; an OpenSSH key or PKCS#8 (\"PRIVATE KEY\") is needed, of type ed25519 or \
                     P-256; \"ssh-keygen -p -f FILE\" rewrites a key in OpenSSH's format"
                )));
            }
        };
        let identity = Identity::from_pkcs8(&pkcs8).map_err(|error| unusable(&error.to_string()))?;
        Ok(Self { identity, comment, path: path.to_owned() })
    }

    /// The key itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its public half.
    pub fn spki(&self) -> Spki {
        self.identity.spki()
    }

    /// The line for `[access] keys`.
    pub fn public_line(&self) -> String {
        // An identity is always of one of the two types that have a line.
        keys::public_line(&self.spki(), &self.comment).unwrap_or_default()
    }

    /// Certificate and key in PEM: what `curl --cert` wants.
    pub fn to_cert_pem(&self) -> Result<String, PrivateKeyError> {
        let name = if self.comment.is_empty() { "operator" } else { &self.comment };
        let certificate = self.identity.certificate(name)?;
        let key = match self.seed() {
            // OpenSSL reads only the first version of PKCS#8, without the public key at its end.
            Some(seed) => ed25519_pkcs8(&seed),
            None => self.identity.pkcs8().to_vec(),
        };
        Ok(pem::encode("CERTIFICATE", &certificate) + &pem::encode("PRIVATE KEY", &key))
    }

    fn seed(&self) -> Option<[u8; 32]> {
        self.spki().as_ed25519()?;
        // Both versions of PKCS#8 begin alike, but for the outer length and the version.
        self.identity.pkcs8().get(ED25519_PKCS8.len()..)?.first_chunk::<32>().copied()
    }

    /// PROTOCOL.key of OpenSSH: `openssh-key-v1`, unencrypted.
    fn to_openssh(&self) -> Result<String, PrivateKeyError> {
        let spki = self.spki();
        let (Some(seed), Some(public), Some((kind, blob))) =
            (self.seed(), spki.as_ed25519(), keys::public_blob(&spki))
        else {
            let why = "only Ed25519 keys are written".to_owned();
            return Err(PrivateKeyError::Unusable { path: self.path.clone(), why });
        };
        let mut inner = Vec::new();
        // Twice the same number, by which OpenSSH tells a wrong passphrase; there is none here.
        inner.extend_from_slice(&[0; 8]);
        put(&mut inner, kind.as_bytes());
        put(&mut inner, public);
        put(&mut inner, &[seed, *public].concat());
        put(&mut inner, self.comment.as_bytes());
        for pad in 1..=u8::MAX {
            if inner.len() % 8 == 0 {
                break;
            }
            inner.push(pad);
        }
        let mut outer = OPENSSH_MAGIC.to_vec();
        for part in [b"none".as_slice(), b"none", b""] {
            put(&mut outer, part);
        }
        outer.extend_from_slice(&1u32.to_be_bytes());
        put(&mut outer, &blob);
        put(&mut outer, &inner);
        Ok(pem::encode("OPENSSH PRIVATE KEY", &outer))
    }
}

const OPENSSH_MAGIC: &[u8] = b"openssh-key-v1\0";

enum OpenSsh {
    Encrypted,
    Type(String),
    Damaged,
}

/// The key in PKCS#8, and its comment.
fn from_openssh(bytes: &[u8]) -> Result<(Vec<u8>, String), OpenSsh> {
    let mut rest = bytes.strip_prefix(OPENSSH_MAGIC).ok_or(OpenSsh::Damaged)?;
    let cipher = take(&mut rest).ok_or(OpenSsh::Damaged)?;
    if cipher != b"none" {
        return Err(OpenSsh::Encrypted);
    }
    let inner = (|| {
        let (_kdf, _options) = (take(&mut rest)?, take(&mut rest)?);
        rest = rest.strip_prefix(&1u32.to_be_bytes())?;
        let _public = take(&mut rest)?;
        take(&mut rest)
    })();
    let mut inner = inner.and_then(|i| i.get(8..)).ok_or(OpenSsh::Damaged)?;
    let kind = take(&mut inner).map(String::from_utf8_lossy).ok_or(OpenSsh::Damaged)?;
    let key = match kind.as_ref() {
        "ssh-ed25519" => openssh_ed25519(&mut inner),
        "ecdsa-sha2-nistp256" => openssh_p256(&mut inner),
        other => return Err(OpenSsh::Type(other.to_owned())),
    };
    let key = key.ok_or(OpenSsh::Damaged)?;
    let comment = take(&mut inner).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
    Ok((key, comment))
}

fn openssh_ed25519(inner: &mut &[u8]) -> Option<Vec<u8>> {
    let _public = take(inner)?;
    Some(ed25519_pkcs8(take(inner)?.first_chunk()?))
}

fn openssh_p256(inner: &mut &[u8]) -> Option<Vec<u8>> {
    if take(inner)? != b"nistp256" {
        return None;
    }
    let point: &[u8; 65] = take(inner)?.try_into().ok()?;
    // An SSH mpint: no leading zeros but one where the first bit is set.
    let number = take(inner)?;
    let digits = &number[number.iter().take_while(|&&b| b == 0).count()..];
    let mut scalar = [0; 32];
    let start = scalar.len().checked_sub(digits.len())?;
    scalar[start..].copy_from_slice(digits);
    Some(p256_pkcs8(&scalar, point))
}

/// RFC 8410 section 7, up to the seed.
const ED25519_PKCS8: &[u8] =
    &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

fn ed25519_pkcs8(seed: &[u8; 32]) -> Vec<u8> {
    [ED25519_PKCS8, seed].concat()
}

/// RFC 5208 around RFC 5915: `prime256v1`, version 1, the scalar, `[1]` the point.
fn p256_pkcs8(scalar: &[u8; 32], point: &[u8; 65]) -> Vec<u8> {
    const HEAD: &[u8] = &[
        0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
        0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01,
        0x04, 0x20,
    ];
    [HEAD, scalar, &[0xa1, 0x44, 0x03, 0x42, 0x00], point].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> (String, String) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys");
        let private = fs::read_to_string(folder.join(name)).unwrap();
        let public = fs::read_to_string(folder.join(format!("{name}.pub"))).unwrap_or_default();
        (private, public.trim().to_owned())
    }

    fn error(name: &str) -> String {
        PrivateKey::parse(&fixture(name).0, Path::new("k")).unwrap_err().to_string()
    }

    #[test]
    fn reads_what_openssh_and_openssl_write() {
        for name in ["ed25519", "p256", "p256-short"] {
            let (private, public) = fixture(name);
            let key = PrivateKey::parse(&private, Path::new("k")).unwrap();
            assert_eq!(key.public_line(), public, "{name}");
        }
        // The same keys, by "openssl pkcs8 -topk8 -nocrypt" and "openssl genpkey".
        for (pkcs8, openssh) in [("p256.pkcs8", "p256"), ("ed25519.pkcs8", "ed25519")] {
            let a = PrivateKey::parse(&fixture(pkcs8).0, Path::new("k")).unwrap();
            let b = PrivateKey::parse(&fixture(openssh).0, Path::new("k")).unwrap();
            assert_eq!(a.spki(), b.spki());
        }
    }

    #[test]
    fn names_what_it_cannot_use() {
        assert!(error("encrypted").contains("has a passphrase"));
        assert!(error("encrypted.pkcs8").contains("has a passphrase"));
        assert!(error("rsa").contains("ssh-rsa keys cannot be used"));
        assert!(error("p256.sec1").contains("EC PRIVATE KEY"));
        let bad = PrivateKey::parse("hello", Path::new("k")).unwrap_err().to_string();
        assert_eq!(bad, "key k cannot be used: it holds no PEM block");
    }

    #[test]
    fn every_cut_and_flip_of_an_openssh_key_is_survived() {
        let (_, der) = pem::decode(&fixture("p256").0).unwrap();
        for at in 0..der.len() {
            let _ = from_openssh(&der[..at]);
            let mut flipped = der.clone();
            flipped[at] ^= 0xff;
            let _ = from_openssh(&flipped);
        }
    }

    #[test]
    fn a_new_key_is_read_back_and_is_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = PrivateKey::create(&path, "me@here").unwrap();
        let read = PrivateKey::load(&path).unwrap();
        assert_eq!(made.public_line(), read.public_line());
        assert!(read.public_line().ends_with(" me@here"));
        assert_eq!(fs::read_to_string(folder.path().join("key.pub")).unwrap().trim(), made.public_line());
        assert!(matches!(PrivateKey::create(&path, ""), Err(PrivateKeyError::Exists { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(PrivateKey::load(&path), Err(PrivateKeyError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn the_exported_certificate_holds_the_same_key() {
        for name in ["ed25519", "p256"] {
            let key = PrivateKey::parse(&fixture(name).0, Path::new("k")).unwrap();
            let text = key.to_cert_pem().unwrap();
            let (label, der) = pem::decode(&text).unwrap();
            assert_eq!(label, "CERTIFICATE");
            assert_eq!(Spki::of_certificate(&der).unwrap(), key.spki());
            let rest = text.split_once("-----END CERTIFICATE-----\n").unwrap().1;
            assert_eq!(PrivateKey::parse(rest, Path::new("k")).unwrap().spki(), key.spki());
        }
    }
}
