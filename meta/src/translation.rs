//! What became of a document that was translated into a berth.toml, key by key.

use crate::limits;
use crate::toml_text::{Item, Table, Value as Toml};
use crate::yaml::{Mark, Node, Value};
use berth_units::config;
use berth_units::diag::{nearest, quote};
use std::fmt;

/// A translated document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Translation {
    /// A berth.toml, which the checker accepts if there are no problems. Else what of access keys, hostname and network
    /// is beyond doubt, and nothing else.
    pub toml: String,
    /// `user-data:7: growpart: no-op: …`, a line for each key that does nothing, or something else than it does
    /// elsewhere.
    pub notes: Vec<String>,
    /// `user-data:7:1: packages: …`, a line for each mistake.
    pub problems: Vec<String>,
    /// All of it, in the order of the text.
    pub rows: Vec<Row>,
    /// Rows that were too many.
    pub more: usize,
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it stands.
    pub at: Mark,
    /// Its name; empty if none is to blame.
    pub key: String,
    /// See there.
    pub verdict: Verdict,
    /// Why, or what it became. May be empty if it was applied.
    pub words: String,
}

/// What may become of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It has an effect.
    Applied,
    /// It has none, and need not have one.
    NoOp,
    /// It is wrong, unknown, or asks for what Berth does not do.
    Refused,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Applied => "applied",
            Self::NoOp => "no-op",
            Self::Refused => "refused",
        })
    }
}

/// A key's place in the tables of `cloud_config` and `network_config`.
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What becomes of it.
    pub is: Is,
    /// What it becomes; why it does nothing; what to write instead.
    pub doc: &'static str,
    /// The keys of its mapping, or of each mapping of its list; empty if they are not looked at one by one.
    pub below: &'static [Key],
}

/// A row of a table of keys, without keys of its own below.
pub(crate) const fn key(name: &'static str, is: Is, doc: &'static str) -> Key {
    Key { name, is, doc, below: &[] }
}

/// The same, with those below.
pub(crate) const fn deep(name: &'static str, is: Is, doc: &'static str, below: &'static [Key]) -> Key {
    Key { name, is, doc, below }
}

/// What becomes of a key.
pub enum Is {
    /// Applied by this.
    Applied(Apply),
    /// Applied with the key above it.
    Part,
    /// Does nothing.
    NoOp,
    /// Refused, unless its value asks for nothing.
    Refused,
}

/// Applies a key's value.
pub type Apply = fn(&mut Sheet<'_>, &Node, &Node);

impl Key {
    /// See [`Verdict`].
    pub fn verdict(&self) -> Verdict {
        match self.is {
            Is::Applied(_) | Is::Part => Verdict::Applied,
            Is::NoOp => Verdict::NoOp,
            Is::Refused => Verdict::Refused,
        }
    }
}

/// A translation while it is made.
pub struct Sheet<'a> {
    /// The document's name for messages.
    pub name: &'a str,
    /// The outermost mapping.
    pub root: &'a Node,
    /// What it becomes.
    pub toml: Table,
    rows: Vec<Row>,
    /// Rows left out, problems among them.
    more: usize,
}

impl<'a> Sheet<'a> {
    /// An empty one.
    pub fn new(name: &'a str, root: &'a Node) -> Self {
        Self { name, root, toml: Table::default(), rows: Vec::new(), more: 0 }
    }

    /// One more row.
    pub fn row(&mut self, at: Mark, key: impl Into<String>, verdict: Verdict, words: impl Into<String>) {
        let alike =
            self.rows.iter().filter(|row| (row.verdict == Verdict::Refused) == (verdict == Verdict::Refused));
        if alike.count() >= limits::PROBLEMS {
            self.more += 1;
            return;
        }
        self.rows.push(Row { at, key: key.into(), verdict, words: words.into() });
    }

    /// Applied; with words if not as elsewhere.
    pub fn applied(&mut self, key: &Node, words: impl Into<String>) {
        self.row(key.at, name_of(key), Verdict::Applied, words);
    }

    /// Does nothing.
    pub fn no_op(&mut self, key: &Node, words: impl Into<String>) {
        self.row(key.at, name_of(key), Verdict::NoOp, words);
    }

