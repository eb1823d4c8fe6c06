//! A machine config's text with a few of its units replaced, or with its secrets left out; all else of it, comments too,
//! stays as its author wrote it. The text goes on to be checked as a whole: nothing here decides what is valid.

use crate::diag::Source;
use crate::limits;
use crate::model::Origin;
use crate::schema::{self, text};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, ParseError, Source as Toml};

/// What stands in the place of a secret.
pub const MARK: &str = "\"(not shown)\"";
/// Tables in tables; more than any config has.
const DEPTH: u32 = 80;

/// What is to become of a config's units.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// Unit files by their units' names: they take the place of the units so called, or come to the others.
    #[serde(default)]
    pub units: BTreeMap<String, String>,
    /// Units that go.
    #[serde(default)]
    pub remove: BTreeSet<String>,
    /// What `unit.enabled` is to be of units that stay as they are else.
    #[serde(default)]
    pub enable: BTreeMap<String, bool>,
}

impl Edit {
    /// From JSON.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json)
            .map_err(|error| format!("the units did not arrive as they should: {error}"))
    }

    /// The config with these changes. Each unit file is checked by itself first, so that a mistake is told with its place in
    /// the file that its author knows; a unit to be removed has to be there.
    pub fn apply(&self, config: &[u8]) -> Result<String, String> {
        for (name, file) in &self.units {
            let file_name = format!("{name}.toml");
            schema::parse_unit(&file_name, name, file.as_bytes(), Origin::Config)
                .map_err(|report| report.to_string())?;
        }
        let source = text::source("berth.toml", config).map_err(|report| report.to_string())?;
        let outline = Outline::of(&source)?;
        if outline
            .pieces
            .iter()
            .any(|piece| !piece.header && piece.path.len() == 1 && piece.path[0] == "units")
        {
            return Err(
                "the config in force has all its units in one line, units = { … }: change it as a whole, by \
                        \"berth config apply\""
                    .to_owned(),
            );
        }
        let mut cuts: Vec<(Range<usize>, String)> = Vec::new();
        let mut end = String::new();
        let units = self.units.iter().map(|(name, file)| (name, Some(file)));
        for (name, file) in units.chain(self.remove.iter().map(|name| (name, None))) {
            let ranges = outline.unit(name);
            let mut new = match file {
                Some(file) => as_tables(name, file)?,
                None if ranges.is_empty() => {
                    return Err(format!("the config in force has no unit \"{name}\""));
                }
                None => String::new(),
            };
            for (range, header) in ranges {
                cuts.push((range, if header { std::mem::take(&mut new) } else { String::new() }));
            }
            end.push_str(&new);
        }
        for (name, enabled) in &self.enable {
            match outline.enabled(name)? {
                Place::Value(range) => cuts.push((range, enabled.to_string())),
                Place::Below(at) => {
                    let line = if source.text[..at].ends_with('\n') { "" } else { "\n" };
                    cuts.push((at..at, format!("{line}enabled = {enabled}\n")));
                }
                Place::Nowhere => end.push_str(&format!("[units.{name}.unit]\nenabled = {enabled}\n")),
            }
        }
        cuts.sort_by_key(|(range, _)| range.start);
        let mut out = splice(&source.text, &cuts);
        if !end.is_empty() {
            if !out.is_empty() {
                out.push_str(if out.ends_with('\n') { "\n" } else { "\n\n" });
            }
            out.push_str(&end);
        }
        if out.len() > limits::CONFIG_BYTES {
            return Err(format!(
                "with these units the config has {} bytes, more than {}",
                out.len(),
                limits::CONFIG_BYTES
            ));
        }
        Ok(out)
    }
}

/// The config with a mark in the place of each secret. Comments in tables that hold secrets are left out, and so are those that
/// were values: who comments a password out still has it there.
pub fn without_secrets(config: &[u8]) -> Result<String, String> {
    let source = text::source("berth.toml", config).map_err(|report| report.to_string())?;
    let outline = Outline::of(&source)?;
    let mut cuts: Vec<(Range<usize>, String)> = Vec::new();
    for (path, span) in &outline.scalars {
        let value = source.text.get(span.clone()).unwrap_or_default();
        if is_secret(path, value) {
            cuts.push((span.clone(), MARK.to_owned()));
        }
    }
    for (path, span) in &outline.comments {
        let table = path.first().map(String::as_str);
        let secret = matches!(table, Some("secrets" | "registries" | "proxy" | super::docker::FIELD));
        // A line that was a value once: nobody knows of which table.
        let text = source.text.get(span.clone()).unwrap_or_default();
        if secret || (text.contains('=') && text.contains(['"', '\''])) {
            cuts.push((span.clone(), String::new()));
        }
    }
    cuts.sort_by_key(|(range, _)| range.start);
    Ok(splice(&source.text, &cuts))
}

