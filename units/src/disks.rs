//! Which disk a file system or a device is on, by what sysfs says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Steps from a device to what it consists of (a mapping on a partition on a disk), so that no odd answer is followed for
/// ever.
const DEPTH: u32 = 8;

/// A block device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl Disk {
    /// `8:1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// As `st_dev` and `st_rdev` have it.
    pub fn of(device: u64) -> Self {
        Self { major: libc::major(device), minor: libc::minor(device) }
    }

    /// The whole disks on which it lies: of a partition the one around it, of a mapping those below. Empty if it is no block
    /// device.
    pub fn whole(self) -> BTreeSet<Disk> {
        let mut found = BTreeSet::new();
        below(Path::new("/sys/dev/block"), self, DEPTH, &mut found);
        found
    }
}

/// Whether a character device is a way to one of these disks: that of an NVMe controller or name space, of a SCSI device (`sg`, `bsg`), of
/// the USB device that it is.
pub fn is_way_to(character: Disk, disks: &BTreeSet<Disk>) -> bool {
    is_way_below(Path::new("/sys/dev"), character, disks)
}

fn is_way_below(sys: &Path, character: Disk, disks: &BTreeSet<Disk>) -> bool {
    let Ok(here) = std::fs::canonicalize(sys.join("char").join(character.to_string())) else { return false };
    let hung = std::fs::canonicalize(here.join("device")).ok();
    disks.iter().any(|disk| {
        let ours = std::fs::canonicalize(sys.join("block").join(disk.to_string()).join("device"));
        let same = |place: &PathBuf| {
            ours.as_ref().is_ok_and(|ours| ours.starts_with(place) || place.starts_with(ours))
        };
        same(&here) || hung.as_ref().is_some_and(same)
    })
}

fn below(devices: &Path, device: Disk, depth: u32, found: &mut BTreeSet<Disk>) {
    let number =
        |path: PathBuf| std::fs::read_to_string(path.join("dev")).ok().and_then(|text| Disk::parse(&text));
    let Ok(folder) = std::fs::canonicalize(devices.join(device.to_string())) else { return };
    if depth == 0 {
        return;
    }
    if folder.join("partition").exists() {
        if let Some(disk) = folder.parent().and_then(|parent| number(parent.to_owned())) {
            below(devices, disk, depth - 1, found);
        }
        return;
    }
    let parts: Vec<Disk> = std::fs::read_dir(folder.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|part| number(part.path()))
        .collect();
    for part in &parts {
        below(devices, *part, depth - 1, found);
    }
    if parts.is_empty() {
        found.insert(device);
    }
}

/// The disk of the file system that is mounted at `place`; `None` if it is on none, as a temporary one. Does not touch the
/// file system.
pub fn under(place: &Path) -> Option<Disk> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounted(&mounts, place)?.whole().into_iter().next()
}

/// What is mounted there last, by `/proc/<pid>/mountinfo`.
fn mounted(mounts: &str, place: &Path) -> Option<Disk> {
    let at = |line: &&str| line.split(' ').nth(4).is_some_and(|target| Path::new(target) == place);
    Disk::parse(mounts.lines().rfind(at)?.split(' ').nth(2)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn ways_to_a_disk_are_known_by_what_they_hang_on() {
        let sys = tempfile::tempdir().unwrap();
        let devices = sys.path().join("devices/pci/nvme/nvme0");
        let dev = sys.path().join("dev");
        let link = |to: &Path, at: PathBuf| {
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(to, at).unwrap();
        };
        for name in ["nvme0n1", "ng0n1"] {
            std::fs::create_dir_all(devices.join(name)).unwrap();
            link(&devices, devices.join(name).join("device"));
        }
        let other = sys.path().join("devices/virtual/misc/kvm");
        std::fs::create_dir_all(&other).unwrap();
        link(&devices.join("nvme0n1"), dev.join("block/259:0"));
        link(&devices.join("ng0n1"), dev.join("char/240:0"));
        link(&devices, dev.join("char/241:0"));
        link(&other, dev.join("char/10:232"));
        let own = BTreeSet::from([Disk { major: 259, minor: 0 }]);
        let is_way = |major, minor| is_way_below(&dev, Disk { major, minor }, &own);
        assert!(is_way(240, 0) && is_way(241, 0), "name space and controller");
        assert!(!is_way(10, 232) && !is_way(1, 3));
        assert!(!is_way_below(&dev, Disk { major: 240, minor: 0 }, &BTreeSet::new()));
    }

    #[test]
    fn partitions_and_mappings_lead_to_their_disks() {
        let sys = tempfile::tempdir().unwrap();
        let make = |folder: &str, number: &str| {
            let path = sys.path().join("devices").join(folder);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("dev"), format!("{number}\n")).unwrap();
            std::fs::create_dir_all(sys.path().join("block")).unwrap();
            symlink(&path, sys.path().join("block").join(number)).unwrap();
            path
        };
        make("vda", "254:0");
        let part = make("vda/vda7", "254:7");
        std::fs::write(part.join("partition"), "7\n").unwrap();
        let mapping = make("dm-0", "253:0");
        std::fs::create_dir(mapping.join("slaves")).unwrap();
        symlink(&part, mapping.join("slaves/vda7")).unwrap();
        // Something that consists of itself.
        let odd = make("odd", "9:9");
        std::fs::create_dir(odd.join("slaves")).unwrap();
        symlink(&odd, odd.join("slaves/odd")).unwrap();

        let whole = |major, minor| {
            let mut found = BTreeSet::new();
            below(&sys.path().join("block"), Disk { major, minor }, DEPTH, &mut found);
            found.into_iter().map(|disk| disk.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(whole(254, 0), ["254:0"]);
        assert_eq!(whole(254, 7), ["254:0"]);
        assert_eq!(whole(253, 0), ["254:0"]);
        assert!(whole(9, 9).is_empty());
        assert!(whole(0, 35).is_empty());
    }

    #[test]
    fn what_is_mounted_where() {
        let mounts = "22 1 253:0 / / ro - erofs /dev/dm-0 ro\n\
                      30 22 0:30 / /var/lib/berth rw - tmpfs tmpfs rw\n\
                      31 22 254:7 / /var/lib/berth rw,nosuid - ext4 /dev/vda7 rw\n";
        assert_eq!(mounted(mounts, Path::new("/var/lib/berth")).unwrap().to_string(), "254:7");
        assert_eq!(mounted(mounts, Path::new("/var")), None);
        assert_eq!(mounted("", Path::new("/")), None);
    }
}
