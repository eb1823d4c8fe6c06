//! A UKI for tests of the loader: both firmwares start it, and it does nothing, for ever.
//!
//! It has to start. One that cannot would come back to the loader's script, which writes that down and goes on, at the
//! same time as the test stops the machine.

/// Bytes of the whole: the loader hashes them, and that takes a second for a real one.
pub const BYTES: usize = 100_000;
/// Where GRUB finds kernel and initrd of the file on BIOS: first sector and number of sectors.
pub const ENV: &str = "# GRUB Environment Block\nkernel=1+9\ninitrd=10+9\ncmdline=x\n";

const SECTOR: u32 = 512;
/// What UEFI starts lies behind kernel and initrd.
const CODE_AT: u32 = 20 * SECTOR;
/// Where that is in memory, from the start of the image.
const CODE_ADDRESS: u32 = 0x1000;
/// `jmp .`, in 32-bit code as in 64-bit code.
const STAY: [u8; 2] = [0xeb, 0xfe];

/// Its content.
pub fn uki() -> Vec<u8> {
    let mut file = vec![0x5a; BYTES];
    file[..CODE_AT as usize].fill(0);
    put(&mut file, &pe_headers());
    put(&mut file[SECTOR as usize..], &linux_header());
    // The setup code is two sectors long, of which none runs.
    put(&mut file[3 * SECTOR as usize..], &STAY);
    put(&mut file[CODE_AT as usize..], &STAY);
    file
}

fn put(at: &mut [u8], bytes: &[u8]) {
    at[..bytes.len()].copy_from_slice(bytes);
}

/// One sector with all that a UEFI application needs (Microsoft's PE format, "PE32+").
fn pe_headers() -> Vec<u8> {
    const COFF: usize = 64 + 4;
    const OPTIONAL: usize = COFF + 20;
    const OPTIONAL_BYTES: u16 = 240;
    const SECTION: usize = OPTIONAL + OPTIONAL_BYTES as usize;
    let mut bytes = vec![0; SECTOR as usize];
    let mut half = |at: usize, value: u16| put(&mut bytes[at..], &value.to_le_bytes());
    half(COFF, 0x8664); // x86-64
    half(COFF + 2, 1); // sections
    half(COFF + 16, OPTIONAL_BYTES);
    half(COFF + 18, 0x0022); // executable, large addresses
    half(OPTIONAL, 0x20b); // PE32+
    half(OPTIONAL + 68, 10); // subsystem: EFI application
    let mut word = |at: usize, value: u32| put(&mut bytes[at..], &value.to_le_bytes());
    word(0x3c, 64);
    word(OPTIONAL + 4, SECTOR); // code
    word(OPTIONAL + 16, CODE_ADDRESS); // entry point
    word(OPTIONAL + 20, CODE_ADDRESS);
    word(OPTIONAL + 32, 0x1000); // alignment in memory
    word(OPTIONAL + 36, SECTOR); // and in the file
    word(OPTIONAL + 56, 2 * CODE_ADDRESS); // size in memory
    word(OPTIONAL + 60, SECTOR); // headers
    word(OPTIONAL + 108, 16); // data directories, all empty
    word(SECTION + 8, SECTOR);
    word(SECTION + 12, CODE_ADDRESS);
    word(SECTION + 16, SECTOR);
    word(SECTION + 20, CODE_AT);
    word(SECTION + 36, 0x6000_0020); // code, to be read and run
    put(&mut bytes, b"MZ");
    put(&mut bytes[64..], b"PE\0\0");
    put(&mut bytes[SECTION..], b".text");
    bytes
}

/// The header of a kernel that is entered in 32-bit mode at 1 MiB (kernel documentation, `arch/x86/boot.rst`).
fn linux_header() -> Vec<u8> {
    let mut bytes = vec![0; 2 * SECTOR as usize];
    let mut put = |at: usize, value: &[u8]| put(&mut bytes[at..], value);
    put(0x1f1, &[1]); // sectors of setup code behind the first
    put(0x1f4, &(7 * SECTOR / 16).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa]);
    put(0x200, &[0xeb, 0x66]); // where the header ends
    put(0x202, b"HdrS");
    put(0x206, &0x020c_u16.to_le_bytes());
    put(0x211, &[1]); // loaded high
    put(0x214, &0x0010_0000_u32.to_le_bytes());
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes()); // highest address of the initrd
    put(0x230, &0x1000_u32.to_le_bytes()); // alignment
    put(0x238, &2047_u32.to_le_bytes()); // longest command line
    put(0x258, &0x0010_0000_u64.to_le_bytes());
    put(0x260, &0x1_0000_u32.to_le_bytes()); // memory that it needs
    bytes
}
