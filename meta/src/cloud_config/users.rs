//! Access keys, of `ssh_authorized_keys` and of users.

use super::items;
use super::keys::USER;
use crate::toml_text::{Item, Value as Toml};
use crate::translation::{Sheet, name_of, shown};
use crate::yaml::{Mark, Node, Value};
use berth_units::config::check_key;
use berth_units::diag::quote;

/// `ssh_authorized_keys`.
pub(super) fn keys(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    take(sheet, &name_of(key), key.at, value);
}

/// `allow_public_ssh_keys`.
pub(super) fn allow_public_keys(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    match sheet.yes("allow_public_ssh_keys", value) {
        Some(true) => sheet.applied(key, ""),
        Some(false) => sheet.refuse(
            value.at,
            "allow_public_ssh_keys",
            "the keys that the cloud names are valid beside those named here; name none there",
        ),
        None => {}
    }
}

/// `users`: a list, of names and mappings; or a mapping from names to mappings; or names with commas.
pub(super) fn users(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    match &value.value {
        Value::Null | Value::Text(_) => sheet.no_op(key, USER_ONLY),
        Value::Map(pairs) => {
            for (name, value) in pairs {
                one(sheet, &format!("users: {}", name_of(name)), name.at, value);
            }
        }
        _ => {
            for item in items(sheet, "users", value) {
                let name = item.get("name").and_then(Node::text).unwrap_or("?");
                let path = format!("users: {}", shown(name, 32));
                one(sheet, &path, item.at, item);
            }
        }
    }
}

/// `user`: a name, or an entry of `users`.
pub(super) fn user(sheet: &mut Sheet<'_>, key: &Node, value: &Node) {
    one(sheet, "user", key.at, value);
}

const USER_ONLY: &str = "a machine has no users; keys of users are access keys";

fn one(sheet: &mut Sheet<'_>, path: &str, at: Mark, user: &Node) {
    match &user.value {
        // `default` and other names, which say nothing more.
        Value::Text(name) => {
            let name = shown(name, 32);
            let whole = path.replace('?', &name);
            sheet.row(at, whole, crate::translation::Verdict::NoOp, USER_ONLY);
        }
        Value::Null => {}
        Value::List(items) => {
            for item in items {
                one(sheet, path, item.at, item);
            }
        }
        _ => {
            for (entry, key, value) in sheet.pairs(path, user, USER) {
                if entry.name != "name" {
                    take(sheet, &format!("{path}: {}", entry.name), key.at, value);
                }
            }
        }
    }
}

/// Adds what of these keys can be used; names the others.
fn take(sheet: &mut Sheet<'_>, path: &str, at: Mark, value: &Node) {
    let mut unusable = Vec::new();
    let mut taken = 0;
    for (text, place) in sheet.texts(path, value) {
        // A text of several lines is several keys.
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match check(line) {
                Ok(()) => {
                    taken += 1;
                    add(sheet, line, place);
                }
                Err(why) => unusable.push((place, why)),
            }
        }
    }
    let words = match (taken, unusable.len()) {
        (_, 0) => String::new(),
        (taken, unusable) => format!("{taken} of {} keys can be used", taken + unusable),
    };
    sheet.row(at, path, crate::translation::Verdict::Applied, words);
    for (place, why) in unusable {
        sheet.row(place, path, crate::translation::Verdict::NoOp, format!("this key {why}"));
    }
}

fn check(line: &str) -> Result<(), String> {
    let first = line.split_ascii_whitespace().next().unwrap_or_default();
    // OpenSSH's options stand before the type; without them the key could do more than its owner meant.
    let options = first.contains('=') || first.contains(',') || OPTIONS.contains(&first);
    if options
        && line.split_ascii_whitespace().any(|word| word.starts_with("ssh-") || word.starts_with("ecdsa-"))
    {
        return Err(format!(
            "begins with options ({}), which are not kept; write it without them",
            quote(first)
        ));
    }
    check_key(line)
}

/// Options of sshd(8) that are one word.
const OPTIONS: [&str; 14] = [
    "restrict",
    "cert-authority",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-user-rc",
    "no-X11-forwarding",
    "no-touch-required",
    "verify-required",
    "agent-forwarding",
    "port-forwarding",
    "pty",
    "user-rc",
    "X11-forwarding",
];

fn add(sheet: &mut Sheet<'_>, line: &str, at: Mark) {
    let identity = |line: &str| line.split_ascii_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    let Some(keys) = sheet.toml.table("access", at).and_then(|access| access.list("keys", at)) else {
        return;
    };
    let known = |item: &Item| matches!(&item.value, Toml::Text(text) if identity(text) == identity(line));
    if !keys.iter().any(known) {
        keys.push(Item { at, value: Toml::Text(line.to_owned()) });
    }
}
