//! The kernel command line. Nothing on it can weaken the machine: it names the root hash, and sets deadlines.

use super::{files, limits};
use berth_updater::medium;

/// The words of `/proc/cmdline`. The first of several equal names wins: what the UKI says comes first, so
/// that nothing appended to it can override it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmdline {
    words: Vec<(String, Option<String>)>,
}

impl Cmdline {
    /// Reads `/proc/cmdline`.
    pub fn read() -> Cmdline {
        Cmdline::parse(&files::read("/proc/cmdline", limits::CMDLINE_BYTES).unwrap_or_default())
    }

    /// Splits at blanks; double quotes protect them, as in the kernel.
    pub fn parse(text: &str) -> Cmdline {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in text.trim_end().chars().chain([' ']) {
            match c {
                '"' => quoted = !quoted,
                c if c.is_ascii_whitespace() && !quoted => {
                    if !word.is_empty() {
                        words.push(match word.split_once('=') {
                            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                            None => (word.clone(), None),
                        });
                    }
                    word.clear();
                }
                c => word.push(c),
            }
        }
        Cmdline { words }
    }

    /// The value of `name=value`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.words.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }

    /// The loader came from an installation medium.
    pub fn medium(&self) -> bool {
        self.get(medium::WORD.0) == Some(medium::WORD.1)
    }

    /// A number of seconds (or of anything), if it is one.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.get(name)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_value_wins_and_quotes_protect_blanks() {
        let line = Cmdline::parse("roothash=aa quiet x=\"1 2\" roothash=bb berth.watchdog=7\n");
        assert_eq!(line.get("roothash"), Some("aa"));
        assert_eq!(line.get("x"), Some("1 2"));
        assert_eq!(line.get("quiet"), None);
        assert_eq!(line.number("berth.watchdog"), Some(7));
        assert!(!line.medium() && Cmdline::parse("quiet berth.medium=iso").medium());
    }
}
