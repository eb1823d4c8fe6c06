//! For tests: files in the repository that are generated from the code.

use std::path::Path;

/// The file at `path` (from the repository's root) is `text`. With `BERTH_BLESS` set, it is written instead.
pub(crate) fn check(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("BERTH_BLESS").is_some() {
        std::fs::write(&file, text).expect("file can be written");
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == text,
        "{path} is not what the code says; run the tests once with BERTH_BLESS=1 and look at the diff"
    );
}
