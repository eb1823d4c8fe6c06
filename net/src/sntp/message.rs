//! One question, one answer: 48 bytes (RFC 5905, 7.3).

/// The port of time servers.
pub const PORT: u16 = 123;
/// Bytes of a message without extensions.
pub const BYTES: usize = 48;
/// Version 4, mode 3 (client), no leap second known.
const ASK: u8 = 0x23;
/// Mode of an answer.
const SERVER: u8 = 4;
/// Leap indicator: the server's own clock is not set.
const UNSET: u8 = 3;
/// Strata from here on are no distance from a clock any more.
const NO_STRATUM: u8 = 16;

/// A time as NTP has it: seconds since 1900 modulo 2³², and their 2³²nd parts. Two of them are compared by their difference,
/// which is right within 68 years of each other, over the end of an era (2036) too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Seconds from 1900 to 1970.
    const EPOCH: u64 = 2_208_988_800;

    /// From nanoseconds since 1970.
    pub fn of_unix(ns: i128) -> Self {
        let parts = (ns << 32) / 1_000_000_000;
        let bytes = parts.wrapping_add(i128::from(Self::EPOCH) << 32).to_le_bytes();
        let mut low = [0; 8];
        low.copy_from_slice(&bytes[..8]);
        Self(u64::from_le_bytes(low))
    }

    /// Nanoseconds from `earlier` to this one.
    pub fn since(self, earlier: Self) -> i64 {
        let parts = i128::from(self.0.wrapping_sub(earlier.0).cast_signed());
        // At most 2³¹ seconds, which are fewer nanoseconds than fit.
        i64::try_from((parts * 1_000_000_000) >> 32).unwrap_or(0)
    }
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Hops from a clock, 1 to 15.
    pub stratum: u8,
    /// How far its time may be off, nanoseconds: half the way to its clock and back, and what it adds up on top of that.
    pub distance_ns: u64,
    /// The number in the question.
    pub cookie: u64,
    /// When the question came in.
    pub received: Stamp,
    /// When the answer went out.
    pub sent: Stamp,
}

/// Why a message is no answer that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not a server's.
    #[error("not a time server's answer")]
    Foreign,
    /// The server's own clock is not set.
    #[error("its own clock is not set")]
    Unset,
    /// A kiss-o'-death (RFC 5905, 7.4): it wants to be left alone.
    #[error("it does not want to be asked ({})", String::from_utf8_lossy(.0))]
    Refused([u8; 4]),
}

/// The question with this number.
pub fn question(cookie: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[0] = ASK;
    bytes[40..].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

/// Reads one answer. Extensions behind it are not looked at.
pub fn parse(bytes: &[u8]) -> Result<Answer, ParseError> {
    let message = bytes.first_chunk::<BYTES>().ok_or(ParseError::Foreign)?;
    let short =
        |at: usize| u32::from_be_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
    let long = |at: usize| u64::from(short(at)) << 32 | u64::from(short(at + 4));
    let (leap, version, mode) = (message[0] >> 6, message[0] >> 3 & 7, message[0] & 7);
    if mode != SERVER || !(3..=4).contains(&version) {
        return Err(ParseError::Foreign);
    }
    let stratum = message[1];
    if stratum == 0 {
        // Printable, or shown as what it is not.
        let code = short(12).to_be_bytes().map(|byte| if byte.is_ascii_uppercase() { byte } else { b'?' });
        return Err(ParseError::Refused(code));
    }
    let (received, sent) = (long(32), long(40));
    if leap == UNSET || stratum >= NO_STRATUM || received == 0 || sent == 0 {
        return Err(ParseError::Unset);
    }
    // Both in 65,536ths of a second.
    let distance = u64::from(short(4)) / 2 + u64::from(short(8));
    Ok(Answer {
        stratum,
        distance_ns: (distance * 1_000_000_000) >> 16,
        cookie: long(24),
        received: Stamp(received),
        sent: Stamp(sent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer that chrony gave (stratum 2, recorded).
    const CHRONY: [u8; BYTES] = [
        0x24, 0x02, 0x00, 0xe9, 0x00, 0x00, 0x01, 0x2f, 0x00, 0x00, 0x00, 0x5c, 0xc0, 0x00, 0x02, 0x01, 0xea,
        0x2f, 0x10, 0x00, 0x20, 0x00, 0x00, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0xea, 0x2f,
        0x10, 0x2a, 0x80, 0x00, 0x00, 0x00, 0xea, 0x2f, 0x10, 0x2a, 0x80, 0x01, 0x00, 0x00,
    ];

    #[test]
    fn an_answer() {
        let answer = parse(&CHRONY).unwrap();
        assert_eq!((answer.stratum, answer.cookie), (2, 0x1122_3344_5566_7788));
        assert_eq!(answer.sent.since(answer.received), 15_258);
        // 303/65536 s there and back, 92/65536 s more.
        assert_eq!(answer.distance_ns, (151 + 92) * 1_000_000_000 / 65_536);
        assert_eq!(parse(&CHRONY[..47]), Err(ParseError::Foreign));
        assert!(parse(&[&CHRONY[..], &[7; 20]].concat()).is_ok());
        let with = |at: usize, byte: u8| {
            let mut bytes = CHRONY;
            bytes[at] = byte;
            parse(&bytes)
        };
        assert_eq!(with(0, 0xe4), Err(ParseError::Unset));
        assert_eq!(with(0, 0x23), Err(ParseError::Foreign));
        assert_eq!(with(0, 0x14), Err(ParseError::Foreign));
        assert_eq!(with(1, 16), Err(ParseError::Unset));
        let mut kiss = CHRONY;
        kiss[1] = 0;
        kiss[12..16].copy_from_slice(b"RATE");
        assert_eq!(parse(&kiss), Err(ParseError::Refused(*b"RATE")));
    }

    #[test]
    fn the_question_says_nothing_of_us() {
        let bytes = question(0x0102_0304_0506_0708);
        assert_eq!(bytes[0], 0x23);
        assert!(bytes[1..40].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[40..], [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn stamps_go_over_the_end_of_an_era() {
        let unix = |s: i128| Stamp::of_unix(s * 1_000_000_000);
        assert_eq!(unix(0).0, Stamp::EPOCH << 32);
        // 2036-02-07 06:28:16 is 0 again.
        assert_eq!(unix(2_085_978_496).0, 0);
        assert_eq!(unix(2_085_978_500).since(unix(2_085_978_490)), 10_000_000_000);
        assert_eq!(unix(1_700_000_000).since(unix(1_700_000_001)), -1_000_000_000);
        assert_eq!(Stamp::of_unix(1_500_000_000).since(unix(1)), 500_000_000);
    }
}
