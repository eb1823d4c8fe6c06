//! A berth.toml that is made out of another document, and where each piece of it came from.

use crate::yaml::Mark;
use berth_units::config::toml_string;
use std::fmt::Write as _;

/// A value, and the place in the other document that it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// See above.
    pub at: Mark,
    /// What it is.
    pub value: Value,
}

/// As in TOML, without dates.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `true`
    Bool(bool),
    /// `1`
    Int(i64),
    /// `1.5`
    Float(f64),
    /// `"x"`
    Text(String),
    /// `[…]`, or `[[name]]` if it consists of tables.
    List(Vec<Item>),
    /// `[name]`
    Table(Table),
}

/// A table, in the order in which it is written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table(pub Vec<(String, Mark, Item)>);

impl Table {
    /// The value of this key.
    pub fn get(&self, key: &str) -> Option<&Item> {
        self.0.iter().find(|(name, _, _)| name == key).map(|(_, _, item)| item)
    }

    /// Sets what is not set yet; gives back the place of what is.
    pub fn set(&mut self, key: &str, at: Mark, value: Value) -> Result<(), Mark> {
        match self.0.iter().find(|(name, _, _)| name == key) {
            Some((_, at, _)) => Err(*at),
            None => {
                self.0.push((key.to_owned(), at, Item { at, value }));
                Ok(())
            }
        }
    }

