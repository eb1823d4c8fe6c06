//! The worker's and the operator's end of the control socket.
//!
//! Blocking and unbuffered: one call is one packet. A worker that also waits for other things polls the client
//! ([`AsFd`]) and calls [`Client::recv`] when it is readable.

use super::{FromWorker, Reply, Request, ToInit, ToWorker, packet};
use crate::paths;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// One connection to PID 1.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to [`paths::CONTROL_SOCKET`].
    pub fn connect() -> io::Result<Self> {
        Self::connect_to(Path::new(paths::CONTROL_SOCKET))
    }

    /// Connects, and says hello: a worker connection.
    pub fn worker() -> io::Result<Self> {
        let client = Self::connect()?;
        client.tell(FromWorker::Hello)?;
        Ok(client)
    }

    /// Connects to a socket elsewhere.
    pub fn connect_to(path: &Path) -> io::Result<Self> {
        let context = |errno: nix::Error| {
            let error = io::Error::from(errno);
            io::Error::new(error.kind(), format!("PID 1's socket {} not reached: {error}", path.display()))
        };
        let fd = socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
            .map_err(context)?;
        let address = UnixAddr::new(path).map_err(context)?;
        socket::connect(fd.as_raw_fd(), &address).map_err(context)?;
        Ok(Self::from_fd(fd))
    }

    /// Uses an already connected `SOCK_SEQPACKET` socket (the other half of a pair, in tests).
    pub fn from_fd(socket: OwnedFd) -> Self {
        Self { socket, buffer: packet::buffer() }
    }

    /// Sends one packet with `fds`.
    pub fn send(&self, message: &ToInit, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        packet::send(self.socket.as_fd(), message, fds)
    }

    /// Sends a worker's packet without descriptors.
    pub fn tell(&self, message: FromWorker) -> io::Result<()> {
        self.send(&ToInit::Worker(message), &[])
    }

    /// Waits for PID 1's next packet to this worker. PID 1 being gone is [`io::ErrorKind::UnexpectedEof`].
    pub fn recv(&mut self) -> io::Result<(ToWorker, Vec<OwnedFd>)> {
        packet::recv(self.socket.as_fd(), &mut self.buffer)
    }

    /// The last word of a worker that is about to end: waits until PID 1 has read all of them, at most
    /// [`crate::limits::REPLY_SECONDS`]. PID 1 knows a worker by its process's cgroup, so what a process leaves behind that has
    /// ended before its connection was taken is nobody's.
    pub fn finish(mut self) -> io::Result<()> {
        let limit = TimeVal::seconds(crate::limits::REPLY_SECONDS);
        socket::setsockopt(&self.socket, sockopt::ReceiveTimeout, &limit)?;
        socket::shutdown(self.socket.as_raw_fd(), socket::Shutdown::Write)?;
        loop {
            match packet::recv::<serde_json::Value>(self.socket.as_fd(), &mut self.buffer) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks one question on an operator connection and waits for the answer, at most
    /// [`crate::limits::REPLY_SECONDS`].
    pub fn request(&mut self, request: Request) -> io::Result<(Reply, Vec<OwnedFd>)> {
        self.request_with(request, &[])
    }

    /// The same, with descriptors that ride along.
    pub fn request_with(
        &mut self,
        request: Request,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<(Reply, Vec<OwnedFd>)> {
        let limit = TimeVal::seconds(crate::limits::REPLY_SECONDS);
        socket::setsockopt(&self.socket, sockopt::ReceiveTimeout, &limit)?;
        self.send(&ToInit::Request(request), fds)?;
        packet::recv(self.socket.as_fd(), &mut self.buffer)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::socketpair;
    use std::fs::File;
    use std::io::{Read, Write};

    fn pair() -> (Client, OwnedFd) {
        let (a, b) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        (Client::from_fd(a), b)
    }

    #[test]
    fn a_worker_hears_what_init_says() {
        let (mut client, init) = pair();
        client.tell(FromWorker::Ready).unwrap();
        let (said, fds): (ToInit, _) = packet::recv(init.as_fd(), &mut packet::buffer()).unwrap();
        assert!(matches!(said, ToInit::Worker(FromWorker::Ready)) && fds.is_empty());

        packet::send(init.as_fd(), &ToWorker::Detach { unit: "web".into() }, &[]).unwrap();
        let (heard, fds) = client.recv().unwrap();
        assert!(matches!(heard, ToWorker::Detach { unit } if unit == "web") && fds.is_empty());
    }

    #[test]
    fn a_worker_ends_when_all_it_said_was_read() {
        let (client, init) = pair();
        client.tell(FromWorker::Ready).unwrap();
        let ends = std::thread::spawn(move || client.finish());
        let mut buffer = packet::buffer();
        packet::recv::<ToInit>(init.as_fd(), &mut buffer).unwrap();
        assert_eq!(
            packet::recv::<ToInit>(init.as_fd(), &mut buffer).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert!(!ends.is_finished(), "it waits for PID 1");
        packet::send(init.as_fd(), &ToWorker::Detach { unit: "web".into() }, &[]).unwrap();
        drop(init);
        ends.join().unwrap().unwrap();
    }

    #[test]
    fn descriptors_ride_along() {
        let (mut client, init) = pair();
        let (mut ours, theirs) = std::io::pipe().unwrap();
        let message = ToWorker::Attach { unit: "web".into(), ports: Vec::new() };
        packet::send(init.as_fd(), &message, &[theirs.as_fd()]).unwrap();
        drop(theirs);
        let (_, mut fds) = client.recv().unwrap();
        assert_eq!(fds.len(), 1);
        File::from(fds.remove(0)).write_all(b"hello").unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_closed_rubbish_or_oversized_packet_is_an_error() {
        let (mut client, init) = pair();
        nix::unistd::write(&init, b"{\"message\":\"dance\"}").unwrap();
        assert_eq!(client.recv().unwrap_err().kind(), io::ErrorKind::InvalidData);
        nix::unistd::write(&init, &vec![b' '; crate::limits::MESSAGE_BYTES + 1]).unwrap();
        let error = client.recv().unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
        drop(init);
        assert_eq!(client.recv().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn too_much_is_refused_by_the_sender() {
        let (client, _init) = pair();
        let text = "x".repeat(crate::limits::MESSAGE_BYTES);
        assert!(client.tell(FromWorker::Status { text }).is_err());
        let fds = [client.as_fd(); crate::limits::MESSAGE_FDS + 1];
        assert!(client.send(&ToInit::Worker(FromWorker::Ready), &fds).is_err());
    }
}
