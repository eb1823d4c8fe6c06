//! A registry on loopback that does what a test tells it to: each request goes to a function, each answer can lie
//! about its length, drip, or break off.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Said instead of the body's length.
    pub length: Option<u64>,
    /// The connection ends after so many bytes of the body.
    pub cut: Option<usize>,
    /// One byte of the body each so often.
    pub drip: Option<Duration>,
    /// Nothing at all is answered until the other side is tired of it.
    pub silent: bool,
}

impl Answer {
    pub fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// The registry; it lives as long as the test's process.
pub struct Mock {
    /// `127.0.0.1:port`, or `localhost:port` with TLS.
    pub host: String,
    /// PEM of the authority behind its certificate.
    pub ca: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

type Tls = Arc<rustls::ServerConfig>;

impl Mock {
    /// Without TLS.
    pub fn plain(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(None, String::new(), "127.0.0.1", answer)
    }

    /// With TLS, for the name `localhost`.
    pub fn tls(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self::start(Some(Arc::new(config)), pem(made.cert.der()), "localhost", answer)
    }

    fn start(
        tls: Option<Tls>,
        ca: String,
        name: &str,
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("{name}:{}", listener.local_addr().unwrap().port());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer, tls) = (Arc::clone(&log), Arc::clone(&answer), tls.clone());
                std::thread::spawn(move || {
                    // A client that gives up is what many tests are about.
                    let _ = match tls {
                        None => talk(stream, &log, &*answer),
                        Some(config) => {
                            let connection = rustls::ServerConnection::new(config).unwrap();
                            talk(rustls::StreamOwned::new(connection, stream), &log, &*answer)
                        }
                    };
                });
            }
        });
        Self { host, ca, seen }
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests there were whose path contains this.
    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }
}

fn talk(
    stream: impl Read + Write,
    log: &Mutex<Vec<Seen>>,
    answer: &dyn Fn(&Seen) -> Answer,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = || -> std::io::Result<String> {
        let mut text = String::new();
        stream.read_line(&mut text)?;
        Ok(text.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut headers = BTreeMap::new();
    loop {
        let text = line()?;
        let Some((name, value)) = text.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = String::new();
    Read::take(&mut stream, length).read_to_string(&mut body)?;
    let seen = Seen { method, path, headers, body };
    log.lock().unwrap().push(seen.clone());
    let reply = answer(&seen);
    let stream = stream.get_mut();
    if reply.silent {
        return stream.read(&mut [0; 64]).map(drop);
    }
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    let length = reply.length.unwrap_or(reply.body.len() as u64);
    if length != u64::MAX {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    match reply.drip {
        None => stream.write_all(body)?,
        Some(pause) => {
            for byte in body {
                stream.write_all(&[*byte])?;
                stream.flush()?;
                std::thread::sleep(pause);
            }
        }
    }
    stream.flush()
}

/// A repository: what lies in an OCI layout, served as `name`.
#[derive(Clone)]
pub struct Repository {
    name: String,
    tags: BTreeMap<String, String>,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Repository {
    /// Of a layout's files; the first entry of its index gets the tag.
    pub fn new(name: &str, tag: &str, layout: Vec<(String, Vec<u8>)>) -> Self {
        let mut repository = Self { name: name.to_owned(), tags: BTreeMap::new(), blobs: BTreeMap::new() };
        for (path, bytes) in layout {
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                repository.blobs.insert(format!("sha256:{hex}"), bytes);
            } else if path == "index.json" {
                let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
                repository.tags.insert(tag.to_owned(), digest);
            }
        }
        repository
    }

    /// Digest under a tag.
    pub fn tag(&self, tag: &str) -> String {
        self.tags[tag].clone()
    }

    /// Puts something under its digest, which is returned.
    pub fn add(&mut self, bytes: &[u8]) -> String {
        let digest = berth_digest(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// Moves a tag.
    pub fn set_tag(&mut self, tag: &str, digest: &str) {
        self.tags.insert(tag.to_owned(), digest.to_owned());
    }

    /// A blob's bytes.
    pub fn blob(&self, digest: &str) -> Vec<u8> {
        self.blobs[digest].clone()
    }

    /// Digests and sizes of the layers of the image under a tag.
    pub fn layers(&self, tag: &str) -> Vec<(String, usize)> {
        let manifest: serde_json::Value = serde_json::from_slice(&self.blobs[&self.tags[tag]]).unwrap();
        let digest = |layer: &serde_json::Value| layer["digest"].as_str().unwrap().to_owned();
        let layers = manifest["layers"].as_array().unwrap();
        layers.iter().map(digest).map(|d| (d.clone(), self.blobs[&d].len())).collect()
    }

    /// What a registry that behaves answers.
    pub fn answer(&self, seen: &Seen) -> Answer {
        let none = Answer::of(404, r#"{"errors":[{"code":"UNKNOWN","message":"not known here"}]}"#);
        let Some(path) = seen.path.strip_prefix(&format!("/v2/{}/", self.name)) else { return none };
        let Some((kind, wanted)) = path.split_once('/') else { return none };
        let digest = self.tags.get(wanted).map_or(wanted, String::as_str);
        let Some(bytes) = self.blobs.get(digest) else { return none };
        if kind == "manifests" {
            let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
            let media_type =
                document["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
            return Answer::of(200, bytes.clone()).header("Content-Type", media_type);
        }
        let from =
            seen.header("range").strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')?.parse().ok());
        match from {
            None => Answer::of(200, bytes.clone()),
            Some(from) if from < bytes.len() => Answer::of(206, &bytes[from..])
                .header("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
            Some(_) => Answer::of(416, ""),
        }
    }
}

fn berth_digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
