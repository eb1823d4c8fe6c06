//! The registry client against a registry that misbehaves in every way that one can (`mock`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod auth;
mod faults;
mod lab;
mod mock;
mod plain;
mod ways;
