//! Asks a machine: a blocking client with one method for each route, which returns what PID 1 said.
//!
//! Each request has its own connection. It passes through stages (reach, handshake, ask, read), and an error says in
//! which one it happened, on which machine, and what to do.

mod copy;
mod exec;
mod http;

use super::home::{Home, HomeError};
use super::pem;
use super::private::PrivateKey;
use berth_api::images::Image;
use berth_api::logs::Line;
use berth_api::routes::{Accepted, Version};
use berth_api::run::Begun;
use berth_api::stats::Stats;
use berth_units::config::edit::Edit;
use berth_units::control::{
    BootTimes, ConfigChange, ConfigReload, ConfigStatus, DiskStatus, Drive, ImageOrder, InstallStatus,
    JobStatus, Keep, MachineStatus, SlotsStatus, UnitDetail, UnitStatus, UpdateOrder, UpdateStatus,
    VolumeStatus,
};
use berth_units::generation::History;
use berth_units::model::InstallSettings;
pub use copy::{CopyError, InUnit, Report};
pub use exec::{Outcome, Streams};
use http::{Http, Lines};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// For a machine to find another config and keep it: it gives itself 10 s for the search, as long again for disks that
/// come late, and 30 s for a slow disk.
const RELOAD: Duration = Duration::from_secs(60);
/// Between two questions how far it is.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection
    #[error("{machine} not reached: {why}; is it up, and is its port open to you?")]
    Unreachable {
        /// Address and port.
        machine: String,
        /// Why.
        why: String,
    },
    /// It shows another key than the pinned one
    #[error(
        "{machine} IS NOT THE MACHINE IT WAS, so it was asked nothing.\n  pinned key  {pinned}\n  its key now {seen}\n\
         Either it was installed anew or lost its state, or something answers in its place. Compare with the key on \
         its console; if that is its key now, accept it with:\n  berth context pin {context} {seen}"
    )]
    MachineKey {
        /// Address and port.
        machine: String,
        /// Name of the context, for the way out.
        context: String,
        /// What was expected.
        pinned: String,
        /// What was shown.
        seen: String,
    },
    /// It does not know our key
    #[error(
        "{machine} turned this key away ({key}). Put its public line into [access] keys of the machine's config:\
         \n  {line}"
    )]
    KeyRefused {
        /// Address and port.
        machine: String,
        /// Our key's file.
        key: String,
        /// The line.
        line: String,
    },
    /// The handshake failed for another reason
    #[error("{machine} does not speak as a Berth does: {why}; is it the right address and port?")]
    NotBerth {
        /// Address and port.
        machine: String,
        /// Why.
        why: String,
    },
    /// Cut off
    #[error("the connection to {machine} broke: {why}")]
    Broken {
        /// Address and port.
        machine: String,
        /// Why.
        why: String,
    },
    /// It said no
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// `not-found`, `denied`, `bad-request`, `busy`, `failed`, `unavailable`.
        kind: String,
        /// In the machine's words.
        message: String,
    },
    /// An answer that is not understood
    #[error(
        "{machine} gave an answer that this berth does not understand ({why}); are their versions far apart?"
    )]
    Answer {
        /// Address and port.
        machine: String,
        /// Why.
        why: String,
    },
    /// Nothing could be tried
    #[error("no connection made: {0}")]
    Setup(String),
    /// Context or key
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl ClientError {
    /// A word for `--json`.
    pub fn kind(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::MachineKey { .. } => "machine-key",
            Self::KeyRefused { .. } => "key-refused",
            Self::NotBerth { .. } => "not-berth",
            Self::Broken { .. } => "broken",
            Self::Refused { kind, .. } => kind,
            Self::Answer { .. } => "answer",
            Self::Setup(_) => "failed",
            Self::Home(_) => "local",
        }
    }
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// Go on when what is there has been read.
    pub follow: bool,
    /// Then until the unit has ended.
    pub until_end: bool,
    /// Only so many lines of what is there.
    pub tail: Option<u64>,
}

/// One machine, with the operator's key.
#[derive(Debug)]
pub struct Client {
    http: Http,
}

impl Client {
    /// `context` is for messages; `pinned` is the machine's fingerprint, if it is known.
    pub fn new(
        context: &str,
        host: &str,
        port: u16,
        pinned: Option<&str>,
        key: &PrivateKey,
    ) -> Result<Self, ClientError> {
        Ok(Self { http: Http::new(context, host, port, pinned, key)? })
    }

