//! The bill of materials: SPDX 2.3, as JSON. Packages: Berth, what comes from Debian, and every crate in our programs.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bundle::{FileFacts, Inputs, Options};
use crate::{run, stamp, workspace};

/// The packages whose programs reach the machine.
const PROGRAMS: [&str; 2] = ["berth-init", "berth-ctl"];

/// The document.
pub fn document(inputs: &Inputs, options: &Options, files: &[FileFacts]) -> Result<Value> {
    let mut packages = vec![package("Package-berth", "berth", &options.version, "Apache-2.0", None)];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Package-berth")];
    for debian in inputs.debian.packages() {
        let id = format!("Package-deb-{}", id_part(&debian.real));
        let url = format!("pkg:deb/debian/{}@{}?arch=amd64", debian.real, purl_version(&debian.version));
        packages.push(package(&id, &debian.real, &debian.version, "NOASSERTION", Some(url)));
        relations.push(relation("SPDXRef-Package-berth", "CONTAINS", &format!("SPDXRef-{id}")));
    }
    for name in ["grub-efi-amd64-bin", "grub-pc-bin"] {
        let version = inputs.tools.version(name)?;
        let id = format!("Package-deb-{}", id_part(name));
        let url = format!("pkg:deb/debian/{name}@{}?arch=amd64", purl_version(&version));
        packages.push(package(&id, name, &version, "NOASSERTION", Some(url)));
        relations.push(relation("SPDXRef-Package-berth", "CONTAINS", &format!("SPDXRef-{id}")));
    }
    for (name, version, license) in crates()? {
        let id = format!("Package-crate-{}-{}", id_part(&name), id_part(&version));
        let url = format!("pkg:cargo/{name}@{}", purl_version(&version));
        packages.push(package(&id, &name, &version, &license, Some(url)));
        relations.push(relation("SPDXRef-Package-berth", "CONTAINS", &format!("SPDXRef-{id}")));
    }
    let mut entries = Vec::new();
    for file in files {
        let id = format!("File-{}-{}", file.place, id_part(&file.path));
        entries.push(json!({
            "SPDXID": format!("SPDXRef-{id}"),
            "fileName": format!("./{}{}", file.place, file.path),
            "checksums": [{"algorithm": "SHA256", "checksumValue": file.sha256}],
        }));
        relations.push(relation("SPDXRef-Package-berth", "CONTAINS", &format!("SPDXRef-{id}")));
    }
    let created = stamp::rfc3339(stamp::epoch()?);
    Ok(json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("berth-{}", options.version),
        "documentNamespace": format!("https://berth.example/spdx/berth-{}-{}", options.version, created),
        "creationInfo": {"created": created, "creators": [format!("Tool: berth-image-{}", stamp::VERSION)]},
        "packages": packages,
        "files": entries,
        "relationships": relations,
    }))
}

fn package(id: &str, name: &str, version: &str, license: &str, url: Option<String>) -> Value {
    let mut value = json!({
        "SPDXID": format!("SPDXRef-{id}"),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": license,
        "copyrightText": "NOASSERTION",
    });
    if let Some(url) = url {
        value["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url,
        }]);
    }
    value
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

/// SPDX identifiers know letters, digits, dots and dashes; anything else is spelt as its code, so that no two names
/// become the same.
fn id_part(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' => c.to_string(),
            '/' => "-".to_owned(),
            _ => format!("-{:x}-", u32::from(c)),
        })
        .collect()
}

fn purl_version(version: &str) -> String {
    version.replace('+', "%2B").replace(':', "%3A").replace('~', "%7E")
}

/// Name, version and licence of every crate linked into [`PROGRAMS`], sorted.
fn crates() -> Result<BTreeSet<(String, String, String)>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::repo()).args(["tree", "--edges=normal", "--prefix=none", "--no-dedupe"]);
    command.args(["--target=x86_64-unknown-linux-gnu", "--format={p}\t{l}"]);
    for program in PROGRAMS {
        command.args(["-p", program]);
    }
    let out = run::output("listing the programs' crates", &mut command)?;
    let mut crates = BTreeSet::new();
    for line in String::from_utf8_lossy(&out).lines() {
        let Some((package, license)) = line.split_once('\t') else { continue };
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else { continue };
        let version = version.strip_prefix('v').context("cargo tree: a version without v")?;
        let license = match license.trim() {
            "" => "NOASSERTION".to_owned(),
            text => text.replace('/', " OR "),
        };
        crates.insert((name.to_owned(), version.to_owned(), license));
    }
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_valid_and_distinct() {
        assert_eq!(id_part("/usr/lib/x_y+z"), "-usr-lib-x-5f-y-2b-z");
        assert_ne!(id_part("a_b"), id_part("a-b"));
    }
}
