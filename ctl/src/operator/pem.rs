//! PEM (RFC 7468), as far as key files need it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The first block's label and bytes.
pub fn decode(text: &str) -> Option<(String, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    Some((label.to_owned(), STANDARD.decode(body).ok()?))
}

/// One block, lines of 64 characters.
pub fn encode(label: &str, bytes: &[u8]) -> String {
    let body = STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (at, character) in body.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text + &format!("\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for length in [0usize, 1, 47, 48, 49, 500] {
            let bytes = vec![7; length];
            let text = encode("X Y", &bytes);
            assert!(text.lines().all(|l| l.len() <= 64));
            assert_eq!(decode(&format!("before\n{text}after")), Some(("X Y".into(), bytes)));
        }
        assert_eq!(decode("-----BEGIN A-----\nAAAA\n-----END B-----\n"), None);
    }
}
