//! What a machine says: every line of its serial console, and what QEMU tells of it, with the time it came; and waiting for
//! the one that matters.

use crate::lines::Event;
use anyhow::{Result, bail};
use serde_json::Value;
use std::io::{BufRead, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines kept; an endless loop in a guest must not fill the host's memory.
const LINES: usize = 20_000;
/// How many of the last lines a failed wait shows.
const SHOWN: usize = 40;

/// One line of the console, without escape sequences and line ends.
#[derive(Debug, Clone)]
pub struct Line {
    /// Since QEMU was started.
    pub at: Duration,
    /// What it says.
    pub text: String,
    /// What that means, where it means something to us.
    pub event: Option<Event>,
}

#[derive(Default)]
struct State {
    lines: Vec<Line>,
    partial: Vec<u8>,
    dropped: usize,
    /// How many still write: the machine, and QEMU.
    open: usize,
}

impl State {
    fn push(&mut self, line: Line) {
        if self.lines.len() == LINES {
            self.lines.drain(..LINES / 2);
            self.dropped += LINES / 2;
        }
        self.lines.push(line);
    }
}

/// Shared between the reader thread and those who wait.
#[derive(Clone, Default)]
pub struct Console {
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Console {
    /// Reads `from` until it ends, in a thread of its own; `echo` also shows it on standard output.
    pub(crate) fn follow(from: impl Read + Send + 'static, started: Instant, echo: bool) -> Console {
        let console = Console::default();
        console.lock().open = 1;
        let shared = console.clone();
        std::thread::spawn(move || shared.read(from, started, echo));
        console
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, mut from: impl Read, started: Instant, echo: bool) {
        let mut buffer = [0; 4096];
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
                Ok(n) => n,
            };
            if echo {
                let mut out = std::io::stdout();
                // A closed terminal must not stop the guest from being read.
                let _ = out.write_all(&buffer[..n]).and_then(|()| out.flush());
            }
            let mut state = self.lock();
            for &byte in &buffer[..n] {
                if byte == b'\n' {
                    let text = clean(&state.partial);
                    state.partial.clear();
                    let event = Event::of_line(&text);
                    state.push(Line { at: started.elapsed(), text, event });
                } else if state.partial.len() < 8192 {
                    state.partial.push(byte);
                }
            }
            self.state.1.notify_all();
        }
        self.close();
    }

    fn close(&self) {
        self.lock().open -= 1;
        self.state.1.notify_all();
    }

    /// Puts what QEMU tells between the lines, until its socket closes, in a thread of its own.
    pub(crate) fn hear_qemu(&self, from: impl BufRead + Send + 'static, started: Instant) {
        self.lock().open += 1;
        let shared = self.clone();
        std::thread::spawn(move || {
            for line in from.lines().map_while(Result::ok) {
                let packet: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(event) = Event::of_qemu(&packet) {
                    let text =
                        format!("(QEMU) {} {}", packet["event"].as_str().unwrap_or_default(), packet["data"]);
                    shared.lock().push(Line { at: started.elapsed(), text, event: Some(event) });
                    shared.state.1.notify_all();
                }
            }
            shared.close();
        });
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lock().lines.clone()
    }

    /// Number of lines so far: a mark for [`Console::wait`] to start from.
    pub fn mark(&self) -> usize {
        let state = self.lock();
        state.dropped + state.lines.len()
    }

    /// Waits until a line from `mark` on has a text that satisfies `wanted`; fails at the deadline or when the console closes, and
    /// shows the last lines then.
    ///
    /// Returns the line and the mark behind it.
    pub fn wait(
        &self,
        mark: usize,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(Line, usize)> {
        self.wait_line(mark, what, limit, |line| wanted(&line.text))
    }

    /// The same for an event.
    pub fn wait_event(
        &self,
        mark: usize,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<(Line, usize)> {
        self.wait_line(mark, what, limit, |line| line.event.as_ref().is_some_and(&wanted))
    }

    fn wait_line(
        &self,
        mark: usize,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Line) -> bool,
    ) -> Result<(Line, usize)> {
        let deadline = Instant::now() + limit;
        let mut next = mark;
        let mut state = self.lock();
        loop {
            let from = next.saturating_sub(state.dropped);
            let mut fresh = state.lines.iter().enumerate().skip(from);
            if let Some((n, line)) = fresh.find(|(_, line)| wanted(line)) {
                return Ok((line.clone(), state.dropped + n + 1));
            }
            next = state.dropped + state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.open == 0 {
                let why =
                    if state.open == 0 { "the machine ended".into() } else { format!("{limit:?} passed") };
                bail!("{why} while waiting for {what}; the console's last lines:\n{}", last(&state));
            }
            state = self.state.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The last lines, for messages.
    pub fn tail(&self) -> String {
        last(&self.lock())
    }
}

fn last(state: &State) -> String {
    let mut text = String::new();
    let from = state.lines.len().saturating_sub(SHOWN);
    for line in &state.lines[from..] {
        text.push_str(&format!("  {:7.2}  {}\n", line.at.as_secs_f64(), line.text));
    }
    if !state.partial.is_empty() {
        text.push_str(&format!("           {}\n", clean(&state.partial)));
    }
    text
}

/// Drops carriage returns and terminal escape sequences (firmware and GRUB draw with them).
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                for c in chars.by_ref() {
                    if ('@'..='~').contains(&c) {
                        break;
                    }
                }
            }
            '\r' | '\u{1b}' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_cleaned_and_from_the_mark_on() {
        let text = b"\x1b[2Jfirst\r\nsecond\r\nfirst again\n".as_slice();
        let console = Console::follow(text, Instant::now(), false);
        let (line, next) = console.wait(0, "second", Duration::from_secs(5), |l| l == "second").unwrap();
        assert_eq!((line.text.as_str(), next), ("second", 2));
        let (line, _) =
            console.wait(next, "first", Duration::from_secs(5), |l| l.starts_with("first")).unwrap();
        assert_eq!(line.text, "first again");
    }

    #[test]
    fn events_of_the_machine_and_of_qemu_are_in_one_row() {
        let console = Console::follow(b"web      healthy\n".as_slice(), Instant::now(), false);
        let soon = Duration::from_secs(5);
        let healthy = Event::UnitHealthy("web".into());
        let (_, next) = console.wait_event(0, "web", soon, |event| *event == healthy).unwrap();
        let told =
            b"{\"QMP\": {}}\n{\"event\": \"WATCHDOG\", \"data\": {\"action\": \"reset\"}}\n".as_slice();
        console.hear_qemu(told, Instant::now());
        let (line, _) = console.wait_event(next, "a reset", soon, |event| *event == Event::Watchdog).unwrap();
        assert!(line.text.contains("WATCHDOG"), "{}", line.text);
    }

    #[test]
    fn a_wait_that_fails_shows_the_last_lines() {
        let console = Console::follow(b"panic: no root\n".as_slice(), Instant::now(), false);
        let error =
            console.wait(0, "ready", Duration::from_secs(5), |l| l == "ready").unwrap_err().to_string();
        assert!(error.contains("waiting for ready") && error.contains("panic: no root"), "{error}");
    }
}
