//! A text too long for a packet rides along as a memory file that cannot change any more.

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;

/// Bytes in a memory file that nobody, not even this process, can change any more. `name` is for `/proc`.
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// All of such a file, at most so many bytes. Reading one never waits; another kind of file is refused, and one that can
/// still be changed.
pub fn read(fd: OwnedFd, most: usize) -> io::Result<Vec<u8>> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut file = File::from(fd);
    let seals =
        fcntl(&file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate).unwrap_or(SealFlag::empty());
    if !seals.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK) {
        return Err(invalid("is not sealed".into()));
    }
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most { Err(invalid(format!("has more than {most} bytes"))) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_sealed_is_read() {
        assert_eq!(read(sealed("x", b"format = 1").unwrap(), 10).unwrap(), b"format = 1");
        let open = File::from(memfd_create("x", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        (&open).write_all(b"format = 1").unwrap();
        assert_eq!(read(open.into(), 10).unwrap_err().to_string(), "is not sealed");
        let (pipe, _other) = std::io::pipe().unwrap();
        assert_eq!(read(pipe.into(), 10).unwrap_err().to_string(), "is not sealed");
        let long = read(sealed("x", b"format = 10").unwrap(), 10).unwrap_err();
        assert_eq!(long.to_string(), "has more than 10 bytes");
    }
}
