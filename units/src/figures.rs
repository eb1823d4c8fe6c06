//! Numbers out of the kernel's text files: of cgroups, `/proc` and `/sys`.

/// The number in the line that begins with `name` and a blank: `user_usec 123`.
pub fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The KiB in the line `Name:   123 kB` (`/proc/meminfo`, `/proc/PID/status`).
pub fn kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = "usage_usec 123\nuser_usec 7\npopulated 1\n";
        assert_eq!(field(text, "usage_usec"), Some(123));
        assert_eq!(field(text, "usage"), None);
        assert_eq!(field("", "populated"), None);
    }

    #[test]
    fn sizes() {
        assert_eq!(kib("MemTotal:  128 kB\nMemAvailable:   64 kB\n", "MemAvailable"), Some(64));
        assert_eq!(kib("", "MemTotal"), None);
    }
}
