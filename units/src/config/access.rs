//! Who may ask a machine whose config was refused: the keys of that config, where it is beyond doubt what they are.
//!
//! Nothing else of a refused config is used. Its keys are, because without them nobody could ask what is wrong with
//! it. Taken are whole, usable entries of `[access] keys`, and only if
//! 1. the text is TOML from its beginning to its first mistake of syntax, if it has one. What comes after such a
//!    mistake may not be what it looks like, and is not looked at;
//! 2. it says `format = 1`, so that it is known what `access` means;
//! 3. `[access]` holds `keys` and nothing else: another field could take away some of what a key may do;
//! 4. neither is there twice.

use super::FORMAT;
use crate::limits;
use crate::schema::text;
use crate::schema::values::ACCESS_KEY;
use toml::de::{DeTable, DeValue};

/// The keys in a config that did not pass, by the rules above.
pub fn access_keys(bytes: &[u8]) -> Vec<String> {
    let Ok(source) = text::source("", bytes) else { return Vec::new() };
    let text = source.text.as_str();
    match DeTable::parse(text) {
        Ok(table) => keys(table.get_ref()),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let sound = text.get(..at).and_then(|before| text.get(..before.rfind('\n')? + 1));
            // Of two lists, nobody knows which was meant.
            let twice = error.message().starts_with("duplicate key");
            let name = error.span().and_then(|span| text.get(span)).unwrap_or_default();
            let doubt = twice && ["access", "keys", "format"].contains(&name.trim_matches(['"', '\'']));
            match sound.filter(|_| !doubt).map(DeTable::parse) {
                Some(Ok(table)) => keys(table.get_ref()),
                _ => Vec::new(),
            }
        }
    }
}

fn keys(table: &DeTable<'_>) -> Vec<String> {
    let format = table.get("format").map(|value| value.get_ref());
    let known = matches!(format, Some(DeValue::Integer(n))
        if u64::from_str_radix(n.as_str(), n.radix()) == Ok(FORMAT));
    let access = match table.get("access").map(|value| value.get_ref()) {
        Some(DeValue::Table(access)) if known && access.len() == 1 => access,
        _ => return Vec::new(),
    };
    let Some(DeValue::Array(keys)) = access.get("keys").map(|value| value.get_ref()) else {
        return Vec::new();
    };
    if keys.len() > limits::LIST_ITEMS {
        return Vec::new();
    }
    let usable = keys.iter().filter_map(|key| match key.get_ref() {
        DeValue::String(key) if (ACCESS_KEY.check)(key).is_ok() => Some(key.clone().into_owned()),
        _ => None,
    });
    usable.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use proptest::prelude::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC one";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICoSPr3kwfnEQbZvbmqLt/K2VlzByCVC8hrAXDEraZHE two";

    fn taken(text: &str) -> usize {
        assert!(config::parse("berth.toml", text.as_bytes()).is_err(), "it passes: {text}");
        access_keys(text.as_bytes()).len()
    }

    fn head() -> String {
        format!("format = 1\n[access]\nkeys = [\"{ONE}\", \"{TWO}\"]\n")
    }

    #[test]
    fn a_mistake_elsewhere_leaves_the_keys() {
        assert_eq!(access_keys(head().as_bytes()), [ONE, TWO]);
        assert_eq!(access_keys(head().replace("= 1", "= 0x01").as_bytes()), [ONE, TWO]);
        assert_eq!(access_keys(head().replace("= 1", "= +1").as_bytes()), [ONE, TWO]);
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

    proptest! {
        /// However a sound config is cut or damaged: nothing but its own keys.
        #[test]
        fn damage_brings_no_other_key(at in 0usize..400, with in "[\"\\n\\[\\]=# ,.]{0,3}", cut: bool) {
            let whole = format!("{}[units.web.container]\nimage = \"example.org/web:1\"\n", head());
            let at = at.min(whole.len());
            let rest = if cut { "" } else { &whole[at..] };
            for key in access_keys(format!("{}{with}{rest}", &whole[..at]).as_bytes()) {
                let word = |key: &str| key.split_whitespace().nth(1).unwrap_or_default().to_owned();
                prop_assert!([word(ONE), word(TWO)].contains(&word(&key)), "{key}");
            }
        }

        /// A config that passes has the keys that its parser gives.
        #[test]
        fn anything_is_read(text in "(format = 1\n|\\[access\\]\n|keys = \\[\"x\"\\]\n|\\[|\"|\n){0,12}") {
            let found = access_keys(text.as_bytes());
            if let Ok(config) = config::parse("berth.toml", text.as_bytes()) {
                prop_assert_eq!(found, config.access_keys);
            }
        }
    }
}
