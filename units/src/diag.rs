//! What the checker says: each mistake with file, line, column, the line itself and a caret.
//!
//! A [`Place`] is a range in a [`Source`]; line and column are worked out when somebody asks, because almost no
//! place is ever shown. A [`Report`] holds at most [`limits::DIAGNOSTICS`] mistakes and counts the others, so that a
//! hostile file costs no more than a long one. Nothing that comes from the file reaches the terminal raw: control
//! characters are replaced, long lines are cut, and no line is shown that may hold a secret ([`private`]).

mod private;

use crate::limits;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Columns of a source line that are shown around a mistake.
const SHOWN_COLUMNS: usize = 100;
/// Characters of a name or value that are quoted in a message.
const QUOTED_CHARS: usize = 60;

/// A file's name and text.
#[derive(PartialEq, Eq)]
pub struct Source {
    /// As it is to be shown.
    pub file: String,
    /// Without a byte order mark.
    pub text: String,
}

/// Without the text, in which there may be secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

/// A range in a file. The default is nowhere: a unit that no file describes.
#[derive(Debug, Clone, Default)]
pub struct Place {
    source: Option<Arc<Source>>,
    span: Range<usize>,
}

impl Place {
    /// `span` counts bytes of the text.
    pub fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        Self { source: Some(Arc::clone(source)), span }
    }

    /// First byte of the range.
    pub(crate) fn start(&self) -> usize {
        self.span.start
    }

    /// Line and column, both from 1, the column in characters. `None` for nowhere.
    pub fn position(&self) -> Option<(usize, usize)> {
        let (before, _, _) = self.split()?;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        Some((line, before.get(start..).unwrap_or_default().chars().count() + 1))
    }

    /// The text before, within and after.
    fn split(&self) -> Option<(&str, &str, &str)> {
        let text = self.source.as_ref()?.text.as_str();
        let start = floor(text, self.span.start);
        let end = floor(text, self.span.end.max(self.span.start)).max(start);
        Some((text.get(..start)?, text.get(start..end)?, text.get(end..)?))
    }

    /// It lies where secrets do: the file's own words are not to be shown.
    pub(crate) fn is_private(&self) -> bool {
        self.source.as_ref().is_some_and(|source| private::hides(&source.text, self.span.start))
    }

    /// The line with a caret under the range, both without a line break and safe to print.
    fn excerpt(&self) -> Option<(String, String)> {
        if self.is_private() {
            return None;
        }
        let (before, within, after) = self.split()?;
        let head = before.get(before.rfind('\n').map_or(0, |at| at + 1)..)?;
        let within = within.split('\n').next()?.trim_end_matches('\r');
        let tail = match self.split()?.1.contains('\n') {
            true => "",
            false => after.split('\n').next()?.trim_end_matches('\r'),
        };
        // Keep the beginning of the range in view.
        let lead: Vec<char> = head.chars().rev().take(SHOWN_COLUMNS * 2 / 3).collect();
        let cut_front = lead.len() < head.chars().take(SHOWN_COLUMNS * 2 / 3 + 1).count();
        let mut line: String = if cut_front { "…".to_owned() } else { String::new() };
        line.extend(lead.iter().rev().map(|c| visible(*c)));
        let indent = line.chars().count();
        let room = SHOWN_COLUMNS.saturating_sub(indent);
        let rest = within.chars().chain(tail.chars());
        line.extend(rest.clone().take(room).map(visible));
        if rest.take(room + 1).count() > room {
            line.push('…');
        }
        let width = within.chars().take(room).count().max(1);
        Some((line.trim_end().to_owned(), format!("{}{}", " ".repeat(indent), "^".repeat(width))))
    }
}

/// `web.toml:7:1`, or the file alone, or `?`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.source, self.position()) {
            (Some(source), Some((line, column))) => write!(f, "{}:{line}:{column}", source.file),
            _ => f.write_str("?"),
        }
    }
}

fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() || is_bidi(c) => '\u{fffd}',
        c => c,
    }
}

/// Characters that would rearrange the line on a terminal.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name or value from a file, in double quotes, cut to a sensible length, nothing in it that a terminal obeys.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars().take(QUOTED_CHARS) {
        match c {
            '\'' => out.push(c),
            c if is_bidi(c) => out.extend(c.escape_unicode()),
            c => out.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(QUOTED_CHARS).is_some() {
        out.push('…');
    }
    out.push('"');
    out
}

/// The name among `known` that was most likely meant.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > limits::NAME_BYTES {
        return None;
    }
    let folded = name.to_lowercase().replace('-', "_");
    let scored = known.into_iter().map(|candidate| {
        let other = candidate.to_lowercase().replace('-', "_");
        let within = folded.len() >= 3
            && other.len() >= 3
            && (other.starts_with(&folded) || folded.starts_with(&other));
        let distance = strsim::damerau_levenshtein(&folded, &other);
        (if within { distance.min(1) } else { distance }, candidate)
    });
    let (distance, candidate) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1.max(candidate.len().min(name.len()) / 3) && distance < candidate.len())
        .then_some(candidate)
}

