//! GRUB's BIOS core on a disk: sector 0 leads to the BIOS boot partition. Done as `grub-install` does it, whose source
//! (`util/setup.c`, GRUB 2.12) names the places.

/// Bytes of a sector, for GRUB.
const SECTOR: usize = 512;
/// End of code in sector 0: the partition table of old follows.
pub const CODE_END: usize = 440;

/// Why GRUB is not put on a disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BiosError {
    /// Of another version, or cut short.
    #[error("GRUB's BIOS core is not what was expected ({boot} and {core} bytes)")]
    Unexpected {
        /// Bytes of sector 0's image.
        boot: usize,
        /// Bytes of the core.
        core: usize,
    },
    /// No room.
    #[error("GRUB's BIOS core needs {needed} sectors; its partition has {room}")]
    Full {
        /// Sectors of 512 bytes.
        needed: u64,
        /// Sectors of 512 bytes.
        room: u64,
    },
}

/// What goes to sector 0, up to [`CODE_END`], and to the BIOS boot partition that starts at sector `first` and has room for
/// `room` sectors: sector 0 is told where the core starts, the core's first sector where the rest of it lies.
pub fn place(boot: &[u8], core: &[u8], first: u64, room: u64) -> Result<(Vec<u8>, Vec<u8>), BiosError> {
    /// In `boot.img`: where the core starts (`GRUB_BOOT_MACHINE_KERNEL_SECTOR`).
    const KERNEL_SECTOR: usize = 0x5c;
    /// A jump that trusts the drive number from the firmware; two `nop` correct what old firmware says instead
    /// (`GRUB_BOOT_MACHINE_DRIVE_CHECK`).
    const DRIVE_CHECK: usize = 0x66;
    /// In the core's first sector: a list of one run, 12 bytes from its end.
    const BLOCK_LIST: usize = SECTOR - 12;
    /// Where the rest is loaded: `GRUB_BOOT_I386_PC_KERNEL_SEG` and 512 bytes behind it.
    const SEGMENT: u16 = 0x820;

    let sectors = core.len().div_ceil(SECTOR);
    let rest = u16::try_from(sectors.saturating_sub(1)).unwrap_or(0);
    if boot.len() != SECTOR || core.len() < 2 * SECTOR || rest == 0 {
        return Err(BiosError::Unexpected { boot: boot.len(), core: core.len() });
    }
    if sectors as u64 > room {
        return Err(BiosError::Full { needed: sectors as u64, room });
    }
    let mut boot = boot[..CODE_END].to_vec();
    boot[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&first.to_le_bytes());
    boot[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    let mut core = core.to_vec();
    core.resize(sectors * SECTOR, 0);
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(first + 1).to_le_bytes());
    core[BLOCK_LIST + 8..BLOCK_LIST + 10].copy_from_slice(&rest.to_le_bytes());
    core[BLOCK_LIST + 10..BLOCK_LIST + 12].copy_from_slice(&SEGMENT.to_le_bytes());
    Ok((boot, core))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_is_told_where_it_lies() {
        let (boot, core) = place(&[0xee; 512], &[0; 1300], 2048, 2048).unwrap();
        assert_eq!(boot.len(), 440);
        assert_eq!(boot[0x5c..0x64], 2048u64.to_le_bytes());
        assert_eq!(boot[0x66..0x68], [0x90, 0x90]);
        assert_eq!(core.len(), 1536);
        assert_eq!(core[500..508], 2049u64.to_le_bytes());
        assert_eq!(core[508..512], [2, 0, 0x20, 8]);
    }

    #[test]
    fn a_core_that_does_not_fit_is_refused() {
        assert!(place(&[0; 512], &[0; 4096], 2048, 7).is_err());
        assert!(place(&[0; 511], &[0; 4096], 2048, 2048).is_err());
        assert!(place(&[0; 512], &vec![0; 40 << 20], 2048, 1 << 20).is_err());
    }
}
