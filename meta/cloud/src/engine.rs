//! One request after the other, each until it is answered, refused for good, or the deadline is over.
//!
//! | what happens | what follows |
//! |---|---|
//! | no connection | the next address; when all have been tried, a pause |
//! | silence, an answer that breaks off, 429, 5xx, another status, a redirect, somebody else's answer | a pause, then again |
//! | 404 where something must be | the same: the service is not ready yet |
//! | 404 where something may be | there is none |
//! | 401 | a new token, at once the first time |
//! | 403 for a token | the end: the service is turned off |
//! | more bytes than the cap | said; the end of it, if it is needed |
//!
//! Pauses double, from the provider's first to its longest, or are what `Retry-After` says, if that is less than the longest. No
//! redirect is followed and no proxy asked; each request is a connection of its own.

use crate::limits;
use berth_meta::compose::cut;
use berth_meta::providers::Provider;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// A connection.
    pub connect: Duration,
    /// A request.
    pub request: Duration,
    /// The pause after the first failure.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Pace {
    /// The provider's.
    pub fn of(provider: &Provider) -> Self {
        Self {
            connect: limits::CONNECT,
            request: limits::REQUEST,
            first_pause: provider.first_pause,
            longest_pause: provider.longest_pause,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What is there.
    Body(Vec<u8>),
    /// There is none.
    Missing,
    /// It has more bytes than are read.
    TooLarge,
}

/// Why it is over without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The deadline.
    Late,
    /// Nothing else will come of it.
    Final(String),
}

/// Why one request came to nothing.
enum Failure {
    /// Nobody is there.
    Connect(String),
    /// It may be better later, after this pause at the earliest.
    Later(String, Option<Duration>),
    /// The token is not valid (any more).
    Token,
    /// It will not be better.
    Final(String),
}

/// See the module.
pub struct Engine<'a> {
    provider: &'static Provider,
    pace: Pace,
    deadline: Instant,
    addresses: Vec<Place>,
    at: usize,
    token: Option<String>,
    say: &'a mut dyn FnMut(&str),
}

/// An address, and what came of it.
struct Place {
    address: SocketAddr,
    tries: u32,
    why: String,
}

impl<'a> Engine<'a> {
    /// `say` is told, in a sentence, who is asked in vain and why.
    pub fn new(
        provider: &'static Provider,
        addresses: &[SocketAddr],
        pace: Pace,
        deadline: Duration,
        say: &'a mut dyn FnMut(&str),
    ) -> Self {
        let place = |address: &SocketAddr| Place { address: *address, tries: 0, why: String::new() };
        Self {
            provider,
            pace,
            deadline: Instant::now() + deadline,
            addresses: addresses.iter().map(place).collect(),
            at: 0,
            token: None,
            say,
        }
    }

    /// Where it was answered last: `http://169.254.169.254`.
    pub fn answered_at(&self) -> String {
        self.addresses.get(self.at).map(|place| shown(place.address)).unwrap_or_default()
    }

    /// What came of each address that was asked in vain, one line each.
    pub fn troubles(&self) -> Vec<String> {
        let troubled = self.addresses.iter().filter(|place| !place.why.is_empty());
        troubled
            .map(|place| {
                let times = if place.tries == 1 { "once" } else { "times" };
                let count = if place.tries == 1 { String::new() } else { format!("{} ", place.tries) };
                format!("{}: {}: {}, {count}{times}", self.provider.name, shown(place.address), place.why)
            })
            .collect()
    }

    /// What must be there: 404 means "not yet".
    pub async fn must(&mut self, path: &str, most: usize) -> Result<Vec<u8>, Stop> {
        match self.get(path, most, true).await? {
            Answer::Body(body) => Ok(body),
            Answer::Missing | Answer::TooLarge => {
                Err(Stop::Final(format!("{path} has more than {most} bytes")))
            }
        }
    }

    /// What may be there.
    pub async fn may(&mut self, path: &str, most: usize) -> Result<Answer, Stop> {
        self.get(path, most, false).await
    }

