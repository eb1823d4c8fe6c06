//! `runcmd`: a unit, if an image is named to run in.

use super::items;
use crate::toml_text::{Item, Table, Value as Toml};
use crate::translation::{Sheet, asks_nothing};
use crate::yaml::{Mark, Node, Value};

/// The unit's name.
const UNIT: &str = "runcmd";
/// The key of `berth` that names the image.
pub(super) const IMAGE: &str = "runcmd_image";

/// `runcmd`.
pub(super) fn runcmd(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    if asks_nothing(value) {
        return sheet.no_op(key, "it asks for nothing");
    }
    let Some((_, image)) = sheet.root.get("berth").and_then(|berth| berth.pair(IMAGE)) else {
        return sheet.refuse(
            key.at,
            "runcmd",
            "there is no shell on the machine; name an image to run the commands in, berth: { runcmd_image: \"docker.io/library/debian:13\" }, or write them \
             as a unit: berth: { units: … }",
        );
    };
    let Some(image_text) = sheet.text("berth: runcmd_image", image) else {
        return sheet.refuse(
            image.at,
            "berth: runcmd_image",
            "is empty, expected an image such as docker.io/library/debian:13",
        );
    };
    let mut script = String::new();
    for command in items(sheet, "runcmd", value) {
        match line(command) {
            Ok(line) => {
                script.push_str(&line);
                script.push('\n');
            }
            Err((at, why)) => sheet.refuse(at, "runcmd", why),
        }
    }
    let text = |at: Mark, text: &str| Item { at, value: Toml::Text(text.to_owned()) };
    let words = [text(key.at, "/bin/sh"), text(key.at, "-c"), text(value.at, &script)];
    let mut container = Table::default();
    container.0.push(("image".into(), image.at, text(image.at, &image_text)));
    container.0.push(("command".into(), value.at, Item { at: value.at, value: Toml::List(words.into()) }));
    let at = key.at;
    let mut restart = Table::default();
    restart.0.push(("policy".into(), at, text(at, "no")));
    let mut unit = Table::default();
    unit.0.push(("container".into(), at, Item { at, value: Toml::Table(container) }));
    unit.0.push(("restart".into(), at, Item { at, value: Toml::Table(restart) }));
    let set = sheet.toml.table("units", at).map(|units| units.set(UNIT, at, Toml::Table(unit)));
    match set {
        Some(Ok(())) => sheet.applied(
            key,
            "runs as the unit runcmd, at each boot, in the image that runcmd_image names; it changes that container, not the machine",
        ),
        _ => sheet.refuse(at, "runcmd", "there is a unit of this name already, in berth:"),
    }
}

/// As cloud-init makes a script of it (`util.shellify`): a text is a line, of a list each word is quoted.
fn line(command: &Node) -> Result<String, (Mark, String)> {
    match &command.value {
        Value::Text(text) => Ok(text.clone()),
        Value::List(words) => {
            let words: Result<Vec<String>, _> = words.iter().map(word).collect();
            Ok(words?.join(" "))
        }
        Value::Null => Ok(String::new()),
        _ => {
            Err((command.at, format!("a command is {}, expected a text or a list of words", command.kind())))
        }
    }
}

fn word(word: &Node) -> Result<String, (Mark, String)> {
    let text = match (&word.value, &word.written) {
        (Value::Text(text), _) => text.clone(),
        // As Python prints them.
        (Value::Int(number), _) => number.to_string(),
        (Value::Bool(yes), _) => (if *yes { "True" } else { "False" }).to_owned(),
        (Value::Null, _) => "None".to_owned(),
        (Value::Float(_), Some(written)) => written.to_string(),
        _ => return Err((word.at, format!("a word of a command is {}, expected a text", word.kind()))),
    };
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}
