//! How a table of fields is described, and how a document is walked along it.
//!
//! A [`Field`] carries its own way into the checked form ([`Set`]), so a field that is documented is read, and the
//! type that is documented is the type that is read.

use crate::diag::{Diagnostic, Place, Report, Source, nearest, quote};
use crate::limits;
use crate::model::Origin;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// One `[table]` of a file; the one without a name holds the fields before the first header.
pub(crate) struct Section<T: 'static> {
    pub name: &'static str,
    pub doc: &'static str,
    pub fields: &'static [Field<T>],
    /// Fields of the design that this version does not have.
    pub later: &'static [&'static str],
    /// Only in the OS image's own units.
    pub system: bool,
}

/// One field.
pub(crate) struct Field<T: 'static> {
    pub name: &'static str,
    pub required: bool,
    /// What holds when it is absent: a TOML value in backquotes, or words.
    pub default: &'static str,
    /// A TOML value.
    pub example: &'static str,
    pub doc: &'static str,
    pub set: Set<T>,
}

/// What a string must look like.
pub(crate) struct Form {
    /// `a size such as "64M"`.
    pub expected: &'static str,
    pub check: fn(&str) -> Result<(), String>,
}

/// A field's type, and where its value goes.
pub(crate) enum Set<T: 'static> {
    Bool(fn(&mut T, bool)),
    /// Least, most.
    Number(u64, u64, fn(&mut T, u64)),
    /// CPUs, given in thousandths.
    Cpus(fn(&mut T, u32)),
    /// One of these words; these others are not there yet.
    Choice(&'static [&'static str], &'static [&'static str], fn(&mut T, &str)),
    Text(&'static Form, fn(&mut T, String)),
    /// A list.
    Texts(&'static Form, fn(&mut T, Vec<(String, Place)>)),
    /// One string, or a list.
    TextOrTexts(&'static Form, fn(&mut T, Vec<(String, Place)>)),
    /// A table from strings to strings.
    Pairs(&'static Form, &'static Form, fn(&mut T, BTreeMap<String, String>)),
    /// A table with fields of its own.
    Table(&'static [Field<T>]),
    /// Anything else: what is expected, and a reader of its own.
    Tables(&'static str, fn(&mut Reader, &mut T, &Spanned<DeValue<'_>>)),
}

impl<T> Set<T> {
    /// What the reference calls it, and what messages say was expected.
    pub fn expected(&self) -> String {
        match self {
            Self::Bool(_) => "true or false".to_owned(),
            Self::Number(least, most, _) if least == most => format!("the number {least}"),
            Self::Number(least, most, _) => format!("a whole number from {least} to {most}"),
            Self::Cpus(_) => "a number of CPUs such as 0.5, from 0.01 to 1024".to_owned(),
            Self::Choice(words, _, _) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
            Self::Text(form, _) => form.expected.to_owned(),
            Self::Texts(form, _) => format!("a list, each {}", form.expected),
            Self::TextOrTexts(form, _) => format!("{}, or a list of such", form.expected),
            Self::Pairs(key, value, _) => format!("a table from {} to {}", key.expected, value.expected),
            Self::Table(fields) => {
                format!("a table of {}", fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", "))
            }
            Self::Tables(expected, _) => (*expected).to_owned(),
        }
    }
}

/// What a walk carries along.
pub(crate) struct Reader {
    pub source: Arc<Source>,
    pub origin: Origin,
    pub report: Report,
    /// The document has holes: what is missing may be in one.
    pub partly: bool,
    /// `units.web.` while a unit of the machine config is read.
    pub prefix: String,
}

impl Reader {
    pub fn new(source: Arc<Source>, origin: Origin) -> Self {
        Self { source, origin, report: Report::default(), partly: false, prefix: String::new() }
    }

    pub fn place(&self, span: Range<usize>) -> Place {
        Place::new(&self.source, span)
    }

    /// A mistake at a range of the text.
    pub fn at(&mut self, span: Range<usize>, message: impl FnOnce() -> String) {
        let source = &self.source;
        self.report.push(|| Diagnostic::at(Place::new(source, span), message()));
    }

    /// Something is missing: in the file, or in the table at `span`.
    pub fn missing(&mut self, span: Option<Range<usize>>, message: impl FnOnce() -> String) {
        if self.partly {
            return;
        }
        match span {
            Some(span) => self.at(span, message),
            None => {
                let file = &self.source.file;
                self.report.push(|| Diagnostic::file(file, message()));
            }
        }
    }

    fn header(&self, section: &str) -> String {
        match (self.prefix.as_str(), section) {
            ("", "") => "the file".to_owned(),
            (prefix, "") => format!("[{}]", prefix.trim_end_matches('.')),
            (prefix, section) => format!("[{prefix}{section}]"),
        }
    }

    fn wrong_type(&mut self, field: &str, expected: &str, value: &Spanned<DeValue<'_>>) {
        self.at(value.span(), || {
            let found = kind(value.get_ref());
            let hint = match value.get_ref() {
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) if expected.contains('"') => {
                    "; write it in quotes"
                }
                DeValue::String(_) if expected.starts_with("a list") => "; write it in brackets: [\"…\"]",
                DeValue::String(text) if matches!(text.as_ref(), "true" | "false") => {
                    "; write it without quotes"
                }
                DeValue::String(text) if expected.contains("number") && text.parse::<f64>().is_ok() => {
                    "; write it without quotes"
                }
                _ => "",
            };
            format!("{} is {found}, expected {expected}{hint}", shown(field))
        });
    }

    /// A string of this form.
    fn text(
        &mut self,
        name: &str,
        form: &Form,
        expected: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<String> {
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_type(name, expected, value);
            return None;
        };
        match (form.check)(text) {
            Ok(()) => Some(text.clone().into_owned()),
            Err(why) => {
                self.at(value.span(), || {
                    format!("{} in {} {why}; expected {}", quote(text), shown(name), form.expected)
                });
                None
            }
        }
    }

    fn texts(
        &mut self,
        name: &str,
        form: &Form,
        expected: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Vec<(String, Place)> {
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(name, expected, value);
            return Vec::new();
        };
        if items.len() > limits::LIST_ITEMS {
            self.at(value.span(), || {
                format!(
                    "{} has {} entries; at most {} are taken",
                    shown(name),
                    items.len(),
                    limits::LIST_ITEMS
                )
            });
            return Vec::new();
        }
        items
            .iter()
            .filter_map(|item| {
                let text = self.text(name, form, form.expected, item)?;
                Some((text, self.place(item.span())))
            })
            .collect()
    }
}

