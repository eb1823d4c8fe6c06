//! The commands that have commands of their own.

use clap::{Args, Subcommand};
use std::path::PathBuf;

pub(super) const PULL_HELP: &str = "\
The registry is asked also when an image of this name is here. Containers that run keep what they run on; a unit
runs what was pulled from its next start on.";

pub(super) const LOAD_HELP: &str = "\
Example:
  docker save web:1 | berth load -

\"docker save\", \"podman save\" and \"skopeo copy … oci-archive:FILE:NAME\" write such archives. Images keep the names
that they have in it.";

/// `berth repo`.
#[derive(Debug, Subcommand)]
pub enum RepoCommand {
    /// Make a repository and its keys
    #[command(after_help = "\
The keys are written to new files, root-1.key and so on, releases.key and online.key, readable by you alone. Move
each root key to where its holder keeps it; \"publish\" needs the other two, \"sign\" on a server online.key.
Whoever follows the repository trusts metadata/1.root.json.")]
    Init {
        /// The repository's folder, for any web server
        folder: PathBuf,
        /// The folder to write the keys to
        #[arg(long, value_name = "FOLDER")]
        keys: PathBuf,
        /// How many root keys to make
        #[arg(long, value_name = "N", default_value_t = 3)]
        root_keys: u8,
        /// How many of them must sign
        #[arg(long, value_name = "N", default_value_t = 2)]
        threshold: u8,
    },
    /// Publish what a build left
    #[command(after_help = "\
Example, after \"cargo run -p berth-image -- build\":
  berth repo publish /srv/updates target/berth/image/update --keys ~/keys")]
    Publish {
        /// The repository's folder
        folder: PathBuf,
        /// The folder "update" of a build
        build: PathBuf,
        /// The keys
        #[command(flatten)]
        keys: KeyFiles,
        /// The channel whose machines should have it
        #[arg(long, default_value = "stable")]
        channel: String,
    },
    /// Sign again what would end, or add signatures to what waits for some
    #[command(after_help = "\
Timestamp and snapshot are signed in any case (run it each day with online.key), the rest when half of its time
has passed and one of its keys is given. What needs more signatures waits in the folder \"staged\" of the
repository; each holder of a key adds one by this command.")]
    Sign {
        /// The repository's folder
        folder: PathBuf,
        /// The keys
        #[command(flatten)]
        keys: KeyFiles,
    },
    /// Put a new key in the place of one that was lost or stolen
    Rotate {
        /// The repository's folder
        folder: PathBuf,
        /// The old key's id, or the first 8 digits of it or more; "verify" shows them
        #[arg(long, value_name = "ID")]
        old: String,
        /// The new key's file; made if it is not there
        #[arg(long, value_name = "FILE")]
        new: PathBuf,
        /// The keys
        #[command(flatten)]
        keys: KeyFiles,
    },
    /// Read a repository as a machine would, and every byte that it offers
    Verify {
        /// The repository's folder, or its address on a web server
        repository: String,
        /// The root that machines trust [default: the folder's first one]
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
        /// An authority of the web server's certificate, in PEM
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
    },
}

/// Secret keys for `berth repo`.
#[derive(Debug, Args)]
pub struct KeyFiles {
    /// A key's file, or a folder of "*.key"; may be given several times
    #[arg(long, value_name = "PATH", required = true)]
    pub keys: Vec<PathBuf>,
}

