//! A unit's log as a stream: what its segments hold, then, if asked, what comes.
//!
//! PID 1 hands over read-only descriptors of at most two segments, oldest first, and a generation that counts
//! rotations: the newest segment is number `generation`, the one before it `generation - 1`. When the newest has
//! been rotated away, its descriptor still reads to its end; then the segments that are newer follow.

mod format;
mod segment;
mod watch;

pub use format::{Format, Line, Query, Stream};

use crate::limits;
use crate::respond::Refusal;
use crate::routes::{Shared, unexpected};
use berth_units::control::{Reply, Request, UnitStatus};
use berth_units::lifecycle::NO_IMAGE;
use hyper::body::Bytes;
use segment::Segment;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::sleep;
use watch::Watch;

/// Opens the log of `unit`; refusals come at once, lines through the channel until it is closed by either side.
pub(crate) async fn open(
    shared: Arc<Shared>,
    unit: String,
    query: Query,
) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let (generation, segments) = fetch(&shared, &unit).await?;
    let (to, receiver) = mpsc::channel(2);
    let mut log = Log { shared, unit, query, generation, segments, to };
    tokio::spawn(async move {
        // Whoever stops listening ends the stream; there is nobody left to tell.
        let _ = log.run().await;
    });
    Ok(receiver)
}

async fn fetch(shared: &Shared, unit: &str) -> Result<(u64, VecDeque<Segment>), Refusal> {
    match shared.ask(Request::Logs { unit: unit.to_owned() }).await? {
        (Reply::Log { generation, .. }, fds) => {
            Ok((generation, fds.into_iter().map(|fd| Segment::new(fd.into())).collect()))
        }
        (other, _) => Err(unexpected(&other)),
    }
}

async fn written(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.written().await,
        None => std::future::pending().await,
    }
}

/// The reader is gone.
struct Closed;

struct Log {
    shared: Arc<Shared>,
    unit: String,
    query: Query,
    generation: u64,
    /// Read and to be read; the first one is where we are.
    segments: VecDeque<Segment>,
    to: mpsc::Sender<Bytes>,
}

impl Log {
    async fn run(&mut self) -> Result<(), Closed> {
        let mut skip = self.lines_to_skip();
        loop {
            while let Some(mut segment) = self.segments.pop_front() {
                self.pump(&mut segment, &mut skip).await?;
                if self.segments.is_empty() {
                    self.segments.push_front(segment);
                    break;
                }
                self.finish(&mut segment).await?;
            }
            if !self.query.follow {
                if let Some(mut last) = self.segments.pop_front() {
                    self.finish(&mut last).await?;
                }
                return Ok(());
            }
            if !self.wait().await? {
                return Ok(());
            }
        }
    }

    /// With `tail`, how many of the lines that are there now to pass over.
    fn lines_to_skip(&self) -> u64 {
        let Some(tail) = self.query.tail else { return 0 };
        let total: u64 = self.segments.iter().map(Segment::count_lines).sum();
        total.saturating_sub(tail)
    }

    /// Follows the newest segment until there are others to read (`true`) or the log is over (`false`).
    async fn wait(&mut self) -> Result<bool, Closed> {
        let mut pause = limits::LOG_TICK_FIRST;
        let mut quiet = 0;
        // A kernel that has no more watches costs the wait for the next look.
        let watch = self.segments.front().and_then(|newest| Watch::of(newest.file()).ok());
        // What came between the last look and the watch.
        self.pump_newest().await?;
        loop {
            // Who writes on and on is looked at now and then; who has been quiet, as soon as it writes.
            let watch = watch.as_ref().filter(|_| quiet > 0);
            tokio::select! {
                () = self.to.closed() => return Err(Closed),
                () = written(watch) => {}
                () = sleep(pause) => {}
            }
            let over = self.query.until_end && self.has_ended().await;
            // What it wrote before its end is there by now.
            let grew = self.pump_newest().await?;
            if over && !grew {
                if let Some(mut last) = self.segments.pop_front() {
                    self.finish(&mut last).await?;
                }
                return Ok(false);
            }
            quiet = if grew { 0 } else { quiet + 1 };
            pause = if grew { limits::LOG_TICK_FIRST } else { limits::LOG_TICK.min(2 * pause) };
            let full = self.segments.front().is_some_and(Segment::is_nearly_full);
            if grew || !(full || quiet % limits::LOG_REASK_TICKS == 0) {
                continue;
            }
            let (generation, segments) = match fetch(&self.shared, &self.unit).await {
                Ok(answer) => answer,
                Err(refusal) if refusal.kind == "not-found" => {
                    self.say(&format!("the log ends: {}", refusal.message)).await?;
                    return Ok(false);
                }
                // PID 1 is busy: the next look asks again.
                Err(_) => continue,
            };
            let known = !self.segments.is_empty();
            if known && generation == self.generation {
                continue;
            }
            if segments.is_empty() {
                continue;
            }
            self.change_over(known, generation, segments).await?;
            return Ok(true);
        }
    }

