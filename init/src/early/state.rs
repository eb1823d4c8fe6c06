//! The state partition: found on the boot disk, grown to its end, checked, mounted. Without it the boot goes on with
//! a temporary one in memory, and says so.
//!
//! 1. Grow the partition: the table is written at both ends of the disk, the kernel is told.
//! 2. Look at the superblock: is it ext4, does its error flag say that a check is due?
//! 3. Mount.
//! 4. Grow the file system to the partition.
//!
//! All of it blocks, so children do it. The first three steps have a deadline; what they mount is attached nowhere until
//! PID 1 attaches it, so a mount that comes after the deadline is never seen, and no temporary state is ever on top of
//! a real one or below it. The fourth takes as long as it takes, and nobody waits for it. Where 2 or 3 finds damage, e2fsck repairs it, unless
//! the partition is signed as something else ([`signatures`]): then it is left alone. Where 2 finds nothing at all, an empty file system is written ([`repair`]); then all of it once more. What cannot be
//! repaired is left as it is: nothing is ever made new over what may hold data.

use super::modules::Modules;
use super::{State, console, disks, fail, limits, repair};
use crate::sys::child::{self, ChildError};
use crate::sys::early::{block_bytes, ext4_resize, resize_partition};
use berth_units::mounts::{attach, detached};
use berth_units::{blank, paths, signatures};
use berth_updater::gpt::Found as FoundTable;
use berth_updater::layout;
use berth_updater::steps::Status;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the superblock lies in an ext4, in bytes.
const SUPERBLOCK_AT: u64 = 1024;
const FLAGS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOATIME);
/// The same for a mount that is attached nowhere.
const ATTRIBUTES: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOATIME;
/// What the kernel answers to a damaged file system: by its structure, its fields (`EFSCORRUPTED`), its sums
/// (`EFSBADCRC`). Not `EIO`: a disk that cannot be read is not made better by writing to it.
const DAMAGE: [Errno; 3] = [Errno::EINVAL, Errno::EUCLEAN, Errno::EBADMSG];

/// What a child found.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Found {
    /// It is mounted; what to say about it, and to what size it is to grow.
    Mounted(Vec<String>, Option<Growth>),
    /// It is to be repaired first, and why.
    Damaged(String),
    /// It was never formatted.
    Blank,
}

/// What a file system is to grow to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Growth {
    blocks: u64,
    bytes: u64,
}

/// Mounts the state of that disk, repaired or made if need be, or a temporary one. `limit` is for each attempt.
pub fn set_up(disk: &Path, limit: Duration) -> State {
    match persistent(disk, limit) {
        Ok((device, notes)) => State::Persistent { device, note: notes.join("; ") },
        Err(reason) => mount_temporary(reason),
    }
}

fn persistent(disk: &Path, limit: Duration) -> Result<(PathBuf, Vec<String>), String> {
    let (device, found) = attempt(disk, limit, true)?;
    let name = device.display();
    let mended = match found {
        Found::Mounted(notes, _) => return Ok((device, notes)),
        Found::Damaged(what) => {
            announce(&format!(
                "{name} {what}: e2fsck repairs it, in {} s at most",
                repair::limit().as_secs()
            ));
            let done = repair::check(&device).map_err(|why| left_alone(&device, &what, &why))?;
            format!("{name} {what}: {done}")
        }
        Found::Blank => {
            announce(&format!("{name} was never formatted: an empty file system is made"));
            repair::make(&device).map_err(|why| {
                format!("{name} was never formatted, and no file system could be made: {why}")
            })?;
            format!("{name} was never formatted; an empty file system was made")
        }
    };
    match attempt(disk, limit, false)? {
        (device, Found::Mounted(mut notes, _)) => {
            notes.insert(0, mended);
            Ok((device, notes))
        }
        (_, Found::Damaged(what)) => Err(left_alone(&device, &what, &mended)),
        (_, Found::Blank) => {
            Err(format!("{mended}, but it is blank again; does the disk keep what is written?"))
        }
    }
}

