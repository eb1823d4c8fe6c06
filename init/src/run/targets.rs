//! The machine's disks, and which of them Berth may be installed on. Looking at them may hang, so a child does it.

use super::devices;
use crate::early::{Firmware, disks};
use crate::sys::child;
use crate::sys::early::{block_bytes, sector_bytes};
use berth_units::control::DiskStatus;
use berth_units::model::{DiskRule, InstallSettings};
use berth_units::signatures;
use berth_updater::guid::Guid;
use berth_updater::layout::{self, KIND_RECORD};
use berth_updater::medium::INSTALLING;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a disk holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    /// Nothing that anybody would look for.
    Nothing,
    /// An installation of Berth that was cut off.
    Begun,
    /// Berth, on a disk with this GUID.
    Berth(String),
    /// Something else.
    Other(String),
    /// It is not known.
    Unreadable(String),
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Name of its node: `vda`.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Bytes of a logical sector.
    pub sector_bytes: u32,
    /// By its maker; may be empty.
    pub model: String,
    /// May be empty.
    pub serial: String,
    /// It can be taken out.
    pub removable: bool,
    /// Something else is built on it, or it is mounted.
    pub in_use: bool,
    /// The system runs from it.
    pub own: bool,
    /// See there.
    pub holds: Holds,
}

/// What is to be installed on which disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The disk.
    pub disk: Disk,
    /// An installation by the same order is on it already.
    pub there: bool,
}

impl Disk {
    fn path(&self) -> String {
        format!("/dev/{}", self.name)
    }

    /// As messages have it.
    fn shown(&self) -> String {
        let serial = if self.serial.is_empty() { String::new() } else { format!(", serial {}", self.serial) };
        format!("{} ({} MiB{serial})", self.path(), self.bytes >> 20)
    }

    /// Why it cannot be taken, whatever anybody says.
    fn never(&self, firmware: Firmware) -> Option<String> {
        let needs = layout::disk_bytes(self.sector_bytes);
        if self.own {
            Some("this system runs from it".into())
        } else if self.in_use {
            Some("it is in use".into())
        } else if let Holds::Unreadable(why) = &self.holds {
            Some(format!("it cannot be read: {why}"))
        } else if self.bytes < needs {
            Some(format!("it has {} MiB, and {} are needed", self.bytes >> 20, needs >> 20))
        } else if !matches!(self.sector_bytes, 512 | 4096) {
            Some(format!("its sectors have {} bytes", self.sector_bytes))
        } else if self.sector_bytes == 4096 && firmware == Firmware::Bios {
            Some(
                "its sectors have 4096 bytes, from which only UEFI starts; this machine was started by BIOS"
                    .into(),
            )
        } else {
            None
        }
    }

    /// What would have to be said for it to be taken.
    fn unless_told(&self, settings: &InstallSettings) -> Option<String> {
        let holds = match &self.holds {
            Holds::Berth(_) => Some("Berth"),
            Holds::Other(what) => Some(what.as_str()),
            _ => None,
        };
        if self.bytes < settings.min_size {
            Some(format!("it is smaller than min_size, {} MiB", settings.min_size >> 20))
        } else if let (Some(holds), false) = (holds, settings.erase) {
            Some(format!("it holds {holds}, and [install] does not say erase = true"))
        } else if self.removable && !settings.removable {
            Some("it can be taken out, and [install] does not say removable = true".into())
        } else {
            None
        }
    }

    fn trouble(&self, firmware: Firmware, settings: &InstallSettings) -> Option<String> {
        self.never(firmware).or_else(|| self.unless_told(settings))
    }

    /// For operators.
    pub fn status(&self, firmware: Firmware) -> DiskStatus {
        DiskStatus {
            path: self.path(),
            bytes: self.bytes,
            sector_bytes: self.sector_bytes,
            model: self.model.clone(),
            serial: self.serial.clone(),
            removable: self.removable,
            holds: match &self.holds {
                Holds::Nothing => "nothing".into(),
                Holds::Begun => "an installation that was cut off".into(),
                Holds::Berth(_) => "Berth".into(),
                Holds::Other(what) => what.clone(),
                Holds::Unreadable(_) => "?".into(),
            },
            trouble: self.trouble(firmware, &InstallSettings::default()).unwrap_or_default(),
        }
    }
}

