//! `image`: builds the disk image. See the library's documentation.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Builds Berth's disk image", version)]
struct Cli {
    /// Install with apt-get what this host lacks
    #[arg(long, global = true)]
    install: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make the tools tree and print its folder
    Tools,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let progress = |line: &str| eprintln!("image: {line}");
    match cli.what {
        What::Tools => {
            let tools = berth_image::tools::ensure_with(cli.install, &progress)?;
            println!("{}", tools.root().display());
        }
    }
    Ok(())
}
