//! The units' network: one bridge, an IPv4 and an IPv6 network, a place for each unit. Everything that is a name or a number
//! of it is here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The bridge.
pub const BRIDGE: &str = "berth0";
/// The machine's address on it, and the units' gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// The network.
pub const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 0);
/// Its prefix length: whole bytes, as the packet filter compares it.
pub const PREFIX: u8 = 16;
/// What the names of the units' interfaces on the machine begin with.
const PORT: &str = "bu";

/// A unit's place in the network: the last two bytes of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Place(u16);

impl Place {
    /// The first place after `0` (the network itself) and `1` (the gateway).
    pub const FIRST: Self = Self(2);
    /// The last one before the broadcast address.
    pub const LAST: Self = Self(u16::MAX - 1);

    /// The next one, the first after the last.
    pub fn next(self) -> Self {
        if self >= Self::LAST { Self::FIRST } else { Self(self.0 + 1) }
    }

    /// Whether a unit can have it; what was read from a file may be anything.
    pub fn is_valid(self) -> bool {
        (Self::FIRST..=Self::LAST).contains(&self)
    }

    /// The unit's address.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(NETWORK.to_bits() | u32::from(self.0))
    }

    /// The unit's hardware address: locally administered, and told by the address.
    pub fn mac(self) -> [u8; 6] {
        mac(self.address())
    }

    /// The name of its interface on the machine.
    pub fn port(self) -> String {
        format!("{PORT}{:04x}", self.0)
    }
}

/// The units' IPv6 network: 64 bits, made from the machine's id (RFC 4193: `fd`, 40 bits that hardly anybody else has, a
/// subnet's number), so that it is the same after every boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Net(u64);

impl Ipv6Net {
    /// Its prefix length.
    pub const PREFIX: u8 = 64;

    /// The one of the machine with this id; none if that is no id.
    pub fn of(machine_id: &str) -> Option<Self> {
        if machine_id.len() != 32 || !machine_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        // FNV-1a: the id is random, and need only be spread, and not shown.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = machine_id.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        let global = (hash ^ (hash >> 24)) & 0xff_ffff_ffff;
        Some(Self(0xfd << 56 | global << 16))
    }

    /// What its addresses begin with.
    pub fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// The machine's address in it.
    pub fn gateway(self) -> Ipv6Addr {
        self.host(1)
    }

    /// A unit's address in it.
    pub fn address(self, place: Place) -> Ipv6Addr {
        self.host(place.0)
    }

    /// Whether an address is in it.
    pub fn contains(self, ip: Ipv6Addr) -> bool {
        ip.octets().starts_with(&self.bytes())
    }

    fn host(self, number: u16) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from(self.0) << 64 | u128::from(number))
    }
}

/// The bridge's hardware address.
pub fn gateway_mac() -> [u8; 6] {
    mac(GATEWAY)
}

/// Whether an address is one of the units' networks.
pub fn is_inside(ip: IpAddr, ipv6: Option<Ipv6Net>) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.octets().iter().zip(NETWORK.octets()).take(usize::from(PREFIX / 8)).all(|(a, b)| *a == b)
        }
        IpAddr::V6(ip) => ipv6.is_some_and(|net| net.contains(ip)),
    }
}

/// Whether an interface of this name is one of ours, and no way to the outside.
pub fn is_ours(interface: &str) -> bool {
    let number = interface.strip_prefix(PORT).filter(|rest| rest.len() == 4);
    interface == BRIDGE || number.is_some_and(|rest| u16::from_str_radix(rest, 16).is_ok())
}

fn mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0xbe, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_tells_everything() {
        let place = Place(0x0102);
        assert_eq!(place.address(), Ipv4Addr::new(10, 88, 1, 2));
        assert_eq!(place.mac(), [2, 0xbe, 10, 88, 1, 2]);
        assert_eq!(place.port(), "bu0102");
        assert!(
            is_ours("bu0102")
                && is_ours("berth0")
                && !is_ours("bu01")
                && !is_ours("eth0")
                && !is_ours("business")
        );
    }

    #[test]
    fn a_machine_has_one_ipv6_network() {
        let net = Ipv6Net::of("0123456789abcdef0123456789abcdef").unwrap();
        let gateway = net.gateway();
        assert_eq!(gateway.segments()[0] >> 8, 0xfd);
        assert_eq!(gateway.segments()[3..], [0, 0, 0, 0, 1]);
        assert_eq!(net.address(Place(0x0102)).segments()[4..], [0, 0, 0, 0x0102]);
        assert!(net.contains(gateway));
        let other = Ipv6Net::of("0123456789abcdef0123456789abcdee").unwrap();
        assert!(other != net && !other.contains(gateway));
        for rubbish in ["", "0123456789abcdef", "0123456789abcdef0123456789abcdeg"] {
            assert_eq!(Ipv6Net::of(rubbish), None);
        }
    }

    #[test]
    fn places_go_round_without_the_special_ones() {
        assert_eq!(Place::LAST.next(), Place::FIRST);
        assert_eq!(Place::FIRST.next().address(), Ipv4Addr::new(10, 88, 0, 3));
        assert_eq!(Place::LAST.address(), Ipv4Addr::new(10, 88, 255, 254));
        assert!(!Place(1).is_valid() && !Place(u16::MAX).is_valid());
    }
}
