//! Whose name is what. Names of units are `web`, and `web.berth.internal` for programs that want a domain; addresses
//! of the units' network have names, too. All of these are ours alone: what is asked about them never leaves the
//! machine, whether or not there is an answer.

use crate::plan::{self, Ipv6Net};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The domain of units; `internal` is nobody's on the Internet, by ICANN's word.
pub const DOMAIN: &str = "berth.internal";

/// What is known about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<'a> {
    /// Units that answer to it, perhaps none at present.
    Units(&'a [String]),
    /// An address of the units' network, asked for its name.
    Address(IpAddr),
    /// Ours, and there is nothing of that name.
    Nothing,
    /// Not ours.
    Elsewhere,
}

/// DNS names, and the units in service behind each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(BTreeMap<String, Vec<String>>);

impl Table {
    /// As PID 1 has it.
    pub fn new(names: BTreeMap<String, Vec<String>>) -> Self {
        Self(names.into_iter().map(|(name, units)| (name.to_ascii_lowercase(), units)).collect())
    }

    /// Looks a name up: in lower case, without a dot at its end. `ipv6`: the units' network.
    pub fn find(&self, name: &str, ipv6: Option<Ipv6Net>) -> Found<'_> {
        if let Some(units) = self.0.get(name) {
            return Found::Units(units);
        }
        if let Some(rest) = name.strip_suffix(DOMAIN) {
            match rest.strip_suffix('.') {
                Some(short) => return self.0.get(short).map_or(Found::Nothing, |units| Found::Units(units)),
                None if rest.is_empty() => return Found::Units(&[]),
                None => {}
            }
        }
        let ipv6 = reverse_ipv6(name).filter(|ip| ipv6.is_some_and(|net| net.contains(*ip)));
        ipv6.map(|ip| Found::Address(ip.into())).or_else(|| reverse(name)).unwrap_or(Found::Elsewhere)
    }
}

/// A name of the tree of addresses (RFC 1035, 3.5; RFC 3596, 2.5), if it is below the units' networks.
fn reverse(name: &str) -> Option<Found<'static>> {
    let digits: Vec<&str> = name.strip_suffix(".in-addr.arpa")?.split('.').rev().collect();
    let ours = plan::NETWORK.octets();
    let known = usize::from(plan::PREFIX / 8);
    if digits.len() < known
        || digits.iter().zip(ours).take(known).any(|(digit, byte)| *digit != byte.to_string())
    {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits.iter().map(|digit| digit.parse().ok()).collect();
    let address = bytes.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    Some(address.map_or(Found::Nothing, |bytes| Found::Address(Ipv4Addr::from(bytes).into())))
}

/// The IPv6 address whose name is asked for (RFC 3596, 2.5): 32 digits, the last one first.
fn reverse_ipv6(name: &str) -> Option<Ipv6Addr> {
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').collect();
    if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
        return None;
    }
    let text: String = digits.into_iter().rev().collect();
    u128::from_str_radix(&text, 16).ok().map(Ipv6Addr::from_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_stays_here() {
        let names = [
            ("web".to_owned(), vec!["web.1".to_owned(), "web.2".to_owned()]),
            ("web.1".to_owned(), vec!["web.1".to_owned()]),
            ("db".to_owned(), Vec::new()),
        ];
        let table = Table::new(names.into());
        let both = ["web.1".to_owned(), "web.2".to_owned()];
        assert_eq!(table.find("web", None), Found::Units(&both));
        assert_eq!(table.find("web.berth.internal", None), Found::Units(&both));
        assert_eq!(table.find("web.1", None), Found::Units(&both[..1]));
        assert_eq!(table.find("db", None), Found::Units(&[]));
        assert_eq!(table.find("berth.internal", None), Found::Units(&[]));
        for nothing in ["wbe.berth.internal", "88.10.in-addr.arpa", "x.0.88.10.in-addr.arpa"] {
            assert_eq!(table.find(nothing, None), Found::Nothing, "{nothing}");
        }
        assert_eq!(table.find("2.0.88.10.in-addr.arpa", None), Found::Address([10, 88, 0, 2].into()));
        let net = Ipv6Net::of("0123456789abcdef0123456789abcdef").unwrap();
        let digits = format!("{:032x}", net.gateway().to_bits());
        let digits: Vec<String> = digits.chars().rev().map(String::from).collect();
        let name = format!("{}.ip6.arpa", digits.join("."));
        assert_eq!(table.find(&name, Some(net)), Found::Address(net.gateway().into()));
        assert_eq!(table.find(&name, None), Found::Elsewhere);
        let others = [
            "wbe",
            "",
            "web.example.org",
            "xberth.internal",
            "db.web",
            "10.in-addr.arpa",
            "2.0.89.10.in-addr.arpa",
            "2.0.88.10.in-addr.arpa.example",
        ];
        for other in others {
            assert_eq!(table.find(other, None), Found::Elsewhere, "{other}");
        }
    }
}
