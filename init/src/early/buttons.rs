//! Power buttons, as Linux's input devices show them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
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

/// Opens the power buttons that are not among these, by number.
pub fn open<T>(known: &BTreeMap<u64, T>) -> Vec<(u64, File)> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let fresh = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix("event")?.parse::<u64>().ok()?;
        if known.contains_key(&number) {
            return None;
        }
        let keys = std::fs::read_to_string(entry.path().join("device/capabilities/key")).ok()?;
        if !has_key(&keys, KEY_POWER) {
            return None;
        }
        Some((number, options.open(Path::new("/dev/input").join(&name)).ok()?))
    };
    let inputs = std::fs::read_dir("/sys/class/input").into_iter().flatten().flatten();
    inputs.filter_map(fresh).take(BUTTONS.saturating_sub(known.len())).collect()
}

/// Was it pressed? `None`: it is gone. Never waits.
pub fn pressed(mut button: &File) -> Option<bool> {
    let mut events = [0; EVENT_BYTES * 16];
    match button.read(&mut events) {
        Ok(count) if count > 0 => Some(events[..count].chunks_exact(EVENT_BYTES).any(is_press)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some(false),
        _ => None,
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
