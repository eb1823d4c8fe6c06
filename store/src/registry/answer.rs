//! An answer as it comes in: never more than it may have, never slower than it may be.

use super::Pace;
use super::error::{Error, Failure};
use super::reason::because;
use crate::{limits, show};
use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};

/// An answer whose body has not been read.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    body: reqwest::Response,
    /// Whoever sent it: another host after a redirect.
    pub host: String,
    pace: Pace,
    by: tokio::time::Instant,
    arrived: u64,
}

impl Answer {
    /// Its time begins now.
    pub fn new(mut body: reqwest::Response, host: &str, pace: Pace) -> Self {
        Self {
            status: body.status(),
            headers: std::mem::take(body.headers_mut()),
            body,
            host: host.to_owned(),
            pace,
            by: tokio::time::Instant::now() + pace.stall,
            arrived: 0,
        }
    }

    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Failure> {
        let soon = |host: &str, why: String| Failure::soon(Error::Unreachable { host: host.to_owned(), why });
        match tokio::time::timeout_at(self.by, self.body.chunk()).await {
            Err(_) => {
                let seconds = self.pace.stall.as_secs();
                let arrived = self.arrived;
                Err(soon(&self.host, format!("has sent {arrived} bytes in {seconds} s, then was given up")))
            }
            Ok(Err(error)) => Err(soon(&self.host, format!("broke off: {}", because(&error)))),
            Ok(Ok(chunk)) => {
                self.arrived += chunk.as_ref().map_or(0, |c| c.len() as u64);
                if self.arrived >= limits::STALL_BYTES {
                    self.arrived = 0;
                    self.by = tokio::time::Instant::now() + self.pace.stall;
                }
                Ok(chunk)
            }
        }
    }

    /// A small body whole.
    pub async fn whole(mut self, most: u64, what: &str) -> Result<Vec<u8>, Failure> {
        let large = |host: &str| Error::Bad {
            host: host.to_owned(),
            why: format!("{what} of more than {most} bytes, which is the most that is read"),
        };
        if self.length().is_some_and(|length| length > most) {
            return Err(large(&self.host).into());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > most {
                return Err(large(&self.host).into());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// `Content-Length`.
    pub fn length(&self) -> Option<u64> {
        self.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// `Content-Type` without parameters.
    pub fn media_type(&self) -> Option<String> {
        let value = self.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }

    /// What a refusal says in the form of the distribution specification.
    pub async fn said(self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Body {
            errors: Vec<Entry>,
        }
        #[derive(serde::Deserialize)]
        struct Entry {
            #[serde(default)]
            message: String,
        }
        let bytes = self.whole(limits::REFUSAL_BYTES, "a refusal").await.ok()?;
        let body: Body = serde_json::from_slice(&bytes).ok()?;
        let message = body.errors.into_iter().map(|e| e.message).find(|m| !m.is_empty())?;
        Some(show::name(message.as_bytes()))
    }
}