/// A field's name as it is, any other key in quotes.
fn shown(name: &str) -> String {
    let plain =
        !name.is_empty() && name.len() < 32 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if plain { name.to_owned() } else { quote(name) }
}

/// A TOML type in words.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The value of `[section] field`, wherever it stands.
pub(crate) fn section_value<'a, 'i>(
    table: &'a DeTable<'i>,
    section: &str,
    field: &str,
) -> Option<&'a Spanned<DeValue<'i>>> {
    match table.get(section)?.get_ref() {
        DeValue::Table(fields) => fields.get(field),
        _ => None,
    }
}

/// Walks a whole document, or `[units.NAME]`. `whole` is where to complain about what is missing altogether.
pub(crate) fn read_sections<T>(
    reader: &mut Reader,
    sections: &[Section<T>],
    later: &[&str],
    table: &DeTable<'_>,
    whole: Option<Range<usize>>,
    target: &mut T,
) {
    let top = sections.iter().find(|section| section.name.is_empty());
    let mut meant = Vec::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if let Some(section) = sections.iter().find(|section| section.name == name && !name.is_empty()) {
            read_section(reader, sections, section, key, value, target);
        } else if let Some(field) = top.and_then(|top| top.fields.iter().find(|field| field.name == name)) {
            read_field(reader, field, value, target);
        } else if later.contains(&name) {
            let header = reader.header(name);
            reader.at(key.span(), || {
                format!("{header} is not there yet in this version of Berth; take it out for now")
            });
        } else {
            meant.extend(unknown_section(reader, sections, key, value));
        }
    }
    for section in sections.iter().filter(|section| !meant.contains(&section.name)) {
        let found = if section.name.is_empty() { Some(table) } else { section_table(table, section.name) };
        let span = table.get_key_value(section.name).map(|(key, _)| key.span()).or_else(|| whole.clone());
        missing_fields(reader, section.name, section.fields, found, span);
    }
}

fn section_table<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<&'a DeTable<'i>> {
    match table.get(name)?.get_ref() {
        DeValue::Table(fields) => Some(fields),
        _ => None,
    }
}

