//! Name servers from router advertisements (RFC 8106). The kernel does SLAAC itself, and hands the options that it has
//! no use for to whoever listens: `RTM_NEWNDUSEROPT` (the kernel's `rtnetlink.h`).
//!
//! A server counts as long as its router says. Link-local ones are left out: a unit could not reach them. What routers
//! said before this agent started is not known; they say it again (RFC 4861: every ten minutes, by default).

use crate::limits;
use crate::netlink::UserOption;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Router advertisement (RFC 4861).
const ADVERTISEMENT: u8 = 134;
/// The option (RFC 8106, 5.1).
const RDNSS: u8 = 25;
/// A lifetime without an end.
const FOR_EVER: u32 = u32::MAX;

/// The servers of each interface, in the order in which they were heard of, and until when they count.
#[derive(Debug, Default)]
pub struct Rdnss {
    servers: BTreeMap<u32, Vec<(Ipv6Addr, Option<Duration>)>>,
}

impl Rdnss {
    /// Takes in an option; true if it was one about name servers.
    pub fn hear(&mut self, option: &UserOption<'_>, now: Duration) -> bool {
        let Some((lifetime, addresses)) = parse(option) else { return false };
        let servers = self.servers.entry(option.index).or_default();
        let until = (lifetime != FOR_EVER).then(|| now.saturating_add(Duration::from_secs(lifetime.into())));
        for address in addresses.filter(usable) {
            let known = servers.iter().position(|(server, _)| *server == address);
            match known {
                Some(at) if lifetime == 0 => drop(servers.remove(at)),
                Some(at) => servers[at].1 = until,
                None if lifetime == 0 || servers.len() >= limits::RDNSS_SERVERS => {}
                None => servers.push((address, until)),
            }
        }
        true
    }

    /// Forgets what has passed, and interfaces that `there` knows nothing of or that lost their carrier.
    pub fn forget(&mut self, now: Duration, there: impl Fn(u32) -> bool) {
        self.servers.retain(|index, servers| {
            servers.retain(|(_, until)| until.is_none_or(|until| until > now));
            !servers.is_empty() && there(*index)
        });
    }

    /// When the next one passes.
    pub fn deadline(&self) -> Option<Duration> {
        self.servers.values().flatten().filter_map(|(_, until)| *until).min()
    }

    /// All of them.
    pub fn servers(&self) -> impl Iterator<Item = IpAddr> {
        self.servers.values().flatten().map(|(server, _)| IpAddr::from(*server))
    }
}

/// Lifetime in seconds, and the addresses.
fn parse<'a>(option: &UserOption<'a>) -> Option<(u32, impl Iterator<Item = Ipv6Addr> + 'a)> {
    // Type, length in units of 8 bytes, two bytes reserved, lifetime, addresses.
    let bytes = option.bytes;
    let length = usize::from(*bytes.get(1)?) * 8;
    let sound = option.message == ADVERTISEMENT && bytes.first() == Some(&RDNSS) && length >= 24;
    let body = bytes.get(..length).filter(|_| sound)?;
    let lifetime = u32::from_be_bytes(*body.get(4..)?.first_chunk()?);
    let addresses = body.get(8..)?.chunks_exact(16).filter_map(|chunk| chunk.first_chunk::<16>());
    Some((lifetime, addresses.map(|octets| Ipv6Addr::from(*octets))))
}

fn usable(address: &Ipv6Addr) -> bool {
    !address.is_unicast_link_local()
        && !address.is_multicast()
        && !address.is_unspecified()
        && !address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(lifetime: u32, addresses: &[&str]) -> Vec<u8> {
        let mut bytes = vec![RDNSS, u8::try_from(1 + 2 * addresses.len()).unwrap(), 0, 0];
        bytes.extend(lifetime.to_be_bytes());
        bytes.extend(addresses.iter().flat_map(|a| a.parse::<Ipv6Addr>().unwrap().octets()));
        bytes
    }

    fn hear(rdnss: &mut Rdnss, index: u32, bytes: &[u8], now: u64) -> bool {
        rdnss.hear(&UserOption { index, message: ADVERTISEMENT, bytes }, Duration::from_secs(now))
    }

    fn all(rdnss: &Rdnss) -> Vec<String> {
        rdnss.servers().map(|server| server.to_string()).collect()
    }

    #[test]
    fn servers_count_as_long_as_their_router_says() {
        let mut rdnss = Rdnss::default();
        assert!(hear(&mut rdnss, 2, &bytes(60, &["2001:db8::53", "fe80::1", "::", "2001:db8::54"]), 0));
        hear(&mut rdnss, 3, &bytes(FOR_EVER, &["2001:db8:1::53"]), 0);
        assert_eq!(all(&rdnss), ["2001:db8::53", "2001:db8::54", "2001:db8:1::53"]);
        hear(&mut rdnss, 2, &bytes(600, &["2001:db8::54"]), 30);
        assert_eq!(rdnss.deadline(), Some(Duration::from_secs(60)));
        rdnss.forget(Duration::from_secs(60), |_| true);
        assert_eq!(all(&rdnss), ["2001:db8::54", "2001:db8:1::53"]);
        hear(&mut rdnss, 2, &bytes(0, &["2001:db8::54", "2001:db8::55"]), 61);
        assert_eq!(all(&rdnss), ["2001:db8:1::53"]);
        rdnss.forget(Duration::from_secs(61), |index| index == 2);
        assert_eq!((all(&rdnss).len(), rdnss.deadline()), (0, None));
    }

    #[test]
    fn other_options_and_damage_are_no_news() {
        let mut rdnss = Rdnss::default();
        let good = bytes(60, &["2001:db8::53"]);
        let message = UserOption { index: 2, message: 133, bytes: &good };
        assert!(!rdnss.hear(&message, Duration::ZERO));
        for end in 0..good.len() {
            assert!(!hear(&mut rdnss, 2, &good[..end], 0), "{end} bytes");
        }
        assert!(!hear(&mut rdnss, 2, &[&[31], &good[1..]].concat(), 0));
        assert!(!hear(&mut rdnss, 2, &bytes(60, &[]), 0));
        assert_eq!(all(&rdnss).len(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it_and_it_is_bounded(options in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..20)) {
            let mut rdnss = Rdnss::default();
            for mut bytes in options {
                if let [kind, length, ..] = &mut bytes[..] {
                    (*kind, *length) = (RDNSS, *length % 10);
                }
                hear(&mut rdnss, 2, &bytes, 0);
            }
            prop_assert!(rdnss.servers().count() <= limits::RDNSS_SERVERS);
        }
    }
}