    /// Refused, because of what stands at `at`.
    pub fn refuse(&mut self, at: Mark, key: &str, words: impl Into<String>) {
        self.row(at, key, Verdict::Refused, words);
    }

    /// Nothing has been refused.
    pub fn is_clean(&self) -> bool {
        self.rows.iter().all(|row| row.verdict != Verdict::Refused)
    }

    /// The value is not what it should be.
    pub fn wrong(&mut self, key: &str, value: &Node, expected: &str) {
        let hint = match (&value.value, expected.contains("text")) {
            (Value::Bool(_) | Value::Int(_) | Value::Float(_), true) => "; write it in quotes",
            _ => "",
        };
        self.refuse(value.at, key, format!("is {}, expected {expected}{hint}", value.kind_as_written()));
    }

    /// A text; `None` with a word about it if it is none, without one if there is nothing.
    pub fn text(&mut self, key: &str, value: &Node) -> Option<String> {
        match &value.value {
            Value::Text(text) => Some(text.clone()),
            Value::Null => None,
            _ => {
                self.wrong(key, value, "a text");
                None
            }
        }
    }

    /// A list of texts, each with its place; one text is a list of one.
    pub fn texts(&mut self, key: &str, value: &Node) -> Vec<(String, Mark)> {
        match &value.value {
            Value::Null => Vec::new(),
            Value::Text(text) => vec![(text.clone(), value.at)],
            Value::List(items) => {
                let texts = items.iter().filter_map(|item| Some((self.text(key, item)?, item.at)));
                texts.collect()
            }
            _ => {
                self.wrong(key, value, "a list of texts");
                Vec::new()
            }
        }
    }

    /// A boolean.
    pub fn yes(&mut self, key: &str, value: &Node) -> Option<bool> {
        match &value.value {
            Value::Bool(yes) => Some(*yes),
            Value::Null => None,
            // cloud-init takes such texts for booleans too.
            Value::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Value::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => {
                self.wrong(key, value, "true or false");
                None
            }
        }
    }

