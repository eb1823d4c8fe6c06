//! Builds the disk image: a host tool and the library behind it.
//!
//! In the order in which a build goes: [`host`] (what the host must bring), [`sources`] (which Debian mirrors),
//! [`tools`] (the tree with every program that a build or a boot needs). Everything that takes long is kept as a
//! stage in a [`cache`], named by the hash of its inputs.
//!
//! The library never prints; it tells a [`run::Progress`] what it is doing.

pub mod cache;
pub mod host;
pub mod run;
pub mod sources;
pub mod tools;
pub mod workspace;
