//! How a terminal, or what is not one, is written to.

use crate::sys;
use std::io::{IsTerminal as _, Stdout};

/// Colours and width.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Use ANSI colours.
    pub colour: bool,
    /// Columns to fit into; none = as wide as needed.
    pub columns: Option<usize>,
}

/// What a piece of text means; the colour follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// On its way, or worth a look.
    Notice,
    /// Not well.
    Bad,
    /// Less important.
    Dim,
    /// A heading.
    Head,
}

impl Style {
    /// For standard output as it is: colours only on a terminal, unless `NO_COLOR` (no-color.org) is set or it is dumb.
    pub fn of(out: &Stdout) -> Self {
        if !out.is_terminal() {
            return Self::default();
        }
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        Self { colour: !set("NO_COLOR") && !dumb, columns: sys::terminal_columns(out) }
    }

    /// `text` in the colour of `tone`.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            _ if !self.colour || text.is_empty() => return text.to_owned(),
            Tone::Good => "32",
            Tone::Notice => "33",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
            Tone::Head => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Text from a machine without what a terminal would obey: control characters, and those that reorder a line.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

/// As [`clean`], but tabs stay, and so do the colours that programs print (`ESC [ digits m`).
pub fn clean_log(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(length) = colour_length(rest) {
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        out.push(if c != '\t' && obeyed(c) { '\u{fffd}' } else { c });
        rest = &rest[c.len_utf8()..];
    }
    out
}

fn colour_length(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    (parameters[end..].starts_with('m') && end <= 32).then_some(2 + end + 1)
}

fn obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(clean("a\x1b[31mb\r\n\u{202e}c"), "a\u{fffd}[31mb\u{fffd}\u{fffd}\u{fffd}c");
        assert_eq!(clean_log("\x1b[1;31mred\x1b[0m\tx"), "\x1b[1;31mred\x1b[0m\tx");
        assert_eq!(
            clean_log("\x1b]0;title\x07\x1b[2J\u{9b}31m"),
            "\u{fffd}]0;title\u{fffd}\u{fffd}[2J\u{fffd}31m"
        );
        assert_eq!(clean_log("\x1b[é"), "\u{fffd}[é");
        assert_eq!(clean_log("\x1b["), "\u{fffd}[");
    }

    #[test]
    fn colours_only_where_asked() {
        assert_eq!(Style::default().paint(Tone::Bad, "x"), "x");
        assert_eq!(Style { colour: true, columns: None }.paint(Tone::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
