//! The boot record: which slot is good, which is on trial, how often it was tried.
//!
//! GRUB and `init` both write it in place, 512 bytes at a fixed sector, so one write is one sector and no power cut
//! leaves half of it. GRUB cannot write raw sectors but can rewrite a file of a tar archive, so the whole partition
//! is shaped as one:
//!
//! | sector | content |
//! |---|---|
//! | 0 | tar header of `rec0` |
//! | 1 | `rec0`: the record, a GRUB environment block; written by GRUB and by `init` |
//! | 2 | tar header of `rec1` |
//! | 3 | `rec1`: its copy, written by `init` only, after `rec0` is synced; read when `rec0` is unreadable |
//! | 4 | tar header of `step-a` |
//! | 5 | `step-a`: slot A's step record, see [`crate::steps`] |
//! | 6 | tar header of `step-b` |
//! | 7 | `step-b` |
//! | 8, 9 | zero: end of the archive |
//!
//! Fields of the record, always all checked: `v=1`, `good=a|b`, `trial=a|b|-`, `tries=0..3`, `starts=` one `x` per
//! start of the good slot since it was last healthy, `said=` a word that GRUB left about what it refused. May be there: `ask=`, what the next start is to do first.

use crate::layout::Slot;
use std::fmt::Write as _;

/// Bytes of a sector, of the record, of a step record. Fixed by GRUB's view of the disk, whatever the disk says.
pub const SECTOR: usize = 512;
/// Where `rec0` lies in the partition, in bytes.
pub const REC0_AT: u64 = 512;
/// Where `rec1` lies.
pub const REC1_AT: u64 = 3 * 512;
/// How often a slot on trial is started before it is given up.
pub const TRIES: u32 = 3;
/// Starts counted at most; GRUB stops adding there, as a longer field would not fit for ever.
pub const STARTS_MAX: u32 = 64;
/// Bytes of `said`.
const SAID_BYTES: usize = 32;
/// The first line, by which GRUB knows an environment block.
const SIGNATURE: &str = "# GRUB Environment Block\n";

/// The record, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The committed slot.
    pub good: Slot,
    /// The slot on trial and how many tries it has left; never the good one.
    pub trial: Option<Trial>,
    /// Starts of the good slot since it was last healthy.
    pub starts: u32,
    /// What GRUB refused and why (`b-hash`), empty when nothing.
    pub said: String,
    /// What the next start is to do before anything else (`reset-volumes`), empty when nothing. Written by
    /// `init` for an operator; a system that does not know it takes such a record for damaged.
    pub ask: String,
}

/// A slot that is not committed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Which.
    pub slot: Slot,
    /// Starts that GRUB still allows it.
    pub tries: u32,
}

/// Why a record is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not 512 bytes of an environment block.
    #[error("boot record: not a GRUB environment block of 512 bytes")]
    Shape,
    /// A line that is no `name=value`, or a name that is unknown or there twice.
    #[error("boot record: unexpected line {0:?}")]
    Line(String),
    /// A value that no sound record has.
    #[error("boot record: {name}={value:?} is not valid")]
    Value {
        /// Field.
        name: &'static str,
        /// As found.
        value: String,
    },
    /// A field is missing.
    #[error("boot record: {0} is missing")]
    Missing(&'static str),
}

impl Record {
    /// The record of a fresh image: this slot is good.
    pub fn fresh(good: Slot) -> Record {
        Record { good, trial: None, starts: 0, said: String::new(), ask: String::new() }
    }

    /// Reads one sector.
    pub fn parse(sector: &[u8]) -> Result<Record, RecordError> {
        if sector.len() != SECTOR {
            return Err(RecordError::Shape);
        }
        let text = std::str::from_utf8(sector).map_err(|_| RecordError::Shape)?;
        let body = text.strip_prefix(SIGNATURE).ok_or(RecordError::Shape)?.trim_end_matches('#');
        let mut fields = Fields::default();
        for line in body.split_terminator('\n') {
            let bad = || RecordError::Line(line.chars().take(40).collect());
            let (name, value) = line.split_once('=').ok_or_else(bad)?;
            let place = fields.get(name).ok_or_else(bad)?;
            if place.replace(value).is_some() {
                return Err(bad());
            }
        }
        // Without the line feed the last value may have been cut.
        if !body.is_empty() && !body.ends_with('\n') {
            return Err(RecordError::Shape);
        }
        fields.check()
    }

