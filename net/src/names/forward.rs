//! Questions about other names, on their way to the machine's name servers.
//!
//! A question is asked of one server after the other, [`limits::DNS_TRY`] apart, beginning with the one that answered
//! last; whoever answers first is believed, if address, port, number and question are those that were asked. Each
//! server is asked from a socket of its own, whose port and number are random, so a stranger has to guess both. What is
//! asked by TCP is asked by TCP; an answer by UDP that is cut short is passed on, and the asker comes back by TCP.
//! Nothing is kept: there is no cache to poison.

use super::message::{Code, Question, code_of};
use super::stream::Stream;
use crate::{limits, sys};
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, connect, socket};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Response codes that another server may do better than: SERVFAIL, NOTIMP, REFUSED.
const USELESS: [u16; 3] = [2, 4, 5];

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// By UDP, from there.
    Datagram(SocketAddr),
    /// By TCP: the connection's number, and from where.
    Stream(u64, SocketAddr),
}

impl Asker {
    fn ip(&self) -> IpAddr {
        match self {
            Self::Datagram(from) | Self::Stream(_, from) => from.ip(),
        }
    }

    /// Bytes of an answer that it takes.
    pub fn room(&self, question: &Question) -> usize {
        match self {
            Self::Datagram(_) => question.room(),
            Self::Stream(..) => limits::DNS_ANSWER,
        }
    }
}

/// A question that is done with: an answer of somebody, or none.
#[derive(Debug)]
pub struct Outcome {
    /// Who asked.
    pub asker: Asker,
    question: Question,
    /// A server's answer, under the number that the server was told.
    found: Option<Vec<u8>>,
}

impl Outcome {
    /// What the asker is told.
    pub fn answer(&self) -> Vec<u8> {
        let room = self.asker.room(&self.question);
        match &self.found {
            Some(found) => self.question.relay(found, room),
            None => self.question.answer(Code::ServFail, &[], room),
        }
    }
}

#[derive(Debug)]
enum Via {
    Datagram(UdpSocket),
    Stream(Box<Stream>),
}

/// One server, asked.
#[derive(Debug)]
struct Try {
    server: IpAddr,
    id: u16,
    /// None = it failed.
    via: Option<Via>,
}

#[derive(Debug)]
struct Pending {
    asker: Asker,
    question: Question,
    tries: Vec<Try>,
    asked: u32,
    next: Duration,
    /// What the last useless server said.
    useless: Option<Vec<u8>>,
}

/// All questions on their way.
#[derive(Debug, Default)]
pub struct Forward {
    servers: Vec<IpAddr>,
    /// Place of the server that is asked first.
    first: usize,
    pending: BTreeMap<u64, Pending>,
    last: u64,
}

impl Forward {
    /// Who is asked from now on.
    pub fn set_servers(&mut self, servers: Vec<IpAddr>) {
        if self.servers != servers {
            self.servers = servers;
            self.first = 0;
        }
    }

    /// Takes a question. The outcome may be there at once.
    pub fn ask(&mut self, asker: Asker, question: Question, now: Duration) -> Option<Outcome> {
        // An asker who is impatient asks the same again; one answer does.
        if self.pending.values().any(|pending| pending.asker == asker && pending.question == question) {
            return None;
        }
        let each = self.pending.values().filter(|pending| pending.asker.ip() == asker.ip()).count();
        if self.pending.len() >= limits::DNS_QUESTIONS || each >= limits::DNS_QUESTIONS_EACH {
            return Some(Outcome { asker, question, found: None });
        }
        let mut pending = Pending { asker, question, tries: Vec::new(), asked: 0, next: now, useless: None };
        if !pending.go_on(&self.servers, self.first, now) {
            return Some(pending.end(None));
        }
        self.last = self.last.wrapping_add(1);
        self.pending.insert(self.last, pending);
        None
    }

    /// The sockets to wait for: question, server's place, events.
    pub fn watch(&self) -> impl Iterator<Item = (u64, usize, BorrowedFd<'_>, PollFlags)> {
        self.pending.iter().flat_map(|(number, pending)| {
            pending.tries.iter().enumerate().filter_map(|(place, one)| match one.via.as_ref()? {
                Via::Datagram(socket) => Some((*number, place, socket.as_fd(), PollFlags::POLLIN)),
                Via::Stream(stream) => Some((*number, place, stream.as_fd(), stream.events())),
            })
        })
    }

    /// Something came in for a question from one of the servers.
    pub fn ready(&mut self, number: u64, place: usize, now: Duration) -> Option<Outcome> {
        let pending = self.pending.get_mut(&number)?;
        let one = pending.tries.get_mut(place)?;
        let answer = match one.receive(&pending.question) {
            Ok(None) => return None,
            Ok(Some(answer)) if !USELESS.contains(&code_of(&answer)) => {
                if let Some(place) = self.servers.iter().position(|server| *server == one.server) {
                    self.first = place;
                }
                Some(answer)
            }
            useless => {
                one.via = None;
                pending.useless = useless.ok().flatten().or(pending.useless.take());
                if pending.go_on(&self.servers, self.first, now) {
                    return None;
                }
                pending.useless.take()
            }
        };
        Some(self.pending.remove(&number)?.end(answer))
    }

