//! The socket through which one interface's client is answered: a packet socket while there is no address to be
//! reached at, a UDP socket to ask the lease's server for more.

use super::client::Listen;
use super::message::Message;
use super::{CLIENT_PORT, SERVER_PORT, packet, parse};
use crate::{limits, sys};
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sockopt,
};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// One interface's socket.
#[derive(Debug)]
pub struct Port {
    index: u32,
    interface: String,
    open: Option<(Listen, OwnedFd)>,
}

impl Port {
    /// Nothing open yet.
    pub fn new(index: u32, interface: &str) -> Self {
        Self { index, interface: interface.to_owned(), open: None }
    }

    /// What to poll.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(|(_, fd)| fd.as_fd())
    }

    /// Opens or closes, so that answers come in as `listen` says.
    pub fn set(&mut self, listen: Listen) -> io::Result<()> {
        if self.open.as_ref().map_or(Listen::Nothing, |(kind, _)| *kind) == listen {
            return Ok(());
        }
        self.open = None;
        self.open = match listen {
            Listen::Nothing => None,
            Listen::Packet => Some((listen, sys::packet_socket(self.index, &packet::FILTER)?)),
            Listen::Udp => Some((listen, self.udp()?)),
        };
        Ok(())
    }

    fn udp(&self) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket::socket(AddressFamily::Inet, SockType::Datagram, flags, SockProtocol::Udp)?;
        socket::setsockopt(&fd, sockopt::BindToDevice, &OsString::from(&self.interface))?;
        socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        socket::bind(
            fd.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT)),
        )?;
        Ok(fd)
    }

    /// Sends to everybody on the link.
    pub fn broadcast(&mut self, message: &Message) -> io::Result<()> {
        self.set(Listen::Packet)?;
        let bytes = packet::broadcast(message.ciaddr, &message.to_bytes());
        let fd = self.fd().ok_or(io::ErrorKind::NotConnected)?;
        sys::send_packet(fd, self.index, [0xff; 6], &bytes)
    }

    /// Sends to one server.
    pub fn unicast(&mut self, to: Ipv4Addr, message: &Message) -> io::Result<()> {
        self.set(Listen::Udp)?;
        let fd = self.fd().ok_or(io::ErrorKind::NotConnected)?;
        let to = SockaddrIn::from(SocketAddrV4::new(to, SERVER_PORT));
        socket::sendto(fd.as_raw_fd(), &message.to_bytes(), &to, MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }

    /// The messages that have come in, at most so many that others have their turn, too.
    pub fn receive(&mut self) -> Vec<Message> {
        let Some((listen, fd)) = &self.open else { return Vec::new() };
        let mut buffer = [0; limits::DHCP_PACKET];
        let mut messages = Vec::new();
        for _ in 0..limits::PACKETS_PER_TURN {
            // Errors: nothing is there, or the interface has gone down, which netlink tells of.
            let Ok(length) = socket::recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { break };
            let bytes = buffer.get(..length).unwrap_or_default();
            let payload = match listen {
                Listen::Packet => packet::unwrap(bytes),
                Listen::Udp | Listen::Nothing => Some(bytes),
            };
            messages.extend(payload.and_then(|payload| parse(payload).ok()));
        }
        messages
    }
}
