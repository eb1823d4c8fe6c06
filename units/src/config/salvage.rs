//! What is used of a config that was refused: what makes the machine reachable, where it is beyond doubt what that is.
//!
//! Without its keys nobody could ask what is wrong with it, and without its network nobody would get there. Taken are the host's
//! name, whole usable entries of `[access] keys`, `[network]`, and `[instance]`, and only if
//! 1. the text is TOML from its beginning to its first mistake of syntax, if it has one. What comes after such a
//!    mistake may not be what it looks like, and is not looked at; a network that comes right before it may not be complete;
//! 2. it says `format = 1`, so that it is known what the rest means;
//! 3. `[access]` holds `keys` and nothing else: another field could take away some of what a key may do;
//! 4. none of them is there twice.
//!
//! Of a network with mistakes, the entries (an interface, the name servers) that pass the check by themselves are taken.

use super::FORMAT;
use super::instance::string;
use crate::limits;
use crate::schema::text;
use crate::schema::values::{ACCESS_KEY, HOSTNAME};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is used of a config that did not pass, as a config that does; empty if there is nothing.
pub fn salvage(bytes: &[u8]) -> String {
    let Ok(source) = text::source("", bytes) else { return String::new() };
    let text = source.text.as_str();
    match DeTable::parse(text) {
        Ok(table) => take(table.get_ref(), "", false),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let sound = text.get(..at).and_then(|before| text.get(..before.rfind('\n')? + 1));
            // Of two, nobody knows which was meant.
            let twice = error.message().starts_with("duplicate key");
            let name = error.span().and_then(|span| text.get(span)).unwrap_or_default();
            let name = if twice { name.trim_matches(['"', '\'']) } else { "" };
            match sound.filter(|_| name != "format").map(DeTable::parse) {
                Some(Ok(table)) => take(table.get_ref(), name, true),
                _ => String::new(),
            }
        }
    }
}

/// `twice`: a name that is there twice. `cut`: there was more.
fn take(table: &DeTable<'_>, twice: &str, cut: bool) -> String {
    let format = table.get("format").map(|value| value.get_ref());
    let known = matches!(format, Some(DeValue::Integer(n))
        if u64::from_str_radix(n.as_str(), n.radix()) == Ok(FORMAT));
    let get = |name: &str| table.get(name).map(Spanned::get_ref).filter(|_| known && name != twice);
    let head = format!("format = {FORMAT}\n");
    let mut taken = head.clone();
    if let Some(DeValue::String(name)) = get("hostname")
        && (HOSTNAME.check)(name).is_ok()
    {
        taken.push_str(&format!("hostname = {}\n", string(name)));
    }
    let keys = get("access").filter(|_| twice != "keys").map(keys).unwrap_or_default();
    if !keys.is_empty() {
        taken.push_str(&format!("access = {{ keys = [{}] }}\n", keys.join(", ")));
    }
    if let Some(network) = get("network").filter(|_| !(cut && is_last(table, "network"))) {
        taken.push_str(&self::network(network));
    }
    if let Some(instance) = get("instance").filter(|_| !(cut && is_last(table, "instance"))) {
        let line = format!("instance = {}\n", inline(instance));
        taken.push_str(if passes(&format!("{head}{line}")) { &line } else { "" });
    }
    if taken == head || !passes(&taken) { String::new() } else { taken }
}

fn passes(text: &str) -> bool {
    super::parse("", text.as_bytes()).is_ok()
}

/// Nothing else of the text stands behind the last byte of this table.
fn is_last(table: &DeTable<'_>, name: &str) -> bool {
    let end = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| key.span().end.max(end(value));
    let of = |this: bool| table.iter().filter(|(key, _)| (key.get_ref() == name) == this).map(end).max();
    of(true) >= of(false)
}

fn end(value: &Spanned<DeValue<'_>>) -> usize {
    let inner = match value.get_ref() {
        DeValue::Table(table) => table.iter().map(|(key, value)| key.span().end.max(end(value))).max(),
        DeValue::Array(list) => list.iter().map(end).max(),
        _ => None,
    };
    value.span().end.max(inner.unwrap_or(0))
}

fn keys(access: &DeValue<'_>) -> Vec<String> {
    let DeValue::Table(access) = access else { return Vec::new() };
    let Some(DeValue::Array(keys)) = access.get("keys").map(|value| value.get_ref()) else {
        return Vec::new();
    };
    if keys.len() > limits::LIST_ITEMS || access.len() != 1 {
        return Vec::new();
    }
    let usable = keys.iter().filter_map(|key| match key.get_ref() {
        DeValue::String(key) if (ACCESS_KEY.check)(key).is_ok() => Some(string(key)),
        _ => None,
    });
    usable.collect()
}