/// May nobody see it?
fn is_secret(path: &[String], value: &str) -> bool {
    match path.first().map(String::as_str) {
        Some("secrets") => true,
        Some(super::docker::FIELD) => true,
        Some("registries") => path.last().is_some_and(|last| !matches!(last.as_str(), "plain_http" | "ca")),
        // http://user:password@proxy
        Some("proxy") => value.contains('@'),
        _ => false,
    }
}

/// A unit file as tables of a config. What stands before its first line and behind its last (comments) is left out: it would
/// be there once more with each time.
fn as_tables(name: &str, file: &str) -> Result<String, String> {
    let source =
        text::source(&format!("{name}.toml"), file.as_bytes()).map_err(|report| report.to_string())?;
    let outline = Outline::of(&source)?;
    let mut cuts: Vec<(Range<usize>, String)> = Vec::new();
    match outline.pieces.first() {
        Some(first) if first.header => {}
        // Fields before the first table belong to the unit itself.
        Some(first) => cuts.push((first.range.start..first.range.start, format!("[units.{name}]\n"))),
        None => cuts.push((0..0, format!("[units.{name}]\n"))),
    }
    for at in &outline.names {
        cuts.push((*at..*at, format!("units.{name}.")));
    }
    if let (Some(first), Some(last)) = (outline.pieces.first(), outline.pieces.last()) {
        cuts.insert(0, (0..first.range.start, String::new()));
        cuts.push((last.range.end..source.text.len(), String::new()));
    }
    let mut text = splice(&source.text, &cuts);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// A text with ranges replaced; they are in order, and of two that overlap the second only goes.
fn splice(text: &str, cuts: &[(Range<usize>, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (range, with) in cuts {
        out.push_str(text.get(at..range.start.max(at)).unwrap_or_default());
        out.push_str(with);
        at = range.end.max(at);
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// Where a field stands.
enum Place {
    /// Its value.
    Value(Range<usize>),
    /// Its table has a header, which ends here.
    Below(usize),
    /// Neither it nor its table is there.
    Nowhere,
}

/// Where things stand in a text.
#[derive(Debug, Default)]
struct Outline {
    /// Headers and fields outside of inline tables, in order.
    pieces: Vec<Piece>,
    /// Behind the bracket of each header.
    names: Vec<usize>,
    /// Every value that is no table or list.
    scalars: Vec<(Vec<String>, Range<usize>)>,
    /// Comments, with the table in which they stand.
    comments: Vec<(Vec<String>, Range<usize>)>,
}

/// A header, or a field with its value: whole lines.
#[derive(Debug)]
struct Piece {
    path: Vec<String>,
    header: bool,
    range: Range<usize>,
}

impl Outline {
    fn of(source: &Source) -> Result<Self, String> {
        let toml = Toml::new(&source.text);
        let tokens = toml.lex().into_vec();
        let mut events: Vec<Event> = Vec::new();
        let mut trouble = Trouble::default();
        {
            let mut checked = ValidateWhitespace::new(&mut events, toml);
            let mut bounded = RecursionGuard::new(&mut checked, DEPTH);
            parse_document(&tokens, &mut bounded, &mut trouble);
        }
        if trouble.0 {
            return Err(format!("{}: not valid TOML", source.file));
        }
        let mut reader = Reader::new(toml);
        for event in &events {
            reader.take(event);
        }
        reader.end_line(source.text.len());
        Ok(reader.outline)
    }

    /// Where a unit's `enabled` stands, or would.
    fn enabled(&self, name: &str) -> Result<Place, String> {
        let table = ["units", name, "unit"];
        let field = ["units", name, "unit", "enabled"];
        if let Some((_, range)) = self.scalars.iter().find(|(path, _)| path == &field) {
            return Ok(Place::Value(range.clone()));
        }
        if let Some(header) = self.pieces.iter().find(|piece| piece.header && piece.path == table) {
            return Ok(Place::Below(header.range.end));
        }
        if self.unit(name).is_empty() {
            return Err(format!("the config in force has no unit \"{name}\""));
        }
        if self.scalars.iter().any(|(path, _)| path.starts_with(&table.map(str::to_owned))) {
            return Err(format!(
                "the config in force says what units.{name}.unit is in a line of its own: write enabled = … there, and \
                 \"berth config apply\" it"
            ));
        }
        Ok(Place::Nowhere)
    }

    /// All that says something about a unit. What stands between its tables goes with them.
    fn unit(&self, name: &str) -> Vec<(Range<usize>, bool)> {
        let is_its =
            |piece: &Piece| piece.path.len() > 1 && piece.path[0] == "units" && piece.path[1] == name;
        let mut ranges: Vec<(Range<usize>, bool)> = Vec::new();
        let mut last = false;
        for piece in &self.pieces {
            let its = is_its(piece);
            match ranges.last_mut() {
                Some((range, _)) if its && last => range.end = piece.range.end,
                _ if its => ranges.push((piece.range.clone(), piece.header)),
                _ => {}
            }
            last = its;
        }
        ranges
    }
}

struct Reader<'a> {
    toml: Toml<'a>,
    outline: Outline,
    /// The table of the last header, then those of inline tables around.
    tables: Vec<Vec<String>>,
    /// Names read so far of a header or field.
    key: Vec<String>,
    /// The field whose value comes.
    field: Vec<String>,
    in_header: bool,
    /// Lists and inline tables that are open.
    depth: u32,
    /// A piece that goes on to the end of its line.
    open: Option<(Vec<String>, bool, usize)>,
}

impl<'a> Reader<'a> {
    fn new(toml: Toml<'a>) -> Self {
        Self {
            toml,
            outline: Outline::default(),
            tables: Vec::new(),
            key: Vec::new(),
            field: Vec::new(),
            in_header: false,
            depth: 0,
            open: None,
        }
    }

    fn take(&mut self, event: &Event) {
        let span = event.span();
        match event.kind() {
            EventKind::StdTableOpen | EventKind::ArrayTableOpen => {
                self.in_header = true;
                self.key.clear();
                self.outline.names.push(span.end());
            }
            EventKind::StdTableClose | EventKind::ArrayTableClose => {
                self.in_header = false;
                let path = std::mem::take(&mut self.key);
                self.tables = vec![path.clone()];
                self.open = Some((path, true, self.line_start(span.start())));
            }
            EventKind::SimpleKey => {
                if !self.in_header && self.key.is_empty() && self.depth == 0 && self.open.is_none() {
                    self.open = Some((Vec::new(), false, self.line_start(span.start())));
                }
                let mut name = String::new();
                let raw = self.toml.get(event);
                if let Some(raw) = raw {
                    let mut decoded = std::borrow::Cow::Borrowed("");
                    raw.decode_key(&mut decoded, &mut ());
                    name = decoded.into_owned();
                }
                self.key.push(name);
            }
            EventKind::KeyValSep => {
                let mut path = self.tables.last().cloned().unwrap_or_default();
                path.append(&mut self.key);
                if self.depth == 0
                    && let Some((of, false, _)) = &mut self.open
                {
                    *of = path.clone();
                }
                self.field = path;
            }
            EventKind::InlineTableOpen => {
                self.depth += 1;
                self.tables.push(self.field.clone());
                self.key.clear();
            }
            EventKind::InlineTableClose => {
                self.depth = self.depth.saturating_sub(1);
                self.field = self.tables.pop().unwrap_or_default();
            }
            EventKind::ArrayOpen => self.depth += 1,
            EventKind::ArrayClose => self.depth = self.depth.saturating_sub(1),
            EventKind::Scalar => {
                self.outline.scalars.push((self.field.clone(), span.start()..span.end()));
            }
            EventKind::Comment => {
                let table =
                    if self.depth > 0 { &self.field } else { self.tables.last().unwrap_or(&self.field) };
                self.outline.comments.push((table.clone(), span.start()..span.end()));
            }
            EventKind::Newline if self.depth == 0 => self.end_line(span.end()),
            _ => {}
        }
    }

    fn end_line(&mut self, end: usize) {
        if let Some((path, header, start)) = self.open.take() {
            self.outline.pieces.push(Piece { path, header, range: start..end });
        }
    }

    fn line_start(&self, at: usize) -> usize {
        let text = self.toml.input().as_bytes();
        text.get(..at).and_then(|t| t.iter().rposition(|b| *b == b'\n')).map_or(0, |n| n + 1)
    }
}

/// Whether there was an error.
#[derive(Default)]
struct Trouble(bool);

impl ErrorSink for Trouble {
    fn report_error(&mut self, _: ParseError) {
        self.0 = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const CONFIG: &str = "\
format = 1
hostname = \"node\" # its name

# The web server.
[units.web.container]
image = \"web:1\" # the first
args = [
  \"-p\", # its port
  \"[units.db.container]\",
]
# of web
[units.web.resources]
memory = \"64M\"

# The database.
[units.db.container]
image = \"db:1\"
";

    fn edit(units: &[(&str, &str)], remove: &[&str]) -> Edit {
        Edit {
            units: units.iter().map(|(name, file)| ((*name).to_owned(), (*file).to_owned())).collect(),
            remove: remove.iter().map(|name| (*name).to_owned()).collect(),
            ..Edit::default()
        }
    }

    fn units(text: &str) -> Vec<(String, String)> {
        let config = config::parse("berth.toml", text.as_bytes()).unwrap();
        config.units.into_iter().map(|unit| (unit.name, unit.container.image)).collect()
    }

    #[test]
    fn a_unit_is_enabled_and_disabled_where_that_stands() {
        let put = |config: &str, enabled| {
            let enable = [("web".to_owned(), enabled)].into();
            Edit { enable, ..Edit::default() }.apply(config.as_bytes())
        };
        let is = |text: &str| config::parse("berth.toml", text.as_bytes()).unwrap().units[1].enabled;
        let off = put(CONFIG, false).unwrap();
        assert!(off.starts_with(CONFIG) && !is(&off), "{off}");
        let on = put(&off, true).unwrap();
        assert_eq!(on, off.replace("enabled = false", "enabled = true"));
        assert!(is(&on));
        let table = format!("{CONFIG}[units.web.unit] # of web\ndescription = \"x\"\n");
        let off = put(&table, false).unwrap();
        assert!(off.ends_with("# of web\nenabled = false\ndescription = \"x\"\n") && !is(&off), "{off}");
        let off = put(&format!("{CONFIG}[units.web.unit]"), false).unwrap();
        assert!(off.ends_with("[units.web.unit]\nenabled = false\n") && !is(&off), "{off}");
        let line = format!("{CONFIG}[units.web]\nunit = {{ description = \"x\" }}\n");
        assert!(put(&line, false).unwrap_err().contains("in a line of its own"));
        let enable = [("wob".to_owned(), false)].into();
        let why = Edit { enable, ..Edit::default() }.apply(CONFIG.as_bytes()).unwrap_err();
        assert!(why.contains("no unit \"wob\""), "{why}");
    }

    #[test]
    fn a_unit_is_replaced_where_it_stands_and_nothing_else() {
        let files = edit(&[("web", "#:schema x\n\n[container] # new\nimage = \"web:2\"\n# the end")], &[]);
        let new = files.apply(CONFIG.as_bytes()).unwrap();
        assert_eq!(
            new,
            "format = 1\nhostname = \"node\" # its name\n\n# The web server.\n[units.web.container] # new\nimage = \
             \"web:2\"\n\n# The database.\n[units.db.container]\nimage = \"db:1\"\n"
        );
        assert_eq!(files.apply(new.as_bytes()).unwrap(), new);
    }

    #[test]
    fn a_new_unit_comes_last_and_one_that_goes_leaves_the_others() {
        let file = "container.image = \"new:1\"\n[resources]\nmemory = \"8M\"\n";
        let new = edit(&[("new", file)], &["web"]).apply(CONFIG.as_bytes()).unwrap();
        assert_eq!(units(&new), [("db".into(), "db:1".into()), ("new".into(), "new:1".into())]);
        assert!(new.ends_with(
            "\n[units.new]\ncontainer.image = \"new:1\"\n[units.new.resources]\nmemory = \"8M\"\n"
        ));
        let why = edit(&[], &["absent"]).apply(CONFIG.as_bytes()).unwrap_err();
        assert_eq!(why, "the config in force has no unit \"absent\"");
        assert_eq!(edit(&[("a", file)], &[]).apply(b"format = 1").unwrap().lines().nth(2), Some("[units.a]"));
    }

    #[test]
    fn units_may_be_written_in_any_way() {
        let file = "[container]\nimage = \"new:1\"";
        for text in [
            "format = 1\nunits.web.container.image = \"web:1\"\nunits.web.container.args = [\n\"x\",\n]\nhostname = \"n\"\n",
            "format = 1\n[units]\nweb = { container = { image = \"web:1\" } }\ndb.container.image = \"db:1\"\n",
            "format = 1\n[ units . \"web\" . container ]\nimage = '''web:1'''\n[units.db]\ncontainer.image = \"db:1\"\n[units.web.resources]\npids = 9\n",
        ] {
            let new = edit(&[("web", file)], &[]).apply(text.as_bytes()).unwrap();
            let before = units(text).len();
            let after = units(&new);
            assert_eq!(after.len(), before, "{new}");
            assert!(after.contains(&("web".into(), "new:1".into())), "{new}");
            let gone = edit(&[], &["web"]).apply(text.as_bytes()).unwrap();
            assert!(!gone.contains("web"), "{gone}");
        }
        let why = edit(&[("web", file)], &[]).apply(b"format = 1\nunits = {}\n").unwrap_err();
        assert!(why.contains("berth config apply"), "{why}");
    }

    #[test]
    fn a_mistake_is_told_with_its_place_in_the_unit_file() {
        let why = edit(&[("web", "[container]\nimge = \"x\"")], &[]).apply(CONFIG.as_bytes()).unwrap_err();
        assert!(why.contains("web.toml:2:1") && why.contains("did you mean \"image\""), "{why}");
        let why = edit(&[("Web", "[container]\nimage = \"x\"")], &[]).apply(CONFIG.as_bytes()).unwrap_err();
        assert!(why.contains("unit name"), "{why}");
        assert!(Edit::parse(b"{\"unit\": 1}").is_err());
    }

    #[test]
    fn no_secret_is_shown() {
        let text = "\
format = 1
docker_config = '''{ \"auths\": { \"r.lan\": { \"auth\": \"geheim:1\" } } }'''
registries = { \"a.lan\" = { auth = \"geheim:2\", plain_http = true } }
[secrets] # was geheim:3
# old = \"geheim:4\"
db = \"\"\"geheim:5
geheim:6\"\"\"
list = 'geheim:7'
[files]
note = \"shown\"
[proxy]
http = \"http://me:geheim:8@proxy.lan\"
https = \"http://proxy.lan\"
no_proxy = [\".lan\"]
[units.web.container]
image = \"web:1\" # shown, too
";
        let shown = without_secrets(text.as_bytes()).unwrap();
        assert!(!shown.contains("geheim"), "{shown}");
        for part in [
            "note = \"shown\"",
            "# shown, too",
            "plain_http = true",
            "https = \"http://proxy.lan\"",
            "[\".lan\"]",
        ] {
            assert!(shown.contains(part), "no {part:?} in {shown}");
        }
        assert_eq!(shown.matches("(not shown)").count(), 5);
        let more = "format = 1\n[registries.\"b.lan\"]\nidentitytoken = \"geheim\"\nca = \"shown\"\nfuture = \"geheim\"\n\
                    [units.web.secrets]\ndb = \"db\"\n";
        let shown = without_secrets(more.as_bytes()).unwrap();
        assert!(
            !shown.contains("geheim") && shown.contains("ca = \"shown\"") && shown.contains("db = \"db\""),
            "{shown}"
        );
        // Lines that were values once, wherever they stand.
        let old = "format = 1\n# plain words stay\n# [secrets]\n# db = \"geheim\"\n[access]\nkeys = []\n";
        let shown = without_secrets(old.as_bytes()).unwrap();
        assert!(!shown.contains("geheim") && shown.contains("plain words stay"), "{shown}");
        assert!(without_secrets(b"[secrets\ndb = \"geheim\"").is_err());
    }
}
