//! The socket of one interface's client.

use super::message::Message;
use super::{CLIENT_PORT, SERVER_PORT, parse};
use crate::limits;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sockopt,
};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// All servers and relays on a link (RFC 8415, 7.1).
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// One interface's socket.
#[derive(Debug)]
pub struct Port {
    index: u32,
    interface: String,
    open: Option<OwnedFd>,
}

impl Port {
    /// Nothing open yet.
    pub fn new(index: u32, interface: &str) -> Self {
        Self { index, interface: interface.to_owned(), open: None }
    }

    /// What to poll.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(AsFd::as_fd)
    }

    /// Opens or closes.
    pub fn set(&mut self, listen: bool) -> io::Result<()> {
        if !listen {
            self.open = None;
        } else if self.open.is_none() {
            self.open = Some(self.udp()?);
        }
        Ok(())
    }

    fn udp(&self) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket::socket(AddressFamily::Inet6, SockType::Datagram, flags, SockProtocol::Udp)?;
        socket::setsockopt(&fd, sockopt::BindToDevice, &OsString::from(&self.interface))?;
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0);
        socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(any))?;
        Ok(fd)
    }

    /// Sends to all servers and relays on the link.
    pub fn send(&mut self, message: &Message) -> io::Result<()> {
        self.set(true)?;
        let fd = self.fd().ok_or(io::ErrorKind::NotConnected)?;
        let to = SockaddrIn6::from(SocketAddrV6::new(SERVERS, SERVER_PORT, 0, self.index));
        socket::sendto(fd.as_raw_fd(), &message.to_bytes(), &to, MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }

    /// The messages that have come in, at most so many that others have their turn, too.
    pub fn receive(&mut self) -> Vec<Message> {
        let Some(fd) = &self.open else { return Vec::new() };
        let mut buffer = [0; limits::DHCP_PACKET];
        let mut messages = Vec::new();
        for _ in 0..limits::PACKETS_PER_TURN {
            // Errors: nothing is there, or the interface has gone down, which netlink tells of.
            let Ok(length) = socket::recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { break };
            messages.extend(parse(buffer.get(..length).unwrap_or_default()).ok());
        }
        messages
    }
}
