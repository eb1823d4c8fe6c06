//! Bytes that others chose, made fit for a message.

use crate::limits;

/// A name as it may be printed: control characters escaped, what is not UTF-8 replaced, long ones cut.
pub fn name(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    let cut = bytes.get(..MOST).unwrap_or(bytes);
    let mut text = String::from_utf8_lossy(cut).escape_debug().to_string();
    if cut.len() < bytes.len() {
        text.push('…');
    }
    text
}

/// A message of bounded length.
pub fn bounded(mut text: String) -> String {
    if text.len() > limits::MESSAGE_BYTES {
        let end = (0..=limits::MESSAGE_BYTES).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// `a, b, c and 4 more`.
pub fn list(names: &[String]) -> String {
    let shown = names.get(..limits::NAMES_LISTED).unwrap_or(names).join(", ");
    match names.len().saturating_sub(limits::NAMES_LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printable_and_short() {
        assert_eq!(name(b"a\nb\x1b[2J\xff"), "a\\nb\\u{1b}[2J\u{fffd}");
        assert!(name(&[b'x'; 5000]).len() < 210);
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let long = bounded("ä".repeat(limits::MESSAGE_BYTES));
        assert!(long.len() <= limits::MESSAGE_BYTES + 3 && long.ends_with('…'));
    }

    #[test]
    fn long_lists_are_counted() {
        let names: Vec<String> = (0..7).map(|n| n.to_string()).collect();
        assert_eq!(list(&names), "0, 1, 2, 3, 4 and 2 more");
        assert_eq!(list(&names[..2]), "0, 1");
    }
}
