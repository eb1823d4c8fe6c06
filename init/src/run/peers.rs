//! The control socket: who is there, what each may say, packets in and out. Nothing waits for a peer: sockets do not
//! block, queues are bounded, and who is slow, silent or talks nonsense is dropped.
//!
//! A peer is its unit, found by the cgroup of the process that connected. What it may say follows from that:
//!
//! | unit | may say |
//! |---|---|
//! | `api` | every [`Request`]; as a worker: Hello, Ready, Status, ApiKey |
//! | `net` | Hello, Ready, Status, Addresses, Attached, AttachFailed |
//! | `meta`, `cloud` | Hello, Ready, Status, ConfigFound, ConfigRefused, ConfigNone; `meta` also Instances |
//! | `store` | Hello, Ready, Status, Prepared, PrepareFailed, Collected, Loaded |
//! | `fetch` | Hello, Ready, Status, Fetched, FetchFailed, FetchProgress |
//! | `update` | Hello, Ready, Status, UpdateOffer, UpdateProgress, UpdateWritten, UpdateFailed |
//! | any other system unit with `control` | Hello, Ready, Status |
//! | everybody else | nothing: the connection is closed |

use super::limits;
use super::reactor::{Reactor, Source, Watch};
use super::supervisor::{API, CLOUD, FETCH, INSTALL, META, NET, STORE, TIME, UPDATE};
use berth_units::control::{FromWorker, Reply, Request, ToInit, ToWorker, packet, sealed};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// What a peer brought.
#[derive(Debug)]
pub enum Said {
    /// An operator's question; answer with [`Peers::reply`].
    Ask {
        /// The connection.
        peer: u64,
        /// What it asks.
        request: Request,
        /// What rode along.
        fds: Vec<OwnedFd>,
    },
    /// A worker's message.
    Worker {
        /// Its unit.
        unit: String,
        /// What it says.
        message: FromWorker,
        /// What rode along.
        fds: Vec<OwnedFd>,
    },
    /// A worker's connection is gone.
    Gone {
        /// Its unit.
        unit: String,
    },
}

