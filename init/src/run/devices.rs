//! Devices that the main loop cares about: power buttons, and disks that workers may read.

use super::limits;
use super::reactor::{Reactor, Source, Watch};
use crate::early::{buttons, disks};
use crate::sys::{child, early as sys};
use berth_units::control::packet;
use berth_units::limits::MESSAGE_FDS;
use berth_units::model::{INSTALL_DISKS, SLOT_PARTS};
use berth_updater::layout::{self, Part, Slot};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// Block devices handed to a worker.
const DISKS: usize = 48;
/// Kinds of block device that are never somebody's data: memory, and what is stacked on other devices.
const NOT_DISKS: [&str; 7] = ["dm-", "loop", "md", "nbd", "ram", "zram", "fd"];

/// Open power buttons.
#[derive(Debug, Default)]
pub struct Buttons {
    open: BTreeMap<u64, (File, Watch)>,
}

impl Buttons {
    /// Looks for buttons that are not open yet.
    pub fn look(&mut self, reactor: &mut Reactor) {
        for (number, file) in buttons::open(&self.open) {
            if let Ok(watch) = reactor.watch(&file, Source::Button(number)) {
                self.open.insert(number, (file, watch));
            }
        }
    }

    /// Was it pressed? A button that is gone is closed.
    pub fn pressed(&mut self, reactor: &mut Reactor, number: u64) -> bool {
        let Some((file, _)) = self.open.get(&number) else { return false };
        buttons::pressed(file).unwrap_or_else(|| {
            if let Some((file, watch)) = self.open.remove(&number) {
                reactor.forget(&file, watch);
            }
            false
        })
    }
}

/// Where a child hands over the disks that it opens. Opening one may hang, whatever it is asked not to wait for.
#[derive(Debug)]
pub struct Opened(UnixDatagram);

impl Opened {
    /// Nothing yet; the second end is the child's.
    pub fn new() -> io::Result<(Opened, UnixDatagram)> {
        let (ours, theirs) = UnixDatagram::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        Ok((Opened(ours), theirs))
    }

    /// What has come, by name.
    pub fn take(self) -> Vec<(String, OwnedFd)> {
        let mut buffer = [0; 4096];
        let mut all = Vec::new();
        while let Ok((names, fds)) = packet::recv::<Vec<String>>(self.0.as_fd(), &mut buffer) {
            all.extend(names.into_iter().zip(fds));
        }
        all
    }
}

/// In a child: read-only descriptors of every disk and partition that is not on Berth's own disk. Says which are left
/// out because they did not open in time.
pub fn open_foreign(own: &Path, to: &UnixDatagram) -> Result<String, String> {
    hand_over(foreign_disks(own), limits::DISK_OPEN, to, open)
}

/// In a child: descriptors of the partitions of a slot of Berth's own disk that does not run, and of the ESP, to be read and
/// written.
pub fn open_slot(own: &Path, slot: Slot, to: &UnixDatagram) -> Result<String, String> {
    let mut disk = File::open(own).map_err(|error| format!("{}: {error}", own.display()))?;
    let table = disks::table(&mut disk)?.table;
    let name = own.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let open = |part: Part| {
        let found = table.by_label(part.kind, part.label);
        let (number, _) =
            found.ok_or_else(|| format!("{} has no partition {}", own.display(), part.label))?;
        let node = disks::partition_node(name, number);
        let file = OpenOptions::new().read(true).write(true).open(&node);
        file.map_err(|error| format!("{}: {error}", node.display()))
    };
    let files = [open(slot.root())?, open(slot.verity())?, open(layout::ESP)?];
    packet::send(to.as_fd(), &SLOT_PARTS, &files.each_ref().map(AsFd::as_fd))
        .map_err(|error| error.to_string())?;
    Ok(String::new())
}

/// In a child: descriptors of the installation medium, to be read, and of the disk that Berth is to be on, to be written.
pub fn open_install(medium: &Path, disk: &Path, to: &UnixDatagram) -> Result<String, String> {
    let about = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let from = File::open(medium).map_err(|error| about(medium, error))?;
    // Workers that have looked at it were kept from writing to it; nobody else may have it open to write.
    let looked = File::open(disk).map_err(|error| about(disk, error))?;
    sys::block_read_only(&looked, false).map_err(|error| about(disk, error))?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_EXCL | libc::O_CLOEXEC);
    let onto = options.open(disk).map_err(|error| about(disk, error))?;
    packet::send(to.as_fd(), &INSTALL_DISKS, &[from.as_fd(), onto.as_fd()])
        .map_err(|error| error.to_string())?;
    Ok(String::new())
}

fn hand_over(
    names: Vec<String>,
    limit: Duration,
    to: &UnixDatagram,
    open: impl Fn(&str) -> Option<(String, OwnedFd)> + Clone + Send + 'static,
) -> Result<String, String> {
    let (opened, late) = child::each(names, limit, open);
    let opened: Vec<_> = opened.into_iter().flatten().collect();
    for part in opened.chunks(MESSAGE_FDS) {
        let names: Vec<&str> = part.iter().map(|(name, _)| name.as_str()).collect();
        let fds: Vec<_> = part.iter().map(|(_, fd)| fd.as_fd()).collect();
        packet::send(to.as_fd(), &names, &fds).map_err(|error| error.to_string())?;
    }
    Ok(late.join(", "))
}

/// Names of whole disks, the system's own among them.
pub fn whole_disks() -> Vec<String> {
    let mut names: Vec<String> = disks_that_are().collect();
    names.sort();
    names.truncate(DISKS);
    names
}

/// Where the kernel lists whole block devices.
const BLOCK: &str = "/sys/block";

/// Names of whole disks, in no order.
fn disks_that_are() -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(BLOCK).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)))
}

/// Names of these disks and partitions.
fn foreign_disks(own: &Path) -> Vec<String> {
    let own = own.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for name in disks_that_are().filter(|name| name != own) {
        let parts = std::fs::read_dir(Path::new(BLOCK).join(&name)).into_iter().flatten().flatten();
        let parts = parts.filter(|part| part.path().join("partition").exists());
        names.extend(parts.filter_map(|part| part.file_name().to_str().map(str::to_owned)));
        names.push(name);
    }
    names.sort();
    names.truncate(DISKS);
    names
}

/// Opening does not wait for a medium. The worker runs as user 0 and could open its descriptor anew for writing, by way
/// of `/proc`: so the kernel is told that nobody writes to this disk.
fn open(name: &str) -> Option<(String, OwnedFd)> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.open(Path::new("/dev").join(name.replace('!', "/"))).ok()?;
    if file.metadata().is_ok_and(|about| about.file_type().is_block_device()) {
        sys::block_read_only(&file, true).ok()?;
    }
    Some((name.to_owned(), OwnedFd::from(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_does_not_open_is_named_and_the_others_are_there() {
        let (opened, to) = Opened::new().unwrap();
        let work = || {
            let names = ["null", "sick", "none"].map(String::from).to_vec();
            hand_over(names, Duration::from_millis(200), &to, |name| {
                if name == "sick" {
                    child::hang();
                }
                open(name)
            })
        };
        assert_eq!(child::run(Duration::from_secs(10), work).unwrap(), "sick");
        let names: Vec<String> = opened.take().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["null"]);
        assert!(Opened::new().unwrap().0.take().is_empty());
    }

    #[test]
    fn as_many_disks_as_there_may_be_fit() {
        let (opened, to) = Opened::new().unwrap();
        hand_over(vec!["null".to_owned(); DISKS], Duration::from_secs(10), &to, open).unwrap();
        assert_eq!(opened.take().len(), DISKS);
    }
}
