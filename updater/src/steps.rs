//! The step record: one sector per slot that says what its last start was doing, written before each step. What
//! died or hung can then be named by whoever runs next.
//!
//! Only `init` writes it. Text, so that a person with a hex viewer can read it, with a sum, so that rubbish is not
//! mistaken for a reason.

use crate::layout::Slot;
use crate::record::{SECTOR, padded};
use sha2::{Digest, Sha256};
use std::fmt;

/// Bytes of a step's name.
const STEP_BYTES: usize = 40;
/// What the pause between starts of two bad slots grows to, seconds: an operator who mends something sees its effect
/// within a minute.
pub const LONGEST_PAUSE: u64 = 60;
/// Bytes of a reason: what the sector leaves.
const REASON_BYTES: usize = 320;
const SIGNATURE: &str = "# Berth step record\n";

/// Where a slot's step record lies in the record partition, in bytes.
pub const fn step_at(slot: Slot) -> u64 {
    match slot {
        Slot::A => 5 * 512,
        Slot::B => 7 * 512,
    }
}

/// How far the step got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It was started, and nothing has been heard since: a hang, a reset or a power cut, if this is read later.
    Running,
    /// Done; the machine was in order after it.
    Ok,
    /// It failed, for the reason given.
    Failed,
    /// PID 1 itself panicked in it.
    Crashed,
}

impl Status {
    const ALL: [Status; 4] = [Status::Running, Status::Ok, Status::Failed, Status::Crashed];

    /// The word in the record.
    pub const fn name(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::Crashed => "crashed",
        }
    }
}

/// One slot's last start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRecord {
    /// Which slot.
    pub slot: Slot,
    /// Counts the slot's starts, so that an old record is told from a new one.
    pub boot: u64,
    /// `initrd` or `main`.
    pub stage: String,
    /// Name in the step table.
    pub step: String,
    /// How far it got.
    pub status: Status,
    /// One sentence, empty when all is well.
    pub reason: String,
    /// Starts of this slot, one after the other, that did not end well before this one.
    pub bad_before: u32,
}

impl StepRecord {
    /// PID 1 died in it, or nothing has been heard since.
    pub fn died(&self) -> bool {
        matches!(self.status, Status::Running | Status::Crashed)
    }

    /// Bad starts of this slot in a row, the one that this is about among them.
    pub fn bad_in_a_row(&self) -> u32 {
        if self.status == Status::Ok { 0 } else { self.bad_before.saturating_add(1) }
    }

    /// One sector. Text that is too long is cut; line feeds become spaces.
    pub fn to_sector(&self) -> [u8; SECTOR] {
        let mut text = format!(
            "{SIGNATURE}slot={}\nboot={}\nstage={}\nstep={}\nstatus={}\nreason={}\nbad={}\n",
            self.slot,
            self.boot,
            clean(&self.stage, 8),
            clean(&self.step, STEP_BYTES),
            self.status.name(),
            clean(&self.reason, REASON_BYTES),
            self.bad_before,
        );
        let sum = sum(text.as_bytes());
        text.push_str("sum=");
        text.push_str(&sum);
        text.push('\n');
        padded(text.as_bytes())
    }

    /// Reads one sector; `None` when there is none (a slot that never started) or it is damaged.
    pub fn parse(sector: &[u8]) -> Option<StepRecord> {
        if sector.len() != SECTOR {
            return None;
        }
        let text = std::str::from_utf8(sector).ok()?;
        // Reasons hold no line feed, so this is the sum's own line.
        let (body, rest) = text.split_once("\nsum=")?;
        let (found, _) = rest.split_once('\n')?;
        if sum(format!("{body}\n").as_bytes()) != found {
            return None;
        }
        let mut lines = body.strip_prefix(SIGNATURE)?.split('\n');
        let mut next = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        let slot = Slot::parse(&next("slot")?)?;
        let boot = next("boot")?.parse().ok()?;
        let (stage, step, status) = (next("stage")?, next("step")?, next("status")?);
        let status = Status::ALL.into_iter().find(|known| known.name() == status)?;
        let reason = next("reason")?;
        // Older systems do not write it.
        let bad_before = next("bad").and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(StepRecord { slot, boot, stage, step, status, reason, bad_before })
    }
}

