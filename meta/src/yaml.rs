//! YAML as PyYAML's safe loader reads it, with the place of each value.
//!
//! The grammar is `saphyr-parser`'s (YAML 1.2); what a plain word means is PyYAML's (YAML 1.1, `scalar`): `0644` is 420,
//! `yes` is a boolean, `1:30` is ninety, `<<` merges. Stricter than PyYAML in three things: a key that is there twice is an
//! error, so is an alias inside of its own anchor, and the tags `!!set`, `!!omap` and `!!pairs` are not read.
//!
//! A document costs no more than [`crate::limits`] says, whatever its aliases multiply to. After an error the pairs of
//! the outermost mapping that had ended before it are still there ([`Parsed::root`], [`Parsed::whole`]).

mod scalar;
#[cfg(test)]
mod tests;

use crate::limits;
use berth_units::diag::quote;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// A place in the text, both counted from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Mark {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: Mark,
    /// What it is.
    pub value: Value,
    /// How a number, boolean or null is written.
    pub written: Option<Box<str>>,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, `~`, `null`.
    Null,
    /// `true`, `no`, `On`, …
    Bool(bool),
    /// Decimal, octal (`0644`), hexadecimal, binary, or to base 60.
    Int(i128),
    /// With a point.
    Float(f64),
    /// Anything else; dates too.
    Text(String),
    /// `!!binary`.
    Bytes(Vec<u8>),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the text; what was merged in comes first.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// A text.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of this key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.pair(key).map(|(_, value)| value)
    }

    /// This key of a mapping, and its value.
    pub fn pair(&self, key: &str) -> Option<(&Node, &Node)> {
        match &self.value {
            Value::Map(pairs) => {
                pairs.iter().find(|(name, _)| name.text() == Some(key)).map(|(key, value)| (key, value))
            }
            _ => None,
        }
    }

    /// In words, for messages: `a list`.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "empty",
            Value::Bool(_) => "a boolean",
            Value::Int(_) if self.is_sexagesimal() => "a number to base 60",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::Bytes(_) => "binary",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The same, with how it is written where YAML has made something else of a word; not for what may be a secret.
    pub fn kind_as_written(&self) -> String {
        match &self.written {
            Some(written) if self.value != Value::Null => {
                format!("{} ({} without quotes)", self.kind(), quote(written))
            }
            _ => self.kind().to_owned(),
        }
    }

    /// A number such as `22:22`, which its author hardly meant as one.
    pub fn is_sexagesimal(&self) -> bool {
        matches!(self.value, Value::Int(_)) && self.written.as_ref().is_some_and(|text| text.contains(':'))
    }
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub at: Mark,
    /// What.
    pub message: String,
}

/// What was read.
#[derive(Debug)]
pub struct Parsed {
    /// The document; after an error what of it is beyond doubt. `Null` for an empty one.
    pub root: Node,
    /// No error stopped the reading; there may be keys that are twice.
    pub whole: bool,
    /// All that is wrong, at most [`limits::PROBLEMS`].
    pub mistakes: Vec<Mistake>,
}

/// Reads one document.
pub fn parse(text: &str) -> Parsed {
    let mut composer = Composer::default();
    let stopped = match unreadable(text) {
        Some(mistake) => Err(mistake),
        None => composer.read(text),
    };
    let whole = stopped.is_ok();
    let root = match stopped {
        Ok(root) => root,
        Err(mistake) => {
            let rest = composer.rest();
            composer.mistakes.push(mistake);
            rest
        }
    };
    Parsed { root, whole, mistakes: composer.mistakes }
}

/// A character that PyYAML does not read, or that it would end a line at, unlike everybody else.
fn unreadable(text: &str) -> Option<Mistake> {
    let bad = |c: char| match c {
        '\t' | '\n' | '\r' | ' '..='~' => false,
        '\u{85}' | '\u{2028}' | '\u{2029}' | '\0'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => true,
        _ => false,
    };
    let (at, c) = text.char_indices().find(|(at, c)| bad(*c) || (*c == '\u{feff}' && *at > 0))?;
    let before = text.get(..at)?;
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let message = format!("character U+{:04X} has no place in YAML", u32::from(c));
    Some(Mistake { at: Mark { line, column }, message })
}

