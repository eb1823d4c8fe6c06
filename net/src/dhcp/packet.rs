//! IPv4 and UDP around a DHCP message, for when the kernel cannot send or receive it: no address yet.

use super::{CLIENT_PORT, SERVER_PORT};
use std::net::Ipv4Addr;

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;

/// Classic BPF over a packet from its IP header on: UDP, not a later fragment, to our port. Rows of (code, jump if
/// true, jump if false, operand).
pub const FILTER: [(u16, u8, u8, u32); 9] = [
    (0x30, 0, 0, 9),                  // load the protocol
    (0x15, 0, 5, UDP as u32),         // UDP, or drop
    (0x28, 0, 0, 6),                  // load flags and fragment offset
    (0x45, 3, 0, 0x1fff),             // an offset: drop
    (0xb1, 0, 0, 0),                  // x = length of the IP header
    (0x48, 0, 0, 2),                  // load the destination port
    (0x15, 1, 0, CLIENT_PORT as u32), // ours: keep
    (0x06, 0, 0, 0),                  // drop
    (0x06, 0, 0, 0xffff),             // keep
];

/// Puts a client's message into a broadcast packet. `from`: its address, or unspecified.
pub fn broadcast(from: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    wrap((from, CLIENT_PORT), (Ipv4Addr::BROADCAST, SERVER_PORT), payload)
}

/// Puts `payload` into a packet.
pub fn wrap(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let udp_length = u16::try_from(UDP_HEADER + payload.len()).unwrap_or(u16::MAX);
    let mut udp = Vec::with_capacity(UDP_HEADER + payload.len());
    for number in [from.1, to.1, udp_length, 0] {
        udp.extend_from_slice(&number.to_be_bytes());
    }
    udp.extend_from_slice(payload);
    let pseudo = [&from.0.octets()[..], &to.0.octets(), &[0, UDP], &udp_length.to_be_bytes()].concat();
    // A sum of zero is sent as all ones: zero means "no checksum" (RFC 768).
    let sum = match checksum(&[&pseudo, &udp]) {
        0 => u16::MAX,
        sum => sum,
    };
    set(&mut udp, 6, sum);

    let length = u16::try_from(IP_HEADER + udp.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, 0x10]; // low delay, as every DHCP client says
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0x40, 0, 64, UDP, 0, 0]);
    packet.extend_from_slice(&from.0.octets());
    packet.extend_from_slice(&to.0.octets());
    let sum = checksum(&[&packet]);
    set(&mut packet, 10, sum);
    packet.extend_from_slice(&udp);
    packet
}

/// The payload of a whole UDP packet to our port.
///
/// Its UDP checksum is not looked at: between virtual machines of one host it is often not filled in, and what the
/// link carried was checked by the link. The IP header's is always there.
pub fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    let total = usize::from(number(packet, 2)?);
    let fragment = number(packet, 6)? & 0x3fff;
    if first >> 4 != 4 || header < IP_HEADER || fragment != 0 || *packet.get(9)? != UDP {
        return None;
    }
    if checksum(&[packet.get(..header)?]) != 0 {
        return None;
    }
    let udp = packet.get(header..total)?;
    let length = usize::from(number(udp, 4)?);
    if number(udp, 2)? != CLIENT_PORT {
        return None;
    }
    udp.get(UDP_HEADER..length)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn set(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// RFC 1071, over parts of which all but the last are of even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        let (pairs, odd) = part.as_chunks::<2>();
        sum += pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>();
        sum += odd.iter().map(|byte| u64::from(*byte) << 8).sum::<u64>();
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The worked example of an IPv4 header that textbooks use.
    #[test]
    fn the_checksum_is_the_internets() {
        let header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(checksum(&[&header]), 0);
        let mut without = header;
        without[10..12].fill(0);
        assert_eq!(checksum(&[&without]), 0xb861);
    }

    #[test]
    fn what_is_not_for_us_is_nothing() {
        let good = wrap((Ipv4Addr::new(10, 0, 2, 2), 67), (Ipv4Addr::BROADCAST, 68), b"hello");
        assert_eq!(unwrap(&good), Some(&b"hello"[..]));
        let padded = [&good[..], &[0; 18]].concat();
        assert_eq!(unwrap(&padded), Some(&b"hello"[..]), "Ethernet pads short frames");
        for (at, value) in
            [(0, 0x65), (0, 0x44), (6, 0x20), (7, 1), (9, 6), (10, 1), (3, 200), (23, 69), (25, 99)]
        {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(unwrap(&bad), None, "byte {at} = {value:#x}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = unwrap(&bytes);
        }

        #[test]
        fn wrapped_is_unwrapped(payload in proptest::collection::vec(any::<u8>(), 0..1400), from: u32) {
            let packet = wrap((Ipv4Addr::from_bits(from), 67), (Ipv4Addr::BROADCAST, 68), &payload);
            prop_assert_eq!(unwrap(&packet), Some(&payload[..]));
        }
    }
}
