//! Google Compute Engine: one request for all of it, so that its parts are of one moment ("VM metadata": "Query metadata in a
//! recursive manner").

use crate::engine::{Engine, Stop};
use crate::limits;
use berth_meta::said::{self, Said};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ALL: &str = "/computeMetadata/v1/?recursive=true&alt=json";

/// Asks.
pub async fn ask(engine: &mut Engine<'_>) -> Result<Said, Stop> {
    let bytes = engine.must(ALL, limits::DOCUMENT_BYTES).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    read(&bytes, now.as_secs()).map_err(Stop::Final)
}

/// `now_s`: seconds since 1970, for keys that expire.
pub fn read(bytes: &[u8], now_s: u64) -> Result<Said, String> {
    let all: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|error| format!("what it says is no JSON table: {error}"))?;
    let nothing = Value::Null;
    let instance = all.get("instance").unwrap_or(&nothing);
    let mut said = Said {
        id: said::text(instance.get("id")),
        hostname: said::text(instance.get("hostname")),
        ..Said::default()
    };
    let own = instance.get("attributes").unwrap_or(&nothing);
    let project = all.get("project").and_then(|project| project.get("attributes")).unwrap_or(&nothing);
    let text = |of: &Value, name: &str| said::text(of.get(name));
    for name in ["ssh-keys", "sshKeys"] {
        keys(&text(own, name).unwrap_or_default(), now_s, &mut said);
    }
    let blocked = text(own, "block-project-ssh-keys").is_some_and(|value| is_true(&value));
    // The old name of the instance's own keys shuts out the project's, too.
    if !blocked && text(own, "sshKeys").is_none() {
        keys(&text(project, "ssh-keys").unwrap_or_default(), now_s, &mut said);
    }
    // As it is: white space may be base64's.
    said.user_data = own.get("user-data").and_then(Value::as_str).map(|text| text.as_bytes().to_vec());
    if text(own, "user-data-encoding").is_some_and(|encoding| encoding != "base64") {
        said.trouble
            .push("attributes/user-data-encoding: only base64 is known, and needs not be said".to_owned());
    }
    if said.user_data.as_ref().is_some_and(|bytes| bytes.iter().all(u8::is_ascii_whitespace)) {
        said.user_data = None;
    }
    for name in ["startup-script", "startup-script-url", "shutdown-script", "shutdown-script-url"] {
        let what = "there is no shell on the machine; write what it does as units of a berth.toml into attributes/user-data";
        if text(own, name).is_some() {
            said.trouble.push(format!("attributes/{name} is refused: {what}"));
        } else if text(project, name).is_some() {
            said.notes.push(format!("the project's {name} is not applied: {what}"));
        }
    }
    if text(own, "enable-oslogin").or_else(|| text(project, "enable-oslogin")).is_some_and(|v| is_true(&v)) {
        said.notes.push("enable-oslogin has no effect: there is no login; access is by keys".to_owned());
    }
    let cards = instance.get("networkInterfaces").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_some = |name: &str| {
        cards.iter().any(|card| card.get(name).and_then(Value::as_array).is_some_and(|list| !list.is_empty()))
    };
    for (name, what) in [("ipAliases", "alias addresses"), ("forwardedIps", "forwarded addresses")] {
        if is_some(name) {
            said.notes
                .push(format!("{what} ({name}) are not applied; write them into [network] of user-data"));
        }
    }
    Ok(said)
}

fn is_true(text: &str) -> bool {
    ["true", "1", "y", "yes"].contains(&text.to_ascii_lowercase().as_str())
}

/// `user:ssh-ed25519 AAAA… comment`, a line each; behind `google-ssh`, when it expires.
fn keys(text: &str, now_s: u64, said: &mut Said) {
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        // Who of whom is no matter here: a key is an operator's.
        let key = match line.split_once(':') {
            Some((user, key)) if !user.contains(char::is_whitespace) => key.trim(),
            _ => line,
        };
        if said.keys.len() >= 2 * limits::KEYS {
            said.notes.push(format!("keys after the first {} are not looked at", 2 * limits::KEYS));
            return;
        }
        let Some((before, about)) = key.split_once(" google-ssh ") else {
            said.keys.push(key.to_owned());
            continue;
        };
        let about: Value = serde_json::from_str(about.trim()).unwrap_or(Value::Null);
        let user = about.get("userName").and_then(Value::as_str).unwrap_or("google-ssh");
        let expires = about.get("expireOn").and_then(Value::as_str);
        match expires.map(|text| (text, seconds(text))) {
            Some((text, Some(at))) if at <= now_s => {
                said.notes.push(format!("a key of {user} has expired on {text}, and is not used"));
            }
            Some((text, None)) => {
                said.notes
                    .push(format!("a key of {user} is not used: it expires on {text:?}, which is no time"));
            }
            Some((text, Some(_))) => {
                said.notes.push(format!(
                    "a key of {user} expires on {text}; it is valid on this machine until a config without it is applied"
                ));
                said.keys.push(format!("{before} {user}"));
            }
            None => said.keys.push(format!("{before} {user}")),
        }
    }
}

