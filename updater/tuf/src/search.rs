//! Which delegated roles are asked about a name, and in which order (§5.6.7).

use crate::metadata::{Delegation, Names, Targets};
use ring::digest;

/// The delegations of a role that are about a name, in order; none after a terminating one.
pub fn asked<'a>(targets: &'a Targets, name: &'a str) -> impl Iterator<Item = &'a Delegation> {
    let mut ended = false;
    let fitting = targets.delegations.iter().filter(|delegation| is_about(delegation, name));
    fitting.take_while(move |delegation| !std::mem::replace(&mut ended, delegation.terminating))
}

fn is_about(delegation: &Delegation, name: &str) -> bool {
    match &delegation.names {
        Names::Patterns(patterns) => patterns.iter().any(|pattern| fits(pattern, name)),
        Names::HashPrefixes(prefixes) => {
            let hash = crate::hex(digest::digest(&digest::SHA256, name.as_bytes()).as_ref());
            prefixes.iter().any(|prefix| hash.starts_with(prefix.as_str()))
        }
    }
}

/// Whether a name fits a shell pattern: `*` is any text and `?` any character, without `/`.
fn fits(pattern: &str, name: &str) -> bool {
    let (mut patterns, mut names) = (pattern.split('/'), name.split('/'));
    loop {
        match (patterns.next(), names.next()) {
            (Some(pattern), Some(name)) if part_fits(pattern, name) => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

/// One part of a path. Of the stars, only the last one seen is ever tried again: time is bounded by the product of the
/// lengths.
fn part_fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(character) if *character == '?' || *character == name[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((back, taken)) = star else { return false };
                star = Some((back, taken + 1));
                at = back + 1;
                read = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name) in [
            ("*", "a"),
            ("a*c", "abbc"),
            ("a*c", "ac"),
            ("**", ""),
            ("?", "é"),
            ("foo-?.tgz", "foo-1.tgz"),
            ("releases/*/*", "releases/1/berth.efi"),
            ("a*b*c", "aXbYbc"),
            ("*.efi", ".efi"),
            ("", ""),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*", "a/b"),
            ("?", "/"),
            ("?", ""),
            ("a?c", "ac"),
            ("A", "a"),
            ("foo-?.tgz", "foo-10.tgz"),
            ("releases/*", "releases/1/x"),
            ("releases/*/*", "releases/x"),
            ("*/x", "x"),
            ("a*b", "abc"),
            ("", "a"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_stars_costs_little() {
        let begin = std::time::Instant::now();
        assert!(!fits(&"*a".repeat(500), &"a".repeat(1023).replace("aaaaaaaaaa", "ab")));
        assert!(!part_fits(&format!("{}b", "*a".repeat(500)), &"a".repeat(1000)));
        assert!(begin.elapsed().as_secs() < 5);
    }
}
