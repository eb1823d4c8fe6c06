//! What the image knows of the repository that updates come from.

use anyhow::{Context, Result, bail};
use berth_tuf::metadata::Root;
use berth_units::paths;

/// The files of the root that say whom to trust and where to ask, for [`crate::Options::files`]: path and content.
pub fn update_files(root: &[u8], address: &str) -> Result<Vec<(String, Vec<u8>)>> {
    Root::parse("root.json", root).context("not a root that a machine would trust")?;
    if !(address.starts_with("https://") || address.starts_with("http://")) {
        bail!("{address}: an update repository's address begins with https:// or http://");
    }
    let inside = |path: &str| path.trim_start_matches('/').to_owned();
    Ok(vec![
        (inside(paths::UPDATE_ROOT), root.to_vec()),
        (inside(paths::UPDATE_ADDRESS), format!("{address}\n").into_bytes()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_would_trust_is_refused() {
        let refused =
            |root: &str, address| format!("{:#}", update_files(root.as_bytes(), address).unwrap_err());
        assert!(refused("{}", "https://updates.example.org").contains("not a root"));
        assert!(refused("<html>", "https://updates.example.org").contains("not a root"));
    }
}
