//! What is sent to a machine: nothing, or a file as it is read.

use hyper::body::{Body, Bytes, Frame, SizeHint};
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc::{Receiver, channel};

/// Bytes read and sent at a time.
const PART_BYTES: usize = 64 * 1024;
/// Parts that wait to be sent.
const PARTS: usize = 4;

/// All that `from` gives, at most so many bytes at a time, read by a thread of its own: a pipe, a slow disk or a terminal may
/// let it wait.
pub fn parts_of(mut from: Box<dyn Read + Send>, most: usize) -> Receiver<io::Result<Bytes>> {
    let (to, parts) = channel(PARTS);
    std::thread::spawn(move || {
        loop {
            let mut part = vec![0; most];
            let part = match from.read(&mut part) {
                Ok(0) => return,
                Ok(count) => {
                    part.truncate(count);
                    Ok(part.into())
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
            let last = part.is_err();
            // Nobody takes it any more: the request has ended.
            if to.blocking_send(part).is_err() || last {
                return;
            }
        }
    });
    parts
}

/// The body of a request.
#[derive(Debug)]
pub struct Sent {
    parts: Option<Receiver<io::Result<Bytes>>>,
    bytes: Arc<AtomicU64>,
}

impl Sent {
    /// Nothing.
    pub fn nothing() -> Self {
        Self { parts: None, bytes: Arc::default() }
    }

    /// All that `from` gives, read by a thread of its own: a pipe or a slow disk may let it wait.
    pub fn all_of(from: Box<dyn Read + Send>) -> Self {
        let parts = parts_of(from, PART_BYTES);
        Self { parts: Some(parts), bytes: Arc::default() }
    }

    /// Counts the bytes that are on their way.
    pub fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes)
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(parts) = self.parts.as_mut() else { return Poll::Ready(None) };
        let part = std::task::ready!(parts.poll_recv(cx));
        if let Some(Ok(part)) = &part {
            self.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(part.map(|part| part.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.parts.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}
