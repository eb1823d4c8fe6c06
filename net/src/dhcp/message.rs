//! DHCP messages. Everything here may come from anybody on the network.
//!
//! What a lease cannot do without (kind, server, length, mask) must be well-formed, or the whole message is refused;
//! any other option that is not is treated as absent: an odd domain name must not take the network away.

use crate::limits;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Fixed part, up to the options' magic cookie.
const FIXED: usize = 236;
/// RFC 2131, 3.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Shortest message that every relay and server takes (BOOTP's size).
const SHORTEST: usize = 300;

mod option {
    pub const PAD: u8 = 0;
    pub const MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOSTNAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const NTP: u8 = 42;
    pub const REQUESTED: u8 = 50;
    pub const LEASE: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const KIND: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_SIZE: u8 = 57;
    pub const T1: u8 = 58;
    pub const T2: u8 = 59;
    pub const CLIENT_ID: u8 = 61;
    pub const ROUTES: u8 = 121;
    pub const END: u8 = 255;
}

/// `op` of the fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// From a client.
    Request = 1,
    /// From a server.
    Reply = 2,
}

/// Option 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Is there a server?
    Discover = 1,
    /// There is, and this is what it would give.
    Offer = 2,
    /// I take it.
    Request = 3,
    /// I do not.
    Decline = 4,
    /// It is yours.
    Ack = 5,
    /// It is not.
    Nak = 6,
    /// I do not need it any more.
    Release = 7,
    /// I have an address, tell me the rest.
    Inform = 8,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::{Ack, Decline, Discover, Inform, Nak, Offer, Release, Request};
        [Discover, Offer, Request, Decline, Ack, Nak, Release, Inform].into_iter().find(|k| *k as u8 == byte)
    }
}

/// A route of option 121.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClasslessRoute {
    /// Network, host bits zero.
    pub to: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// Next hop; unspecified = directly connected.
    pub via: Ipv4Addr,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// From client or server.
    pub op: Op,
    /// Option 53.
    pub kind: Kind,
    /// Chosen by the client, repeated by the server.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The client's address, if it has and uses one.
    pub ciaddr: Ipv4Addr,
    /// What the server gives.
    pub yiaddr: Ipv4Addr,
    /// The client's hardware address.
    pub mac: [u8; 6],
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 51, seconds; `u32::MAX` = for ever.
    pub lease: Option<u32>,
    /// Option 58, seconds.
    pub t1: Option<u32>,
    /// Option 59, seconds.
    pub t2: Option<u32>,
    /// Option 1, as a prefix length.
    pub prefix: Option<u8>,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 42.
    pub ntp: Vec<Ipv4Addr>,
    /// Option 121.
    pub routes: Vec<ClasslessRoute>,
    /// Option 15: letters, digits, `-`, `_` and `.` only.
    pub domain: Option<String>,
    /// Option 26.
    pub mtu: Option<u16>,
    /// Option 12.
    pub hostname: Option<String>,
    /// Option 56, printable ASCII: why a NAK.
    pub text: Option<String>,
}

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Shorter than its fixed part.
    #[error("DHCP message of {0} bytes is cut short")]
    Short(usize),
    /// Neither request nor reply, or not for Ethernet, or not DHCP.
    #[error("not a DHCP message for Ethernet: {0} is wrong")]
    Foreign(&'static str),
    /// An option runs past the end of its field.
    #[error("DHCP option {0} is cut short")]
    Cut(u8),
    /// An option that must hold has a wrong length or value.
    #[error("DHCP option {0} is malformed")]
    Malformed(u8),
    /// The option must be there.
    #[error("DHCP option {0} is missing")]
    Missing(u8),
}

