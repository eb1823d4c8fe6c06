//! One request on one connection: HTTP/1.1 over TLS, blocking.

use super::super::upload::Sent;
use super::{ClientError, refusal};
use crate::operator::private::PrivateKey;
use crate::operator::tls::{self, PinCheck};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use std::error::Error as StdError;
use std::future::Future;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A name is looked up and an address answers within this.
const CONNECT: Duration = Duration::from_secs(10);
/// The machine answers within this: PID 1 has less.
const ANSWER: Duration = Duration::from_secs(30);
/// How often is looked how much has been sent.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of one answer: PID 1's messages are smaller; the figures of 512 units have about half of it.
const ANSWER_BYTES: usize = 1 << 20;
/// Bytes of one line of a stream: a log line in JSON, each byte escaped.
const LINE_BYTES: usize = 256 * 1024;

/// How one machine is asked.
#[derive(Debug)]
pub struct Http {
    context: String,
    host: String,
    port: u16,
    machine: String,
    key: String,
    public_line: String,
    tls: Arc<ClientConfig>,
    check: Arc<PinCheck>,
}

impl Http {
    pub fn new(
        context: &str,
        host: &str,
        port: u16,
        pinned: Option<&str>,
        key: &PrivateKey,
    ) -> Result<Self, ClientError> {
        let (tls, check) = tls::config(key, pinned)?;
        Ok(Self {
            context: context.to_owned(),
            host: host.to_owned(),
            port,
            machine: authority(host, port),
            key: key.path.display().to_string(),
            public_line: key.public_line(),
            tls,
            check,
        })
    }

    pub fn context(&self) -> &str {
        &self.context
    }

    pub fn machine(&self) -> &str {
        &self.machine
    }

    pub fn machine_key(&self) -> Option<String> {
        self.check.seen()
    }

    pub fn machine_certificate(&self) -> Option<Vec<u8>> {
        self.check.certificate()
    }

    /// Asks, and reads the whole answer.
    pub fn whole(&self, method: &str, path: &str) -> Result<Vec<u8>, ClientError> {
        let runtime = runtime()?;
        let (body, _) = self.ask_on(&runtime, method, path, Sent::nothing(), &|_| ())?;
        runtime.block_on(read_whole(body)).map_err(|why| self.broken(why))
    }

    /// Sends what `from` gives, tells how much of it is on its way, and reads the whole answer.
    pub fn send(
        &self,
        path: &str,
        from: Box<dyn Read + Send>,
        sent: &dyn Fn(u64),
    ) -> Result<Vec<u8>, ClientError> {
        let runtime = runtime()?;
        let (body, _) = self.ask_on(&runtime, "POST", path, Sent::all_of(from), sent)?;
        runtime.block_on(read_whole(body)).map_err(|why| self.broken(why))
    }

    /// Asks, and leaves the answer to be read line by line.
    pub fn stream(&self, path: &str) -> Result<Lines, ClientError> {
        let runtime = runtime()?;
        let (body, driver) = self.ask_on(&runtime, "GET", path, Sent::nothing(), &|_| ())?;
        Ok(Lines { runtime, body, _driver: driver, buffer: Vec::new(), machine: self.machine.clone() })
    }

    fn ask_on(
        &self,
        runtime: &Runtime,
        method: &str,
        path: &str,
        body: Sent,
        sent: &dyn Fn(u64),
    ) -> Result<(Incoming, JoinHandle<hyper::Result<()>>), ClientError> {
        let counter = body.counter();
        runtime.block_on(self.ask(method, path, body, &counter, sent))
    }

