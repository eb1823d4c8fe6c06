//! The registry client against a registry that misbehaves in every way that one can (`mock`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod lab;
#[allow(dead_code)]
mod mock;
mod plain;
