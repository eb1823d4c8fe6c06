//! One OS, ready for a slot: the verified root, its sums, and the UKI that starts it.
//!
//! ```text
//! programs, modules, e2fsck, state ─► root (erofs) ─► verity tree ─► root hash ─► command line ─┐
//! init, modules to reach a disk ────────────────────────────────────────► initrd (cpio, zstd) ──┼─► UKI
//! stub, kernel ──────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_updater::erofs;
use berth_updater::verity::{self, RootHash};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cache::{self, Key, hex};
use crate::debian::{self, Debian};
use crate::formats::Format;
use crate::grub::{self, Cores};
use crate::modules::{self, Modules};
use crate::programs::{self, Programs};
use crate::run::{self, Progress};
use crate::state::{self, State};
use crate::tools::{self, Tools};
use crate::tree::{Content, Node, Origin, Tree};
use crate::{limits, stamp, uki, workspace};

/// How the root is compressed; see the table in `docs/image.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// The default: fast to read, and small updates.
    #[default]
    Lz4hc,
    /// Smaller, slower.
    Zstd,
    /// For measuring.
    None,
}

impl Compression {
    fn args(self) -> &'static [&'static str] {
        match self {
            Compression::Lz4hc => &["-zlz4hc,9"],
            Compression::Zstd => &["-zzstd,9", "-C16384"],
            Compression::None => &[],
        }
    }
}

/// What may differ from the shipped image: for tests and measurements.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where [`crate::build`] leaves its results.
    pub out: PathBuf,
    /// `IMAGE_VERSION`.
    pub version: String,
    /// A folder with `init` and `berth` to be used instead of building them.
    pub programs: Option<PathBuf>,
    /// Replaces PID 1, in the root and in the initrd.
    pub init: Option<PathBuf>,
    /// Appended to the kernel's command line.
    pub cmdline: String,
    /// More files of the root: path and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Of the root.
    pub compression: Compression,
    /// What else to make of the disk.
    pub formats: BTreeSet<Format>,
    /// Install what the host lacks.
    pub install: bool,
    /// Make everything of ours again, whatever the cache holds.
    pub fresh: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            out: workspace::default_out(),
            version: stamp::VERSION.into(),
            programs: None,
            init: None,
            cmdline: String::new(),
            files: Vec::new(),
            compression: Compression::default(),
            formats: BTreeSet::new(),
            install: false,
            fresh: false,
        }
    }
}

/// A finished OS. Its files lie in the cache and are shared: copy, never change them.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// `uki.efi`.
    pub uki: PathBuf,
    /// Data of the root partition.
    pub root: PathBuf,
    /// Data of the verity partition.
    pub verity: PathBuf,
    /// On the command line of the UKI.
    pub root_hash: RootHash,
    /// Where kernel and initrd lie in the UKI, and the command line: what GRUB on BIOS needs.
    pub env: String,
    /// The kernel, for direct boot.
    pub kernel: PathBuf,
    /// The initrd, for direct boot: not the UKI's, which has drivers for every kind of disk.
    pub initrd: PathBuf,
    /// The command line for direct boot (GRUB did not count this start).
    pub cmdline: String,
    /// Every file of the root and the initrd.
    pub files: Vec<FileFacts>,
    /// Names the inputs.
    pub key: String,
}

/// One file for the manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileFacts {
    /// `root`, `initrd` or `esp`.
    pub place: String,
    /// Absolute within its place.
    pub path: String,
    /// Octal.
    pub mode: String,
    /// Bytes.
    pub size: u64,
    /// Of the content.
    pub sha256: String,
    /// Package that it comes from.
    pub package: String,
    /// That package's version.
    pub version: String,
}

/// What a finished bundle remembers beside its files.
#[derive(Serialize, Deserialize)]
struct Facts {
    root_hash: String,
    env: String,
    cmdline: String,
    files: Vec<FileFacts>,
}

/// Everything that a bundle is made from.
pub struct Inputs {
    /// Tools tree.
    pub tools: Tools,
    /// Debian's packages.
    pub debian: Debian,
    /// Pruned modules.
    pub modules: Modules,
    /// Empty state file system.
    pub state: State,
    /// GRUB.
    pub cores: Cores,
    /// Our programs.
    pub programs: Programs,
}

