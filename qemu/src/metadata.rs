//! A cloud's metadata service, played on this computer's loopback, and what makes a guest believe that it is there: the firmware's
//! words, and the service's address inside its network ([`Machine::in_cloud`](crate::machine::Machine::in_cloud)).

use anyhow::Result;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The clouds that are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon EC2, with IMDSv2 only.
    Ec2,
    /// Google Compute Engine.
    Gce,
}

impl Cloud {
    /// What the firmware says, as QEMU's `-smbios type=1` takes it.
    pub(crate) fn smbios(self) -> &'static str {
        match self {
            Self::Ec2 => "manufacturer=Amazon EC2,product=m7i.large",
            Self::Gce => "manufacturer=Google,product=Google Compute Engine,serial=GoogleCloud-0",
        }
    }
}

/// What the service says of an instance.
#[derive(Debug, Clone, Default)]
pub struct Instance {
    /// Its id: `i-…`, or a number.
    pub id: String,
    /// Its name.
    pub hostname: String,
    /// Operators' keys: a line each; with `USER:` before it for GCE.
    pub keys: Vec<String>,
    /// User data.
    pub user_data: Option<String>,
    /// Further attributes, of GCE.
    pub attributes: Vec<(String, String)>,
}

/// A service that runs as long as this program.
#[derive(Debug, Clone)]
pub struct Service {
    /// Which.
    pub cloud: Cloud,
    /// Its port on loopback.
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    instance: Instance,
    asked: Vec<String>,
    tokens: u32,
    busy: u32,
}

/// How long a client may take for its question.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a question.
const QUESTION: u64 = 16 * 1024;

impl Service {
    /// Starts one.
    pub fn start(cloud: Cloud, instance: Instance) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(Mutex::new(State { instance, ..State::default() }));
        let service = Self { cloud, port, state };
        let served = service.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let service = served.clone();
                // Who hangs up has no answer.
                thread::spawn(move || service.answer(stream));
            }
        });
        Ok(service)
    }

    /// It is another instance from now on.
    pub fn becomes(&self, instance: Instance) {
        self.state().instance = instance;
    }

    /// The next questions are answered with 503.
    pub fn is_busy_for(&self, questions: u32) {
        self.state().busy = questions;
    }

    /// Every question so far: `GET /latest/user-data`.
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head = Vec::new();
        let mut byte = [0];
        let mut from = (&stream).take(QUESTION);
        while !head.ends_with(b"\r\n\r\n") && from.read(&mut byte)? == 1 {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let header = |name: &str| {
            let value = head.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            });
            value.unwrap_or_default()
        };
        let (status, body) = {
            let mut state = self.state();
            state.asked.push(format!("{method} {path}"));
            if state.busy > 0 {
                state.busy -= 1;
                (503, String::new())
            } else {
                match self.cloud {
                    Cloud::Ec2 => state.ec2(method, path, &header("x-aws-ec2-metadata-token")),
                    Cloud::Gce => state.gce(method, path, &header("metadata-flavor")),
                }
            }
        };
        let flavor = if self.cloud == Cloud::Gce { "metadata-flavor: Google\r\n" } else { "" };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\n{flavor}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    }
}

impl State {
    fn ec2(&mut self, method: &str, path: &str, token: &str) -> (u16, String) {
        if (method, path) == ("PUT", "/latest/api/token") {
            self.tokens += 1;
            return (200, format!("token-{}", self.tokens));
        }
        if method != "GET" || token.is_empty() || token != format!("token-{}", self.tokens) {
            return (401, String::new());
        }
        let Instance { id, hostname, keys, user_data, .. } = &self.instance;
        let key = |path: &str| {
            let number = path.strip_prefix("public-keys/")?.strip_suffix("/openssh-key")?;
            keys.get(number.parse::<usize>().ok()?).cloned()
        };
        let found = match path.strip_prefix("/latest/meta-data/") {
            Some("instance-id") => Some(id.clone()),
            Some("local-hostname") => Some(hostname.clone()),
            Some("public-keys/") if !keys.is_empty() => {
                Some((0..keys.len()).map(|n| format!("{n}=key-{n}")).collect::<Vec<_>>().join("\n"))
            }
            Some(path) => key(path),
            None if path == "/latest/user-data" => user_data.clone(),
            None => None,
        };
        found.map_or((404, String::new()), |body| (200, body))
    }

    fn gce(&self, method: &str, path: &str, flavor: &str) -> (u16, String) {
        if method != "GET" || flavor != "Google" {
            return (403, String::new());
        }
        if path != "/computeMetadata/v1/?recursive=true&alt=json" {
            return (404, String::new());
        }
        let Instance { id, hostname, keys, user_data, attributes } = &self.instance;
        let mut all: serde_json::Map<String, serde_json::Value> =
            attributes.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        if !keys.is_empty() {
            all.insert("ssh-keys".into(), keys.join("\n").into());
        }
        if let Some(text) = user_data {
            all.insert("user-data".into(), text.as_str().into());
        }
        let id: u64 = id.parse().unwrap_or_default();
        let body = serde_json::json!({
            "instance": { "id": id, "hostname": hostname, "attributes": all },
            "project": { "attributes": {} },
        });
        (200, body.to_string())
    }
}
