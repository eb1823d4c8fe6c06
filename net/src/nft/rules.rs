//! What Berth asks of nf_tables, always as a whole: the tables are made anew, from the agent's state, in one
//! transaction at every change.
//!
//! * `guard` runs before connection tracking, so it sees where a packet really wants to go. Nobody but the machine
//!   and other units on the bridge reaches units by their address: from outside, only published ports lead there.
//!   Units do not reach the machine's 127.0.0.0/8, although the bridge routes it (for `output`, below).
//! * `prerouting` and `output` send what comes to a published port to its unit, wherever it comes from: outside,
//!   a unit (by the machine's address), the machine itself (by any of its addresses, 127.0.0.1 too). The gateway's
//!   port 53 is never published: the agent answers there.
//! * `postrouting` gives units the machine's address towards the outside, and makes what the machine (from
//!   127.0.0.1) or a unit sends to a published port come from the gateway, so that a unit can reach its own. What
//!   units send each other directly is marked by `guard`, and keeps its address.
//! * IPv6 is the same without published ports. What comes from the bridge must come from an address of the units' network:
//!   no router advertisement does, so no unit can be the machine's router. Without such a network all of it is dropped.
//! * `forward` lets pass only what comes from units or goes to them: the machine is nobody else's router.
//!
//! Chains, sets and expressions are chosen to need few kernel modules, see [`MODULES`]: neither `ct` nor `fib`.
//! Rules that keep units from metadata addresses belong at the head of `guard`.

use super::{Batch, Expr, Family, Hook, Reg, Set};
use crate::plan::{self, Ipv6Net};
use berth_units::model::{Port, Protocol};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What must be loaded before a unit is attached, in Debian's kernel; the rest comes with these.
pub const MODULES: [&str; 6] = ["bridge", "veth", "nf_tables", "nft_chain_nat", "nft_nat", "nft_masq"];

const TABLE: &str = "berth";
/// Type numbers of `nft`, for whoever looks with it: ipv4_addr, inet_proto, inet_service.
const IP: u32 = 7;
const PROTO: u32 = 12;
const SERVICE: u32 = 13;
const TARGET: (u32, u32) = ((IP << 6) | SERVICE, 8);

/// The machine's own addresses.
const LOCAL: Set = Set { name: "local", key: (IP, 4), data: None };
/// Ports published on all of them.
const EVERYWHERE: Set = Set { name: "published", key: ((PROTO << 6) | SERVICE, 8), data: Some(TARGET) };
/// Ports published on one address.
const AT: Set =
    Set { name: "published_at", key: ((((IP << 6) | PROTO) << 6) | SERVICE, 12), data: Some(TARGET) };

/// The mark of what one unit sends another by its address.
const DIRECT: u32 = 0xbe;

const DROP: Expr = Expr::Verdict(0);
const ACCEPT: Expr = Expr::Verdict(1);
const R0: Reg = Reg(0);
const R1: Reg = Reg(1);
const R2: Reg = Reg(2);

/// Writes both tables: `published` ports with the address that each leads to, `local` addresses of the machine, the units'
/// IPv6 network.
pub fn write(batch: &mut Batch, published: &[(Port, Ipv4Addr)], local: &[Ipv4Addr], ipv6: Option<Ipv6Net>) {
    batch.fresh_table(Family::Ip, TABLE);
    let (everywhere, at) = elements(published);
    let local: BTreeMap<_, _> = local.iter().map(|ip| (ip.octets().to_vec(), Vec::new())).collect();
    for (set, elements) in [(LOCAL, local), (EVERYWHERE, everywhere), (AT, at)] {
        batch.set(Family::Ip, TABLE, set, &elements.into_iter().collect::<Vec<_>>());
    }
    for (name, hook, rules) in chains() {
        batch.chain(Family::Ip, TABLE, name, hook);
        for rule in rules {
            batch.rule(Family::Ip, TABLE, name, &rule);
        }
    }
    batch.fresh_table(Family::Ip6, TABLE);
    for (name, hook, rules) in chains_ipv6(ipv6) {
        batch.chain(Family::Ip6, TABLE, name, hook);
        for rule in rules {
            batch.rule(Family::Ip6, TABLE, name, &rule);
        }
    }
}

