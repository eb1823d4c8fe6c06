//! Answers: JSON, streams, and errors as `{"error":{"kind","message"}}`.

use hyper::body::{Bytes, Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// What an answer consists of. Holds whatever must live as long as the answer (a place among the log streams, the
/// mark that its connection is in use).
pub struct Body {
    kind: Kind,
    held: Vec<Box<dyn Send>>,
}

enum Kind {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body {
    /// Sent at once.
    pub fn whole(bytes: Vec<u8>) -> Self {
        Self { kind: Kind::Whole(Some(bytes.into())), held: Vec::new() }
    }

    /// Sent as it comes, until the other end is dropped.
    pub fn stream(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self { kind: Kind::Stream(receiver), held: Vec::new() }
    }

    /// Keeps `thing` until the answer is sent or given up.
    pub fn hold(&mut self, thing: Box<dyn Send>) {
        self.held.push(thing);
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Stream(receiver) => receiver.poll_recv(cx).map(|b| b.map(|b| Ok(Frame::data(b)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.kind, Kind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Stream(_) => SizeHint::default(),
        }
    }
}

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    #[serde(skip)]
    pub status: u16,
    /// `not-found`, `denied`, `bad-request`, `busy`, `failed`, `unavailable`.
    pub kind: String,
    /// What failed, on what, why, what to do.
    pub message: String,
    /// For 405.
    #[serde(skip)]
    pub allow: Option<&'static str>,
}

impl Refusal {
    /// With the status that belongs to `kind`.
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        let status = match kind {
            "not-found" => 404,
            "denied" => 403,
            "bad-request" => 400,
            "busy" | "unavailable" => 503,
            _ => 500,
        };
        Self { status, kind: kind.to_owned(), message: message.into(), allow: None }
    }

    /// The answer.
    pub fn response(&self) -> Response<Body> {
        #[derive(Serialize)]
        struct Outer<'a> {
            error: &'a Refusal,
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, &Outer { error: self });
        if let Some(allow) = self.allow {
            response.headers_mut().insert(hyper::header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// An answer in JSON, with a newline at its end for those who read it in a terminal.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    with_type(status, "application/json", Body::whole(bytes))
}

/// An answer of any type. Nothing that a machine says is to be cached, or guessed at by a browser.
pub fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
