//! Builds the disk image: a host tool and the library behind it.
//!
//! In the order in which a build goes: [`host`] (what the host must bring), [`sources`] (which Debian mirrors),
//! [`tools`] (the tree with every program that a build or a boot needs), [`debian`] (kernel, stub, e2fsck, unpacked by
//! mkosi), [`modules`] (which of the kernel's reach the disk), [`grub`] (the cores), [`state`] (the empty state file
//! system), [`programs`] (ours, by cargo), [`trust`], [`bundle`] (root, sums, initrd, [`uki`]), [`disk`] and [`esp`] (a disk file
//! and what is on it), [`image`] (the outputs), [`sbom`].
//!
//! Everything that takes long is kept as a stage in a [`cache`], named by the hash of its inputs, so a build after a
//! change to our programs takes seconds.
//!
//! It writes only below its cache, its output folder and `target/guest`; it needs no privileges except to install what
//! the host lacks. The same inputs and `SOURCE_DATE_EPOCH` give the same bytes. The library never prints; it tells a
//! [`run::Progress`] what it is doing.

pub mod bundle;
pub mod cache;
pub mod debian;
pub mod disk;
pub mod esp;
pub mod formats;
pub mod grub;
pub mod host;
pub mod image;
pub mod iso;
pub mod limits;
pub mod modules;
pub mod programs;
pub mod run;
pub mod sbom;
pub mod sources;
pub mod stamp;
pub mod state;
pub mod tools;
pub mod tree;
pub mod trust;
pub mod uki;
pub mod workspace;

pub use bundle::{Bundle, Compression, Options, bundle};
pub use formats::Format;
pub use image::{Outputs, build};
pub use run::Progress;
pub use trust::update_files;
