//! Paths inside an image, taken apart: the one place that decides what a name may be.
//!
//! A path is relative to the layer's root, whatever it looks like: a leading `/` or `./` and doubled slashes mean
//! nothing. `..` is refused, because no builder writes it and whoever does wants to leave the folder.

use crate::limits;
pub use crate::limits::{PATH_BYTES, PATH_DEPTH};

/// A path's parts, at least one unless it is the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parts(Vec<Vec<u8>>);

impl Parts {
    /// Takes `path` apart; the error says what is wrong with it.
    pub fn parse(path: &[u8]) -> Result<Self, String> {
        if path.len() > limits::PATH_BYTES {
            return Err(format!("a path of {} bytes; {} is the most", path.len(), limits::PATH_BYTES));
        }
        if path.is_empty() {
            return Err("an empty name".to_owned());
        }
        if path.contains(&0) {
            return Err("a name with a NUL byte".to_owned());
        }
        let mut parts = Vec::new();
        for part in path.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err("`..` in the path: it would lead out".to_owned()),
                long if long.len() > limits::NAME_BYTES => {
                    return Err(format!(
                        "a name of {} bytes; {} is the most",
                        long.len(),
                        limits::NAME_BYTES
                    ));
                }
                part => parts.push(part.to_vec()),
            }
        }
        if parts.len() > limits::PATH_DEPTH {
            return Err(format!("{} folders deep; {} is the most", parts.len(), limits::PATH_DEPTH));
        }
        Ok(Self(parts))
    }

    /// The entry `name` of a folder.
    pub fn child(folder: Vec<Vec<u8>>, name: &[u8]) -> Self {
        let mut parts = folder;
        parts.push(name.to_vec());
        Self(parts)
    }

    /// All parts, outermost first.
    pub fn all(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// The folders above, and the last part; `None` for the root.
    pub fn split(&self) -> Option<(&[Vec<u8>], &[u8])> {
        self.0.split_last().map(|(last, above)| (above, last.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joined(path: &[u8]) -> Vec<u8> {
        Parts::parse(path).unwrap().all().join(&b'/')
    }

    #[test]
    fn what_only_looks_different_is_the_same() {
        for path in [&b"a/b"[..], b"/a/b", b"./a/b", b"a//b/", b"a/./b/."] {
            assert_eq!(joined(path), b"a/b");
        }
        assert!(Parts::parse(b"./").unwrap().all().is_empty());
        assert_eq!(joined(b"\xff\xfe/...x"), b"\xff\xfe/...x");
    }

    #[test]
    fn what_would_leave_or_break_is_refused() {
        let long = vec![b'x'; 256];
        let deep = b"a/".repeat(129);
        for bad in [&b".."[..], b"../x", b"a/../b", b"/..", b"", b"a\0b", &long, &deep, &[b'/'; 5000]] {
            assert!(Parts::parse(bad).is_err(), "{}", crate::show::name(bad));
        }
    }

    proptest! {
        #[test]
        fn parts_are_plain_names(path in proptest::collection::vec(proptest::sample::select(b"./a\0".to_vec()), 0..40)) {
            if let Ok(parts) = Parts::parse(&path) {
                for part in parts.all() {
                    prop_assert!(!part.is_empty() && part != b"." && part != b".." && !part.contains(&b'/'));
                }
            }
        }
    }
}
