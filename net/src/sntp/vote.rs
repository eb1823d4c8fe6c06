//! What one answer says of our clock, and what most of them agree on (Marzullo's intersection, as in RFC 5905, 11.2.1).

use super::message::{Answer, Stamp};
use crate::limits;
use std::time::Duration;

/// How far our clock is behind, by one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Nanoseconds to add to our clock.
    pub offset_ns: i64,
    /// The truth is not further from that, if the server is honest.
    pub error_ns: i64,
}

/// What most agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Nanoseconds to add to our clock.
    pub offset_ns: i64,
    /// Give or take.
    pub error_ns: i64,
    /// Who agrees.
    pub agree: usize,
    /// Who answered.
    pub of: usize,
}

/// Our clock said `asked` (nanoseconds since 1970) when the question went out; the answer came `took` later.
/// `None`: what it says of itself cannot be.
pub fn sample(answer: &Answer, asked: i128, took: Duration) -> Option<Sample> {
    let took_ns = i64::try_from(took.as_nanos()).ok()?;
    let inside = answer.sent.since(answer.received);
    // Clocks run a little differently; nobody answers before he was asked.
    let on_the_way = took_ns.checked_sub(inside).filter(|ns| *ns >= 0 && inside >= 0)?;
    let distance = i64::try_from(answer.distance_ns).ok()?;
    if answer.distance_ns > u64::try_from(limits::TIME_DISTANCE.as_nanos()).unwrap_or(u64::MAX) {
        return None;
    }
    let there = answer.received.since(Stamp::of_unix(asked));
    let back = answer.sent.since(Stamp::of_unix(asked.checked_add(i128::from(took_ns))?));
    let offset = (i128::from(there) + i128::from(back)) / 2;
    Some(Sample {
        offset_ns: i64::try_from(offset).ok()?,
        error_ns: (on_the_way / 2).checked_add(distance)?.checked_add(limits::TIME_GRAIN_NS)?,
    })
}

/// What more than half of them have in common: the sharpest answer of those, drawn into what all of those allow.
pub fn agree(samples: &[Sample]) -> Option<Verdict> {
    let low = |s: &Sample| s.offset_ns.saturating_sub(s.error_ns);
    let high = |s: &Sample| s.offset_ns.saturating_add(s.error_ns);
    let holds = |at: i64| samples.iter().filter(move |s| low(s) <= at && at <= high(s));
    // The most crowded place begins where one of the intervals begins.
    let crowd = samples.iter().map(low).max_by_key(|at| (holds(*at).count(), std::cmp::Reverse(*at)))?;
    let agree = holds(crowd).count();
    if agree * 2 <= samples.len() {
        return None;
    }
    let best = holds(crowd).min_by_key(|s| s.error_ns)?;
    let (from, to) = (holds(crowd).map(low).max()?, holds(crowd).map(high).min()?);
    Some(Verdict {
        offset_ns: best.offset_ns.clamp(from, to),
        error_ns: best.error_ns,
        agree,
        of: samples.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;

    fn s(offset_ns: i64, error_ns: i64) -> Sample {
        Sample { offset_ns, error_ns }
    }

    fn answer(received: i128, sent: i128) -> Answer {
        let (received, sent) = (Stamp::of_unix(received), Stamp::of_unix(sent));
        Answer { stratum: 1, distance_ns: 0, cookie: 0, received, sent }
    }

    #[test]
    fn an_offset_and_how_sure_it_is() {
        let ms = 1_000_000;
        // 30 ms there, 10 ms back, 2 ms at the server; our clock is 5 s behind.
        let asked = 1_700_000_000 * i128::from(SECOND);
        let truth = asked + 5 * i128::from(SECOND);
        let got =
            sample(&answer(truth + 30 * ms, truth + 32 * ms), asked, Duration::from_millis(42)).unwrap();
        assert!((got.offset_ns - 5 * SECOND).abs() <= got.error_ns, "{got:?}");
        assert!((got.error_ns - 20_000_000 - limits::TIME_GRAIN_NS).abs() < 10, "{got:?}");
        // It cannot have taken longer at the server than in all, nor less than nothing.
        assert_eq!(sample(&answer(truth, truth + 50 * ms), asked, Duration::from_millis(42)), None);
        assert_eq!(sample(&answer(truth + ms, truth), asked, Duration::from_millis(42)), None);
        let far = Answer { distance_ns: 3_600_000_000_000, ..answer(truth, truth) };
        assert_eq!(sample(&far, asked, Duration::from_millis(42)), None);
    }

    #[test]
    fn the_majority_counts() {
        assert_eq!(agree(&[]), None);
        assert_eq!(agree(&[s(7, 2)]).map(|v| (v.offset_ns, v.agree, v.of)), Some((7, 1, 1)));
        // Two that differ: nobody knows who is right.
        assert_eq!(agree(&[s(0, 10), s(SECOND, 10)]), None);
        let liar = s(86_400 * SECOND, 1);
        let verdict = agree(&[s(100, 50), liar, s(120, 40), s(90, 60)]).unwrap();
        assert_eq!((verdict.offset_ns, verdict.agree, verdict.of), (120, 3, 4));
        assert_eq!(agree(&[s(100, 50), liar, s(120, 40), liar]), None);
        // The sharpest is drawn to where all agree.
        assert_eq!(agree(&[s(0, 10), s(15, 8), s(14, 9)]).unwrap().offset_ns, 10);
    }

    proptest! {
        #[test]
        fn honest_servers_win_over_fewer_liars(
            truth in -1_000_000_000_000_i64..1_000_000_000_000,
            honest in proptest::collection::vec((-50_000_000_i64..50_000_000, 0_i64..50_000_000), 3..8),
            liars in proptest::collection::vec((any::<i64>(), 0_i64..1_000_000_000), 0..3),
        ) {
            // Honest: the truth is within the error.
            let mut all: Vec<Sample> = honest.iter().map(|(off, more)| s(truth + off, off.abs() + more)).collect();
            all.extend(liars.iter().take(honest.len() - 1).map(|(off, error)| s(*off, *error)));
            let verdict = agree(&all).unwrap();
            // Liars that agree with somebody honest can pull no further than that one's own doubt.
            prop_assert!((verdict.offset_ns - truth).abs() <= 200_000_000, "{verdict:?}");
            prop_assert!(verdict.agree * 2 > verdict.of);
        }

        #[test]
        fn no_answer_makes_it_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..80), asked in any::<i64>(), took in any::<u64>()) {
            if let Ok(answer) = super::super::message::parse(&bytes) {
                let _ = sample(&answer, i128::from(asked), Duration::from_nanos(took)).map(|one| agree(&[one, one]));
            }
        }
    }
}
