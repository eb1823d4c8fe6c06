//! Environment files, as `docker run --env-file` reads them: one `NAME=value` a line, the value as it stands, quotes
//! and all; empty lines and lines that begin with `#` are passed over. Stricter in what no unit can have meant: a line
//! without `=` (there is no environment to take the value from), a name with a space in it, a NUL.
//!
//! Nothing of a value is ever part of a message: it may be a password.

/// Line, from 1, and what is wrong with it.
type Mistake = (usize, &'static str);

/// Names and values in their order; or every mistake.
pub(crate) fn parse(text: &str) -> Result<Vec<(&str, &str)>, Vec<Mistake>> {
    let (mut pairs, mut mistakes) = (Vec::new(), Vec::new());
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim_start).zip(1..);
    for (line, number) in lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
        match entry(line) {
            Ok(pair) => pairs.push(pair),
            Err(why) => mistakes.push((number, why)),
        }
    }
    if mistakes.is_empty() { Ok(pairs) } else { Err(mistakes) }
}

fn entry(line: &str) -> Result<(&str, &str), &'static str> {
    let (name, value) = line.split_once('=').ok_or("has no =; a line is NAME=value")?;
    if line.contains('\0') {
        return Err("has a NUL character, which no program can be given");
    }
    if name.is_empty() {
        return Err("has no name before =");
    }
    if name.contains(char::is_whitespace) {
        return Err("has a space in the name before =; there is no \"export\", and no space around =");
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_reads() {
        let text = "\u{feff}# a comment\r\n\r\nA=1\r\n  B=two words \nQUOTED=\"x\"\nEMPTY=\nURL=a=b#c\n";
        let pairs =
            [("A", "1"), ("B", "two words "), ("QUOTED", "\"x\""), ("EMPTY", ""), ("URL", "a=b#c")].to_vec();
        assert_eq!(parse(text), Ok(pairs));
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn mistakes_have_their_line_and_not_its_text() {
        let mistakes = parse("A=1\nhunter2\n\n=x\nexport B=1\nC =1\nD=\0\n").unwrap_err();
        assert_eq!(mistakes.iter().map(|m| m.0).collect::<Vec<_>>(), [2, 4, 5, 6, 7]);
        assert!(mistakes.iter().all(|m| !m.1.contains("hunter2")));
    }
}
