//! A log line, as PID 1 writes it and as we send it; and what can be asked of a log.

use crate::respond::Refusal;
use berth_units::calendar::Utc;
use berth_units::logs;
use serde::{Deserialize, Serialize};

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// Not from the unit: a remark by whoever reads its log.
    Berth,
}

impl Stream {
    /// As in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
            Self::Berth => "berth",
        }
    }
}

/// One line; in JSON one object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// RFC 3339 in UTC with nanoseconds; absent where it is not known.
    pub time: Option<String>,
    /// Where it came from.
    pub stream: Stream,
    /// Without the newline. Bytes that are not UTF-8 have been replaced.
    pub text: String,
}

impl Line {
    /// Reads a line as it lies in a segment ([`logs::parse_line`]). What does not look so is a line without a time.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let known = logs::parse_line(bytes).and_then(|line| {
            let stream = match line.stream {
                logs::Stream::Stdout => Stream::Out,
                logs::Stream::Stderr => Stream::Err,
            };
            let nanos = format!("{:09}", line.time.subsec_nanos());
            Some(Self { time: Some(rfc3339(line.time.as_secs(), &nanos)?), stream, text: text(line.text) })
        });
        known.unwrap_or_else(|| Self { time: None, stream: Stream::Out, text: text(bytes) })
    }
}

/// `2026-11-24T08:00:00.123456789Z`, for the years 1970 to 9999.
fn rfc3339(seconds: u64, nanos: &str) -> Option<String> {
    let utc = Utc::of(seconds);
    (utc.year <= 9999).then(|| format!("{}T{}.{nanos}Z", utc.date(), utc.time()))
}

/// How lines are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `<time> <out|err> <text>`.
    Text,
    /// One [`Line`] a line.
    Json,
}

impl Format {
    /// Appends one line.
    pub fn write(self, line: &Line, out: &mut Vec<u8>) {
        match self {
            Self::Text => {
                let time = line.time.as_deref().unwrap_or("-");
                out.extend_from_slice(format!("{time} {:<3} {}", line.stream.word(), line.text).as_bytes());
            }
            Self::Json => {
                let _ = serde_json::to_writer(&mut *out, line);
            }
        }
        out.push(b'\n');
    }
}

/// `?follow=1&tail=100&format=json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Go on when everything has been sent.
    pub follow: bool,
    /// Until the unit has ended.
    pub until_end: bool,
    /// Only the last so many lines of what is there.
    pub tail: Option<u64>,
    /// `format=text|json`; else JSON where `Accept` says `ndjson`, else text.
    pub format: Format,
}

impl Query {
    /// From the query part of the address and the header `Accept`.
    pub(crate) fn parse(query: &str, accept: &str) -> Result<Self, Refusal> {
        let format = if accept.contains("ndjson") { Format::Json } else { Format::Text };
        let mut all = Self { follow: false, until_end: false, tail: None, format };
        for (name, value) in
            query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")))
        {
            match (name, value) {
                ("follow", "1" | "true" | "") => all.follow = true,
                ("follow", "end") => (all.follow, all.until_end) = (true, true),
                ("follow", "0" | "false") => all.follow = false,
                ("format", "text") => all.format = Format::Text,
                ("format", "json") => all.format = Format::Json,
                ("tail", number) if number.parse::<u64>().is_ok() => all.tail = number.parse().ok(),
                ("follow", _) => return Err(wrong(name, value, "0, 1 or end")),
                ("format", _) => return Err(wrong(name, value, "text or json")),
                ("tail", _) => return Err(wrong(name, value, "a number of lines")),
                _ => return Err(wrong(name, value, "follow=, tail= or format=")),
            }
        }
        Ok(all)
    }
}

fn wrong(name: &str, value: &str, expected: &str) -> Refusal {
    let shown: String = format!("{name}={value}").chars().take(80).collect();
    Refusal::new("bad-request", format!("parameter {shown:?} not understood; expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &[u8]) -> String {
        let mut out = Vec::new();
        Format::Text.write(&Line::parse(line), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines() {
        assert_eq!(text(b"0.000000001 o hi there"), "1970-01-01T00:00:00.000000001Z out hi there\n");
        assert_eq!(text(b"1709164800.5 o short"), "- out 1709164800.5 o short\n");
        assert_eq!(text(b"1709164800.500000000 e "), "2024-02-29T00:00:00.500000000Z err \n");
        assert_eq!(text(b"1795507200.123456789 o  two"), "2026-11-24T08:00:00.123456789Z out  two\n");
        assert_eq!(text(b"253402300800.000000000 o late"), "- out 253402300800.000000000 o late\n");
        assert_eq!(text(b"1.000000000 x odd"), "- out 1.000000000 x odd\n");
        assert_eq!(text("1.00000000é o odd".as_bytes()), "- out 1.00000000é o odd\n");
        assert_eq!(text(b""), "- out \n");
    }

    #[test]
    fn json_carries_any_bytes() {
        let mut out = Vec::new();
        Format::Json.write(&Line::parse(b"5.000000000 e \"\x1b\xff"), &mut out);
        let line: Line = serde_json::from_slice(&out).unwrap();
        assert_eq!(line.text, "\"\u{1b}\u{fffd}");
        assert_eq!(line.stream, Stream::Err);
    }

    #[test]
    fn queries() {
        let query = Query::parse("follow=1&tail=20", "application/x-ndjson").unwrap();
        assert_eq!(query, Query { follow: true, until_end: false, tail: Some(20), format: Format::Json });
        assert!(Query::parse("follow=end", "").unwrap().until_end);
        assert_eq!(Query::parse("format=text", "application/x-ndjson").unwrap().format, Format::Text);
        for bad in ["tail=-1", "tail=", "follow=yes", "lines=3", "format=xml"] {
            let refusal = Query::parse(bad, "").unwrap_err();
            assert_eq!(refusal.status, 400);
            assert!(refusal.message.contains("expected"), "{}", refusal.message);
        }
    }
}
