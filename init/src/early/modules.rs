//! Kernel modules: which driver fits which device (`modules.alias`), what it needs (`modules.dep`), and what the
//! kernel would ask `modprobe` for ([`FEATURES`]). There is no modprobe: PID 1 loads them, in a child.
//!
//! The index files are read when needed and dropped again; PID 1 keeps none of them in memory.

use super::{console, files, limits, module_file};
use crate::sys::child::{self, Child, ChildError};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// What a unit or the machine may need, and the modules that provide it, in order; the last of a row must load. One
/// that is not in the index counts as built in.
pub const FEATURES: [(&str, &[&str]); 15] = [
    // `sha256_ssse3` is several times faster than the built-in code; verity takes it when it is there first.
    ("verity", &["sha256_ssse3", "dm_verity"]),
    ("erofs", &["erofs"]),
    // The image's file system has quotas; `quota_v2` is their format.
    ("ext4", &["crc32c_intel", "quota_v2", "ext4"]),
    ("overlay", &["overlay"]),
    ("bridge", &["veth", "bridge"]),
    ("nat", &["nf_tables", "nft_chain_nat", "nft_masq", "nft_nat"]),
    ("vlan", &["8021q"]),
    ("bond", &["bonding"]),
    ("fw_cfg", &["qemu_fw_cfg"]),
    ("loop", &["loop"]),
    ("kvm", &["kvm_amd", "kvm_intel", "kvm"]),
    ("efivars", &["efivarfs"]),
    ("panic_text", &["efi_pstore"]),
    ("vsock", &["vmw_vsock_virtio_transport"]),
    ("crypt", &["aesni_intel", "dm_crypt"]),
];

/// Drivers of the disks that machines boot from most often: tried alone at first, as looking at every controller
/// (an AHCI one waits for each of its ports) takes seconds.
pub const FAST_DISKS: [&str; 6] =
    ["virtio_blk", "virtio_scsi", "nvme", "xen_blkfront", "hv_storvsc", "vmw_pvscsi"];

/// Fit the processor, are large, and wait for a unit that needs them ([`FEATURES`]).
const NOT_BY_THEMSELVES: [&str; 4] = ["kvm_amd", "kvm_intel", "ccp", "aesni_intel"];

/// Buses whose devices are looked at when the machine is coldplugged.
const BUSES_FOR_DISK: [&str; 8] = ["virtio", "pci", "scsi", "usb", "mmc", "vmbus", "xen", "nd"];

/// Buses that network cards hang on.
const BUSES_FOR_NETWORK: [&str; 5] = ["virtio", "pci", "usb", "vmbus", "xen"];

/// Why a module is not there.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The index cannot be read.
    #[error("{}: {error}", path.display())]
    Index {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The kernel refused it.
    #[error("module {name}: {error}")]
    Load {
        /// Its name.
        name: String,
        /// Why.
        error: io::Error,
    },
}

/// The index of one kernel's modules: depmod's files as they are, searched when asked. A boot asks a few dozen
/// times; building maps of thousands of lines would take longer than all of that.
#[derive(Debug, Default)]
pub struct Modules {
    folder: PathBuf,
    dep: String,
    soft: String,
    /// Large, and only needed to find out what fits a device.
    alias: OnceCell<String>,
    loaded: BTreeSet<String>,
}

impl Modules {
    /// Reads the index of the running kernel.
    pub fn open() -> Result<Modules, ModuleError> {
        let release = files::line("/proc/sys/kernel/osrelease").unwrap_or_default();
        let folder = Path::new(berth_units::paths::MODULES).join(release);
        let path = folder.join("modules.dep");
        let dep = files::read(&path, limits::MODULE_INDEX_BYTES)
            .map_err(|error| ModuleError::Index { path, error })?;
        let soft =
            files::read(folder.join("modules.softdep"), limits::MODULE_INDEX_BYTES).unwrap_or_default();
        let loaded = files::read("/proc/modules", limits::MODULE_INDEX_BYTES).unwrap_or_default();
        let loaded = loaded.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
        Ok(Modules { folder, dep, soft, alias: OnceCell::new(), loaded })
    }

    fn alias(&self) -> &str {
        self.alias.get_or_init(|| {
            let path = self.folder.join("modules.alias");
            files::read(&path, limits::MODULE_INDEX_BYTES).unwrap_or_else(|error| {
                console::say("drivers", format_args!("{}: {error}; no driver is found", path.display()));
                String::new()
            })
        })
    }

