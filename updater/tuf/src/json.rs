//! JSON as strictly as signed data needs it, and the canonical form that is signed.
//!
//! Two readers that take one text for two things are what an attacker looks for. So this one refuses what they differ
//! in: a name twice in an object, numbers with a fraction or beyond 64 bits, half a surrogate pair, text after the end.
//! Depth and number of values are bounded before memory is.

use crate::limits;
use std::collections::BTreeMap;

/// A value. Numbers are whole: canonical JSON has no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Value>),
    /// An object; its members in the order of their names, as canonical JSON has them.
    Object(BTreeMap<String, Value>),
}

/// Where a text stops being JSON that is accepted here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("byte {at}: {why}")]
pub struct JsonError {
    /// Offset in bytes.
    pub at: usize,
    /// What is wrong.
    pub why: &'static str,
}

/// Reads one value, which must be all there is.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut reader = Reader { bytes, at: 0, values: 0 };
    let value = reader.value(0)?;
    reader.space();
    if reader.at < bytes.len() {
        return Err(reader.error("something follows the end"));
    }
    Ok(value)
}

impl Value {
    /// The object's member of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get(name)
    }

    /// The text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The list.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The object's members.
    pub fn as_object(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    /// Canonical JSON: what is signed. Not always JSON: of all characters only quote and backslash are escaped.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, false);
        out
    }

    /// The shortest JSON, members in order.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out, true);
        out
    }

    fn write(&self, out: &mut Vec<u8>, controls: bool) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::String(text) => write_text(text, out, controls),
            Self::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out, controls);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_text(name, out, controls);
                    out.push(b':');
                    value.write(out, controls);
                }
                out.push(b'}');
            }
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>, controls: bool) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 if controls => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Value {
    /// Beyond what the format can say becomes the largest number it can.
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Integer(number.into())
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<N: Into<String>, const COUNT: usize> From<[(N, Value); COUNT]> for Value {
    fn from(members: [(N, Value); COUNT]) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl Reader<'_> {
    fn error(&self, why: &'static str) -> JsonError {
        JsonError { at: self.at, why }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.values += 1;
        if self.values > limits::JSON_VALUES {
            return Err(self.error("too many values"));
        }
        self.space();
        match self.peek() {
            Some(b'{' | b'[') if depth == limits::JSON_DEPTH => Err(self.error("too deep")),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.text().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => Err(self.error("no value begins like this")),
            None => Err(self.error("ends where a value should be")),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("no value begins like this"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut members = BTreeMap::new();
        self.space();
        if self.take(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            let begin = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.error("a name in quotes should be here"));
            }
            let name = self.text()?;
            if members.contains_key(&name) {
                return Err(JsonError { at: begin, why: "the same name twice in one object" });
            }
            self.space();
            if !self.take(b':') {
                return Err(self.error("a colon should be here"));
            }
            let value = self.value(depth + 1)?;
            members.insert(name, value);
            self.space();
            if self.take(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.take(b',') {
                return Err(self.error("a comma or the object's end should be here"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.take(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.take(b']') {
                return Ok(Value::Array(items));
            }
            if !self.take(b',') {
                return Err(self.error("a comma or the list's end should be here"));
            }
        }
    }

    fn integer(&mut self) -> Result<Value, JsonError> {
        let begin = self.at;
        self.take(b'-');
        let digits = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if let Some(b'.' | b'e' | b'E') = self.peek() {
            return Err(self.error("only whole numbers are signed"));
        }
        let text = &self.bytes[begin..self.at];
        let zero = self.bytes.get(digits) == Some(&b'0');
        if (zero && self.at > digits + 1) || text == b"-0" {
            return Err(JsonError { at: begin, why: "a number that is not written the one way" });
        }
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.map(Value::Integer).ok_or(JsonError { at: begin, why: "no whole number of 64 bits" })
    }

    fn text(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let begin = self.at;
            while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
                self.at += 1;
            }
            text.extend_from_slice(&self.bytes[begin..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return String::from_utf8(text).map_err(|_| self.error("a text that is not UTF-8"));
                }
                Some(b'\\') => {
                    let character = self.escape()?;
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(_) => return Err(self.error("a control character inside a text")),
                None => return Err(self.error("ends inside a text")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.at += 1;
        let character = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.error("an escape that JSON does not have")),
        };
        self.at += 1;
        Ok(character)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.four_digits()?;
        let code = match first {
            0xd800..0xdc00 => {
                if !(self.take(b'\\') && self.take(b'u')) {
                    return Err(self.error("half a surrogate pair"));
                }
                match self.four_digits()? {
                    second @ 0xdc00..0xe000 => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => return Err(self.error("half a surrogate pair")),
                }
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.error("half a surrogate pair"))
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        if digits.len() != 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(self.error("four hexadecimal digits should be here"));
        }
        self.at += 4;
        let value = |code: u32, digit: &u8| code << 4 | char::from(*digit).to_digit(16).unwrap_or_default();
        Ok(digits.iter().fold(0, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(text: &str) -> &'static str {
        parse(text.as_bytes()).expect_err(text).why
    }

    #[test]
    fn canonical_form_is_that_of_other_writers() {
        let text = r#" {"b": [1, -2, true, null], "a\u0041": "q\"\\\/é\n\ud83d\ude00", "": {}} "#;
        let value = parse(text.as_bytes()).unwrap();
        // As python's securesystemslib writes it: only quote and backslash escaped, a raw line end.
        let expected = "{\"\":{},\"aA\":\"q\\\"\\\\/é\n😀\",\"b\":[1,-2,true,null]}";
        assert_eq!(String::from_utf8(value.canonical()).unwrap(), expected);
        assert_eq!(parse(&value.to_json()).unwrap(), value);
    }

    #[test]
    fn what_two_readers_may_take_for_two_things_is_refused() {
        assert_eq!(why(r#"{"a": 1, "a": 2}"#), "the same name twice in one object");
        assert_eq!(why(r#"{"a": 1, "\u0061": 2}"#), "the same name twice in one object");
        for number in ["1.0", "1e3", "1E3", "0.5"] {
            assert_eq!(why(number), "only whole numbers are signed", "{number}");
        }
        for number in ["01", "-0", "-01"] {
            assert_eq!(why(number), "a number that is not written the one way", "{number}");
        }
        for number in ["9223372036854775808", "-", "-9223372036854775809"] {
            assert_eq!(why(number), "no whole number of 64 bits", "{number}");
        }
        for text in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#, r#""\ud83d\u0041""#] {
            assert_eq!(why(text), "half a surrogate pair", "{text}");
        }
        assert_eq!(why("{} {}"), "something follows the end");
        assert_eq!(parse(b"\"\xff\"").unwrap_err().why, "a text that is not UTF-8");
        assert_eq!(why("\"a\nb\""), "a control character inside a text");
        assert_eq!(why("[1,]"), "no value begins like this");
        assert_eq!(why("{\"a\":1,}"), "a name in quotes should be here");
        assert_eq!(why("\u{feff}{}"), "no value begins like this");
        assert_eq!(why("NaN"), "no value begins like this");
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(nested(limits::JSON_DEPTH).as_bytes()).is_ok());
        assert_eq!(why(&nested(limits::JSON_DEPTH + 1)), "too deep");
        assert_eq!(why(&"[".repeat(1_000_000)), "too deep");
        assert_eq!(why(&"{\"a\":".repeat(1_000_000)), "too deep");
        let many = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert!(parse(many(limits::JSON_VALUES - 2).as_bytes()).is_ok());
        assert_eq!(why(&many(limits::JSON_VALUES - 1)), "too many values");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Integer),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in values()) {
            prop_assert_eq!(parse(&value.to_json()).unwrap(), value);
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
