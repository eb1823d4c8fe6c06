//! What the children say to PID 1, and PID 1's end of it.
//!
//! One `SOCK_SEQPACKET` pair; both children hold the other end, so it closes by itself once the setup child has ended
//! and the container's process has exec'd. A packet is a kind byte and its body.

use super::LaunchError;
use super::fault::Fault;
use crate::sys;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Bytes of one packet; an error's text is cut to fit.
const PACKET: usize = 4096;
const CREATED: u8 = b'C';
const FAILED: u8 = b'F';
/// The next thing that the process does is exec.
const EXEC: u8 = b'X';
const GO: u8 = b'G';
/// The master of the process's terminal.
const TERMINAL: u8 = b'T';

/// One thing that happened during a start.
#[derive(Debug)]
pub enum Message {
    /// The container's process exists and waits. It is a child of the caller; so is the setup child.
    Created {
        /// In the caller's pid namespace.
        pid: i32,
        /// For signals and `waitid`.
        pidfd: OwnedFd,
        /// Its network namespace, unless it is the host's.
        netns: Option<OwnedFd>,
        /// A `NETLINK_ROUTE` socket opened inside it, if it is to be attached to the bridge: with it, the network
        /// agent needs no right to enter.
        netlink: Option<OwnedFd>,
    },
    /// It will not start; both children are ending or gone.
    Failed {
        /// What was being done: `mount layer 2`, `exec`.
        step: String,
        /// On what, why, what to do.
        error: String,
    },
    /// The program runs: exec has been done.
    Running,
}

/// A start in progress. Dropping it makes a process that still waits give up.
#[derive(Debug)]
pub struct Starting {
    /// The setup child's pidfd: poll it, reap it.
    pub setup: OwnedFd,
    /// The setup child.
    pub setup_pid: i32,
    /// Poll for reading, then call [`Starting::receive`] until it says `None`.
    pub channel: OwnedFd,
    /// Non-blocking read end; stays open for the container's life.
    pub stdout: OwnedFd,
    /// As `stdout`.
    pub stderr: OwnedFd,
    pub(super) story: Story,
}

impl Starting {
    /// The next message, or `None` when there is none yet. After [`Message::Failed`] or [`Message::Running`] nothing
    /// follows; stop polling.
    pub fn receive(&mut self) -> Result<Option<Message>, LaunchError> {
        self.story.receive(self.channel.as_fd())
    }

    /// Lets the container's process go on to exec: its network is ready, or it needs none. May be called as soon as
    /// [`Message::Created`] has come, and has to be called once for every network mode.
    pub fn go(&mut self) -> Result<(), LaunchError> {
        match send(self.channel.as_fd(), GO, &[], &[]) {
            // It has failed already, and `receive` says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent
                .map_err(|error| LaunchError::Channel { step: "let the container's process go on", error }),
        }
    }
}

/// How far a channel has told its story.
#[derive(Debug)]
pub(super) struct Story {
    /// What has failed if it breaks off.
    step: &'static str,
    /// The process said that it execs now.
    execs: bool,
    /// The last message was given out.
    ended: bool,
    pub(super) terminal: Option<OwnedFd>,
}

impl Story {
    pub(super) fn of(step: &'static str) -> Self {
        Self { step, execs: false, ended: false, terminal: None }
    }

    /// See [`Starting::receive`].
    pub(super) fn receive(&mut self, channel: BorrowedFd<'_>) -> Result<Option<Message>, LaunchError> {
        let broken = |error| LaunchError::Channel { step: "hear from the container's process", error };
        while !self.ended {
            let mut buffer = [0; PACKET];
            let got = match sys::recv_with_fds(channel, &mut buffer) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // It ended without reading our go. Said once, before what it had sent.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
                Err(error) => return Err(broken(error)),
            };
            let Some((kind, body)) = buffer[..got.bytes].split_first() else {
                self.ended = true;
                return Ok(Some(if self.execs {
                    Message::Running
                } else {
                    Message::Failed {
                        step: self.step.to_owned(),
                        error: "its process ended without a word; it was killed, by the memory limit perhaps"
                            .to_owned(),
                    }
                }));
            };
            match (*kind, body.first_chunk::<4>()) {
                (EXEC, _) => self.execs = true,
                (TERMINAL, _) => self.terminal = got.fds.into_iter().next(),
                (FAILED, _) => {
                    self.ended = true;
                    let text = String::from_utf8_lossy(body);
                    let (step, error) = text.split_once('\0').unwrap_or(("start", &text));
                    return Ok(Some(Message::Failed { step: step.to_owned(), error: error.to_owned() }));
                }
                (CREATED, Some(pid)) => {
                    let mut fds = got.fds.into_iter();
                    let Some(pidfd) = fds.next() else {
                        return Err(broken(io::ErrorKind::InvalidData.into()));
                    };
                    return Ok(Some(Message::Created {
                        pid: i32::from_le_bytes(*pid),
                        pidfd,
                        netns: fds.next(),
                        netlink: fds.next(),
                    }));
                }
                _ => return Err(broken(io::ErrorKind::InvalidData.into())),
            }
        }
        Ok(None)
    }
}

/// The children's end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel<'a>(pub(super) BorrowedFd<'a>);

impl Channel<'_> {
    pub(super) fn created(self, pid: i32, fds: &[RawFd]) -> io::Result<()> {
        send(self.0, CREATED, &pid.to_le_bytes(), fds)
    }

    pub(super) fn terminal(self, master: RawFd) -> io::Result<()> {
        send(self.0, TERMINAL, &[], &[master])
    }

    pub(super) fn execs(self) -> io::Result<()> {
        send(self.0, EXEC, &[], &[])
    }

    /// There is nobody to tell if this fails.
    pub(super) fn failed(self, fault: &Fault) {
        let mut body = Vec::with_capacity(PACKET);
        let step = &fault.step.as_bytes()[..fault.step.len().min(PACKET / 2)];
        body.extend_from_slice(step);
        body.push(0);
        let room = PACKET - 1 - body.len();
        body.extend_from_slice(&fault.error.as_bytes()[..fault.error.len().min(room)]);
        let _ = send(self.0, FAILED, &body, &[]);
    }

    /// Waits for [`Starting::go`]; false if PID 1 has given up.
    pub(super) fn wait(self) -> io::Result<bool> {
        let mut byte = [0; 1];
        let got = sys::recv_with_fds(self.0, &mut byte)?;
        Ok(got.bytes == 1 && byte[0] == GO)
    }
}

fn send(socket: BorrowedFd<'_>, kind: u8, body: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let kind = [kind];
    let parts = [IoSlice::new(&kind), IoSlice::new(body)];
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(nix::Error::EINTR) => {}
            other => return Ok(other.map(|_| ())?),
        }
    }
}