    /// Names of the modules that fit any of these devices, in the index's order; one pass over it.
    pub fn matching<'a>(&self, modaliases: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        // By bus, the text before the first colon, which every pattern spells out.
        let mut buses: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for modalias in modaliases {
            buses.entry(bus(modalias)).or_default().push(modalias);
        }
        let mut names: Vec<String> = Vec::new();
        for (pattern, module) in self.alias().lines().filter_map(alias_line) {
            let Some(devices) = buses.get(bus(pattern)) else { continue };
            if devices.iter().any(|device| matches(pattern.as_bytes(), device.as_bytes()))
                && !names.iter().any(|name| name == module)
            {
                names.push(module.to_owned());
            }
        }
        names
    }

    /// Is this the driver of a network card?
    pub fn is_network(&self, name: &str) -> bool {
        let mut files = self.dep.lines().filter_map(|line| line.split(':').next());
        files.any(|file| file.starts_with("kernel/drivers/net/") && module_name(file) == name)
    }

    /// Loads a module and what it needs; true if something was new. One that is not in the index is taken to be
    /// built in.
    pub fn load(&mut self, name: &str) -> Result<bool, ModuleError> {
        let name = name.replace('-', "_");
        if self.loaded.contains(&name) {
            return Ok(false);
        }
        let line = self.dep.lines().filter_map(|line| line.split_once(':'));
        let Some((file, needs)) = line.into_iter().find(|(file, _)| module_name(file) == name) else {
            return Ok(false);
        };
        // The file that is needed by all others comes last.
        let files: Vec<String> =
            needs.split_ascii_whitespace().rev().chain([file]).map(str::to_owned).collect();
        for file in files {
            let part = module_name(&file);
            if !self.loaded.contains(&part) {
                self.load_soft(&part);
                self.load_file(&file, &part)?;
            }
        }
        Ok(true)
    }

    /// Somebody else loads these, or hangs in it: they are not to be tried again.
    pub fn tried(&mut self, names: &[String]) {
        self.loaded.extend(names.iter().map(|name| name.replace('-', "_")));
    }

    fn load_file(&mut self, file: &str, name: &str) -> Result<(), ModuleError> {
        match module_file::insert(&self.folder.join(file)) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(ModuleError::Load { name: name.to_owned(), error }),
        }
        self.loaded.insert(name.to_owned());
        Ok(())
    }

    /// What a module would rather have before it (`softdep NAME pre: …`), by name or by alias; none of it is a must.
    fn load_soft(&mut self, name: &str) {
        let wanted: Vec<String> = self
            .soft
            .lines()
            .filter_map(|line| line.strip_prefix("softdep ")?.strip_prefix(name)?.strip_prefix(" pre:"))
            .flat_map(|rest| rest.split_ascii_whitespace().take_while(|word| *word != "post:"))
            .map(str::to_owned)
            .collect();
        for wanted in wanted {
            // Guards against a circle: what is being loaded counts as loaded.
            if self.loaded.insert(name.to_owned()) {
                let mut names = self.matching([wanted.as_str()]);
                names.push(wanted);
                for soft in names {
                    let _ = self.load(&soft);
                }
                self.loaded.remove(name);
            }
        }
    }

    /// Loads what these devices need. Returns how many modules were new.
    pub fn load_for<'a>(
        &mut self,
        modaliases: impl IntoIterator<Item = &'a str>,
        troubles: &mut Vec<String>,
    ) -> usize {
        let names = self.matching(modaliases);
        self.load_all(&names, troubles)
    }

    /// Loads these, except what waits for its feature; trouble with one does not keep the next from being tried.
    pub fn load_all(&mut self, names: &[String], troubles: &mut Vec<String>) -> usize {
        let mut count = 0;
        for name in names.iter().filter(|name| !NOT_BY_THEMSELVES.contains(&name.as_str())) {
            match self.load(name) {
                Ok(new) => count += usize::from(new),
                // The driver looked at the device and does not want it, or the processor lacks what it needs.
                Err(ModuleError::Load { error, .. }) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => troubles.push(error.to_string()),
            }
        }
        count
    }

    /// Loads what a feature needs. The last module of its row must load; the others may be absent.
    pub fn load_feature(&mut self, feature: &str) -> Result<(), ModuleError> {
        let row = FEATURES.iter().find(|(name, _)| *name == feature).map(|(_, modules)| *modules);
        for module in row.unwrap_or_default() {
            match self.load(module) {
                Ok(_) => {}
                Err(ModuleError::Load { error, .. })
                    if row.and_then(<[_]>::last) != Some(module)
                        && error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Makes a feature available, in a child: returns when it is there. Cheap to ask again.
pub fn feature(name: &str) -> Result<(), ChildError> {
    child::run(limits::CHILD, || {
        let mut modules = Modules::open().map_err(|error| error.to_string())?;
        modules.load_feature(name).map_err(|error| error.to_string())?;
        Ok(String::new())
    })
    .map(|_| ())
}

/// Drivers for devices that came up, in a child that whoever reaps will see; nothing waits for it.
pub fn hotplug(modaliases: Vec<String>) -> Result<Child, ChildError> {
    child::start(move || {
        let mut modules = Modules::open().map_err(|error| error.to_string())?;
        let mut troubles = Vec::new();
        let count = modules.load_for(modaliases.iter().map(String::as_str), &mut troubles);
        if troubles.is_empty() { Ok(format!("{count} modules")) } else { Err(troubles.join("; ")) }
    })
}

/// The modaliases of every device on the buses that a disk or a watchdog may hang on.
pub fn disk_aliases() -> BTreeSet<String> {
    aliases_on(&BUSES_FOR_DISK)
}

/// The same for a network card.
pub fn network_aliases() -> BTreeSet<String> {
    aliases_on(&BUSES_FOR_NETWORK)
}

fn aliases_on(buses: &[&str]) -> BTreeSet<String> {
    buses.iter().flat_map(|bus| bus_aliases(&Path::new("/sys/bus").join(bus).join("devices"))).collect()
}

/// The modaliases of every device.
pub fn all_aliases() -> BTreeSet<String> {
    let buses = std::fs::read_dir("/sys/bus").into_iter().flatten().flatten();
    let mut aliases: BTreeSet<String> =
        buses.flat_map(|bus| bus_aliases(&bus.path().join("devices"))).collect();
    // Processor features (crypto, kvm) are one alias, not a device on a bus; systems differ in where it is.
    aliases.extend(files::line("/sys/devices/system/cpu/modalias"));
    aliases
}

fn bus_aliases(devices: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(devices).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| files::line(entry.path().join("modalias")))
        .filter(|alias| !alias.is_empty())
        .collect()
}

/// `alias PATTERN MODULE`; a pattern holds no blank.
fn alias_line(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("alias ")?.rsplit_once(' ')
}

/// What comes before the first colon; patterns for ACPI say `acpi*`.
fn bus(alias: &str) -> &str {
    alias.split(':').next().unwrap_or(alias).trim_end_matches('*')
}

/// `kernel/drivers/block/virtio_blk.ko.xz` → `virtio_blk`.
fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split('.').next().unwrap_or(base).replace('-', "_")
}

/// Shell patterns as modprobe takes them: `*`, `?`, `[a-z]`. Linear in the text for each star, never exponential.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
            continue;
        }
        if let Some(length) = matches_one(&pattern[p.min(pattern.len())..], text[t]) {
            p += length;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            (p, t) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p.min(pattern.len())..].iter().all(|&byte| byte == b'*')
}

