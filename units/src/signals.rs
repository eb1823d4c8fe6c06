//! Signals by name, as images and unit files write them.

/// The number of `TERM`, `SIGTERM`, `15`, `SIGRTMIN+3`; `None` for anything else.
pub fn number(text: &str) -> Option<i32> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    if let Some(above) = name.strip_prefix("RTMIN+") {
        return above.parse::<i32>().ok().filter(|n| (0..=30).contains(n)).map(|n| libc::SIGRTMIN() + n);
    }
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_images_write_them() {
        for (text, expected) in [
            ("SIGQUIT", Some(libc::SIGQUIT)),
            ("QUIT", Some(libc::SIGQUIT)),
            ("3", Some(libc::SIGQUIT)),
            ("SIGRTMIN+3", Some(libc::SIGRTMIN() + 3)),
            ("SIGRTMIN+99", None),
            ("", None),
            ("900", None),
            ("rubbish", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
