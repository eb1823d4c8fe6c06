//! QEMU's firmware configuration device: `-fw_cfg name=opt/berth/config,file=berth.toml`.

use crate::limits;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Where the kernel's qemu_fw_cfg module shows the file.
pub const ENTRY: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/berth/config";

/// Reads the entry: `None` if there is none. Its size is looked at before any of it is read.
pub fn read(entry: &Path) -> Result<Option<Vec<u8>>, String> {
    let size = match std::fs::read_to_string(entry.join("size")) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("its size could not be read: {e}")),
    };
    let size: u64 = size.trim().parse().map_err(|_| format!("its size is {:?}", size.trim()))?;
    if size > limits::FW_CFG_BYTES {
        return Err(format!(
            "it has {size} bytes; at most {} are read this way, gzip it or use a cidata volume",
            limits::FW_CFG_BYTES
        ));
    }
    let mut bytes = Vec::new();
    File::open(entry.join("raw"))
        .and_then(|file| file.take(limits::FW_CFG_BYTES).read_to_end(&mut bytes))
        .map_err(|e| format!("it could not be read: {e}"))?;
    if bytes.len() as u64 != size {
        return Err(format!("it has {size} bytes, but only {} could be read", bytes.len()));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_decides_before_anything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(read(dir.path()), Ok(None));
        write("size", "10\n");
        write("raw", "format = 1");
        assert_eq!(read(dir.path()), Ok(Some(b"format = 1".to_vec())));
        write("raw", "format");
        assert!(read(dir.path()).unwrap_err().contains("only 6"));
        for (size, why) in [("65537", "65537 bytes"), ("ten", "\"ten\""), ("-1", "\"-1\"")] {
            write("size", size);
            assert!(read(dir.path()).unwrap_err().contains(why));
        }
    }
}
