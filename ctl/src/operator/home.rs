//! What `berth` keeps on an operator's computer: one key, and for each machine a named context.
//!
//! ```text
//! $BERTH_HOME, or $XDG_CONFIG_HOME/berth, or ~/.config/berth
//!   key, key.pub      made by "berth key new" (0600)
//!   contexts.toml     which machines there are, which key each of them showed
//! ```

use super::private::{PrivateKey, PrivateKeyError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Name or IP address.
    pub address: String,
    /// TCP port of its API.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The machine's pinned key, `sha256:<hex>`; absent until the first connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_key: Option<String>,
    /// A private key of its own, instead of `key` in the same folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

fn default_port() -> u16 {
    berth_units::control::API_PORT
}

/// `contexts.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// Name of the one that is used without `--on`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All of them.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// Why something of an operator's cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// No folder
    #[error("no place for keys and contexts: neither BERTH_HOME nor XDG_CONFIG_HOME nor HOME is set")]
    Nowhere,
    /// A file cannot be read or written
    #[error("{path}: {error}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// contexts.toml is not understood
    #[error("{path} is not understood:\n{error}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// With line and column.
        error: toml::de::Error,
    },
    /// contexts.toml cannot be written
    #[error("contexts not written: {0}")]
    Write(toml::ser::Error),
    /// No such context
    #[error("there is no context {name:?}{hint}; \"berth context list\" shows all")]
    Unknown {
        /// As given.
        name: String,
        /// `; did you mean "…"?`, or nothing.
        hint: String,
    },
    /// No context chosen
    #[error(
        "no machine chosen: use --on CONTEXT, or \"berth context use CONTEXT\"; \
         \"berth context add NAME ADDRESS\" makes the first one"
    )]
    NotChosen,
    /// A name that cannot be one
    #[error("{0:?} cannot be a context's name: letters, digits, \"-\", \"_\" and \".\", at most 63")]
    Name(String),
    /// No key yet
    #[error("there is no key yet at {0}; \"berth key new\" makes one, --key FILE uses another")]
    NoKey(PathBuf),
    /// The key cannot be used
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Home {
    path: PathBuf,
}

impl Home {
    /// In a given folder.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the environment says.
    pub fn from_env() -> Result<Self, HomeError> {
        let get = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        get("BERTH_HOME")
            .or_else(|| get("XDG_CONFIG_HOME").map(|p| p.join("berth")))
            .or_else(|| get("HOME").map(|p| p.join(".config/berth")))
            .map(Self::at)
            .ok_or(HomeError::Nowhere)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the key is.
    pub fn key_path(&self) -> PathBuf {
        self.path.join("key")
    }

    fn contexts_path(&self) -> PathBuf {
        self.path.join("contexts.toml")
    }

    fn make(&self) -> Result<(), HomeError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|error| HomeError::File { path: self.path.clone(), error })
    }

    /// Makes a key; there must be none.
    pub fn create_key(&self) -> Result<PrivateKey, HomeError> {
        self.make()?;
        Ok(PrivateKey::create(&self.key_path(), &comment())?)
    }

    /// The key, made if there is none.
    pub fn ensure_key(&self) -> Result<PrivateKey, HomeError> {
        match self.key() {
            Err(HomeError::NoKey(_)) => self.create_key(),
            other => other,
        }
    }

    /// The key.
    pub fn key(&self) -> Result<PrivateKey, HomeError> {
        let path = self.key_path();
        if !path.exists() {
            return Err(HomeError::NoKey(path));
        }
        Ok(PrivateKey::load(&path)?)
    }

    /// All contexts; none if there is no file.
    pub fn contexts(&self) -> Result<Contexts, HomeError> {
        let path = self.contexts_path();
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| HomeError::Syntax { path, error }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contexts::default()),
            Err(error) => Err(HomeError::File { path, error }),
        }
    }

    /// Replaces all contexts: beside, synced, then in place.
    pub fn write_contexts(&self, contexts: &Contexts) -> Result<(), HomeError> {
        self.make()?;
        let text = toml::to_string(contexts).map_err(HomeError::Write)?;
        let path = self.contexts_path();
        let beside = self.path.join(format!("contexts.toml.{}", std::process::id()));
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().map_err(|error| HomeError::File { path: path.clone(), error })
    }

    /// Adds or replaces one context. Without a fingerprint the first connection pins what it sees.
    pub fn write_context(
        &self,
        name: &str,
        host: &str,
        port: u16,
        fingerprint: Option<&str>,
        make_current: bool,
    ) -> Result<(), HomeError> {
        check_name(name)?;
        let mut all = self.contexts()?;
        let context = Context {
            address: host.to_owned(),
            port,
            machine_key: fingerprint.map(str::to_owned),
            key: None,
        };
        all.contexts.insert(name.to_owned(), context);
        if make_current {
            all.current = Some(name.to_owned());
        }
        self.write_contexts(&all)
    }

    /// Notes the key that a machine showed.
    pub fn pin(&self, name: &str, fingerprint: Option<&str>) -> Result<(), HomeError> {
        let mut all = self.contexts()?;
        all.get_mut(name)?.machine_key = fingerprint.map(str::to_owned);
        self.write_contexts(&all)
    }
}

