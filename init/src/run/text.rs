//! Small words: times, exits, bounded strings.

use berth_units::calendar::Utc;
use berth_units::lifecycle::Exit;
use std::time::Duration;

/// `1.23 s`.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// `2026-11-24T08:00:00Z`.
pub fn timestamp(since_1970: Duration) -> String {
    Utc::of(since_1970.as_secs()).to_string()
}

/// SHA-256, hex.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    use std::fmt::Write;
    sha2::Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `exit code 1`, `signal 9 (killed)`.
pub fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(number) => match signal_word(number) {
            "" => format!("signal {number}"),
            word => format!("signal {number} ({word})"),
        },
    }
}

/// Why the kernel killed it, with the limit that it ran into.
pub fn out_of_memory(limit: Option<u64>) -> String {
    match limit {
        Some(bytes) => format!("out of memory: its limit is {} MiB", bytes.div_ceil(1 << 20)),
        None => "out of memory: the machine has no more".into(),
    }
}

fn signal_word(number: i32) -> &'static str {
    match number {
        libc::SIGKILL => "killed",
        libc::SIGTERM => "terminated",
        libc::SIGINT => "interrupted",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGILL => "illegal instruction",
        libc::SIGFPE => "arithmetic error",
        libc::SIGSYS => "forbidden system call",
        libc::SIGPIPE => "broken pipe",
        _ => "",
    }
}

/// At most `limit` bytes of what somebody else wrote, control characters replaced: nobody paints on our console.
pub fn bounded(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if out.len() + c.len_utf8() > limit {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

/// As [`bounded`], keeping line ends.
pub fn bounded_lines(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if out.len() + line.len() > limit {
            out.push_str("(cut)\n");
            break;
        }
        out.push_str(&bounded(&line.replace('\t', "    "), limit));
        out.push('\n');
    }
    out
}

/// What was removed of images.
pub fn removed(images: u64, layers: u64, bytes: u64) -> String {
    let of = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!("{} and {}, {} MiB are free again", of(images, "image"), of(layers, "layer"), bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_civil_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_507_200, "2026-11-24T08:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn others_text_is_cut_and_cannot_paint() {
        assert_eq!(bounded("a\x1b[31mb\n", 100), "a [31mb ");
        assert_eq!(bounded("ääää", 4), "ää…");
        assert_eq!(bounded_lines("a\tb\r\nc", 100), "a    b\nc\n");
    }

    #[test]
    fn exits_in_words() {
        assert_eq!(exit(Exit::Code(1)), "exit code 1");
        assert_eq!(exit(Exit::Signal(9)), "signal 9 (killed)");
        assert_eq!(exit(Exit::Signal(64)), "signal 64");
    }
}
