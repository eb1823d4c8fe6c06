//! What the machine config wants of one interface.

use crate::dhcp6::client::Mode;
use crate::links;
use crate::netlink::Link;
use crate::plan;
use berth_units::model::MachineNetwork;
use std::net::IpAddr;

/// What the machine config wants of one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Ask for a lease.
    pub dhcp: bool,
    /// Fixed addresses.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default routes.
    pub gateways: Vec<IpAddr>,
    /// What routers advertise counts.
    pub ra: bool,
    /// Ask DHCPv6 servers; none = as routers say.
    pub dhcp6: Option<bool>,
    /// Further routes.
    pub routes: Vec<Fixed>,
    /// Bytes; DHCP's counts for nothing then.
    pub mtu: Option<u32>,
}

/// A route of the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed {
    /// The network.
    pub to: IpAddr,
    /// Length of its prefix.
    pub prefix: u8,
    /// The router; none = the network is on the link.
    pub via: Option<IpAddr>,
    /// Lower wins.
    pub metric: Option<u32>,
}

impl Settings {
    /// What DHCPv6 servers are asked for. Routers tell in their advertisements whether there are any (RFC 4861, 4.2): the
    /// flag M for addresses, O for the rest.
    pub fn dhcp6(&self, link: &Link) -> Option<Mode> {
        match self.dhcp6 {
            Some(yes) => yes.then_some(Mode::Address),
            None if !self.ra => None,
            None if link.managed => Some(Mode::Address),
            None => link.other.then_some(Mode::Information),
        }
    }
}

/// What `network` wants of `link`; none = leave it alone.
///
/// Without a list of interfaces, every one that is hardware gets DHCP; what software made (a bridge of a program in
/// a host-network unit, a tunnel) has to be named. Members of bonds have nothing of their own; what carries a VLAN, and
/// what we made, is brought up even if no list names it.
pub fn settings(network: &MachineNetwork, link: &Link) -> Option<Settings> {
    if !link.ethernet || link.master != 0 || plan::is_ours(&link.name) || links::is_member(network, link) {
        return None;
    }
    let bare = || links::is_needed(network, link).then(Settings::default);
    let mtu = network.vlans.iter().find(|vlan| vlan.name == link.name).and_then(|vlan| vlan.mtu);
    if network.interfaces.is_empty() && link.kind.is_empty() {
        return Some(Settings { dhcp: true, ra: true, ..Settings::default() });
    }
    let Some(named) = network.interfaces.iter().find(|interface| matches(&interface.matches, link)) else {
        return bare().map(|bare| Settings { mtu, ..bare });
    };
    let addresses = named.addresses.iter().filter_map(|text| address(text)).collect();
    let routes = named.routes.iter().filter_map(|route| {
        let (to, prefix) = address(&route.to)?;
        Some(Fixed { to, prefix, via: route.via, metric: route.metric })
    });
    Some(Settings {
        dhcp: named.dhcp,
        addresses,
        gateways: named.gateways.clone(),
        ra: named.ra,
        dhcp6: named.dhcp6,
        routes: routes.collect(),
        mtu: named.mtu.or(mtu),
    })
}

/// Whether the config's `match` means this interface: its name, or the address that its hardware has, in any spelling.
/// VLANs and bonds have the addresses of others, and are meant by name only.
pub fn matches(wanted: &str, link: &Link) -> bool {
    let mac: Vec<String> =
        link.permanent.unwrap_or(link.mac).iter().map(|byte| format!("{byte:02x}")).collect();
    let made = matches!(link.kind.as_str(), "vlan" | "bond");
    wanted == link.name || (!made && wanted.replace('-', ":").eq_ignore_ascii_case(&mac.join(":")))
}

