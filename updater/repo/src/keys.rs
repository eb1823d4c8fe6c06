//! Secret keys: Ed25519 in PKCS#8 and PEM, one a file, as `openssl genpkey -algorithm ed25519` makes them too.

use crate::error::RepoError;
use crate::limits;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_tuf::hex;
use berth_tuf::json::Value;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// What stands before the 32 bytes of a key (RFC 8410, version 1).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A secret key. It has no text in debug prints.
pub struct SecretKey {
    pair: Ed25519KeyPair,
    path: PathBuf,
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "SecretKey({})", self.path.display())
    }
}

impl SecretKey {
    /// Makes a key and writes it to a new file, which only its owner can read.
    pub fn create(path: &Path) -> Result<Self, RepoError> {
        let wrong = |why: &str| RepoError::Key { path: path.to_owned(), why: why.to_owned() };
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| wrong("the system gave no random bytes"))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| wrong("it could not be made"))?;
        let text = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode([&PKCS8[..], &seed].concat()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = file.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => RepoError::Exists { path: path.to_owned() },
            _ => RepoError::File { path: path.to_owned(), error },
        })?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(RepoError::file(path))?;
        Ok(Self { pair, path: path.to_owned() })
    }

    /// Reads a key file, which nobody else may be able to read.
    pub fn load(path: &Path) -> Result<Self, RepoError> {
        let file = fs::File::open(path).map_err(RepoError::file(path))?;
        let mode = file.metadata().map_err(RepoError::file(path))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(RepoError::Exposed { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(limits::KEY_BYTES).read_to_string(&mut text).map_err(RepoError::file(path))?;
        let wrong = || RepoError::Key {
            path: path.to_owned(),
            why: "it is no Ed25519 key in PKCS#8 and PEM (\"berth repo init\" makes such keys)".to_owned(),
        };
        let inner =
            text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or_else(wrong)?;
        let joined: String = inner.split_ascii_whitespace().collect();
        let der = STANDARD.decode(joined).map_err(|_| wrong())?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| wrong())?;
        Ok(Self { pair, path: path.to_owned() })
    }

    /// The file that it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public half as metadata has it.
    pub fn public(&self) -> Value {
        let public: Value = hex(self.pair.public_key().as_ref()).into();
        Value::from([
            ("keytype", "ed25519".into()),
            ("scheme", "ed25519".into()),
            ("keyval", Value::from([("public", public)])),
        ])
    }

    /// What metadata calls it: the SHA-256 of its public half.
    pub fn id(&self) -> String {
        hex(digest(&SHA256, &self.public().canonical()).as_ref())
    }

    /// Its signature, in hexadecimal.
    pub fn sign(&self, message: &[u8]) -> String {
        hex(self.pair.sign(message).as_ref())
    }
}

/// The keys at hand.
#[derive(Debug, Default)]
pub struct Keys(Vec<SecretKey>);

impl Keys {
    /// Reads files, and all `*.key` of folders.
    pub fn load(paths: &[PathBuf]) -> Result<Self, RepoError> {
        let mut keys = Vec::new();
        for path in paths {
            if !path.is_dir() {
                keys.push(SecretKey::load(path)?);
                continue;
            }
            let mut files = Vec::new();
            for entry in fs::read_dir(path).map_err(RepoError::file(path))? {
                let file = entry.map_err(RepoError::file(path))?.path();
                if file.extension().is_some_and(|ending| ending == "key") {
                    files.push(file);
                }
            }
            if files.is_empty() || files.len() > limits::KEY_FILES {
                let why = format!("a folder with {} files \"*.key\"", files.len());
                return Err(RepoError::Key { path: path.clone(), why });
            }
            files.sort();
            for file in files {
                keys.push(SecretKey::load(&file)?);
            }
        }
        Ok(Self(keys))
    }

    /// These keys.
    pub fn of(keys: Vec<SecretKey>) -> Self {
        Self(keys)
    }

    /// One more.
    pub fn with(mut self, key: SecretKey) -> Self {
        self.0.push(key);
        self
    }

    /// The key of an id.
    pub fn get(&self, id: &str) -> Option<&SecretKey> {
        self.0.iter().find(|key| key.id() == id)
    }
}

/// Makes the folder of keys, for its owner alone; the one above must be there.
pub(crate) fn make_folder(path: &Path) -> Result<(), RepoError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(RepoError::file(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root-1.key");
        let key = SecretKey::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SecretKey::load(&path).unwrap().id(), key.id());
        let before = fs::read(&path).unwrap();
        assert!(matches!(SecretKey::create(&path), Err(RepoError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
        let seed = STANDARD.encode(&before);
        assert!(!format!("{key:?}").contains(&seed) && format!("{key:?}").ends_with("root-1.key)"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = SecretKey::load(&path).unwrap_err().to_string();
        assert!(error.contains("can be read by others (mode 640)"), "{error}");
    }

    #[test]
    fn what_openssl_makes_is_read() {
        // `openssl genpkey -algorithm ed25519`
        let text = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let write = |text: &str| {
            let _ = fs::remove_file(&path);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        write(text);
        let public = SecretKey::load(&path).unwrap().public();
        // The key of RFC 8032's first test.
        let expected = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(
            public.get("keyval").and_then(|keyval| keyval.get("public")).unwrap().as_str(),
            Some(expected)
        );
        for broken in
            ["", "x", &text.replace("MC4C", "MC4D"), &text.replace("PRIVATE", "PUBLIC"), &text[..70]]
        {
            write(broken);
            let error = SecretKey::load(&path).unwrap_err().to_string();
            assert!(error.contains("is no Ed25519 key"), "{error}");
        }
    }
}
