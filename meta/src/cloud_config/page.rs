//! `docs/cloud-config.md`: what is said by hand, and the table of keys.

use super::KEYS;
use crate::translation::{Key, Verdict};
use std::fmt::Write as _;

const OPENING: &str = include_str!("page/opening.md");

/// The page.
pub fn page() -> String {
    let mut out = OPENING.to_owned();
    for (verdict, title, head, text) in [
        (
            Verdict::Applied,
            "Applied",
            "becomes",
            "What is behind a key in parentheses is a key of its mapping.",
        ),
        (Verdict::NoOp, "No-op", "because", "These do nothing, and a note says so."),
        (
            Verdict::Refused,
            "Refused",
            "instead",
            "One of these refuses the document, unless its value asks for nothing (`packages: []`, `package_update: false`).",
        ),
    ] {
        let _ = write!(out, "\n## {title}\n\n{text}\n\n| key | {head} |\n|---|---|\n");
        rows(&mut out, verdict, "", KEYS);
    }
    out
}

/// Keys with the same words are one row.
fn rows(out: &mut String, verdict: Verdict, of: &str, keys: &[Key]) {
    let mut done: Vec<&str> = Vec::new();
    let of_this = || keys.iter().filter(|key| key.verdict() == verdict);
    for key in of_this() {
        if !done.contains(&key.doc) {
            done.push(key.doc);
            let alike: Vec<String> = of_this()
                .filter(|other| other.doc == key.doc && (other.below.is_empty() || std::ptr::eq(*other, key)))
                .map(
                    |key| {
                        if of.is_empty() {
                            format!("`{}`", key.name)
                        } else {
                            format!("({of}) `{}`", key.name)
                        }
                    },
                )
                .collect();
            let _ = writeln!(out, "| {} | {} |", alike.join(", "), cell(key.doc));
        }
    }
    let mut seen: Vec<*const Key> = Vec::new();
    for key in keys.iter().filter(|key| !key.below.is_empty()) {
        if !seen.contains(&key.below.as_ptr()) {
            seen.push(key.below.as_ptr());
            rows(out, verdict, key.name, key.below);
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
