//! `image`: builds the disk image. See the library's documentation.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use berth_image::disk::Disk;
use berth_image::{Format, Options, tools};
use berth_updater::boot_files::BootFile;
use berth_updater::layout::Slot;
use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// Build what is stale: disk image, kernel and initrd, manifest, SBOM
    Build(Build),
    /// Make the tools tree and print its folder
    Tools,
    /// Show what is on a disk image
    Inspect {
        /// The raw image
        disk: PathBuf,
    },
}

#[derive(Args)]
struct Build {
    /// Folder for the results
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also make this of the disk; may be given more than once
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Vec<Format>,
    /// Use the programs init and berth of this folder instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Use this program as PID 1
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Append to the kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    cmdline: String,
    /// How the root is compressed
    #[arg(long, value_enum, default_value = "lz4hc")]
    compression: Compression,
    /// The system's version, at most 15 bytes [default: that of the sources]
    #[arg(long, value_name = "VERSION")]
    image_version: Option<String>,
    /// Trust this root.json of an update repository
    #[arg(long, value_name = "FILE", requires = "update_address")]
    update_root: Option<PathBuf>,
    /// Get updates from this repository
    #[arg(long, value_name = "ADDRESS", requires = "update_root")]
    update_address: Option<String>,
    /// Make everything of ours again
    #[arg(long)]
    fresh: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Compression {
    Lz4hc,
    Zstd,
    None,
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
    match &cli.what {
        What::Tools => {
            let tools = tools::ensure_with(cli.install, &progress)?;
            println!("{}", tools.root().display());
        }
        What::Build(args) => {
            let defaults = Options::default();
            let options = Options {
                out: args.out.clone().unwrap_or(defaults.out),
                formats: args.format.iter().copied().collect(),
                programs: args.programs.clone(),
                init: args.init.clone(),
                cmdline: args.cmdline.clone(),
                compression: match args.compression {
                    Compression::Lz4hc => berth_image::Compression::Lz4hc,
                    Compression::Zstd => berth_image::Compression::Zstd,
                    Compression::None => berth_image::Compression::None,
                },
                version: args.image_version.clone().unwrap_or(defaults.version),
                files: update_files(args)?,
                install: cli.install,
                fresh: args.fresh,
            };
            let outputs = berth_image::build(&options, &progress)?;
            println!("{}", outputs.raw.display());
            outputs.formats.values().for_each(|path| println!("{}", path.display()));
        }
        What::Inspect { disk } => inspect(disk)?,
    }
    Ok(())
}

/// What the image knows of its update repository.
fn update_files(args: &Build) -> Result<Vec<(String, Vec<u8>)>> {
    let (Some(root), Some(address)) = (&args.update_root, &args.update_address) else {
        return Ok(Vec::new());
    };
    let text = std::fs::read(root).with_context(|| format!("could not read {}", root.display()))?;
    berth_image::update_files(&text, address).with_context(|| root.display().to_string())
}

fn inspect(path: &Path) -> Result<()> {
    let tools = tools::ensure(&|line| eprintln!("image: {line}"))?;
    let mut disk = Disk::open(path)?;
    println!("{:>2}  {:<9} {:>8}  {:<36}", "nr", "label", "MiB", "UUID");
    for (number, part) in disk.table().partitions() {
        println!("{number:>2}  {:<9} {:>8}  {}", part.label, part.sectors() / 2048, part.uuid);
    }
    match disk.record()? {
        Some(record) => println!("record: {record:?}"),
        None => println!("record: cannot be read"),
    }
    for slot in Slot::ALL {
        let esp = disk.esp(&tools)?;
        let uki = BootFile::Uki.path(slot);
        if esp.exists(&uki) {
            let bytes = esp.get(&uki)?;
            println!("slot {slot}: UKI of {} bytes", bytes.len());
            for part in berth_image::uki::sections(&bytes)? {
                println!("    {:<10} {:>9} bytes at {}", part.name, part.bytes, part.at);
            }
        } else {
            println!("slot {slot}: no UKI");
        }
        if let Some(step) = disk.step(slot)? {
            println!("    last step: {step:?}");
        }
    }
    Ok(())
}
