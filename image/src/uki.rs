//! A unified kernel image: systemd's stub with our sections appended.
//!
//! (UAPI.5; PE format as of Microsoft's specification.) Every section starts and ends at a multiple of 512 bytes in
//! the file, so GRUB on BIOS can load kernel and initrd out of the same file by block lists ([`Placed`]).

use anyhow::{Result, bail};

/// A section of the finished file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// `.linux`, …
    pub name: String,
    /// Where its data starts in the file, in bytes; a multiple of 512.
    pub at: usize,
    /// Bytes of its data, without padding.
    pub bytes: usize,
}

/// One section to be added.
pub struct Section<'a> {
    /// At most 8 bytes.
    pub name: &'a str,
    /// Its content.
    pub data: &'a [u8],
}

/// Bytes of a section header.
const HEADER: usize = 40;
/// Alignment that we insist on, which is the stub's own.
const FILE_ALIGN: usize = 512;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const DATA_FLAGS: u32 = 0x4000_0040;
/// `IMAGE_SCN_CNT_CODE | IMAGE_SCN_MEM_READ`.
const CODE_FLAGS: u32 = 0x4000_0020;
/// `IMAGE_DLLCHARACTERISTICS_NX_COMPAT`.
const NX_COMPAT: u16 = 0x0100;

/// Where the fields that we need lie in a PE file.
struct Pe {
    coff: usize,
    optional: usize,
    sections: usize,
    count: usize,
}

impl Pe {
    fn parse(file: &[u8]) -> Result<Pe> {
        if file.get(..2) != Some(b"MZ") {
            bail!("not a PE file (no \"MZ\")");
        }
        let start = get_u32(file, 0x3c)? as usize;
        if file.get(start..start + 4) != Some(b"PE\0\0") {
            bail!("not a PE file (no \"PE\")");
        }
        let coff = start + 4;
        let optional = coff + 20;
        if get_u16(file, optional)? != 0x20b {
            bail!("not a 64-bit PE file");
        }
        let sections = optional + usize::from(get_u16(file, coff + 16)?);
        let count = usize::from(get_u16(file, coff + 2)?);
        Ok(Pe { coff, optional, sections, count })
    }

    fn characteristics(&self, file: &[u8]) -> Result<u16> {
        get_u16(file, self.optional + 70)
    }
}

/// Appends `sections` to `stub`, in this order.
pub fn build(stub: &[u8], sections: &[Section<'_>]) -> Result<(Vec<u8>, Vec<Placed>)> {
    let pe = Pe::parse(stub)?;
    let mut file = stub.to_vec();
    file.resize(file.len().next_multiple_of(FILE_ALIGN), 0);
    if get_u32(stub, pe.optional + 36)? as usize != FILE_ALIGN {
        bail!("the stub's sections are not aligned to {FILE_ALIGN} bytes");
    }
    let align = get_u32(stub, pe.optional + 32)?;
    let headers = get_u32(stub, pe.optional + 60)? as usize;
    let end = pe.sections + (pe.count + sections.len()) * HEADER;
    if end > headers {
        bail!("the stub has no room for {} more section headers", sections.len());
    }
    let mut address = next_address(&file, &pe, align)?;
    let mut placed = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let size = u32::try_from(section.data.len())?;
        let at = file.len();
        file.extend_from_slice(section.data);
        file.resize(file.len().next_multiple_of(FILE_ALIGN), 0);
        let padded = u32::try_from(file.len() - at)?;

        let mut header = [0; HEADER];
        if section.name.len() > 8 {
            bail!("section name {:?} is longer than 8 bytes", section.name);
        }
        header[..section.name.len()].copy_from_slice(section.name.as_bytes());
        let flags = if section.name == ".linux" { CODE_FLAGS } else { DATA_FLAGS };
        for (field, value) in [(8, size), (12, address), (16, padded), (20, u32::try_from(at)?), (36, flags)]
        {
            header[field..field + 4].copy_from_slice(&value.to_le_bytes());
        }
        let slot = pe.sections + (pe.count + index) * HEADER;
        file[slot..slot + HEADER].copy_from_slice(&header);
        address = (address + size.max(1)).next_multiple_of(align);
        placed.push(Placed { name: section.name.to_owned(), at, bytes: section.data.len() });

        // Firmware that enforces it must see what the kernel inside really supports.
        if section.name == ".linux" {
            let inner = Pe::parse(section.data)?;
            if inner.characteristics(section.data)? & NX_COMPAT == 0 {
                let outer = pe.characteristics(&file)? & !NX_COMPAT;
                put(&mut file, pe.optional + 70, &outer.to_le_bytes());
            }
        }
    }
    let count = u16::try_from(pe.count + sections.len())?;
    put(&mut file, pe.coff + 2, &count.to_le_bytes());
    put(&mut file, pe.optional + 56, &address.to_le_bytes()); // SizeOfImage
    put(&mut file, pe.optional + 64, &[0; 4]); // CheckSum: unused by UEFI
    let initialised = placed.iter().map(|p| p.bytes.next_multiple_of(FILE_ALIGN)).sum::<usize>();
    let total = get_u32(&file, pe.optional + 8)?.wrapping_add(u32::try_from(initialised)?);
    put(&mut file, pe.optional + 8, &total.to_le_bytes());
    Ok((file, placed))
}

