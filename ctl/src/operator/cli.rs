//! What can be typed. `tests/help.txt` holds all help texts, and a test holds the two together.

mod groups;

use clap::{Args, Parser, Subcommand};
pub use groups::*;
use std::path::PathBuf;

/// Berth's command line: asks machines that run Berth.
#[derive(Debug, Parser)]
#[command(name = "berth", version, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
To begin:
  berth key new                      make a key; put the line it prints into [access] keys of a machine's config
  berth context add NAME ADDRESS     name a machine
  berth ps                           see what it runs

Keys and contexts are kept in $BERTH_HOME, or $XDG_CONFIG_HOME/berth, or ~/.config/berth.
BERTH_CONTEXT and BERTH_KEY stand for --on and --key. Keys may be in OpenSSH's format or PKCS#8, without a
passphrase; ssh-agent is not supported yet.";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The machine to ask [default: the current context]
    #[arg(long, global = true, value_name = "CONTEXT", env = "BERTH_CONTEXT", hide_env = true)]
    pub on: Option<String>,
    /// Private key, ed25519 or ecdsa P-256 [default: the context's, or your own]
    #[arg(long, global = true, value_name = "FILE", env = "BERTH_KEY", hide_env = true)]
    pub key: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List units, their state and what they use
    Ps {
        /// The system's own units too
        #[arg(short, long)]
        all: bool,
    },
    /// Show what units use: processor, memory, network, disks
    #[command(after_help = "\
On a terminal the table is drawn anew every two seconds until ctrl-C; elsewhere it is printed once, after one second
in which processor time is measured. 100% is one processor. Memory is without cached files that the kernel drops
first; without a limit of the unit's own it is compared with the machine's. --json has the counters as they are.")]
    Stats {
        /// Only these, whatever they are [default: those of the machine's config that run]
        units: Vec<String>,
        /// The system's own units too
        #[arg(short, long)]
        all: bool,
        /// Print it once, on a terminal too
        #[arg(long)]
        no_stream: bool,
    },
    /// Print what a unit wrote
    #[command(after_help = "What the unit wrote to its standard error goes to standard error.")]
    Logs {
        /// The unit; "berth" is the machine's own log, "kernel" the kernel's
        unit: String,
        /// Go on with what comes
        #[arg(short, long)]
        follow: bool,
        /// Only the last N lines of what is there
        #[arg(short = 'n', long, value_name = "N")]
        tail: Option<u64>,
        /// The time in front of each line
        #[arg(short, long)]
        timestamps: bool,
    },
    /// Stop a unit; it stays down until it is started, or the machine is
    Stop {
        /// Not started with the machine any more, either: unit.enabled in the config becomes false
        #[arg(long)]
        disable: bool,
        /// The unit
        unit: String,
    },
    /// Start a unit that was stopped, has failed or has finished
    Start {
        /// With the machine, too: unit.enabled in the config becomes true
        #[arg(long)]
        enable: bool,
        /// The unit
        unit: String,
    },
    /// Stop a unit and start it again
    Restart {
        /// The unit
        unit: String,
    },
    /// Run a command in a unit
    #[command(
        after_help = "Its exit code is berth's; 126: it could not be started. What it has started ends with it.\n\
                      With -it, as a shell wants it, what is typed goes there as it is, Ctrl-C too."
    )]
    Exec {
        /// Standard input is the command's
        #[arg(short, long)]
        interactive: bool,
        /// It gets a terminal
        #[arg(short, long)]
        tty: bool,
        /// Set a variable of its environment
        #[arg(short, long, value_name = "NAME=VALUE")]
        env: Vec<String>,
        /// As this user, by name or number, instead of the unit's
        #[arg(short, long)]
        user: Option<String>,
        /// In this folder instead of the unit's
        #[arg(short, long, value_name = "FOLDER")]
        workdir: Option<String>,
        /// The unit
        unit: String,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run an image as a unit that is in no config, and gone when the machine starts again
    #[command(after_help = RUN_HELP)]
    Run(RunArgs),
    /// Remove units that "berth run" has made; their volumes stay
    Rm {
        /// Also those that run
        #[arg(short, long)]
        force: bool,
        /// The units
        #[arg(required = true, value_name = "UNIT")]
        units: Vec<String>,
    },
    /// Copy a file or a folder out of a unit that runs, or into it
    #[command(after_help = CP_HELP)]
    Cp {
        /// Follow SOURCE if it is a link; else the link is copied
        #[arg(short = 'L', long)]
        follow_link: bool,
        /// UNIT:PATH, or a path here; "-" is a tar on standard input
        #[arg(value_name = "SOURCE")]
        from: String,
        /// The same; "-" writes a tar to standard output
        #[arg(value_name = "TARGET")]
        to: String,
    },
    /// Show everything about one unit
    Inspect {
        /// The unit
        unit: String,
    },
    /// List the images on the machine, and who uses them
    Images,
    /// Get an image from its registry; it stays until it is removed
    #[command(after_help = PULL_HELP)]
    Pull {
        /// Its name: [REGISTRY/]NAME[:TAG][@DIGEST]
        image: String,
    },
    /// Send images to the machine, out of an OCI or Docker archive; they stay until they are removed
    #[command(after_help = LOAD_HELP)]
    Load {
        /// The archive, compressed or not; "-" is standard input
        #[arg(short, long = "input", value_name = "FILE", required_unless_present = "archive")]
        input: Option<PathBuf>,
        /// The same
        #[arg(value_name = "FILE", conflicts_with = "input")]
        archive: Option<PathBuf>,
    },
    /// Remove images that no unit needs
    Rmi {
        /// Their names
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Images; the short forms are images, pull, load and rmi
    #[command(subcommand)]
    Image(ImageCommand),
    /// Volumes: what units keep
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Show the machine: name, versions, addresses, memory, clock
    Machine,
    /// Show how long each step of the last boot took
    BootTimes,
    /// Show both slots of the system, and why the running one was chosen
    Slots,
    /// Show what was changed on the machine, and what came of it
    #[command(after_help = "\
A line is a generation: what ran together from then on. It is tried until it was confirmed, or has shown that it is
good, then committed; what did not stay is reverted. The last 20 are kept; * has the config in force.")]
    History,
    /// Put an earlier config in force again, as a new generation; the system in the slots stays
    #[command(after_help = "\
Without a number it is the last config before that is another one; once more leads back again. Only what differs is
restarted, as with \"berth config apply\". Volumes never go back.")]
    Rollback {
        /// The generation, as "berth history" has it
        generation: Option<u64>,
        /// Only show what it would change
        #[arg(long, conflicts_with = "confirm")]
        diff: bool,
        /// It goes back after this time, such as 5m, unless "berth config confirm" follows
        #[arg(long, value_name = "TIME")]
        confirm: Option<String>,
    },
    /// Updates of the system: look for one, take it, see how it goes
    #[command(subcommand)]
    Update(UpdateCommand),
    /// List the machine's disks, and which of them Berth could be installed on
    Disks,
    /// Install Berth on a disk, of a machine that was started from the installation medium
    #[command(after_help = INSTALL_HELP)]
    Install(InstallArgs),
    /// Reboot, and come up as a new machine
    #[command(after_help = RESET_HELP)]
    Reset(ResetArgs),
    /// The installation medium, a file here
    #[command(subcommand)]
    Iso(IsoCommand),
    /// The machine's config
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Unit files
    #[command(subcommand)]
    Unit(UnitCommand),
    /// Write all that the machine tells of itself into one file, for whoever is to help
    #[command(after_help = "\
