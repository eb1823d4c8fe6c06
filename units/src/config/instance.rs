//! `[instance]`: what a cloud or a volume said of the machine when it was asked. Written by the machine itself, and kept with the
//! rest of the config, so that one text says all that is in force.

use super::ACCESS_KEY;
use crate::model::{Instance, MachineConfig};
use crate::schema::table::{Field, Form, Section, Set};
use crate::schema::values::HOSTNAME;
use std::fmt::Write;

const SOURCE: Form = Form { expected: "a source such as \"nocloud\"", check: word };
const ID: Form = Form { expected: "an instance's id such as \"i-0123456789abcdef0\"", check: id };
const UUID: Form =
    Form { expected: "32 hex digits such as \"0123456789abcdef0123456789abcdef\"", check: uuid };

/// Bytes of an instance's id; clouds use up to 63, NoCloud volumes what somebody thought of.
const ID_BYTES: usize = 256;

pub(super) const SECTION: Section<MachineConfig> = Section {
    name: "instance",
    doc: "What a cloud's metadata, a NoCloud volume or a config drive said of this machine (`docs/config-sources.md`). The machine \
          writes this table itself; a config that is applied without it keeps the one in force.",
    later: &[],
    system: false,
    fields: &[
        Field {
            name: "source",
            required: false,
            default: "unknown",
            example: "\"ec2\"",
            doc: "Who said it.",
            set: Set::Text(&SOURCE, |config, text| of(config).source = text),
        },
        Field {
            name: "id",
            required: false,
            default: "none",
            example: "\"i-0123456789abcdef0\"",
            doc: "What the source calls the machine.",
            set: Set::Text(&ID, |config, text| of(config).id = Some(text)),
        },
        Field {
            name: "uuid",
            required: false,
            default: "none",
            example: "\"ec2e1916908a47c28b2a1f37de1e7d1f\"",
            doc: "The machine's SMBIOS UUID at that time. With another one it is another machine, and asks again.",
            set: Set::Text(&UUID, |config, text| of(config).uuid = Some(text)),
        },
        Field {
            name: "hostname",
            required: false,
            default: "none",
            example: "\"node1\"",
            doc: "The machine's name, unless `hostname` before the first table says another.",
            set: Set::Text(&HOSTNAME, |config, text| of(config).hostname = Some(text)),
        },
        Field {
            name: "keys",
            required: false,
            default: "none",
            example: "[\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC me\"]",
            doc: "Operators' keys, valid beside those of `[access]`.",
            set: Set::Texts(&ACCESS_KEY, |config, keys| {
                of(config).keys = keys.into_iter().map(|(key, _)| key).collect();
            }),
        },
    ],
};

fn of(config: &mut MachineConfig) -> &mut Instance {
    config.instance.get_or_insert_with(|| Instance { source: "unknown".into(), ..Instance::default() })
}

/// Lets the instance's name and keys be the machine's.
pub(super) fn settle(config: &mut MachineConfig) {
    let Some(instance) = &config.instance else { return };
    if config.hostname.is_none() {
        config.hostname.clone_from(&instance.hostname);
    }
    for key in &instance.keys {
        if !config.access_keys.iter().any(|other| same_key(other, key)) {
            config.access_keys.push(key.clone());
        }
    }
}

/// Kind and key are the same, whatever the comments say.
fn same_key(one: &str, other: &str) -> bool {
    one.split_whitespace().take(2).eq(other.split_whitespace().take(2))
}

impl Instance {
    /// The table, to be put behind a config's text.
    pub fn to_toml(&self) -> String {
        let mut text = format!("[instance]\nsource = {}\n", string(&self.source));
        let mut line = |name: &str, value: &Option<String>| {
            if let Some(value) = value {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{name} = {}", string(value));
            }
        };
        line("id", &self.id);
        line("uuid", &self.uuid);
        line("hostname", &self.hostname);
        if !self.keys.is_empty() {
            text.push_str("keys = [\n");
            for key in &self.keys {
                let _ = writeln!(text, "    {},", string(key));
            }
            text.push_str("]\n");
        }
        text
    }

    /// A config's text with this table behind it; the text must not have the table.
    pub fn behind(&self, config: &[u8]) -> Vec<u8> {
        let mut text = config.to_vec();
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text.extend(b"\n");
        text.extend(self.to_toml().into_bytes());
        text
    }

    /// The table takes this id.
    pub fn takes_id(text: &str) -> bool {
        id(text).is_ok()
    }

    /// The table takes this name.
    pub fn takes_hostname(text: &str) -> bool {
        (HOSTNAME.check)(text).is_ok()
    }

    /// Why the table does not take this key, if it does not.
    pub fn takes_key(text: &str) -> Result<(), String> {
        (ACCESS_KEY.check)(text)
    }
}

/// A text as TOML writes it.
pub fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn word(text: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || text.len() > 32 || !text.bytes().all(fits) {
        return Err("is not a source's name".into());
    }
    Ok(())
}

fn id(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > ID_BYTES || text.chars().any(char::is_control) {
        return Err(format!("is empty, longer than {ID_BYTES} bytes or has control characters"));
    }
    Ok(())
}

fn uuid(text: &str) -> Result<(), String> {
    if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("is not 32 hex digits in lower case".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use proptest::prelude::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC one";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICoSPr3kwfnEQbZvbmqLt/K2VlzByCVC8hrAXDEraZHE two";

    fn instance() -> Instance {
        Instance {
            source: "nocloud".into(),
            id: Some("i \"one\" \\ é".into()),
            uuid: Some("0123456789abcdef".repeat(2)),
            hostname: Some("from-metadata".into()),
            keys: vec![ONE.replace("one", "again"), TWO.into()],
        }
    }

    #[test]
    fn its_name_is_a_default_and_its_keys_come_to_the_others() {
        let text = instance().behind(format!("format = 1\naccess.keys = [\"{ONE}\"]").as_bytes());
        let config = parse("berth.toml", &text).unwrap();
        assert_eq!(config.instance, Some(instance()));
        assert_eq!(config.hostname.as_deref(), Some("from-metadata"));
        assert_eq!(config.access_keys, [ONE, TWO]);
        let text = instance().behind(b"format = 1\nhostname = \"own\"\n");
        assert_eq!(parse("berth.toml", &text).unwrap().hostname.as_deref(), Some("own"));
    }

    #[test]
    fn what_it_cannot_be_is_told() {
        for (line, why) in [
            ("source = \"a b\"", "source's name"),
            ("source = \"x\"\nuuid = \"0123\"", "32 hex digits"),
            ("source = \"x\"\nid = \"\\n\"", "control"),
            ("source = \"x\"\nkeys = [\"ssh-rsa AAAA\"]", "keys"),
        ] {
            let report = parse("berth.toml", format!("format = 1\n[instance]\n{line}\n").as_bytes());
            let report = report.unwrap_err().to_string();
            assert!(report.contains(why), "{report}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_it_is(text in any::<String>()) {
            let toml = format!("a = {}\n", string(&text));
            let table = toml::de::DeTable::parse(&toml).unwrap();
            let value = table.get_ref().get("a").unwrap().get_ref().as_str().unwrap().to_owned();
            prop_assert_eq!(value, text);
        }
    }
}