/// The network as a whole, or as many of its entries as pass, in the order of the text.
fn network(network: &DeValue<'_>) -> String {
    let DeValue::Table(fields) = network else { return String::new() };
    let of = |entries: &[(String, Vec<String>, bool)]| {
        let field = |(name, values, list): &(String, Vec<String>, bool)| {
            let values = values.join(", ");
            if *list { format!("{name} = [{values}]") } else { format!("{name} = {values}") }
        };
        let fields: Vec<String> = entries.iter().map(field).collect();
        format!("network = {{ {} }}\n", fields.join(", "))
    };
    let ok = |entries: &[_]| passes(&format!("format = {FORMAT}\n{}", of(entries)));
    let is_list = |value: &DeValue<'_>| {
        let is_table = |entry: &Spanned<DeValue<'_>>| matches!(entry.get_ref(), DeValue::Table(_));
        matches!(value, DeValue::Array(list) if list.iter().all(is_table))
    };
    let whole: Vec<(String, Vec<String>, bool)> = fields
        .iter()
        .map(|(name, value)| (key(name.get_ref()), vec![inline(value.get_ref())], false))
        .collect();
    if ok(&whole) {
        return of(&whole);
    }
    let mut taken: Vec<(String, Vec<String>, bool)> = Vec::new();
    for (name, value) in fields {
        let name = key(name.get_ref());
        let values: Vec<String> = match value.get_ref() {
            DeValue::Array(list) if is_list(value.get_ref()) => {
                list.iter().take(ENTRIES).map(|entry| inline(entry.get_ref())).collect()
            }
            other => vec![inline(other)],
        };
        let list = is_list(value.get_ref());
        for value in values {
            let mut more = taken.clone();
            match more.iter_mut().find(|(other, ..)| *other == name) {
                Some((_, values, _)) => values.push(value),
                None => more.push((name.clone(), vec![value], list)),
            }
            if ok(&more) {
                taken = more;
            }
        }
    }
    if taken.is_empty() { String::new() } else { of(&taken) }
}

/// Entries of a network with mistakes that are tried one by one.
const ENTRIES: usize = 64;
/// Values in values; no config has more.
const DEPTH: usize = 16;

fn key(name: &str) -> String {
    string(name)
}

/// A value as TOML writes it in one line.
fn inline(value: &DeValue<'_>) -> String {
    written(value, DEPTH)
}