    async fn get(&mut self, path: &str, most: usize, needed: bool) -> Result<Answer, Stop> {
        let mut pause = self.pace.first_pause;
        let mut fresh = false;
        let mut alone = 0;
        loop {
            let result = match timeout(self.left(), self.once(path, most, needed, &mut fresh)).await {
                Ok(result) => result,
                Err(_) => Err(Failure::Later("no answer".into(), None)),
            };
            let wait = match result {
                Ok(answer) => return Ok(answer),
                Err(Failure::Token) => {
                    self.token = None;
                    if !std::mem::replace(&mut fresh, false) {
                        continue;
                    }
                    self.note("it refuses the token that it has just given (401)");
                    None
                }
                Err(Failure::Final(why)) => {
                    self.note(&why);
                    return Err(Stop::Final(why));
                }
                Err(Failure::Connect(why)) => {
                    self.note(&why);
                    alone += 1;
                    self.at = (self.at + 1) % self.addresses.len().max(1);
                    // A token is that address's.
                    self.token = None;
                    if alone < self.addresses.len() {
                        continue;
                    }
                    None
                }
                Err(Failure::Later(why, after)) => {
                    self.note(&why);
                    after
                }
            };
            alone = 0;
            let now = Instant::now();
            let wait =
                wait.map_or(pause, |after| after.clamp(self.pace.first_pause, self.pace.longest_pause));
            pause = (pause * 2).min(self.pace.longest_pause);
            if now + wait >= self.deadline {
                return Err(Stop::Late);
            }
            sleep_until(now + wait).await;
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Remembers why it has come to nothing at this address, and says so.
    fn note(&mut self, why: &str) {
        let Some(place) = self.addresses.get_mut(self.at) else { return };
        place.tries = place.tries.saturating_add(1);
        place.why = cut(why.to_owned(), limits::WHY_BYTES);
        let text =
            format!("{} does not answer yet: {}: {}", self.provider.title, shown(place.address), place.why);
        (self.say)(&text);
    }

    async fn once(
        &mut self,
        path: &str,
        most: usize,
        needed: bool,
        fresh: &mut bool,
    ) -> Result<Answer, Failure> {
        let mut headers: Vec<(&str, String)> =
            self.provider.headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        if let Some(how) = &self.provider.token {
            let token = match &self.token {
                Some(token) => token.clone(),
                None => {
                    *fresh = true;
                    let token = self.new_token().await?;
                    self.token = Some(token.clone());
                    token
                }
            };
            headers.push((how.header, token));
        }
        let (status, answer) = self.request(Method::GET, path, &headers, most).await?;
        match status {
            StatusCode::OK => Ok(answer),
            StatusCode::NOT_FOUND if !needed => Ok(Answer::Missing),
            StatusCode::NOT_FOUND => Err(Failure::Later(format!("it has no {path} yet (404)"), None)),
            StatusCode::UNAUTHORIZED if self.provider.token.is_some() => Err(Failure::Token),
            StatusCode::FORBIDDEN => Err(Failure::Final(match &self.provider.token {
                Some(how) => how.refused.to_owned(),
                None => format!("it refuses {path} (403)"),
            })),
            status => Err(Failure::Later(format!("{path}: it says {status}"), None)),
        }
    }

    async fn new_token(&mut self) -> Result<String, Failure> {
        let Some(how) = &self.provider.token else { return Ok(String::new()) };
        let headers = [(how.ttl.0, how.ttl.1.to_owned())];
        let (status, answer) = self.request(Method::PUT, how.path, &headers, limits::WORD_BYTES).await?;
        match (status, answer) {
            (StatusCode::OK, Answer::Body(body)) => {
                let token = String::from_utf8(body).unwrap_or_default();
                let fits = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
                if fits { Ok(token) } else { Err(Failure::Later("its token is none".into(), None)) }
            }
            (StatusCode::FORBIDDEN, _) => Err(Failure::Final(how.refused.to_owned())),
            (status, _) => Err(Failure::Later(format!("no token: it says {status}"), None)),
        }
    }

    /// One request on a connection of its own. Statuses that are the same for every path end here.
    async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        most: usize,
    ) -> Result<(StatusCode, Answer), Failure> {
        let Some(place) = self.addresses.get(self.at) else {
            return Err(Failure::Final("it has no address".into()));
        };
        let stream = match timeout(self.pace.connect, TcpStream::connect(place.address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Failure::Connect(said(&error))),
            Err(_) => return Err(Failure::Connect("no connection, and no refusal".into())),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.provider.host)
            .header(CONNECTION, "close")
            .header(USER_AGENT, concat!("berth/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failure::Final(format!("{path}: {error}")))?;
        let exchange = async {
            let (mut sender, connection) = http1::Builder::new()
                .max_headers(limits::HEADERS)
                .max_buf_size(limits::HEAD_BYTES)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| broken(&error))?;
            let driver = tokio::spawn(connection);
            let answer = match sender.send_request(request).await {
                Ok(response) => self.read(path, response, most).await,
                Err(error) => Err(broken(&error)),
            };
            driver.abort();
            answer
        };
        match timeout(self.pace.request, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Later(
                format!("{path}: not answered as a whole within {} s", self.pace.request.as_secs_f32()),
                None,
            )),
        }
    }

    async fn read(
        &self,
        path: &str,
        response: Response<Incoming>,
        most: usize,
    ) -> Result<(StatusCode, Answer), Failure> {
        let status = response.status();
        let header = |name: &hyper::header::HeaderName| response.headers().get(name)?.to_str().ok();
        if status.is_redirection() {
            let to = header(&LOCATION).unwrap_or("nowhere");
            let why = format!(
                "{path}: it says {}, go to {to}; not followed, a metadata service is where it is",
                status.as_u16()
            );
            return Err(Failure::Later(why, None));
        }
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let after = header(&RETRY_AFTER).and_then(|text| text.trim().parse().ok());
            return Err(Failure::Later(format!("{path}: it says {status}"), after.map(Duration::from_secs)));
        }
        if let Some((name, value)) = self.provider.answers_with {
            let found = response.headers().get(name).and_then(|found| found.to_str().ok());
            if found != Some(value) {
                let why = format!(
                    "what answers there is not {}: it says {status}, without {name}: {value}",
                    self.provider.title
                );
                return Err(Failure::Later(why, None));
            }
        }
        if status != StatusCode::OK {
            return Ok((status, Answer::Missing));
        }
        match Limited::new(response.into_body(), most).collect().await {
            Ok(body) => Ok((status, Answer::Body(body.to_bytes().into()))),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Ok((status, Answer::TooLarge)),
            Err(_) => Err(Failure::Later(format!("{path}: its answer breaks off"), None)),
        }
    }
}

/// `http://[fd00:ec2::254]`, the usual port left out.
fn shown(address: SocketAddr) -> String {
    let mut text = String::from("http://");
    // Writing to a string does not fail.
    let _ = match address {
        SocketAddr::V4(address) => write!(text, "{}", address.ip()),
        SocketAddr::V6(address) => write!(text, "[{}]", address.ip()),
    };
    if address.port() != berth_meta::providers::PORT {
        let _ = write!(text, ":{}", address.port());
    }
    text
}

/// The kernel's word, without its number.
fn said(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

fn broken(error: &hyper::Error) -> Failure {
    let why = if error.is_parse() { "what it says is no HTTP" } else { "it hung up" };
    Failure::Later(why.into(), None)
}
