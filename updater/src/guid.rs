//! GUIDs as GPT stores them: the first three fields little-endian.

use sha2::{Digest as _, Sha256};
use std::fmt;

/// A GUID in its on-disk byte order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Guid(pub [u8; 16]);

/// Position in the on-disk bytes of each byte of the printed form.
const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl Guid {
    /// All zero: an unused table entry.
    pub const ZERO: Guid = Guid([0; 16]);

    /// From the printed form's 128-bit number: `Guid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b)`.
    pub const fn from_u128(number: u128) -> Guid {
        let printed = number.to_be_bytes();
        let mut disk = [0; 16];
        let mut i = 0;
        while i < 16 {
            disk[ORDER[i]] = printed[i];
            i += 1;
        }
        Guid(disk)
    }

    /// The printed form as a number.
    pub fn to_u128(self) -> u128 {
        u128::from_be_bytes(ORDER.map(|at| self.0[at]))
    }

    /// Reads `c12a7328-f81f-11d2-ba4b-00a0c93ec93b`, either case.
    pub fn parse(text: &str) -> Option<Guid> {
        let dashes_right = text.len() == 36
            && text.bytes().enumerate().all(|(i, byte)| (byte == b'-') == matches!(i, 8 | 13 | 18 | 23));
        if !dashes_right || !text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(&text.replace('-', ""), 16).ok().map(Guid::from_u128)
    }

    /// Made from a name (RFC 9562, version 8): the same name gives the same one.
    pub fn named(name: &str) -> Guid {
        let digest = Sha256::digest(name);
        let number = digest.iter().take(16).fold(0u128, |n, &byte| (n << 8) | u128::from(byte));
        let versioned = number & !(0xf << 76) & !(0x3 << 62);
        Guid::from_u128(versioned | (0x8 << 76) | (0x2 << 62))
    }

    /// Unused.
    pub fn is_zero(self) -> bool {
        self == Guid::ZERO
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.to_u128();
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            n >> 96,
            (n >> 80) & 0xffff,
            (n >> 64) & 0xffff,
            (n >> 48) & 0xffff,
            n & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn esp_type_has_the_bytes_of_the_uefi_specification() {
        let esp = Guid::parse("C12A7328-F81F-11D2-BA4B-00A0C93EC93B").unwrap();
        assert_eq!(esp.0[..8], [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11]);
        assert_eq!(esp.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(esp, Guid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "c12a7328", "c12a7328-f81f-11d2-ba4b-00a0c93ec93g", "+12a7328-f81f-11d2-ba4b-00a0c93ec93b"]
        {
            assert_eq!(Guid::parse(text), None, "{text}");
        }
    }
}
