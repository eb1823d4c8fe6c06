//! Says who was turned away, at most so often a minute.

use crate::limits::REFUSALS_LOGGED;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    said: u32,
    unsaid: u32,
}

impl Refusals {
    /// Prints `line` unless too many came before it.
    pub fn say(&self, line: &str) {
        if let Some(text) = self.filter(line, Instant::now()) {
            eprintln!("{text}");
        }
    }

    fn filter(&self, line: &str, now: Instant) -> Option<String> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(60)) {
            let unsaid = window.unsaid;
            *window = Window { began: Some(now), said: 1, unsaid: 0 };
            return Some(match unsaid {
                0 => line.to_owned(),
                n => format!("{n} more were turned away in the minute before\n{line}"),
            });
        }
        if window.said >= REFUSALS_LOGGED {
            window.unsaid += 1;
            return None;
        }
        window.said += 1;
        Some(line.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_not_printed() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let said = (0..100).filter(|_| refusals.filter("x", start).is_some()).count();
        assert_eq!(said, REFUSALS_LOGGED as usize);
        let later = refusals.filter("y", start + Duration::from_secs(61)).unwrap();
        assert_eq!(later, "80 more were turned away in the minute before\ny");
    }
}
