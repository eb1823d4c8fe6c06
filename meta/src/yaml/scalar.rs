//! What a scalar means: PyYAML's resolver and the constructors of its safe loader (yaml/resolver.py, yaml/constructor.py).

use super::Value;
use berth_units::diag::quote;
use saphyr_parser::Tag;

/// The handle of YAML's own tags.
const CORE: &str = "tag:yaml.org,2002:";

/// A tag's name without [`CORE`]; empty for `!`, which says nothing. An error for any other.
pub(super) fn tag(tag: &Tag) -> Result<&str, String> {
    let whole = format!("{}{}", tag.handle, tag.suffix);
    match (tag.handle.as_str(), tag.suffix.strip_prefix(CORE)) {
        (CORE, _) => Ok(tag.suffix.as_str()),
        ("", Some(name)) => Ok(name),
        _ if whole == "!" => Ok(""),
        _ => Err(format!("the tag {} is not known", quote(&whole))),
    }
}

/// The value of a scalar. `plain`: without quotes, and no block.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&str>) -> Result<Value, String> {
    let bad = |kind: &str| format!("{} is not {kind}", quote(text));
    match tag {
        None | Some("") if plain => guess(text),
        None | Some("" | "str" | "timestamp") => Ok(Value::Text(text.to_owned())),
        Some("null") => Ok(Value::Null),
        Some("bool") => boolean(&text.to_ascii_lowercase()).map(Value::Bool).ok_or_else(|| bad("a boolean")),
        Some("int") => integer(text).map(Value::Int),
        Some("float") => float(text).map(Value::Float).ok_or_else(|| bad("a number")),
        Some("binary") => binary(text).map(Value::Bytes).ok_or_else(|| "!!binary is not base64".to_owned()),
        Some(other) => Err(format!("a text with the tag !!{other} is not read")),
    }
}

/// As Python's `binascii.a2b_base64`: what is not of the alphabet is skipped, the padding ends it.
fn binary(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut held, mut pads) = (0u32, 0usize, 0usize);
    for b in text.bytes() {
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if held >= 2 => {
                pads += 1;
                if held + pads >= 4 {
                    return Some(bytes);
                }
                continue;
            }
            _ => continue,
        };
        pads = 0;
        bits = bits << 6 | u32::from(value);
        if held > 0 {
            let shift = 6 - 2 * held;
            bytes.push(u8::try_from(bits >> shift & 0xff).ok()?);
        }
        held = (held + 1) % 4;
    }
    (held == 0).then_some(bytes)
}

fn guess(text: &str) -> Result<Value, String> {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Ok(Value::Null);
    }
    // As PyYAML has it: three ways to write each, not any.
    let lower = text.to_ascii_lowercase();
    let cased = text == lower || text == text.to_ascii_uppercase() || text == capital(&lower);
    if let Some(yes) = boolean(&lower).filter(|_| cased) {
        return Ok(Value::Bool(yes));
    }
    if looks_integer(text) {
        return integer(text).map(Value::Int);
    }
    if looks_float(text) {
        return float(text).map(Value::Float).ok_or_else(|| format!("{} is not a number", quote(text)));
    }
    Ok(Value::Text(text.to_owned()))
}

fn capital(lower: &str) -> String {
    let mut chars = lower.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

fn boolean(lower: &str) -> Option<bool> {
    match lower {
        "yes" | "true" | "on" => Some(true),
        "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

/// All of these, and at least one.
fn all(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(fits)
}

fn digit(b: u8) -> bool {
    b.is_ascii_digit() || b == b'_'
}

/// `:30`, as it may follow in a number to base 60: two digits at most, the first up to 5.
fn sixtieths(text: &str) -> bool {
    text.split(':').all(|part| match part.as_bytes() {
        [b] => b.is_ascii_digit(),
        [a, b] => (b'0'..=b'5').contains(a) && b.is_ascii_digit(),
        _ => false,
    })
}

fn looks_integer(text: &str) -> bool {
    let body = unsigned(text);
    if let Some(binary) = body.strip_prefix("0b") {
        return all(binary, |b| matches!(b, b'0' | b'1' | b'_'));
    }
    if let Some(hex) = body.strip_prefix("0x") {
        return all(hex, |b| b.is_ascii_hexdigit() || b == b'_');
    }
    if let Some(octal) = body.strip_prefix('0') {
        return octal.is_empty() || all(octal, |b| (b'0'..=b'7').contains(&b) || b == b'_');
    }
    if !body.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
        return false;
    }
    match body.split_once(':') {
        Some((first, rest)) => all(first, digit) && sixtieths(rest),
        None => all(body, digit),
    }
}

fn integer(text: &str) -> Result<i128, String> {
    let bad = || format!("{} is not a whole number that can be read", quote(text));
    let plain = text.replace('_', "");
    let body = unsigned(&plain);
    let (digits, radix) = match body.as_bytes() {
        [b'0'] => ("0", 10),
        [b'0', b'b', ..] => (body.get(2..).unwrap_or_default(), 2),
        [b'0', b'x', ..] => (body.get(2..).unwrap_or_default(), 16),
        [b'0', ..] => (body.get(1..).unwrap_or_default(), 8),
        _ => (body, 10),
    };
    let mut value: i128 = 0;
    for part in digits.split(':') {
        if part.starts_with(['-', '+']) {
            return Err(bad());
        }
        let part = i128::from_str_radix(part, radix).map_err(|_| bad())?;
        value = value.checked_mul(60).and_then(|value| value.checked_add(part)).ok_or_else(bad)?;
    }
    Ok(if plain.starts_with('-') { -value } else { value })
}

fn looks_float(text: &str) -> bool {
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let body = unsigned(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let Some((before, after)) = body.split_once('.') else { return false };
    let (mantissa, exponent) = match after.find(['e', 'E']) {
        Some(at) => (after.get(..at).unwrap_or_default(), after.get(at + 1..)),
        None => (after, None),
    };
    let exponent_fits = exponent.is_none_or(|exponent| {
        exponent.starts_with(['-', '+']) && all(exponent.get(1..).unwrap_or_default(), |b| b.is_ascii_digit())
    });
    let begins_with_digit = |text: &str| text.bytes().next().is_some_and(|b| b.is_ascii_digit());
    if before.is_empty() {
        // Without a sign.
        return body == text && begins_with_digit(mantissa) && all(mantissa, digit) && exponent_fits;
    }
    if !begins_with_digit(before) || !mantissa.bytes().all(digit) {
        return false;
    }
    match before.split_once(':') {
        Some((first, rest)) => all(first, digit) && sixtieths(rest) && exponent.is_none(),
        None => all(before, digit) && exponent_fits,
    }
}

fn float(text: &str) -> Option<f64> {
    let plain = text.replace('_', "").to_ascii_lowercase();
    let body = unsigned(&plain);
    let value = match body {
        ".inf" => f64::INFINITY,
        ".nan" => return Some(f64::NAN),
        _ => {
            let mut value = 0.0;
            for part in body.split(':') {
                let readable = all(part, |b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'-' | b'+'));
                value = value * 60.0 + part.parse::<f64>().ok().filter(|_| readable)?;
            }
            value
        }
    };
    Some(if plain.starts_with('-') { -value } else { value })
}