impl Contexts {
    /// The named one, or else the current one, with its name.
    pub fn choose(&self, name: Option<&str>) -> Result<(&str, &Context), HomeError> {
        let name = name.or(self.current.as_deref()).ok_or(HomeError::NotChosen)?;
        self.contexts.get_key_value(name).map(|(n, c)| (n.as_str(), c)).ok_or_else(|| self.unknown(name))
    }

    /// One of them, to change it.
    pub fn get_mut(&mut self, name: &str) -> Result<&mut Context, HomeError> {
        let unknown = self.unknown(name);
        self.contexts.get_mut(name).ok_or(unknown)
    }

    /// The error for a name that is none.
    pub fn unknown(&self, name: &str) -> HomeError {
        let near = self.contexts.keys().find(|k| k.starts_with(name) || name.starts_with(k.as_str()));
        let hint = near.map(|k| format!("; did you mean {k:?}?")).unwrap_or_default();
        HomeError::Unknown { name: name.to_owned(), hint }
    }
}

/// Names go into TOML keys and on command lines.
pub fn check_name(name: &str) -> Result<(), HomeError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let fine = !name.is_empty() && name.len() <= 63 && name.chars().all(plain) && !name.starts_with('-');
    fine.then_some(()).ok_or_else(|| HomeError::Name(name.to_owned()))
}

/// `user@host`, as ssh-keygen does, from the environment.
fn comment() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "operator".into());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => user,
        host => format!("{user}@{host}"),
    }
}

/// The operator's folder.
pub fn home() -> Result<PathBuf, HomeError> {
    Home::from_env().map(|home| home.path)
}

/// The operator's key, made if there is none.
pub fn ensure_key() -> Result<PrivateKey, HomeError> {
    Home::from_env()?.ensure_key()
}

/// The line for `[access] keys`, of a key that is made if there is none.
pub fn public_key_line() -> Result<String, HomeError> {
    ensure_key().map(|key| key.public_line())
}

/// Adds or replaces a context, see [`Home::write_context`].
pub fn write_context(
    name: &str,
    host: &str,
    port: u16,
    fingerprint: Option<&str>,
    make_current: bool,
) -> Result<(), HomeError> {
    Home::from_env()?.write_context(name, host, port, fingerprint, make_current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("deep/berth"));
        assert_eq!(home.contexts().unwrap(), Contexts::default());
        home.write_context("dev", "127.0.0.1", 7443, Some("sha256:ab"), true).unwrap();
        home.write_context("node.1", "2001:db8::1", 99, None, false).unwrap();
        home.pin("node.1", Some("sha256:cd")).unwrap();
        let all = home.contexts().unwrap();
        assert_eq!(all.choose(None).unwrap().1.machine_key.as_deref(), Some("sha256:ab"));
        assert_eq!(all.choose(Some("node.1")).unwrap().1.machine_key.as_deref(), Some("sha256:cd"));
        let error = all.choose(Some("node")).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no context \"node\"; did you mean \"node.1\"?; \"berth context list\" shows all"
        );
    }

    #[test]
    fn mistakes_have_line_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        fs::write(home.contexts_path(), "[contexts.a]\naddress = \"x\"\nprot = 5\n").unwrap();
        let error = home.contexts().unwrap_err().to_string();
        assert!(error.contains("line 3, column 1") && error.contains("prot"), "{error}");
        assert!(home.write_context("../x", "h", 1, None, false).is_err());
    }

    #[test]
    fn the_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        assert!(matches!(home.key(), Err(HomeError::NoKey(_))));
        let first = home.ensure_key().unwrap().public_line();
        assert_eq!(home.ensure_key().unwrap().public_line(), first);
    }
}