/// Reads one message.
pub fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
    let short = ParseError::Short(bytes.len());
    let options =
        bytes.get(FIXED..).ok_or(short)?.strip_prefix(&COOKIE).ok_or(ParseError::Foreign("cookie"))?;
    let array = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().ok_or(short);
    let op = match bytes.first() {
        Some(1) => Op::Request,
        Some(2) => Op::Reply,
        _ => return Err(ParseError::Foreign("operation")),
    };
    if bytes.get(1..3) != Some(&[1, 6]) {
        return Err(ParseError::Foreign("hardware type"));
    }
    let mut all = BTreeMap::new();
    collect(options, &mut all)?;
    // RFC 3396: the options field, then `file`, then `sname`.
    if let Some(which) = all.get(&option::OVERLOAD).and_then(|value| value.first()).copied() {
        if which & 1 != 0 {
            collect(bytes.get(108..FIXED).ok_or(short)?, &mut all)?;
        }
        if which & 2 != 0 {
            collect(bytes.get(44..108).ok_or(short)?, &mut all)?;
        }
    }
    let options = Options(all);
    let kind = options.value(option::KIND).ok_or(ParseError::Missing(option::KIND))?;
    let kind = match kind {
        [byte] => Kind::of(*byte),
        _ => None,
    };
    Ok(Message {
        op,
        kind: kind.ok_or(ParseError::Malformed(option::KIND))?,
        xid: u32::from_be_bytes(array(4)?),
        secs: u16::from_be_bytes(bytes.get(8..).and_then(|b| b.first_chunk().copied()).ok_or(short)?),
        ciaddr: array(12)?.into(),
        yiaddr: array(16)?.into(),
        mac: bytes.get(28..).and_then(|b| b.first_chunk().copied()).ok_or(short)?,
        server: options.number(option::SERVER)?.map(Ipv4Addr::from_bits),
        requested: options.number(option::REQUESTED)?.map(Ipv4Addr::from_bits),
        lease: options.number(option::LEASE)?,
        t1: options.number(option::T1).unwrap_or(None),
        t2: options.number(option::T2).unwrap_or(None),
        prefix: options.prefix()?,
        routers: options.addresses(option::ROUTERS),
        dns: options.addresses(option::DNS),
        ntp: options.addresses(option::NTP),
        routes: options.value(option::ROUTES).and_then(classless).unwrap_or_default(),
        domain: options.name(option::DOMAIN, 253),
        mtu: options.value(option::MTU).and_then(|v| v.try_into().ok()).map(u16::from_be_bytes),
        hostname: options.name(option::HOSTNAME, 63),
        text: options.value(option::MESSAGE).map(printable),
    })
}

/// Adds the options in one field; those that come again are joined (RFC 3396).
fn collect(field: &[u8], all: &mut BTreeMap<u8, Vec<u8>>) -> Result<(), ParseError> {
    let mut rest = field;
    while let Some((&code, tail)) = rest.split_first() {
        match code {
            option::END => break,
            option::PAD => rest = tail,
            _ => {
                let (&length, tail) = tail.split_first().ok_or(ParseError::Cut(code))?;
                let (value, tail) =
                    tail.split_at_checked(usize::from(length)).ok_or(ParseError::Cut(code))?;
                all.entry(code).or_default().extend_from_slice(value);
                rest = tail;
            }
        }
    }
    Ok(())
}

struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    fn value(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    fn number(&self, code: u8) -> Result<Option<u32>, ParseError> {
        let array = |value: &[u8]| value.try_into().map_err(|_| ParseError::Malformed(code));
        self.value(code).map(array).transpose().map(|value| value.map(u32::from_be_bytes))
    }

    fn prefix(&self) -> Result<Option<u8>, ParseError> {
        let Some(mask) = self.number(option::MASK)? else { return Ok(None) };
        let ones = mask.leading_ones();
        if mask.count_ones() != ones {
            return Err(ParseError::Malformed(option::MASK));
        }
        Ok(u8::try_from(ones).ok())
    }

    /// A list of addresses, those that no host can have left out.
    fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let (list, _) = self.value(code).unwrap_or_default().as_chunks::<4>();
        list.iter().map(|bytes| Ipv4Addr::from(*bytes)).filter(|ip| is_host(*ip)).collect()
    }

    /// A name that is safe to write to resolv.conf or to show.
    fn name(&self, code: u8, longest: usize) -> Option<String> {
        let value = self.value(code)?;
        let value = value.strip_suffix(&[0]).unwrap_or(value);
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if value.is_empty() || value.len() > longest || !value.iter().all(good) {
            return None;
        }
        String::from_utf8(value.to_vec()).ok()
    }
}

/// Whether a host can have this address.
pub fn is_host(ip: Ipv4Addr) -> bool {
    let first = ip.octets()[0];
    first != 0 && first != 127 && first < 224
}

fn printable(value: &[u8]) -> String {
    let shown = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '?' };
    value.iter().map(shown).collect()
}

