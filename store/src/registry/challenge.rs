//! `WWW-Authenticate`, as registries send it (RFC 9110, section 11): which schemes, with which parameters.

use crate::limits;

/// One scheme that the server takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Reads one header line. What makes no sense ends it: what came before still counts.
pub fn parse(line: &str) -> Vec<Challenge> {
    let mut rest = Rest(line.get(..limits::CHALLENGE_BYTES).unwrap_or(line));
    let mut all: Vec<Challenge> = Vec::new();
    let mut count = 0;
    loop {
        rest.skip_commas();
        let Some(word) = rest.token() else { return all };
        rest.skip_spaces();
        // `name=` goes on with the scheme before it; anything else begins a new one.
        if rest.eat('=') {
            rest.skip_spaces();
            let Some(value) = rest.quoted().or_else(|| rest.token().map(str::to_owned)) else { return all };
            let Some(challenge) = all.last_mut() else { return all };
            count += 1;
            if count > limits::CHALLENGE_PARAMETERS {
                return all;
            }
            let name = word.to_ascii_lowercase();
            if challenge.get(&name).is_none() {
                challenge.parameters.push((name, value));
            }
        } else {
            if all.len() >= limits::CHALLENGE_PARAMETERS {
                return all;
            }
            all.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
        }
    }
}

struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip_spaces(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn skip_commas(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.0.strip_prefix(wanted).map(|rest| self.0 = rest).is_some()
    }

    fn token(&mut self) -> Option<&'a str> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c);
        let end = self.0.find(|c| !is_part(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    fn quoted(&mut self) -> Option<String> {
        let mut chars = self.0.strip_prefix('"')?.chars();
        let mut value = String::new();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(chars.next()?),
                c => value.push(c),
            }
        }
        self.0 = chars.as_str();
        Some(value)
    }
}

/// For fuzzing.
pub fn fuzz(text: &str) {
    for challenge in parse(text) {
        assert!(!challenge.scheme.is_empty() && challenge.parameters.len() <= limits::CHALLENGE_PARAMETERS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let one = |c: &Challenge| {
            let parameters: Vec<String> = c.parameters.iter().map(|(n, v)| format!("{n}<{v}>")).collect();
            format!("{} {}", c.scheme, parameters.join(" "))
        };
        parse(line).iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_registries_send() {
        for (line, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/web:pull""#,
                "bearer realm<https://auth.docker.io/token> service<registry.docker.io> scope<repository:library/web:pull>",
            ),
            (r#"Basic realm="Registry Realm""#, "basic realm<Registry Realm>"),
            (
                r#"BASIC realm=plain , Bearer Realm = "a\"b,c=d", x=y"#,
                r#"basic realm<plain>; bearer realm<a"b,c=d> x<y>"#,
            ),
            (r#"Bearer realm="one",realm="two""#, "bearer realm<one>"),
            ("Negotiate", "negotiate "),
            (r#"Bearer realm="cut"#, "bearer "),
            ("=,,=", ""),
            ("", ""),
            ("realm=\"of nobody\"", ""),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
        assert!(parse(&"Basic a=b,".repeat(5000)).len() <= limits::CHALLENGE_PARAMETERS);
        parse(&"ä".repeat(5000));
    }
}
