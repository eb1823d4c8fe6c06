//! DHCPv6 messages. Everything here may come from anybody on the network.
//!
//! Whatever says whom a message is for must be well-formed, or the whole message is refused; an option about the network
//! that is not is treated as absent.

use crate::limits;
use std::net::Ipv6Addr;

mod option {
    pub const CLIENT: u16 = 1;
    pub const SERVER: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const ADDRESS: u16 = 5;
    pub const REQUESTED: u16 = 6;
    pub const PREFERENCE: u16 = 7;
    pub const ELAPSED: u16 = 8;
    pub const STATUS: u16 = 13;
    pub const DNS: u16 = 23;
    pub const DOMAINS: u16 = 24;
    pub const REFRESH: u16 = 32;
    pub const SOLICIT_WAIT: u16 = 82;
}

/// Longest DUID (RFC 8415, 11.1: 128 bytes after its type).
const LONGEST_DUID: usize = 130;

/// First byte of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Is there a server?
    Solicit = 1,
    /// There is, and this is what it would give.
    Advertise = 2,
    /// I take it.
    Request = 3,
    /// The server that gave it: may I keep it?
    Renew = 5,
    /// Anybody: may I keep it?
    Rebind = 6,
    /// Yes, or no, or what else was asked for.
    Reply = 7,
    /// I need no address, tell me the rest.
    Information = 11,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::{Advertise, Information, Rebind, Renew, Reply, Request, Solicit};
        let all = [Solicit, Advertise, Request, Renew, Rebind, Reply, Information];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Option 13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// All is well; also where the option is absent.
    #[default]
    Success,
    /// The server has none to give.
    NoAddresses,
    /// It does not know that it gave this.
    NoBinding,
    /// The addresses are not this link's.
    NotOnLink,
    /// Anything else.
    Failed,
}

impl Status {
    fn of(value: &[u8]) -> Self {
        match value {
            [0, 0, ..] => Self::Success,
            [0, 2, ..] => Self::NoAddresses,
            [0, 3, ..] => Self::NoBinding,
            [0, 4, ..] => Self::NotOnLink,
            _ => Self::Failed,
        }
    }

    fn code(self) -> u16 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::NoAddresses => 2,
            Self::NoBinding => 3,
            Self::NotOnLink => 4,
        }
    }
}

/// An address and how long it is good for; `u32::MAX` seconds = for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// It.
    pub ip: Ipv6Addr,
    /// Seconds in which new connections may use it.
    pub preferred: u32,
    /// Seconds in which it may be used at all; at least `preferred`.
    pub valid: u32,
}

/// Option 3: addresses that are asked for and given together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Association {
    /// Chosen by the client.
    pub id: u32,
    /// Seconds after which its server is asked for more; 0 = the client decides.
    pub t1: u32,
    /// Seconds after which anybody is; 0 = the client decides.
    pub t2: u32,
    /// The addresses.
    pub addresses: Vec<Address>,
    /// Why there are none.
    pub status: Status,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// 24 bits, chosen by the client, repeated by the server.
    pub xid: u32,
    /// Option 1: the client's DUID.
    pub client: Vec<u8>,
    /// Option 2: the server's DUID.
    pub server: Option<Vec<u8>>,
    /// Option 3.
    pub associations: Vec<Association>,
    /// Option 7: of several servers that with the highest is taken.
    pub preference: u8,
    /// Option 8: hundredths of a second since the client began.
    pub elapsed: u16,
    /// Option 13.
    pub status: Status,
    /// Option 23.
    pub dns: Vec<Ipv6Addr>,
    /// Option 24: letters, digits, `-`, `_` and `.` only.
    pub domains: Vec<String>,
    /// Option 32, seconds.
    pub refresh: Option<u32>,
    /// Option 82, seconds: the longest wait between two Solicits.
    pub solicit_wait: Option<u32>,
}

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Shorter than its fixed part.
    #[error("DHCPv6 message of {0} bytes is cut short")]
    Short(usize),
    /// Of a kind that no client and no server sends the other here.
    #[error("DHCPv6 message of the kind {0}, which is none of ours")]
    Foreign(u8),
    /// An option runs past the end.
    #[error("DHCPv6 option {0} is cut short")]
    Cut(u16),
    /// An option that must hold has a wrong length.
    #[error("DHCPv6 option {0} is malformed")]
    Malformed(u16),
}