/// Chooses by the rule; an error names every disk and says why it is not the one. `id`: the GUID that an installation by this order
/// gives its disk.
pub fn choose(
    disks: &[Disk],
    settings: &InstallSettings,
    firmware: Firmware,
    id: &str,
) -> Result<Target, String> {
    let rule = settings.disk.as_ref().unwrap_or(&DiskRule::Only);
    let already = |disk: &&Disk| disk.holds == Holds::Berth(id.to_owned());
    if let Some(disk) = disks.iter().find(already) {
        return Ok(Target { disk: disk.clone(), there: true });
    }
    let free: Vec<&Disk> = disks.iter().filter(|disk| disk.trouble(firmware, settings).is_none()).collect();
    let named = |fits: &dyn Fn(&Disk) -> bool| {
        let found: Vec<&Disk> = disks.iter().filter(|disk| fits(disk)).collect();
        match found[..] {
            [] => Err(format!("there is no disk {rule}; {}", list(disks, firmware, settings))),
            [disk] => match disk.trouble(firmware, settings) {
                None => Ok(disk),
                Some(why) => Err(format!("{} is not taken: {why}", disk.shown())),
            },
            _ => Err(format!("several disks are {rule}: {}; name one by its path", names(&found))),
        }
    };
    let best = |largest: bool| {
        let sizes = free.iter().map(|disk| disk.bytes);
        let size = if largest { sizes.max() } else { sizes.min() };
        let equal: Vec<&Disk> = free.iter().copied().filter(|disk| Some(disk.bytes) == size).collect();
        match equal[..] {
            [] => Err(format!("no disk is free; {}", list(disks, firmware, settings))),
            [disk] => Ok(disk),
            _ => Err(format!("{} are alike: name one by its serial number", names(&equal))),
        }
    };
    let disk = match rule {
        DiskRule::Path(path) => named(&|disk| disk.path() == *path),
        DiskRule::Serial(serial) => named(&|disk| disk.serial == *serial),
        DiskRule::Smallest => best(false),
        DiskRule::Largest => best(true),
        DiskRule::Only => match free[..] {
            [] => Err(format!("no disk is free; {}", list(disks, firmware, settings))),
            [disk] => Ok(disk),
            _ => Err(format!("{} are free: name one in [install] disk", names(&free))),
        },
    };
    disk.map(|disk| Target { disk: disk.clone(), there: false })
}

fn names(disks: &[&Disk]) -> String {
    disks.iter().map(|disk| disk.shown()).collect::<Vec<_>>().join(" and ")
}

