//! DHCPv6, the client's side (RFC 8415): one identity association for addresses, or only what else a network tells.
//!
//! [`message`] reads and writes what DHCPv6 servers say, [`client`] decides what to do next (pure, as
//! [`crate::dhcp::client`]), [`port`] is the socket. Left out: prefixes, temporary addresses, the rapid commit, Confirm
//! (a cable that was out is answered by Solicit with the addresses as a wish), Release and Reconfigure.

pub mod client;
pub mod message;
pub mod port;

pub use message::{Message, parse};

/// The servers' and relays' UDP port.
pub const SERVER_PORT: u16 = 547;
/// The client's UDP port.
pub const CLIENT_PORT: u16 = 546;

/// What a machine calls itself: its id as a UUID (RFC 6355), the same on every interface and after every boot; by the
/// hardware address (DUID-LL) if the id is none.
pub fn duid(machine_id: &str, mac: [u8; 6]) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(machine_id.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..16).map(|n| byte(n * 2)).collect();
    match bytes.filter(|_| machine_id.len() == 32) {
        Some(bytes) => [&[0, 4][..], &bytes].concat(),
        None => [&[0, 3, 0, 1][..], &mac].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_called_by_its_id() {
        let mac = [2, 0, 0, 0, 0, 9];
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(duid(id, mac)[..4], [0, 4, 1, 0x23]);
        assert_eq!(duid(id, mac).len(), 18);
        for bad in ["", "0123", "g123456789abcdef0123456789abcdef", "ü123456789abcdef0123456789abcde"] {
            assert_eq!(duid(bad, mac), [0, 3, 0, 1, 2, 0, 0, 0, 0, 9], "{bad}");
        }
    }
}