    /// One sector, canonical: parsing it gives this record again.
    pub fn to_sector(&self) -> [u8; SECTOR] {
        let trial = self.trial.map_or("-", |trial| trial.slot.name());
        let tries = self.trial.map_or(0, |trial| trial.tries.min(TRIES));
        let starts = "x".repeat(self.starts.min(STARTS_MAX) as usize);
        let said: String = self.said.chars().filter(|c| is_said(*c)).take(SAID_BYTES).collect();
        let ask: String = self.ask.chars().filter(|c| is_said(*c)).take(SAID_BYTES).collect();
        // Left out when empty: an older system reads what it knows.
        let ask = if ask.is_empty() { String::new() } else { format!("ask={ask}\n") };
        let text = format!(
            "{SIGNATURE}v=1\ngood={}\ntrial={trial}\ntries={tries}\nstarts={starts}\nsaid={said}\n{ask}",
            self.good
        );
        padded(text.as_bytes())
    }

    /// The record of a partition: `rec0` if that is sound, else `rec1`; and what was wrong with `rec0`.
    pub fn choose(rec0: &[u8], rec1: &[u8]) -> (Option<Record>, Option<RecordError>) {
        match Record::parse(rec0) {
            Ok(record) => (Some(record), None),
            Err(error) => (Record::parse(rec1).ok(), Some(error)),
        }
    }

    /// The first ten sectors of a fresh record partition.
    pub fn partition_image(&self) -> Vec<u8> {
        let empty = padded(b"");
        let record = self.to_sector();
        let mut image = Vec::with_capacity(10 * SECTOR);
        for (name, content) in [("rec0", &record), ("rec1", &record), ("step-a", &empty), ("step-b", &empty)]
        {
            image.extend_from_slice(&tar_header(name));
            image.extend_from_slice(content);
        }
        image.resize(10 * SECTOR, 0);
        image
    }
}

/// The raw values, each at most once.
#[derive(Default)]
struct Fields<'a> {
    v: Option<&'a str>,
    good: Option<&'a str>,
    trial: Option<&'a str>,
    tries: Option<&'a str>,
    starts: Option<&'a str>,
    said: Option<&'a str>,
    ask: Option<&'a str>,
}

impl<'a> Fields<'a> {
    fn get(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        match name {
            "v" => Some(&mut self.v),
            "good" => Some(&mut self.good),
            "trial" => Some(&mut self.trial),
            "tries" => Some(&mut self.tries),
            "starts" => Some(&mut self.starts),
            "said" => Some(&mut self.said),
            "ask" => Some(&mut self.ask),
            _ => None,
        }
    }

    fn check(self) -> Result<Record, RecordError> {
        fn bad(name: &'static str, value: &str) -> RecordError {
            RecordError::Value { name, value: value.chars().take(40).collect() }
        }
        let need = |name, value: Option<&'a str>| value.ok_or(RecordError::Missing(name));

        let v = need("v", self.v)?;
        if v != "1" {
            return Err(bad("v", v));
        }
        let good = need("good", self.good)?;
        let good = Slot::parse(good).ok_or_else(|| bad("good", good))?;
        let tries = need("tries", self.tries)?;
        let tries = match tries.as_bytes() {
            [digit @ b'0'..=b'3'] => u32::from(digit - b'0'),
            _ => return Err(bad("tries", tries)),
        };
        let trial = match need("trial", self.trial)? {
            "-" if tries == 0 => None,
            "-" => return Err(bad("tries", "without a trial")),
            name => match Slot::parse(name) {
                Some(slot) if slot != good => Some(Trial { slot, tries }),
                _ => return Err(bad("trial", name)),
            },
        };
        let starts = need("starts", self.starts)?;
        if starts.len() > STARTS_MAX as usize || !starts.bytes().all(|byte| byte == b'x') {
            return Err(bad("starts", starts));
        }
        let said = self.said.unwrap_or_default();
        if said.len() > SAID_BYTES || !said.chars().all(is_said) {
            return Err(bad("said", said));
        }
        let starts = u32::try_from(starts.len()).unwrap_or(STARTS_MAX);
        let ask = self.ask.unwrap_or_default();
        if ask.len() > SAID_BYTES || !ask.chars().all(is_said) {
            return Err(bad("ask", ask));
        }
        Ok(Record { good, trial, starts, said: said.into(), ask: ask.into() })
    }
}

