//! One connection, from its first byte to its last: handshake, requests, idleness, the loss of its key.

use super::refusals::Refusals;
use crate::limits;
use crate::respond::Body;
use crate::routes::{self, Shared};
use crate::spki::Spki;
use crate::tls::Machine;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a new connection needs.
#[derive(Debug, Clone)]
pub struct Door {
    shared: Arc<Shared>,
    machine: Arc<Machine>,
    refusals: Arc<Refusals>,
    connections: Arc<Semaphore>,
}

impl Door {
    /// With the machine's certificate.
    pub fn new(shared: Arc<Shared>, machine: Machine) -> Self {
        Self {
            shared,
            machine: Arc::new(machine),
            refusals: Arc::default(),
            connections: Arc::new(Semaphore::new(limits::CONNECTIONS)),
        }
    }

    /// Waits until nobody is inside, but no longer than this.
    pub async fn emptied(&self, limit: Duration) {
        let all = u32::try_from(limits::CONNECTIONS).unwrap_or(u32::MAX);
        // Who is still here then follows a log, or is idle.
        let _ = timeout(limit, self.connections.acquire_many(all)).await;
    }

    /// Finds out who it is, and serves them in a task of their own.
    pub async fn handshake(self, stream: TcpStream, peer: SocketAddr) {
        watch_peer(&stream);
        let authorised = self.shared.access.borrow().authorised.clone();
        let (config, check) = match self.machine.accept(authorised) {
            Ok(both) => both,
            Err(error) => return eprintln!("no TLS for {peer}: {error}"),
        };
        let accepting = TlsAcceptor::from(config).accept(stream).into_fallible();
        let why = match timeout(limits::HANDSHAKE, accepting).await {
            Ok(Ok(tls)) => match check.seen() {
                Some(key) => return self.let_in(tls, peer, key),
                None => "it showed no key".to_owned(),
            },
            Ok(Err((error, stream))) => {
                let why = match check.seen() {
                    Some(key) => format!("its key {key} is not authorised ({error})"),
                    None => error.to_string(),
                };
                self.refusals.say(&format!("{peer} turned away: {why}"));
                return linger(stream).await;
            }
            Err(_) => format!("no handshake within {} s", limits::HANDSHAKE.as_secs()),
        };
        self.refusals.say(&format!("{peer} turned away: {why}"));
    }

    fn let_in(self, tls: TlsStream<TcpStream>, peer: SocketAddr, key: Spki) {
        let Ok(place) = self.connections.clone().try_acquire_owned() else {
            let most = limits::CONNECTIONS;
            return self.refusals.say(&format!("{peer} turned away: {most} connections are open already"));
        };
        tokio::spawn(async move {
            serve(self.shared, tls, peer, key).await;
            drop(place);
        });
    }
}

/// A dead peer, or one that takes nothing, is found out by the kernel.
fn watch_peer(stream: &TcpStream) {
    // Failing to set these costs a slot for longer, not more.
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpUserTimeout, &limits::UNACKNOWLEDGED_MS);
    let _ = stream.set_nodelay(true);
}

/// Closing a socket with unread bytes in it resets the connection, and the alert that says why may be lost: shut
/// our side, and read a little.
async fn linger(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut left = limits::HEADER_BYTES;
    let mut buffer = [0; 1024];
    let drain = async {
        while let Ok(got @ 1..) = stream.read(&mut buffer).await {
            left = left.saturating_sub(got);
            if left == 0 {
                break;
            }
        }
    };
    let _ = timeout(limits::GOODBYE, drain).await;
}

async fn serve(shared: Arc<Shared>, tls: TlsStream<TcpStream>, peer: SocketAddr, key: Spki) {
    let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let activity = Arc::new(Activity::default());
    let service = {
        let (shared, activity, key) = (shared.clone(), activity.clone(), key.clone());
        service_fn(move |request: Request<Incoming>| {
            one_request(shared.clone(), activity.clone(), key.clone(), peer, request)
        })
    };
    let io = TokioIo::new(tls);
    if http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits::HEADER_BYTES).unwrap_or(u32::MAX))
            .max_concurrent_streams(limits::STREAMS)
            .keep_alive_interval(limits::PING)
            .keep_alive_timeout(limits::GOODBYE)
            .serve_connection(io, service);
        drive(pin!(connection), |c| c.graceful_shutdown(), &activity, &shared, &key).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEADER)
            .max_buf_size(limits::HEADER_BYTES)
            .max_headers(limits::HEADER_FIELDS)
            .serve_connection(io, service);
        drive(pin!(connection), |c| c.graceful_shutdown(), &activity, &shared, &key).await;
    }
}

async fn one_request(
    shared: Arc<Shared>,
    activity: Arc<Activity>,
    key: Spki,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let busy = activity.begin();
    let comment = shared.access.borrow().authorised.get(&key).map(str::to_owned);
    let who = format!("{} ({key}) from {peer}", comment.as_deref().unwrap_or("?"));
    let mut response = routes::answer(shared, &who, request).await;
    response.body_mut().hold(Box::new(busy));
    Ok(response)
}

/// Runs a connection to its end, or until it has been idle for too long, or its key is not authorised any more.
async fn drive<C: Future>(
    mut connection: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
    activity: &Activity,
    shared: &Shared,
    key: &Spki,
) {
    let mut access = shared.access.clone();
    let mut closing = false;
    loop {
        let wake = if closing { Instant::now() + limits::GOODBYE } else { activity.idle_at() };
        tokio::select! {
            // How it ended (a reset, a protocol error) is the peer's affair.
            _ = connection.as_mut() => return,
            () = sleep_until(wake.into()) => {
                if closing {
                    return;
                }
                if activity.idle_at() <= Instant::now() {
                    finish(connection.as_mut());
                    closing = true;
                }
            }
            changed = access.changed() => {
                if changed.is_err() || access.borrow_and_update().authorised.get(key).is_none() {
                    return;
                }
            }
        }
    }
}

/// When a connection was last of use.
#[derive(Debug)]
struct Activity {
    in_flight: AtomicUsize,
    last: Mutex<Instant>,
}

impl Default for Activity {
    fn default() -> Self {
        Self { in_flight: AtomicUsize::new(0), last: Mutex::new(Instant::now()) }
    }
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Busy {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// When it will have been idle for too long, as far as is known now.
    fn idle_at(&self) -> Instant {
        let last = if self.in_flight.load(Ordering::Relaxed) > 0 {
            Instant::now()
        } else {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner)
        };
        last + limits::IDLE
    }
}

/// A request that has not been answered to its end.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
