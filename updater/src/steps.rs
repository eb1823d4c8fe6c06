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
}

impl StepRecord {
    /// One sector. Text that is too long is cut; line feeds become spaces.
    pub fn to_sector(&self) -> [u8; SECTOR] {
        let mut text = format!(
            "{SIGNATURE}slot={}\nboot={}\nstage={}\nstep={}\nstatus={}\nreason={}\n",
            self.slot,
            self.boot,
            clean(&self.stage, 8),
            clean(&self.step, STEP_BYTES),
            self.status.name(),
            clean(&self.reason, REASON_BYTES),
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
        Some(StepRecord { slot, boot, stage, step, status, reason })
    }
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
        }
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