fn is_said(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

/// One sector: the text, then `#` as GRUB pads. Longer text is cut (callers stay far below).
pub(crate) fn padded(text: &[u8]) -> [u8; SECTOR] {
    let mut sector = [b'#'; SECTOR];
    let length = text.len().min(SECTOR);
    sector[..length].copy_from_slice(&text[..length]);
    sector
}

/// A ustar header of a regular file of one sector.
fn tar_header(name: &str) -> [u8; SECTOR] {
    let mut header = [0; SECTOR];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, "00000001000\0"); // 512, octal
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    let mut text = String::new();
    let _ = write!(text, "{sum:06o}\0 ");
    header[148..156].copy_from_slice(text.as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sector(body: &str) -> [u8; SECTOR] {
        padded(format!("{SIGNATURE}{body}").as_bytes())
    }

    const SOUND: &str = "v=1\ngood=a\ntrial=b\ntries=2\nstarts=xx\nsaid=b-hash\n";

    #[test]
    fn a_sound_record_in_any_order() {
        let expected = Record {
            good: Slot::A,
            trial: Some(Trial { slot: Slot::B, tries: 2 }),
            starts: 2,
            said: "b-hash".into(),
            ask: String::new(),
        };
        assert_eq!(Record::parse(&sector(SOUND)).unwrap(), expected);
        let other = "said=b-hash\nstarts=xx\ntries=2\ntrial=b\ngood=a\nv=1\n";
        assert_eq!(Record::parse(&sector(other)).unwrap(), expected);
        assert_eq!(expected.to_sector(), sector(SOUND));
        let asks = Record { ask: "reset-volumes".into(), ..expected };
        assert_eq!(asks.to_sector(), sector(&format!("{SOUND}ask=reset-volumes\n")));
        assert!(Record::parse(&sector(&format!("{SOUND}ask=Reset\n"))).is_err());
    }

    #[test]
    fn every_value_is_checked() {
        for (from, to) in [
            ("v=1", "v=2"),
            ("good=a", "good=c"),
            ("good=a", "good="),
            ("good=a", "good=b"),
            ("good=a\n", ""),
            ("good=a", "good=a\ngood=a"),
            ("trial=b", "trial=a"),
            ("trial=b", "trial=-"),
            ("tries=2", "tries=4"),
            ("tries=2", "tries=-1"),
            ("tries=2", "tries=02"),
            ("starts=xx", "starts=xy"),
            ("said=b-hash", "said=B HASH"),
            ("said=b-hash", "what=1"),
            ("said=b-hash\n", "said=b-hash"),
        ] {
            let body = SOUND.replace(from, to);
            assert_ne!(body, SOUND);
            assert!(Record::parse(&sector(&body)).is_err(), "{to}");
        }
        let long = SOUND.replace("xx", &"x".repeat(65));
        assert!(Record::parse(&sector(&long)).is_err());
    }

    #[test]
    fn zeros_noise_and_torn_records_are_refused() {
        assert!(Record::parse(&[0; SECTOR]).is_err());
        assert!(Record::parse(&[b'#'; SECTOR]).is_err());
        assert!(Record::parse(&sector("")).is_err());
        assert!(Record::parse(&sector(SOUND)[..511]).is_err());
        let mut torn = sector(SOUND);
        torn[40..].fill(0);
        assert!(Record::parse(&torn).is_err());
    }

    #[test]
    fn the_copy_is_read_when_the_first_is_damaged() {
        let (first, second) = (Record::fresh(Slot::A), Record::fresh(Slot::B));
        let both = Record::choose(&first.to_sector(), &second.to_sector());
        assert_eq!(both, (Some(first), None));
        let (record, error) = Record::choose(&[0; SECTOR], &second.to_sector());
        assert_eq!((record, error.is_some()), (Some(second), true));
    }

    #[test]
    fn the_partition_is_a_tar_that_others_read() {
        let image = Record::fresh(Slot::A).partition_image();
        assert_eq!(image.len(), 10 * SECTOR);
        for (at, name) in [(0, "rec0"), (2, "rec1"), (4, "step-a"), (6, "step-b")] {
            let header = &image[at * SECTOR..(at + 1) * SECTOR];
            assert_eq!(&header[..name.len()], name.as_bytes());
            let mut blank = header.to_vec();
            blank[148..156].fill(b' ');
            let sum: u32 = blank.iter().map(|&byte| u32::from(byte)).sum();
            assert_eq!(&header[148..154], format!("{sum:06o}").as_bytes());
        }
        let rec0 = usize::try_from(REC0_AT).unwrap();
        assert!(Record::parse(&image[rec0..rec0 + SECTOR]).is_ok());
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let word = || proptest::string::string_regex("[a-z0-9-]{0,32}").unwrap();
        let words = (word(), word());
        (any::<bool>(), proptest::option::of(0..=TRIES), 0..=STARTS_MAX, words).prop_map(
            |(b, tries, starts, (said, ask))| {
                let good = if b { Slot::B } else { Slot::A };
                let trial = tries.map(|tries| Trial { slot: good.other(), tries });
                Record { good, trial, starts, said, ask }
            },
        )
    }

    proptest! {
        #[test]
        fn serialised_and_read_again(record in any_record()) {
            prop_assert_eq!(Record::parse(&record.to_sector()).unwrap(), record);
        }

        #[test]
        fn what_is_accepted_is_canonical_after_one_round(noise in proptest::collection::vec(any::<u8>(), 0..40), at in 0usize..200) {
            let mut bytes = sector(SOUND);
            bytes[at..at + noise.len()].copy_from_slice(&noise);
            if let Ok(record) = Record::parse(&bytes) {
                prop_assert_eq!(Record::parse(&record.to_sector()).unwrap(), record);
            }
        }
    }
}
