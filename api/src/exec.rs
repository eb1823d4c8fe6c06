//! `POST /v1/units/NAME/exec`: a command in a unit, its input in the request's body, its output in the answer's, both at
//! once ([`frames`]). PID 1 starts it and hands over the pipes; it ends when this side closes its socket, so whatever ends the request
//! ends the command.

pub mod frames;

use crate::limits;
use crate::respond::{Body, Refusal, with_type};
use crate::routes::{Shared, unexpected};
use berth_units::control::{ExecEvent, ExecRequest, Reply, Request as Ask, packet};
use berth_units::terminal;
use frames::{BEGIN, END, ERRORS, FRAME_BYTES, Frames, INPUT, OUTPUT, SIZE, Size, frame};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::{Response, StatusCode};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, interval_at, timeout};

/// Reads the first frame, has PID 1 begin, and answers with what comes of it.
pub(crate) async fn begin(
    shared: Arc<Shared>,
    who: &str,
    unit: String,
    body: Incoming,
) -> Result<Response<Body>, Refusal> {
    let place = shared.exec_place()?;
    let mut input = Input { body, frames: Frames::default() };
    let bad = |why: String| Refusal::new("bad-request", why);
    let first = timeout(limits::HEADER, input.next()).await;
    let text = match first.map_err(|_| bad("what is to run was not said in time".into()))? {
        Ok(Some((BEGIN, text))) => text,
        Ok(_) => return Err(bad("the body does not begin with what is to run".into())),
        Err(why) => return Err(bad(why)),
    };
    let request: ExecRequest =
        serde_json::from_slice(&text).map_err(|error| bad(format!("what is to run: {error}")))?;
    let request = ExecRequest { unit, ..request };
    let (unit, terminal) = (request.unit.clone(), request.terminal);
    eprintln!("a command in {unit} asked for by {who}");
    let (reply, fds) = shared.ask(Ask::Exec(Box::new(request))).await?;
    if !matches!(reply, Reply::Exec) {
        return Err(unexpected(&reply));
    }
    let failed = |error: io::Error| Refusal::new("failed", format!("a command in {unit}: {error}"));
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(|| io::Error::other("PID 1 left out a descriptor"));
    let events = next().and_then(events).map_err(failed)?;
    let pipes = match terminal {
        true => None,
        false => Some((
            next().and_then(Sender::from_owned_fd).map_err(failed)?,
            next().and_then(Receiver::from_owned_fd).map_err(failed)?,
            next().and_then(Receiver::from_owned_fd).map_err(failed)?,
        )),
    };
    let (to, receiver) = mpsc::channel(2);
    tokio::spawn(session(to, events, input, pipes));
    let mut body = Body::stream(receiver);
    body.hold(Box::new(place));
    Ok(with_type(StatusCode::OK, "application/vnd.berth.exec", body))
}

/// PID 1's socket, waited for by the runtime.
fn events(fd: OwnedFd) -> io::Result<UnixStream> {
    terminal::non_blocking(fd.as_fd())?;
    UnixStream::from_std(fd.into())
}

/// A terminal, to read from, to write to and to resize.
fn open_terminal(fd: OwnedFd) -> io::Result<(Receiver, Sender, OwnedFd)> {
    terminal::non_blocking(fd.as_fd())?;
    let (write, size) = (fd.try_clone()?, fd.try_clone()?);
    // What these check is only that it is a pipe.
    Ok((Receiver::from_owned_fd_unchecked(fd)?, Sender::from_owned_fd_unchecked(write)?, size))
}

/// The request's body.
struct Input {
    body: Incoming,
    frames: Frames,
}

impl Input {
    /// The next frame; `None` at the end of the body.
    async fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, String> {
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return Ok(Some(frame));
            }
            let part = std::future::poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
            match part {
                Some(Ok(part)) => {
                    if let Ok(data) = part.into_data() {
                        self.frames.feed(&data);
                    }
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => return Ok(None),
            }
        }
    }
}

/// Tasks that end with it.
#[derive(Default)]
struct Tasks(Vec<AbortHandle>);

