//! The kernel's last words. When it panics, it keeps the end of its log in variables of the UEFI firmware
//! (`efi-pstore`); the next start, of whichever slot, takes them out. Nothing else is there to keep them: a BIOS has no
//! variables, and a piece of memory that every firmware leaves alone over a reset (`ramoops`) has no address that
//! holds for all machines.
//!
//! The variables are few and wear out, so little is written, and what was read is deleted.

use super::modules::Modules;
use super::{files, limits};
use berth_units::paths;
use nix::mount::{MsFlags, mount, umount};
use std::path::Path;

/// Where the kernel expects it.
const FOLDER: &str = "/sys/fs/pstore";

/// Has panics kept from now on, and takes out what an earlier one left, for [`last_words`]. Blocks; for a child.
pub fn begin(modules: &mut Modules) -> Result<(), String> {
    if !Path::new("/sys/firmware/efi").exists() {
        return Ok(());
    }
    modules.load_feature("panic_text").map_err(|error| error.to_string())?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("kmsg_bytes={}", limits::PANIC_BYTES);
    mount(Some("pstore"), FOLDER, Some("pstore"), flags, Some(options.as_str()))
        .map_err(|error| format!("pstore: {error}"))?;
    let text = take(Path::new(FOLDER));
    let _ = umount(FOLDER);
    if text.is_empty() {
        return Ok(());
    }
    std::fs::write(paths::PANIC, text).map_err(|error| format!("{}: {error}", paths::PANIC))
}

/// What an earlier start's kernel said when it panicked. It is in memory, so reading does not wait.
pub fn last_words() -> Option<String> {
    files::read(paths::PANIC, limits::PANIC_TEXT_BYTES as u64 + 1).ok()
}

/// Reads the panic that came last, and deletes everything.
fn take(folder: &Path) -> String {
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().take(limits::PANIC_RECORDS) {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with("dmesg-")
            && let Ok(text) = files::read(&path, limits::PANIC_RECORD_BYTES)
            && let Some(part) = Part::parse(&text)
        {
            parts.push(part);
        }
        let _ = std::fs::remove_file(&path);
    }
    join(parts)
}

/// `Panic#1 Part2`, then a piece of the log. Part 1 is its end; number 1 is the first panic of that start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    count: u32,
    part: u32,
    text: String,
}

impl Part {
    fn parse(text: &str) -> Option<Part> {
        let (head, text) = text.split_once('\n')?;
        let (count, part) = head.strip_prefix("Panic#")?.split_once(" Part")?;
        Some(Part { count: count.parse().ok()?, part: part.trim().parse().ok()?, text: text.to_owned() })
    }
}

/// The end of it, from the line before the panic's own on.
fn join(mut parts: Vec<Part>) -> String {
    parts.sort();
    let first = parts.first().map_or(0, |part| part.count);
    let log: String =
        parts.iter().rev().filter(|part| part.count == first).map(|part| part.text.as_str()).collect();
    let lines: Vec<&str> = log.lines().collect();
    let panic = lines.iter().position(|line| line.contains("Kernel panic - not syncing"));
    let start = match panic {
        Some(at) => at.saturating_sub(limits::PANIC_LINES_BEFORE),
        None => lines.len().saturating_sub(limits::PANIC_LINES_BEFORE),
    };
    let mut text = String::new();
    for line in lines.into_iter().skip(start) {
        if text.len() + line.len() >= limits::PANIC_TEXT_BYTES {
            break;
        }
        text.extend(line.chars().map(|c| if c.is_control() { ' ' } else { c }));
        text.push('\n');
    }
    text
}

/// For fuzzing: a record in two parts.
pub fn fuzz(text: &str) {
    let (first, second) = text.split_once('\0').unwrap_or((text, ""));
    let text = join([first, second].into_iter().filter_map(Part::parse).collect());
    assert!(text.len() <= limits::PANIC_TEXT_BYTES && text.chars().all(|c| c == '\n' || !c.is_control()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_put_together_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let before: String = (0..50).map(|n| format!("<6>[ 1.0] line {n}\n")).collect();
        put("dmesg-efi_pstore-2", &format!("Panic#1 Part2\n{before}"));
        put(
            "dmesg-efi_pstore-1",
            "Panic#1 Part1\n<0>[ 2.0] Kernel panic - not syncing: x\x1b\n<6>[ 2.1] after\n",
        );
        put("dmesg-efi_pstore-3", "Oops#2 Part1\nsomething else\n");
        put("console-x", "no panic");
        let text = take(folder.path());
        assert!(text.starts_with(&format!("<6>[ 1.0] line {}\n", 50 - limits::PANIC_LINES_BEFORE)), "{text}");
        assert!(text.ends_with("Kernel panic - not syncing: x \n<6>[ 2.1] after\n"), "{text}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(take(folder.path()), "");
    }

    #[test]
    fn it_is_bounded() {
        let long = format!("{}\n", "x".repeat(100)).repeat(1000);
        let part = Part { count: 1, part: 1, text: format!("Kernel panic - not syncing\n{long}") };
        assert!(join(vec![part]).len() <= limits::PANIC_TEXT_BYTES);
        assert_eq!(Part::parse("Panic#x Part1\n"), None);
        assert_eq!(Part::parse("nothing"), None);
    }
}
