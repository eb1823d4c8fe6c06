//! Names for bridged units: a small DNS responder on the bridge, for packets from the bridge only.
//!
//! ```text
//!  unit ── question ──▶ names ── ours ──▶ table, units ──▶ answer
//!                         │
//!                         └── not ours ──▶ forward ──▶ the machine's name servers
//! ```
//!
//! * A unit's name is answered with the addresses of those behind it that are in service, in random order, for one
//!   second; PID 1 says who is.
//! * With nobody in service the answer is empty, and not an error. musl, told SERVFAIL, waits five seconds for a better
//!   answer; with an empty one, getaddrinfo fails at once in musl and glibc, and HAProxy treats both alike. Without an
//!   SOA record nobody may keep it (RFC 2308, 5), so the unit is found as soon as it is back. NXDOMAIN would be a lie.
//! * Until PID 1 has said whose name is what, questions wait in the socket: what may be a unit's name leaks to nobody.
//! * Every bound is in [`limits`]; no socket here blocks.

mod forward;
pub mod message;
mod stream;
mod table;

pub use table::DOMAIN;

use crate::netlink;
use crate::plan::{self, Ipv6Net};
use crate::units::Units;
use crate::{limits, sys};
use forward::{Asker, Forward, Outcome};
use message::{A, AAAA, Code, PTR, Question, Record};
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket, sockopt,
};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use stream::Stream;
use table::{Found, Table};

/// Everybody's port for names.
const PORT: u16 = 53;

/// The responder.
#[derive(Debug, Default)]
pub struct Names {
    table: Option<Table>,
    sockets: Option<Sockets>,
    clients: BTreeMap<u64, Client>,
    last: u64,
    forward: Forward,
    ipv6: Option<Ipv6Net>,
}

#[derive(Debug)]
struct Sockets {
    datagrams: UdpSocket,
    listener: TcpListener,
}

/// A unit's TCP connection. It asks one question at a time.
#[derive(Debug)]
struct Client {
    stream: Stream,
    from: SocketAddr,
    /// Its question is on its way.
    waits: bool,
    until: Duration,
}

/// What can be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// Questions by UDP.
    Datagrams,
    /// New TCP connections.
    Listener,
    /// A unit's TCP connection.
    Client(u64),
    /// A server asked about a question.
    Server(u64, usize),
}

impl Names {
    /// Whose name is what, from now on.
    pub fn set_table(&mut self, names: BTreeMap<String, Vec<String>>) {
        self.table = Some(Table::new(names));
    }

    /// The units' IPv6 network.
    pub fn set_ipv6(&mut self, net: Option<Ipv6Net>) {
        self.ipv6 = net;
    }

    /// Whom to ask about other names: nobody on the bridge, who would ask us.
    pub fn set_servers(&mut self, servers: &[IpAddr]) {
        let others = servers.iter().copied().filter(|server| !plan::is_inside(*server, self.ipv6));
        self.forward.set_servers(others.take(limits::NAME_SERVERS).collect());
    }

    /// Listens on the bridge, which must be there; again is fine.
    pub fn listen(&mut self) -> netlink::Result<()> {
        if self.sockets.is_none() {
            let opened = (|| {
                let datagrams = UdpSocket::from(on_bridge(SockType::Datagram)?);
                let listener = on_bridge(SockType::Stream)?;
                listen(&listener, Backlog::new(16)?)?;
                Ok(Sockets { datagrams, listener: TcpListener::from(listener) })
            })();
            self.sockets = Some(opened.map_err(netlink::Error::Socket)?);
        }
        Ok(())
    }

    /// The sockets to wait for.
    pub fn watch(&self) -> Vec<(Token, BorrowedFd<'_>, PollFlags)> {
        let mut all = Vec::new();
        if let Some(sockets) = self.sockets.as_ref().filter(|_| self.table.is_some()) {
            all.push((Token::Datagrams, sockets.datagrams.as_fd(), PollFlags::POLLIN));
            all.push((Token::Listener, sockets.listener.as_fd(), PollFlags::POLLIN));
        }
        // Who waits for an answer is not read from, and its going away changes nothing.
        for (number, client) in self.clients.iter().filter(|(_, client)| !client.waits) {
            all.push((Token::Client(*number), client.stream.as_fd(), client.stream.events()));
        }
        let servers = self.forward.watch();
        all.extend(servers.map(|(number, place, fd, events)| (Token::Server(number, place), fd, events)));
        all
    }

