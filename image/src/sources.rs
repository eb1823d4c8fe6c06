//! Where packages come from: the host's own Debian mirrors, with the code name replaced.
//!
//! So the repository names no host, and a machine with a mirror of its own uses that. A host that is not Debian has
//! none: [`OVERRIDE_ENV`] names a file in the `.sources` format instead.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{host, run};

/// The release that tools and kernel come from.
pub const SUITE: &str = "trixie";
/// A file in deb822 format that is used instead of what the host's apt says.
pub const OVERRIDE_ENV: &str = "BERTH_APT_SOURCES";
/// Signs Debian's archives.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Debian's sources for [`SUITE`], in deb822 format.
pub fn sources() -> Result<String> {
    if let Some(path) = std::env::var_os(OVERRIDE_ENV).filter(|path| !path.is_empty()) {
        return std::fs::read_to_string(&path)
            .with_context(|| format!("{OVERRIDE_ENV}: could not read {}", path.display()));
    }
    let release = std::fs::read_to_string("/etc/os-release").context("could not read /etc/os-release")?;
    let host = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"'))
        .unwrap_or_default();
    let mut derived = ask(host);
    if derived.is_empty() && host::is_root() {
        // apt knows the sources' code names only from their lists, which a new machine has not fetched yet.
        let mut update = Command::new("apt-get");
        let _ = run::run("refreshing the host's package lists", update.arg("update"));
        derived = ask(host);
    }
    if derived.is_empty() {
        bail!(
            "no Debian package sources on this host to derive those of {SUITE} from; run \"apt-get update\", or set {OVERRIDE_ENV} to a file \
             with lines like \"Types: deb\", \"URIs: …\", \"Suites: {SUITE}\", \"Components: main\""
        );
    }
    Ok(derived)
}

/// Sources derived from what apt knows at the moment; empty when that is nothing.
fn ask(host: &str) -> String {
    let format = "$(REPO_URI) $(CODENAME) $(ORIGIN)";
    let targets = run::output(
        "asking apt for this host's package sources",
        Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]),
    );
    derive(&String::from_utf8_lossy(&targets.unwrap_or_default()), host)
}

/// From lines `URI CODENAME ORIGIN` of the host's release `host`, and its updates and security, the same of
/// [`SUITE`].
fn derive(targets: &str, host: &str) -> String {
    let mut suites: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in targets.lines() {
        let mut words = line.split_whitespace();
        let (Some(uri), Some(name), Some("Debian")) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Some(pocket) =
            name.strip_prefix(host).filter(|rest| ["", "-updates", "-security"].contains(rest))
        else {
            continue;
        };
        let suite = format!("{SUITE}{pocket}");
        let of_uri = suites.entry(uri).or_default();
        if !host.is_empty() && !of_uri.contains(&suite) {
            of_uri.push(suite);
        }
    }
    suites.retain(|_, names| !names.is_empty());
    if !suites.values().flatten().any(|suite| suite == SUITE) {
        return String::new();
    }
    let stanzas: Vec<String> = suites
        .iter()
        .map(|(uri, names)| {
            format!(
                "Types: deb\nURIs: {uri}\nSuites: {}\nComponents: main\nSigned-By: {KEYRING}\n",
                names.join(" ")
            )
        })
        .collect();
    stanzas.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_mirror_is_kept() {
        let targets = "http://mirror.test/debian/ bookworm Debian\n\
                       http://mirror.test/debian/ bookworm-updates Debian\n\
                       http://mirror.test/debian/ bookworm-backports Debian\n\
                       http://other.test/apt/ bookworm Somebody\n\
                       http://other.test/pgdg/ bookworm-pgdg Debian\n\
                       http://mirror.test/debian-security/ bookworm-security Debian\n";
        assert_eq!(
            derive(targets, "bookworm"),
            format!(
                "Types: deb\nURIs: http://mirror.test/debian-security/\nSuites: trixie-security\nComponents: main\n\
                 Signed-By: {KEYRING}\n\nTypes: deb\nURIs: http://mirror.test/debian/\nSuites: trixie \
                 trixie-updates\nComponents: main\nSigned-By: {KEYRING}\n"
            )
        );
    }

    #[test]
    fn a_host_without_debian_yields_nothing() {
        assert_eq!(derive("http://u.test/ noble Ubuntu\n", "noble"), "");
        assert_eq!(derive("http://mirror.test/ bookworm Debian\n", ""), "");
        assert_eq!(derive("", "bookworm"), "");
    }
}
