//! Files from any web server, by the rules that registries are held to: TLS, proxy, redirects, time limits. Update
//! repositories are fetched so (`berth_fetch`).

use super::Pace;
use super::answer::Answer;
use super::error::Failure;
use super::fetch::range_start;
use super::http::Http;
use super::place::host_of;
use crate::show;
use berth_units::model::{Proxy, Registry, RegistrySettings};
use reqwest::header::CONTENT_RANGE;
use reqwest::{StatusCode, Url};
use std::collections::BTreeMap;

/// Speaks to one web server, and to those that it redirects to.
pub struct Web {
    http: Http,
}

/// Why a file did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// The server has no such file.
    #[error("not there")]
    Missing,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<Failure> for WebError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.error.to_string())
    }
}

/// A file as it comes in.
pub struct File {
    answer: Answer,
    /// Where in the file the bytes begin: at 0 when the server knows no ranges.
    pub begins: u64,
}

impl Web {
    /// For a server at an address (`http:` or `https:`); without TLS only because its address says so. The authority is
    /// trusted for it besides the public ones.
    pub fn new(address: &str, ca: Option<String>, proxy: Proxy, pace: Pace) -> Result<Self, WebError> {
        let wrong = || {
            WebError::Failed(format!("{:?} is no address of a web server", show::name(address.as_bytes())))
        };
        let url = Url::parse(address).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        let host = Registry { plain_http: url.scheme() == "http", ca, ..Registry::default() };
        let registries = BTreeMap::from([(host_of(&url), host)]);
        Ok(Self { http: Http::new(RegistrySettings { registries, proxy, ca: None }, pace) })
    }

    /// GETs a file, from a byte on.
    pub async fn get(&self, url: &str, from: u64) -> Result<File, WebError> {
        let wrong = |why: String| WebError::Failed(format!("{}: {why}", show::name(url.as_bytes())));
        let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        let range = Some(from).filter(|from| *from > 0);
        let answer = self.http.open(parsed, range).await?;
        let begins = match answer.status {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                let part = answer.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                if part.and_then(range_start) != range {
                    return Err(wrong("another part came than was asked for".to_owned()));
                }
                from
            }
            // Stores of objects say 403 of what they do not have.
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
                return Err(WebError::Missing);
            }
            status => return Err(WebError::Failed(format!("{} says {}", answer.host, status.as_u16()))),
        };
        Ok(File { answer, begins })
    }
}

impl File {
    /// What the server says of the length of what comes, bytes.
    pub fn length(&self) -> Option<u64> {
        self.answer.length()
    }

    /// The next bytes; empty at the end.
    pub async fn chunk(&mut self) -> Result<bytes::Bytes, WebError> {
        loop {
            match self.answer.chunk().await? {
                Some(chunk) if chunk.is_empty() => {}
                chunk => return Ok(chunk.unwrap_or_default()),
            }
        }
    }
}
