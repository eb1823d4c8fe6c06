//! Listening, letting in, cutting off.
//!
//! One thread runs everything but two things: a second one reads what PID 1 sends on the worker connection, and
//! questions to PID 1 block on a small pool.

mod connection;
mod refusals;

use crate::identity::{self, Identity, IdentityError};
use crate::keys::Authorised;
use crate::limits;
use crate::routes::{Access, Shared};
use crate::stats::Sources;
use crate::tls::Machine;
use berth_units::control::client::Client;
use berth_units::control::{API_PORT, FromWorker, ToInit, ToWorker};
use berth_units::paths;
use connection::Door;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The unit's data folder on a machine.
pub const DATA: &str = "/var/lib/api";

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// PID 1's socket.
    pub socket: PathBuf,
    /// The unit's data folder.
    pub data: PathBuf,
    /// Where the store describes its images.
    pub images: PathBuf,
    /// Where the kernel tells what is used.
    pub figures: Sources,
    /// Addresses to listen on: the first that works.
    pub listen: Vec<SocketAddr>,
}

impl Settings {
    /// On a machine: both families on one socket, or IPv4 alone where the kernel has no IPv6.
    pub fn machine() -> Self {
        Self {
            socket: PathBuf::from(paths::CONTROL_SOCKET),
            data: PathBuf::from(DATA),
            images: Path::new(paths::STATE_IMAGES).join("index"),
            figures: Sources::machine(),
            listen: vec![(Ipv6Addr::UNSPECIFIED, API_PORT).into(), (Ipv4Addr::UNSPECIFIED, API_PORT).into()],
        }
    }
}

/// Why the server ends.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The worker connection failed
    #[error("API server stops: connection to PID 1: {0}")]
    Control(io::Error),
    /// The key cannot be made
    #[error("API server stops: {0}")]
    Identity(#[from] IdentityError),
    /// No address can be listened on
    #[error("API server stops: cannot listen on {address}: {error}")]
    Listen {
        /// The last one tried.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The runtime cannot be made
    #[error("API server stops: {0}")]
    Runtime(io::Error),
}

/// Serves until something can be read from `stop`, which leaves open connections [`limits::LAST_ANSWERS`], or until PID 1
/// closes the worker connection, which is an error: PID 1 outlives its units.
pub fn serve(settings: &Settings, stop: UnixStream) -> Result<(), ServeError> {
    let (identity, note) = identity::load_or_make(&settings.data)?;
    let mut init = hello(&settings.socket).map_err(ServeError::Control)?;
    let voice = Voice { client: init.try_clone().map_err(ServeError::Control)?, note };
    let access = init.next_access().map_err(ServeError::Control)?;
    let (access, heard) = watch::channel(access);
    let reader = std::thread::Builder::new().name("pid1".into()).spawn(move || listen_to_init(init, &access));
    reader.map_err(ServeError::Runtime)?;

    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(limits::THREADS)
        .build()
        .map_err(ServeError::Runtime)?;
    stop.set_nonblocking(true).map_err(ServeError::Runtime)?;
    runtime.block_on(run(settings, identity, voice, heard, stop))
}

/// The worker connection.
struct Worker(Client);

fn hello(socket: &Path) -> io::Result<Worker> {
    let client = Client::connect_to(socket)?;
    client.tell(FromWorker::Hello)?;
    Ok(Worker(client))
}

impl Worker {
    /// Another handle to the same connection, to speak while this one listens.
    fn try_clone(&self) -> io::Result<Client> {
        Ok(Client::from_fd(self.0.as_fd().try_clone_to_owned()?))
    }

    /// The next word on access; what is meant for other workers is passed over.
    fn next_access(&mut self) -> io::Result<Access> {
        loop {
            if let (ToWorker::Access { keys, hostname }, _) = self.0.recv()? {
                return Ok(Access { authorised: Arc::new(Authorised::from_lines(&keys)), hostname });
            }
        }
    }
}

/// Passes on changes until PID 1 is gone; dropping the sender then ends the server.
fn listen_to_init(mut init: Worker, access: &watch::Sender<Access>) {
    loop {
        match init.next_access() {
            Ok(now) => {
                if access.send(now).is_err() {
                    return;
                }
            }
            Err(error) => {
                eprintln!("connection to PID 1: {error}");
                return;
            }
        }
    }
}

/// What we tell PID 1.
struct Voice {
    client: Client,
    /// About the machine's key, if there is something to say.
    note: Option<String>,
}

impl Voice {
    fn say(&self, message: FromWorker) -> Result<(), ServeError> {
        self.client.send(&ToInit::Worker(message), &[]).map_err(ServeError::Control)
    }

    fn status(&self, port: u16, access: &Access) -> Result<(), ServeError> {
        let text = status_text(port, &access.authorised, self.note.as_deref());
        eprintln!("{text}");
        self.say(FromWorker::Status { text })
    }
}

/// The sentence for `berth ps` and the console.
fn status_text(port: u16, authorised: &Authorised, note: Option<&str>) -> String {
    let keys = match authorised.len() {
        0 => "no key is authorised, so nobody can come in; [access] keys in the machine config names them"
            .into(),
        1 => "1 key authorised".into(),
        n => format!("{n} keys authorised"),
    };
    let mut text = format!("listening on port {port}, {keys}");
    for more in note.into_iter().chain(authorised.unusable.iter().map(String::as_str)) {
        text.push_str("; ");
        text.push_str(more);
    }
    // Many bad keys must not make a message that PID 1 refuses.
    if text.len() > 4096 {
        text = text.chars().take(4000).chain("…".chars()).collect();
    }
    text
}

async fn run(
    settings: &Settings,
    identity: Identity,
    voice: Voice,
    mut access: watch::Receiver<Access>,
    stop: UnixStream,
) -> Result<(), ServeError> {
    let stop = tokio::net::UnixStream::from_std(stop).map_err(ServeError::Runtime)?;
    let listener = bind(&settings.listen).await?;
    let port = listener.local_addr().map_err(ServeError::Runtime)?.port();
    let (images, figures) = (settings.images.clone(), settings.figures.clone());
    let shared = Shared::new(settings.socket.clone(), images, figures, access.clone());
    let now = access.borrow_and_update().clone();
    let certificate = identity::certificate_in(&settings.data, &identity)?;
    let door = Door::new(shared, Machine::new(&identity, certificate));
    voice.say(FromWorker::ApiKey { fingerprint: identity.spki().fingerprint(), port })?;
    voice.status(port, &now)?;
    voice.say(FromWorker::Ready)?;

    let mut handshakes = Handshakes::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // IPv4 peers of a socket for both families are shown as what they are.
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    admit(&mut handshakes, &door, stream, peer);
                }
                Err(error) => pause(&error).await,
            },
            // Whoever asked for the machine's end gets an answer before it.
            _ = stop.readable() => {
                drop(listener);
                door.emptied(limits::LAST_ANSWERS).await;
                return Ok(());
            }
            changed = access.changed() => {
                if changed.is_err() {
                    return Err(ServeError::Control(io::ErrorKind::UnexpectedEof.into()));
                }
                let now = access.borrow_and_update().clone();
                voice.status(port, &now)?;
            }
        }
    }
}