/// What an anchor stands for, and what a copy of it costs.
struct Anchored {
    node: Node,
    cost: Cost,
}

/// Of a value and all below it.
#[derive(Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    bytes: usize,
    height: usize,
}

impl Cost {
    fn scalar(bytes: usize) -> Self {
        Self { nodes: 1, bytes, height: 1 }
    }

    fn add(&mut self, other: Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.height = self.height.max(other.height.saturating_add(1));
    }
}

/// A list or mapping that has not ended.
struct Open {
    at: Mark,
    anchor: usize,
    cost: Cost,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map { pairs: Vec<(Node, Node)>, merged: Vec<(Node, Node)>, key: Option<Key>, seen: HashSet<String> },
}

/// A key that waits for its value.
enum Key {
    Name(Node),
    Merge(Mark),
    /// There twice; its value is read and dropped.
    Again,
}

/// A value that has ended.
struct Done {
    node: Node,
    cost: Cost,
    /// It is a plain word that means something as a key only.
    sign: Option<Sign>,
}

/// Plain words that are no values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// `<<`
    Merge,
    /// `=`
    Equals,
}

impl Sign {
    fn of(text: &str) -> Option<Self> {
        match text {
            "<<" => Some(Self::Merge),
            "=" => Some(Self::Equals),
            _ => None,
        }
    }

    fn misplaced(self, at: Mark) -> Mistake {
        let message = match self {
            Self::Merge => "<< is a merge key; as a text it needs quotes",
            Self::Equals => "a plain = is not read; as a text it needs quotes",
        };
        wrong(at, message)
    }
}

#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    /// Made so far, by the text and by aliases.
    made: Cost,
    mistakes: Vec<Mistake>,
    /// Keys of the outermost mapping that are there twice.
    doubtful: Vec<String>,
}

