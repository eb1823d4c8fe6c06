//! The little of DNS messages (RFC 1035, 4; EDNS: RFC 6891) that a responder which forwards needs: one question read,
//! an answer of addresses or one name written, somebody else's answer recognised.
//!
//! Records of others are never read, so no compression pointer is ever followed: a question's name has none, and a
//! pointer in it makes the message malformed. All that is relayed of a question is what was read here, written anew.

use std::net::IpAddr;

const HEADER: usize = 12;
/// Bytes of a name at most, with its lengths and the root (RFC 1035, 3.1).
const NAME: usize = 255;
/// `QR`.
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
/// `AA`.
const AUTHORITATIVE: u16 = 0x0400;
/// `TC`.
const TRUNCATED: u16 = 0x0200;
/// `RA`.
const RECURSION: u16 = 0x0080;
/// `RD`, `AD`, `CD`: what a question may say of itself.
const WISHES: u16 = 0x0130;
/// `DO`, in EDNS.
const DNSSEC_OK: u16 = 0x8000;
const OPT: u16 = 41;
/// A pointer to the question's name.
const SAME_NAME: [u8; 2] = [0xc0, 12];

/// Record type of IPv4 addresses.
pub const A: u16 = 1;
/// Record type of names of addresses.
pub const PTR: u16 = 12;
/// Record type of IPv6 addresses.
pub const AAAA: u16 = 28;
const ANY: u16 = 255;
/// Whole zones: not by us.
const TRANSFERS: [u16; 2] = [251, 252];
const INTERNET: u16 = 1;

/// The largest answer by UDP whatever the asker says: fits any path (RFC 9715).
pub const LARGEST: u16 = 1232;
/// The largest answer to one who says nothing.
const SMALLEST: u16 = 512;

/// Response codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// All is well, whether or not there is a record.
    NoError = 0,
    /// The question is malformed.
    FormErr = 1,
    /// No answer can be had now.
    ServFail = 2,
    /// There is no such name.
    NxDomain = 3,
    /// That kind of message is not known here.
    NotImp = 4,
    /// Not for you.
    Refused = 5,
    /// EDNS of another version.
    BadVers = 16,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The asker's number for it.
    pub id: u16,
    flags: u16,
    /// Name, type, class, as they were asked.
    wire: Vec<u8>,
    /// Record type.
    pub kind: u16,
    class: u16,
    edns: Option<Edns>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edns {
    size: u16,
    dnssec_ok: bool,
}

/// What answers a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Where it is.
    Address(IpAddr),
    /// What it is called.
    Name(String),
}

/// A message that is no good question: what to answer, if anything.
pub type Rejected = Option<Vec<u8>>;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The length of the name that `bytes` begins with.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 if at < NAME => return Some(at + 1),
            label @ 1..=63 if at + label < NAME => at += label + 1,
            _ => return None,
        }
    }
}

impl Question {
    /// Reads a question.
    pub fn parse(bytes: &[u8]) -> Result<Self, Rejected> {
        let (Some(id), Some(flags)) = (u16_at(bytes, 0), u16_at(bytes, 2)) else { return Err(None) };
        // Answering an answer would make two responders talk for ever.
        if bytes.len() < HEADER || flags & RESPONSE != 0 {
            return Err(None);
        }
        let reject = |code: Code| {
            let flags = RESPONSE | (flags & (OPCODE | WISHES)) | code as u16;
            Some([&id.to_be_bytes()[..], &flags.to_be_bytes(), &[0; 8]].concat())
        };
        if flags & OPCODE != 0 {
            return Err(reject(Code::NotImp));
        }
        let question = Self::body(id, flags, bytes).ok_or_else(|| reject(Code::FormErr))?;
        match question {
            (_, version) if version != 0 => Err(Some(question.0.answer(Code::BadVers, &[], usize::MAX))),
            (question, _) if question.class != INTERNET || TRANSFERS.contains(&question.kind) => {
                Err(Some(question.answer(Code::Refused, &[], usize::MAX)))
            }
            (question, _) => Ok(question),
        }
    }