    /// The pairs of a mapping whose keys are in the table; a word about each that is not, that does nothing or is refused.
    /// `of`: what the mapping is called, empty for the document.
    pub fn pairs<'n>(
        &mut self,
        of: &str,
        node: &'n Node,
        table: &'static [Key],
    ) -> Vec<(&'static Key, &'n Node, &'n Node)> {
        let Value::Map(pairs) = &node.value else {
            if node.value != Value::Null {
                self.wrong(of, node, "a mapping");
            }
            return Vec::new();
        };
        let mut found = Vec::new();
        // Keys that do nothing for the same reason are one row.
        let mut idle: Vec<(&str, Mark, String)> = Vec::new();
        for (key, value) in pairs {
            let name = name_of(key);
            let path = if of.is_empty() { name.clone() } else { format!("{of}: {name}") };
            let Some(entry) = table.iter().find(|entry| Some(entry.name) == key.text()) else {
                self.unknown(of, key, table);
                continue;
            };
            match entry.is {
                Is::Applied(_) | Is::Part => found.push((entry, key, value)),
                Is::NoOp => match idle.iter_mut().find(|(doc, _, _)| *doc == entry.doc && !of.is_empty()) {
                    Some((_, _, names)) => names.extend([", ", &name]),
                    None => idle.push((entry.doc, key.at, path)),
                },
                Is::Refused if asks_nothing(value) => {
                    self.row(key.at, path, Verdict::NoOp, "it asks for nothing");
                }
                Is::Refused => self.refuse(key.at, &path, entry.doc),
            }
        }
        for (doc, at, names) in idle {
            self.row(at, names, Verdict::NoOp, doc);
        }
        found
    }

    fn unknown(&mut self, of: &str, key: &Node, table: &'static [Key]) {
        let Some(name) = key.text() else {
            let words = format!("a key is {}; keys are texts", key.kind_as_written());
            return self.refuse(key.at, of, words);
        };
        let names = || table.iter().map(|entry| entry.name);
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean {}?", quote(near)),
            None if table.len() <= 12 => format!("known are {}", names().collect::<Vec<_>>().join(", ")),
            None => "docs/cloud-config.md has all keys".to_owned(),
        };
        let within = if of.is_empty() { String::new() } else { format!(" in {of}") };
        self.refuse(key.at, "", format!("unknown key {}{within}; {hint}", quote(name)));
    }

    /// Sets a field of berth.toml, `[table] field` or at the top; a word if it is set already.
    pub fn set(&mut self, table: &str, field: &str, at: Mark, value: Toml) {
        let whole = if table.is_empty() {
            format!("{field} of berth.toml")
        } else {
            format!("[{table}] {field} of berth.toml")
        };
        let target = if table.is_empty() { Some(&mut self.toml) } else { self.toml.table(table, at) };
        let set = target.map(|target| target.set(field, at, value));
        match set {
            Some(Ok(())) => {}
            Some(Err(first)) => {
                let words = format!("{whole} is said twice, at {first} and here");
                self.refuse(at, "", words);
            }
            None => self.refuse(at, "", format!("[{table}] of berth.toml is said to be no table")),
        }
    }

    /// Checks the whole by Berth's own checker, and makes the answer. `format`: the text is a whole berth.toml, with the
    /// line that says so.
    pub fn finish(mut self, format: bool) -> Translation {
        let written = self.toml.write();
        if self.is_clean() {
            let text = if format { written.text.clone() } else { format!("{FORMAT_LINE}{}", written.text) };
            let shift = if format { 0 } else { 1 };
            if let Err(report) = config::parse(self.name, text.as_bytes()) {
                for mistake in report.diagnostics {
                    let at = match mistake.place.position() {
                        Some((line, column)) => written.source(line.saturating_sub(shift), column),
                        None => Mark { line: 1, column: 1 },
                    };
                    self.refuse(at, "", mistake.message);
                }
                self.more += report.more;
            }
        }
        let toml = match self.is_clean() {
            true => written.text,
            // What makes the machine reachable, as of any other config that is refused.
            false if format => config::salvage(written.text.as_bytes()),
            false => {
                let rest = config::salvage(format!("{FORMAT_LINE}{}", written.text).as_bytes());
                rest.strip_prefix(FORMAT_LINE).unwrap_or_default().to_owned()
            }
        };
        self.rows.sort_by_key(|row| row.at);
        self.rows.dedup();
        let name = self.name;
        let mut notes = Vec::new();
        let mut problems = Vec::new();
        for Row { at, key, verdict, words } in &self.rows {
            match verdict {
                Verdict::Refused if key.is_empty() => problems.push(format!("{name}:{at}: {words}")),
                Verdict::Refused => problems.push(format!("{name}:{at}: {key}: {words}")),
                Verdict::NoOp => notes.push(format!("{name}:{}: {key}: no-op: {words}", at.line)),
                Verdict::Applied if words.is_empty() => {}
                Verdict::Applied => notes.push(format!("{name}:{}: {key}: {words}", at.line)),
            }
        }
        if self.more > 0 {
            let more = format!("{name}: and {} more", self.more);
            if problems.is_empty() { notes.push(more) } else { problems.push(more) }
        }
        Translation { toml, notes, problems, rows: self.rows, more: self.more }
    }
}

/// What a text without its own begins with, for the checker.
const FORMAT_LINE: &str = "format = 1\n";

/// A key as it is written.
pub fn name_of(key: &Node) -> String {
    match key.text().or(key.written.as_deref()) {
        Some(text) if !text.is_empty() => shown(text, 64),
        _ => "?".to_owned(),
    }
}

/// The beginning of a name or path, without what a terminal would obey.
pub fn shown(text: &str, most: usize) -> String {
    let plain = |c: &char| !c.is_control() && quote(&c.to_string()).contains(*c);
    text.chars().take(most).map(|c| if plain(&c) { c } else { '\u{fffd}' }).collect()
}

/// `packages: []`, `package_update: false` and the like.
pub fn asks_nothing(value: &Node) -> bool {
    match &value.value {
        Value::Null | Value::Bool(false) => true,
        Value::Text(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(pairs) => pairs.is_empty(),
        _ => false,
    }
}

/// A list of texts in berth.toml.
pub fn list(texts: Vec<(String, Mark)>) -> Toml {
    Toml::List(texts.into_iter().map(|(text, at)| Item { at, value: Toml::Text(text) }).collect())
}
