//! The schemas against the tables of fields, the parser and the page.

use super::*;
use crate::model::Origin;
use crate::schema::parse_unit;
use crate::schema::reference;

/// Why a value does not fit, by the words that the schemas use; any other word is an error.
fn misfit(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let schema = schema.as_object().expect("a schema is an object");
    let no = |why: &str| Some(format!("{value} {why}"));
    for (word, of) in schema {
        let wrong = match (word.as_str(), value) {
            ("$schema" | "title" | "description" | "examples" | "definitions", _) => None,
            ("$ref", _) => {
                let name = of.as_str().unwrap().strip_prefix("#/definitions/").unwrap();
                misfit(root, &root["definitions"][name], value)
            }
            ("type", _) => {
                let fits = match of.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    other => panic!("type {other}"),
                };
                if fits { None } else { no(&format!("is no {of}")) }
            }
            ("enum", _) => {
                if of.as_array().unwrap().contains(value) {
                    None
                } else {
                    no("is none of the words")
                }
            }
            ("minimum", Value::Number(n)) => {
                if n.as_f64() >= of.as_f64() {
                    None
                } else {
                    no("is too small")
                }
            }
            ("maximum", Value::Number(n)) => {
                if n.as_f64() <= of.as_f64() {
                    None
                } else {
                    no("is too large")
                }
            }
            ("maxItems", Value::Array(items)) => {
                if items.len() as u64 <= of.as_u64().unwrap() {
                    None
                } else {
                    no("is too long")
                }
            }
            ("minProperties", Value::Object(o)) => {
                if o.len() as u64 >= of.as_u64().unwrap() {
                    None
                } else {
                    no("is empty")
                }
            }
            ("items", Value::Array(items)) => items.iter().find_map(|item| misfit(root, of, item)),
            ("anyOf", _) => {
                let all: Option<Vec<String>> =
                    of.as_array().unwrap().iter().map(|one| misfit(root, one, value)).collect();
                all.map(|all| all.join("; "))
            }
            ("not", _) => no("is not to be there"),
            ("required", Value::Object(o)) => {
                let missing =
                    of.as_array().unwrap().iter().find(|name| !o.contains_key(name.as_str().unwrap()));
                missing.map(|name| format!("{name} is missing"))
            }
            ("properties", Value::Object(o)) => o.iter().find_map(|(key, inner)| {
                misfit(root, of.get(key)?, inner).map(|why| format!("{key}: {why}"))
            }),
            ("additionalProperties", Value::Object(o)) => o
                .iter()
                .filter(|(key, _)| schema.get("properties").is_none_or(|known| known.get(*key).is_none()))
                .find_map(|(key, inner)| match of {
                    Value::Bool(false) => Some(format!("{key} is unknown")),
                    of => misfit(root, of, inner),
                }),
            (
                "minimum"
                | "maximum"
                | "maxItems"
                | "minProperties"
                | "items"
                | "required"
                | "properties"
                | "additionalProperties",
                _,
            ) => None,
            (word, _) => panic!("{word}"),
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

fn of_toml(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

fn fits(schema: &Value, text: &str) -> Option<String> {
    misfit(schema, schema, &of_toml(text))
}

#[test]
fn the_schemas_in_docs_are_made_from_the_tables() {
    crate::bless::check("docs/unit.schema.json", &text(&unit()));
    crate::bless::check("docs/berth.schema.json", &text(&machine_config()));
}

/// Every field of the table is a property with the page's words, and there is no other.
fn same<T>(schema: &Value, fields: &[Field<T>], page: &str) {
    let properties = schema["properties"].as_object().unwrap();
    for field in fields {
        let property = &properties[field.name];
        let said = property["description"].as_str().unwrap();
        assert!(said.starts_with(field.doc), "{}: {said}", field.name);
        assert!(
            page.contains(&field.doc.replace('|', "\\|")),
            "the page does not say of {}: {}",
            field.name,
            field.doc
        );
        assert_ne!(property["not"], json!({}), "{} has no line in the schema", field.name);
        let example = value(field.example).unwrap_or_else(|| panic!("{}: {}", field.name, field.example));
        assert_eq!(property["examples"], json!([example]));
        if let Set::Table(inner) = &field.set {
            same(property, inner, page);
        }
    }
    assert_eq!(properties.len(), fields.len());
}

#[test]
fn every_field_is_in_the_schema_and_on_the_page_and_nothing_else_is() {
    let page = reference::page();
    let (unit, config) = (unit(), machine_config());
    let sections = |schema: &Value, names: Vec<&str>| {
        let known: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        let mut names = names;
        names.sort_unstable();
        assert_eq!(known, names);
    };
    let top = |name: &str| name.is_empty();
    let mut names = Vec::new();
    for section in fields::UNIT_FILE.iter().filter(|section| !section.system) {
        if top(section.name) {
            names.extend(section.fields.iter().map(|field| field.name));
        } else {
            names.push(section.name);
            same(&unit["properties"][section.name], section.fields, &page);
        }
    }
    sections(&unit, names);
    let mut names = Vec::new();
    for section in config::CONFIG_FILE {
        if top(section.name) {
            names.extend(section.fields.iter().map(|field| field.name));
        } else {
            names.push(section.name);
            same(&config["properties"][section.name], section.fields, &page);
        }
    }
    sections(&config, names);
    same(&config["definitions"]["interface"], config::INTERFACE, &page);
    same(&config["definitions"]["route"], config::ROUTE, &page);
    same(&config["definitions"]["vlan"], config::VLAN, &page);
    same(&config["definitions"]["bond"], config::BOND, &page);
    same(&config["definitions"]["registry"], config::REGISTRY, &page);
}

/// What the parser takes the schema takes, field by field and file by file.
#[test]
fn what_is_accepted_fits() {
    let (unit, config) = (unit(), machine_config());
    for section in fields::UNIT_FILE.iter().filter(|section| !section.system) {
        for field in section.fields {
            let dot = if section.name.is_empty() { "" } else { "." };
            let image = if field.name == "image" { "" } else { "container.image = \"x\"\n" };
            let text = format!("{image}{}{dot}{} = {}\n", section.name, field.name, field.example);
            assert_eq!(fits(&unit, &text), None, "{text}");
        }
    }
    let mut seen = 0;
    for block in reference::page().split("```toml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        let schema = if text.starts_with("# berth.toml") { &config } else { &unit };
        assert_eq!(fits(schema, text), None, "{text}");
        seen += 1;
    }
    assert_eq!(seen, 4);
}

/// What has names, types, words or ranges wrong fits neither.
#[test]
fn what_is_refused_for_its_form_does_not_fit() {
    let schema = unit();
    for wrong in [
        "",
        "container = {}",
        "container.image = 5",
        "container.imag = \"x\"",
        "[container]\nimage = \"x\"\nread_only = \"yes\"",
        "[container]\nimage = \"x\"\n[network]\nmode = \"bridged\"",
        "[container]\nimage = \"x\"\n[resources]\npids = 0",
        "[container]\nimage = \"x\"\n[resources]\ncpus = 5000",
        "[container]\nimage = \"x\"\n[resources]\nio_max = {}",
        "[container]\nimage = \"x\"\n[resources]\nio_max = { reads = 5 }",
        "[container]\nimage = \"x\"\nenv_file = [5]",
        "[container]\nimage = \"x\"\n[schedule]\ninterval = \"1h\"",
        "[container]\nimage = \"x\"\n[system]\ncontrol = true",
    ] {
        assert!(fits(&schema, wrong).is_some(), "{wrong}");
        assert!(parse_unit("f.toml", "f", wrong.as_bytes(), Origin::Config).is_err(), "{wrong}");
    }
    let config = machine_config();
    assert_eq!(fits(&config, "format = 1\nunits.web.container.image = \"x\""), None);
    for wrong in [
        "",
        "format = 2",
        "format = 1\nunits.web.container.imag = \"x\"",
        "format = 1\nregistries.r.tls = true",
    ] {
        assert!(fits(&config, wrong).is_some(), "{wrong}");
    }
}
