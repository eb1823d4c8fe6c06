//! Devices that the main loop cares about: power buttons, and disks that workers may read.

use super::reactor::{Reactor, Source, Watch};
use crate::early::buttons;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Power buttons watched; machines have one or two.
const BUTTONS: usize = 8;
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
        let room = BUTTONS.saturating_sub(self.open.len());
        for (number, file) in buttons::open(|number| self.open.contains_key(&number), room) {
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

/// Read-only descriptors of every disk and partition that is not on Berth's own disk, by name. Opening does not wait
/// for a medium.
pub fn foreign_disks(own: &Path) -> Vec<(String, OwnedFd)> {
    let own = own.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if name == own || NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let parts = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
        let parts = parts.filter(|part| part.path().join("partition").exists());
        names.extend(parts.filter_map(|part| part.file_name().to_str().map(str::to_owned)));
        names.push(name);
    }
    names.sort();
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let open = |name: String| {
        let file = options.open(Path::new("/dev").join(name.replace('!', "/"))).ok()?;
        Some((name, OwnedFd::from(file)))
    };
    names.into_iter().take(DISKS).filter_map(open).collect()
}