/// May this unit say this?
pub fn may_say(unit: &str, message: &ToInit) -> bool {
    match message {
        ToInit::Request(_) => unit == API,
        ToInit::Worker(message) => match message {
            FromWorker::Hello | FromWorker::Ready | FromWorker::Status { .. } => true,
            FromWorker::ApiKey { .. } => unit == API,
            FromWorker::Instances { .. } => unit == META,
            FromWorker::Clock { .. } => unit == TIME,
            FromWorker::Addresses { .. } | FromWorker::Attached { .. } | FromWorker::AttachFailed { .. } => {
                unit == NET
            }
            FromWorker::ConfigFound { .. }
            | FromWorker::ConfigRefused { .. }
            | FromWorker::ConfigNone { .. } => matches!(unit, META | CLOUD),
            FromWorker::Prepared { .. }
            | FromWorker::PrepareFailed { .. }
            | FromWorker::Collected { .. }
            | FromWorker::Loaded { .. } => unit == STORE,
            FromWorker::UpdateOffer(_)
            | FromWorker::UpdateProgress { .. }
            | FromWorker::UpdateWritten { .. }
            | FromWorker::UpdateFailed { .. } => unit == UPDATE,
            FromWorker::InstallProgress { .. } | FromWorker::Installed | FromWorker::InstallFailed { .. } => {
                unit == INSTALL
            }
            FromWorker::Fetched { .. }
            | FromWorker::FetchFailed { .. }
            | FromWorker::FetchProgress { .. } => unit == FETCH,
        },
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing said yet.
    New,
    Worker,
    /// Has asked; gets its answer and is closed.
    Operator,
}

#[derive(Debug)]
struct Packet {
    json: serde_json::Value,
    fds: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Peer {
    socket: OwnedFd,
    watch: Watch,
    unit: String,
    kind: Kind,
    queue: VecDeque<Packet>,
    /// Dropped then, unless something happens.
    deadline: Option<Duration>,
}

/// Every connection.
#[derive(Debug, Default)]
pub struct Peers {
    peers: BTreeMap<u64, Peer>,
    last: u64,
    buffer: Vec<u8>,
}

impl Peers {
    /// Takes in a connection from a process of this unit.
    pub fn add(
        &mut self,
        reactor: &mut Reactor,
        socket: OwnedFd,
        unit: &str,
        now: Duration,
    ) -> io::Result<()> {
        if self.peers.len() >= berth_units::limits::CONNECTIONS {
            return Err(io::Error::other(format!("{} connections are open already", self.peers.len())));
        }
        self.last += 1;
        let watch = reactor.watch(&socket, Source::Peer(self.last))?;
        let deadline = Some(now.saturating_add(limits::CONNECTION_IDLE));
        let peer =
            Peer { socket, watch, unit: unit.to_owned(), kind: Kind::New, queue: VecDeque::new(), deadline };
        self.peers.insert(self.last, peer);
        Ok(())
    }

    /// A connection can be read, or written to.
    pub fn ready(&mut self, reactor: &mut Reactor, id: u64, now: Duration) -> Vec<Said> {
        let mut said = Vec::new();
        self.flush(reactor, id, now, &mut said);
        for _ in 0..limits::PACKETS_PER_PASS {
            match self.read(id) {
                Ok(Some((message, fds))) => {
                    if !self.take(reactor, id, message, fds, &mut said) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let unit = self.peers.get(&id).map_or("", |peer| &peer.unit);
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        log::warn!("control connection of {unit} closed: {error}");
                    }
                    self.drop_peer(reactor, id, &mut said);
                    break;
                }
            }
        }
        said
    }

    fn read(&mut self, id: u64) -> io::Result<Option<(ToInit, Vec<OwnedFd>)>> {
        let Some(peer) = self.peers.get(&id) else { return Ok(None) };
        if self.buffer.is_empty() {
            self.buffer = packet::buffer();
        }
        match packet::recv(peer.socket.as_fd(), &mut self.buffer) {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One packet; false if the connection is gone.
    fn take(
        &mut self,
        reactor: &mut Reactor,
        id: u64,
        message: ToInit,
        fds: Vec<OwnedFd>,
        said: &mut Vec<Said>,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        if !may_say(&peer.unit, &message) {
            log::warn!("unit {} said what it may not say; connection closed", peer.unit);
            self.drop_peer(reactor, id, said);
            return false;
        }
        match (&peer.kind, message) {
            (Kind::New, ToInit::Request(request)) => {
                peer.kind = Kind::Operator;
                said.push(Said::Ask { peer: id, request, fds });
                true
            }
            (Kind::New, ToInit::Worker(FromWorker::Hello)) => {
                let unit = peer.unit.clone();
                peer.kind = Kind::Worker;
                peer.deadline = None;
                // One connection a worker: a new one replaces the old.
                let old: Vec<u64> = self
                    .peers
                    .iter()
                    .filter(|(other, peer)| **other != id && peer.kind == Kind::Worker && peer.unit == unit)
                    .map(|(other, _)| *other)
                    .collect();
                for other in old {
                    self.drop_peer(reactor, other, said);
                }
                said.push(Said::Worker { unit, message: FromWorker::Hello, fds });
                true
            }
            (Kind::Worker, ToInit::Worker(message)) if !matches!(message, FromWorker::Hello) => {
                said.push(Said::Worker { unit: peer.unit.clone(), message, fds });
                true
            }
            _ => {
                log::warn!("unit {} broke the protocol; connection closed", peer.unit);
                self.drop_peer(reactor, id, said);
                false
            }
        }
    }

    /// Answers an operator.
    pub fn reply(&mut self, reactor: &mut Reactor, id: u64, reply: &Reply, fds: Vec<OwnedFd>, now: Duration) {
        self.queue(reactor, id, reply, fds, now);
    }

    /// Queues a message to a worker; false if it is not connected.
    pub fn tell(
        &mut self,
        reactor: &mut Reactor,
        unit: &str,
        message: &ToWorker,
        fds: Vec<OwnedFd>,
        now: Duration,
    ) -> bool {
        let peer = self.peers.iter().find(|(_, peer)| peer.kind == Kind::Worker && peer.unit == unit);
        let Some(id) = peer.map(|(id, _)| *id) else { return false };
        self.queue(reactor, id, message, fds, now)
    }

    fn queue(
        &mut self,
        reactor: &mut Reactor,
        id: u64,
        message: &impl Serialize,
        fds: Vec<OwnedFd>,
        now: Duration,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        let Ok(json) = serde_json::to_value(message) else { return false };
        if peer.queue.len() >= limits::QUEUE {
            log::warn!("unit {} does not read its messages; connection closed", peer.unit);
            // Its end is noticed with the next event, so that nobody is told from within a message to it.
            let _ =
                nix::sys::socket::shutdown(fd_number(peer.socket.as_fd()), nix::sys::socket::Shutdown::Both);
            return false;
        }
        peer.queue.push_back(Packet { json, fds });
        self.flush(reactor, id, now, &mut Vec::new());
        true
    }

    /// Sends what can be sent. A connection that fails is shut down and dropped when its end is read.
    fn flush(&mut self, reactor: &mut Reactor, id: u64, now: Duration, said: &mut Vec<Said>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let had = !peer.queue.is_empty();
        while let Some(packet) = peer.queue.front() {
            let fds: Vec<BorrowedFd<'_>> = packet.fds.iter().map(AsFd::as_fd).collect();
            match packet::send(peer.socket.as_fd(), &packet.json, &fds) {
                Ok(()) => {
                    peer.queue.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    // Too large: the rest of the queue is not to blame. An operator gets a reason instead.
                    log::error!("to unit {}: {error}", peer.unit);
                    peer.queue.pop_front();
                    if peer.kind == Kind::Operator {
                        let reply =
                            super::supervisor::refuse("failed", "the answer is too long for one message");
                        let json = serde_json::to_value(reply).unwrap_or_default();
                        peer.queue.push_front(Packet { json, fds: Vec::new() });
                    }
                }
                Err(_) => {
                    let socket = fd_number(peer.socket.as_fd());
                    let _ = nix::sys::socket::shutdown(socket, nix::sys::socket::Shutdown::Both);
                    return;
                }
            }
        }
        let waits = !peer.queue.is_empty();
        if waits && peer.deadline.is_none() {
            peer.deadline = Some(now.saturating_add(limits::CONNECTION_IDLE));
        } else if !waits && peer.kind == Kind::Worker {
            peer.deadline = None;
        }
        if waits || had {
            let _ = reactor.watch_writing(&peer.socket, &peer.watch, waits);
        }
        if !waits && had && peer.kind == Kind::Operator {
            self.drop_peer(reactor, id, said);
        }
    }

    fn drop_peer(&mut self, reactor: &mut Reactor, id: u64, said: &mut Vec<Said>) {
        let Some(peer) = self.peers.remove(&id) else { return };
        reactor.forget(&peer.socket, peer.watch);
        if peer.kind == Kind::Worker {
            said.push(Said::Gone { unit: peer.unit });
        }
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Duration> {
        self.peers.values().filter_map(|peer| peer.deadline).min()
    }

    /// Drops who is late.
    pub fn tick(&mut self, reactor: &mut Reactor, now: Duration) -> Vec<Said> {
        let late: Vec<u64> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.deadline.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        let mut said = Vec::new();
        for id in late {
            let unit = self.peers.get(&id).map_or("", |peer| &peer.unit);
            log::warn!("control connection of {unit} closed: nothing happened on it for too long");
            self.drop_peer(reactor, id, &mut said);
        }
        said
    }
}

/// The text of a config that came with a message of this unit's; nothing if it can still be changed, or is too long.
pub fn config_of(fd: Option<OwnedFd>, unit: &str) -> Option<Vec<u8>> {
    let text = sealed::read(fd?, berth_units::limits::CONFIG_BYTES);
    text.map_err(|error| log::warn!("unit {unit} sent a config that {error}")).ok()
}

fn fd_number(fd: BorrowedFd<'_>) -> i32 {
    use std::os::fd::AsRawFd;
    fd.as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_units::control::client::Client;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    struct Server {
        peers: Peers,
        reactor: Reactor,
    }

    impl Server {
        fn new() -> Self {
            Self { peers: Peers::default(), reactor: Reactor::new().unwrap() }
        }

        fn connect(&mut self, unit: &str) -> Client {
            let (ours, theirs) =
                socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
            let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
            nix::fcntl::fcntl(&ours, flags).unwrap();
            self.peers.add(&mut self.reactor, ours, unit, Duration::ZERO).unwrap();
            Client::from_fd(theirs)
        }

        fn poll(&mut self) -> Vec<Said> {
            let mut said = Vec::new();
            for source in self.reactor.wait(Duration::ZERO) {
                let Source::Peer(id) = source else { panic!() };
                said.extend(self.peers.ready(&mut self.reactor, id, Duration::ZERO));
            }
            said
        }

        fn tell(&mut self, unit: &str) -> bool {
            let message = ToWorker::Detach { unit: "web".into() };
            self.peers.tell(&mut self.reactor, unit, &message, Vec::new(), Duration::ZERO)
        }
    }

    #[test]
    fn an_operator_gets_one_answer() {
        let mut server = Server::new();
        let client = server.connect(API);
        client.send(&ToInit::Request(Request::Ps), &[]).unwrap();
        let said = server.poll();
        let [Said::Ask { peer, request: Request::Ps, .. }] = said[..] else { panic!("{said:?}") };
        let (file, _) = std::io::pipe().unwrap();
        let reply = Reply::Log { generation: 7, segments: 1 };
        server.peers.reply(&mut server.reactor, peer, &reply, vec![file.into()], Duration::ZERO);
        let (reply, fds): (Reply, _) = packet::recv(client.as_fd(), &mut packet::buffer()).unwrap();
        assert!(matches!(reply, Reply::Log { generation: 7, .. }));
        assert_eq!(fds.len(), 1);
        assert!(server.peers.peers.is_empty());
    }

    #[test]
    fn a_worker_is_told_and_replaced_by_its_successor() {
        let mut server = Server::new();
        assert!(!server.tell(NET));
        let mut first = server.connect(NET);
        first.tell(FromWorker::Hello).unwrap();
        first.tell(FromWorker::Ready).unwrap();
        assert!(matches!(
            server.poll()[..],
            [
                Said::Worker { message: FromWorker::Hello, .. },
                Said::Worker { message: FromWorker::Ready, .. }
            ]
        ));
        assert!(server.tell(NET));
        assert!(matches!(first.recv().unwrap().0, ToWorker::Detach { .. }));
        let second = server.connect(NET);
        second.tell(FromWorker::Hello).unwrap();
        let said = server.poll();
        assert!(matches!(&said[..], [Said::Gone { unit }, Said::Worker { .. }] if unit == NET), "{said:?}");
        assert!(first.recv().is_err());
        drop(second);
        assert!(matches!(server.poll()[..], [Said::Gone { .. }]));
    }

    #[test]
    fn nobody_says_what_is_not_theirs_to_say() {
        let address = "10.0.0.1".parse().unwrap();
        let cases = [
            (NET, ToInit::Request(Request::Reboot)),
            (STORE, ToInit::Worker(FromWorker::Attached { unit: "web".into(), address })),
            (NET, ToInit::Worker(FromWorker::ConfigNone { looked: vec![], notes: vec![], cloud: None })),
            (META, ToInit::Worker(FromWorker::ApiKey { fingerprint: String::new(), port: 1 })),
            (API, ToInit::Worker(FromWorker::Prepared { reference: String::new() })),
            // Not its turn.
            (NET, ToInit::Worker(FromWorker::Ready)),
        ];
        for (unit, message) in cases {
            let mut server = Server::new();
            let mut client = server.connect(unit);
            client.send(&message, &[]).unwrap();
            assert!(server.poll().is_empty(), "{message:?}");
            assert!(client.recv().is_err());
        }
    }

    #[test]
    fn rubbish_and_silence_end_a_connection() {
        let mut server = Server::new();
        let rubbish = server.connect(NET);
        nix::unistd::write(rubbish.as_fd(), b"\xff\xff").unwrap();
        server.poll();
        let _silent = server.connect(NET);
        assert_eq!(server.peers.peers.len(), 1);
        assert_eq!(server.peers.next(), Some(limits::CONNECTION_IDLE));
        server.peers.tick(&mut server.reactor, limits::CONNECTION_IDLE);
        assert!(server.peers.peers.is_empty());
    }

    #[test]
    fn who_does_not_read_is_dropped_and_never_waited_for() {
        let mut server = Server::new();
        let client = server.connect(NET);
        client.tell(FromWorker::Hello).unwrap();
        server.poll();
        let mut told = 0;
        while server.tell(NET) {
            told += 1;
            assert!(told < 100_000);
        }
        assert!(told > limits::QUEUE);
        assert!(server.peers.next().is_some());
        assert!(matches!(server.poll()[..], [Said::Gone { .. }]));
    }

    #[test]
    fn connections_are_counted() {
        let mut server = Server::new();
        let _all: Vec<Client> = (0..berth_units::limits::CONNECTIONS).map(|_| server.connect(NET)).collect();
        let (one, _two) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        assert!(server.peers.add(&mut server.reactor, one, NET, Duration::ZERO).is_err());
    }
}