async fn bind(addresses: &[SocketAddr]) -> Result<TcpListener, ServeError> {
    let mut last = None;
    for &address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(ServeError::Listen { address, error }),
        }
    }
    Err(last.unwrap_or_else(|| ServeError::Runtime(io::ErrorKind::InvalidInput.into())))
}

/// Handshakes in progress, oldest first, by where they come from.
type Handshakes = VecDeque<(IpAddr, AbortHandle)>;

/// Starts a handshake; of too many, one goes.
fn admit(handshakes: &mut Handshakes, door: &Door, stream: TcpStream, peer: SocketAddr) {
    handshakes.retain(|(_, handshake)| !handshake.is_finished());
    while handshakes.len() >= limits::HANDSHAKES {
        let who: Vec<IpAddr> = handshakes.iter().map(|(who, _)| *who).collect();
        if let Some((_, handshake)) = one_too_many(&who).and_then(|at| handshakes.remove(at)) {
            handshake.abort();
        }
    }
    let task = tokio::spawn(door.clone().handshake(stream, peer));
    handshakes.push_back((network(peer.ip()), task.abort_handle()));
}

/// Which of these is in progress longest, of whoever has most.
fn one_too_many(who: &[IpAddr]) -> Option<usize> {
    let count = |one: &IpAddr| who.iter().filter(|other| *other == one).count();
    let most = who.iter().map(count).max()?;
    who.iter().position(|one| count(one) == most)
}

/// An IPv6 host has a /64 to itself.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

/// `accept` fails for a peer that has gone again, or for want of descriptors, which pass with time only.
async fn pause(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        eprintln!("connection not accepted: {error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_handshakes_whoever_has_most_loses_the_oldest() {
        let who =
            |names: &[&str]| names.iter().map(|name| network(name.parse().unwrap())).collect::<Vec<_>>();
        assert_eq!(one_too_many(&who(&["10.0.0.9", "10.0.0.1", "10.0.0.1"])), Some(1));
        assert_eq!(one_too_many(&who(&["10.0.0.9", "10.0.0.1"])), Some(0));
        assert_eq!(one_too_many(&who(&["10.0.0.9", "2001:db8::1", "2001:db8::2"])), Some(1));
        assert_eq!(one_too_many(&[]), None);
    }

    #[test]
    fn the_status_says_what_an_operator_needs() {
        assert_eq!(
            status_text(7443, &Authorised::default(), None),
            "listening on port 7443, no key is authorised, so nobody can come in; [access] keys in the machine \
             config names them"
        );
        let some = Authorised::from_lines(&["ssh-rsa AAAA me@old"]);
        assert!(status_text(1, &some, Some("note")).contains("; note; key 1 (me@old): ssh-rsa keys cannot"));
        let many = Authorised::from_lines(&vec![format!("ssh-rsa A {}", "é".repeat(80)); 200]);
        assert!(status_text(1, &many, None).len() < 16 * 1024);
    }
}
