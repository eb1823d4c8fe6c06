//! When to ask, whom, and what to make of the answers. Without a clock or a socket of its own: times are arguments, what is
//! to be done is returned.
//!
//! ```text
//!           due                    all answered, or 2 s
//!  Resting ─────▶ Asking (a round) ─────────────────────▶ nobody, or no majority ──▶ Resting: 1 s, 2 s, … 64 s
//!     ▲                                                   agreed, near            ──▶ told; Resting: 64 s, 128 s, … 34 min
//!     └──────────────────────────────────────────────────agreed, far, once right ──▶ doubted; Resting: 8 s
//! ```

use super::message::{self, ParseError};
use super::vote::{self, Sample, Verdict};
use crate::limits;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// One server in a round.
#[derive(Debug)]
struct Asked {
    address: SocketAddr,
    cookie: u64,
    /// What our clock said then, nanoseconds since 1970.
    clock: i128,
    /// And the time that never jumps.
    at: Duration,
    answer: Option<Result<Sample, String>>,
}

/// What comes of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The clock is off by so much.
    Told(Verdict),
    /// It says something else than before; it is asked again soon.
    Doubted(Verdict),
    /// Nothing can be said, for this reason.
    Nothing(String),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Client {
    round: Vec<Asked>,
    until: Option<Duration>,
    /// Rounds in a row that said nothing.
    failed: u32,
    /// Between rounds that agree.
    rest: Duration,
    /// It was told once.
    right: bool,
    /// What the round before said, if that was not believed.
    doubt: Option<i64>,
    /// Who wants to be left alone, until when.
    banned: BTreeMap<SocketAddr, Duration>,
}

impl Client {
    /// Begins a round: the questions to be sent. `random` gives a number a question; `clock` is ours now.
    pub fn begin(
        &mut self,
        servers: &[SocketAddr],
        now: Duration,
        clock: i128,
        mut random: impl FnMut() -> u64,
    ) -> Vec<(SocketAddr, [u8; message::BYTES])> {
        self.banned.retain(|_, until| *until > now);
        self.round.clear();
        for &address in servers.iter().filter(|address| !self.banned.contains_key(address)) {
            let known = self.round.iter().any(|asked| asked.address == address);
            if !known && self.round.len() < limits::TIME_SERVERS {
                self.round.push(Asked { address, cookie: random(), clock, at: now, answer: None });
            }
        }
        self.until = Some(now.saturating_add(limits::TIME_ANSWER));
        self.round.iter().map(|asked| (asked.address, message::question(asked.cookie))).collect()
    }

    /// A datagram from a server that was asked.
    pub fn hear(&mut self, from: SocketAddr, bytes: &[u8], now: Duration) {
        let Some(asked) = self.round.iter_mut().find(|asked| asked.address == from && asked.answer.is_none())
        else {
            return;
        };
        let answer = match message::parse(bytes) {
            Ok(answer) if answer.cookie != asked.cookie => return,
            Ok(answer) => vote::sample(&answer, asked.clock, now.saturating_sub(asked.at))
                .ok_or_else(|| "its times cannot be".to_owned()),
            Err(ParseError::Foreign) => return,
            Err(error) => {
                if matches!(error, ParseError::Refused(_)) {
                    // Without the number in it anybody could silence a server for us.
                    if bytes.get(24..32) != Some(&asked.cookie.to_be_bytes()) {
                        return;
                    }
                    self.banned.insert(from, now.saturating_add(limits::TIME_LEAVE_ALONE));
                }
                Err(error.to_string())
            }
        };
        asked.answer = Some(answer);
    }

    /// A server could not even be sent to.
    pub fn unreachable(&mut self, address: SocketAddr, why: String) {
        if let Some(asked) = self.round.iter_mut().find(|asked| asked.address == address) {
            asked.answer.get_or_insert(Err(why));
        }
    }

    /// The round's end, if it is over, and how long to rest then.
    pub fn finish(&mut self, now: Duration) -> Option<(Outcome, Duration)> {
        let until = self.until?;
        if now < until && self.round.iter().any(|asked| asked.answer.is_none()) {
            return None;
        }
        self.until = None;
        let outcome = self.judge();
        let rest = match &outcome {
            Outcome::Told(verdict) => {
                let near = verdict.offset_ns.unsigned_abs() <= limits::TIME_NEAR_NS;
                self.rest = if near && self.right { self.rest * 2 } else { limits::TIME_REST };
                self.rest = self.rest.clamp(limits::TIME_REST, limits::TIME_LONGEST_REST);
                (self.failed, self.right, self.doubt) = (0, true, None);
                self.rest
            }
            Outcome::Doubted(verdict) => {
                self.doubt = Some(verdict.offset_ns);
                limits::TIME_DOUBT
            }
            Outcome::Nothing(_) => {
                self.doubt = None;
                let wait = limits::TIME_FIRST_WAIT * 2_u32.pow(self.failed.min(10));
                self.failed = self.failed.saturating_add(1);
                wait.min(limits::TIME_LONGEST_WAIT)
            }
        };
        Some((outcome, rest))
    }

