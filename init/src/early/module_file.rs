//! One kernel module's file, on its way into the kernel.
//!
//! What the kernel does with a module besides linking it costs ten times as much as the linking: an RSA check of the
//! signature (30 million instructions), a search through all symbols for each function that could be traced
//! (quadratic: 300 million for ext4), a check of the type information for BPF. None of it is of use before the boot is
//! over: the files are verified already, by the root's verity tree or by the boot loader's hash of the initrd, and
//! nobody traces. So until [`super::settle`], the kernel gets the module without its signature and with these
//! sections empty; afterwards it wants the signature, and gets the file as it is.

use super::limits;
use crate::sys::early::{load_module, load_module_bytes};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Sections that are handed over empty. `__mcount_loc`: places that the function tracer could patch (they are
/// no-operations until it does). `.BTF`: types, for BPF programs. `.orc_*`: where each function's caller is found, which
/// the kernel sorts; without it a trace that goes through the module guesses.
const EMPTIED: [&[u8]; 6] = [
    b"__mcount_loc",
    b".rela__mcount_loc",
    b".BTF",
    b".orc_unwind",
    b".orc_unwind_ip",
    b".rela.orc_unwind_ip",
];
/// Sections looked at; the largest modules have some hundred.
const SECTIONS: usize = 4096;

/// Hands it over.
pub fn insert(path: &Path) -> io::Result<()> {
    let compressed = path.extension().is_none_or(|extension| extension != "ko");
    if !compressed {
        let mut bytes = read(path)?;
        let end = without_signature(&bytes).len();
        let module = &mut bytes[..end];
        empty_sections(module);
        match load_module_bytes(module) {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EKEYREJECTED | libc::ENOKEY)) => {}
            result => return result,
        }
    }
    load_module(&File::open(path)?, compressed)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > limits::MODULE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The module proper. A signed one ends in the signature, 12 bytes of which the last four are its length (big
/// endian), and a marker (the kernel's `struct module_signature`).
fn without_signature(bytes: &[u8]) -> &[u8] {
    const MARKER: &[u8] = b"~Module signature appended~\n";
    let Some(rest) = bytes.strip_suffix(MARKER) else { return bytes };
    let Some((rest, info)) = rest.split_last_chunk::<12>() else { return bytes };
    let length = u32::from_be_bytes([info[8], info[9], info[10], info[11]]);
    let end = usize::try_from(length).ok().and_then(|length| rest.len().checked_sub(length));
    end.map_or(bytes, |end| &rest[..end])
}

/// Sets the size of those sections to zero in the section headers (ELF-64, little endian). Anything unexpected is
/// left to the kernel, which checks all of it.
fn empty_sections(module: &mut [u8]) -> Option<()> {
    const HEADER: usize = 64;
    if !module.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let headers = number(module, 0x28, 8)?;
    let count = number(module, 0x3c, 2)?.min(SECTIONS);
    let names = number(module, 0x3e, 2)?;
    let names = number(module, headers.checked_add(names * HEADER)?.checked_add(0x18)?, 8)?;
    for index in 0..count {
        let header = headers.checked_add(index * HEADER)?;
        let name = names.checked_add(number(module, header, 4)?)?;
        let name = module.get(name..)?.split(|&byte| byte == 0).next()?;
        if EMPTIED.contains(&name) {
            module.get_mut(header + 0x20..header + 0x28)?.fill(0);
        }
    }
    Some(())
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(length)?)?;
    field.iter().rev().try_fold(0usize, |number, &byte| number.checked_mul(256)?.checked_add(byte.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_cut_off_and_nothing_else() {
        let mut signed = b"ELF code".to_vec();
        signed.extend_from_slice(b"SIG");
        signed.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        signed.extend_from_slice(b"~Module signature appended~\n");
        assert_eq!(without_signature(&signed), b"ELF code");
        assert_eq!(without_signature(b"ELF code"), b"ELF code");
        assert_eq!(without_signature(&signed[20..]), &signed[20..]);
    }

    /// Two sections, named `.BTF` and `.text`, and their names as a third.
    fn elf() -> Vec<u8> {
        let names = b"\0.BTF\0.text\0.shstrtab\0";
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file.extend_from_slice(names);
        file[0x28] = u8::try_from(file.len()).unwrap();
        file[0x3c] = 3;
        file[0x3e] = 2;
        for (name, offset) in [(1, 0), (6, 0), (12, 64)] {
            let mut header = [0; 64];
            header[0] = name;
            header[0x18] = offset;
            header[0x20] = 9;
            file.extend_from_slice(&header);
        }
        file
    }

    #[test]
    fn only_the_named_sections_are_emptied() {
        let mut file = elf();
        assert!(empty_sections(&mut file).is_some());
        let start = usize::from(file[0x28]);
        let sizes: Vec<u8> = (0..3).map(|i| file[start + i * 64 + 0x20]).collect();
        assert_eq!(sizes, [0, 9, 9]);
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(at in 0usize..300, bytes in proptest::collection::vec(0u8.., 0..40)) {
            let mut file = elf();
            let end = (at + bytes.len()).min(file.len());
            if at < end {
                file[at..end].copy_from_slice(&bytes[..end - at]);
            }
            let _ = empty_sections(&mut file);
            let _ = empty_sections(&mut bytes.clone());
        }
    }
}
