//! Memory in which a child leaves for PID 1 what is too long for its answer.

use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};

/// Both have it, from the fork on.
#[derive(Debug)]
pub struct Passed(File);

impl Passed {
    /// Nothing yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self(memfd_create("passed", MFdFlags::MFD_CLOEXEC)?.into()))
    }

    /// In the child: leaves this, behind what is there.
    pub fn put(&self, bytes: &[u8]) -> Result<(), String> {
        (&self.0).write_all(bytes).map_err(|error| error.to_string())
    }

    /// When the child has ended: at most so many bytes of what it left.
    pub fn read(mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.rewind()?;
        self.0.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::child;
    use std::time::Duration;

    #[test]
    fn what_a_child_leaves_is_read() {
        let passed = Passed::new().unwrap();
        let work = || passed.put(b"a long ").and_then(|()| passed.put(b"text")).map(|()| String::new());
        child::run(Duration::from_secs(10), work).unwrap();
        assert_eq!(passed.read(9).unwrap(), b"a long te");
    }
}
