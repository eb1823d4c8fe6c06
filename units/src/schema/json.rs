//! The JSON schema of a unit file and of the machine config, made from the tables of fields: what an editor needs to complete
//! and check names, types, words and ranges. What values look like beyond that, and what they mean together, only
//! [`super`] knows (`berth unit check`).

use super::fields;
use super::table::{Field, Section, Set};
use crate::{config, limits};
use serde_json::{Map, Value, json};

/// Editors for TOML understand this one.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// Of a unit file, as operators write them.
pub fn unit() -> Value {
    let mut schema = object(fields::UNIT_FILE);
    let top = [("$schema", json!(DRAFT)), ("title", json!("Berth: a unit"))];
    schema.extend(top.map(|(key, value)| (key.to_owned(), value)));
    Value::Object(schema)
}

/// Of the machine config.
pub fn machine_config() -> Value {
    let mut schema = object(config::CONFIG_FILE);
    let definitions = json!({
        "unit": object(fields::UNIT_FILE),
        "interface": table(config::INTERFACE),
        "route": table(config::ROUTE),
        "vlan": table(config::VLAN),
        "bond": table(config::BOND),
        "registry": table(config::REGISTRY),
    });
    let top = [
        ("$schema", json!(DRAFT)),
        ("title", json!("Berth: the machine config")),
        ("definitions", definitions),
    ];
    schema.extend(top.map(|(key, value)| (key.to_owned(), value)));
    Value::Object(schema)
}

/// As it is printed and kept.
pub fn text(schema: &Value) -> String {
    format!("{schema:#}\n")
}

/// A document of these sections; those of the OS's own units are nobody else's.
fn object<T>(sections: &[Section<T>]) -> Map<String, Value> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for section in sections.iter().filter(|section| !section.system) {
        let mut inner = fields_of(section.fields);
        if section.name.is_empty() {
            if let Some(Value::Object(fields)) = inner.remove("properties") {
                properties.extend(fields);
            }
            if let Some(Value::Array(names)) = inner.remove("required") {
                required.extend(names);
            }
            continue;
        }
        if inner.contains_key("required") {
            required.push(json!(section.name));
        }
        inner.insert("description".into(), json!(section.doc));
        properties.insert(section.name.to_owned(), Value::Object(inner));
    }
    let mut schema = closed(properties);
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    schema
}

fn table<T>(fields: &[Field<T>]) -> Value {
    Value::Object(fields_of(fields))
}

fn fields_of<T>(fields: &[Field<T>]) -> Map<String, Value> {
    let properties = fields.iter().map(|field| (field.name.to_owned(), self::field(field))).collect();
    let mut schema = closed(properties);
    let required: Vec<Value> =
        fields.iter().filter(|field| field.required).map(|field| json!(field.name)).collect();
    if !required.is_empty() {
        schema.insert("required".into(), required.into());
    }
    schema
}

/// Of type object, with these properties and no others.
fn closed(properties: Map<String, Value>) -> Map<String, Value> {
    let parts = [
        ("type", json!("object")),
        ("properties", Value::Object(properties)),
        ("additionalProperties", json!(false)),
    ];
    parts.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

fn field<T>(field: &Field<T>) -> Value {
    let mut schema = kind(field);
    let default = if field.required { String::new() } else { format!(" Default: {}.", field.default) };
    schema.insert("description".into(), json!(format!("{}{default}", field.doc)));
    if let Some(example) = value(field.example) {
        schema.insert("examples".into(), json!([example]));
    }
    Value::Object(schema)
}

fn kind<T>(field: &Field<T>) -> Map<String, Value> {
    let string = || json!({ "type": "string" });
    let list = |items: Value| json!({ "type": "array", "items": items, "maxItems": limits::LIST_ITEMS });
    let pairs = |of: Value| json!({ "type": "object", "additionalProperties": of });
    let of = |definition: &str| json!({ "$ref": format!("#/definitions/{definition}") });
    let schema = match &field.set {
        Set::Bool(_) => json!({ "type": "boolean" }),
        Set::Number(least, most, _) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Set::Cpus(_) => json!({ "type": "number", "minimum": 0.01, "maximum": 1024 }),
        Set::Choice(words, _, _) => json!({ "enum": words }),
        Set::Text(..) => string(),
        Set::Texts(..) => list(string()),
        Set::TextOrTexts(..) => json!({ "anyOf": [string(), list(string())] }),
        Set::Pairs(..) => pairs(string()),
        Set::Table(fields) => {
            let mut inner = fields_of(fields);
            inner.insert("minProperties".into(), json!(1));
            Value::Object(inner)
        }
        // Each has a reader of its own, and so a line here; without one, nothing would be accepted.
        Set::Tables(..) => match field.name {
            "registries" => pairs(of("registry")),
            "units" => pairs(of("unit")),
            "secrets" | "files" => pairs(string()),
            "interface" => list(of("interface")),
            "routes" => list(of("route")),
            "vlan" => list(of("vlan")),
            "bond" => list(of("bond")),
            _ => json!({ "not": {} }),
        },
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// A TOML value as JSON.
fn value(text: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("x = {text}")).ok()?;
    serde_json::to_value(table.get("x")?).ok()
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
