//! Console lines of Berth that the harness waits for.

/// The API listens; the fingerprint of the machine's key follows.
pub const API_KEY: &str = "key sha256:";
/// The boot was judged healthy.
pub const CONFIRMED: &str = "everything healthy at";

/// The fingerprint in an [`API_KEY`] line: `sha256:…`.
pub fn fingerprint(line: &str) -> Option<&str> {
    line.split_whitespace().find(|word| word.starts_with("sha256:"))
}
