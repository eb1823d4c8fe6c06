//! pax extended headers: `LENGTH KEY=VALUE\n` records (POSIX.1-2008, pax, "pax Header Block").

use super::{Piece, TarError, header::Fields, too_many_pieces};
use crate::limits;

/// What pax records say about a sparse file, in GNU tar's three dialects.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// 1.0: the map is at the start of the data.
    pub map_in_data: bool,
    pub real_size: Option<u64>,
    /// 0.0 and 0.1: offset and length by turns.
    numbers: Vec<u64>,
}

impl Sparse {
    pub fn pieces(&self) -> Result<Vec<Piece>, TarError> {
        too_many_pieces(self.numbers.len() / 2, "")?;
        let (pairs, _) = self.numbers.as_chunks::<2>();
        Ok(pairs.iter().map(|[offset, len]| Piece { offset: *offset, len: *len }).collect())
    }
}

/// Reads all records of one header into `fields`.
pub(super) fn parse(mut bytes: &[u8], fields: &mut Fields) -> Result<(), String> {
    fields.seen = true;
    while !bytes.is_empty() {
        // Some tools pad with zeros.
        if bytes.iter().all(|b| *b == 0) {
            break;
        }
        let bad = || "a pax header is damaged".to_owned();
        let space = bytes.iter().take(20).position(|b| *b == b' ').ok_or_else(bad)?;
        let len = decimal(&bytes[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)?;
        let record = bytes.get(space + 1..len).ok_or_else(bad)?;
        let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        set(key, value, fields)?;
        bytes = &bytes[len..];
    }
    Ok(())
}

fn set(key: &[u8], value: &[u8], fields: &mut Fields) -> Result<(), String> {
    let number = || decimal(value).ok_or_else(|| format!("pax {} is not a number", crate::show::name(key)));
    match key {
        b"path" => fields.path = Some(value.to_vec()),
        b"linkpath" => fields.link = Some(value.to_vec()),
        b"size" => fields.size = Some(number()?),
        b"uid" => fields.uid = Some(number()?),
        b"gid" => fields.gid = Some(number()?),
        b"mtime" => fields.mtime = time(value),
        b"GNU.sparse.major" => sparse(fields).map_in_data = value == b"1",
        b"GNU.sparse.name" => fields.path = Some(value.to_vec()),
        b"GNU.sparse.realsize" | b"GNU.sparse.size" => sparse(fields).real_size = Some(number()?),
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
            let number = number()?;
            push(&mut sparse(fields).numbers, number)?;
        }
        b"GNU.sparse.map" => {
            for part in value.split(|b| *b == b',') {
                let number = decimal(part).ok_or("pax GNU.sparse.map is not made of numbers")?;
                push(&mut sparse(fields).numbers, number)?;
            }
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                if fields.xattrs.len() >= limits::XATTRS {
                    return Err(format!("a file has more than {} extended attributes", limits::XATTRS));
                }
                fields.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

fn sparse(fields: &mut Fields) -> &mut Sparse {
    fields.sparse.get_or_insert_default()
}

fn push(numbers: &mut Vec<u64>, number: u64) -> Result<(), String> {
    if numbers.len() >= 2 * limits::SPARSE_PIECES {
        return Err(format!("a sparse file has more than {} pieces", limits::SPARSE_PIECES));
    }
    numbers.push(number);
    Ok(())
}

/// Digits only: `str::parse` would take a plus sign. At most 2^63, so that sums of two do not overflow.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number <= i64::MAX.cast_unsigned()).then_some(number)
}

/// `seconds[.fraction]`, maybe negative.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().take(9).collect();
    let nanos: u32 = format!("{digits:0<9}").parse().ok()?;
    // Before 1970, -1.25 is 0.75 s after second -2.
    if text.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000_u32.checked_sub(nanos)?));
    }
    Some((seconds, nanos))
}

/// Collects the map of a pax 1.0 sparse file: the number of pieces, then offset and length of each, one a line,
/// filled up to whole blocks.
#[derive(Debug, Default)]
pub(super) struct SparseMap {
    line: Vec<u8>,
    count: Option<u64>,
    numbers: Vec<u64>,
}

impl SparseMap {
    pub fn len(&self) -> usize {
        self.numbers.len() / 2
    }

    /// Takes one block; the pieces once the map is complete.
    pub fn add(&mut self, block: &[u8]) -> Result<Option<Vec<Piece>>, String> {
        let bad = || "a sparse file's map is not made of numbers".to_owned();
        for byte in block {
            if *byte != b'\n' {
                if self.line.len() >= 20 {
                    return Err(bad());
                }
                self.line.push(*byte);
                continue;
            }
            let number = decimal(&self.line).ok_or_else(bad)?;
            self.line.clear();
            let Some(count) = self.count else {
                if number > limits::SPARSE_PIECES as u64 {
                    return Err(format!("a sparse file has more than {} pieces", limits::SPARSE_PIECES));
                }
                self.count = Some(number);
                if number == 0 {
                    return Ok(Some(Vec::new()));
                }
                continue;
            };
            self.numbers.push(number);
            if self.numbers.len() as u64 == 2 * count {
                let (pairs, _) = self.numbers.as_chunks::<2>();
                return Ok(Some(
                    pairs.iter().map(|[offset, len]| Piece { offset: *offset, len: *len }).collect(),
                ));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_hold_anything() {
        let mut fields = Fields::default();
        parse(
            b"31 SCHILY.xattr.user.x=a\nb=c\0\n\n17 path=dir/\xff\xfe/x\n20 mtime=-1.2500000\n",
            &mut fields,
        )
        .unwrap();
        assert_eq!(fields.xattrs, [(b"user.x".to_vec(), b"a\nb=c\0\n".to_vec())]);
        assert_eq!(fields.path.as_deref(), Some(&b"dir/\xff\xfe/x"[..]));
        assert_eq!(fields.mtime, Some((-2, 750_000_000)));
    }

    #[test]
    fn damaged_records_are_refused() {
        for bad in
            [&b"5 path=x\n"[..], b"9 path=xy", b"x path=x\n", b"99 path=x\n", b"8 pathx\n\n", b"0 a=b\n"]
        {
            assert!(parse(bad, &mut Fields::default()).is_err(), "{}", crate::show::name(bad));
        }
    }

    #[test]
    fn numbers_are_digits() {
        assert_eq!(decimal(b"12"), Some(12));
        for bad in [&b"+12"[..], b"", b"-1", b"9223372036854775808", b"1 "] {
            assert_eq!(decimal(bad), None);
        }
    }
}