/// Neither slot came through its last start: what to say about it, and how many seconds to wait before this one.
/// The first start after both have failed waits a second, each further one twice as long, to a bound.
pub fn both_bad(own: Option<&StepRecord>, other: Option<&StepRecord>) -> Option<(String, u64)> {
    let (own, other) = (own?, other?);
    if own.bad_in_a_row() == 0 || other.bad_in_a_row() == 0 {
        return None;
    }
    let bad = own.bad_in_a_row().saturating_add(other.bad_in_a_row());
    let seconds = 1_u64.checked_shl(bad.saturating_sub(2)).map_or(LONGEST_PAUSE, |s| s.min(LONGEST_PAUSE));
    let sentence = format!(
        "neither slot came through its last start: slot {} {own}; slot {} {other}. {bad} bad starts in a row; \
         trying again in {seconds} s",
        own.slot, other.slot
    );
    Some((sentence, seconds))
}

/// The sentence for `berth slots`: `stopped in step "root mounted": block 5120 differs`.
impl fmt::Display for StepRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Status::Ok => write!(f, "last start was in order")?,
            Status::Running => write!(f, "stopped without a word in step \"{}\"", self.step)?,
            Status::Failed => write!(f, "failed in step \"{}\"", self.step)?,
            Status::Crashed => write!(f, "init crashed in step \"{}\"", self.step)?,
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// At most `bytes` bytes, on one line, without control characters.
fn clean(text: &str, bytes: usize) -> String {
    let mut out = String::with_capacity(bytes.min(text.len()));
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if out.len() + c.len_utf8() > bytes {
            break;
        }
        out.push(c);
    }
    out
}

fn sum(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(16);
    for byte in &Sha256::digest(bytes)[..8] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> StepRecord {
        StepRecord {
            slot: Slot::B,
            boot: 17,
            stage: "initrd".into(),
            step: "mount root".into(),
            status: Status::Failed,
            reason: "block 5120 differs".into(),
            bad_before: 3,
        }
    }

    #[test]
    fn two_bad_slots_are_tried_ever_more_slowly() {
        let of = |slot, status, bad_before| StepRecord { slot, status, bad_before, ..sample() };
        let pause = |own: u32, other: u32| {
            let (own, other) = (of(Slot::A, Status::Running, own), of(Slot::B, Status::Failed, other));
            both_bad(Some(&own), Some(&other)).map(|(_, seconds)| seconds)
        };
        assert_eq!([(0, 0), (1, 0), (1, 1), (3, 2)].map(|(a, b)| pause(a, b)), [1, 2, 4, 32].map(Some));
        assert_eq!((pause(3, 3), pause(40, 40), pause(u32::MAX, 9)), (Some(60), Some(60), Some(60)));
        let (good, bad) = (of(Slot::A, Status::Ok, 9), of(Slot::B, Status::Failed, 9));
        assert_eq!(both_bad(Some(&good), Some(&bad)), None);
        assert_eq!(both_bad(Some(&bad), Some(&good)), None);
        assert_eq!(both_bad(None, Some(&bad)), None);
    }

    #[test]
    fn a_record_of_an_older_system_is_read() {
        let text = format!("{SIGNATURE}slot=b\nboot=17\nstage=initrd\nstep=root\nstatus=failed\nreason=\n");
        let text = format!("{text}sum={}\n", sum(text.as_bytes()));
        let old = StepRecord::parse(&padded(text.as_bytes())).unwrap();
        assert_eq!((old.boot, old.bad_before, old.bad_in_a_row()), (17, 0, 1));
    }

    #[test]
    fn written_and_read_again() {
        assert_eq!(StepRecord::parse(&sample().to_sector()), Some(sample()));
        assert_eq!(sample().to_string(), "failed in step \"mount root\": block 5120 differs");
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let sector = sample().to_sector();
        let end = sector.iter().rposition(|&byte| byte == b'\n').unwrap();
        for at in 0..end {
            let mut bad = sector;
            bad[at] ^= 1;
            assert_eq!(StepRecord::parse(&bad), None, "byte {at}");
        }
        assert_eq!(StepRecord::parse(&[0; SECTOR]), None);
    }

    proptest! {
        #[test]
        fn any_text_fits_and_is_read_again(step in ".*", reason in ".*", boot: u64) {
            let record = StepRecord { step, reason, boot, ..sample() };
            let again = StepRecord::parse(&record.to_sector()).unwrap();
            prop_assert_eq!(again.boot, boot);
            prop_assert_eq!(StepRecord::parse(&again.to_sector()).unwrap(), again);
        }
    }
}