    /// What follows the header, and EDNS's version.
    fn body(id: u16, flags: u16, bytes: &[u8]) -> Option<(Self, u8)> {
        let more = match bytes.get(4..HEADER)? {
            [0, 1, 0, 0, 0, 0, 0, more @ (0 | 1)] => *more,
            _ => return None,
        };
        let name = name_length(bytes.get(HEADER..)?)?;
        let wire = bytes.get(HEADER..HEADER + name + 4)?;
        let (kind, class) = (u16_at(wire, name)?, u16_at(wire, name + 2)?);
        let mut question = Self { id, flags: flags & WISHES, wire: wire.to_vec(), kind, class, edns: None };
        let rest = bytes.get(HEADER + wire.len()..)?;
        if more == 0 {
            return rest.is_empty().then_some((question, 0));
        }
        // Root, type, size, extended code, version, flags, length of options, which are for the next hop only.
        let is_opt = rest.first() == Some(&0) && u16_at(rest, 1)? == OPT;
        let options = usize::from(u16_at(rest, 9)?);
        if !is_opt || rest.len() != 11 + options {
            return None;
        }
        let dnssec_ok = u16_at(rest, 7)? & DNSSEC_OK != 0;
        question.edns = Some(Edns { size: u16_at(rest, 3)?, dnssec_ok });
        Some((question, *rest.get(6)?))
    }

    /// A question of our own.
    #[cfg(test)]
    pub fn ask(id: u16, name: &str, kind: u16) -> Self {
        let mut wire = wire_name(name);
        wire.extend(kind.to_be_bytes());
        wire.extend(INTERNET.to_be_bytes());
        Self { id, flags: 0x0100, wire, kind, class: INTERNET, edns: None }
    }

    /// The name in lower case, without the last dot; none where a label has bytes that no host's name has, so that a
    /// dot inside a label cannot look like one between two.
    pub fn name(&self) -> Option<String> {
        let (mut text, mut at) = (String::new(), 0);
        loop {
            let length = usize::from(*self.wire.get(at)?);
            if length == 0 {
                return Some(text);
            }
            let label = self.wire.get(at + 1..=at + length)?;
            if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                return None;
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
            at += length + 1;
        }
    }

    /// Whether records of this type are asked for.
    pub fn wants(&self, kind: u16) -> bool {
        self.kind == kind || self.kind == ANY
    }

    /// Bytes that the asker takes in one answer by UDP.
    pub fn room(&self) -> usize {
        self.edns.map_or(SMALLEST, |edns| edns.size.clamp(SMALLEST, LARGEST)).into()
    }

