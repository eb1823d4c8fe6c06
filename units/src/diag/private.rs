//! Lines that no message may show: whatever stands in a table that holds secrets, even where the file is broken.

/// First words of tables and keys of the machine config whose values are nobody's business.
const PRIVATE: [&str; 4] = ["secrets", "files", "registries", "docker_config"];

/// Whether what stands at this byte belongs to one of them. In doubt, as behind a mistake of syntax, it does.
pub(super) fn hides(text: &str, at: usize) -> bool {
    let (mut private, mut inside) = (false, None);
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if inside.is_none() {
            private = of(line.trim()).unwrap_or(private);
        }
        inside = after(line, inside);
        start += line.len();
        if start > at {
            break;
        }
    }
    private
}

/// What a line that begins outside of strings says about itself and those behind it.
fn of(line: &str) -> Option<bool> {
    let word = |text: &str| {
        let text = text.trim_start_matches(['[', ' ', '\t', '"', '\'']);
        PRIVATE.iter().any(|name| {
            text.strip_prefix(name)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    if word(line) {
        return Some(true);
    }
    // A header, not the line of a list: only keys, dots and quotes between its brackets.
    let header = line.split('#').next().unwrap_or_default().trim_end();
    let key =
        |c: char| c.is_alphanumeric() || matches!(c, '[' | ']' | '.' | '-' | '_' | '"' | '\'' | ' ' | ':');
    (header.starts_with('[') && header.ends_with(']') && header.chars().all(key)).then_some(false)
}

/// The quotes that a string of several lines, in which the next line lies, will end with.
fn after(line: &str, mut inside: Option<&'static str>) -> Option<&'static str> {
    let mut rest = line;
    loop {
        match inside {
            Some(end) => match (rest.find(end), rest.find('\\')) {
                (close, Some(escape)) if end.starts_with('"') && close.is_none_or(|close| escape < close) => {
                    rest = rest.get(escape + 1..).map(skip_one).unwrap_or_default();
                }
                (Some(close), _) => {
                    rest = rest.get(close + end.len()..).unwrap_or_default();
                    inside = None;
                }
                // One of a single line ends with it, whatever the mistake.
                (None, _) => return inside.filter(|end| end.len() == 3),
            },
            None => {
                let at = rest.find(['"', '\'', '#'])?;
                rest = rest.get(at..).unwrap_or_default();
                let opens =
                    ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| rest.starts_with(quotes))?;
                rest = rest.get(opens.len()..).unwrap_or_default();
                inside = Some(opens);
            }
        }
    }
}

fn skip_one(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_with_secrets_are_hidden() {
        let text = "format = 1\nsecrets.a = \"s0\" # ]\n[access]\nkeys = [\"x\"]\n[ \"secrets\" ]\nb = \"\"\"\n[access]\ns1 \\\"\"\"\n\
                    [s2]\n\"\"\"\nc = 's3'\n[[network.interface]]\nmatch = '''\n[secrets]'''\nlist = [\n\"p\",\n]\n\
                    [files]\n\"a.ini\" = '''\n[section]\ns4\n'''\nd = 's5\n[units.web.secrets]\np = 2\n";
        let at = |what: &str| hides(text, text.find(what).unwrap());
        for hidden in ["s0", "s1", "s2", "s3", "section", "s4", "s5", "\"secrets"] {
            assert!(at(hidden), "{hidden}");
        }
        for shown in ["format", "keys", "match", "list", "\"p\"", "p = 2"] {
            assert!(!at(shown), "{shown}");
        }
        assert!(hides("registries.x.auth = 1", 3) && !hides("secretsy = 1", 3));
        assert!(!hides("", 0) && !hides("x", 9));
    }
}