    /// Reach, handshake, ask. An answer that says no has been read, and is an error. The body of one that says yes comes while
    /// `body` is still on its way.
    pub async fn ask<B>(
        &self,
        method: &str,
        path: &str,
        body: B,
        counter: &AtomicU64,
        sent: &dyn Fn(u64),
    ) -> Result<(Incoming, JoinHandle<hyper::Result<()>>), ClientError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let stream = self.reach().await?;
        let stream = self.handshake(stream).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(text(&e)))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.machine)
            .header(USER_AGENT, concat!("berth/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| ClientError::Setup(error.to_string()))?;
        let mut asking = std::pin::pin!(sender.send_request(request));
        let (mut before, mut moved) = (0, Instant::now());
        let answer: Response<Incoming> = loop {
            match timeout(LOOK, asking.as_mut()).await {
                Ok(Ok(answer)) => break answer,
                Ok(Err(error)) => return Err(self.no_answer(&error, driver).await),
                Err(_) => {}
            }
            let now = counter.load(Ordering::Relaxed);
            if now > before {
                (before, moved) = (now, Instant::now());
                sent(now);
            } else if moved.elapsed() >= ANSWER {
                return Err(self.broken(format!("no answer within {} s", ANSWER.as_secs())));
            }
        };
        let status = answer.status();
        if status.is_success() {
            return Ok((answer.into_body(), driver));
        }
        let body = read_whole(answer.into_body()).await.map_err(|why| self.broken(why))?;
        Err(refusal(status.as_u16(), &body))
    }

    async fn reach(&self) -> Result<TcpStream, ClientError> {
        let unreachable = |why: String| ClientError::Unreachable { machine: self.machine.clone(), why };
        let stream = within(CONNECT, TcpStream::connect((self.host.as_str(), self.port)))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, ClientError> {
        // Not sent (no SNI) and not checked; it only has to be one.
        let name = ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        let connector = TlsConnector::from(self.tls.clone());
        within(CONNECT, connector.connect(name, stream)).await.map_err(|error| match self.check.mismatch() {
            Some((pinned, seen)) => ClientError::MachineKey {
                machine: self.machine.clone(),
                context: self.context.clone(),
                pinned,
                seen,
            },
            None => ClientError::NotBerth { machine: self.machine.clone(), why: error.to_string() },
        })
    }

    /// In TLS 1.3 a client learns only from the first answer whether its certificate was accepted. hyper may keep the
    /// alert to the connection's own task.
    async fn no_answer(&self, error: &hyper::Error, driver: JoinHandle<hyper::Result<()>>) -> ClientError {
        let of_task = match timeout(CONNECT, driver).await {
            Ok(Ok(Err(error))) => Some(error),
            _ => None,
        };
        let both = of_task.iter().chain([error]);
        for error in both.clone() {
            if let Some(alert) = find_alert(error) {
                return match alert {
                    AlertDescription::AccessDenied | AlertDescription::CertificateRequired => {
                        ClientError::KeyRefused {
                            machine: self.machine.clone(),
                            key: self.key.clone(),
                            line: self.public_line.clone(),
                        }
                    }
                    other => ClientError::NotBerth {
                        machine: self.machine.clone(),
                        why: format!("it ended the connection with the TLS alert {other:?}"),
                    },
                };
            }
        }
        let why = of_task.as_ref().map_or_else(|| text(error), |error| text(error));
        self.broken(why)
    }

    /// The connection broke, for this reason.
    pub fn broken(&self, why: String) -> ClientError {
        ClientError::Broken { machine: self.machine.clone(), why }
    }
}

/// A stream of lines.
#[derive(Debug)]
pub struct Lines {
    runtime: Runtime,
    body: Incoming,
    _driver: JoinHandle<hyper::Result<()>>,
    buffer: Vec<u8>,
    machine: String,
}

impl Lines {
    /// The next line without its newline; `None` at the end. Waits for as long as it takes.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            let broken = |why: String| ClientError::Broken { machine: self.machine.clone(), why };
            if self.buffer.len() > LINE_BYTES {
                return Err(broken(format!("a line is longer than {LINE_BYTES} bytes")));
            }
            match self.runtime.block_on(self.body.frame()) {
                None => return Ok((!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer))),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(broken(text(&error))),
            }
        }
    }
}

pub fn runtime() -> Result<Runtime, ClientError> {
    Builder::new_current_thread().enable_all().build().map_err(|error| ClientError::Setup(error.to_string()))
}

async fn within<T>(limit: Duration, doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, doing).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs())))
    })
}

async fn read_whole(mut body: Incoming) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = async {
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame.map_err(|e| text(&e))?.data_ref() {
                bytes.extend_from_slice(data);
            }
            if bytes.len() > ANSWER_BYTES {
                return Err(format!("the answer is longer than {ANSWER_BYTES} bytes"));
            }
        }
        Ok(())
    };
    timeout(ANSWER, read).await.map_err(|_| format!("no answer within {} s", ANSWER.as_secs()))??;
    Ok(bytes)
}

/// `host:port`, with brackets where an IPv6 address needs them.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// An error with its causes.
fn text(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}

/// The TLS alert at the bottom of an error, if there is one. An I/O error hides what it carries from `source`.
fn find_alert(error: &hyper::Error) -> Option<AlertDescription> {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(inner) = cause {
        let carried = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = match carried {
            Some(carried) => carried.downcast_ref::<rustls::Error>(),
            None => inner.downcast_ref::<rustls::Error>(),
        };
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return Some(*alert);
        }
        cause = inner.source();
    }
    None
}
