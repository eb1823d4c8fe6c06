//! DNS over TCP (RFC 7766): messages behind their length, to and fro, without ever waiting.

use crate::limits;
use nix::poll::PollFlags;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

/// One connection.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of one message that are taken at most.
    longest: usize,
}

impl Stream {
    /// On a socket that does not block.
    pub fn new(socket: TcpStream, longest: usize) -> Self {
        Self { socket, input: Vec::new(), output: Vec::new(), longest }
    }

    /// What to wait for.
    pub fn events(&self) -> PollFlags {
        if self.output.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT }
    }

    /// Sends a message, as far as it goes now.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.output.extend(length.to_be_bytes());
        self.output.extend(message);
        self.flush()
    }

    /// Sends more of what is still to be sent.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Still connecting.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads some of what is there; false if there is nothing at present.
    pub fn read(&mut self) -> io::Result<bool> {
        let mut piece = [0; limits::DNS_PIECE];
        loop {
            match self.socket.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.input.extend(piece.iter().take(count));
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next whole message that was read.
    pub fn message(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(length) = self.input.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)))
        else {
            return Ok(None);
        };
        if length > self.longest {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(message) = self.input.get(2..2 + length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.input.drain(..2 + length);
        Ok(Some(message))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
