//! A unified kernel image, read: which sections it has, and what GRUB on BIOS needs of them.
//!
//! (UAPI.5; PE format as of Microsoft's specification.) Nothing of the file is trusted: whatever it says of places and
//! sizes is checked against the file's own size. `image` writes such files; machines that update themselves read them.

/// Bytes at a file's start in which its headers must lie.
pub const HEAD_BYTES: usize = 16 << 10;
/// Sections at most, as Windows' loader has it; a real UKI has about a dozen.
const SECTIONS: usize = 96;
/// Bytes of a section header.
pub const SECTION_HEADER: usize = 40;
/// Bytes of a command line at most: the kernel's own limit is 2,048 on x86.
pub const CMDLINE_BYTES: u64 = 4096;
/// Bytes of a disk's sector, in which GRUB counts.
const SECTOR: u64 = 512;
/// To what GRUB's environment blocks are padded, bytes.
const ENV_BYTES: usize = 1024;

/// Why a file is no UKI that a machine could start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// Not a PE file of the kind that UEFI starts.
    #[error("not a UKI: {0}")]
    Shape(&'static str),
    /// Its headers end beyond it, or beyond what is looked at.
    #[error("not a UKI: its headers are cut short at byte {0}")]
    Cut(usize),
    /// A section that reaches beyond the file.
    #[error("the UKI's section {0} reaches beyond its end")]
    Beyond(String),
    /// A section that is needed is not there.
    #[error("the UKI has no section {0}")]
    Missing(&'static str),
    /// A section that GRUB on BIOS cannot load.
    #[error("the UKI's section {0} does not start at a sector of 512 bytes, so a BIOS could not load it")]
    Unaligned(&'static str),
    /// A command line that GRUB's environment block cannot hold.
    #[error("the UKI's command line {0}")]
    Cmdline(&'static str),
}

/// Where the headers of a PE file lie in it.
#[derive(Debug, Clone, Copy)]
pub struct Pe {
    /// The COFF header.
    pub coff: usize,
    /// The optional header.
    pub optional: usize,
    /// The section headers, [`SECTION_HEADER`] bytes each.
    pub sections: usize,
    /// How many sections there are.
    pub count: usize,
}

/// A section of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `.linux`, …
    pub name: String,
    /// Where its data starts in the file, bytes.
    pub at: u64,
    /// Bytes of its data, without padding.
    pub bytes: u64,
}

impl Pe {
    /// Of a file that starts with `head`.
    pub fn parse(head: &[u8]) -> Result<Pe, UkiError> {
        if head.get(..2) != Some(b"MZ") {
            return Err(UkiError::Shape("no \"MZ\" at its start"));
        }
        let start = u32_at(head, 0x3c)? as usize;
        if start > HEAD_BYTES {
            return Err(UkiError::Cut(start));
        }
        if head.get(start..start + 4) != Some(b"PE\0\0") {
            return Err(UkiError::Shape("no \"PE\" where its header should be"));
        }
        let coff = start + 4;
        let optional = coff + 20;
        if u16_at(head, optional)? != 0x20b {
            return Err(UkiError::Shape("it is not for 64 bits"));
        }
        let sections = optional + usize::from(u16_at(head, coff + 16)?);
        let count = usize::from(u16_at(head, coff + 2)?);
        if count > SECTIONS {
            return Err(UkiError::Shape("it has more than 96 sections"));
        }
        Ok(Pe { coff, optional, sections, count })
    }
}

/// The sections of a file of `file_bytes` that starts with `head` (its first [`HEAD_BYTES`], or all of it).
pub fn sections(head: &[u8], file_bytes: u64) -> Result<Vec<Section>, UkiError> {
    let pe = Pe::parse(head)?;
    let section = |index: usize| {
        let header = pe.sections + index * SECTION_HEADER;
        let name = head.get(header..header + 8).ok_or(UkiError::Cut(header))?;
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        let (bytes, raw) = (u32_at(head, header + 8)?, u32_at(head, header + 16)?);
        let at = u64::from(u32_at(head, header + 20)?);
        // What is longer in memory than in the file is zero there (`.bss`).
        if at + u64::from(raw) > file_bytes {
            return Err(UkiError::Beyond(name.chars().filter(char::is_ascii_graphic).collect()));
        }
        Ok(Section { name, at, bytes: u64::from(if raw == 0 { 0 } else { bytes.min(raw) }) })
    };
    (0..pe.count).map(section).collect()
}

/// The section of that name.
pub fn find<'a>(sections: &'a [Section], name: &'static str) -> Result<&'a Section, UkiError> {
    let found = sections.iter().find(|section| section.name == name && section.bytes > 0);
    found.ok_or(UkiError::Missing(name))
}

/// The text of a `.cmdline` section, if GRUB and the kernel would both understand it as it stands.
pub fn cmdline(bytes: &[u8]) -> Result<&str, UkiError> {
    let text = std::str::from_utf8(bytes).map_err(|_| UkiError::Cmdline("is not text"))?;
    let text = text.trim_end_matches(['\0', '\n', ' ']);
    if text.is_empty() {
        return Err(UkiError::Cmdline("is empty"));
    }
    if text.len() as u64 > CMDLINE_BYTES {
        return Err(UkiError::Cmdline("is longer than 4,096 bytes"));
    }
    // A line end would end the variable, a backslash hide what follows it.
    if text.contains(|c: char| c.is_control() || c == '\\') {
        return Err(UkiError::Cmdline("has control characters or backslashes"));
    }
    Ok(text)
}

/// The root hash that a command line names.
pub fn root_hash(cmdline: &str) -> Option<crate::verity::RootHash> {
    // As the kernel has it, the last one counts.
    let word = cmdline.split_whitespace().filter_map(|word| word.strip_prefix("roothash=")).next_back()?;
    crate::verity::parse_root_hash(word)
}

/// GRUB's environment block for BIOS: kernel and initrd as block lists of the UKI, in sectors of 512 bytes, and the
/// command line. The same in either slot.
pub fn env(sections: &[Section], cmdline: &str) -> Result<String, UkiError> {
    let run = |name: &'static str| {
        let part = find(sections, name)?;
        if part.at % SECTOR != 0 {
            return Err(UkiError::Unaligned(name));
        }
        Ok(format!("{}+{}", part.at / SECTOR, part.bytes.div_ceil(SECTOR)))
    };
    let mut text = format!(
        "# GRUB Environment Block\nkernel={}\ninitrd={}\ncmdline={cmdline}\n",
        run(".linux")?,
        run(".initrd")?
    );
    let padding = text.len().next_multiple_of(ENV_BYTES) - text.len();
    text.push_str(&"#".repeat(padding));
    Ok(text)
}

fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], UkiError> {
    file.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(UkiError::Cut(at))
}