type Chain = (&'static str, Hook, Vec<Vec<Expr>>);

/// The IPv6 table's chains.
fn chains_ipv6(net: Option<Ipv6Net>) -> Vec<Chain> {
    let from_bridge = || [Expr::Meta(6, R0), is(plan::BRIDGE)];
    let Some(net) = net else {
        return vec![("guard", GUARD, vec![[&from_bridge()[..], &[DROP]].concat()])];
    };
    let network = || net.bytes().to_vec();
    let guard = vec![
        [&from_bridge()[..], &[Expr::Payload(1, 8, 8, R0), Expr::Differs(network(), R0), DROP]].concat(),
        [&from_bridge()[..], &[ACCEPT]].concat(),
        vec![Expr::Meta(6, R0), is("lo"), ACCEPT],
        vec![Expr::Payload(1, 24, 8, R0), Expr::Equal(network(), R0), DROP],
    ];
    let postrouting = vec![vec![
        Expr::Meta(7, R0),
        Expr::Differs(name(plan::BRIDGE), R0),
        Expr::Payload(1, 8, 8, R0),
        Expr::Equal(network(), R0),
        Expr::Masquerade,
    ]];
    vec![
        ("guard", GUARD, guard),
        ("forward", FORWARD, vec![forward()]),
        ("postrouting", Hook { kind: "nat", number: 4, priority: 100 }, postrouting),
    ]
}

const FORWARD: Hook = Hook { kind: "filter", number: 2, priority: 0 };

/// Neither from nor to the bridge.
fn forward() -> Vec<Expr> {
    let other = || Expr::Differs(name(plan::BRIDGE), R0);
    vec![Expr::Meta(6, R0), other(), Expr::Meta(7, R0), other(), DROP]
}

const GUARD: Hook = Hook { kind: "filter", number: 0, priority: -300 };

/// The IPv4 table's chains.
fn chains() -> [Chain; 5] {
    let from_bridge = || [Expr::Meta(6, R0), is(plan::BRIDGE)];
    let to_bridge = || [Expr::Meta(7, R0), is(plan::BRIDGE)];
    let not_to_bridge = || [Expr::Meta(7, R0), Expr::Differs(name(plan::BRIDGE), R0)];
    let network = || plan::NETWORK.octets().iter().take(usize::from(plan::PREFIX / 8)).copied().collect();
    let bytes = u32::from(plan::PREFIX / 8);
    let source_in_network = || [Expr::Payload(1, 12, bytes, R0), Expr::Equal(network(), R0)];
    let gateway = || plan::GATEWAY.octets().to_vec();

    let to_gateway = || [Expr::Payload(1, 16, 4, R0), Expr::Equal(gateway(), R0)];
    let to_network = || [Expr::Payload(1, 16, bytes, R0), Expr::Equal(network(), R0)];

    let guard = vec![
        [&from_bridge()[..], &to_gateway(), &[ACCEPT]].concat(),
        [&from_bridge()[..], &to_network(), &[Expr::Mark(DIRECT, R0), ACCEPT]].concat(),
        vec![Expr::Meta(6, R0), is("lo"), ACCEPT],
        [&to_network()[..], &[DROP]].concat(),
        [&from_bridge()[..], &[Expr::Payload(1, 16, 1, R0), Expr::Equal(vec![127], R0), DROP]].concat(),
    ];
    let names = [Expr::Payload(2, 2, 2, R0), Expr::Equal(vec![0, 53], R0), ACCEPT];
    let publish = vec![
        [&to_gateway()[..], &names].concat(),
        vec![
            Expr::Payload(1, 16, 4, R0),
            Expr::Meta(16, R1),
            Expr::Payload(2, 2, 2, R2),
            Expr::Lookup(AT.name, R0, Some(R0)),
            Expr::Dnat(R0, R1),
        ],
        vec![
            Expr::Payload(1, 16, 4, R0),
            Expr::Lookup(LOCAL.name, R0, None),
            Expr::Meta(16, R0),
            Expr::Payload(2, 2, 2, R1),
            Expr::Lookup(EVERYWHERE.name, R0, Some(R0)),
            Expr::Dnat(R0, R1),
        ],
    ];
    let not_direct = [Expr::Meta(3, R0), Expr::Differs(DIRECT.to_ne_bytes().to_vec(), R0)];
    let not_from_gateway = [Expr::Payload(1, 12, 4, R0), Expr::Differs(gateway(), R0)];
    let from_loopback = [Expr::Payload(1, 12, 1, R0), Expr::Equal(vec![127], R0)];
    let masquerade = [Expr::Masquerade];
    let postrouting = vec![
        [&not_to_bridge()[..], &source_in_network(), &masquerade].concat(),
        [&to_bridge()[..], &source_in_network(), &not_from_gateway, &not_direct, &masquerade].concat(),
        [&to_bridge()[..], &from_loopback, &masquerade].concat(),
    ];
    let nat = |number, priority| Hook { kind: "nat", number, priority };
    [
        ("guard", GUARD, guard),
        ("forward", FORWARD, vec![forward()]),
        ("prerouting", nat(0, -100), publish.clone()),
        ("output", nat(3, -100), publish),
        ("postrouting", nat(4, 100), postrouting),
    ]
}

type Elements = BTreeMap<Vec<u8>, Vec<u8>>;

/// The elements of both maps. Keys and values are padded as the registers are: each part to four bytes.
fn elements(published: &[(Port, Ipv4Addr)]) -> (Elements, Elements) {
    let (mut everywhere, mut at) = (BTreeMap::new(), BTreeMap::new());
    for (port, unit) in published {
        let number: u8 = match port.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        };
        let service = |port: u16| {
            let [high, low] = port.to_be_bytes();
            [high, low, 0, 0]
        };
        let key = [[number, 0, 0, 0], service(port.host)].concat();
        let target = [unit.octets(), service(port.container)].concat();
        if port.host_address.is_unspecified() {
            everywhere.insert(key, target);
        } else {
            at.insert([&port.host_address.octets()[..], &key].concat(), target);
        }
    }
    (everywhere, at)
}