    /// The unit has run to its end, or will never run.
    async fn has_ended(&self) -> bool {
        match self.shared.ask(Request::Inspect { unit: self.unit.clone() }).await {
            Ok((Reply::Unit(unit), _)) => {
                let UnitStatus { state, reason, .. } = unit.status;
                // Without its image it would be tried for ever.
                matches!(state.as_str(), "finished" | "failed" | "stopped")
                    || state == "backoff" && reason.starts_with(NO_IMAGE)
            }
            Ok(_) => false,
            Err(refusal) => refusal.kind == "not-found",
        }
    }

    async fn pump_newest(&mut self) -> Result<bool, Closed> {
        let Some(mut segment) = self.segments.pop_front() else { return Ok(false) };
        let grew = self.pump(&mut segment, &mut 0).await?;
        self.segments.push_front(segment);
        Ok(grew)
    }

    /// Reads our newest segment to its end, now final, and queues those after it.
    async fn change_over(
        &mut self,
        known: bool,
        generation: u64,
        mut segments: VecDeque<Segment>,
    ) -> Result<(), Closed> {
        if let Some(mut last) = self.segments.pop_front() {
            self.pump(&mut last, &mut 0).await?;
            self.finish(&mut last).await?;
        }
        // A generation that went back is a new count, with everything in it new to us.
        let newer = match generation.checked_sub(self.generation) {
            Some(newer) if known => usize::try_from(newer).unwrap_or(usize::MAX),
            _ => segments.len(),
        };
        if newer > segments.len() {
            self.say("lines are missing here: the log was rotated faster than it was read").await?;
        }
        segments.drain(..segments.len().saturating_sub(newer));
        self.segments = segments;
        self.generation = generation;
        Ok(())
    }

    /// Sends every complete line of a segment that has not been sent; says whether there was one.
    async fn pump(&self, segment: &mut Segment, skip: &mut u64) -> Result<bool, Closed> {
        let mut grew = false;
        loop {
            let mut out = Vec::new();
            let more = segment.read(&mut |line: &[u8]| {
                if *skip > 0 {
                    *skip -= 1;
                } else {
                    self.query.format.write(&Line::parse(line), &mut out);
                }
            });
            if !out.is_empty() {
                grew = true;
                self.to.send(out.into()).await.map_err(|_| Closed)?;
            }
            if !more {
                return Ok(grew);
            }
        }
    }

    /// Sends what is left of a segment that will not grow: a line without an end.
    async fn finish(&self, segment: &mut Segment) -> Result<(), Closed> {
        let rest = segment.take_rest();
        if rest.is_empty() {
            return Ok(());
        }
        let mut out = Vec::new();
        self.query.format.write(&Line::parse(&rest), &mut out);
        self.to.send(out.into()).await.map_err(|_| Closed)
    }

    /// A line of our own.
    async fn say(&self, text: &str) -> Result<(), Closed> {
        let mut out = Vec::new();
        self.query.format.write(&Line { time: None, stream: Stream::Berth, text: text.to_owned() }, &mut out);
        self.to.send(out.into()).await.map_err(|_| Closed)
    }
}