/// Does the first element of the pattern take this byte, and how long is it?
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let end = pattern.iter().position(|&c| c == b']')?;
            let mut set = &pattern[1..end];
            let mut found = false;
            while let Some(&first) = set.first() {
                let range = set.get(1) == Some(&b'-') && set.len() > 2;
                let last = if range { set[2] } else { first };
                found |= (first..=last).contains(&byte);
                set = &set[if range { 3 } else { 1 }..];
            }
            found.then_some(end + 1)
        }
        &literal => (literal == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz\n\
        kernel/drivers/md/dm-verity.ko:\n";
    const ALIAS: &str = "# made by depmod\nalias virtio:d00000002v* virtio_blk\n\
        alias pci:v00008086d000025ABsv*sd*bc*sc*i* i6300esb\nalias cpu:type:x86,ven*fam*mod*:feature:*00C9* aesni_intel\n";

    fn sample() -> Modules {
        Modules { dep: DEP.into(), alias: OnceCell::from(ALIAS.to_owned()), ..Modules::default() }
    }

    #[test]
    fn aliases_lead_to_modules() {
        let modules = sample();
        assert_eq!(modules.matching(["virtio:d00000002v00001AF4"]), ["virtio_blk"]);
        assert_eq!(modules.matching(["pci:v00008086d000025ABsv00001AF4sd00001100bc08sc80i00"]), ["i6300esb"]);
        assert!(modules.matching(["virtio:d00000001v00001AF4", ""]).is_empty());
        let both = modules.matching(["pci:v00008086d000025ABsv0sd0bc0sc0i0", "virtio:d00000002v1"]);
        assert_eq!(both, ["virtio_blk", "i6300esb"]);
    }

    #[test]
    fn what_is_not_in_the_index_is_built_in() {
        assert!(!sample().load("ext4").unwrap());
        let error = sample().load("dm-verity").unwrap_err().to_string();
        assert!(error.starts_with("module dm_verity: "), "{error}");
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("*", "", true),
            ("", "x", false),
            ("a?c", "abc", true),
            ("dmi*:svn[A-C]*", "dmi:x:svnBerth", true),
            ("x[0-9]y", "x5y", true),
            ("x[0-9]y", "xay", false),
            ("x[", "x[", false),
            ("*a*b*c*", "xxaxxbxx", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_text_matches_itself_and_a_star(text in "[a-z0-9:]{0,30}", rest in "[a-z0-9]{0,10}") {
            proptest::prop_assert!(matches(text.as_bytes(), text.as_bytes()));
            let pattern = format!("{text}*");
            let whole = format!("{text}{rest}");
            proptest::prop_assert!(matches(pattern.as_bytes(), whole.as_bytes()));
        }
    }
}