    /// For a context (the current one without a name), with its key, or `key`, or the home's.
    pub fn for_context(home: &Home, name: Option<&str>, key: Option<&Path>) -> Result<Self, ClientError> {
        let all = home.contexts()?;
        let (name, context) = all.choose(name)?;
        let key = match key.or(context.key.as_deref()) {
            Some(path) => PrivateKey::load(path).map_err(HomeError::from)?,
            None => home.key()?,
        };
        let pinned = context.machine_key.as_deref();
        Ok(Self { http: Http::new(name, &context.address, context.port, pinned, &key)?.keeping() })
    }

    /// Name of the context.
    pub fn context(&self) -> &str {
        self.http.context()
    }

    /// Address and port, for messages.
    pub fn machine_address(&self) -> &str {
        self.http.machine()
    }

    /// Fingerprint of the key that the machine showed in the last handshake.
    pub fn machine_key(&self) -> Option<String> {
        self.http.machine_key()
    }

    /// The machine's certificate in PEM; it is asked, and carries the pinned key.
    pub fn machine_certificate(&self) -> Result<String, ClientError> {
        self.version()?;
        let der = self.http.machine_certificate();
        let der = der.ok_or_else(|| ClientError::Setup("the handshake left no certificate".into()))?;
        Ok(pem::encode("CERTIFICATE", &der))
    }

    /// `GET /v1/stats`.
    pub fn stats(&self) -> Result<Stats, ClientError> {
        self.get("/v1/stats")
    }

    /// `GET /v1/units`: system units too.
    pub fn units(&self) -> Result<Vec<UnitStatus>, ClientError> {
        self.get("/v1/units")
    }

    /// `GET /v1/units/NAME`.
    pub fn unit(&self, name: &str) -> Result<UnitDetail, ClientError> {
        self.get(&format!("/v1/units/{}", escape(name)))
    }

    /// `GET /v1/units/NAME/logs`.
    pub fn logs(&self, name: &str, options: LogOptions) -> Result<Logs, ClientError> {
        let mut path = format!("/v1/units/{}/logs?format=json", escape(name));
        if options.follow {
            path.push_str(if options.until_end { "&follow=end" } else { "&follow=1" });
        }
        if let Some(tail) = options.tail {
            path.push_str(&format!("&tail={tail}"));
        }
        Ok(Logs { lines: self.http.stream(&path)?, machine: self.http.machine().to_owned() })
    }

    /// `GET /v1/images`.
    pub fn images(&self) -> Result<Vec<Image>, ClientError> {
        self.get("/v1/images")
    }

    /// `POST /v1/images/pull`, `remove`, `prune`: the number of the job.
    pub fn order_image(&self, order: &ImageOrder) -> Result<u64, ClientError> {
        let path = match order {
            ImageOrder::Pull(image) => format!("/v1/images/pull?image={}", escape(image)),
            ImageOrder::Remove(image) => format!("/v1/images/remove?image={}", escape(image)),
            ImageOrder::Prune => "/v1/images/prune".to_owned(),
            // An empty one, which the machine refuses: `load` sends one.
            ImageOrder::Load => "/v1/images/load".to_owned(),
        };
        self.job_of(&self.post(&path)?)
    }

    /// `POST /v1/images/load`: sends an archive, and tells how many bytes are sent; the number of the job.
    pub fn load(&self, archive: Box<dyn Read + Send>, sent: &dyn Fn(u64)) -> Result<u64, ClientError> {
        let answer = self.http.send("/v1/images/load", archive, sent)?;
        self.job_of(&self.understand(&answer)?)
    }

    fn job_of(&self, accepted: &Accepted) -> Result<u64, ClientError> {
        accepted.job.ok_or_else(|| ClientError::Answer {
            machine: self.http.machine().to_owned(),
            why: "it has given the job no number".to_owned(),
        })
    }

    /// `GET /v1/update`.
    pub fn update_status(&self) -> Result<UpdateStatus, ClientError> {
        self.get("/v1/update")
    }

    /// `POST /v1/update/ORDER`.
    pub fn order_update(&self, order: UpdateOrder, again: bool) -> Result<Accepted, ClientError> {
        self.post(&format!("/v1/update/{order}{}", if again { "?again=true" } else { "" }))
    }

    /// `GET /v1/disks`.
    pub fn disks(&self) -> Result<Vec<DiskStatus>, ClientError> {
        self.get("/v1/disks")
    }