/// Reads one message.
pub fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
    let short = ParseError::Short(bytes.len());
    let (&[kind, a, b, c], rest) = bytes.split_first_chunk().ok_or(short)?;
    let kind = Kind::of(kind).ok_or(ParseError::Foreign(kind))?;
    let mut message = Message::new(kind, u32::from_be_bytes([0, a, b, c]), Vec::new());
    for next in options(rest) {
        let (code, value) = next?;
        match code {
            option::CLIENT => message.client = duid(code, value)?,
            option::SERVER => message.server = Some(duid(code, value)?),
            option::IA_NA if message.associations.len() < limits::DHCP6_ASSOCIATIONS => {
                message.associations.extend(association(value)?);
            }
            option::PREFERENCE => message.preference = value.first().copied().unwrap_or(0),
            option::ELAPSED => message.elapsed = value.try_into().map(u16::from_be_bytes).unwrap_or(0),
            option::STATUS => message.status = Status::of(value),
            option::DNS => {
                let (list, _) = value.as_chunks::<16>();
                let hosts = list.iter().map(|bytes| Ipv6Addr::from(*bytes)).filter(is_host);
                message.dns = hosts.take(limits::NAME_SERVERS).collect();
            }
            option::DOMAINS => message.domains = names(value),
            option::REFRESH => message.refresh = value.try_into().ok().map(u32::from_be_bytes),
            option::SOLICIT_WAIT => message.solicit_wait = value.try_into().ok().map(u32::from_be_bytes),
            _ => {}
        }
    }
    Ok(message)
}

/// The options in `bytes`, up to the first that does not fit.
fn options(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), ParseError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&[a, b, c, d], tail) = rest.split_first_chunk()?;
        let (code, length) = (u16::from_be_bytes([a, b]), usize::from(u16::from_be_bytes([c, d])));
        let Some((value, tail)) = tail.split_at_checked(length) else {
            rest = &[];
            return Some(Err(ParseError::Cut(code)));
        };
        rest = tail;
        Some(Ok((code, value)))
    })
}

fn duid(code: u16, value: &[u8]) -> Result<Vec<u8>, ParseError> {
    let fits = (3..=LONGEST_DUID).contains(&value.len());
    if fits { Ok(value.to_vec()) } else { Err(ParseError::Malformed(code)) }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// None: T1 is after T2, and the whole association counts for nothing (RFC 8415, 21.4).
fn association(value: &[u8]) -> Result<Option<Association>, ParseError> {
    let whole = || Some((number(value, 0)?, number(value, 4)?, number(value, 8)?, value.get(12..)?));
    let (id, t1, t2, rest) = whole().ok_or(ParseError::Malformed(option::IA_NA))?;
    let mut found = Association { id, t1, t2, ..Association::default() };
    for next in options(rest) {
        let (code, value) = next?;
        match code {
            option::STATUS => found.status = Status::of(value),
            option::ADDRESS if found.addresses.len() < limits::DHCP6_ADDRESSES => {
                found.addresses.extend(address(value));
            }
            _ => {}
        }
    }
    Ok(Some(found).filter(|_| t1 == 0 || t2 == 0 || t1 <= t2))
}

/// One that nobody can have, that the server itself says is none, or whose times make no sense, is none.
fn address(value: &[u8]) -> Option<Address> {
    let ip = Ipv6Addr::from(*value.first_chunk::<16>()?);
    let (preferred, valid) = (number(value, 16)?, number(value, 20)?);
    let failed = options(value.get(24..)?).any(|next| {
        next.map_or(true, |(code, value)| code == option::STATUS && Status::of(value) != Status::Success)
    });
    (is_host(&ip) && preferred <= valid && !failed).then_some(Address { ip, preferred, valid })
}

/// Whether a host can have this address, and be reached at it from elsewhere.
fn is_host(ip: &Ipv6Addr) -> bool {
    !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unicast_link_local()
}

/// Names as in DNS (RFC 1035, 3.1), never compressed; those that are not safe to write to resolv.conf are left out.
fn names(value: &[u8]) -> Vec<String> {
    let (mut names, mut name, mut sound, mut rest) = (Vec::new(), String::new(), true, value);
    while let Some((&length, tail)) = rest.split_first() {
        if length == 0 {
            if sound && (1..=253).contains(&name.len()) && names.len() < limits::SEARCH_DOMAINS {
                names.push(std::mem::take(&mut name));
            }
            (name, sound, rest) = (String::new(), true, tail);
            continue;
        }
        let Some((label, tail)) = tail.split_at_checked(usize::from(length)).filter(|_| length < 64) else {
            break;
        };
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        sound &= label.iter().all(good);
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().filter(|byte| good(byte)).map(|byte| char::from(*byte)));
        rest = tail;
    }
    names
}