/// To whoever watches, and to the step record: a repair may take longer than any other step.
fn announce(sentence: &str) {
    console::say("state", sentence);
    fail::with(|record| record.step("main", "state repair", Status::Running, ""));
}

fn left_alone(device: &Path, what: &str, why: &str) -> String {
    format!(
        "{name} {what}; {why}. What it holds was kept: repair it from another system, or fill it with zeros there, and \
         the next start makes an empty one",
        name = device.display()
    )
}

/// In a child: steps 1 to 3. Attaches what it mounted, and starts step 4.
fn attempt(disk: &Path, limit: Duration, flag_counts: bool) -> Result<(PathBuf, Found), String> {
    let work = || {
        let (device, found, mount) = look_and_mount(disk, flag_counts)?;
        let text = serde_json::to_string(&(device, found)).map_err(|error| error.to_string())?;
        Ok((text, mount))
    };
    let (answer, mount) = child::run_for_fd(limit, work).map_err(|error| match error {
        ChildError::Failed(reason) => reason,
        other => other.to_string(),
    })?;
    let (device, found): (PathBuf, Found) =
        serde_json::from_str(&answer).map_err(|error| format!("helper process: {error}"))?;
    if let Found::Mounted(_, growth) = &found {
        let target = File::options().read(true).custom_flags(libc::O_PATH).open(paths::STATE);
        mount
            .ok_or_else(|| io::Error::other("no mount came with the helper process's answer"))
            .and_then(|mount| attach(mount.as_fd(), target?.as_fd()))
            .map_err(|error| format!("{}: not mounted: {error}", device.display()))?;
        if let Some(growth) = *growth
            && let Err(error) = child::start(move || grow_file_system(growth))
        {
            console::say("state", format_args!("file system not grown: {error}"));
        }
    }
    Ok((device, found))
}

/// Step 4. Blocks; for a child that nobody waits for.
fn grow_file_system(growth: Growth) -> Result<String, String> {
    let resized = File::open(paths::STATE).and_then(|mounted| ext4_resize(&mounted, growth.blocks));
    match resized {
        Ok(()) => console::say("state", format_args!("grown to {} MiB", growth.bytes >> 20)),
        Err(error) => console::say("state", format_args!("file system not grown: {error}")),
    }
    Ok(String::new())
}

/// A temporary one, in a start that is to do without.
pub fn leave_alone() -> State {
    mount_temporary(
        "the state partition is left alone in this start, as the starts before died or hung with it, in rescue too; the \
         next start uses it again"
            .into(),
    )
}

/// The state partition's node.
pub fn partition(disk: &Path) -> Result<PathBuf, String> {
    find(disk).map(|(device, ..)| device)
}

/// The state of a machine that runs from its installation medium.
pub fn in_memory() -> State {
    mount_temporary("this machine runs from its installation medium".into())
}

fn mount_temporary(reason: String) -> State {
    let options = format!("mode=0755,size={}%", limits::TEMPORARY_STATE_PERCENT);
    let mounted = mount(Some("tmpfs"), paths::STATE, Some("tmpfs"), FLAGS, Some(options.as_str()));
    let reason = match mounted {
        Ok(()) => reason,
        Err(error) => format!("{reason}; and no temporary one either: {error}"),
    };
    State::Temporary { reason }
}

/// Where the state is, what it is, and its mount.
type Looked = (PathBuf, Found, Option<OwnedFd>);

