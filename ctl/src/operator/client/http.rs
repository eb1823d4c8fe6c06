//! Requests, blocking: HTTP/1.1 over TLS. A connection may be kept for the next request if it comes soon.

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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
/// A connection that has been idle for no longer is used again. So soon no machine has gone down and come back, and a server
/// that has closed it (Berth's does after 60 s) has told so.
const KEPT: Duration = Duration::from_secs(2);
/// Before that is looked for so long whether it has been closed.
const GLANCE: Duration = Duration::from_millis(1);
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
    /// Whether connections are kept, and the one that is.
    keeps: bool,
    kept: Mutex<Option<Connection>>,
}

/// A connection without a request.
#[derive(Debug)]
struct Connection {
    line: Line<Sent>,
    runtime: Runtime,
    since: Instant,
}

/// Where requests go in, and the task that moves the bytes.
#[derive(Debug)]
struct Line<B> {
    sender: http1::SendRequest<B>,
    driver: Driver,
}

type Driver = JoinHandle<hyper::Result<()>>;

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
            keeps: false,
            kept: Mutex::new(None),
        })
    }

    /// The next request may use the connection of the one before. For who asks several things at once, and then ends: each
    /// connection costs a handshake, and an open one a place in the machine.
    pub fn keeping(mut self) -> Self {
        self.keeps = true;
        self
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
        self.answer(method, path, Sent::nothing(), &|_| ())
    }

    /// Sends what `from` gives, tells how much of it is on its way, and reads the whole answer.
    pub fn send(
        &self,
        path: &str,
        from: Box<dyn Read + Send>,
        sent: &dyn Fn(u64),
    ) -> Result<Vec<u8>, ClientError> {
        self.answer("POST", path, Sent::all_of(from), sent)
    }

    fn answer(
        &self,
        method: &str,
        path: &str,
        body: Sent,
        sent: &dyn Fn(u64),
    ) -> Result<Vec<u8>, ClientError> {
        let (runtime, body, line) = self.asked(method, path, body, sent)?;
        let bytes = runtime.block_on(read_whole(body)).map_err(|why| self.broken(why))?;
        if self.keeps {
            self.put(Connection { line, runtime, since: Instant::now() });
        }
        Ok(bytes)
    }

    /// Asks, and leaves the answer to be read line by line.
    pub fn stream(&self, path: &str) -> Result<Lines, ClientError> {
        let (runtime, body, line) = self.asked("GET", path, Sent::nothing(), &|_| ())?;
        Ok(Lines { runtime, body, _line: line, buffer: Vec::new(), machine: self.machine.clone() })
    }

    fn put(&self, connection: Connection) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    /// What was kept, if it is still of use.
    fn take(&self) -> Option<(Runtime, Line<Sent>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let Connection { mut line, runtime, since } = kept;
        // The task has to run to see that the other side has closed it.
        let open = since.elapsed() < KEPT && runtime.block_on(is_open(&mut line));
        open.then_some((runtime, line))
    }

    fn asked(
        &self,
        method: &str,
        path: &str,
        body: Sent,
        sent: &dyn Fn(u64),
    ) -> Result<(Runtime, Incoming, Line<Sent>), ClientError> {
        let (runtime, kept) = match self.take() {
            Some((runtime, line)) => (runtime, Some(line)),
            None => (runtime()?, None),
        };
        let counter = body.counter();
        let (body, line) = runtime.block_on(async {
            let line = match kept {
                Some(line) => line,
                None => self.connect().await?,
            };
            self.ask_on(line, method, path, body, &counter, sent).await
        })?;
        Ok((runtime, body, line))
    }

    /// Asks on a connection of its own. An answer that says no has been read, and is an error. The body of one that says yes comes
    /// while `body` is still on its way.
    pub async fn ask<B: Sendable>(
        &self,
        method: &str,
        path: &str,
        body: B,
    ) -> Result<(Incoming, Driver), ClientError> {
        let line = self.connect().await?;
        let (answer, line) = self.ask_on(line, method, path, body, &AtomicU64::new(0), &|_| ()).await?;
        Ok((answer, line.driver))
    }

    /// Reach, handshake.
    async fn connect<B: Sendable>(&self) -> Result<Line<B>, ClientError> {
        let stream = self.reach().await?;
        let stream = self.handshake(stream).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(text(&e)))?;
        Ok(Line { sender, driver: tokio::spawn(connection) })
    }

    async fn ask_on<B: Sendable>(
        &self,
        mut line: Line<B>,
        method: &str,
        path: &str,
        body: B,
        counter: &AtomicU64,
        sent: &dyn Fn(u64),
    ) -> Result<(Incoming, Line<B>), ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.machine)
            .header(USER_AGENT, concat!("berth/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| ClientError::Setup(error.to_string()))?;
        let answer = {
            let mut asking = std::pin::pin!(line.sender.send_request(request));
            let (mut before, mut moved) = (0, Instant::now());
            loop {
                if let Ok(answer) = timeout(LOOK, asking.as_mut()).await {
                    break answer;
                }
                let now = counter.load(Ordering::Relaxed);
                if now > before {
                    (before, moved) = (now, Instant::now());
                    sent(now);
                } else if moved.elapsed() >= ANSWER {
                    return Err(self.broken(format!("no answer within {} s", ANSWER.as_secs())));
                }
            }
        };
        let answer: Response<Incoming> = match answer {
            Ok(answer) => answer,
            Err(error) => return Err(self.no_answer(&error, line.driver).await),
        };
        let status = answer.status();
        if status.is_success() {
            return Ok((answer.into_body(), line));
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
    async fn no_answer(&self, error: &hyper::Error, driver: Driver) -> ClientError {
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
    _line: Line<Sent>,
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

/// What can be a request's body.
pub trait Sendable:
    Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static
{
}

impl<B> Sendable for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static
{
}

/// Takes another request, as far as this side knows once it has read what has come.
async fn is_open(line: &mut Line<Sent>) -> bool {
    timeout(GLANCE, &mut line.driver).await.is_err() && line.sender.is_ready()
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
