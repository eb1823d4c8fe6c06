//! A blocking netlink client: one request, its answer, in order. And the messages that the agent needs.

mod rtnl;
pub mod wire;

pub use rtnl::{
    Addr, BondOptions, EVENTS, Ipv4Conf, Link, Route, UserOption, Veth, Whose, is_address, is_link,
};

use crate::limits;
use crate::netlink::wire::{Frame, Writer};
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x4;
/// `NLM_F_ROOT | NLM_F_MATCH`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;

/// Why a request got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused it.
    #[error("{0}")]
    Refused(nix::Error),
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(nix::Error),
    /// The answer is missing or not understood.
    #[error("netlink: {0}")]
    Answer(&'static str),
}

impl Error {
    /// Whether the kernel said `errno`.
    pub fn is(&self, errno: nix::Error) -> bool {
        matches!(self, Self::Refused(refused) if *refused == errno)
    }
}

/// The answer to one request, read from [`Socket::answers`].
pub type Result<T> = std::result::Result<T, Error>;

/// One netlink socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket in our own network namespace. `groups`: bits of the multicast groups to hear; a socket that hears
    /// any is non-blocking and used with [`Socket::drain`] only.
    pub fn open(protocol: SockProtocol, groups: u32) -> Result<Self> {
        let mut flags = SockFlag::SOCK_CLOEXEC;
        flags.set(SockFlag::SOCK_NONBLOCK, groups != 0);
        let fd =
            socket::socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map_err(Error::Socket)?;
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(Error::Socket)?;
        Self::adopt(fd)
    }

    /// A socket that somebody else opened, perhaps in another network namespace.
    pub fn adopt(fd: OwnedFd) -> Result<Self> {
        let seconds = i64::try_from(limits::NETLINK_ANSWER.as_secs()).unwrap_or(i64::MAX);
        socket::setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(seconds))
            .map_err(Error::Socket)?;
        Ok(Self { fd, seq: 0, buffer: vec![0; limits::NETLINK_DATAGRAM] })
    }

    /// Sends one request and waits until the kernel has carried it out.
    pub fn request(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) -> Result<()> {
        let seq = self.send(kind, flags | REQUEST | ACK, body)?;
        self.answers(seq, |_| {})
    }

    /// Sends one query; `each` gets every message of the answer.
    pub fn query(
        &mut self,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Writer),
        each: impl FnMut(Frame<'_>),
    ) -> Result<()> {
        // A dump ends with DONE; a single answer is followed by the acknowledgement asked for.
        let ack = if flags & DUMP == 0 { ACK } else { 0 };
        let seq = self.send(kind, flags | REQUEST | ack, body)?;
        self.answers(seq, each)
    }

    /// Sends ready-made messages, whose last one has number `last` and asks for an acknowledgement, the first
    /// number `first`.
    pub fn transact(&mut self, messages: &[u8], first: u32, last: u32) -> Result<()> {
        self.transmit(messages)?;
        let mut worst = None;
        loop {
            let length = self.receive()?;
            for frame in wire::frames(self.buffer.get(..length).unwrap_or_default()) {
                if frame.kind != ERROR || frame.seq < first || frame.seq > last {
                    continue;
                }
                let error = error_of(&frame)?;
                worst = worst.or(error);
                if frame.seq == last || (frame.seq == first && error.is_some()) {
                    return worst.map_or(Ok(()), |errno| Err(Error::Refused(errno)));
                }
            }
        }
    }

    /// The next free number for `count` messages.
    pub fn reserve(&mut self, count: u32) -> u32 {
        let first = self.seq.wrapping_add(1);
        self.seq = self.seq.wrapping_add(count);
        first
    }

    /// Takes what a multicast socket has heard, without waiting: `each` gets every message; whether some were lost.
    pub fn drain(&mut self, mut each: impl FnMut(Frame<'_>)) -> Result<bool> {
        let mut lost = false;
        for _ in 0..limits::PACKETS_PER_TURN {
            match self.receive_raw() {
                Ok((length, true)) => {
                    wire::frames(self.buffer.get(..length).unwrap_or_default()).for_each(&mut each);
                }
                Ok((_, false)) | Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => break,
                Err(nix::Error::ENOBUFS) => lost = true,
                Err(errno) => return Err(Error::Socket(errno)),
            }
        }
        Ok(lost)
    }

    fn send(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) -> Result<u32> {
        let seq = self.reserve(1);
        let mut writer = Writer::new();
        writer.message(kind, flags, seq, body);
        self.transmit(writer.bytes())?;
        Ok(seq)
    }

    fn transmit(&self, bytes: &[u8]) -> Result<()> {
        loop {
            // `send`, not `sendto`: with an address, the kernel would ask what the socket's opener may, too.
            match socket::send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(Error::Socket(errno)),
            }
        }
    }

    /// Reads until request `seq` is answered.
    fn answers(&mut self, seq: u32, mut each: impl FnMut(Frame<'_>)) -> Result<()> {
        loop {
            let length = self.receive()?;
            for frame in wire::frames(self.buffer.get(..length).unwrap_or_default()) {
                if frame.seq != seq {
                    continue;
                }
                match frame.kind {
                    ERROR => {
                        return error_of(&frame)?.map_or(Ok(()), |errno| Err(Error::Refused(errno)));
                    }
                    DONE => return Ok(()),
                    _ => each(frame),
                }
            }
        }
    }

    /// Bytes of the next datagram that the kernel sent.
    fn receive(&mut self) -> Result<usize> {
        loop {
            match self.receive_raw() {
                Ok((length, true)) => return Ok(length),
                Ok((_, false)) | Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return Err(Error::Answer("the kernel did not answer")),
                Err(errno) => return Err(Error::Socket(errno)),
            }
        }
    }

    /// One datagram, and whether the kernel sent it: anybody with rights in the namespace can send us some.
    fn receive_raw(&mut self) -> nix::Result<(usize, bool)> {
        let (length, from) = socket::recvfrom::<NetlinkAddr>(self.fd.as_raw_fd(), &mut self.buffer)?;
        Ok((length, from.is_some_and(|from| from.pid() == 0)))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The error in an `NLMSG_ERROR`; none in an acknowledgement.
fn error_of(frame: &Frame<'_>) -> Result<Option<nix::Error>> {
    let code = wire::u32_at(frame.payload, 0).ok_or(Error::Answer("acknowledgement cut short"))?;
    let code = i32::from_ne_bytes(code.to_ne_bytes());
    Ok((code != 0).then(|| nix::Error::from_raw(code.wrapping_neg())))
}