fn list(disks: &[Disk], firmware: Firmware, settings: &InstallSettings) -> String {
    let others = disks.iter().filter(|disk| !disk.own);
    let told = others.map(|disk| {
        format!("{}: {}", disk.shown(), disk.trouble(firmware, settings).unwrap_or_else(|| "free".into()))
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() { "this machine has no disk".into() } else { told.join("; ") }
}

/// In a child: looks at every disk, but those that do not answer in time.
pub fn look(own: &Path, limit: Duration) -> Vec<Disk> {
    let own = own.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let (found, late) =
        child::each(devices::whole_disks(), limit, move |name: &str| look_at(name, name == own));
    let mut disks: Vec<Disk> = found.into_iter().flatten().collect();
    disks.extend(late.into_iter().map(|name| Disk {
        name,
        bytes: 0,
        sector_bytes: 512,
        model: String::new(),
        serial: String::new(),
        removable: false,
        in_use: false,
        own: false,
        holds: Holds::Unreadable("it does not answer".into()),
    }));
    disks.sort_by(|one, two| one.name.cmp(&two.name));
    disks
}

fn look_at(name: &str, own: bool) -> Option<Disk> {
    let sys = PathBuf::from("/sys/class/block").join(name);
    let line = |path: &str| crate::early::files::line(sys.join(path)).unwrap_or_default().trim().to_owned();
    let flag = |path: &str| line(path) == "1";
    let device = File::open(Path::new("/dev").join(name));
    // A CD without a disc is none, and one with a disc cannot be written.
    if name.starts_with("sr") && !own {
        return None;
    }
    let bytes = device.as_ref().ok().and_then(|device| block_bytes(device).ok()).unwrap_or(0);
    let sector = device.as_ref().ok().and_then(|device| sector_bytes(device).ok()).unwrap_or(512);
    let holds = match device {
        Ok(mut device) => holds(&mut device, bytes).unwrap_or_else(Holds::Unreadable),
        Err(error) => Holds::Unreadable(error.to_string()),
    };
    Some(Disk {
        name: name.to_owned(),
        bytes,
        sector_bytes: sector,
        model: line("device/model"),
        serial: serial(&sys),
        removable: flag("removable"),
        in_use: in_use(&sys),
        own,
        holds,
    })
}

/// As the bus has it: virtio beside the disk, NVMe at the controller, SCSI in a page of vital product data, USB further up.
fn serial(sys: &Path) -> String {
    let text = |path: PathBuf| crate::early::files::line(path).map(|line| line.trim().to_owned());
    let near = ["serial", "device/serial"].into_iter().find_map(|path| text(sys.join(path)));
    let page = || {
        let page = std::fs::read(sys.join("device/vpd_pg80")).ok()?;
        let text = String::from_utf8_lossy(page.get(4..)?).into_owned();
        Some(text.trim_matches(|c: char| c.is_whitespace() || c.is_control()).to_owned())
    };
    let above = || {
        let device = sys.join("device").canonicalize().ok()?;
        device.ancestors().take(7).find_map(|folder| text(folder.join("serial")))
    };
    let known = |serial: &String| !serial.is_empty();
    near.filter(known).or_else(|| page().filter(known)).or_else(above).unwrap_or_default()
}

/// Mapped, part of an array, or mounted.
fn in_use(sys: &Path) -> bool {
    let held = |folder: PathBuf| {
        std::fs::read_dir(folder.join("holders")).is_ok_and(|mut entries| entries.next().is_some())
    };
    let parts = std::fs::read_dir(sys).into_iter().flatten().flatten().map(|entry| entry.path());
    let parts: Vec<PathBuf> = parts.filter(|path| path.join("partition").exists()).collect();
    let numbers: Vec<String> = parts
        .iter()
        .map(PathBuf::as_path)
        .chain([sys])
        .filter_map(|path| crate::early::files::line(path.join("dev")))
        .collect();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted =
        mounts.lines().filter_map(|line| line.split(' ').nth(2)).any(|dev| numbers.iter().any(|n| n == dev));
    mounted || held(sys.to_owned()) || parts.into_iter().any(held)
}

fn holds(device: &mut File, bytes: u64) -> Result<Holds, String> {
    let mut start = vec![0; 4096.min(usize::try_from(bytes).unwrap_or(0))];
    device.read_exact_at(&mut start, 0).map_err(|error| error.to_string())?;
    if start.starts_with(INSTALLING) {
        return Ok(Holds::Begun);
    }
    if let Ok(found) = disks::table(device) {
        let berth = found.table.by_kind(KIND_RECORD).is_some();
        return Ok(match berth {
            true => Holds::Berth(found.table.disk.to_string()),
            false => Holds::Other(format!("{} partitions", found.table.partitions().count())),
        });
    }
    if let Some(what) = signatures::foreign(device, bytes).map_err(|error| error.to_string())? {
        return Ok(Holds::Other(what.to_owned()));
    }
    if start.get(510..512) == Some(&[0x55, 0xaa]) {
        return Ok(Holds::Other("a partition table or boot code".into()));
    }
    // ext4 has its magic where nothing else looks for one.
    if start.get(1024 + 0x38..1024 + 0x3a) == Some(&[0x53, 0xef]) {
        return Ok(Holds::Other("an ext4 file system".into()));
    }
    let mut piece = vec![0; 1 << 16];
    for at in (0..(1u64 << 20)).step_by(piece.len()) {
        if at + piece.len() as u64 > bytes {
            break;
        }
        device.read_exact_at(&mut piece, at).map_err(|error| error.to_string())?;
        if piece.iter().any(|byte| *byte != 0) {
            return Ok(Holds::Other("data of a kind that Berth does not know".into()));
        }
    }
    Ok(Holds::Nothing)
}

/// The GUID of a disk that is installed by this config and this system; the same for the same.
pub fn id_of(config: &str, root_hash: &str) -> String {
    Guid::named(&format!("berth install {config} {root_hash}")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn disk(name: &str, gib: u64) -> Disk {
        Disk {
            name: name.into(),
            bytes: gib * GIB,
            sector_bytes: 512,
            model: String::new(),
            serial: format!("S-{name}"),
            removable: false,
            in_use: false,
            own: false,
            holds: Holds::Nothing,
        }
    }

    fn rule(text: &str) -> InstallSettings {
        InstallSettings { disk: DiskRule::parse(text), ..InstallSettings::default() }
    }

    fn chosen(disks: &[Disk], settings: &InstallSettings) -> Result<String, String> {
        choose(disks, settings, Firmware::Uefi, "id").map(|target| target.disk.name)
    }

    #[test]
    fn each_rule_takes_its_disk() {
        let disks = [disk("sda", 8), disk("sdb", 4), disk("sdc", 16)];
        for (text, name) in
            [("smallest", "sdb"), ("largest", "sdc"), ("serial:S-sda", "sda"), ("/dev/sdb", "sdb")]
        {
            assert_eq!(chosen(&disks, &rule(text)).unwrap(), name);
        }
        let at_least = InstallSettings { min_size: 5 * GIB, ..rule("smallest") };
        assert_eq!(chosen(&disks, &at_least).unwrap(), "sda");
        let why = chosen(&disks, &rule("only")).unwrap_err();
        assert!(why.contains("/dev/sda (8192 MiB, serial S-sda) and"), "{why}");
        assert_eq!(chosen(&disks[..1], &rule("only")).unwrap(), "sda");
    }

    #[test]
    fn what_is_not_free_is_taken_by_its_word_only() {
        let own = Disk { own: true, ..disk("sda", 8) };
        let held = Disk { in_use: true, ..disk("sdb", 8) };
        let small = Disk { bytes: GIB / 4, ..disk("sdc", 0) };
        let stick = Disk { removable: true, ..disk("sdd", 8) };
        let data = Disk { holds: Holds::Other("an LVM physical volume".into()), ..disk("sde", 8) };
        let all = InstallSettings { erase: true, removable: true, ..rule("only") };
        for (of, why) in [(&own, "runs from it"), (&held, "in use"), (&small, "are needed")] {
            let path = InstallSettings { disk: Some(DiskRule::Path(of.path())), ..all.clone() };
            assert!(chosen(std::slice::from_ref(of), &path).unwrap_err().contains(why), "{why}");
        }
        for (of, why) in [(&stick, "removable = true"), (&data, "an LVM physical volume")] {
            let plain =
                InstallSettings { disk: Some(DiskRule::Path(of.path())), ..InstallSettings::default() };
            assert!(chosen(std::slice::from_ref(of), &plain).unwrap_err().contains(why), "{why}");
            assert_eq!(chosen(std::slice::from_ref(of), &all).unwrap(), of.name);
        }
        let why = chosen(&[own, held, data], &rule("only")).unwrap_err();
        assert!(why.starts_with("no disk is free; /dev/sdb") && why.contains("/dev/sde"), "{why}");
        assert!(chosen(&[], &rule("largest")).unwrap_err().contains("no disk"));
    }

    #[test]
    fn two_alike_are_named_and_none_is_taken() {
        let disks = [disk("sda", 8), disk("sdb", 8)];
        for text in ["smallest", "largest"] {
            let why = chosen(&disks, &rule(text)).unwrap_err();
            assert!(why.contains("serial S-sda") && why.contains("serial S-sdb"), "{why}");
        }
        let same = [disk("sda", 8), Disk { serial: "S-sda".into(), ..disk("sdb", 8) }];
        assert!(chosen(&same, &rule("serial:S-sda")).unwrap_err().contains("several"));
    }

    #[test]
    fn sectors_of_4096_bytes_are_for_uefi() {
        let large = Disk { sector_bytes: 4096, ..disk("sda", 8) };
        let taken = |firmware| choose(std::slice::from_ref(&large), &rule("only"), firmware, "id");
        assert!(taken(Firmware::Uefi).is_ok());
        assert!(taken(Firmware::Bios).unwrap_err().contains("only UEFI"));
    }

    #[test]
    fn an_installation_that_is_there_is_not_done_again() {
        let done = Disk { holds: Holds::Berth("id".into()), ..disk("sda", 8) };
        let erase = InstallSettings { erase: true, ..rule("only") };
        let target = choose(&[done.clone(), disk("sdb", 8)], &erase, Firmware::Uefi, "id").unwrap();
        assert!(target.there && target.disk.name == "sda");
        let begun = Disk { holds: Holds::Begun, ..disk("sda", 8) };
        assert_eq!(chosen(&[begun], &rule("only")).unwrap(), "sda");
        assert!(chosen(&[Disk { holds: Holds::Berth("other".into()), ..done }], &rule("only")).is_err());
    }
}