    /// `GET /v1/install`.
    pub fn install_status(&self) -> Result<InstallStatus, ClientError> {
        self.get("/v1/install")
    }

    /// `POST /v1/install`.
    pub fn install(&self, settings: &InstallSettings) -> Result<Accepted, ClientError> {
        self.post(&format!(
            "/v1/install?disk={}&min_size={}&erase={}&removable={}&then={}",
            escape(&settings.disk.as_ref().map_or("only".into(), ToString::to_string)),
            settings.min_size,
            settings.erase,
            settings.removable,
            settings.then.word()
        ))
    }

    /// `POST /v1/reset`; an empty config is none.
    pub fn reset(&self, keep: Keep, config: Vec<u8>) -> Result<Accepted, ClientError> {
        let text = Box::new(std::io::Cursor::new(config));
        self.understand(&self.http.send(&format!("/v1/reset?keep={}", keep.word()), text, &|_| ())?)
    }

    /// `GET /v1/jobs`.
    pub fn jobs(&self) -> Result<Vec<JobStatus>, ClientError> {
        self.get("/v1/jobs")
    }

    /// `GET /v1/boot-times`.
    pub fn boot_times(&self) -> Result<BootTimes, ClientError> {
        self.get("/v1/boot-times")
    }

    /// `GET /v1/slots`.
    pub fn slots(&self) -> Result<SlotsStatus, ClientError> {
        self.get("/v1/slots")
    }

    /// `GET /v1/config`.
    pub fn config_status(&self) -> Result<ConfigStatus, ClientError> {
        self.get("/v1/config")
    }

