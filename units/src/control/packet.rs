//! One control message as one `SOCK_SEQPACKET` packet, with descriptors: both ends use these two functions.

use crate::limits::{MESSAGE_BYTES, MESSAGE_FDS};
use crate::sys;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A buffer that every valid packet fits in. Its pages cost memory only once they are used.
pub fn buffer() -> Vec<u8> {
    vec![0; MESSAGE_BYTES]
}

/// Sends `message` and `fds` as one packet. On a non-blocking socket a full queue is
/// [`io::ErrorKind::WouldBlock`], and nothing was sent.
pub fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_BYTES || fds.len() > MESSAGE_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "control message not sent: {} bytes and {} descriptors, at most {MESSAGE_BYTES} and {MESSAGE_FDS}",
                bytes.len(),
                fds.len()
            ),
        ));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        let parts = [IoSlice::new(&bytes)];
        match sendmsg::<()>(socket.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one packet into `buffer` (see [`buffer`]) and decodes it. The peer having closed is
/// [`io::ErrorKind::UnexpectedEof`], a packet that is not a `T` is [`io::ErrorKind::InvalidData`].
pub fn recv<T: DeserializeOwned>(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(T, Vec<OwnedFd>)> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let received = sys::recv_with_fds(socket, buffer)?;
    if received.truncated {
        return Err(invalid(format!(
            "control message refused: longer than {MESSAGE_BYTES} bytes or more than {MESSAGE_FDS} descriptors"
        )));
    }
    let bytes = buffer.get(..received.bytes).unwrap_or_default();
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let message = serde_json::from_slice(bytes)
        .map_err(|error| invalid(format!("control message not understood: {error}")))?;
    Ok((message, received.fds))
}
