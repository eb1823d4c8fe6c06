//! Devices that the main loop cares about: power buttons, and disks that workers may read.

use super::reactor::{Reactor, Source, Watch};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// `KEY_POWER` (`include/uapi/linux/input-event-codes.h`).
const KEY_POWER: u16 = 116;
/// `EV_KEY`.
const EV_KEY: u16 = 1;
/// Bytes of a `struct input_event` on 64 bits.
const EVENT_BYTES: usize = 24;
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
        for entry in std::fs::read_dir("/sys/class/input").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_prefix("event")).and_then(|n| n.parse::<u64>().ok());
            let Some(number) = number.filter(|n| !self.open.contains_key(n) && self.open.len() < BUTTONS)
            else {
                continue;
            };
            let keys =
                std::fs::read_to_string(entry.path().join("device/capabilities/key")).unwrap_or_default();
            if !has_key(&keys, KEY_POWER) {
                continue;
            }
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
            let opened = options.open(Path::new("/dev/input").join(&name));
            if let Ok(file) = opened
                && let Ok(watch) = reactor.watch(&file, Source::Button(number))
            {
                self.open.insert(number, (file, watch));
            }
        }
    }

    /// Was it pressed? A button that is gone is closed.
    pub fn pressed(&mut self, reactor: &mut Reactor, number: u64) -> bool {
        let Some((file, _)) = self.open.get_mut(&number) else { return false };
        let mut events = [0; EVENT_BYTES * 16];
        match file.read(&mut events) {
            Ok(count) if count > 0 => events[..count].chunks_exact(EVENT_BYTES).any(is_press),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            _ => {
                if let Some((file, watch)) = self.open.remove(&number) {
                    reactor.forget(&file, watch);
                }
                false
            }
        }
    }
}

/// `capabilities/key` is a bit map in hexadecimal words of 64 bits, the highest first.
fn has_key(map: &str, key: u16) -> bool {
    let word = map.split_ascii_whitespace().rev().nth(usize::from(key / 64));
    word.and_then(|word| u64::from_str_radix(word, 16).ok()).is_some_and(|word| word >> (key % 64) & 1 == 1)
}

/// Time (16 bytes), type, code, value.
fn is_press(event: &[u8]) -> bool {
    let half = |at: usize| event.get(at..at + 2).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    let value = event.get(20..24).map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    half(16) == Some(EV_KEY) && half(18) == Some(KEY_POWER) && value == Some(1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_button_is_known_by_its_key() {
        // The ACPI power button and a keyboard, as Linux 6.12 shows them in QEMU.
        assert!(has_key("10000000000000 0", KEY_POWER));
        assert!(has_key("402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe", KEY_POWER));
        assert!(!has_key("", KEY_POWER));
        assert!(!has_key("1f0000 0 0 0 0", KEY_POWER));
        assert!(!has_key("rubbish rubbish", KEY_POWER));
    }

    #[test]
    fn only_a_press_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; 16];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!is_press(&event(EV_KEY, 30, 1)));
        assert!(!is_press(&event(0, 0, 0)));
        assert!(!is_press(&[]));
    }
}