    /// When [`Client::finish`] has something to say at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        self.until
    }

    fn judge(&self) -> Outcome {
        let samples: Vec<Sample> =
            self.round.iter().filter_map(|asked| asked.answer.as_ref()?.as_ref().ok().copied()).collect();
        let Some(verdict) = vote::agree(&samples) else {
            return Outcome::Nothing(self.why(samples.len()));
        };
        let far = |offset: i64| offset.unsigned_abs() > limits::TIME_FAR_NS;
        let same = |before: i64| !far(verdict.offset_ns.saturating_sub(before));
        if self.right && far(verdict.offset_ns) && !self.doubt.is_some_and(same) {
            return Outcome::Doubted(verdict);
        }
        Outcome::Told(verdict)
    }

    fn why(&self, samples: usize) -> String {
        if self.round.is_empty() {
            let banned = if self.banned.is_empty() { "" } else { " that wants to be asked" };
            return format!("no time server is known{banned}");
        }
        if samples > 0 {
            return format!("{samples} time servers answer, and most of them do not agree");
        }
        let one = |asked: &Asked| match &asked.answer {
            Some(Err(why)) => Some(format!("{}: {why}", asked.address.ip())),
            _ => None,
        };
        match self.round.iter().find_map(one) {
            Some(why) => format!("no time server of {} can be used ({why})", self.round.len()),
            None => format!("no time server of {} answers", self.round.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Stamp;
    use super::*;

    const SECOND: i128 = 1_000_000_000;
    const START: i128 = 1_700_000_000 * SECOND;

    /// What a server thinks: so far from the truth, or it says nothing.
    type Mind = Option<i128>;

    /// A machine whose clock is `off`, its servers, and a network of 10 ms.
    struct World {
        client: Client,
        now: Duration,
        off: i128,
        servers: Vec<Mind>,
    }

    impl World {
        fn new(off: i128, servers: &[Mind]) -> Self {
            Self { client: Client::default(), now: Duration::ZERO, off, servers: servers.to_vec() }
        }

        fn truth(&self) -> i128 {
            START + i128::try_from(self.now.as_nanos()).unwrap()
        }

        fn address(n: usize) -> SocketAddr {
            ([192, 0, 2, u8::try_from(n).unwrap()], message::PORT).into()
        }

        /// A round; what was told is done. Returns what came of it, and rests.
        fn round(&mut self) -> (Outcome, Duration) {
            let addresses: Vec<_> = (0..self.servers.len()).map(Self::address).collect();
            let clock = self.truth() + self.off;
            let mut number = 0;
            let questions = self.client.begin(&addresses, self.now, clock, || {
                number += 1;
                number
            });
            self.now += Duration::from_millis(10);
            for (n, mind) in self.servers.clone().into_iter().enumerate() {
                let question = questions.iter().find(|(to, _)| *to == Self::address(n));
                if let (Some(mind), Some((from, question))) = (mind, question) {
                    // Half the way later.
                    let bytes = reply(question, self.truth() - 5_000_000 + mind);
                    self.client.hear(*from, &bytes, self.now);
                }
            }
            let (outcome, rest) = self.client.finish(self.now).unwrap_or_else(|| {
                self.now = self.client.deadline().unwrap();
                self.client.finish(self.now).unwrap()
            });
            if let Outcome::Told(verdict) = &outcome {
                self.off += i128::from(verdict.offset_ns);
            }
            self.now += rest;
            (outcome, rest)
        }
    }

    fn reply(question: &[u8], at: i128) -> [u8; message::BYTES] {
        let mut bytes = [0; message::BYTES];
        (bytes[0], bytes[1]) = (0x24, 2);
        bytes[24..32].copy_from_slice(&question[40..48]);
        let stamp = Stamp::of_unix(at).0.to_be_bytes();
        bytes[32..40].copy_from_slice(&stamp);
        bytes[40..48].copy_from_slice(&stamp);
        bytes
    }

    #[test]
    fn a_wrong_clock_is_right_after_one_round_and_asked_about_ever_less() {
        let mut world = World::new(-86_400 * 365 * SECOND, &[Some(0), Some(2_000_000), Some(-1_000_000)]);
        let (outcome, rest) = world.round();
        assert!(matches!(outcome, Outcome::Told(verdict) if verdict.agree == 3), "{outcome:?}");
        assert!(world.off.abs() < 10_000_000, "{}", world.off);
        assert_eq!(rest, limits::TIME_REST);
        let rests: Vec<_> = (0..8).map(|_| world.round().1).collect();
        assert_eq!(rests[0], limits::TIME_REST * 2);
        assert_eq!(rests[7], limits::TIME_LONGEST_REST);
    }

    #[test]
    fn a_liar_is_outvoted_and_two_of_four_are_not_believed() {
        let lie = 86_400 * SECOND;
        let mut world = World::new(0, &[Some(0), Some(lie), Some(0)]);
        assert!(matches!(world.round().0, Outcome::Told(v) if v.agree == 2 && v.of == 3));
        let mut world = World::new(0, &[Some(0), Some(lie), Some(lie), Some(0)]);
        let (outcome, _) = world.round();
        assert_eq!(outcome, Outcome::Nothing("4 time servers answer, and most of them do not agree".into()));
        assert_eq!(world.off, 0);
    }

    #[test]
    fn who_does_not_answer_is_asked_ever_less_often() {
        let mut world = World::new(0, &[None, None]);
        let waits: Vec<_> = (0..9).map(|_| world.round().1.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        world.servers = Vec::new();
        assert_eq!(world.round().0, Outcome::Nothing("no time server is known".into()));
        world.servers = vec![Some(0)];
        assert!(matches!(world.round().0, Outcome::Told(_)));
        world.servers = vec![None];
        assert_eq!(world.round().1.as_secs(), 1);
    }

    #[test]
    fn a_clock_that_was_right_is_not_moved_far_by_one_round() {
        let mut world = World::new(0, &[Some(0)]);
        world.round();
        world.servers = vec![Some(3_600 * SECOND)];
        let (outcome, rest) = world.round();
        assert!(matches!(outcome, Outcome::Doubted(_)), "{outcome:?}");
        assert_eq!((world.off.abs() < SECOND, rest), (true, limits::TIME_DOUBT));
        // It was a slip.
        world.servers = vec![Some(0)];
        assert!(matches!(world.round().0, Outcome::Told(_)));
        // It says something else each time.
        world.servers = vec![Some(3_600 * SECOND)];
        world.round();
        world.servers = vec![Some(7_200 * SECOND)];
        assert!(matches!(world.round().0, Outcome::Doubted(_)));
        // It stays at it.
        assert!(matches!(world.round().0, Outcome::Told(_)));
        assert!((world.off - 7_200 * SECOND).abs() < SECOND);
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let mut client = Client::default();
        let (one, other) = (World::address(1), World::address(2));
        let questions = client.begin(&[one, one], Duration::ZERO, START, || 7);
        assert_eq!(questions.len(), 1);
        let at = Duration::from_millis(1);
        // Another number, another address, too late to matter.
        client.hear(one, &reply(&message::question(8), START), at);
        client.hear(other, &reply(&questions[0].1, START), at);
        assert_eq!(client.finish(at), None);
        client.hear(one, &reply(&questions[0].1, START), at);
        client.hear(one, &reply(&questions[0].1, START + SECOND), at);
        let (outcome, _) = client.finish(at).unwrap();
        assert!(matches!(outcome, Outcome::Told(v) if v.offset_ns.abs() < 10_000_000), "{outcome:?}");
    }

    #[test]
    fn who_wants_to_be_left_alone_is() {
        let mut client = Client::default();
        let one = World::address(1);
        let at = Duration::from_millis(1);
        let kiss = |client: &mut Client, number: u64| {
            client.begin(&[one], at, START, || 7);
            let mut bytes = reply(&message::question(number), START);
            bytes[1] = 0;
            bytes[12..16].copy_from_slice(b"RATE");
            client.hear(one, &bytes, at);
        };
        // A stranger's.
        kiss(&mut client, 8);
        assert_eq!(client.finish(at), None);
        kiss(&mut client, 7);
        let (outcome, _) = client.finish(at).unwrap();
        let why = "no time server of 1 can be used (192.0.2.1: it does not want to be asked (RATE))";
        assert_eq!(outcome, Outcome::Nothing(why.into()));
        assert!(client.begin(&[one], at, START, || 7).is_empty());
        assert!(!client.begin(&[one], at + limits::TIME_LEAVE_ALONE, START, || 7).is_empty());
    }
}
