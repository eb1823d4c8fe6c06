//! An update repository on a web server, as the TUF client wants to read it. The connection is the registry client's
//! (`berth_store::registry::web`); what is added is the address, and that a slow server ends.
//!
//! Nothing that comes is trusted here; lengths and hashes are the client's to check. Plain HTTP is as good as HTTPS for
//! that, but shows everybody between which release a machine fetches.

mod limits;

use berth_store::registry::Pace as Connection;
use berth_store::registry::web::{File, Web, WebError};
use berth_tuf::fetch::{Fetch, FetchError};
use berth_units::model::Proxy;
use std::io::{self, Read};
use std::time::{Duration, Instant};

/// How long what may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Connecting, headers, and the least that must arrive of a body.
    pub connection: Connection,
    /// A whole file of metadata.
    pub metadata: Duration,
    /// The least pace of a target on average, bytes a second.
    pub bytes_per_second: u64,
    /// What a target may take beyond that.
    pub grace: Duration,
    /// The pause before the second try.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connection: Connection::default(),
            metadata: limits::METADATA,
            bytes_per_second: limits::BYTES_PER_SECOND,
            grace: limits::GRACE,
            pause: limits::PAUSE,
        }
    }
}

/// A repository at an address: `metadata/` and `targets/` are below it.
pub struct Server {
    runtime: tokio::runtime::Runtime,
    web: Web,
    address: String,
    pace: Pace,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An address may hold a password.
        out.write_str("Server")
    }
}

impl Server {
    /// The repository at an address. The authority, in PEM, is trusted besides the public ones.
    pub fn new(address: &str, ca: Option<String>, proxy: Proxy, pace: Pace) -> Result<Self, FetchError> {
        let wrong = |why: &str| FetchError::Failed(format!("the repository's address {why}"));
        if address.len() > limits::ADDRESS_BYTES {
            return Err(wrong("is too long"));
        }
        if address.contains(['?', '#', '@']) {
            return Err(wrong("must not have a user, a query or a fragment"));
        }
        let web = Web::new(address, ca, proxy, pace.connection).map_err(of_web)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| FetchError::Failed(format!("no network: {error}")))?;
        Ok(Self { runtime, web, address: address.trim_end_matches('/').to_owned(), pace })
    }

    fn open(&self, path: &str, from: u64, limit: u64, time: Duration) -> Result<Body<'_>, FetchError> {
        let url = format!("{}/{path}", self.address);
        let by = Instant::now() + time;
        let mut pause = self.pace.pause;
        for _ in 1..limits::TRIES {
            match self.runtime.block_on(self.web.get(&url, from)) {
                Err(WebError::Failed(_)) if Instant::now() + pause < by => std::thread::sleep(pause),
                file => return self.body(file, from, limit, by, time),
            }
            pause *= 2;
        }
        self.body(self.runtime.block_on(self.web.get(&url, from)), from, limit, by, time)
    }

    fn body(
        &self,
        file: Result<File, WebError>,
        from: u64,
        limit: u64,
        by: Instant,
        time: Duration,
    ) -> Result<Body<'_>, FetchError> {
        let file = file.map_err(of_web)?;
        let skip = from - file.begins;
        if let Some(length) = file.length().filter(|length| *length > limit.saturating_add(skip)) {
            return Err(FetchError::Failed(format!(
                "the server has {length} bytes, where {limit} are wanted"
            )));
        }
        let chunk = bytes::Bytes::new();
        Ok(Body { runtime: &self.runtime, file, chunk, skip, by, time })
    }
}

fn of_web(error: WebError) -> FetchError {
    match error {
        WebError::Missing => FetchError::Missing,
        WebError::Failed(why) => FetchError::Failed(why),
    }
}

impl Fetch for Server {
    fn metadata(&mut self, file: &str, limit: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        let body = self.open(&format!("metadata/{file}"), 0, limit, self.pace.metadata)?;
        Ok(Box::new(body))
    }

    fn target(&mut self, path: &str, from: u64, limit: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        let seconds = limit / self.pace.bytes_per_second.max(1);
        let time = self.pace.grace + Duration::from_secs(seconds);
        let body = self.open(&format!("targets/{path}"), from, limit, time)?;
        Ok(Box::new(body))
    }
}

/// A file as it comes in, until its time is up.
struct Body<'a> {
    runtime: &'a tokio::runtime::Runtime,
    file: File,
    chunk: bytes::Bytes,
    /// Bytes to pass over: the server knew no ranges.
    skip: u64,
    by: Instant,
    time: Duration,
}

impl Body<'_> {
    fn next(&mut self) -> io::Result<bytes::Bytes> {
        let next = async { tokio::time::timeout_at(self.by.into(), self.file.chunk()).await };
        match self.runtime.block_on(next) {
            Err(_) => Err(io::Error::other(format!(
                "the server is too slow: not done within {} s",
                self.time.as_secs()
            ))),
            Ok(chunk) => chunk.map_err(|error| io::Error::other(error.to_string())),
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let mut chunk = self.next()?;
            if chunk.is_empty() {
                return Ok(0);
            }
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
            self.skip -= skipped as u64;
            self.chunk = chunk.split_off(skipped);
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}
