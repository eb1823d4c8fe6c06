//! The few bytes of an erofs superblock that tell which system a root holds (kernel, `fs/erofs/erofs_fs.h`).

/// Where the superblock starts.
const AT: usize = 1024;
const MAGIC: [u8; 4] = 0xE0F5_E1E2_u32.to_le_bytes();
/// Offset and length of the label within it.
const LABEL: (usize, usize) = (64, 16);

/// Bytes of a label at most: what `mkfs.erofs -L` takes.
pub const LABEL_BYTES: usize = 15;

/// The label of the file system whose first block this is: the version of a Berth root. `None` without a superblock, or
/// when its label is not printable ASCII.
pub fn label(block: &[u8]) -> Option<String> {
    let superblock = block.get(AT..)?;
    if !superblock.starts_with(&MAGIC) {
        return None;
    }
    let label = superblock.get(LABEL.0..LABEL.0 + LABEL.1)?;
    let label = label.split(|&byte| byte == 0).next()?;
    let text = std::str::from_utf8(label).ok()?;
    text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let mut block = vec![0; 4096];
        assert_eq!(label(&block), None);
        block[AT..AT + 4].copy_from_slice(&MAGIC);
        assert_eq!(label(&block).unwrap(), "");
        block[AT + 64..AT + 80].copy_from_slice(b"123456789abcdef\0");
        assert_eq!(label(&block).unwrap(), "123456789abcdef");
        block[AT + 70] = 0x1b;
        assert_eq!(label(&block), None);
        assert_eq!(label(&block[..1060]), None);
    }
}