    /// An answer of at most `room` bytes; records that do not fit are left out, and the asker is told so.
    pub fn answer(&self, code: Code, records: &[Record], room: usize) -> Vec<u8> {
        let mut flags = RESPONSE | RECURSION | self.flags | (code as u16 & 0xf);
        if matches!(code, Code::NoError | Code::NxDomain) {
            flags |= AUTHORITATIVE;
        }
        let mut bytes = [&[0; HEADER][..], &self.wire].concat();
        let opt = self.edns.map(|_| opt(LARGEST, code, false)).unwrap_or_default();
        let mut count: u16 = 0;
        for record in records {
            let (kind, data) = match record {
                Record::Address(IpAddr::V4(ip)) => (A, ip.octets().to_vec()),
                Record::Address(IpAddr::V6(ip)) => (AAAA, ip.octets().to_vec()),
                Record::Name(name) => (PTR, wire_name(name)),
            };
            let length = u16::try_from(data.len()).unwrap_or(0);
            if bytes.len() + HEADER + data.len() + opt.len() > room || count == u16::MAX {
                flags |= TRUNCATED;
                break;
            }
            bytes.extend(SAME_NAME);
            bytes.extend([kind, INTERNET].map(u16::to_be_bytes).as_flattened());
            bytes.extend(crate::limits::DNS_TTL.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend(data);
            count += 1;
        }
        bytes.extend(&opt);
        self.head(&mut bytes, self.id, flags, count, !opt.is_empty());
        bytes
    }

    /// The question as it is asked of somebody else, under another number.
    pub fn forward(&self, id: u16) -> Vec<u8> {
        let opt =
            self.edns.map(|edns| opt(edns.size.clamp(SMALLEST, LARGEST), Code::NoError, edns.dnssec_ok));
        let opt = opt.unwrap_or_default();
        let mut bytes = [&[0; HEADER][..], &self.wire, &opt].concat();
        self.head(&mut bytes, id, self.flags, 0, !opt.is_empty());
        bytes
    }

    fn head(&self, bytes: &mut [u8], id: u16, flags: u16, answers: u16, more: bool) {
        let words = [id, flags, 1, answers, 0, more.into()];
        if let Some(head) = bytes.get_mut(..HEADER) {
            head.copy_from_slice(words.map(u16::to_be_bytes).as_flattened());
        }
    }

    /// Whether `bytes` answer this question, asked as number `id`.
    pub fn is_answered_by(&self, bytes: &[u8], id: u16) -> bool {
        let flags = u16_at(bytes, 2).unwrap_or(0);
        let asked = bytes.get(HEADER..HEADER + self.wire.len());
        u16_at(bytes, 0) == Some(id)
            && flags & RESPONSE != 0
            && flags & OPCODE == 0
            && u16_at(bytes, 4) == Some(1)
            && asked.is_some_and(|asked| asked.eq_ignore_ascii_case(&self.wire))
    }

    /// Somebody's answer as the asker gets it. One that is too long for `room` becomes an empty one that says so.
    pub fn relay(&self, answer: &[u8], room: usize) -> Vec<u8> {
        if answer.len() > room {
            let mut bytes = [&[0; HEADER][..], &self.wire].concat();
            let flags = u16_at(answer, 2).unwrap_or(0);
            self.head(&mut bytes, self.id, flags | TRUNCATED, 0, false);
            return bytes;
        }
        let mut bytes = answer.to_vec();
        if let Some(id) = bytes.get_mut(..2) {
            id.copy_from_slice(&self.id.to_be_bytes());
        }
        bytes
    }
}

/// An answer's response code, as far as it is in the header.
pub fn code_of(answer: &[u8]) -> u16 {
    u16_at(answer, 2).unwrap_or(0) & 0xf
}

fn opt(size: u16, code: Code, dnssec_ok: bool) -> Vec<u8> {
    let flags = if dnssec_ok { DNSSEC_OK } else { 0 };
    let [extended, _] = ((code as u16) << 4).to_be_bytes();
    let [[k0, k1], [s0, s1], [f0, f1]] = [OPT, size, flags].map(u16::to_be_bytes);
    vec![0, k0, k1, s0, s1, extended, 0, f0, f1, 0, 0]
}

/// A name as it is sent. Labels and names that are too long do not get here: units' names are checked.
fn wire_name(name: &str) -> Vec<u8> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let bytes = label.as_bytes();
        let length = u8::try_from(bytes.len().min(63)).unwrap_or(63);
        wire.push(length);
        wire.extend(bytes.iter().take(length.into()));
    }
    wire.push(0);
    wire
}

