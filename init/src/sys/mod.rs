//! System calls that neither `std` nor `nix` wraps, each behind a function that is safe with any arguments of its
//! types. The only module of this crate with `unsafe`.

pub mod child;
pub mod early;
pub mod run;
pub mod waiting;
