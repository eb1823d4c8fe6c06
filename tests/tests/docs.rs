//! Pages that are made from the code are what the code says. `BERTH_BLESS=1` rewrites them.

use anyhow::{Context, Result};
use berth_units::model::{NetworkMode, Origin, Unit};
use berth_units::schema;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Every crate's module of limits, in the order of the page.
const LIMITS: [&str; 14] = [
    "units/src/limits.rs",
    "init/src/early/limits.rs",
    "init/src/run/limits.rs",
    "net/src/limits.rs",
    "meta/src/limits.rs",
    "meta/cloud/src/limits.rs",
    "store/src/limits.rs",
    "api/src/limits.rs",
    "image/src/limits.rs",
    "updater/apply/src/limits.rs",
    "updater/tuf/src/limits.rs",
    "updater/fetch/src/limits.rs",
    "updater/repo/src/limits.rs",
    "updater/agent/src/limits.rs",
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

/// What stands in backquotes in a cell of a table.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A system unit's row of `docs/privileges.md` against what its file asks for: users, network, capabilities, what it may
/// read, what it may write. Nothing in the file may be missing in the row, nor the other way round.
fn is_told(unit: &Unit, row: &[&str]) {
    let cell = |n: usize| row.get(n).copied().unwrap_or("no such cell");
    let [users, network, capabilities, reads, writes] = [1, 2, 3, 4, 5].map(cell);
    let name = &unit.name;
    let system = unit.system.clone().unwrap_or_default();
    assert_eq!(users, if system.host_users { "the host's" } else { "its own" }, "{name}: users");
    let expected = match unit.network.mode {
        NetworkMode::Host => "the host's",
        NetworkMode::None => "none",
        NetworkMode::Bridge => "the bridge",
    };
    assert_eq!(network, expected, "{name}: network");
    match (system.capabilities.as_slice(), system.host_users) {
        ([], true) => assert_eq!(capabilities, "none", "{name}"),
        ([], false) => assert!(capabilities.starts_with("those of every container"), "{name}"),
        (some, _) => assert_eq!(quoted(capabilities), some.iter().cloned().collect(), "{name}"),
    }
    let bound = |writable: bool| {
        let mounts = system.mounts.iter().filter(move |mount| mount.writable == writable);
        mounts.map(|mount| mount.source.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(quoted(reads), bound(false), "{name}: may read");
    assert_eq!(reads.contains("disks that are not Berth's"), system.block_devices, "{name}: disks");
    assert_eq!(writes.contains("the slot that does not run, and the ESP"), system.other_slot, "{name}: slot");
    let mut writable = bound(true);
    if system.data {
        writable.insert(format!("/var/lib/{name}"));
    }
    assert_eq!(quoted(writes), writable, "{name}: may write");
    assert!(unit.container.read_only, "{name}: its root is not read-only");
    assert_eq!(unit.resources.memory.is_none(), name == "repair", "{name}: memory limit");
    assert_eq!(system.control, name != "repair", "{name}: control socket");
}

#[test]
fn the_page_of_privileges_is_what_the_unit_files_ask_for() -> Result<()> {
    let page = std::fs::read_to_string(repo().join("docs/privileges.md"))?;
    let table = page.split("\n## ").find(|part| part.starts_with("System units")).context("no table")?;
    let mut rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut files = vec![repo().join("init/src/early/repair.toml")];
    for file in std::fs::read_dir(repo().join("init/units"))? {
        files.push(file?.path());
    }
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str()).context("a unit without a name")?;
        let unit = schema::parse_unit("unit", name, &std::fs::read(&file)?, Origin::System)?;
        let cell = format!("`{name}`");
        let at = rows.iter().position(|row| row.first() == Some(&cell.as_str()));
        is_told(&unit, &rows.remove(at.with_context(|| format!("{name} has no row"))?));
    }
    assert!(rows.is_empty(), "rows without a unit: {rows:?}");
    Ok(())
}
