//! Slots on a disk, and how a boot is judged: partition table, boot record, verity, boot assessment.
//!
//! Pure formats over `Read`/`Write`/`Seek` or byte slices: no ioctl, no mount, no clock. PID 1, the image tool and
//! the tests use the same code, so a record written by one is read by the others. (What writes a slot is
//! `berth-apply`, above this one.)
//!
//! [`layout`] says what is where on a disk; [`gpt`] reads and writes that; [`record`] and [`steps`] are the sectors
//! of the boot record partition; [`assess`] decides what they should say next; [`verity`] is a slot's root, [`erofs`] what its
//! file system says about itself; [`boot_files`] are a slot's files on the ESP, [`uki`] what is in the largest of them.
//! [`bios`] is how GRUB lies on a disk for a BIOS, [`medium`] is what an ISO has of all this, and how a config is laid on it and on a new disk.

pub mod assess;
pub mod bios;
pub mod boot_files;
pub mod erofs;
pub mod gpt;
pub mod guid;
pub mod layout;
pub mod medium;
pub mod record;
pub mod steps;
pub mod uki;
pub mod verity;