impl Tasks {
    fn spawn<T: Send + 'static>(&mut self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let handle = tokio::spawn(task);
        self.0.push(handle.abort_handle());
        handle
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// One command from its start to its end. Returning closes PID 1's socket.
async fn session(
    to: mpsc::Sender<Bytes>,
    events: UnixStream,
    input: Input,
    pipes: Option<(Sender, Receiver, Receiver)>,
) {
    let mut tasks = Tasks::default();
    let (mut outputs, mut stdin) = (Vec::new(), None);
    let ended = Arc::new(AtomicBool::new(false));
    if let Some((input, output, errors)) = pipes {
        stdin = Some(input);
        outputs.push(tasks.spawn(pass_on(output, OUTPUT, to.clone(), ended.clone())));
        outputs.push(tasks.spawn(pass_on(errors, ERRORS, to.clone(), ended.clone())));
    }
    let (mut last, mut size) = (None, None);
    let first = tokio::select! {
        () = to.closed() => return,
        first = timeout(limits::EXEC_START, next_event(&events)) => match first {
            Ok(first) => first,
            Err(_) => Some((late(), Vec::new())),
        },
    };
    match first {
        Some((ExecEvent::Running, fds)) => {
            if let Some((output, input, terminal)) =
                fds.into_iter().next().and_then(|fd| open_terminal(fd).ok())
            {
                outputs.push(tasks.spawn(pass_on(output, OUTPUT, to.clone(), ended.clone())));
                (stdin, size) = (Some(input), Some(terminal));
            }
        }
        Some((event, _)) => last = Some(event),
        None => last = Some(lost()),
    }
    let mut rest = None;
    if last.is_none() {
        let mut alive = interval_at(Instant::now() + limits::EXEC_ALIVE, limits::EXEC_ALIVE);
        let mut fed = tasks.spawn(feed(input, stdin.take(), size));
        let mut open = true;
        last = Some(loop {
            tokio::select! {
                // Nobody reads: the peer is gone.
                () = to.closed() => return,
                ended = &mut fed, if open => match ended {
                    Ok(Ok(())) => open = false,
                    _ => return,
                },
                // A peer that is gone is noticed only when something is sent to it.
                _ = alive.tick() => drop(to.try_send(frame(OUTPUT, &[]).into())),
                event = next_event(&events) => break event.map_or_else(lost, |(event, _)| event),
            }
        });
        rest = Some(fed).filter(|_| open);
    }
    // What it has written before its end comes before the word about it. What it left behind has been killed.
    ended.store(true, Ordering::Relaxed);
    for output in outputs {
        let _ = output.await;
    }
    let text = serde_json::to_vec(&last).unwrap_or_default();
    let _ = to.send(frame(END, &text).into()).await;
    drop(to);
    // What is still on its way here would have the connection reset, and the last word lost.
    if let Some(rest) = rest {
        let _ = timeout(limits::GOODBYE, rest).await;
    }
}

fn late() -> ExecEvent {
    ExecEvent::Failed { reason: format!("not started within {} s", limits::EXEC_START.as_secs()) }
}

fn lost() -> ExecEvent {
    ExecEvent::Failed { reason: "its unit has ended, or PID 1 lost sight of it".into() }
}

/// PID 1's next word; `None`: it has closed the socket.
async fn next_event(events: &UnixStream) -> Option<(ExecEvent, Vec<OwnedFd>)> {
    loop {
        events.readable().await.ok()?;
        // One packet is one small event.
        match events.try_io(Interest::READABLE, || packet::recv(events.as_fd(), &mut [0; 4096])) {
            Ok(heard) => return Some(heard),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// Output, until the other end is closed everywhere; a terminal then says EIO. Once the command has ended, what still holds it
/// open has been killed, and is not waited for. Whoever takes it may take their time.
async fn pass_on(mut from: Receiver, kind: u8, to: mpsc::Sender<Bytes>, ended: Arc<AtomicBool>) {
    let mut part = vec![0; FRAME_BYTES];
    loop {
        let got = match timeout(limits::LAST_OUTPUT, from.read(&mut part)).await {
            Ok(Ok(got @ 1..)) => got,
            Ok(_) => return,
            Err(_) if ended.load(Ordering::Relaxed) => return,
            Err(_) => continue,
        };
        if to.send(frame(kind, &part[..got]).into()).await.is_err() {
            return;
        }
    }
}

/// Input, until the peer ends it. An error is a peer that breaks off.
async fn feed(mut input: Input, mut stdin: Option<Sender>, size: Option<OwnedFd>) -> Result<(), String> {
    while let Some((kind, body)) = input.next().await? {
        match kind {
            INPUT if body.is_empty() => stdin = None,
            INPUT => {
                let Some(to) = stdin.as_mut() else { continue };
                if to.write_all(&body).await.is_err() {
                    // It does not listen any more; what it says still counts.
                    stdin = None;
                }
            }
            SIZE => {
                let now: Size = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
                if let Some(terminal) = &size {
                    let _ = terminal::resize(terminal.as_fd(), now.rows, now.columns);
                }
            }
            _ => return Err(format!("a frame of kind {kind}")),
        }
    }
    Ok(())
}
