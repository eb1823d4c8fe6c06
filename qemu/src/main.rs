//! `cargo run`: build what is stale, boot Berth in QEMU, show it.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use anyhow::Result;
use berth_image::Format;
use berth_qemu::{bench, faults, install, updates};
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

mod interactive;

/// Builds Berth's disk image and boots it in QEMU.
#[derive(Parser)]
#[command(name = "cargo run --", version, about, long_about = None, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Subcommand)]
enum Command {
    /// Build what is stale and boot it (the default).
    Run(RunOptions),
    /// Build the disk image only; prints where it is.
    Build {
        /// Also make this of the disk; may be given more than once.
        #[arg(long, value_enum, value_name = "FORMAT")]
        format: Vec<Format>,
        /// Install what the host lacks.
        #[arg(long)]
        install: bool,
    },
    /// Show something, and end.
    #[command(subcommand)]
    Demo(DemoCommand),
    /// Measure, against the floor on this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// How to boot.
#[derive(Args, Clone)]
pub(crate) struct RunOptions {
    /// Firmware: uefi, bios, or direct (QEMU starts the kernel itself).
    #[arg(long, default_value = "uefi", value_parser = ["uefi", "bios", "direct"])]
    firmware: String,
    /// Memory of the machine, MiB.
    #[arg(long, default_value_t = 512)]
    memory: u32,
    /// Port on this computer for the web page; the next free one is taken when it is in use.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// What the machine is called; each has a disk and a context of its own, and several can run at once.
    #[arg(long, default_value = "local", value_parser = interactive::name)]
    name: String,
    /// Start with a new disk instead of the one of the last run.
    #[arg(long)]
    fresh: bool,
    /// A machine config of your own instead of the demonstration's.
    #[arg(long)]
    config: Option<std::path::PathBuf>,
    /// OCI archives to attach as read-only disks, besides the demonstration's.
    #[arg(long)]
    image: Vec<std::path::PathBuf>,
    /// Install what the host lacks.
    #[arg(long)]
    install: bool,
}

#[derive(Subcommand)]
enum DemoCommand {
    /// A machine is updated, and takes back three versions that are sick; some minutes.
    Update,
    /// A machine is started from the ISO, installs itself, and serves from its disk.
    Install {
        /// Keep pictures of its screen in this folder.
        #[arg(long, value_name = "FOLDER")]
        pictures: Option<std::path::PathBuf>,
    },
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Time to the first page, memory, sizes; see docs/performance.md.
    Boot {
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        /// Boots of each kind.
        #[arg(short, long, default_value_t = 5)]
        n: u32,
    },
    /// Starts beside crun's, runs and pulls beside podman's in the same machine, and what a unit costs PID 1; see docs/performance.md
    Units {
        /// This part alone, which leaves the page as it is.
        #[arg(long)]
        only: Option<bench::units::Part>,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        /// Starts of each kind.
        #[arg(short, long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
        n: u32,
    },
    /// What an update costs: memory, time without service; see docs/performance.md.
    Update {
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// New machines, by where their config comes from, and what an installation costs; see docs/performance.md.
    Provision {
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        /// Machines of each kind.
        #[arg(short, long, default_value_t = 5)]
        n: u32,
    },
    /// Cut the power at every write of an update, and see that the machine comes back; see docs/updates.md.
    Faults {
        /// A thousand states, as CI does it, instead of every one.
        #[arg(long)]
        sample: bool,
        /// One JSON object instead of text.
        #[arg(long)]
        json: bool,
        /// Decides what is left to chance.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// States that are booted.
        #[arg(long)]
        boots: Option<usize>,
    },
    /// The forms that an image's layers can have on disk; see docs/images.md.
    Layers,
    /// What the root's compression costs and saves; see docs/image.md.
    Root {
        /// Boots of each image.
        #[arg(short, long, default_value_t = 5)]
        n: u32,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result: Result<()> = match cli.command {
        None => interactive::run(&cli.run),
        Some(Command::Run(options)) => interactive::run(&options),
        Some(Command::Build { format, install }) => interactive::build(&format, install),
        Some(Command::Demo(DemoCommand::Install { pictures })) => {
            install::run(&|line| println!("{line}"), pictures.as_deref())
        }
        Some(Command::Demo(DemoCommand::Update)) => updates::demo::run(&|line| println!("{line}")),
        Some(Command::Bench(BenchCommand::Boot { json, n })) => bench::boot(n, json),
        Some(Command::Bench(BenchCommand::Units { only, json, n })) => bench::units::run(n, only, json),
        Some(Command::Bench(BenchCommand::Provision { json, n })) => bench::provision::run(n, json),
        Some(Command::Bench(BenchCommand::Update { json })) => updates::bench::run(json),
        Some(Command::Bench(BenchCommand::Faults { sample, json, seed, boots })) => {
            faults::faults(faults::Plan { sample, seed, boots, json })
        }
        Some(Command::Bench(BenchCommand::Layers)) => bench::layers::run(),
        Some(Command::Bench(BenchCommand::Root { n })) => bench::root(n),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