/// Two bytes of a file, little-endian.
pub fn u16_at(file: &[u8], at: usize) -> Result<u16, UkiError> {
    bytes_at(file, at).map(u16::from_le_bytes)
}

/// Four bytes of a file, little-endian.
pub fn u32_at(file: &[u8], at: usize) -> Result<u32, UkiError> {
    bytes_at(file, at).map(u32::from_le_bytes)
}

/// Entry point for fuzzing: takes any bytes, and must neither panic nor run away.
pub fn fuzz(bytes: &[u8]) {
    let Ok(all) = sections(&bytes[..bytes.len().min(HEAD_BYTES)], bytes.len() as u64) else { return };
    for section in &all {
        assert!(section.at + section.bytes <= bytes.len() as u64 || section.bytes == 0);
    }
    let Ok(part) = find(&all, ".cmdline") else { return };
    let (Ok(at), Ok(length)) = (usize::try_from(part.at), usize::try_from(part.bytes)) else { return };
    let Ok(text) = cmdline(&bytes[at..at + length]) else { return };
    if let Ok(env) = env(&all, text) {
        assert!(env.len() % ENV_BYTES == 0 && env.lines().count() == 5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with these sections: name, where, bytes.
    fn file(sections: &[(&str, u32, u32)]) -> Vec<u8> {
        let mut file = vec![0; 8192];
        file[..2].copy_from_slice(b"MZ");
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x3c, &64u32.to_le_bytes());
        put(64, b"PE\0\0");
        put(68 + 2, &u16::try_from(sections.len()).unwrap().to_le_bytes());
        put(68 + 16, &240u16.to_le_bytes());
        put(88, &0x20bu16.to_le_bytes());
        for (index, (name, at, bytes)) in sections.iter().enumerate() {
            let header = 88 + 240 + index * SECTION_HEADER;
            put(header, name.as_bytes());
            put(header + 8, &bytes.to_le_bytes());
            put(header + 16, &bytes.next_multiple_of(512).to_le_bytes());
            put(header + 20, &at.to_le_bytes());
        }
        file
    }

    const PARTS: [(&str, u32, u32); 3] =
        [(".cmdline", 1024, 7), (".initrd", 1536, 513), (".linux", 4096, 1000)];

    #[test]
    fn kernel_and_initrd_as_block_lists() {
        let file = file(&PARTS);
        let all = sections(&file, 8192).unwrap();
        assert_eq!(find(&all, ".initrd").unwrap(), &Section { name: ".initrd".into(), at: 1536, bytes: 513 });
        let env = env(&all, "quiet roothash=x").unwrap();
        assert_eq!(env.len(), 1024);
        assert!(
            env.starts_with("# GRUB Environment Block\nkernel=8+2\ninitrd=3+2\ncmdline=quiet roothash=x\n##")
        );
    }

    #[test]
    fn what_no_machine_could_start_is_refused() {
        let all = |parts: &[(&str, u32, u32)]| sections(&file(parts), 8192);
        assert_eq!(all(&[(".linux", 7680, 1024)]), Err(UkiError::Beyond(".linux".into())));
        assert_eq!(all(&[(".linux", u32::MAX, 1024)]), Err(UkiError::Beyond(".linux".into())));
        let env_of = |parts: &[(&str, u32, u32)]| env(&all(parts).unwrap(), "x");
        assert_eq!(env_of(&PARTS[..2]), Err(UkiError::Missing(".linux")));
        assert_eq!(env_of(&[(".linux", 4096, 1), (".initrd", 4096, 0)]), Err(UkiError::Missing(".initrd")));
        assert_eq!(env_of(&[(".linux", 4097, 1)]), Err(UkiError::Unaligned(".linux")));
        assert!(sections(&file(&PARTS)[..330], 8192).is_err());
        assert!(sections(b"MZ", 2).is_err() && sections(b"", 0).is_err());
        let mut far = file(&PARTS);
        far[0x3c..0x40].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(sections(&far, 8192), Err(UkiError::Cut(u32::MAX as usize)));
    }

    proptest::proptest! {
        #[test]
        fn nothing_of_a_file_is_trusted(
            noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 1..8),
            at in 0usize..1040,
            length in 0usize..8192,
        ) {
            let mut file = file(&PARTS);
            file[1024..1031].copy_from_slice(b"quiet x");
            file[at..at + noise.len()].copy_from_slice(&noise);
            fuzz(&file);
            fuzz(&file[..length]);
        }
    }

    #[test]
    fn command_lines() {
        assert_eq!(cmdline(b"quiet a=b\n\0\0"), Ok("quiet a=b"));
        for bad in [&b"\n"[..], b"\xff", b"a\nb", b"a\\b", &[b'x'; 5000]] {
            assert!(cmdline(bad).is_err());
        }
        let hash = "ab".repeat(32);
        assert_eq!(root_hash(&format!("roothash=1 x roothash={hash} y")), Some([0xab; 32]));
        assert_eq!(root_hash("xroothash=1"), None);
    }
}
