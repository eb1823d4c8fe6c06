//! Slots on a disk, and how a boot is judged: partition table, boot record, verity, boot assessment.
//!
//! Pure formats over `Read`/`Write`/`Seek` or byte slices: no ioctl, no mount, no clock. PID 1, the image tool and
//! the tests use the same code, so a record written by one is read by the others. (The update client joins later,
//! in a crate of its own above this one.)

//!
//! [`layout`] says what is where on a disk; [`gpt`] reads and writes that; [`record`] and [`steps`] are the sectors
//! of the boot record partition; [`assess`] decides what they should say next; [`verity`] is a slot's root, [`erofs`] what its
//! file system says about itself.

pub mod assess;
pub mod erofs;
pub mod gpt;
pub mod guid;
pub mod layout;
pub mod record;
pub mod steps;
pub mod verity;