fn missing_fields<T>(
    reader: &mut Reader,
    section: &str,
    fields: &[Field<T>],
    found: Option<&DeTable<'_>>,
    span: Option<Range<usize>>,
) {
    for field in fields.iter().filter(|field| field.required) {
        if found.is_some_and(|found| found.contains_key(field.name)) {
            continue;
        }
        let header = reader.header(section);
        reader.missing(span.clone(), || {
            format!("{header} needs {}, for example {} = {}", field.name, field.name, field.example)
        });
    }
}

fn read_section<T>(
    reader: &mut Reader,
    sections: &[Section<T>],
    section: &Section<T>,
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    target: &mut T,
) {
    if section.system && reader.origin != Origin::System {
        let header = reader.header(section.name);
        reader.at(key.span(), || format!("{header} is only for units of the OS image"));
        return;
    }
    let DeValue::Table(fields) = value.get_ref() else {
        reader.wrong_type(section.name, "a table", value);
        return;
    };
    let elsewhere = |name: &str| {
        sections
            .iter()
            .find(|other| other.fields.iter().any(|field| field.name == name))
            .map(|other| other.name)
    };
    read_fields(reader, section.name, section.fields, section.later, fields, elsewhere, target);
}

/// Reads one table's fields. `elsewhere` knows which section a field belongs to.
pub(crate) fn read_fields<T>(
    reader: &mut Reader,
    section: &str,
    fields: &[Field<T>],
    later: &[&str],
    table: &DeTable<'_>,
    elsewhere: impl Fn(&str) -> Option<&'static str>,
    target: &mut T,
) {
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if let Some(field) = fields.iter().find(|field| field.name == name) {
            read_field(reader, field, value, target);
            continue;
        }
        if reader.report.is_full() {
            reader.at(key.span(), String::new);
            continue;
        }
        let header = reader.header(section);
        if later.contains(&name) {
            reader.at(key.span(), || {
                format!(
                    "{} in {header} is not there yet in this version of Berth; take it out for now",
                    quote(name)
                )
            });
            continue;
        }
        let near = nearest(name, fields.iter().map(|field| field.name));
        let other = elsewhere(name).map(|other| reader.header(other));
        reader.at(key.span(), || {
            let hint = match (other, near) {
                (Some(other), _) => format!("; it belongs in {other}"),
                (None, Some(near)) => format!("; did you mean {}?", quote(near)),
                (None, None) => {
                    format!(
                        "; known are {}",
                        fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
                    )
                }
            };
            format!("unknown field {} in {header}{hint}", quote(name))
        });
    }
}

/// Complains about required fields that a table, which is no section of its own, does not have.
pub(crate) fn need_fields<T>(
    reader: &mut Reader,
    section: &str,
    fields: &[Field<T>],
    table: &DeTable<'_>,
    span: Range<usize>,
) {
    missing_fields(reader, section, fields, Some(table), Some(span));
}

fn read_field<T>(reader: &mut Reader, field: &Field<T>, value: &Spanned<DeValue<'_>>, target: &mut T) {
    let expected = field.set.expected();
    let (name, expected) = (field.name, expected.as_str());
    match (&field.set, value.get_ref()) {
        (Set::Bool(set), DeValue::Boolean(yes)) => set(target, *yes),
        (Set::Number(least, most, set), DeValue::Integer(number)) => {
            match u64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) if (*least..=*most).contains(&number) => set(target, number),
                _ => reader
                    .at(value.span(), || format!("{} is out of range, expected {expected}", shown(name))),
            }
        }
        (Set::Cpus(set), DeValue::Integer(_) | DeValue::Float(_)) => match milli(value.get_ref()) {
            Some(milli) => set(target, milli),
            None => {
                reader.at(value.span(), || format!("{} is out of range, expected {expected}", shown(name)))
            }
        },
        (Set::Choice(words, later, set), DeValue::String(word)) => {
            choose(reader, name, words, later, word, value.span(), |word| set(target, word));
        }
        (Set::Text(form, set), _) => {
            if let Some(text) = reader.text(name, form, expected, value) {
                set(target, text);
            }
        }
        (Set::TextOrTexts(form, set), DeValue::String(_)) => {
            if let Some(text) = reader.text(name, form, expected, value) {
                let place = reader.place(value.span());
                set(target, vec![(text, place)]);
            }
        }
        (Set::Texts(form, set) | Set::TextOrTexts(form, set), _) => {
            let texts = reader.texts(name, form, expected, value);
            set(target, texts);
        }
        (Set::Pairs(key_form, value_form, set), DeValue::Table(pairs)) => {
            let pairs = read_pairs(reader, name, key_form, value_form, pairs);
            set(target, pairs);
        }
        (Set::Table(fields), DeValue::Table(table)) => {
            if table.is_empty() {
                reader.at(value.span(), || format!("{} is empty, expected {expected}", shown(name)));
            }
            read_fields(reader, name, fields, &[], table, |_| None, target);
            missing_fields(reader, name, fields, Some(table), Some(value.span()));
        }
        (Set::Tables(_, read), DeValue::Array(_) | DeValue::Table(_)) => read(reader, target, value),
        _ => reader.wrong_type(name, expected, value),
    }
}

