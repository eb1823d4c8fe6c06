//! `docs/performance.md`: a section for each bench that measures, each written anew by its own command and left alone by
//! the others.

use anyhow::{Context, Result};
use serde_json::Value;

/// A section of the page.
pub(crate) struct Section {
    /// What it is headed by; one of [`ORDER`].
    pub heading: &'static str,
    /// How the figures come about: sentences, the first naming the command.
    pub intro: &'static str,
    /// Each figure's name, and what it is.
    pub figures: &'static [(&'static str, &'static str)],
}

/// The sections, as the page has them.
const ORDER: [&str; 4] = ["Boot", "Units", "Update", "Provision"];
const HEAD: &str = "# Performance\n\nEach section is written by the command that its first line names; seconds depend on the host, ratios much less.\n";

impl Section {
    /// Puts figures into the page. One that was not taken says so.
    pub(crate) fn write(&self, result: &Value) -> Result<()> {
        let path = berth_image::workspace::repo().join("docs/performance.md");
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        let page = replaced(&page, self.heading, &self.text(result));
        std::fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))
    }

    fn text(&self, result: &Value) -> String {
        let mut text = format!("{}\n\n| figure | value | what it is |\n|---|---|---|\n", self.intro);
        for (name, meaning) in self.figures {
            text.push_str(&format!("| `{name}` | {} | {meaning} |\n", shown(&result[name])));
        }
        text
    }
}

/// The figures as lines for a terminal.
pub(crate) fn print(result: &Value, json: bool) {
    if json {
        println!("{result}");
        return;
    }
    for (name, value) in result.as_object().into_iter().flatten() {
        println!("{name:28} {}", shown(value));
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not taken".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The page with this section's text in its place.
fn replaced(page: &str, heading: &str, text: &str) -> String {
    let old = |heading: &str| {
        let start = page.find(&format!("\n## {heading}\n"))? + "\n## \n".len() + heading.len();
        let rest = &page[start..];
        Some(rest[..rest.find("\n## ").unwrap_or(rest.len())].trim().to_owned())
    };
    let mut new = HEAD.to_owned();
    for name in ORDER {
        let body = if name == heading { Some(text.trim().to_owned()) } else { old(name) };
        if let Some(body) = body {
            new.push_str(&format!("\n## {name}\n\n{body}\n"));
        }
    }
    new
}

/// The value in the middle, or between the two there; of none, not a number.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(values.len() / 2), at(values.len().saturating_sub(1) / 2))
}

/// To three decimals.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_bench_writes_its_own_section_only() {
        let page = replaced("", "Update", "By `c`.\n\n| a |\n");
        assert_eq!(page, format!("{HEAD}\n## Update\n\nBy `c`.\n\n| a |\n"));
        let page = replaced(&page, "Boot", "one");
        let page = replaced(&page, "Units", "two");
        assert_eq!(
            page,
            format!("{HEAD}\n## Boot\n\none\n\n## Units\n\ntwo\n\n## Update\n\nBy `c`.\n\n| a |\n")
        );
        assert_eq!(replaced(&page, "Units", "two"), page, "the same figures make the same page");
        let page = replaced(&page, "Units", "three");
        assert!(page.contains("## Units\n\nthree\n\n## Update"), "{page}");
        assert!(!page.contains("two"), "{page}");
    }

    #[test]
    fn a_figure_that_is_missing_says_so() {
        let figures = &[("a", "first"), ("b", "second"), ("c", "third")];
        let section = Section { heading: "Boot", intro: "How.", figures };
        let text = section.text(&json!({"a": 1.5, "b": "x", "d": 2}));
        assert!(text.ends_with("| `a` | 1.5 | first |\n| `b` | x | second |\n| `c` | not taken | third |\n"));
    }

    #[test]
    fn the_median_is_a_value_in_the_middle() {
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&mut [4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&mut []).is_nan());
    }
}