    /// `POST /v1/config/reload`, and what came of it, or how far it is after [`RELOAD`].
    pub fn config_reload(&self) -> Result<ConfigReload, ClientError> {
        let _: Accepted = self.post("/v1/config/reload")?;
        let deadline = Instant::now() + RELOAD;
        loop {
            let reload = self.config_status()?.reload.unwrap_or_default();
            if !matches!(reload.state.as_str(), "reading" | "keeping") || Instant::now() > deadline {
                return Ok(reload);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// `POST /v1/config/diff` or `apply`: what a config changes. Applied, it goes back after `confirm` unless
    /// [`Client::config_confirm`] follows. Returns before everything has changed; `sha256` of the status tells when.
    pub fn config_change(
        &self,
        text: Vec<u8>,
        confirm: Option<Duration>,
        only_look: bool,
    ) -> Result<ConfigChange, ClientError> {
        let word = if only_look { "diff" } else { "apply" };
        let query = confirm.map_or(String::new(), |time| format!("?confirm={}", time.as_secs()));
        let text = Box::new(std::io::Cursor::new(text));
        self.understand(&self.http.send(&format!("/v1/config/{word}{query}"), text, &|_| ())?)
    }

    /// `POST /v1/config/units/diff` or `units`: what comes of some units that become others; the same in all else.
    pub fn units_change(
        &self,
        edit: &Edit,
        confirm: Option<Duration>,
        only_look: bool,
    ) -> Result<ConfigChange, ClientError> {
        let word = if only_look { "units/diff" } else { "units" };
        let query = confirm.map_or(String::new(), |time| format!("?confirm={}", time.as_secs()));
        let text = serde_json::to_vec(edit).map_err(|error| ClientError::Setup(error.to_string()))?;
        let text = Box::new(std::io::Cursor::new(text));
        self.understand(&self.http.send(&format!("/v1/config/{word}{query}"), text, &|_| ())?)
    }

    /// `POST /v1/config/rollback/diff` or `rollback`: an earlier generation's config, or the one before; the same in all
    /// else.
    pub fn roll_back(
        &self,
        to: Option<u64>,
        confirm: Option<Duration>,
        only_look: bool,
    ) -> Result<ConfigChange, ClientError> {
        let word = if only_look { "rollback/diff" } else { "rollback" };
        let to = to.map(|number| format!("to={number}"));
        let confirm = confirm.map(|time| format!("confirm={}", time.as_secs()));
        let words: Vec<String> = to.into_iter().chain(confirm).collect();
        self.post(&format!("/v1/config/{word}{}{}", if words.is_empty() { "" } else { "?" }, words.join("&")))
    }

    /// `GET /v1/config/text`: the config in force, without its secrets.
    pub fn config_text(&self) -> Result<String, ClientError> {
        Ok(String::from_utf8_lossy(&self.http.whole("GET", "/v1/config/text")?).into_owned())
    }

    /// `GET /v1/volumes`.
    pub fn volumes(&self) -> Result<Vec<VolumeStatus>, ClientError> {
        self.get("/v1/volumes")
    }

    /// `GET /v1/volumes/NAME`: that one, with its size.
    pub fn volume(&self, name: &str) -> Result<Vec<VolumeStatus>, ClientError> {
        self.get(&format!("/v1/volumes/{}", escape(name)))
    }

    /// `POST /v1/volumes/NAME/remove`.
    pub fn remove_volume(&self, name: &str) -> Result<Accepted, ClientError> {
        self.post(&format!("/v1/volumes/{}/remove", escape(name)))
    }

    /// `GET /metrics`.
    pub fn metrics(&self) -> Result<String, ClientError> {
        Ok(String::from_utf8_lossy(&self.http.whole("GET", "/metrics")?).into_owned())
    }

    /// `POST /v1/run`: a transient unit, `file` being its unit file.
    pub fn run(&self, name: Option<&str>, file: String) -> Result<Begun, ClientError> {
        let query = name.map_or(String::new(), |name| format!("?name={}", escape(name)));
        let text = Box::new(std::io::Cursor::new(file.into_bytes()));
        self.understand(&self.http.send(&format!("/v1/run{query}"), text, &|_| ())?)
    }

    /// `POST /v1/units/NAME/remove`.
    pub fn remove(&self, unit: &str, force: bool) -> Result<Accepted, ClientError> {
        let query = if force { "?force=1" } else { "" };
        self.post(&format!("/v1/units/{}/remove{query}", escape(unit)))
    }

    /// `POST /v1/config/confirm`.
    pub fn config_confirm(&self) -> Result<Accepted, ClientError> {
        self.post("/v1/config/confirm")
    }

    /// `GET /v1/history`.
    pub fn history(&self) -> Result<History, ClientError> {
        self.get("/v1/history")
    }

    /// `GET /v1/machine`.
    pub fn machine(&self) -> Result<MachineStatus, ClientError> {
        self.get("/v1/machine")
    }

    /// `GET /v1/version`.
    pub fn version(&self) -> Result<Version, ClientError> {
        self.get("/v1/version")
    }

    /// `POST /v1/units/NAME/start`, `stop`, `restart`.
    pub fn drive(&self, unit: &str, order: Drive) -> Result<Accepted, ClientError> {
        self.post(&format!("/v1/units/{unit}/{order}"))
    }

    /// `POST /v1/reboot`.
    pub fn reboot(&self) -> Result<Accepted, ClientError> {
        self.post("/v1/reboot")
    }

    /// `POST /v1/poweroff`.
    pub fn poweroff(&self) -> Result<Accepted, ClientError> {
        self.post("/v1/poweroff")
    }

    /// `POST /v1/halt`.
    pub fn halt(&self) -> Result<Accepted, ClientError> {
        self.post("/v1/halt")
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.understand(&self.http.whole("GET", path)?)
    }

    fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.understand(&self.http.whole("POST", path)?)
    }

    fn understand<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| ClientError::Answer {
            machine: self.http.machine().to_owned(),
            why: error.to_string(),
        })
    }
}

/// The lines of a log, as they come.
#[derive(Debug)]
pub struct Logs {
    lines: Lines,
    machine: String,
}

impl Iterator for Logs {
    type Item = Result<Line, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return None,
            Err(error) => return Some(Err(error)),
        };
        Some(
            serde_json::from_slice(&line).map_err(|error| ClientError::Answer {
                machine: self.machine.clone(),
                why: error.to_string(),
            }),
        )
    }
}

/// `{"error":{"kind","message"}}`.
#[derive(Deserialize)]
struct Outer {
    error: Inner,
}

#[derive(Deserialize)]
struct Inner {
    kind: String,
    message: String,
}

/// The error in an answer that says no.
fn refusal(status: u16, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Outer>(body) {
        Ok(Outer { error }) => ClientError::Refused { status, kind: error.kind, message: error.message },
        Err(_) => ClientError::Refused {
            status,
            kind: "failed".into(),
            message: format!("the machine answers with HTTP status {status} and no reason"),
        },
    }
}

/// A word for a path. The machine refuses what is not a unit's name; here it only must not become another path.
fn escape(word: &str) -> String {
    word.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}