/// Makes or finds all inputs.
pub fn inputs(options: &Options, progress: Progress<'_>) -> Result<Inputs> {
    let tools = tools::ensure_with(options.install, progress)?;
    let debian = debian::ensure(&tools, options.install, progress)?;
    let modules = modules::ensure(&tools, &debian, progress)?;
    let state = state::ensure(&tools, progress)?;
    let programs = match &options.programs {
        Some(dir) => Programs { init: dir.join("init"), berth: dir.join("berth") },
        None => programs::build(progress)?,
    };
    let cores = grub::ensure(&tools, progress)?;
    Ok(Inputs { tools, debian, modules, state, cores, programs })
}

/// The bundle of these options.
pub fn bundle(options: &Options, progress: Progress<'_>) -> Result<Bundle> {
    let inputs = inputs(options, progress)?;
    from_inputs(&inputs, options, progress)
}

/// The same with inputs at hand.
pub fn from_inputs(inputs: &Inputs, options: &Options, progress: Progress<'_>) -> Result<Bundle> {
    let epoch = stamp::epoch()?;
    let root = root_tree(inputs, options, epoch)?;
    let initrd = initrd_tree(inputs, options);
    let root_key = key("root", ROOT_CODE, inputs, epoch).with(options.compression.args().join(" "));
    let root_key = with_tree(root_key, &root)?.finish();
    let key = key("bundle", concat!(include_str!("bundle.rs"), include_str!("uki.rs")), inputs, epoch)
        .with(&root_key)
        .with(inputs.debian.key())
        .with(&options.cmdline);
    let key = with_tree(key, &initrd)?.finish();
    if options.fresh {
        cache::remove(&workspace::cache().join("bundle").join(&key))?;
        cache::remove(&workspace::cache().join("root").join(&root_key))?;
    }
    let dir = cache::stage("bundle", &key, limits::BUNDLES_KEPT, progress, |dir| {
        // Of its own, as many bundles differ in the initrd and the command line only.
        let made = cache::stage("root", &root_key, limits::ROOTS_KEPT, progress, |dir| {
            progress("making root and verity tree");
            make_root(&inputs.tools, &root, options, epoch, &dir.join("tree"), &dir.join(ROOT))?;
            make_verity(&dir.join(ROOT), dir)
        })?;
        for name in [ROOT, VERITY] {
            fs::hard_link(made.join(name), dir.join(name)).with_context(|| format!("{name} not linked"))?;
        }
        progress("making initrd and UKI");
        make(inputs, options, epoch, &read(&made.join(ROOT_HASH))?, [&root, &initrd], dir)
    })?;
    let facts: Facts =
        serde_json::from_slice(&read(&dir.join("facts.json"))?).context("facts.json is damaged")?;
    Ok(Bundle {
        uki: dir.join("uki.efi"),
        root: dir.join(ROOT),
        verity: dir.join(VERITY),
        root_hash: verity::parse_root_hash(&facts.root_hash).context("facts.json: no root hash")?,
        env: facts.env,
        kernel: dir.join("vmlinuz"),
        initrd: dir.join("direct.cpio"),
        cmdline: facts.cmdline,
        files: facts.files,
        key,
    })
}

/// Data of the root partition, data of the verity partition, and the root hash in hex.
const ROOT: &str = "root.erofs";
const VERITY: &str = "root.verity";
const ROOT_HASH: &str = "root.hash";
/// What makes a root.
const ROOT_CODE: &str = concat!(include_str!("bundle.rs"), include_str!("tree.rs"));

/// What root and bundle have in common.
fn key(kind: &str, code: &str, inputs: &Inputs, epoch: u64) -> Key {
    Key::new(kind, code).with(inputs.tools.key()).with(&inputs.modules.key).with(epoch.to_string())
}

/// Names and contents; those of modules are in the key already.
fn with_tree(mut key: Key, tree: &Tree) -> Result<Key> {
    for (path, node) in tree.iter() {
        key = key.with(path);
        if let Node::File(_, content, _) = node
            && !path.starts_with(debian::MODULES)
        {
            key = key.with(content.read()?);
        }
    }
    Ok(key)
}

/// Folders of the root that are mount points or links' targets.
const EMPTY_DIRS: [&str; 9] =
    ["dev", "proc", "sys", "run", "tmp", "etc", "mnt", "var/lib/berth", "usr/lib/berth/images"];

