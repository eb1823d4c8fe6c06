//! One kernel module's file, on its way into the kernel.
//!
//! What the kernel does with a module besides linking it costs ten times as much as the linking: an RSA check of the
//! signature (30 million instructions), a search through all symbols for each function that could be traced
//! (quadratic: 300 million for ext4), sorting, copying. None of it is of use before the boot is over: the files are
//! verified already, by the root's verity tree or by the boot loader's hash of the initrd, and nobody traces. So until
//! [`super::settle`], the kernel gets the module without its signature and without the sections that only serve this
//! ([`LEFT_OUT`]), a third of most files; afterwards it wants the signature, and gets the file as it is.

use super::limits;
use crate::sys::early::{load_module, load_module_bytes};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Sections that are left out.
///
/// * `__mcount_loc`: places that the function tracer could patch (they are no-operations until it does), and
///   `__patchable_function_entries`, the room before each function.
/// * `.BTF`: types, for BPF programs.
/// * `.orc_*`: where each function's caller is found; without it a trace that goes through the module guesses.
/// * `.call_sites`: for `retbleed=stuff`, which our command line does not ask for.
const LEFT_OUT: [&[u8]; 10] = [
    b"__mcount_loc",
    b".rela__mcount_loc",
    b"__patchable_function_entries",
    b".rela__patchable_function_entries",
    b".BTF",
    b".orc_unwind",
    b".orc_unwind_ip",
    b".rela.orc_unwind_ip",
    b".call_sites",
    b".rela.call_sites",
];
/// Sections at most; the largest modules have some hundred.
const SECTIONS: usize = 4096;
/// Bytes of an ELF-64 file header, and of a section header.
const HEADER: usize = 64;
/// `SHT_NOBITS`: a section without content in the file.
const NO_BITS: usize = 8;

/// Hands it over.
pub fn insert(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let compressed = path.extension().is_none_or(|extension| extension != "ko");
    if !compressed && let Some(module) = slim(&file)? {
        match load_module_bytes(&module) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EPERM | libc::EKEYREJECTED | libc::ENOKEY | libc::ENOEXEC)
                ) => {}
            result => return result,
        }
    }
    load_module(&file, compressed)
}

/// The module without what is left out. `None` for anything unexpected, which is left to the kernel.
fn slim(file: &File) -> io::Result<Option<Vec<u8>>> {
    let length = file.metadata()?.len();
    if length > limits::MODULE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let append = |module: &mut Vec<u8>, at: usize, count: usize| {
        let end = at.checked_add(count).ok_or(Trouble::Unexpected)?;
        if end as u64 > length {
            return Err(Trouble::Unexpected);
        }
        let start = module.len();
        module.resize(start + count, 0);
        file.read_exact_at(&mut module[start..], at as u64).map_err(Trouble::Read)
    };
    match pack(append) {
        Ok(module) => Ok(Some(module)),
        Err(Trouble::Unexpected) => Ok(None),
        Err(Trouble::Read(error)) => Err(error),
    }
}

/// The same for whoever builds an initrd, from which modules are never loaded any other way. `None` if it is no module as
/// we know them.
pub fn slimmed(file: &[u8]) -> Option<Vec<u8>> {
    let append = |module: &mut Vec<u8>, at: usize, count: usize| {
        let bytes = at.checked_add(count).and_then(|end| file.get(at..end));
        module.extend_from_slice(bytes.ok_or(Trouble::Unexpected)?);
        Ok(())
    };
    pack(append).ok()
}

/// Why a file is not packed.
#[derive(Debug)]
enum Trouble {
    Read(io::Error),
    /// It is no module as we know them.
    Unexpected,
}