impl Composer {
    fn read(&mut self, text: &str) -> Result<Node, Mistake> {
        let mut root = None;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // A block that ends with the text, within a line: the scanner ends that line, PyYAML does not.
        let open_end = if text.ends_with(['\n', '\r']) { usize::MAX } else { text.chars().count() };
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let message = format!("not valid YAML: {}", error.info());
                Mistake { at: mark(error.marker().line(), error.marker().col()), message }
            })?;
            let at = place(&span);
            let done = match event {
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(wrong(at, "a second document begins here; one is read"));
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                    let added = block && span.end.index() >= open_end;
                    let text = text.strip_suffix('\n').filter(|_| added).unwrap_or(&text);
                    self.scalar(text, style, anchor, tag, at)?
                }
                Event::Alias(id) => self.alias(id, at)?,
                Event::SequenceStart(anchor, tag) => {
                    let known = ["seq", ""];
                    self.begin(at, anchor, tag, &known, Kind::List(Vec::new()))?;
                    continue;
                }
                Event::MappingStart(anchor, tag) => {
                    let kind =
                        Kind::Map { pairs: Vec::new(), merged: Vec::new(), key: None, seen: HashSet::new() };
                    self.begin(at, anchor, tag, &["map", ""], kind)?;
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                    Some(open) => self.end(open),
                    None => continue,
                },
                _ => continue,
            };
            if let Some(done) = self.place(done)? {
                root = Some(done);
            }
        }
        Ok(self.without_doubt(root.unwrap_or(Node {
            at: Mark { line: 1, column: 1 },
            value: Value::Null,
            written: None,
        })))
    }

    /// After an error: the outermost mapping's pairs so far.
    fn rest(&mut self) -> Node {
        let pairs = match self.open.drain(..).next() {
            Some(Open { kind: Kind::Map { mut pairs, merged, .. }, .. }) => {
                pairs.splice(0..0, merged);
                pairs
            }
            _ => Vec::new(),
        };
        let root = Node { at: Mark { line: 1, column: 1 }, value: Value::Map(pairs), written: None };
        self.without_doubt(root)
    }

    /// Without what is there twice: nobody knows which was meant.
    fn without_doubt(&self, mut root: Node) -> Node {
        if let Value::Map(pairs) = &mut root.value {
            pairs.retain(|(key, _)| {
                !key.text().is_some_and(|name| self.doubtful.iter().any(|other| other == name))
            });
        }
        root
    }

    fn begin(
        &mut self,
        at: Mark,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        known: &[&str],
        kind: Kind,
    ) -> Result<(), Mistake> {
        let tag = tag.as_deref().map(scalar::tag).transpose().map_err(|why| wrong(at, &why))?;
        if let Some(tag) = tag
            && !known.contains(&tag)
        {
            return Err(wrong(at, &format!("a list or mapping with the tag !!{tag} is not read")));
        }
        if self.open.len() >= limits::YAML_DEPTH {
            return Err(wrong(at, &format!("more than {} levels below each other", limits::YAML_DEPTH)));
        }
        self.open.push(Open { at, anchor, cost: Cost::scalar(0), kind });
        self.pay(at, Cost::scalar(0))
    }

    fn end(&mut self, open: Open) -> Done {
        let (at, value) = match open.kind {
            Kind::List(items) => (open.at, Value::List(items)),
            Kind::Map { pairs, merged, .. } => {
                let at = pairs.first().map_or(open.at, |(key, _)| key.at);
                let own: HashSet<String> = pairs.iter().map(|(key, _)| identity(key)).collect();
                // Of what is merged in, the last one counts; what is the mapping's own counts more.
                let mut all: Vec<(Node, Node)> = Vec::new();
                let mut index: HashMap<String, usize> = HashMap::new();
                for (key, value) in merged {
                    let id = identity(&key);
                    if own.contains(&id) {
                        continue;
                    }
                    match index.get(&id).and_then(|at| all.get_mut(*at)) {
                        Some(pair) => *pair = (key, value),
                        None => {
                            index.insert(id, all.len());
                            all.push((key, value));
                        }
                    }
                }
                all.extend(pairs);
                (at, Value::Map(all))
            }
        };
        let node = Node { at, value, written: None };
        self.remember(open.anchor, &node, open.cost);
        Done { node, cost: open.cost, sign: None }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        at: Mark,
    ) -> Result<Done, Mistake> {
        let cost = Cost::scalar(text.len());
        self.pay(at, cost)?;
        let tag = tag.as_deref().map(scalar::tag).transpose().map_err(|why| wrong(at, &why))?;
        let plain = style == ScalarStyle::Plain;
        let sign = Sign::of(text).filter(|_| plain && matches!(tag, None | Some("")));
        let value = match sign {
            Some(_) => Value::Text(text.to_owned()),
            None => scalar::resolve(text, plain, tag).map_err(|why| wrong(at, &why))?,
        };
        let written = match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => Some(text.into()),
            _ => None,
        };
        let node = Node { at, value, written };
        self.remember(anchor, &node, cost);
        Ok(Done { node, cost, sign })
    }

    fn alias(&mut self, id: usize, at: Mark) -> Result<Done, Mistake> {
        let Some(anchored) = self.anchors.get(&id) else {
            return Err(wrong(at, "an alias within what its anchor names; nothing can contain itself"));
        };
        let cost = anchored.cost;
        if self.open.len() + cost.height > limits::YAML_DEPTH {
            return Err(wrong(at, &format!("more than {} levels below each other", limits::YAML_DEPTH)));
        }
        self.pay(at, cost)?;
        let Some(anchored) = self.anchors.get(&id) else { return Err(wrong(at, "no such anchor")) };
        Ok(Done { node: anchored.node.clone(), cost, sign: None })
    }

    /// Counts what is about to be made.
    fn pay(&mut self, at: Mark, cost: Cost) -> Result<(), Mistake> {
        self.made.add(cost);
        if self.made.nodes > limits::YAML_NODES || self.made.bytes > limits::YAML_BYTES {
            return Err(wrong(
                at,
                &format!(
                    "more than {} values, or {} bytes of text in them; aliases count as what they stand for",
                    limits::YAML_NODES,
                    limits::YAML_BYTES
                ),
            ));
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, node: &Node, cost: Cost) {
        if anchor > 0 {
            // Anchors within anchors are copies too.
            self.made.add(cost);
            if self.made.nodes <= limits::YAML_NODES && self.made.bytes <= limits::YAML_BYTES {
                self.anchors.insert(anchor, Anchored { node: node.clone(), cost });
            }
        }
    }

    /// Puts a value where it belongs; gives it back if it is the document.
    fn place(&mut self, done: Done) -> Result<Option<Node>, Mistake> {
        let outermost = self.open.len() == 1;
        let Some(open) = self.open.last_mut() else {
            return match done.sign {
                Some(sign) => Err(sign.misplaced(done.node.at)),
                None => Ok(Some(done.node)),
            };
        };
        open.cost.add(done.cost);
        let is_value = !matches!(open.kind, Kind::Map { key: None, .. });
        if let Some(sign) = done.sign.filter(|_| is_value) {
            return Err(sign.misplaced(done.node.at));
        }
        let merge_key = done.sign == Some(Sign::Merge);
        match &mut open.kind {
            Kind::List(items) => items.push(done.node),
            Kind::Map { pairs, merged, key, seen } => match key.take() {
                None => {
                    if matches!(done.node.value, Value::List(_) | Value::Map(_)) {
                        return Err(wrong(done.node.at, "a list or mapping cannot be a key"));
                    }
                    let id = if merge_key { "<<".to_owned() } else { identity(&done.node) };
                    let first = seen.insert(id);
                    *key = Some(match (first, merge_key) {
                        (true, true) => Key::Merge(done.node.at),
                        (true, false) => Key::Name(done.node),
                        (false, _) => {
                            let name = done.node.text().unwrap_or("this key").to_owned();
                            let mistake = wrong(done.node.at, &format!("{} is there twice", quote(&name)));
                            if outermost {
                                self.doubtful.push(name);
                            }
                            if self.mistakes.len() < limits::PROBLEMS {
                                self.mistakes.push(mistake);
                            }
                            Key::Again
                        }
                    });
                }
                Some(Key::Name(name)) => pairs.push((name, done.node)),
                Some(Key::Again) => {}
                Some(Key::Merge(at)) => merge(at, done.node, merged)?,
            },
        }
        Ok(None)
    }
}

