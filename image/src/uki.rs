//! A unified kernel image: systemd's stub with our sections appended.
//!
//! (UAPI.5; PE format as of Microsoft's specification.) Every section starts and ends at a multiple of 512 bytes in
//! the file, so GRUB on BIOS can load kernel and initrd out of the same file by block lists ([`Placed`]).

use anyhow::{Result, bail};
use berth_updater::uki::{Pe, SECTION_HEADER as HEADER, u16_at, u32_at};

/// A section of the finished file.
pub use berth_updater::uki::Section as Placed;

/// One section to be added.
pub struct Section<'a> {
    /// At most 8 bytes.
    pub name: &'a str,
    /// Its content.
    pub data: &'a [u8],
}

/// Alignment that we insist on, which is the stub's own.
const FILE_ALIGN: usize = 512;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const DATA_FLAGS: u32 = 0x4000_0040;
/// `IMAGE_SCN_CNT_CODE | IMAGE_SCN_MEM_READ`.
const CODE_FLAGS: u32 = 0x4000_0020;
/// `IMAGE_DLLCHARACTERISTICS_NX_COMPAT`.
const NX_COMPAT: u16 = 0x0100;

/// Appends `sections` to `stub`, in this order.
pub fn build(stub: &[u8], sections: &[Section<'_>]) -> Result<(Vec<u8>, Vec<Placed>)> {
    let pe = Pe::parse(stub)?;
    let mut file = stub.to_vec();
    file.resize(file.len().next_multiple_of(FILE_ALIGN), 0);
    if u32_at(stub, pe.optional + 36)? as usize != FILE_ALIGN {
        bail!("the stub's sections are not aligned to {FILE_ALIGN} bytes");
    }
    let align = u32_at(stub, pe.optional + 32)?;
    let headers = u32_at(stub, pe.optional + 60)? as usize;
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
        let bytes = section.data.len() as u64;
        placed.push(Placed { name: section.name.to_owned(), at: at as u64, bytes });

        // Firmware that enforces it must see what the kernel inside really supports.
        if section.name == ".linux" {
            let inner = Pe::parse(section.data)?;
            if characteristics(&inner, section.data)? & NX_COMPAT == 0 {
                let outer = characteristics(&pe, &file)? & !NX_COMPAT;
                put(&mut file, pe.optional + 70, &outer.to_le_bytes());
            }
        }
    }
    let count = u16::try_from(pe.count + sections.len())?;
    put(&mut file, pe.coff + 2, &count.to_le_bytes());
    put(&mut file, pe.optional + 56, &address.to_le_bytes()); // SizeOfImage
    put(&mut file, pe.optional + 64, &[0; 4]); // CheckSum: unused by UEFI
    let initialised = placed.iter().map(|p| p.bytes.next_multiple_of(FILE_ALIGN as u64)).sum::<u64>();
    let total = u32_at(&file, pe.optional + 8)?.wrapping_add(u32::try_from(initialised)?);
    put(&mut file, pe.optional + 8, &total.to_le_bytes());
    Ok((file, placed))
}

/// The first free address behind the existing sections.
fn next_address(file: &[u8], pe: &Pe, align: u32) -> Result<u32> {
    let mut end = 0;
    for index in 0..pe.count {
        let header = pe.sections + index * HEADER;
        end = end.max(u32_at(file, header + 12)?.saturating_add(u32_at(file, header + 8)?));
    }
    if align == 0 || end > u32::MAX / 2 {
        bail!("the stub's section table is damaged");
    }
    Ok(end.next_multiple_of(align))
}

/// The sections of a finished file: name, place, bytes. Used by `inspect` and tests.
pub fn sections(file: &[u8]) -> Result<Vec<Placed>> {
    Ok(berth_updater::uki::sections(file, file.len() as u64)?)
}

/// Whether what is inside may be loaded into memory that cannot be executed.
fn characteristics(pe: &Pe, file: &[u8]) -> Result<u16> {
    Ok(u16_at(file, pe.optional + 70)?)
}

/// Only called where something has been read before.
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
            let at = usize::try_from(place.at).unwrap();
            assert_eq!(&file[at..at + part.data.len()], part.data);
            assert_eq!(place.bytes, part.data.len() as u64);
        }
        let pe = Pe::parse(&file).unwrap();
        assert_eq!(characteristics(&pe, &file).unwrap() & NX_COMPAT, 0);
        assert_eq!(u32_at(&file, pe.optional + 56).unwrap() % 4096, 0);
        assert_eq!(u32_at(&file, pe.sections + HEADER + 12).unwrap(), 8192);
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
