//! A repository with releases of stand-ins, and disks that take them.

use super::fat::{self, Builder, Seen};
use berth_apply::cuts::{Log, Memory, Recorded};
use berth_apply::{ApplyError, Medium, Progress, SlotMedia, Written};
use berth_repo::{Built, Keys, Repository, Setup};
use berth_tuf::Client;
use berth_tuf::fetch::{Fetch, FetchError, Folder};
use berth_tuf::release::{ARCHITECTURE, CHANNEL, Offer};
use berth_tuf::time::{Clock, Time};
use berth_updater::boot_files;
use berth_updater::layout::Slot;
use berth_updater::verity::{self, BLOCK, RootHash};
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

/// What a build left.
#[derive(Clone)]
pub struct Build {
    pub version: String,
    pub root: Vec<u8>,
    pub tree: Vec<u8>,
    pub hash: RootHash,
    pub uki: Vec<u8>,
}

impl Build {
    /// `blocks` of the root, all different from another version's but every third; a UKI of about so many bytes.
    pub fn new(version: &str, blocks: u64, uki_bytes: usize) -> Build {
        let block = |index: u64| -> Vec<u8> {
            let seed = if index.is_multiple_of(3) { String::new() } else { version.to_owned() };
            format!("{seed}-{index} ").bytes().cycle().take(BLOCK).collect()
        };
        let root: Vec<u8> = (0..blocks).flat_map(block).collect();
        let mut tree = Vec::new();
        let hash = verity::build(&mut &root[..], blocks, [7; 16], b"salt", &mut tree).unwrap();
        let cmdline = format!("quiet roothash={}", verity::to_hex(&hash));
        let uki = uki(&cmdline, version, uki_bytes);
        Build { version: version.into(), root, tree, hash, uki }
    }

    /// The environment block that goes with it.
    pub fn env(&self) -> String {
        let all = berth_updater::uki::sections(&self.uki, self.uki.len() as u64).unwrap();
        let cmdline = format!("quiet roothash={}", verity::to_hex(&self.hash));
        berth_updater::uki::env(&all, &cmdline).unwrap()
    }

    pub fn sums(&self, slot: Slot) -> String {
        boot_files::sums(slot, &sha256(&self.uki), &sha256(self.env().as_bytes()))
    }
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

/// A PE file with a command line, an initrd and a kernel.
pub fn uki(cmdline: &str, version: &str, bytes: usize) -> Vec<u8> {
    let mut file = vec![0; 1024];
    let kernel: Vec<u8> = format!("kernel {version} ").bytes().cycle().take(bytes / 2).collect();
    let initrd: Vec<u8> = format!("initrd {version} ").bytes().cycle().take(bytes / 2).collect();
    let parts = [(".cmdline", cmdline.as_bytes()), (".initrd", &initrd[..]), (".linux", &kernel[..])];
    let put = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(&mut file, 0, b"MZ");
    put(&mut file, 0x3c, &64u32.to_le_bytes());
    put(&mut file, 64, b"PE\0\0");
    put(&mut file, 70, &(parts.len() as u16).to_le_bytes());
    put(&mut file, 84, &240u16.to_le_bytes());
    put(&mut file, 88, &0x20bu16.to_le_bytes());
    for (index, (name, data)) in parts.iter().enumerate() {
        let header = 328 + index * 40;
        let (at, length) = (file.len() as u32, data.len() as u32);
        put(&mut file, header, name.as_bytes());
        put(&mut file, header + 8, &length.to_le_bytes());
        put(&mut file, header + 16, &length.next_multiple_of(512).to_le_bytes());
        put(&mut file, header + 20, &at.to_le_bytes());
        file.extend_from_slice(data);
        file.resize(file.len().next_multiple_of(512), 0);
    }
    file
}

/// A repository, and the offers of what was published.
pub struct Publisher {
    folder: tempfile::TempDir,
}

/// 2026-11-29T00:00:00Z.
const TODAY: u64 = 1_795_910_400;

impl Publisher {
    pub fn new() -> Publisher {
        let publisher = Publisher { folder: tempfile::tempdir().unwrap() };
        let setup = Setup { root_keys: 1, threshold: 1 };
        let today = Time::from_seconds(TODAY);
        Repository::init(&publisher.path("repo"), &publisher.path("keys"), setup, today).unwrap();
        publisher
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn server(&self) -> Folder {
        Folder::new(&self.path("repo"))
    }

    /// Publishes a build; what a machine is then offered.
    pub fn publish(&self, build: &Build) -> Offer {
        let folder = self.path(&format!("build-{}", build.version));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("root.erofs"), &build.root).unwrap();
        fs::write(folder.join("root.verity"), &build.tree).unwrap();
        fs::write(folder.join("berth.efi"), &build.uki).unwrap();
        let facts = format!(
            r#"{{"product":"berth","version":"{}","architecture":"x86-64","built":{TODAY},"root_hash":"{}"}}"#,
            build.version,
            verity::to_hex(&build.hash)
        );
        fs::write(folder.join("release.json"), facts).unwrap();
        let today = Time::from_seconds(TODAY);
        let keys = Keys::load(&[self.path("keys")]).unwrap();
        let built = Built::open(&folder).unwrap();
        Repository::open(&self.path("repo")).unwrap().publish_release(&built, CHANNEL, &keys, today).unwrap();
        let anchor = fs::read(self.path("repo/metadata/1.root.json")).unwrap();
        let clock = Clock { now: today, built: Time::default() };
        let mut server = self.server();
        let mut client = Client::open(berth_tuf::state::Memory::default(), &anchor, &clock).unwrap();
        client.refresh(&mut server).unwrap();
        client.offer(&mut server, ARCHITECTURE, CHANNEL).unwrap().unwrap()
    }
}

/// A server that counts, and may end after so many bytes.
pub struct Server {
    pub inner: Folder,
    pub given: u64,
    pub requests: usize,
    pub ends_after: u64,
    /// A byte of every answer is another one.
    pub lies: bool,
}

impl Server {
    pub fn new(inner: Folder) -> Server {
        Server { inner, given: 0, requests: 0, ends_after: u64::MAX, lies: false }
    }
}

struct Body<'a> {
    inner: Box<dyn Read + 'a>,
    given: &'a mut u64,
    ends_after: u64,
    lies: bool,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if *self.given >= self.ends_after {
            return Err(io::Error::other("connection reset"));
        }
        let most = usize::try_from(self.ends_after - *self.given).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if self.lies && count > 0 {
            buffer[count - 1] ^= 1;
        }
        *self.given += count as u64;
        Ok(count)
    }
}

