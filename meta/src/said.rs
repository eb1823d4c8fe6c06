//! What a source says of the machine, before anything is made of it.

use crate::yaml;
use berth_units::diag::quote;
use berth_units::model::Instance;
use serde_json::{Map, Value};

/// The word of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// What it calls the machine.
    pub id: Option<String>,
    /// The machine's name, as said.
    pub hostname: Option<String>,
    /// Operators' keys, as said: one line each.
    pub keys: Vec<String>,
    /// User data, as stored.
    pub user_data: Option<Vec<u8>>,
    /// What it says of the network.
    pub network: Option<Network>,
    /// What of it has no effect, one line each.
    pub notes: Vec<String>,
    /// What of it could not be read, one line each: nothing is applied then but what makes the machine reachable.
    pub trouble: Vec<String>,
}

/// A network, in one of the forms that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// cloud-init's `network-config`, version 1 or 2.
    Config(Vec<u8>),
    /// OpenStack's `network_data.json`.
    Data(Vec<u8>),
}

impl Network {
    /// The file in which it is.
    pub fn file(&self) -> &'static str {
        match self {
            Self::Config(_) => "network-config",
            Self::Data(_) => "network_data.json",
        }
    }
}

impl Said {
    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        let Self { id, hostname, keys, user_data, network, notes: _, trouble } = self;
        id.is_none()
            && hostname.is_none()
            && keys.is_empty()
            && user_data.is_none()
            && network.is_none()
            && trouble.is_empty()
    }

    /// The table that is kept of it; what of it cannot be used is noted.
    pub fn instance(&mut self, source: &str, uuid: Option<&str>) -> Instance {
        let mut instance =
            Instance { source: source.to_owned(), uuid: uuid.map(str::to_owned), ..Instance::default() };
        if let Some(id) = &self.id {
            let id = id.trim();
            if Instance::takes_id(id) {
                instance.id = Some(id.to_owned());
            } else {
                self.notes.push(format!(
                    "instance id {} cannot be kept: it has more than 256 bytes, or none",
                    quote(id)
                ));
            }
        }
        // As cloud-init has it: what follows the first dot is the domain.
        if let Some(name) = self.hostname.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
            let label = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
            if Instance::takes_hostname(&label) {
                instance.hostname = Some(label);
            } else {
                self.notes.push(format!("the metadata's host name {} is none, and not used", quote(name)));
            }
        }
        for key in &self.keys {
            match Instance::takes_key(key) {
                Ok(()) if instance.keys.contains(key) => {}
                Ok(()) => instance.keys.push(key.clone()),
                Err(why) => self.notes.push(format!("the metadata's key {} {why}", short(key))),
            }
        }
        instance
    }
}

/// A key in few words: its kind, and the comment behind it.
fn short(key: &str) -> String {
    let mut words = key.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let comment: Vec<&str> = words.skip(1).collect();
    if comment.is_empty() { quote(kind) } else { quote(&format!("{kind} … {}", comment.join(" "))) }
}

/// Keys in any of the forms in which metadata has them: a text of lines, a list, or a table from names to either.
pub fn keys(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let lines = text.lines().map(str::trim);
            into.extend(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, into)),
        Value::Object(table) => {
            // `{"0": {"openssh-key": "…"}}`, `[{"name": …, "type": "ssh", "data": "…"}]`
            let inner = ["openssh-key", "data"].iter().find_map(|name| table.get(*name));
            match inner {
                Some(value) => keys(value, into),
                None => table.values().for_each(|value| keys(value, into)),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A document that is a table: YAML, of which JSON is a part.
pub fn table(text: &str) -> Result<Map<String, Value>, String> {
    let parsed = yaml::parse(text);
    if let Some(mistake) = parsed.mistakes.first() {
        return Err(format!("{}: {}", mistake.at, mistake.message));
    }
    match json(&parsed.root) {
        Value::Object(table) => Ok(table),
        _ => Err(format!("is {}, expected keys such as instance-id", parsed.root.kind())),
    }
}

/// The same value, as JSON has it; a number or date as it is written.
fn json(node: &yaml::Node) -> Value {
    match &node.value {
        yaml::Value::Null | yaml::Value::Bytes(_) => Value::Null,
        yaml::Value::Bool(_) | yaml::Value::Int(_) | yaml::Value::Float(_) => match &node.written {
            Some(written) => Value::String(written.to_string()),
            None => Value::Null,
        },
        yaml::Value::Text(text) => Value::String(text.clone()),
        yaml::Value::List(list) => list.iter().map(json).collect(),
        yaml::Value::Map(pairs) => {
            let pairs = pairs.iter().filter_map(|(key, value)| match json(key) {
                Value::String(key) => Some((key, json(value))),
                _ => None,
            });
            Value::Object(pairs.collect())
        }
    }
}

/// A text, or a number as its digits.
pub fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC one";

    #[test]
    fn keys_come_in_any_form() {
        let ec2 = json!({ "0": { "openssh-key": ONE } });
        let keys_of_nova = json!([{ "name": "k", "type": "ssh", "data": ONE }]);
        for value in [json!(ONE), json!([ONE]), json!({ "k": ONE }), json!({ "k": [ONE] }), ec2, keys_of_nova]
        {
            let mut found = Vec::new();
            keys(&value, &mut found);
            assert_eq!(found, [ONE], "{value}");
        }
        let mut found = Vec::new();
        keys(&json!(format!("# mine\n\n{ONE}\r\n{ONE}\n")), &mut found);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_reason() {
        let mut said = Said {
            id: Some(" i-1\n".into()),
            hostname: Some("Node-1.example.org".into()),
            keys: vec![ONE.into(), "ssh-rsa AAAAB3 me@work".into(), ONE.into(), "hello".into()],
            ..Said::default()
        };
        let instance = said.instance("ec2", Some("0123"));
        assert_eq!(instance.id.as_deref(), Some("i-1"));
        assert_eq!(instance.hostname.as_deref(), Some("node-1"));
        assert_eq!(instance.keys, [ONE]);
        assert_eq!(said.notes.len(), 2);
        assert!(
            said.notes[0].contains("\"ssh-rsa … me@work\" is of type") && said.notes[0].contains("TLS"),
            "{:?}",
            said.notes
        );
        let mut said = Said { id: Some("x".repeat(300)), hostname: Some("_".into()), ..Said::default() };
        let instance = said.instance("ec2", None);
        assert_eq!((instance.id, instance.hostname, said.notes.len()), (None, None, 2));
    }
}
