//! The operator's half of the program.

pub mod cli;
pub mod client;
mod commands;
pub mod home;
mod pem;
pub mod private;
pub mod render;
pub mod support;
mod tls;
mod upload;

use clap::Parser as _;
use std::process::ExitCode;

/// Parses the command line, does what it says, prints.
pub fn run() -> ExitCode {
    commands::run(&cli::Cli::parse())
}
