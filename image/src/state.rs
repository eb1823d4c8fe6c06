//! The empty state file system. What cannot be changed after mkfs is chosen here.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use berth_updater::layout;

use crate::cache::{self, Key};
use crate::run::{self, Progress};
use crate::tools::Tools;

/// Features beyond mke2fs' own defaults, which `init` cannot add later: `verity` for image layers, `project` and
/// `quota` to bound a unit's disk use, `metadata_csum_seed` so that a new UUID needs no rewrite.
/// (The rest is what mke2fs would take by itself, said so that no configuration file decides.)
const FEATURES: &str = "none,verity,project,quota,metadata_csum_seed,metadata_csum,64bit,has_journal,orphan_file,\
    extent,flex_bg,filetype,dir_index,dir_nlink,ext_attr,extra_isize,sparse_super,large_file,huge_file,resize_inode";
/// Room for the table of block groups of that large a file system; beyond it the kernel changes to another layout.
const RESIZE_BLOCKS: u64 = (4 << 40) / 4096;
/// MiB of journal: the size is for good, and a small file system would get 4.
const JOURNAL_MIB: u32 = 64;
/// UUID of the empty file system; `init` gives the machine's own one.
const UUID: &str = "b6f0d1f2-7f2e-4c39-8a5c-4d1f0c0a5e11";

/// The empty file system.
#[derive(Debug, Clone)]
pub struct State {
    /// As it is, sparse.
    pub raw: PathBuf,
    /// zstd.
    pub packed: PathBuf,
    /// Names the inputs.
    pub key: String,
}

/// The empty file system, made when it is not there yet.
pub fn ensure(tools: &Tools, progress: Progress<'_>) -> Result<State> {
    let bytes = layout::STATE.bytes;
    let key = Key::new("state", include_str!("state.rs")).with(tools.key()).with(bytes.to_string()).finish();
    let dir = cache::stage("state", &key, 1, progress, |dir| {
        progress("making the empty state file system");
        let raw = dir.join("state.ext4");
        let file = fs::File::create(&raw).with_context(|| format!("could not create {}", raw.display()))?;
        file.set_len(bytes).with_context(|| format!("could not size {}", raw.display()))?;
        // A fixed time (2020-01-01): the same file system whenever it is made.
        let mut command = tools.command("mke2fs");
        command.env("SOURCE_DATE_EPOCH", "1577836800").env("E2FSPROGS_FAKE_TIME", "1577836800");
        command.env("MKE2FS_CONFIG", tools.root().join("etc/mke2fs.conf"));
        command.args(["-t", "ext4", "-q", "-F", "-b", "4096", "-I", "256", "-m", "1"]);
        command.args(["-i", "16384", "-L", layout::STATE.label, "-U", UUID, "-e", "remount-ro"]);
        command.args(["-O", FEATURES]);
        command.arg("-J").arg(format!("size={JOURNAL_MIB}"));
        command.arg("-E").arg(format!(
            "resize={RESIZE_BLOCKS},hash_seed={UUID},quotatype=usrquota:grpquota:prjquota,lazy_itable_init=1,\
             lazy_journal_init=1,assume_storage_prezeroed=1,nodiscard,root_owner=0:0"
        ));
        run::run("making the state file system", command.arg(&raw))?;
        run::run(
            "packing the state file system",
            tools
                .command("zstd")
                .args(["-q", "-19", "-T1"])
                .arg(&raw)
                .arg("-o")
                .arg(dir.join("state.ext4.zst")),
        )
    })?;
    Ok(State { raw: dir.join("state.ext4"), packed: dir.join("state.ext4.zst"), key })
}

/// Checks a file system with e2fsck, changing nothing.
pub fn check(tools: &Tools, state: &State) -> Result<()> {
    run::run("checking the state file system", tools.command("e2fsck").args(["-f", "-n"]).arg(&state.raw))
}

/// Bytes of the packed file system.
pub fn packed_bytes(state: &State) -> Result<u64> {
    Ok(fs::metadata(&state.packed)
        .with_context(|| format!("could not read {}", state.packed.display()))?
        .len())
}
