//! How far something is that the machine does.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between two lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress on standard error: one line that changes on a terminal, else a new line now and then.
pub(super) struct Line {
    silent: bool,
    terminal: bool,
    last: String,
    at: Option<Instant>,
}

impl Line {
    pub(super) fn new(silent: bool) -> Self {
        Self { silent, terminal: io::stderr().is_terminal(), last: String::new(), at: None }
    }

    pub(super) fn show(&mut self, text: &str) {
        if self.silent || text == self.last {
            return;
        }
        let mut err = io::stderr().lock();
        // A closed standard error is no reason to stop.
        if self.terminal {
            let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
        } else if self.at.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            let _ = writeln!(err, "{text}");
            self.at = Some(Instant::now());
        }
        text.clone_into(&mut self.last);
    }

    pub(super) fn end(&self) {
        if self.terminal && !self.last.is_empty() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
