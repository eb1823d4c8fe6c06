//! `[update]`: where updates come from, and when they are taken.

use super::TEXT;
use crate::model::{MachineConfig, Window};
use crate::schema::table::{Field, Form, Section, Set};
use crate::schema::values;
use std::time::Duration;

const ADDRESS: Form =
    Form { expected: "an address such as \"https://updates.example.org/berth\"", check: address };
const ROOT: Form = Form { expected: "the text of a root.json", check: root };
const CHANNEL: Form = Form { expected: "a channel's name such as \"stable\"", check: channel };
const WINDOW: Form = Form { expected: "times of a day such as \"02:00-04:30\"", check: window };
const SETTLE: Form = Form { expected: "a time from 1s to 1h such as \"2m\"", check: settle };

pub(super) const SECTION: Section<MachineConfig> = Section {
    name: "update",
    doc: "Where updates of the system come from, and when they are taken (`docs/updates.md`). What is not said here is as the \
          image has it.",
    later: &["waves", "fleetlock", "deltas"],
    system: false,
    fields: &[
        Field {
            name: "address",
            required: false,
            default: "the image's; none if it has none",
            example: "\"https://updates.example.org/berth\"",
            doc: "The repository. `http://` will do: every byte is signed, but everybody on the way sees what is fetched.",
            set: Set::Text(&ADDRESS, |config, text| config.update.address = Some(text)),
        },
        Field {
            name: "root",
            required: false,
            default: "the image's; none if it has none",
            example: "'{ \"signed\": { \"_type\": \"root\" } }'",
            doc: "What is trusted: the whole text of the repository's `metadata/1.root.json`, or of a later one.",
            set: Set::Text(&ROOT, |config, text| config.update.root = Some(text)),
        },
        Field {
            name: "ca",
            required: false,
            default: "none",
            example: "\"-----BEGIN CERTIFICATE-----…\"",
            doc: "Certificates (PEM) that are trusted for this address beside the public ones.",
            set: Set::Text(&TEXT, |config, text| config.update.ca = Some(text)),
        },
        Field {
            name: "channel",
            required: false,
            default: "`\"stable\"`",
            example: "\"stable\"",
            doc: "Which of the repository's channels is followed.",
            set: Set::Text(&CHANNEL, |config, text| config.update.channel = text),
        },
        Field {
            name: "automatic",
            required: false,
            default: "`false`",
            example: "true",
            doc: "Look for an update each hour of `window`, take it, and reboot into it.",
            set: Set::Bool(|config, yes| config.update.automatic = yes),
        },
        Field {
            name: "window",
            required: false,
            default: "`\"00:00-24:00\"`",
            example: "\"02:00-04:30\"",
            doc: "When that may be, UTC. It may go over midnight: `\"23:00-01:00\"`.",
            set: Set::Text(&WINDOW, |config, text| {
                config.update.window = Window::parse(&text).unwrap_or_default();
            }),
        },
        Field {
            name: "settle",
            required: false,
            default: "`\"2m\"`",
            example: "\"2m\"",
            doc: "How long all that was well before an update has to be so again, in one go, before the update stays.",
            set: Set::Text(&SETTLE, |config, text| {
                config.update.settle = values::time(&text).unwrap_or(config.update.settle);
            }),
        },
    ],
};

fn address(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()) => {}
        _ => return Err("is not http:// or https:// and a host".into()),
    }
    if text.contains(['?', '#', '@']) {
        return Err("must not have a user, a query or a fragment".into());
    }
    Ok(())
}

/// The client reads it in full; here only what a wrong file would be noticed by.
fn root(text: &str) -> Result<(), String> {
    let json: Result<serde_json::Value, _> = serde_json::from_str(text);
    match json {
        Ok(json) if json.pointer("/signed/_type").is_some_and(|kind| kind == "root") => Ok(()),
        Ok(_) => Err("is JSON, but no root.json of a repository".into()),
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

fn channel(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 32 || !text.bytes().all(fits) {
        return Err("is not 1 to 32 of a–z, 0–9 and -".into());
    }
    Ok(())
}

fn window(text: &str) -> Result<(), String> {
    Window::parse(text).map(|_| ()).ok_or_else(|| "is not HH:MM-HH:MM with two different times".into())
}

fn settle(text: &str) -> Result<(), String> {
    let time = values::time(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&time) {
        Ok(())
    } else {
        Err("is not between 1s and 1h".into())
    }
}