/// `berth image`.
#[derive(Debug, Clone, Subcommand)]
pub enum ImageCommand {
    /// List them, and who uses them
    Ls,
    /// Get one from its registry; it stays until it is removed
    #[command(after_help = PULL_HELP)]
    Pull {
        /// Its name: [REGISTRY/]NAME[:TAG][@DIGEST]
        image: String,
    },
    /// Send images to the machine, out of an OCI or Docker archive; they stay until they are removed
    #[command(after_help = LOAD_HELP)]
    Load {
        /// The archive, compressed or not; "-" is standard input
        file: PathBuf,
    },
    /// Remove some that no unit needs
    Rm {
        /// Their names
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Remove all that no unit needs
    Prune,
}

/// `berth update`.
#[derive(Debug, Clone, Subcommand)]
pub enum UpdateCommand {
    /// What runs, what is offered, what became of the last update
    Status,
    /// Ask the repository what it offers
    Check,
    /// Write what is offered to the other slot; nothing is started from there yet
    Fetch {
        /// Also a version that did not prove itself on this machine
        #[arg(long)]
        again: bool,
    },
    /// And start it the next time the machine starts
    Apply {
        /// Also a version that did not prove itself on this machine
        #[arg(long)]
        again: bool,
    },
    /// And reboot now
    #[command(after_help = "\
All that is well now has to be well again with the new version, for [update] settle (2 minutes) in one go; otherwise the
machine goes back to the old one by itself, and \"berth update status\" says why.")]
    Reboot {
        /// Also a version that did not prove itself on this machine
        #[arg(long)]
        again: bool,
    },
    /// Do not start what was applied after all
    Cancel,
    /// Reboot into the version in the other slot; the one that runs is not taken again, unless with --again
    Rollback,
}

/// `berth volume`.
#[derive(Debug, Clone, Subcommand)]
pub enum VolumeCommand {
    /// List them, and who uses them
    Ls,
    /// Show one, and how much it holds
    Inspect {
        /// Its name
        volume: String,
    },
    /// Remove some that no unit uses, with all that is in them
    Rm {
        /// Their names
        #[arg(required = true, value_name = "VOLUME")]
        volumes: Vec<String>,
    },
}

/// `berth config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Where the machine's config came from, and what was wrong with it
    Status,
    /// Print the config in force, without its secrets
    Show,
    /// Have the machine ask for its config again, where a first boot looks for it
    #[command(after_help = "\
What it finds is checked as a whole and kept; it is in force from the next boot: \"berth reboot\". What is
refused, with the report printed here, changes nothing.")]
    Reload,
    /// Show what another berth.toml would change
    Diff {
        /// The file; "-" is standard input
        file: PathBuf,
    },
    /// Put another berth.toml in force, without a reboot
    #[command(after_help = "\
It is checked as a whole; a mistake changes nothing. Units that differ in what a running container cannot take on
are restarted, the others are left alone: \"berth config diff\" says which. With --confirm it goes back by itself
unless \"berth config confirm\" follows in time, also if it has cut the machine off, or the machine is rebooted.")]
    Apply {
        /// The file; "-" is standard input
        file: PathBuf,
        /// It goes back after this time, such as 5m, unless it is confirmed
        #[arg(long, value_name = "TIME")]
        confirm: Option<String>,
    },
    /// Keep the berth.toml that waits to be confirmed
    Confirm,
    /// Check a berth.toml or a cloud's user data here, as the machine would
    #[command(after_help = "\
A #cloud-config and a network-config are told key by key: what is applied, what does nothing, what is refused and
what to write instead. Files may be compressed with gzip, or in base64. The code is 0 if a machine would take it.")]
    Check {
        /// The file; "-" is standard input
        file: PathBuf,
    },
}

const UNIT_HELP: &str = "\
FILE is called NAME.toml, for the unit NAME. A unit of this name in the machine's config is replaced, another one
comes to the others; all else of the config stays as it is. A mistake in any of the files changes nothing.";