/// What must hold of any bytes; for the fuzzer and the tests.
pub fn fuzz(bytes: &[u8]) {
    match Question::parse(bytes) {
        Err(None) => {}
        Err(Some(answer)) => assert!(answer.len() <= HEADER + NAME + 15 && code_of(&answer) != 3),
        Ok(question) => {
            let again = Question::parse(&question.forward(question.id));
            assert_eq!(again.map(|again| again.wire), Ok(question.wire.clone()));
            let records = vec![Record::Address([10, 88, 0, 2].into()); 100];
            let answer = question.answer(Code::NoError, &records, question.room());
            assert!(answer.len() <= question.room() && question.is_answered_by(&answer, question.id));
            let _ = question.name();
            assert!(!question.is_answered_by(bytes, question.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `web` A, as glibc asks.
    const GLIBC: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03wEb\x00\x00\x01\x00\x01";

    fn with_opt(size: u16, version: u8) -> Vec<u8> {
        let mut bytes = GLIBC.to_vec();
        bytes[11] = 1;
        bytes.extend([0, 0, 41]);
        bytes.extend(size.to_be_bytes());
        bytes.extend([0, version, 0x80, 0, 0, 4, 0, 10, 0, 0]);
        bytes
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let question = Question::parse(GLIBC).unwrap();
        assert_eq!((question.name().as_deref(), question.kind, question.room()), (Some("web"), A, 512));
        let answer = question.answer(Code::NoError, &[Record::Address([10, 88, 0, 2].into())], 512);
        assert_eq!(
            answer,
            b"\x12\x34\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00\x03wEb\x00\x00\x01\x00\x01\
              \xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x0a\x58\x00\x02"
        );
        let nothing = question.answer(Code::NoError, &[], 512);
        assert_eq!(nothing[..12], *b"\x12\x34\x85\x80\x00\x01\x00\x00\x00\x00\x00\x00");
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let records: Vec<_> = (0..100).map(|n| Record::Address([10, 88, 0, n].into())).collect();
        let question = Question::parse(GLIBC).unwrap();
        let answer = question.answer(Code::NoError, &records, question.room());
        assert!(answer.len() <= 512 && answer.len() > 480);
        assert_eq!(u16_at(&answer, 2).unwrap() & TRUNCATED, TRUNCATED);
        assert_eq!(u16_at(&answer, 6), Some(30));
        let question = Question::parse(&with_opt(4096, 0)).unwrap();
        assert_eq!(question.room(), 1232);
        let answer = question.answer(Code::NoError, &records, question.room());
        assert!(answer.len() <= 1232 && answer.len() > 1200);
        assert_eq!(answer[answer.len() - 11..], *b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
        let answer = question.answer(Code::NoError, &records, usize::from(u16::MAX));
        assert_eq!(u16_at(&answer, 6), Some(100));
    }

    #[test]
    fn what_is_no_question_is_refused_or_ignored() {
        let code = |bytes: &[u8]| Question::parse(bytes).unwrap_err().map(|answer| code_of(&answer));
        assert_eq!(code(b""), None);
        assert_eq!(code(&GLIBC[..11]), None);
        let mut answer = GLIBC.to_vec();
        answer[2] |= 0x80;
        assert_eq!(code(&answer), None);
        assert_eq!(code(&GLIBC[..20]), Some(1));
        assert_eq!(code(&[GLIBC, b"x"].concat()), Some(1));
        let changed = |at: usize, to: u8| {
            let mut bytes = GLIBC.to_vec();
            bytes[at] = to;
            code(&bytes)
        };
        assert_eq!(changed(2, 0x28), Some(4), "an update");
        assert_eq!(changed(5, 2), Some(1), "two questions");
        assert_eq!(changed(12, 0xc0), Some(1), "a pointer");
        assert_eq!(changed(20, 3), Some(5), "another class");
        assert_eq!(changed(18, 252), Some(5), "a whole zone");
        let answer = Question::parse(&with_opt(512, 1)).unwrap_err().unwrap();
        assert_eq!(answer[answer.len() - 11..][..6], *b"\x00\x00\x29\x04\xd0\x01");
        let mut long = GLIBC[..12].to_vec();
        for _ in 0..5 {
            long.push(63);
            long.extend([b'a'; 63]);
        }
        long.extend(b"\x00\x00\x01\x00\x01");
        assert_eq!(code(&long), Some(1), "longer than any name");
    }

    #[test]
    fn only_its_answer_is_one() {
        let question = Question::parse(&with_opt(4096, 0)).unwrap();
        let asked = question.forward(7);
        assert_eq!(asked[..12], *b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01");
        assert_eq!(asked[asked.len() - 11..], *b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00");
        let mut answer = asked.clone();
        answer[2] |= 0x80;
        assert!(question.is_answered_by(&answer, 7));
        assert!(!question.is_answered_by(&answer, 8));
        assert!(!question.is_answered_by(&asked, 7));
        answer[13] = b'x';
        assert!(!question.is_answered_by(&answer, 7));
        let mut answer = asked;
        answer[2] |= 0x80;
        assert_eq!(question.relay(&answer, 512)[..2], *b"\x12\x34");
        answer.resize(600, 0);
        let cut = question.relay(&answer, 512);
        assert_eq!((cut.len(), u16_at(&cut, 2).unwrap() & TRUNCATED), (21, TRUNCATED));
    }

    #[test]
    fn names_are_of_hosts() {
        let name = |name: &str| Question::ask(1, name, A).name();
        assert_eq!(name("WEB.1.berth.internal.").as_deref(), Some("web.1.berth.internal"));
        assert_eq!(name("_srv._tcp").as_deref(), Some("_srv._tcp"));
        let mut odd = GLIBC.to_vec();
        odd[14] = b'.';
        assert_eq!(Question::parse(&odd).unwrap().name(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz(&bytes);
        }

        #[test]
        fn nor_do_bytes_that_begin_well(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz(&[&GLIBC[..12], &tail].concat());
        }
    }
}