fn root_tree(inputs: &Inputs, options: &Options, epoch: u64) -> Result<Tree> {
    let ours = Origin::berth(&options.version);
    let mut tree = Tree::new();
    EMPTY_DIRS.iter().for_each(|dir| tree.dir(dir));
    tree.file("usr/lib/berth/berth", 0o755, Content::Path(inputs.programs.berth.clone()), ours.clone());
    let e2fsck = inputs.debian.package("e2fsck-static")?;
    let program = e2fsck.dir.join("usr/sbin/e2fsck.static");
    tree.file("usr/lib/berth/e2fsck", 0o755, Content::Path(program), e2fsck.origin());
    tree.file(
        "usr/lib/berth/state.ext4.zst",
        0o644,
        Content::Path(inputs.state.packed.clone()),
        ours.clone(),
    );
    tree.file("usr/lib/os-release", 0o644, Content::Bytes(os_release(&options.version, epoch)), ours.clone());
    let units = workspace::repo().join("init/units");
    if units.is_dir() {
        tree.copy("usr/lib/berth/units", &units, &ours)?;
    }
    tree.dir("usr/lib/berth/units");
    let grub =
        |name: &str| inputs.tools.version(name).map(|version| Origin { package: name.into(), version });
    let (efi, pc) = (grub("grub-efi-amd64-bin")?, grub("grub-pc-bin")?);
    let cores = &inputs.cores;
    // For the installer.
    for (name, from, origin) in [
        ("BOOTX64.EFI", &cores.efi, efi),
        ("boot.img", &cores.boot, pc.clone()),
        ("core.img", &cores.core, pc),
    ] {
        tree.file(&format!("usr/lib/berth/boot/{name}"), 0o644, Content::Path(from.clone()), origin);
    }
    tree.copy(debian::MODULES, &inputs.modules.root, &inputs.debian.kernel()?.origin())?;
    for (path, bytes) in &options.files {
        tree.file(path, 0o644, Content::Bytes(bytes.clone()), ours.clone());
    }
    Ok(tree)
}

/// The initrd's own part; the kernel's modules are the other.
fn initrd_tree(inputs: &Inputs, options: &Options) -> Tree {
    let ours = Origin::berth(&options.version);
    let mut tree = Tree::new();
    ["dev", "proc", "sys", "run", "tmp", "mnt"].iter().for_each(|dir| tree.dir(dir));
    let init = options.init.as_ref().unwrap_or(&inputs.programs.init);
    tree.file("init", 0o755, Content::Path(init.clone()), ours);
    tree
}

/// `os-release(5)`; `BERTH_BUILD_TIME` is the clock's floor.
fn os_release(version: &str, epoch: u64) -> Vec<u8> {
    format!(
        "ID=berth\nNAME=Berth\nPRETTY_NAME=\"Berth {version}\"\nVERSION_ID={version}\nIMAGE_ID=berth\n\
         IMAGE_VERSION={version}\nBERTH_BUILD_TIME={epoch}\n"
    )
    .into_bytes()
}

/// Fixed part of the command line. Two consoles, the serial one being `/dev/console`; a panic restarts after three
/// seconds; then what a host of other people's containers should switch on or off before user space runs. (Signed
/// modules only, and lockdown, are not here: `init` switches them on when the boot is over, as checking the signatures
/// of modules that verity has checked already would double the boot's time.) `cryptomgr.notests`: the kernel does not
/// test its ciphers against known answers at each start, a tenth of the kernel's own boot time.
const CMDLINE: &str = "console=tty0 console=ttyS0,115200 panic=3 quiet loglevel=4 cryptomgr.notests transparent_hugepage=madvise \
    slab_nomerge page_alloc.shuffle=1 randomize_kstack_offset=on vsyscall=none debugfs=off";

/// Tells `init` that GRUB counted this start; direct boot lacks it.
pub const COUNTED: &str = "berth.loader=grub";

