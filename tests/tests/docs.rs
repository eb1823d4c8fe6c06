//! Pages that are made from the code are what the code says. `BERTH_BLESS=1` rewrites them.

use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Every crate's module of limits, in the order of the page.
const LIMITS: [&str; 8] = [
    "units/src/limits.rs",
    "init/src/early/limits.rs",
    "init/src/run/limits.rs",
    "net/src/limits.rs",
    "meta/src/limits.rs",
    "store/src/limits.rs",
    "api/src/limits.rs",
    "image/src/limits.rs",
];

fn repo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// One row a constant: its name, its value as the code has it, its doc comment.
fn rows(source: &str) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    let mut doc = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
            continue;
        }
        let constant = line.strip_prefix("pub const ").or_else(|| line.strip_prefix("pub(crate) const "));
        if let Some(constant) = constant {
            let mut whole = constant.to_owned();
            while !whole.contains(';') {
                let Some(more) = lines.next() else { break };
                whole.push(' ');
                whole.push_str(more.trim());
            }
            if let Some((left, value)) = whole.split_once(" = ") {
                let name = left.split(':').next().unwrap_or(left).trim();
                let value = value.trim_end_matches(';').replace("Duration::", "");
                rows.push([name.to_owned(), value, doc.trim().replace('|', "\\|")]);
            }
        }
        doc.clear();
    }
    rows
}

#[test]
fn the_page_of_limits_is_what_the_code_says() -> Result<()> {
    let mut page = String::from(
        "# Limits\n\nNothing grows without a bound. Made from the `limits` module of each crate; a test compares the two.\n",
    );
    for file in LIMITS {
        let source = match std::fs::read_to_string(repo().join(file)) {
            Ok(source) => source,
            Err(error) => return Err(error).with_context(|| file.to_owned()),
        };
        let rows = rows(&source);
        assert!(!rows.is_empty(), "{file} has no limit");
        let _ = write!(page, "\n## {file}\n\n| limit | value | what and why |\n|---|---|---|\n");
        for [name, value, why] in rows {
            let _ = writeln!(page, "| `{name}` | `{value}` | {why} |");
        }
    }
    let path = repo().join("docs/limits.md");
    if std::env::var_os("BERTH_BLESS").is_some() {
        std::fs::write(&path, &page)?;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == page,
        "docs/limits.md is not what the code says; BERTH_BLESS=1 cargo test --test docs rewrites it"
    );
    Ok(())
}
