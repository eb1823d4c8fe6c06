//! The image store: the only code of Berth that reads image bytes.
//!
//! `berth worker store` runs [`run`] as a system unit. PID 1 asks it for an image by reference; it finds the image in
//! an OCI layout or archive (inside the OS image, or on an attached disk that holds nothing else), checks every
//! digest from the index down to the last layer's content, unpacks each layer once into the state partition, and
//! leaves a small checked description for PID 1 ([`berth_units::image`]).

mod bytes;
pub mod digest;
mod error;
mod find;
pub mod layout;
mod limits;
pub mod oci;
mod path;
mod prepare;
mod reference;
mod show;
mod sys;
pub mod tarball;
mod tree;
mod unpack;
mod worker;

pub use worker::run;

#[cfg(any(test, feature = "build"))]
pub mod build;