/// `berth unit`.
#[derive(Debug, Subcommand)]
pub enum UnitCommand {
    /// Show what unit files would change on the machine
    #[command(after_help = UNIT_HELP)]
    Diff {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Put unit files into the machine's config, and in force
    #[command(after_help = UNIT_HELP)]
    Apply {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// They go back after this time, such as 5m, unless "berth config confirm" follows
        #[arg(long, value_name = "TIME")]
        confirm: Option<String>,
    },
    /// Take units out of the machine's config; their volumes stay
    Rm {
        /// Their names
        #[arg(required = true, value_name = "UNIT")]
        units: Vec<String>,
        /// They come back after this time, such as 5m, unless "berth config confirm" follows
        #[arg(long, value_name = "TIME")]
        confirm: Option<String>,
    },
    /// Check unit files here, as the machine would
    Check {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the JSON schema of a unit file, for editors
    Schema {
        /// That of berth.toml instead
        #[arg(long)]
        config: bool,
    },
}

/// `berth key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key (ed25519)
    New,
    /// Print the public line, for [access] keys
    Show,
    /// Print certificate and private key in PEM, for curl and others
    #[command(after_help = "\
Example:
  (umask 077; berth key export-cert > berth.pem)
  curl --insecure --cert berth.pem https://ADDRESS:7443/v1/units

curl cannot check the machine's key by itself; --pinnedpubkey does, see docs/access.md.")]
    ExportCert,
}

/// `berth context`.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Name a machine
    Add {
        /// The name
        name: String,
        /// Host name or IP address, with ":PORT" if it is not 7443
        address: String,
        /// The machine's key, from its console [default: the first connection pins it]
        #[arg(long, value_name = "FINGERPRINT")]
        machine_key: Option<String>,
        /// Replace a context of this name
        #[arg(long)]
        replace: bool,
    },
    /// List them
    List,
    /// Use one when --on is not given
    Use {
        /// The name
        name: String,
    },
    /// Accept a machine's new key
    Pin {
        /// The name
        name: String,
        /// The machine's key, sha256:… [default: the next connection pins it]
        fingerprint: Option<String>,
    },
    /// Print the machine's certificate in PEM, for programs that compare certificates instead of keys
    #[command(after_help = "\
The machine is asked, and the certificate printed only if it carries the pinned key. It is not secret. See
docs/metrics.md for Prometheus.")]
    ExportCert {
        /// The name [default: --on, or the current one]
        name: Option<String>,
    },
    /// Forget one
    Remove {
        /// The name
        name: String,
    },
}

/// Under `berth install --help`.
pub const INSTALL_HELP: &str = "\
What is on the disk is lost. Only an empty disk is taken unless told otherwise; the medium itself, disks in use and
those too small never are. The disk becomes bootable by the last write, after all of it was read back.";

/// `berth install`.
#[derive(Debug, Clone, Args)]
pub struct InstallArgs {
    /// only, smallest, largest, serial:NUMBER, or a path
    #[arg(long, value_name = "RULE", default_value = "only")]
    pub disk: String,
    /// Take no smaller disk, such as 16G
    #[arg(long, value_name = "SIZE")]
    pub min_size: Option<String>,
    /// Also a disk that holds something, which is lost
    #[arg(long)]
    pub erase: bool,
    /// Also a disk that can be taken out
    #[arg(long)]
    pub removable: bool,
    /// What the machine does then: reboot, poweroff or stay
    #[arg(long, value_name = "WORD", default_value = "reboot")]
    pub then: String,
    /// Only show how an installation stands
    #[arg(long, exclusive = true)]
    pub status: bool,
}

/// Under `berth reset --help`.
pub const RESET_HELP: &str = "\
Config, images, logs, what units wrote, the machine's key and, with --keep nothing, the volumes are gone for good; the
system in the slots stays. A disk that can forget data is told to; otherwise what was there is not overwritten.
The new machine looks for its config where every new machine does (docs/config-sources.md), or has the one given here.";

/// `berth reset`.
#[derive(Debug, Clone, Args)]
pub struct ResetArgs {
    /// What stays: volumes or nothing
    #[arg(long, value_name = "WHAT", value_parser = ["volumes", "nothing"])]
    pub keep: String,
    /// The new machine's config, berth.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `berth iso`.
#[derive(Debug, Clone, Subcommand)]
pub enum IsoCommand {
    /// Put a config into the ISO: a live system has it, and an installed one too
    #[command(after_help = "\
With [install] in it, a machine that starts from the medium installs itself without a question. The config lies in the
file as it is, its secrets too. No privileges are needed.")]
    Customise {
        /// The ISO, changed in place
        iso: PathBuf,
        /// The config, berth.toml
        #[arg(long, value_name = "FILE", required_unless_present = "without")]
        config: Option<PathBuf>,
        /// Take the config out instead
        #[arg(long, conflicts_with = "config")]
        without: bool,
    },
}