fn is(interface: &str) -> Expr {
    Expr::Equal(name(interface), R0)
}

/// An interface's name as the kernel has it in a register: 16 bytes.
fn name(interface: &str) -> Vec<u8> {
    let mut bytes = interface.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rules.txt` is what `nft --debug=netlink -f rules.nft` shows, chains and hooks put before their rules.
    #[test]
    fn the_rules_are_what_nft_would_make() {
        let mut text = String::new();
        let net = Ipv6Net::of("0123456789abcdef0123456789abcdef");
        for (name, hook, rules) in chains().into_iter().chain(chains_ipv6(net)) {
            text += &format!("{name}: {} {} {}\n", hook.kind, hook.number, hook.priority);
            for rule in rules {
                rule.iter().for_each(|expr| text += &format!("  {expr}\n"));
                text += "\n";
            }
        }
        assert_eq!(text, include_str!("rules.txt"));
    }

    #[test]
    fn a_port_is_an_element() {
        let port = |host_address, host, protocol| Port { host_address, host, container: 80, protocol };
        let unit = Ipv4Addr::new(10, 88, 0, 2);
        let (everywhere, at) = elements(&[
            (port(Ipv4Addr::UNSPECIFIED, 8080, Protocol::Tcp), unit),
            (port(Ipv4Addr::LOCALHOST, 53, Protocol::Udp), unit),
        ]);
        let target = vec![10, 88, 0, 2, 0, 80, 0, 0];
        assert_eq!(
            everywhere.into_iter().collect::<Vec<_>>(),
            [(vec![6, 0, 0, 0, 31, 144, 0, 0], target.clone())]
        );
        assert_eq!(
            at.into_iter().collect::<Vec<_>>(),
            [(vec![127, 0, 0, 1, 17, 0, 0, 0, 0, 53, 0, 0], target)]
        );
    }
}