impl Fetch for Server {
    fn metadata(&mut self, file: &str, limit: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        self.inner.metadata(file, limit)
    }

    fn target(&mut self, path: &str, from: u64, limit: u64) -> Result<Box<dyn Read + '_>, FetchError> {
        self.requests += 1;
        let inner = self.inner.target(path, from, limit)?;
        Ok(Box::new(Body { inner, given: &mut self.given, ends_after: self.ends_after, lies: self.lies }))
    }
}

/// The media of a machine, in the order in which they are recorded.
#[derive(Clone)]
pub struct Disk {
    pub root: Memory,
    pub verity: Memory,
    pub esp: Memory,
}

pub const ROOT_BYTES: u64 = 4 << 20;
pub const VERITY_BYTES: u64 = 64 << 10;

impl Disk {
    /// A machine that runs slot A, with what slot B holds.
    pub fn new(seed: u64, a: &Build, b: Option<&Build>) -> Disk {
        let mut builder = Builder::new(seed);
        let efi = builder.folder(2, "EFI");
        let boot = builder.folder(efi, "BOOT");
        builder.file(boot, "BOOTX64.EFI", &b"grub ".repeat(1000));
        let berth = builder.folder(efi, "BERTH");
        let mut disk =
            Disk { root: Memory::new(ROOT_BYTES), verity: Memory::new(VERITY_BYTES), esp: Memory::default() };
        for (slot, build) in [(Slot::A, Some(a)), (Slot::B, b)] {
            let Some(build) = build else { continue };
            builder.file(berth, &format!("{slot}.efi"), &build.uki);
            builder.file(berth, &format!("{slot}.env"), build.env().as_bytes());
            builder.file(berth, &format!("{slot}.sum"), build.sums(slot).as_bytes());
            if slot == Slot::B {
                disk.root.write_at(0, &build.root).unwrap();
                disk.verity.write_at(0, &build.tree).unwrap();
            }
        }
        disk.esp = builder.disk;
        disk
    }

    pub fn media(&mut self, running: &Build) -> SlotMedia<'_> {
        SlotMedia {
            slot: Slot::B,
            root: &mut self.root,
            verity: &mut self.verity,
            esp: &mut self.esp,
            running: Some(running.hash),
        }
    }

    pub fn from_list(list: Vec<Memory>) -> Disk {
        let [root, verity, esp] = <[Memory; 3]>::try_from(list).unwrap();
        Disk { root, verity, esp }
    }

    pub fn list(&self) -> Vec<Memory> {
        vec![self.root.clone(), self.verity.clone(), self.esp.clone()]
    }

    /// Applies, and records what is done to the media.
    pub fn recorded(
        &mut self,
        running: &Build,
        offer: &Offer,
        server: &mut Server,
        notes: &std::path::Path,
        log: &Log,
    ) -> Result<Written, ApplyError> {
        let mut root = Recorded::new(self.root.clone(), 0, log);
        let mut verity = Recorded::new(self.verity.clone(), 1, log);
        let mut esp = Recorded::new(self.esp.clone(), 2, log);
        let mut media = SlotMedia {
            slot: Slot::B,
            root: &mut root,
            verity: &mut verity,
            esp: &mut esp,
            running: Some(running.hash),
        };
        let result = berth_apply::apply(offer, server, &mut media, notes, &mut |_: Progress| {});
        *self = Disk { root: root.inner, verity: verity.inner, esp: esp.inner };
        result
    }

    pub fn apply(
        &mut self,
        running: &Build,
        offer: &Offer,
        server: &mut Server,
        notes: &std::path::Path,
    ) -> Result<Written, ApplyError> {
        berth_apply::apply(offer, server, &mut self.media(running), notes, &mut |_: Progress| {})
    }

    /// As the boot loader decides: whether the slot's files have the sums that were written with them.
    pub fn holds(&self, slot: Slot) -> bool {
        self.holds_in(&Seen::of(&self.esp), slot)
    }

    pub fn holds_in(&self, seen: &Seen, slot: Slot) -> bool {
        let file = |path: &str| seen.files.get(path).cloned().flatten();
        let Some(sums) = file(&format!("efi/berth/{slot}.sum")).filter(|sums| !sums.is_empty()) else {
            return false;
        };
        let Ok(text) = String::from_utf8(sums) else { return false };
        let fits = |line: &str| {
            let (sum, path) = line.split_once("  ")?;
            let content = file(&path.to_lowercase())?;
            (verity::to_hex(&sha256(&content)) == sum).then_some(())
        };
        text.lines().all(|line| fits(line).is_some())
    }

    /// Whether slot B holds all of a build.
    pub fn carries(&self, build: &Build) -> bool {
        super::bytes(&self.root, 0, build.root.len()) == build.root
            && super::bytes(&self.verity, 0, build.tree.len()) == build.tree
    }
}

pub const ESP_BYTES: u64 = fat::BYTES;