impl Message {
    /// A message that says no more than from which client it is.
    pub fn new(kind: Kind, xid: u32, client: Vec<u8>) -> Self {
        Self {
            kind,
            xid: xid & 0xff_ffff,
            client,
            server: None,
            associations: Vec::new(),
            preference: 0,
            elapsed: 0,
            status: Status::Success,
            dns: Vec::new(),
            domains: Vec::new(),
            refresh: None,
            solicit_wait: None,
        }
    }

    fn is_question(&self) -> bool {
        !matches!(self.kind, Kind::Advertise | Kind::Reply)
    }

    /// Its bytes. Questions also say what we want to know, and since when.
    pub fn to_bytes(&self) -> Vec<u8> {
        let [_, a, b, c] = self.xid.to_be_bytes();
        let mut bytes = vec![self.kind as u8, a, b, c];
        put(&mut bytes, option::CLIENT, &self.client);
        if let Some(server) = &self.server {
            put(&mut bytes, option::SERVER, server);
        }
        if self.is_question() {
            put(&mut bytes, option::ELAPSED, &self.elapsed.to_be_bytes());
            use option::{DNS, DOMAINS, REFRESH, SOLICIT_WAIT};
            let last = if self.kind == Kind::Information { REFRESH } else { SOLICIT_WAIT };
            put(&mut bytes, option::REQUESTED, [DNS, DOMAINS, last].map(u16::to_be_bytes).as_flattened());
        }
        for association in &self.associations {
            put(&mut bytes, option::IA_NA, &association.to_bytes());
        }
        if self.preference > 0 {
            put(&mut bytes, option::PREFERENCE, &[self.preference]);
        }
        if self.status != Status::Success {
            put(&mut bytes, option::STATUS, &self.status.code().to_be_bytes());
        }
        if !self.dns.is_empty() {
            put(&mut bytes, option::DNS, &self.dns.iter().flat_map(Ipv6Addr::octets).collect::<Vec<u8>>());
        }
        if !self.domains.is_empty() {
            put(&mut bytes, option::DOMAINS, &wire_names(&self.domains));
        }
        for (code, seconds) in [(option::REFRESH, self.refresh), (option::SOLICIT_WAIT, self.solicit_wait)] {
            if let Some(seconds) = seconds {
                put(&mut bytes, code, &seconds.to_be_bytes());
            }
        }
        bytes
    }
}