/// `2018-12-04T20:12:00+0000`, as seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let time = rest.get(..8)?;
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let zone = rest.get(8..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone {
        "Z" | "" | "+0000" | "+00:00" | "-0000" => 0,
        zone => {
            let digits: String = zone.get(1..)?.chars().filter(char::is_ascii_digit).collect();
            let (hours, minutes) =
                (digits.get(..2)?.parse::<i64>().ok()?, digits.get(2..4)?.parse::<i64>().ok()?);
            let minutes = 60 * hours + minutes;
            if zone.starts_with('-') { -60 * minutes } else { 60 * minutes }
        }
    };
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970-01-01, years beginning in March (H. Hinnant, "chrono-compatible low-level date algorithms").
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second - offset).ok()
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(mut said) = read(bytes, 1_795_507_200) {
        let _ = said.instance("gce", None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC";
    /// 2026-11-24T08:00:00Z.
    const NOW: u64 = 1_795_507_200;

    fn made(instance: &Value, project: &Value) -> Said {
        let all = json!({ "instance": { "id": 1_234_567_890_123_456_789_u64, "hostname": "vm-1.c.project.internal",
            "attributes": instance }, "project": { "attributes": project } });
        read(all.to_string().as_bytes(), NOW).unwrap()
    }

    #[test]
    fn an_instance_is_read() {
        let said = made(
            &json!({ "ssh-keys": format!("ann:{KEY} ann@work\n\n{KEY} bare"), "user-data": "format = 1\n" }),
            &json!({}),
        );
        assert_eq!(said.id.as_deref(), Some("1234567890123456789"));
        assert_eq!(said.keys, [format!("{KEY} ann@work"), format!("{KEY} bare")]);
        assert_eq!(said.user_data.as_deref(), Some(&b"format = 1\n"[..]));
        assert!(said.notes.is_empty() && said.trouble.is_empty(), "{said:?}");
    }

    #[test]
    fn the_projects_keys_come_to_the_instances_unless_blocked() {
        let project = json!({ "ssh-keys": format!("bob:{KEY} bob") });
        assert_eq!(made(&json!({}), &project).keys, [format!("{KEY} bob")]);
        for block in ["true", "TRUE"] {
            assert!(made(&json!({ "block-project-ssh-keys": block }), &project).keys.is_empty());
        }
        assert_eq!(
            made(&json!({ "sshKeys": format!("ann:{KEY} ann") }), &project).keys,
            [format!("{KEY} ann")]
        );
    }

    #[test]
    fn keys_expire() {
        let with = |when: &str| {
            let about = json!({ "userName": "ann@example.org", "expireOn": when });
            made(&json!({ "ssh-keys": format!("ann:{KEY} google-ssh {about}") }), &json!({}))
        };
        for (when, valid) in [
            ("2026-11-24T07:59:59+0000", false),
            ("2026-11-24T08:00:01+0000", true),
            ("2026-11-24T08:00:01+0100", false),
            ("2026-11-24T07:30:00-0100", true),
            ("2026-11-24T08:00:01.5Z", true),
            ("tomorrow", false),
            ("2026-13-01T00:00:00Z", false),
        ] {
            let said = with(when);
            assert_eq!((said.keys.len(), said.notes.len()), (usize::from(valid), 1), "{when}: {said:?}");
        }
        assert_eq!(with("2030-01-01T00:00:00+0000").keys, [format!("{KEY} ann@example.org")]);
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2024-02-29T12:00:00+0000"), Some(1_709_208_000));
    }

    #[test]
    fn scripts_are_refused_by_name() {
        let said = made(
            &json!({ "startup-script": "#!/bin/sh\n" }),
            &json!({ "shutdown-script": "x", "enable-oslogin": "TRUE" }),
        );
        assert!(
            said.trouble[0].contains("attributes/startup-script is refused")
                && said.trouble[0].contains("units")
        );
        assert_eq!(said.notes.len(), 2);
        assert!(read(b"[", NOW).is_err());
    }
}
