//! Writes a release into the slot that does not run: the verity tree, the root, the UKI with what goes with it. What
//! calls it is the update worker of a machine; what it needs of the machine is three open partitions and a folder.
//!
//! ```text
//!   Offer (what is signed) ─┐
//!   Fetch (the server) ─────┼─▶ apply ─▶ tree, root ─▶ verity and root partition
//!   SlotMedia ──────────────┘      └───▶ fat ────────▶ EFI/berth/b.{efi,env,sum} on the ESP
//! ```
//!
//! ```ignore
//! pub fn apply(
//!     offer: &berth_tuf::release::Offer,
//!     fetch: &mut dyn berth_tuf::fetch::Fetch,
//!     to: &mut SlotMedia<'_>,                   // slot, its root, its verity partition, the ESP, what runs
//!     notes: &Path,                             // a folder that outlives a reboot; may be lost
//!     progress: &mut dyn FnMut(Progress),
//! ) -> Result<Written, ApplyError>              // ApplyError::is_transient: try again later
//! ```
//!
//! [`Window::whole`] makes a medium of an open block device. Called again after an error, a cut or a reboot, it goes on
//! where it was: what is on the disk already is found by the tree (root) and by a note (UKI), not fetched again.
//! A slot that holds the release already is checked and left alone.
//!
//! Invariants:
//! * the slot's sums on the ESP fit nothing before anything else of it changes, and fit only when all of it was read
//!   back and is right: the boot loader passes over whatever is in between;
//! * not a byte of the other slot, of another file of the ESP, of the partition table or the boot record is written.
//!   Making the slot the one to be tried is one further write, the boot record's, and PID 1's;
//! * no byte of the root is written that the signed root hash does not vouch for;
//! * no more is held in memory, and no more pages are dirty, than [`limits`](self) say, whatever the release's size.
//!
//! The order of its writes, and what a power cut after each leaves, is in `docs/updates.md` ("Applying").

mod apply;
pub mod cuts;
mod error;
pub mod fat;
mod limits;
mod medium;
mod notes;
mod procedure;
mod tree;

pub use apply::{Progress, SlotMedia, Step, Written, apply, check, holds};
pub use error::ApplyError;
pub use medium::{Medium, Part, Window};
pub use tree::{Tree, TreeError};
