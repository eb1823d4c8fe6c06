//! The machine's key: P-256 (browsers take no Ed25519), made once, kept in the unit's data folder, pinned by
//! operators. Of the certificate around it only the key counts here; it is made once all the same, because programs that know
//! certificates only as wholes (Prometheus, anything in Go) recognise it by its bytes.

use crate::limits;
use crate::spki::Spki;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The key's file in the data folder: PKCS#8 DER, mode 0600.
pub const KEY_FILE: &str = "machine-key";

/// The certificate's file beside it: DER.
pub const CERTIFICATE_FILE: &str = "machine-certificate";
/// The name in every machine's certificate, so that one setting serves for all of them.
pub const NAME: &str = "berth";

/// A private key that can make certificates.
#[derive(Debug)]
pub struct Identity {
    key: KeyPair,
}

/// What can be wrong with a private key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key cannot be made
    #[error("no key made: {0}")]
    Make(rcgen::Error),
    /// The bytes are not a PKCS#8 key of a kind that is used here
    #[error("not an Ed25519 or P-256 key in PKCS#8: {0}")]
    Parse(rcgen::Error),
    /// A certificate cannot be made
    #[error("no certificate made: {0}")]
    Certificate(rcgen::Error),
}

impl Identity {
    /// A new P-256 key.
    pub fn generate() -> Result<Self, IdentityError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(|key| Self { key }).map_err(IdentityError::Make)
    }

    /// A new Ed25519 key: what an operator's is, unless it was made elsewhere.
    pub fn generate_ed25519() -> Result<Self, IdentityError> {
        KeyPair::generate_for(&PKCS_ED25519).map(|key| Self { key }).map_err(IdentityError::Make)
    }

    /// From PKCS#8, Ed25519 or P-256.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, IdentityError> {
        let der = PrivatePkcs8KeyDer::from(der);
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)
            .or_else(|_| KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256))
            .map(|key| Self { key })
            .map_err(IdentityError::Parse)
    }

    /// PKCS#8 DER.
    pub fn pkcs8(&self) -> &[u8] {
        self.key.serialized_der()
    }

    /// Its public half.
    pub fn spki(&self) -> Spki {
        // What rcgen writes for these two algorithms is exactly what `Spki` builds; a test holds it to that.
        let raw = self.key.public_key_raw();
        match (<&[u8; 32]>::try_from(raw), <&[u8; 65]>::try_from(raw)) {
            (Ok(key), _) => Spki::ed25519(key),
            (_, Ok(point)) => Spki::p256(point),
            _ => Spki::of_parts(self.key.subject_public_key_info()),
        }
    }

    /// A self-signed certificate that carries the key. `name` is for people who look at it.
    pub fn certificate(&self, name: &str) -> Result<CertificateDer<'static>, IdentityError> {
        let mut params = match CertificateParams::new(vec![name.to_owned()]) {
            Ok(params) if !name.is_empty() => params,
            // Not a DNS name: only the common name then.
            _ => CertificateParams::new(Vec::new()).map_err(IdentityError::Certificate)?,
        };
        params.distinguished_name.push(DnType::CommonName, if name.is_empty() { NAME } else { name });
        let certificate = params.self_signed(&self.key).map_err(IdentityError::Certificate)?;
        Ok(certificate.der().clone())
    }
}

/// The machine's key from `folder`, made if there is none. The second value is what an operator should know: a
/// machine with a fresh key can still be reached and asked, one without an API cannot, so nothing here is fatal
/// but the lack of randomness.
pub fn load_or_make(folder: &Path) -> Result<(Identity, Option<String>), IdentityError> {
    let path = folder.join(KEY_FILE);
    let why = match read(&path) {
        Ok(bytes) => match Identity::from_pkcs8(&bytes) {
            Ok(identity) => return Ok((identity, None)),
            Err(error) => Some(format!("{}: {error}", path.display())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("{}: {error}", path.display())),
    };
    let identity = Identity::generate()?;
    let why = why.map(|why| format!("the machine has a new key, because the old one cannot be used ({why})"));
    let note = match write(folder, &path, identity.pkcs8()) {
        Ok(()) => why,
        Err(error) => Some(format!(
            "{}; it lasts until the next boot, because it cannot be kept in {} ({error})",
            why.as_deref().unwrap_or("the machine has a new key"),
            folder.display()
        )),
    };
    Ok((identity, note))
}

/// The machine's certificate from `folder`, made if there is none for this key. One that cannot be kept lasts until
/// the next start; whoever cares for its bytes then has to fetch it again.
pub fn certificate_in(folder: &Path, identity: &Identity) -> Result<CertificateDer<'static>, IdentityError> {
    let path = folder.join(CERTIFICATE_FILE);
    if let Ok(bytes) = read(&path) {
        let kept = CertificateDer::from(bytes);
        if Spki::of_certificate(&kept).is_ok_and(|key| key == identity.spki()) {
            return Ok(kept);
        }
    }
    let made = identity.certificate(NAME)?;
    if let Err(error) = write(folder, &path, &made) {
        eprintln!("the machine's certificate is not kept in {}: {error}", folder.display());
    }
    Ok(made)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limits::MACHINE_KEY_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Beside, synced, then in place: a power cut leaves no key or a whole one.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (first, note) = load_or_make(folder.path()).unwrap();
        assert_eq!(note, None);
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (second, note) = load_or_make(folder.path()).unwrap();
        assert_eq!(note, None);
        assert_eq!(first.spki(), second.spki());
        assert!(first.spki().as_p256().is_some());
    }

    #[test]
    fn the_certificate_is_made_once_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let first = certificate_in(folder.path(), &identity).unwrap();
        assert_eq!(certificate_in(folder.path(), &identity).unwrap(), first);
        let second = certificate_in(folder.path(), &other).unwrap();
        assert_eq!(Spki::of_certificate(&second).unwrap(), other.spki());
        fs::write(folder.path().join(CERTIFICATE_FILE), b"rubbish").unwrap();
        let third = certificate_in(folder.path(), &other).unwrap();
        assert_eq!(certificate_in(folder.path(), &other).unwrap(), third);
        certificate_in(Path::new("/proc/no-such-folder"), &other).unwrap();
    }

    #[test]
    fn a_cut_write_is_repeated_and_a_damaged_key_replaced_loudly() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("machine-key.new"), b"half").unwrap();
        let (first, _) = load_or_make(folder.path()).unwrap();
        fs::write(folder.path().join(KEY_FILE), b"rubbish").unwrap();
        let (second, note) = load_or_make(folder.path()).unwrap();
        assert_ne!(first.spki(), second.spki());
        assert!(note.unwrap().contains("the machine has a new key, because the old one cannot be used"));
        assert_eq!(load_or_make(folder.path()).unwrap().0.spki(), second.spki());
    }

    #[test]
    fn without_a_place_to_keep_it_there_is_still_a_key() {
        let (_, note) = load_or_make(Path::new("/proc/no-such-folder")).unwrap();
        assert!(note.unwrap().contains("lasts until the next boot"));
    }

    #[test]
    fn the_certificate_carries_the_key_whatever_the_name() {
        let identity = Identity::generate().unwrap();
        for name in ["", "web1", "web1.example.org", "ünï côdé", "not a name"] {
            let der = identity.certificate(name).unwrap();
            assert_eq!(Spki::of_certificate(&der).unwrap(), identity.spki(), "{name}");
        }
        let again = Identity::from_pkcs8(identity.pkcs8()).unwrap();
        assert_eq!(again.spki(), identity.spki());
    }
}