fn look_and_mount(disk: &Path, flag_counts: bool) -> Result<Looked, String> {
    let (device, number, found) = find(disk)?;
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", device.display());
    let mut notes = Vec::new();
    let writable = OpenOptions::new().read(true).write(true).open(disk);
    match writable.map_err(|error| error.to_string()).and_then(|mut file| grow(&mut file, found, number)) {
        Ok(note) => notes.extend(note),
        Err(error) => notes.push(format!("partition not grown: {error}")),
    }

    let partition = File::open(&device).map_err(|error| about(&error))?;
    let bytes = block_bytes(&partition).map_err(|error| about(&error))?;
    let mut superblock = [0; 1024];
    partition.read_exact_at(&mut superblock, SUPERBLOCK_AT).map_err(|error| about(&error))?;
    let found = match Superblock::parse(&superblock) {
        Ok(found) if found.has_errors && flag_counts => {
            return damaged(device, &partition, bytes, "is marked as damaged".into());
        }
        Ok(found) => found,
        Err(what) => {
            if blank::is_blank(&partition, bytes).map_err(|error| about(&error))? {
                return Ok((device, Found::Blank, None));
            }
            return damaged(device, &partition, bytes, what);
        }
    };

    let mut modules = Modules::open().map_err(|error| error.to_string())?;
    modules.load_feature("ext4").map_err(|error| error.to_string())?;
    let source = CString::new(device.as_os_str().as_bytes()).map_err(|error| about(&error))?;
    let options = [(c"source", source.as_c_str()), (c"errors", c"remount-ro")];
    let mounted = detached(c"ext4", &options, ATTRIBUTES);
    let mounted = mounted.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
    let mounted = match mounted {
        Ok(mounted) => mounted,
        Err(error) if DAMAGE.contains(&error) => {
            return damaged(device, &partition, bytes, format!("cannot be mounted ({error})"));
        }
        Err(error) => return Err(about(&format!("not mounted: {}", mount_error(error)))),
    };

    let blocks = bytes / found.block_bytes;
    let growth = (blocks > found.blocks).then_some(Growth { blocks, bytes });
    if growth.is_none() {
        room(&device, &mounted)?;
    }
    Ok((device, Found::Mounted(notes, growth), Some(mounted)))
}

/// To be repaired, unless it is somebody else's: old copies of a superblock lie in many a partition that has long
/// been given to something else.
fn damaged(device: PathBuf, partition: &File, bytes: u64, what: String) -> Result<Looked, String> {
    match signatures::foreign(partition, bytes) {
        Ok(None) => Ok((device, Found::Damaged(what), None)),
        Ok(Some(other)) => Err(format!(
            "{name} holds {other}, no ext4: nothing was written to it. Give the machine another disk, or fill the \
             partition with zeros from another system, and the next start makes an empty file system",
            name = device.display()
        )),
        Err(error) => Err(format!("{}: {error}", device.display())),
    }
}

/// What mount(2) means by it.
fn mount_error(error: Errno) -> String {
    match error {
        Errno::EACCES | Errno::EROFS => "the disk is write-protected".into(),
        other => other.to_string(),
    }
}

/// A machine that has lived keeps its state however full it is: what it needs is there. One that cannot even begin to
/// keep something is better off with a temporary one.
fn room(device: &Path, mounted: &OwnedFd) -> Result<(), String> {
    let top = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
    let config = Path::new(paths::STATE_CONFIG).strip_prefix(paths::STATE).unwrap_or(Path::new("config"));
    if top.join(config).exists() {
        return Ok(());
    }
    let free = statvfs(&top)
        .map(|stat| stat.blocks_available().saturating_mul(stat.fragment_size()))
        .map_err(|error| format!("{}: {error}", device.display()))?;
    if free >= limits::NEW_STATE_BYTES {
        return Ok(());
    }
    Err(format!(
        "{} holds no machine's state and is full ({} KiB free): remove what fills it, from another system",
        device.display(),
        free >> 10
    ))
}

fn find(disk: &Path) -> Result<(PathBuf, usize, FoundTable), String> {
    let name = disk.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut file = File::open(disk).map_err(|error| format!("{}: {error}", disk.display()))?;
    let found = disks::table(&mut file)?;
    let number = found.table.by_label(layout::STATE.kind, layout::STATE.label).map(|(number, _)| number);
    let number = number.ok_or_else(|| format!("{} has no state partition", disk.display()))?;
    Ok((disks::partition_node(name, number), number, found))
}