    /// When [`Names::tick`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        self.clients.values().map(|client| client.until).chain(self.forward.deadline()).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, units: &Units, now: Duration) {
        for outcome in self.forward.tick(now) {
            self.finish(outcome, units, now);
        }
        let idle = self.clients.iter().filter(|(_, client)| client.until <= now);
        let idle: Vec<u64> = idle.map(|(number, _)| *number).collect();
        idle.into_iter().for_each(|number| self.drop_client(number));
    }

    /// Something is ready.
    pub fn ready(&mut self, token: Token, units: &Units, now: Duration) {
        match token {
            Token::Datagrams => self.datagrams(units, now),
            Token::Listener => self.accept(now),
            Token::Client(number) => self.client(number, true, units, now),
            Token::Server(number, place) => {
                if let Some(outcome) = self.forward.ready(number, place, now) {
                    self.finish(outcome, units, now);
                }
            }
        }
    }

    fn datagrams(&mut self, units: &Units, now: Duration) {
        let mut buffer = [0; limits::DNS_QUESTION];
        for _ in 0..limits::PACKETS_PER_TURN {
            let Some(sockets) = &self.sockets else { return };
            let Ok((length, from)) = sockets.datagrams.recv_from(&mut buffer) else { return };
            let asked = buffer.get(..length).unwrap_or_default();
            if let Reply::Now(answer) = self.consider(Asker::Datagram(from), asked, units, now) {
                self.send_datagram(&answer, from);
            }
        }
    }

    /// A lost answer is as a lost packet: the asker asks again.
    fn send_datagram(&self, answer: &[u8], to: SocketAddr) {
        if let Some(sockets) = &self.sockets {
            let _ = sockets.datagrams.send_to(answer, to);
        }
    }

    fn accept(&mut self, now: Duration) {
        for _ in 0..limits::PACKETS_PER_TURN {
            let Some(sockets) = &self.sockets else { return };
            let Ok((socket, from)) = sockets.listener.accept() else { return };
            let each = self.clients.values().filter(|client| client.from.ip() == from.ip()).count();
            let full = self.clients.len() >= limits::DNS_CONNECTIONS || each >= limits::DNS_CONNECTIONS_EACH;
            if full || socket.set_nonblocking(true).is_err() {
                continue;
            }
            self.last = self.last.wrapping_add(1);
            let stream = Stream::new(socket, limits::DNS_QUESTION);
            let until = now.saturating_add(limits::DNS_IDLE);
            self.clients.insert(self.last, Client { stream, from, waits: false, until });
        }
    }

    /// Answers what a connection asks, one question after the other. `fresh`: there is more to read, of which no more
    /// is read than one piece, so that nobody keeps the others waiting.
    fn client(&mut self, number: u64, fresh: bool, units: &Units, now: Duration) {
        if self.try_client(number, fresh, units, now).is_err() {
            self.drop_client(number);
        }
    }

    fn try_client(&mut self, number: u64, mut fresh: bool, units: &Units, now: Duration) -> io::Result<()> {
        loop {
            let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
            client.stream.flush()?;
            // Who does not take the answers gets no more of them.
            if client.waits || client.stream.events().contains(PollFlags::POLLOUT) {
                return Ok(());
            }
            let Some(asked) = client.stream.message()? else {
                if std::mem::take(&mut fresh) && client.stream.read()? {
                    continue;
                }
                return Ok(());
            };
            client.until = now.saturating_add(limits::DNS_IDLE);
            client.waits = true;
            let asker = Asker::Stream(number, client.from);
            match self.consider(asker, &asked, units, now) {
                Reply::Now(answer) => self.send_stream(number, &answer, now)?,
                Reply::Later => {}
                Reply::Never => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    fn send_stream(&mut self, number: u64, answer: &[u8], now: Duration) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
        client.waits = false;
        client.until = now.saturating_add(limits::DNS_IDLE);
        client.stream.send(answer)
    }

    fn drop_client(&mut self, number: u64) {
        self.clients.remove(&number);
        self.forward.forget(number);
    }

    fn consider(&mut self, asker: Asker, asked: &[u8], units: &Units, now: Duration) -> Reply {
        let question = match Question::parse(asked) {
            Ok(question) => question,
            Err(rejected) => return rejected.map_or(Reply::Never, Reply::Now),
        };
        let name = question.name();
        let found = match (&name, &self.table) {
            (Some(name), Some(table)) => table.find(name, self.ipv6),
            _ => Found::Elsewhere,
        };
        let (code, records) = match found {
            Found::Units(behind) => (Code::NoError, addresses(&question, behind, units)),
            Found::Address(ip) => match units.at(ip) {
                Some(unit) if question.wants(PTR) => {
                    (Code::NoError, vec![Record::Name(format!("{unit}.{DOMAIN}"))])
                }
                Some(_) => (Code::NoError, Vec::new()),
                None => (Code::NxDomain, Vec::new()),
            },
            Found::Nothing => (Code::NxDomain, Vec::new()),
            Found::Elsewhere => {
                let outcome = self.forward.ask(asker, question, now);
                return outcome.map_or(Reply::Later, |outcome| Reply::Now(outcome.answer()));
            }
        };
        Reply::Now(question.answer(code, &records, asker.room(&question)))
    }

    /// Gives the asker what came of its question, and looks at its next one.
    fn finish(&mut self, outcome: Outcome, units: &Units, now: Duration) {
        let answer = outcome.answer();
        match outcome.asker {
            Asker::Datagram(from) => self.send_datagram(&answer, from),
            Asker::Stream(number, _) => match self.send_stream(number, &answer, now) {
                Ok(()) => self.client(number, false, units, now),
                Err(_) => self.drop_client(number),
            },
        }
    }
}

/// What becomes of a message.
enum Reply {
    /// An answer.
    Now(Vec<u8>),
    /// Somebody else was asked.
    Later,
    /// Nothing at all.
    Never,
}

/// The addresses of those `behind` a name, of the family that is asked for, in random order.
fn addresses(question: &Question, behind: &[String], units: &Units) -> Vec<Record> {
    let mut addresses: Vec<IpAddr> = behind.iter().flat_map(|unit| units.addresses(unit)).collect();
    addresses.retain(|ip| question.wants(if ip.is_ipv4() { A } else { AAAA }));
    let mut random = sys::random();
    for end in (1..addresses.len()).rev() {
        // Numerical Recipes' generator: the order need not be a secret.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let below = u64::try_from(end + 1).unwrap_or(1);
        addresses.swap(end, usize::try_from((random >> 33) % below).unwrap_or(0));
    }
    addresses.into_iter().map(Record::Address).collect()
}

/// A socket that does not block, at the bridge's address, for what comes over the bridge.
fn on_bridge(kind: SockType) -> nix::Result<OwnedFd> {
    let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if kind == SockType::Stream {
        // The agent before us may have left connections that are closing.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    setsockopt(&socket, sockopt::BindToDevice, &plan::BRIDGE.into())?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(plan::GATEWAY, PORT)))?;
    Ok(socket)
}