/// One mistake.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// File name, for mistakes that have no place in the text.
    pub file: String,
    /// Where.
    pub place: Place,
    /// What is wrong, what was expected, what may have been meant. One line.
    pub message: String,
    /// More lines, shown below.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// A mistake at a place.
    pub fn at(place: Place, message: impl Into<String>) -> Self {
        let file = place.source.as_ref().map_or("?", |source| source.file.as_str()).to_owned();
        Self { file, place, message: message.into(), notes: Vec::new() }
    }

    /// A mistake of a file as a whole.
    pub fn file(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: Place::default(), message: message.into(), notes: Vec::new() }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, colour: bool) -> fmt::Result {
        let (bold, red, blue, off) =
            if colour { ("\x1b[1m", "\x1b[31m", "\x1b[34m", "\x1b[0m") } else { ("", "", "", "") };
        match self.place.position() {
            None => write!(f, "{bold}{}:{off} {}", self.file, self.message)?,
            Some((line, column)) => {
                write!(f, "{bold}{}:{line}:{column}:{off} {}", self.file, self.message)?;
                if let Some((text, caret)) = self.place.excerpt() {
                    let number = line.to_string();
                    let margin = " ".repeat(number.len());
                    write!(f, "\n  {blue}{number} |{off} {text}")?;
                    write!(f, "\n  {blue}{margin} |{off} {red}{caret}{off}")?;
                }
            }
        }
        for note in &self.notes {
            write!(f, "\n  {note}")?;
        }
        Ok(())
    }
}

/// What `berth` prints, without colour and without a line break at its end.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

/// Every mistake that was found. `Display` is what `berth` prints.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// At most [`limits::DIAGNOSTICS`], by file and position.
    pub diagnostics: Vec<Diagnostic>,
    /// How many more there are.
    pub more: usize,
}

impl Report {
    /// A report of one mistake.
    pub fn of(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic], more: 0 }
    }

    /// No mistake.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty() && self.more == 0
    }

    /// Further mistakes are only counted.
    pub fn is_full(&self) -> bool {
        self.diagnostics.len() >= limits::DIAGNOSTICS
    }

    /// One more; its text is made only if there is room for it.
    pub fn push(&mut self, diagnostic: impl FnOnce() -> Diagnostic) {
        if self.diagnostics.len() < limits::DIAGNOSTICS {
            self.diagnostics.push(diagnostic());
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// All of another report as well.
    pub fn append(&mut self, other: Self) {
        for diagnostic in other.diagnostics {
            self.push(|| diagnostic);
        }
        self.more = self.more.saturating_add(other.more);
    }

    /// Sorted, each mistake once; an error unless there is none.
    pub fn finish(mut self) -> Result<(), Self> {
        self.diagnostics.sort_by(|a, b| {
            (&a.file, a.place.span.start, &a.message).cmp(&(&b.file, b.place.span.start, &b.message))
        });
        self.diagnostics
            .dedup_by(|a, b| a.file == b.file && a.place.span == b.place.span && a.message == b.message);
        if self.is_empty() { Ok(()) } else { Err(self) }
    }

    /// As `Display`, with colours for a terminal.
    pub fn coloured(&self) -> String {
        struct Coloured<'a>(&'a Report);
        impl fmt::Display for Coloured<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.write(f, true)
            }
        }
        Coloured(self).to_string()
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, colour: bool) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            diagnostic.write(f, colour)?;
            writeln!(f)?;
        }
        if self.more > 0 {
            writeln!(f, "and {} more", self.more)?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

impl std::error::Error for Report {}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, within: &str) -> Place {
        let at = text.find(within).unwrap();
        let source = Arc::new(Source { file: "web.toml".into(), text: text.into() });
        Place::new(&source, at..at + within.len())
    }

    #[test]
    fn a_mistake_is_shown_with_its_line() {
        let place = place("[resources]\r\n\tmemroy = 1\r\n", "memroy");
        assert_eq!(
            Diagnostic::at(place, "unknown").to_string(),
            "web.toml:2:2: unknown\n  2 |  memroy = 1\n    |  ^^^^^^"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_mistake() {
        let text = format!("a = \"{}\" # x\x1b[2J {}", "ä".repeat(500), "z".repeat(100_000));
        let shown = Diagnostic::at(place(&text, "# x"), "here").to_string();
        assert!(shown.starts_with("web.toml:1:508: here\n  1 | …ää"), "{shown}");
        assert!(shown.len() < 500 && !shown.contains('\x1b'), "{shown}");
        let caret = shown.lines().nth(2).unwrap();
        let line: Vec<char> = shown.lines().nth(1).unwrap().chars().collect();
        assert_eq!(line[caret.find('^').unwrap()], '#');
    }

    #[test]
    fn any_range_can_be_shown() {
        let source = Arc::new(Source { file: "f".into(), text: "é\n\nx\n".into() });
        for start in 0..9 {
            for end in 0..9 {
                let _ = Diagnostic::at(Place::new(&source, Range { start, end }), "m").to_string();
            }
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["memory", "cpus", "pids", "read_only"];
        assert_eq!(nearest("memroy", known), Some("memory"));
        assert_eq!(nearest("Memory", known), Some("memory"));
        assert_eq!(nearest("read-only", known), Some("read_only"));
        assert_eq!(nearest("cpu", known), Some("cpus"));
        assert_eq!(nearest("mem", known), Some("memory"));
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest("environment", known), None);
        assert_eq!(nearest(&"m".repeat(10_000_000), known), None);
    }

    #[test]
    fn a_report_is_bounded() {
        let mut report = Report::default();
        for n in 0..1000 {
            report.push(|| Diagnostic::file("f", format!("{n:04}")));
        }
        let text = report.finish().unwrap_err().to_string();
        assert!(text.starts_with("f: 0000\nf: 0001\n") && text.ends_with("and 950 more\n"), "{text}");
    }
}