/// Writes the table anew when the disk is larger than it, or either of its copies is not as it should be.
fn grow(disk: &mut File, found: FoundTable, number: usize) -> Result<Option<String>, String> {
    let FoundTable { mut table, primary, backup } = found;
    let before = table.clone();
    let bytes = block_bytes(disk).map_err(|error| error.to_string())?;
    let grown = table.grow(bytes / u64::from(table.sector_bytes)).map_err(|error| error.to_string())?;
    if table == before && backup.is_none() && primary.is_none() {
        return Ok(None);
    }
    table.write(disk, |disk| disk.sync_all()).map_err(|error| error.to_string())?;
    if grown == Some(number)
        && let Some(partition) = table.entries.get(number - 1).and_then(Option::as_ref)
    {
        let bytes = |sectors: u64| i64::try_from(sectors * u64::from(table.sector_bytes)).unwrap_or(i64::MAX);
        let number = i32::try_from(number).map_err(|error| error.to_string())?;
        resize_partition(disk, number, bytes(partition.first), bytes(partition.sectors()))
            .map_err(|error| error.to_string())?;
    }
    Ok(backup.map(|_| "backup partition table written again".to_owned()).filter(|_| grown.is_none()))
}

/// What is read of an ext4 superblock (kernel documentation, `filesystems/ext4/super.rst`).
#[derive(Debug, PartialEq, Eq)]
struct Superblock {
    blocks: u64,
    block_bytes: u64,
    has_errors: bool,
}

impl Superblock {
    fn parse(bytes: &[u8; 1024]) -> Result<Superblock, String> {
        let half = |at: usize| u64::from(bytes[at]) | (u64::from(bytes[at + 1]) << 8);
        let word = |at: usize| half(at) | (half(at + 2) << 16);
        if bytes.iter().all(|&byte| byte == 0) {
            return Err("has an empty superblock".into());
        }
        if half(0x38) != 0xef53 {
            return Err("holds no ext4 where it should begin".into());
        }
        let log = word(0x18);
        if log > 6 {
            return Err(format!("has a damaged superblock (block size 2^{})", log + 10));
        }
        let wide = word(0x60) & 0x80 != 0;
        let blocks = word(0x04) | if wide { word(0x150) << 32 } else { 0 };
        // s_state: 1 = cleanly unmounted, 2 = errors found.
        Ok(Superblock { blocks, block_bytes: 1024 << log, has_errors: half(0x3a) & 2 != 0 })
    }
}

/// For fuzzing.
pub fn fuzz(bytes: &[u8; 1024]) {
    if let Ok(found) = Superblock::parse(bytes) {
        // A size is divided by it.
        assert!(found.block_bytes.is_power_of_two() && (1 << 10..=1 << 16).contains(&found.block_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(changes: &[(usize, u8)]) -> [u8; 1024] {
        let mut bytes = [0; 1024];
        for (at, byte) in
            [(0x38, 0x53), (0x39, 0xef), (0x3a, 1), (0x18, 2), (0x05, 0x80)].iter().chain(changes)
        {
            bytes[*at] = *byte;
        }
        bytes
    }

    #[test]
    fn size_and_error_flag() {
        let clean = Superblock { blocks: 0x8000, block_bytes: 4096, has_errors: false };
        assert_eq!(Superblock::parse(&superblock(&[])).unwrap(), clean);
        assert!(Superblock::parse(&superblock(&[(0x3a, 2)])).unwrap().has_errors);
        let wide = Superblock::parse(&superblock(&[(0x60, 0x80), (0x150, 1)])).unwrap();
        assert_eq!(wide.blocks, 0x1_0000_8000);
    }

    #[test]
    fn what_is_no_ext4_is_told_apart() {
        assert!(Superblock::parse(&[0; 1024]).unwrap_err().contains("empty"));
        assert!(Superblock::parse(&[0xaa; 1024]).unwrap_err().contains("no ext4"));
        assert!(Superblock::parse(&superblock(&[(0x18, 99)])).unwrap_err().contains("damaged"));
    }
}