/// RFC 3442: prefix length, as many bytes of the network as it needs, next hop.
fn classless(value: &[u8]) -> Option<Vec<ClasslessRoute>> {
    let mut routes = Vec::new();
    let mut rest = value;
    while let Some((&prefix, tail)) = rest.split_first() {
        if prefix > 32 || routes.len() == limits::DHCP_ROUTES {
            return None;
        }
        let (network, tail) = tail.split_at_checked(usize::from(prefix.div_ceil(8)))?;
        let (via, tail) = tail.split_at_checked(4)?;
        let mut to = [0; 4];
        to.get_mut(..network.len())?.copy_from_slice(network);
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let to = Ipv4Addr::from_bits(u32::from_be_bytes(to) & mask);
        routes.push(ClasslessRoute { to, prefix, via: <[u8; 4]>::try_from(via).ok()?.into() });
        rest = tail;
    }
    Some(routes)
}

impl Message {
    /// A message without options.
    pub fn new(op: Op, kind: Kind, xid: u32, mac: [u8; 6]) -> Self {
        Self {
            op,
            kind,
            xid,
            secs: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            mac,
            server: None,
            requested: None,
            lease: None,
            t1: None,
            t2: None,
            prefix: None,
            routers: Vec::new(),
            dns: Vec::new(),
            ntp: Vec::new(),
            routes: Vec::new(),
            domain: None,
            mtu: None,
            hostname: None,
            text: None,
        }
    }

    /// Its bytes. Requests also say who we are and what we want to know.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.op as u8, 1, 6, 0];
        bytes.extend_from_slice(&self.xid.to_be_bytes());
        bytes.extend_from_slice(&self.secs.to_be_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.ciaddr.octets());
        bytes.extend_from_slice(&self.yiaddr.octets());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&self.mac);
        bytes.resize(FIXED, 0);
        bytes.extend_from_slice(&COOKIE);
        self.write_options(&mut bytes);
        bytes.push(option::END);
        if bytes.len() < SHORTEST {
            bytes.resize(SHORTEST, option::PAD);
        }
        bytes
    }

    fn write_options(&self, bytes: &mut Vec<u8>) {
        // RFC 3396: what is longer than 255 bytes goes on in another option of the same code.
        let mut put = |code: u8, value: &[u8]| {
            for piece in value.chunks(255) {
                bytes.push(code);
                bytes.push(u8::try_from(piece.len()).unwrap_or(u8::MAX));
                bytes.extend_from_slice(piece);
            }
        };
        put(option::KIND, &[self.kind as u8]);
        if self.op == Op::Request {
            let [a, b, c, d, e, f] = self.mac;
            put(option::CLIENT_ID, &[1, a, b, c, d, e, f]);
            put(option::MAX_SIZE, &1500_u16.to_be_bytes());
            use option::{DNS, DOMAIN, MASK, MTU, NTP, ROUTERS, ROUTES, T1, T2};
            put(option::PARAMETERS, &[MASK, ROUTES, ROUTERS, DNS, DOMAIN, MTU, NTP, T1, T2]);
        }
        let numbers = [(option::LEASE, self.lease), (option::T1, self.t1), (option::T2, self.t2)];
        let mask = |prefix: u8| u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        let addresses = [
            (option::SERVER, self.server.map(Ipv4Addr::to_bits)),
            (option::REQUESTED, self.requested.map(Ipv4Addr::to_bits)),
            (option::MASK, self.prefix.map(mask)),
        ];
        for (code, value) in numbers.into_iter().chain(addresses) {
            if let Some(value) = value {
                put(code, &value.to_be_bytes());
            }
        }
        for (code, list) in
            [(option::ROUTERS, &self.routers), (option::DNS, &self.dns), (option::NTP, &self.ntp)]
        {
            put(code, &list.iter().flat_map(|ip| ip.octets()).collect::<Vec<u8>>());
        }
        let mut routes = Vec::new();
        for route in &self.routes {
            routes.push(route.prefix);
            routes.extend(route.to.octets().iter().take(usize::from(route.prefix.min(32).div_ceil(8))));
            routes.extend_from_slice(&route.via.octets());
        }
        put(option::ROUTES, &routes);
        if let Some(mtu) = self.mtu {
            put(option::MTU, &mtu.to_be_bytes());
        }
        let texts = [
            (option::DOMAIN, &self.domain),
            (option::HOSTNAME, &self.hostname),
            (option::MESSAGE, &self.text),
        ];
        for (code, text) in texts {
            put(code, text.as_deref().unwrap_or_default().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
