//! A command in a unit: what is typed goes there, what it writes comes here, both at once.

use super::super::upload::parts_of;
use super::{Client, ClientError, escape};
use berth_api::exec::frames::{BEGIN, END, ERRORS, FRAME_BYTES, Frames, INPUT, OUTPUT, SIZE, Size, frame};
use berth_units::control::{ExecEvent, ExecRequest};
use berth_units::terminal;
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

/// Parts of the request's body under way at once.
const PARTS: usize = 4;

/// How it is connected to us.
pub struct Streams<'a> {
    /// Our standard input is its.
    pub input: bool,
    /// Where its output goes.
    pub output: &'a mut dyn io::Write,
    /// Where its standard error goes.
    pub errors: &'a mut dyn io::Write,
    /// Called when the machine has begun to run it.
    pub begins: &'a mut dyn FnMut(),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With this exit code.
    Exited(i32),
    /// It never ran, for this reason.
    Failed(String),
    /// Whoever read its output has gone.
    Unread,
    /// This signal ended us; with the connection the command ends too.
    Signalled(i32),
}

/// What goes to the command.
struct Talk {
    to: Sender<Bytes, Infallible>,
    begins: oneshot::Receiver<()>,
    terminal: bool,
    input: Option<Box<dyn io::Read + Send>>,
    resized: Signal,
}

impl Talk {
    /// Until the request's end, which drops its body.
    async fn run(mut self, begin: Vec<u8>) {
        if self.to.send_data(begin.into()).await.is_err() || self.begins.await.is_err() {
            return;
        }
        if self.terminal {
            tell_size(&mut self.to).await;
        }
        let mut typed = match self.input.take() {
            Some(from) => parts_of(from, FRAME_BYTES),
            None => mpsc::channel(1).1,
        };
        let mut open = true;
        loop {
            let sent = tokio::select! {
                part = typed.recv(), if open => {
                    // An empty one is the end, also of input that cannot be read.
                    let part = part.and_then(Result::ok).unwrap_or_default();
                    open = !part.is_empty();
                    self.to.send_data(frame(INPUT, &part).into()).await.is_ok()
                }
                resized = self.resized.recv() => {
                    if self.terminal && resized.is_some() {
                        tell_size(&mut self.to).await;
                    }
                    resized.is_some()
                }
            };
            if !sent {
                return;
            }
        }
    }
}

impl Client {
    /// `POST /v1/units/NAME/exec`. With a terminal, ours should be raw.
    pub fn exec(&self, request: &ExecRequest, streams: Streams<'_>) -> Result<Outcome, ClientError> {
        self.exec_with(request, streams, Box::new(io::stdin()))
    }

    /// The same with another input than our standard one.
    pub fn exec_with(
        &self,
        request: &ExecRequest,
        streams: Streams<'_>,
        input: Box<dyn io::Read + Send>,
    ) -> Result<Outcome, ClientError> {
        let setup = |error: io::Error| ClientError::Setup(error.to_string());
        let path = format!("/v1/units/{}/exec", escape(&request.unit));
        let begin = serde_json::to_vec(request).map_err(|error| setup(error.into()))?;
        let runtime = super::http::runtime()?;
        let outcome = runtime.block_on(async {
            let (to, body) = Channel::<Bytes, Infallible>::new(PARTS);
            let broken = |why: &str| self.http.broken(why.to_owned());
            let resized = signal(SignalKind::window_change()).map_err(setup)?;
            // Apart from the answer: each goes on while the other waits.
            let (begun, begins) = oneshot::channel();
            let talking = Talk {
                to,
                begins,
                terminal: request.terminal,
                input: streams.input.then_some(input),
                resized,
            };
            tokio::spawn(talking.run(frame(BEGIN, &begin)));
            let (mut answer, _driver) = self.http.ask("POST", &path, body).await?;
            // From now on our terminal may be raw: then these are not left to the kernel, as somebody has to put it back.
            let mut ends = match request.terminal {
                true => Some(Ends::watched().map_err(setup)?),
                false => None,
            };
            (streams.begins)();
            let _ = begun.send(());
            let mut frames = Frames::default();
            loop {
                while let Some((kind, body)) = frames.next_frame().map_err(|why| self.http.broken(why))? {
                    let written = match kind {
                        OUTPUT => write(streams.output, &body),
                        ERRORS => write(streams.errors, &body),
                        END => {
                            return outcome(&body).ok_or_else(|| broken("its last word is not understood"));
                        }
                        _ => Ok(()),
                    };
                    if written.is_err() {
                        // Nobody reads it any more: the command ends with the connection.
                        return Ok(Outcome::Unread);
                    }
                }
                let part = tokio::select! {
                    part = answer.frame() => part,
                    signal = ended(ends.as_mut()) => return Ok(Outcome::Signalled(signal)),
                };
                match part {
                    Some(Ok(part)) => {
                        if let Ok(data) = part.into_data() {
                            frames.feed(&data);
                        }
                    }
                    Some(Err(error)) => return Err(self.http.broken(error.to_string())),
                    None => return Err(broken("it ended before the command did")),
                }
            }
        });
        // The thread that reads our input may wait for it for ever.
        runtime.shutdown_background();
        outcome
    }
}

/// The signals that end us, and leave time to tidy up.
struct Ends {
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    fn watched() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, hangup: signal(SignalKind::hangup())? })
    }
}

/// Waits for one of them; for ever if they are not watched.
async fn ended(ends: Option<&mut Ends>) -> i32 {
    let Some(Ends { terminate, hangup }) = ends else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => libc::SIGTERM,
        _ = hangup.recv() => libc::SIGHUP,
    }
}

fn outcome(text: &[u8]) -> Option<Outcome> {
    match serde_json::from_slice(text).ok()? {
        ExecEvent::Exited { code } => Some(Outcome::Exited(code)),
        ExecEvent::Failed { reason } => Some(Outcome::Failed(reason)),
        ExecEvent::Running => None,
    }
}

async fn tell_size(to: &mut Sender<Bytes, Infallible>) {
    if let Ok((rows, columns)) = terminal::size(io::stdout().as_fd())
        && let Ok(text) = serde_json::to_vec(&Size { rows, columns })
    {
        let _ = to.send_data(frame(SIZE, &text).into()).await;
    }
}

fn write(to: &mut dyn io::Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).and_then(|()| to.flush())
}