fn written(value: &DeValue<'_>, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "0".into() };
    match value {
        DeValue::String(text) => string(text),
        // Other bases than ten do not come back from here.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| "0".into(), |number| number.to_string()),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) => {
            let list: Vec<String> = list.iter().map(|value| written(value.get_ref(), depth)).collect();
            format!("[{}]", list.join(", "))
        }
        DeValue::Table(table) => {
            let fields: Vec<String> = table
                .iter()
                .map(|(name, value)| format!("{} = {}", key(name.get_ref()), written(value.get_ref(), depth)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use proptest::prelude::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC one";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICoSPr3kwfnEQbZvbmqLt/K2VlzByCVC8hrAXDEraZHE two";

    fn salvaged(text: &str) -> config::MachineConfig {
        let taken = salvage(text.as_bytes());
        if taken.is_empty() {
            return config::MachineConfig::default();
        }
        config::parse("salvage", taken.as_bytes()).unwrap_or_else(|report| panic!("{taken}: {report}"))
    }

    fn keys_of(text: &str) -> Vec<String> {
        salvaged(text).access_keys
    }

    fn taken(text: &str) -> usize {
        assert!(config::parse("berth.toml", text.as_bytes()).is_err(), "it passes: {text}");
        keys_of(text).len()
    }

    fn head() -> String {
        format!("format = 1\n[access]\nkeys = [\"{ONE}\", \"{TWO}\"]\n")
    }

    #[test]
    fn a_mistake_elsewhere_leaves_the_keys() {
        assert_eq!(keys_of(&head()), [ONE, TWO]);
        assert_eq!(keys_of(&head().replace("= 1", "= 0x01")), [ONE, TWO]);
        assert_eq!(keys_of(&head().replace("= 1", "= +1")), [ONE, TWO]);
        assert_eq!(taken(&format!("{}[units.web.container]\nimgae = \"x\"\n", head())), 2);
        assert_eq!(taken(&format!("hostname = 7\n{}", head())), 2);
        assert_eq!(taken(&head().replace("two\"", "two\", \"ssh-rsa AAAA three\"")), 2);
        assert_eq!(taken(&head().replace(TWO, "ssh-ed25519 AAAAC3Nza")), 1);
    }

    #[test]
    fn what_precedes_a_mistake_of_syntax_counts() {
        assert_eq!(taken(&format!("{}[units.web\nimage = 1\n", head())), 2);
        assert_eq!(taken(&format!("{}[units.web.container]\nimage = \"x\nargs = []\n", head())), 2);
        assert_eq!(taken(&format!("hostname = \"node\n{}", head())), 0);
        assert_eq!(taken(&head().replace("two\"]", "two\"")), 0);
        assert_eq!(taken(&head().replace("one\",", "one\"")), 0);
        assert_eq!(taken(&format!("format = 1\n[units.web]\na = \"\"\"\n{}", head())), 0);
        let late = head().replace("format = 1\n", "");
        assert_eq!(taken(&format!("format = 1\nx = [\n[units]\n{late}")), 0);
    }

    #[test]
    fn doubt_takes_none() {
        assert_eq!(taken(&head().replace("= 1", "= 2")), 0);
        assert_eq!(taken(&head().replace("format = 1\n", "")), 0);
        assert_eq!(taken(&format!("{}roles = {{}}\n", head())), 0);
        assert_eq!(taken(&format!("{}keys = []\n", head())), 0);
        assert_eq!(taken(&format!("{}[access]\nkeys = []\n", head())), 0);
        assert_eq!(taken(&format!("{}# \0\n", head())), 0);
        assert_eq!(taken(&head().replace("[access]", "[acess]")), 0);
        assert_eq!(taken(&head().replace("keys", "key")), 0);
        // Something else is there twice: what comes first is beyond doubt.
        assert_eq!(taken(&format!("{}[units.web]\n[units.web]\n", head())), 2);
    }

    const STATIC: &str =
        "[[network.interface]]\nmatch = \"eth0\"\naddress = \"192.0.2.5/24\"\ngateway = \"192.0.2.1\"\n";

    fn addresses(text: &str) -> Vec<String> {
        assert!(config::parse("berth.toml", text.as_bytes()).is_err(), "it passes: {text}");
        salvaged(text).network.interfaces.into_iter().flat_map(|interface| interface.addresses).collect()
    }

    #[test]
    fn a_mistake_costs_no_network_and_no_name() {
        let bad = "[units.web.container]\nimgae = \"x\"\n";
        let text =
            format!("format = 1\nhostname = \"node1\"\n[network]\ndns = \"192.0.2.53\"\n{STATIC}{bad}");
        let found = salvaged(&text);
        assert_eq!((found.hostname.as_deref(), found.network.dns.len()), (Some("node1"), 1));
        assert_eq!(addresses(&text), ["192.0.2.5/24"]);
        // Of a network with a mistake, what passes.
        let wrong = STATIC.replace("eth0", "eth1").replace("192.0.2.1\"", "198.51.100.1\"");
        assert_eq!(addresses(&format!("format = 1\n{wrong}{STATIC}")), ["192.0.2.5/24"]);
        assert_eq!(addresses(&format!("format = 1\n[network]\nfoo = 1\n{STATIC}")), ["192.0.2.5/24"]);
        // What a mistake of syntax may have cut in two is not taken, what precedes it is.
        assert_eq!(addresses(&format!("format = 1\n{STATIC}mtu = = 2\n")).len(), 0);
        assert_eq!(addresses(&format!("format = 1\n{STATIC}[units.web]\na = 1\nb = = 2\n")).len(), 1);
        assert_eq!(addresses(&format!("format = 2\n{STATIC}")).len(), 0);
    }

    #[test]
    fn what_the_metadata_said_is_taken() {
        let text = format!(
            "format = 1\nhostname = 7\n[instance]\nsource = \"ec2\"\nid = \"i-1\"\nkeys = [\"{ONE}\"]\n"
        );
        let found = salvaged(&text);
        assert_eq!(found.instance.and_then(|instance| instance.id).as_deref(), Some("i-1"));
        assert_eq!(found.access_keys, [ONE]);
    }

    proptest! {
        /// However a sound config is cut or damaged: nothing but its own keys.
        #[test]
        fn damage_brings_no_other_key(at in 0usize..400, with in "[\"\\n\\[\\]=# ,.]{0,3}", cut: bool) {
            let whole = format!("{}[units.web.container]\nimage = \"example.org/web:1\"\n", head());
            let at = at.min(whole.len());
            let rest = if cut { "" } else { &whole[at..] };
            for key in keys_of(&format!("{}{with}{rest}", &whole[..at])) {
                let word = |key: &str| key.split_whitespace().nth(1).unwrap_or_default().to_owned();
                prop_assert!([word(ONE), word(TWO)].contains(&word(&key)), "{key}");
            }
        }

        /// A config that passes has the keys that its parser gives.
        #[test]
        fn anything_is_read(text in "(format = 1\n|\\[access\\]\n|keys = \\[\"x\"\\]\n|\\[|\"|\n){0,12}") {
            let found = keys_of(&text);
            if let Ok(config) = config::parse("berth.toml", text.as_bytes()) {
                prop_assert_eq!(found, config.access_keys);
            }
        }
    }
}
