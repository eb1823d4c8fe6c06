//! Names that others choose, and what becomes of them in addresses and file names.

use crate::error::Error;
use crate::{limits, metadata::Hashes};
use std::fmt::Write;

/// The four roles that every repository has.
pub const TOP_LEVEL: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

/// Percent-encoding of all but letters, digits, `_`, `.`, `-` and `~` (RFC 3986's unreserved characters): what comes
/// out is one part of a path, in addresses and file systems alike.
pub fn encode(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// The file of a role's metadata, without a version.
pub fn role_file(role: &str) -> String {
    format!("{}.json", encode(role))
}

/// The file of one version of a role's metadata, as a repository with consistent snapshots has it.
pub fn versioned_file(version: u64, role: &str) -> String {
    format!("{version}.{}.json", encode(role))
}

/// What is wrong with the name of a delegated role: it must not be one of the four, and its file must have a name.
pub fn check_role(role: &str) -> Result<(), String> {
    if TOP_LEVEL.contains(&role) {
        return Err(format!("delegates to a role called {role:?}, which the root alone defines"));
    }
    if role.is_empty() || encode(role).len() > limits::ROLE_NAME_BYTES {
        return Err(format!("delegates to a role whose name has {} bytes", role.len()));
    }
    Ok(())
}

/// What is wrong with the name of a target: it must be a path that leads downwards.
pub fn check_target(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > limits::TARGET_NAME_BYTES {
        return Err("empty, or too long");
    }
    if name.chars().any(|character| character.is_control() || character == '\\') {
        return Err("control characters and backslashes are not taken");
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it leads out of the repository, or is not written the shortest way");
    }
    Ok(())
}

/// Where a target's content is, below the repository's folder of targets; each part encoded.
pub fn target_path(name: &str, consistent: bool, hashes: &Hashes) -> Result<String, Error> {
    let wrong = |why: &str| Error::Name { name: name.to_owned(), why: why.to_owned() };
    check_target(name).map_err(wrong)?;
    let encoded: Vec<String> = name.split('/').map(encode).collect();
    let mut path = encoded.join("/");
    if consistent {
        let hash = hashes.prefix().ok_or_else(|| wrong("it has no hash of a kind that is known here"))?;
        path.insert_str(path.rfind('/').map_or(0, |at| at + 1), &format!("{hash}."));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roles_name_never_leaves_its_folder() {
        assert_eq!(role_file("../delegated"), "..%2Fdelegated.json");
        assert_eq!(role_file("/a?#é"), "%2Fa%3F%23%C3%A9.json");
        assert_eq!(versioned_file(3, "a b"), "3.a%20b.json");
        assert!(check_role("..").is_ok() && check_role("a/b\0").is_ok());
        for role in TOP_LEVEL {
            assert!(check_role(role).is_err());
        }
        assert!(check_role("").is_err());
        assert!(check_role(&"a".repeat(limits::ROLE_NAME_BYTES)).is_ok());
        assert!(check_role(&"/".repeat(limits::ROLE_NAME_BYTES / 3 + 1)).is_err());
    }

    #[test]
    fn a_targets_name_leads_downwards() {
        for name in ["a", "a/b.efi", "...", "a b", "ü/x"] {
            assert_eq!(check_target(name), Ok(()), "{name}");
        }
        for name in
            ["", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/..", ".", "./a", "a\\..\\b", "a\0", "a\nb"]
        {
            assert!(check_target(name).is_err(), "{name}");
        }
        assert!(check_target(&"a".repeat(limits::TARGET_NAME_BYTES + 1)).is_err());
    }

    #[test]
    fn a_targets_address() {
        let hashes = Hashes { sha256: Some([0xab; 32]), sha512: None };
        assert_eq!(target_path("a/b c", false, &hashes).unwrap(), "a/b%20c");
        assert_eq!(target_path("a/b c", true, &hashes).unwrap(), format!("a/{}.b%20c", "ab".repeat(32)));
        assert_eq!(target_path("b", true, &hashes).unwrap(), format!("{}.b", "ab".repeat(32)));
        assert!(target_path("../b", true, &hashes).is_err());
        assert!(target_path("b", true, &Hashes::default()).is_err());
    }
}