fn make(
    inputs: &Inputs,
    options: &Options,
    epoch: u64,
    root_hash: &[u8],
    [root, initrd]: [&Tree; 2],
    dir: &Path,
) -> Result<()> {
    let tools = &inputs.tools;
    let root_hash = String::from_utf8_lossy(root_hash).into_owned();
    // The modules' part lies ready in the cache; only ours is packed anew.
    let packed = dir.join("initrd");
    let own = dir.join("init.cpio.zst");
    modules::pack(tools, initrd, epoch, &own)?;
    let mut archive = read(&inputs.modules.archive)?;
    archive.extend(read(&own)?);
    write(&packed, &archive)?;
    fs::remove_file(&own).context("could not remove the initrd's part")?;
    let mut modules = Tree::new();
    modules.copy(debian::MODULES, &inputs.modules.direct, &inputs.debian.kernel()?.origin())?;
    // Not compressed: a hypervisor copies it faster than an emulated CPU unpacks it.
    let mut direct = Vec::new();
    modules.cpio(0, &mut direct)?;
    initrd.cpio(epoch, &mut direct)?;
    write(&dir.join("direct.cpio"), &direct)?;

    let kernel_dir = &inputs.debian.kernel()?.dir;
    let kernel = read(&kernel_dir.join(format!("boot/vmlinuz-{}", inputs.modules.version)))?;
    write(&dir.join("vmlinuz"), &kernel)?;
    let append = if options.cmdline.is_empty() { String::new() } else { format!(" {}", options.cmdline) };
    let base = format!("{CMDLINE} roothash={root_hash}");
    let cmdline = format!("{base} {COUNTED}{append}");

    let stub =
        inputs.debian.package("systemd-boot-efi")?.dir.join("usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    let (file, placed) = uki::build(
        &read(&stub)?,
        &[
            uki::Section { name: ".osrel", data: &os_release(&options.version, epoch) },
            uki::Section { name: ".cmdline", data: cmdline.as_bytes() },
            uki::Section { name: ".uname", data: inputs.modules.version.as_bytes() },
            uki::Section { name: ".initrd", data: &archive },
            uki::Section { name: ".linux", data: &kernel },
        ],
    )
    .with_context(|| format!("making the UKI from {}", stub.display()))?;
    write(&dir.join("uki.efi"), &file)?;

    let mut files = facts("root", root)?;
    files.extend(facts("initrd", initrd)?);
    let mut modules = Tree::new();
    modules.copy(debian::MODULES, &inputs.modules.initrd, &inputs.debian.kernel()?.origin())?;
    files.extend(facts("initrd", &modules)?);
    let facts = Facts {
        root_hash,
        env: berth_updater::uki::env(&placed, &cmdline)?,
        cmdline: format!("{base}{append}"),
        files,
    };
    write(&dir.join("facts.json"), &serde_json::to_vec(&facts)?)
}

fn make_root(
    tools: &Tools,
    root: &Tree,
    options: &Options,
    epoch: u64,
    scratch: &Path,
    to: &Path,
) -> Result<()> {
    root.write(scratch)?;
    let mut command = tools.command("mkfs.erofs");
    // Neither the machine's attributes nor its clock, owners or chance get in.
    command.args(["--quiet", "--all-root", "-x-1", "-b4096"]);
    // Whoever runs in the other slot tells by it what this one holds.
    command.args(["-L", options.version.get(..erofs::LABEL_BYTES).unwrap_or(&options.version)]);
    command.arg(format!("-T{epoch}")).args(["-U", "b3a1c7de-2f0a-4f4e-8d53-6265727468e0"]);
    command.args(options.compression.args()).arg(to).arg(scratch);
    // With it in the environment mkfs.erofs clamps times instead of setting them, and stores them in larger inodes.
    command.env_remove("SOURCE_DATE_EPOCH");
    run::run("making the root", &mut command)?;
    cache::remove(scratch)
}

/// Writes the tree of sums for `erofs`, and the root hash, to a folder. Salt and UUID come from the data: known to nobody before, and the
/// same for the same root.
fn make_verity(erofs: &Path, to: &Path) -> Result<()> {
    let file = fs::File::open(erofs).with_context(|| format!("could not open {}", erofs.display()))?;
    let bytes = file.metadata()?.len();
    let seed: [u8; 32] = Sha256::digest(read(erofs)?).into();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&Sha256::digest(seed)[..16]);
    let mut out = Vec::new();
    let hash = verity::build(&mut BufReader::new(file), bytes / verity::BLOCK as u64, uuid, &seed, &mut out)
        .context("computing the root's sums")?;
    write(&to.join(VERITY), &out)?;
    write(&to.join(ROOT_HASH), hex(&hash).as_bytes())
}

/// What the manifest says about a tree's files.
pub fn facts(place: &str, tree: &Tree) -> Result<Vec<FileFacts>> {
    let mut all = Vec::new();
    for (path, node) in tree.iter() {
        if let Node::File(mode, content, origin) = node {
            let bytes = content.read()?;
            all.push(FileFacts {
                place: place.into(),
                path: format!("/{path}"),
                mode: format!("{mode:04o}"),
                size: bytes.len() as u64,
                sha256: hex(&Sha256::digest(&bytes)),
                package: origin.package.clone(),
                version: origin.version.clone(),
            });
        }
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("could not read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("could not write {}", path.display()))
}