fn read_pairs(
    reader: &mut Reader,
    name: &str,
    key_form: &Form,
    value_form: &Form,
    pairs: &DeTable<'_>,
) -> BTreeMap<String, String> {
    let mut read = BTreeMap::new();
    for (key, value) in pairs {
        if let Err(why) = (key_form.check)(key.get_ref()) {
            reader.at(key.span(), || {
                format!("{} in {} {why}; expected {}", quote(key.get_ref()), shown(name), key_form.expected)
            });
        }
        if let Some(value) = reader.text(key.get_ref(), value_form, value_form.expected, value) {
            read.insert(key.get_ref().clone().into_owned(), value);
        }
    }
    read
}

fn choose(
    reader: &mut Reader,
    name: &str,
    words: &[&'static str],
    later: &[&str],
    word: &str,
    span: Range<usize>,
    set: impl FnOnce(&str),
) {
    if let Some(word) = words.iter().find(|known| **known == word) {
        return set(word);
    }
    let is_later =
        later.iter().any(|later| word == *later || (later.ends_with(':') && word.starts_with(later)));
    reader.at(span, || {
        let known = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        if is_later {
            return format!(
                "{name} = {} is not there yet in this version of Berth; there is {known}",
                quote(word)
            );
        }
        let hint = nearest(word, words.iter().copied())
            .map_or_else(String::new, |near| format!("; did you mean {}?", quote(near)));
        format!("{} is {}, expected {known}{hint}", shown(name), quote(word))
    });
}

/// Thousandths of a CPU, from 10 to 1,024,000.
fn milli(value: &DeValue<'_>) -> Option<u32> {
    let number: f64 = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok()?,
        DeValue::Float(number) => number.as_str().parse().ok()?,
        _ => return None,
    };
    if !(0.01..=1024.0).contains(&number) {
        return None;
    }
    // In range by the line above, so the cast neither cuts nor changes the sign.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, checked above")]
    Some((number * 1000.0).round() as u32)
}

/// Complains; tells which name was probably meant.
fn unknown_section<T>(
    reader: &mut Reader,
    sections: &[Section<T>],
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
) -> Option<&'static str> {
    if reader.report.is_full() {
        reader.at(key.span(), String::new);
        return None;
    }
    let name = key.get_ref().as_ref();
    let visible = sections.iter().filter(|section| !section.system || reader.origin == Origin::System);
    let top = visible.clone().filter(|section| section.name.is_empty()).flat_map(|section| section.fields);
    let known: Vec<&'static str> = visible
        .clone()
        .map(|section| section.name)
        .filter(|name| !name.is_empty())
        .chain(top.map(|field| field.name))
        .collect();
    let belongs = visible
        .clone()
        .find(|section| section.fields.iter().any(|field| field.name == name))
        .map(|section| reader.header(section.name));
    let what = if matches!(value.get_ref(), DeValue::Table(_)) { "table" } else { "field" };
    let meant = nearest(name, known.iter().copied());
    reader.at(key.span(), || {
        let hint = match (belongs, meant) {
            (Some(belongs), _) => format!("; it belongs in {belongs}"),
            (None, Some(near)) => format!("; did you mean {}?", quote(near)),
            (None, None) => format!("; known are {}", known.join(", ")),
        };
        format!("unknown {what} {}{hint}", quote(name))
    });
    meant
}