/// What `<<` brings: a mapping's pairs, or those of several, of which the first counts most.
fn merge(at: Mark, value: Node, into: &mut Vec<(Node, Node)>) -> Result<(), Mistake> {
    let not = || wrong(at, "<< takes a mapping, or a list of mappings");
    match value.value {
        Value::Map(pairs) => into.extend(pairs),
        Value::List(items) => {
            for item in items.into_iter().rev() {
                let Value::Map(pairs) = item.value else { return Err(not()) };
                into.extend(pairs);
            }
        }
        _ => return Err(not()),
    }
    Ok(())
}

/// Two keys with the same one are the same key.
fn identity(key: &Node) -> String {
    match &key.value {
        Value::Text(text) => format!("t{text}"),
        other => format!("{other:?}"),
    }
}

fn wrong(at: Mark, message: &str) -> Mistake {
    Mistake { at, message: message.to_owned() }
}

/// The parser counts columns from 0.
fn mark(line: usize, column: usize) -> Mark {
    Mark { line, column: column.saturating_add(1) }
}

fn place(span: &Span) -> Mark {
    mark(span.start.line(), span.start.col())
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let parsed = parse(text);
        assert!(parsed.whole || !parsed.mistakes.is_empty(), "an error without a word");
        assert!(parsed.mistakes.len() <= limits::PROBLEMS + 1, "{} mistakes", parsed.mistakes.len());
    }
}