impl Association {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [self.id, self.t1, self.t2].map(u32::to_be_bytes).concat();
        for address in &self.addresses {
            let times = [address.preferred, address.valid].map(u32::to_be_bytes).concat();
            put(&mut bytes, option::ADDRESS, &[&address.ip.octets()[..], &times].concat());
        }
        if self.status != Status::Success {
            put(&mut bytes, option::STATUS, &self.status.code().to_be_bytes());
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, code: u16, value: &[u8]) {
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(value);
}

fn wire_names(names: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names {
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap_or(63));
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    /// A Reply as the RFC's tables have it, byte by byte.
    #[test]
    fn a_reply_is_read() {
        let mut bytes = vec![7, 0xab, 0xcd, 0xef];
        bytes.extend([0, 1, 0, 4, 0, 3, 0, 1]);
        bytes.extend([0, 2, 0, 5, 0, 2, 0, 0, 9]);
        let address = [&ip("2001:db8::5").octets()[..], &[0, 0, 0, 60], &[0, 0, 0, 120]].concat();
        let mut association = vec![0, 0, 0, 7, 0, 0, 0, 30, 0, 0, 0, 48];
        put(&mut association, 5, &address);
        put(&mut association, 13, &[0, 0, b'o', b'k']);
        put(&mut bytes, 3, &association);
        put(&mut bytes, 23, &[ip("2001:db8::53").octets(), ip("ff02::1").octets()].concat());
        put(&mut bytes, 24, b"\x03lab\x07example\x00\x01\xff\x00\x03one\x00\x05short");
        put(&mut bytes, 82, &[0, 0, 0, 60]);
        put(&mut bytes, 0xfffe, b"whatever");
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, message.xid), (Kind::Reply, 0xab_cdef));
        assert_eq!(
            (message.client.as_slice(), message.server.as_deref()),
            (&[0, 3, 0, 1][..], Some(&[0, 2, 0, 0, 9][..]))
        );
        let address = Address { ip: ip("2001:db8::5"), preferred: 60, valid: 120 };
        let expected =
            Association { id: 7, t1: 30, t2: 48, addresses: vec![address], status: Status::Success };
        assert_eq!(message.associations, [expected]);
        assert_eq!(message.dns, [ip("2001:db8::53")]);
        assert_eq!(message.domains, ["lab.example", "one"]);
        assert_eq!(message.solicit_wait, Some(60));
    }

    #[test]
    fn what_must_hold_is_refused_and_what_need_not_is_absent() {
        assert_eq!(parse(&[7, 0, 0]), Err(ParseError::Short(3)));
        assert_eq!(parse(&[12, 0, 0, 0]), Err(ParseError::Foreign(12)));
        assert_eq!(parse(&[7, 0, 0, 0, 0, 1, 0, 9, 1]), Err(ParseError::Cut(1)));
        assert_eq!(parse(&[7, 0, 0, 0, 0, 1, 0, 1, 1]), Err(ParseError::Malformed(1)));
        assert_eq!(parse(&[7, 0, 0, 0, 0, 3, 0, 1, 1]), Err(ParseError::Malformed(3)));
        let odd = [7, 0, 0, 0, 0, 23, 0, 3, 1, 2, 3, 0, 24, 0, 1, 9, 0, 32, 0, 1, 1, 0, 8, 0, 0];
        assert_eq!(parse(&odd), Ok(Message::new(Kind::Reply, 0, Vec::new())));
        let given = |preferred, valid, ip: &str| {
            let mut message = Message::new(Kind::Reply, 1, vec![0, 3, 0, 1]);
            let addresses = vec![Address { ip: ip.parse().unwrap(), preferred, valid }];
            message.associations = vec![Association { t1: 9, t2: 10, addresses, ..Association::default() }];
            parse(&message.to_bytes()).unwrap().associations[0].addresses.len()
        };
        assert_eq!(
            [given(1, 2, "2001:db8::1"), given(3, 2, "2001:db8::1"), given(1, 2, "fe80::1")],
            [1, 0, 0]
        );
        let mut late = Message::new(Kind::Reply, 1, vec![0, 3, 0, 1]);
        late.associations = vec![Association { t1: 11, t2: 10, ..Association::default() }];
        assert_eq!(parse(&late.to_bytes()).unwrap().associations, []);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(kind in 0u8..13, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&[&[kind, 0, 0, 1][..], &bytes].concat());
            if let Ok(message) = parse(&bytes) {
                let again = parse(&message.to_bytes()).unwrap();
                prop_assert_eq!(again.associations, message.associations);
                prop_assert_eq!(again.domains, message.domains);
            }
        }

        #[test]
        fn what_is_written_is_read(xid in 0u32..0x100_0000, hosts in proptest::collection::vec(any::<u64>(), 0..4), t1: u32) {
            let mut message = Message::new(Kind::Advertise, xid, vec![0, 4, 1, 2, 3]);
            message.server = Some(vec![0, 3, 0, 1, 9]);
            let address = |host: &u64| Address { ip: Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(*host)), preferred: 5, valid: u32::MAX };
            message.associations = vec![Association { id: xid, t1, t2: u32::MAX, addresses: hosts.iter().map(address).collect(), status: Status::NoBinding }];
            message.preference = 200;
            message.domains = vec!["a.example".into(), "b".into()];
            prop_assert_eq!(parse(&message.to_bytes()), Ok(message));
        }
    }
}