/// `192.0.2.5/24`; the checker has seen to it that it is one.
fn address(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, prefix) = text.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_units::model::{Bond, Interface, Vlan};

    fn hardware(name: &str) -> Link {
        Link { index: 2, name: name.into(), mac: [2, 0, 0, 0, 0, 0xab], ethernet: true, ..Link::default() }
    }

    #[test]
    fn hardware_gets_dhcp_and_nothing_else_does() {
        let nothing_said = MachineNetwork::default();
        assert!(settings(&nothing_said, &hardware("enp0s3")).unwrap().dhcp);
        let others = [
            Link { kind: "bridge".into(), ..hardware("docker0") },
            Link { master: 7, ..hardware("enp0s4") },
            Link { ethernet: false, ..hardware("lo") },
            Link { kind: "veth".into(), ..hardware("bu0002") },
        ];
        for link in others {
            assert_eq!(settings(&nothing_said, &link), None, "{}", link.name);
        }
    }

    #[test]
    fn members_have_nothing_of_their_own_and_carriers_are_brought_up() {
        let bond = Bond { name: "bond0".into(), interfaces: vec!["eth0".into()], ..Bond::default() };
        let vlan =
            |name: &str, link: &str| Vlan { name: name.into(), link: link.into(), id: 7, mtu: Some(1400) };
        let network = MachineNetwork {
            bonds: vec![bond],
            vlans: vec![vlan("office", "bond0"), vlan("lab", "02:00:00:00:00:ab")],
            interfaces: vec![Interface { matches: "office".into(), ..Interface::default() }],
            ..MachineNetwork::default()
        };
        let made = |kind: &str, name: &str| Link { kind: kind.into(), ..hardware(name) };
        assert_eq!(settings(&network, &hardware("eth0")), None, "not even before it is a member");
        assert_eq!(settings(&network, &made("bond", "bond0")), Some(Settings::default()));
        let office = settings(&network, &made("vlan", "office")).unwrap();
        assert_eq!((office.dhcp, office.ra, office.mtu), (true, true, Some(1400)));
        // By the address that the hardware has, whatever it has now; and no VLAN for having the same.
        let eth1 =
            Link { permanent: Some([2, 0, 0, 0, 0, 0xab]), mac: [2, 0, 0, 0, 0, 1], ..hardware("eth1") };
        assert_eq!(settings(&network, &eth1), Some(Settings::default()));
        assert_eq!(settings(&network, &made("vlan", "other")), None);
        let nothing_listed = MachineNetwork { interfaces: Vec::new(), ..network };
        assert!(settings(&nothing_listed, &hardware("eth1")).unwrap().dhcp);
        assert!(!settings(&nothing_listed, &made("vlan", "office")).unwrap().dhcp);
    }

    #[test]
    fn routers_say_whether_there_is_dhcpv6_unless_the_config_does() {
        let link = |managed, other| Link { managed, other, ..hardware("eth0") };
        let of = |dhcp6, ra, link: &Link| Settings { dhcp6, ra, ..Settings::default() }.dhcp6(link);
        assert_eq!(of(None, true, &link(false, false)), None);
        assert_eq!(of(None, true, &link(false, true)), Some(Mode::Information));
        assert_eq!(of(None, true, &link(true, true)), Some(Mode::Address));
        assert_eq!(of(None, false, &link(true, true)), None, "nobody listens to them");
        assert_eq!(of(Some(true), false, &link(false, false)), Some(Mode::Address));
        assert_eq!(of(Some(false), true, &link(true, true)), None);
    }

    #[test]
    fn a_list_means_those_in_it() {
        let interface = Interface {
            matches: "02-00-00-00-00-AB".into(),
            dhcp: false,
            addresses: vec!["192.0.2.5/24".into(), "2001:db8::5/64".into()],
            gateways: vec![IpAddr::from([192, 0, 2, 1])],
            ..Interface::default()
        };
        let network = MachineNetwork { interfaces: vec![interface], ..MachineNetwork::default() };
        let found = settings(&network, &Link { kind: "veth".into(), ..hardware("v0") }).unwrap();
        assert!(!found.dhcp);
        assert_eq!(found.addresses.len(), 2);
        assert_eq!(settings(&network, &Link { mac: [0; 6], ..hardware("eth0") }), None);
        assert!(matches("eth0", &hardware("eth0")) && !matches("eth", &hardware("eth0")));
    }
}