    /// The table under this key, made if it is not there; `None` if something else is.
    pub fn table(&mut self, key: &str, at: Mark) -> Option<&mut Self> {
        if self.get(key).is_none() {
            self.0.push((key.to_owned(), at, Item { at, value: Value::Table(Self::default()) }));
        }
        match &mut self.0.iter_mut().find(|(name, _, _)| name == key)?.2.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The list under this key, made if it is not there; `None` if something else is.
    pub fn list(&mut self, key: &str, at: Mark) -> Option<&mut Vec<Item>> {
        if self.get(key).is_none() {
            self.0.push((key.to_owned(), at, Item { at, value: Value::List(Vec::new()) }));
        }
        match &mut self.0.iter_mut().find(|(name, _, _)| name == key)?.2.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The text.
    pub fn write(&self) -> Written {
        let mut writer = Writer { text: String::new(), places: Vec::new(), line: 1, start: 0 };
        writer.table(self, &mut Vec::new());
        Written { text: writer.text, places: writer.places }
    }
}

/// A text, and the source of each of its places.
pub struct Written {
    /// The text.
    pub text: String,
    /// Line and column, and where what begins there came from; ascending.
    places: Vec<((usize, usize), Mark)>,
}

impl Written {
    /// Where that which stands at this line and column came from.
    pub fn source(&self, line: usize, column: usize) -> Mark {
        let behind = self.places.partition_point(|(place, _)| *place <= (line, column));
        behind.checked_sub(1).and_then(|at| self.places.get(at)).map(|(_, mark)| *mark).unwrap_or_default()
    }
}

struct Writer {
    text: String,
    places: Vec<((usize, usize), Mark)>,
    /// Of what comes next, from 1.
    line: usize,
    /// Where that line begins.
    start: usize,
}

impl Writer {
    fn here(&mut self, at: Mark) {
        let column = self.text.get(self.start..).unwrap_or_default().chars().count() + 1;
        self.places.push(((self.line, column), at));
    }

    fn end_line(&mut self) {
        self.text.push('\n');
        self.line += 1;
        self.start = self.text.len();
    }

    /// A table's own values, then the tables in it. `path` leads to it.
    fn table(&mut self, table: &Table, path: &mut Vec<(String, Mark)>) {
        for (key, at, item) in table.0.iter().filter(|(_, _, item)| !has_header(item)) {
            self.here(*at);
            key_text(&mut self.text, key);
            self.text.push_str(" = ");
            self.value(item);
            self.end_line();
        }
        for (key, at, item) in &table.0 {
            path.push((key.clone(), *at));
            match &item.value {
                Value::Table(inner) => {
                    // One that only holds tables is implied by their headers.
                    if inner.0.is_empty() || inner.0.iter().any(|(_, _, item)| !has_header(item)) {
                        self.header(path, false);
                    }
                    self.table(inner, path);
                }
                Value::List(items) if has_header(item) => {
                    for item in items {
                        let Value::Table(inner) = &item.value else { continue };
                        if let Some(last) = path.last_mut() {
                            last.1 = item.at;
                        }
                        self.header(path, true);
                        self.table(inner, path);
                    }
                }
                _ => {}
            }
            path.pop();
        }
    }

    fn header(&mut self, path: &[(String, Mark)], list: bool) {
        if !self.text.is_empty() {
            self.end_line();
        }
        self.text.push_str(if list { "[[" } else { "[" });
        for (n, (key, at)) in path.iter().enumerate() {
            if n > 0 {
                self.text.push('.');
            }
            self.here(*at);
            key_text(&mut self.text, key);
        }
        self.text.push_str(if list { "]]" } else { "]" });
        self.end_line();
    }

    fn value(&mut self, item: &Item) {
        self.here(item.at);
        match &item.value {
            Value::Bool(yes) => self.text.push_str(if *yes { "true" } else { "false" }),
            Value::Int(number) => {
                let _ = write!(self.text, "{number}");
            }
            Value::Float(number) => float_text(&mut self.text, *number),
            Value::Text(text) => self.text(text),
            Value::List(items) => {
                self.text.push('[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        self.text.push_str(", ");
                    }
                    self.value(item);
                }
                self.text.push(']');
            }
            Value::Table(table) => {
                self.text.push_str("{ ");
                for (n, (key, at, item)) in table.0.iter().enumerate() {
                    if n > 0 {
                        self.text.push_str(", ");
                    }
                    self.here(*at);
                    key_text(&mut self.text, key);
                    self.text.push_str(" = ");
                    self.value(item);
                }
                self.text.push_str(" }");
            }
        }
    }

    /// Several lines stay several lines.
    fn text(&mut self, text: &str) {
        let lines = text.contains('\n');
        let quotes = if lines { "\"\"\"" } else { "\"" };
        self.text.push_str(quotes);
        if lines {
            self.end_line();
        }
        for c in text.chars() {
            match c {
                '\n' if lines => self.end_line(),
                '"' | '\\' => self.text.extend(['\\', c]),
                '\t' => self.text.push('\t'),
                c if c.is_control() => {
                    let _ = write!(self.text, "\\u{:04X}", u32::from(c));
                }
                c => self.text.push(c),
            }
        }
        self.text.push_str(quotes);
    }
}

/// It is written as `[name]` or `[[name]]`.
fn has_header(item: &Item) -> bool {
    match &item.value {
        Value::Table(_) => true,
        Value::List(items) => {
            !items.is_empty() && items.iter().all(|item| matches!(item.value, Value::Table(_)))
        }
        _ => false,
    }
}

fn key_text(out: &mut String, key: &str) {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { out.push_str(key) } else { out.push_str(&toml_string(key)) }
}

fn float_text(out: &mut String, number: f64) {
    if number.is_nan() {
        out.push_str("nan");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 { "inf" } else { "-inf" });
    } else {
        let _ = write!(out, "{number:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("numbers", |n| !n.is_nan()).prop_map(Value::Float),
            "(?s).{0,12}".prop_map(Value::Text),
            "[\n\"\\\\a\r\t]{0,12}".prop_map(Value::Text),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let item = |value| Item { at: Mark { line: 1, column: 1 }, value };
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4)
                    .prop_map(move |values| Value::List(values.into_iter().map(item).collect())),
                prop::collection::btree_map("[a-z\" .\n]{0,3}", inner, 0..4).prop_map(move |pairs| {
                    Value::Table(Table(
                        pairs.into_iter().map(|(key, value)| (key, Mark::default(), item(value))).collect(),
                    ))
                }),
            ]
        })
    }

    fn same(ours: &Value, theirs: &toml::Value) -> bool {
        match (ours, theirs) {
            (Value::Bool(a), toml::Value::Boolean(b)) => a == b,
            (Value::Int(a), toml::Value::Integer(b)) => a == b,
            (Value::Float(a), toml::Value::Float(b)) => a == b,
            (Value::Text(a), toml::Value::String(b)) => a == b,
            (Value::List(a), toml::Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.value, b))
            }
            (Value::Table(a), toml::Value::Table(b)) => {
                a.0.len() == b.len()
                    && a.0.iter().all(|(key, _, item)| b.get(key).is_some_and(|b| same(&item.value, b)))
            }
            _ => false,
        }
    }

    proptest! {
        /// What is written is read as the same.
        #[test]
        fn what_is_written_is_read(values in prop::collection::vec(value(), 0..5)) {
            let mut table = Table::default();
            for (n, value) in values.into_iter().enumerate() {
                table.set(&format!("k{n}"), Mark::default(), value).unwrap();
            }
            let text = table.write().text;
            let read: toml::Table = text.parse().map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert!(same(&Value::Table(table), &toml::Value::Table(read)), "{}", text);
        }
    }

    #[test]
    fn each_place_leads_to_its_source() {
        let at = |line, column| Mark { line, column };
        let text = |line, column, text: &str| Item { at: at(line, column), value: Value::Text(text.into()) };
        let mut root = Table::default();
        root.set("files", at(1, 1), Value::Table(Table(vec![("a".into(), at(2, 3), text(2, 6, "x\ny\n"))])))
            .unwrap();
        let list = Value::List(vec![text(8, 9, "p"), text(8, 12, "q")]);
        root.table("units", at(5, 1))
            .unwrap()
            .table("web", at(6, 3))
            .unwrap()
            .set("l", at(7, 5), list)
            .unwrap();
        let written = root.write();
        assert_eq!(written.text, "[files]\na = \"\"\"\nx\ny\n\"\"\"\n\n[units.web]\nl = [\"p\", \"q\"]\n");
        for (place, source) in [
            ((1, 2), (1, 1)),
            ((2, 1), (2, 3)),
            ((2, 5), (2, 6)),
            ((4, 1), (2, 6)),
            ((7, 2), (5, 1)),
            ((7, 8), (6, 3)),
            ((8, 1), (7, 5)),
            ((8, 6), (8, 9)),
            ((8, 11), (8, 12)),
        ] {
            assert_eq!(written.source(place.0, place.1), at(source.0, source.1), "{place:?}");
        }
    }
}