    /// When [`Forward::tick`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        self.pending.values().map(|pending| pending.next).min()
    }

    /// Asks the next server where the last one was silent.
    pub fn tick(&mut self, now: Duration) -> Vec<Outcome> {
        let mut over = Vec::new();
        for (number, pending) in self.pending.iter_mut().filter(|(_, pending)| pending.next <= now) {
            if pending.asked >= limits::DNS_TRIES || !pending.go_on(&self.servers, self.first, now) {
                over.push(*number);
            }
        }
        let mut end = |number| {
            let mut pending = self.pending.remove(&number)?;
            let useless = pending.useless.take();
            Some(pending.end(useless))
        };
        over.into_iter().filter_map(&mut end).collect()
    }

    /// Nobody waits for these answers any more.
    pub fn forget(&mut self, connection: u64) {
        self.pending
            .retain(|_, pending| !matches!(pending.asker, Asker::Stream(number, _) if number == connection));
    }
}

impl Pending {
    /// Asks the next server that can be asked at all; false if there is none left.
    fn go_on(&mut self, servers: &[IpAddr], first: usize, now: Duration) -> bool {
        self.next = now.saturating_add(limits::DNS_TRY);
        for _ in 0..servers.len() {
            let turn = usize::try_from(self.asked).unwrap_or(0);
            let Some(server) = servers.get(first.wrapping_add(turn) % servers.len()) else { return false };
            self.asked = self.asked.saturating_add(1);
            match self.tries.iter_mut().find(|one| one.server == *server) {
                Some(one) => {
                    if one.again(&self.question) {
                        return true;
                    }
                }
                None => {
                    let one = Try::start(*server, &self.question, matches!(self.asker, Asker::Stream(..)));
                    let works = one.via.is_some();
                    self.tries.push(one);
                    if works {
                        return true;
                    }
                }
            }
        }
        // One who was asked before may still answer.
        self.tries.iter().any(|one| one.via.is_some())
    }

    fn end(self, found: Option<Vec<u8>>) -> Outcome {
        Outcome { asker: self.asker, question: self.question, found }
    }
}

impl Try {
    fn start(server: IpAddr, question: &Question, by_stream: bool) -> Self {
        let [high, low, ..] = sys::random().to_be_bytes();
        let id = u16::from_be_bytes([high, low]);
        let asked = question.forward(id);
        let to = SocketAddr::new(server, super::PORT);
        let open = || -> io::Result<Via> {
            if by_stream {
                let socket = TcpStream::from(connected(to, SockType::Stream)?);
                let mut stream = Stream::new(socket, limits::DNS_ANSWER);
                stream.send(&asked)?;
                Ok(Via::Stream(Box::new(stream)))
            } else {
                let socket = UdpSocket::from(connected(to, SockType::Datagram)?);
                socket.send(&asked)?;
                Ok(Via::Datagram(socket))
            }
        };
        Self { server, id, via: open().ok() }
    }

    /// Asks the same server the same; whether that can be of use.
    fn again(&mut self, question: &Question) -> bool {
        match &self.via {
            Some(Via::Datagram(socket)) => {
                let sent = socket.send(&question.forward(self.id)).is_ok();
                if !sent {
                    self.via = None;
                }
                sent
            }
            // TCP sends again by itself.
            Some(Via::Stream(_)) => true,
            None => false,
        }
    }

    /// An answer to the question; anything else is passed over.
    fn receive(&mut self, question: &Question) -> io::Result<Option<Vec<u8>>> {
        match &mut self.via {
            None => Ok(None),
            Some(Via::Datagram(socket)) => {
                let mut buffer = [0; limits::DNS_DATAGRAM];
                for _ in 0..limits::PACKETS_PER_TURN {
                    match socket.recv(&mut buffer) {
                        Ok(length) => {
                            let answer = buffer.get(..length).unwrap_or_default();
                            if question.is_answered_by(answer, self.id) {
                                return Ok(Some(answer.to_vec()));
                            }
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                        Err(error) => return Err(error),
                    }
                }
                Ok(None)
            }
            Some(Via::Stream(stream)) => {
                stream.flush()?;
                loop {
                    match stream.message()? {
                        Some(answer) if question.is_answered_by(&answer, self.id) => return Ok(Some(answer)),
                        Some(_) => return Err(io::ErrorKind::InvalidData.into()),
                        None if stream.read()? => {}
                        None => return Ok(None),
                    }
                }
            }
        }
    }
}

/// A socket that does not block, on its way to a server. Its port is chosen by the kernel, at random.
fn connected(to: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    let outcome = match to {
        SocketAddr::V4(to) => connect(socket.as_raw_fd(), &SockaddrIn::from(to)),
        SocketAddr::V6(to) => connect(socket.as_raw_fd(), &SockaddrIn6::from(to)),
    };
    match outcome {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}