A tar.gz of what other commands print: versions, slots, boot, history, config, units, logs, figures. Secrets of the
config are not in it; what units write to their logs is.")]
    Support {
        /// The file to write [default: support-NAME.tar.gz]
        file: Option<PathBuf>,
    },
    /// Stop all units and reboot
    Reboot,
    /// Stop all units and power off
    Poweroff,
    /// Stop all units and halt: the machine stays on until it is switched off
    Halt,
    /// The versions of this program and of the machine
    Version,
    /// Your own key
    #[command(subcommand)]
    Key(KeyCommand),
    /// The machines that you know
    #[command(subcommand)]
    Context(ContextCommand),
    /// Repositories of updates: make one, sign, publish a release
    #[command(subcommand)]
    Repo(RepoCommand),
}

const RUN_HELP: &str = "\
What it prints is printed here until it ends, and its exit code is berth's; 125: it could not be run. Ctrl-C ends
berth, not the unit. An image that is not there is pulled. A unit that has ended stays in \"berth ps\" until
\"berth rm\" or the machine's next start.";

/// `berth run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// What the unit is called [default: run-1, run-2, …]
    #[arg(long)]
    pub name: Option<String>,
    /// Set a variable of its environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// A port of the machine that leads into it
    #[arg(short, long, value_name = "[ADDRESS:]PORT:PORT[/udp]")]
    pub publish: Vec<String>,
    /// A volume
    #[arg(short, long, value_name = "VOLUME:PATH[:ro]")]
    pub volume: Vec<String>,
    /// Its memory at most, such as 64m
    #[arg(short, long)]
    pub memory: Option<String>,
    /// Its network: bridge, host or none
    #[arg(long)]
    pub network: Option<String>,
    /// As this user, by name or number
    #[arg(short, long)]
    pub user: Option<String>,
    /// In this folder
    #[arg(short, long, value_name = "FOLDER")]
    pub workdir: Option<String>,
    /// Whether it is started again when it ends: no, on-failure or always [default: no]
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Do not wait for its end; print its name
    #[arg(short, long)]
    pub detach: bool,
    /// Remove it when it has ended
    #[arg(long, conflicts_with_all = ["detach", "save"])]
    pub rm: bool,
    /// Put it into the machine's config instead, as "berth unit apply" does
    #[arg(long)]
    pub save: bool,
    /// The image
    pub image: String,
    /// Instead of the arguments that the image has
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

const CP_HELP: &str = "\
One side is UNIT:PATH, from the unit's root, the other a path here. As with \"docker cp\": into a folder that is there
SOURCE goes by its name, and a folder's contents if it ends in \"/.\"; otherwise it becomes TARGET. Folders that are
there stay, and what is in them of other names.

Links stay links, modes and times are kept. What is copied into a unit belongs to its root, or to whom it belonged that
it replaces; what comes out belongs to you. Devices, pipes and sockets are left out, and said. The unit needs no
program for it.";