/// The same file header, the content of the sections that stay, one behind the other, and the section headers (ELF-64,
/// little endian). `append` appends so many bytes of the file from there on.
fn pack(append: impl Fn(&mut Vec<u8>, usize, usize) -> Result<(), Trouble>) -> Result<Vec<u8>, Trouble> {
    let get = |bytes: &[u8], at, length| number(bytes, at, length).ok_or(Trouble::Unexpected);
    let mut module = Vec::new();
    append(&mut module, 0, HEADER)?;
    let (count, names) = (get(&module, 0x3c, 2)?, get(&module, 0x3e, 2)?);
    if !module.starts_with(b"\x7fELF\x02\x01") || count > SECTIONS || names >= count {
        return Err(Trouble::Unexpected);
    }
    let mut headers = Vec::new();
    append(&mut headers, get(&module, 0x28, 8)?, count * HEADER)?;
    let names = &headers[names * HEADER..];
    let mut text = Vec::new();
    append(&mut text, get(names, 0x18, 8)?, get(names, 0x20, 8)?)?;

    for header in headers.chunks_exact_mut(HEADER) {
        let name = text.get(get(header, 0, 4)?..).ok_or(Trouble::Unexpected)?;
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        let (at, size) = (get(header, 0x18, 8)?, get(header, 0x20, 8)?);
        if LEFT_OUT.contains(&name) {
            // The kernel wants even nothing to lie within the file.
            header[0x18..0x28].fill(0);
        } else if get(header, 4, 4)? != NO_BITS {
            align(&mut module);
            header[0x18..0x20].copy_from_slice(&module.len().to_le_bytes());
            append(&mut module, at, size)?;
        }
    }
    align(&mut module);
    let table = module.len();
    module[0x28..0x30].copy_from_slice(&table.to_le_bytes());
    module.append(&mut headers);
    Ok(module)
}

fn align(module: &mut Vec<u8>) {
    module.resize(module.len().next_multiple_of(16), 0);
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(length)?)?;
    field.iter().rev().try_fold(0usize, |number, &byte| number.checked_mul(256)?.checked_add(byte.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[u8] = b"\0.BTF\0.text\0.bss\0.shstrtab\0";

    /// `.BTF`, `.text`, `.bss` and the names; a signature behind.
    fn elf() -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file.extend_from_slice(NAMES);
        file.extend_from_slice(b"typesCODE!");
        let types = file.len() - 10;
        file[0x28] = u8::try_from(file.len()).unwrap();
        file[0x3c] = 4;
        file[0x3e] = 3;
        for (name, kind, offset, size) in
            [(1, 1, types, 5), (6, 1, types + 5, 5), (12, 8, types, 200), (17, 3, 64, NAMES.len())]
        {
            let mut header = [0; 64];
            header[0] = name;
            header[4] = kind;
            header[0x18] = u8::try_from(offset).unwrap();
            header[0x20] = u8::try_from(size).unwrap();
            file.extend_from_slice(&header);
        }
        file.extend_from_slice(b"SIG~Module signature appended~\n");
        file
    }

    fn content(module: &[u8], index: usize) -> &[u8] {
        let header = number(module, 0x28, 8).unwrap() + index * HEADER;
        let at = number(module, header + 0x18, 8).unwrap();
        &module[at..at + number(module, header + 0x20, 8).unwrap()]
    }

    #[test]
    fn what_is_named_goes_and_the_signature_and_nothing_else() {
        let module = slimmed(&elf()).unwrap();
        assert_eq!(content(&module, 0), b"");
        assert_eq!(content(&module, 1), b"CODE!");
        assert_eq!(content(&module, 3), NAMES);
        let bss = number(&module, 0x28, 8).unwrap() + 2 * HEADER;
        assert_eq!(number(&module, bss + 0x20, 8), Some(200));
        for gone in [&b"types"[..], b"SIG"] {
            assert!(!module.windows(gone.len()).any(|bytes| bytes == gone));
        }
    }

    #[test]
    fn what_is_no_module_is_left_to_the_kernel() {
        for file in [&b""[..], b"#!/bin/sh", &elf()[..200], &[0; 64]] {
            assert_eq!(slimmed(file), None);
        }
        let mut lying = elf();
        let headers = usize::from(lying[0x28]);
        lying[headers + HEADER + 0x27] = 0xff;
        assert_eq!(slimmed(&lying), None);
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(at in 0usize..400, bytes in proptest::collection::vec(0u8.., 0..40)) {
            let mut file = elf();
            let end = (at + bytes.len()).min(file.len());
            if at < end {
                file[at..end].copy_from_slice(&bytes[..end - at]);
            }
            let _ = slimmed(&file);
            let _ = slimmed(&bytes);
        }
    }
}