/// The first free address behind the existing sections.
fn next_address(file: &[u8], pe: &Pe, align: u32) -> Result<u32> {
    let mut end = 0;
    for index in 0..pe.count {
        let header = pe.sections + index * HEADER;
        end = end.max(get_u32(file, header + 12)?.saturating_add(get_u32(file, header + 8)?));
    }
    if align == 0 || end > u32::MAX / 2 {
        bail!("the stub's section table is damaged");
    }
    Ok(end.next_multiple_of(align))
}

/// The sections of a finished file: name, place, bytes. Used by `inspect` and tests.
pub fn sections(file: &[u8]) -> Result<Vec<Placed>> {
    let pe = Pe::parse(file)?;
    (0..pe.count)
        .map(|index| {
            let header = pe.sections + index * HEADER;
            let Some(name) = file.get(header..header + 8) else { bail!("the section table is cut short") };
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            Ok(Placed {
                name,
                at: get_u32(file, header + 20)? as usize,
                bytes: get_u32(file, header + 8)? as usize,
            })
        })
        .collect()
}

fn get<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    match file.get(at..).and_then(|rest| rest.first_chunk::<N>()) {
        Some(bytes) => Ok(*bytes),
        None => bail!("the PE file is cut short at byte {at}"),
    }
}

fn get_u16(file: &[u8], at: usize) -> Result<u16> {
    get(file, at).map(u16::from_le_bytes)
}

fn get_u32(file: &[u8], at: usize) -> Result<u32> {
    get(file, at).map(u32::from_le_bytes)
}

/// Only called where [`get`] has read before.
fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = file.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest thing that the parser takes: one section, room for more.
    fn stub() -> Vec<u8> {
        let mut file = vec![0; 1024];
        file[..2].copy_from_slice(b"MZ");
        put(&mut file, 0x3c, &64u32.to_le_bytes());
        put(&mut file, 64, b"PE\0\0");
        put(&mut file, 68 + 2, &1u16.to_le_bytes());
        put(&mut file, 68 + 16, &240u16.to_le_bytes());
        let optional = 88;
        put(&mut file, optional, &0x20bu16.to_le_bytes());
        put(&mut file, optional + 32, &4096u32.to_le_bytes());
        put(&mut file, optional + 36, &512u32.to_le_bytes());
        put(&mut file, optional + 60, &1024u32.to_le_bytes());
        put(&mut file, optional + 70, &NX_COMPAT.to_le_bytes());
        let header = optional + 240;
        put(&mut file, header, b".text");
        put(&mut file, header + 8, &100u32.to_le_bytes());
        put(&mut file, header + 12, &4096u32.to_le_bytes());
        file.extend_from_slice(&[0x90; 300]);
        file
    }

    #[test]
    fn sections_are_whole_sectors_at_whole_pages() {
        let kernel = {
            let mut kernel = stub();
            put(&mut kernel, 88 + 70, &[0, 0]);
            kernel
        };
        let cmdline = b"quiet";
        let parts = [Section { name: ".cmdline", data: cmdline }, Section { name: ".linux", data: &kernel }];
        let (file, placed) = build(&stub(), &parts).unwrap();
        assert_eq!(file.len() % 512, 0);
        assert_eq!(sections(&file).unwrap()[1..], placed);
        for (place, part) in placed.iter().zip(&parts) {
            assert_eq!(place.at % 512, 0);
            assert_eq!(&file[place.at..place.at + place.bytes], part.data);
        }
        let pe = Pe::parse(&file).unwrap();
        assert_eq!(pe.characteristics(&file).unwrap() & NX_COMPAT, 0);
        assert_eq!(get_u32(&file, pe.optional + 56).unwrap() % 4096, 0);
        assert_eq!(get_u32(&file, pe.sections + HEADER + 12).unwrap(), 8192);
    }

    #[test]
    fn what_is_no_stub_is_refused() {
        assert!(build(b"", &[]).is_err());
        assert!(build(&[0; 4096], &[]).is_err());
        let mut cut = stub();
        cut.truncate(100);
        assert!(build(&cut, &[]).is_err());
        let many: Vec<_> = (0..40).map(|_| Section { name: ".x", data: b"" }).collect();
        assert!(build(&stub(), &many).is_err());
    }
}
