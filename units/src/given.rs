//! Descriptors that a system unit is started with: block devices, named in an environment variable.

use crate::sys;
use std::fs::File;
use std::io;

/// Their names and numbers: `vdb=5,sr0=6`.
pub const BLOCK_FDS: &str = "BERTH_BLOCK_FDS";

/// Opens what such a text names, at most so many; whoever cannot be opened comes with the reason.
pub fn block_devices(text: &str, most: usize) -> Vec<(String, io::Result<File>)> {
    let open = |item: &str| {
        let Some((name, fd)) = item.split_once('=') else {
            return (item.to_owned(), Err(io::Error::other("not of the form name=descriptor")));
        };
        let file = fd
            .parse()
            .map_err(|_| io::Error::other(format!("{fd:?} is not a descriptor")))
            .and_then(sys::inherited);
        (name.to_owned(), file)
    };
    text.split(',').filter(|item| !item.is_empty()).take(most).map(open).collect()
}

/// The text that this process was started with; empty when there is none.
pub fn block_fds() -> String {
    std::env::var(BLOCK_FDS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_descriptor_is_told_with_its_reason() {
        let all = block_devices("out=1,none=99999,rubbish,odd=x,,more=1", 4);
        let told: Vec<_> = all.iter().map(|(name, file)| (name.as_str(), file.is_ok())).collect();
        assert_eq!(told, [("out", true), ("none", false), ("rubbish", false), ("odd", false)]);
        assert!(block_devices("", 4).is_empty());
    }
}
