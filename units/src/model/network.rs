//! `[network]` of the machine config.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// `[network]` of the machine config; serialisable because PID 1 hands it to the network agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MachineNetwork {
    /// `[[network.interface]]`; empty = DHCP and SLAAC on every Ethernet interface.
    pub interfaces: Vec<Interface>,
    /// `[[network.vlan]]`.
    pub vlans: Vec<Vlan>,
    /// `[[network.bond]]`.
    pub bonds: Vec<Bond>,
    /// `network.dns`: name servers, instead of those learned.
    pub dns: Vec<IpAddr>,
    /// `network.search`: domains, instead of those learned.
    pub search: Vec<String>,
}

/// `[[network.interface]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// `match`: interface name or MAC address.
    pub matches: String,
    /// `dhcp` (default true unless `address` is given).
    pub dhcp: bool,
    /// `dhcp6`; none = as routers say.
    pub dhcp6: Option<bool>,
    /// `ra`: what routers advertise counts.
    pub ra: bool,
    /// `address`: `"192.0.2.5/24"`, IPv4 or IPv6.
    pub addresses: Vec<String>,
    /// `gateway`: IPv4 and/or IPv6.
    pub gateways: Vec<IpAddr>,
    /// `routes`.
    pub routes: Vec<StaticRoute>,
    /// `mtu`: bytes.
    pub mtu: Option<u32>,
}

impl Default for Interface {
    fn default() -> Self {
        Self {
            matches: String::new(),
            dhcp: true,
            dhcp6: None,
            ra: true,
            addresses: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            mtu: None,
        }
    }
}

/// One of an interface's `routes`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StaticRoute {
    /// `to`: `"10.0.0.0/8"`, IPv4 or IPv6.
    pub to: String,
    /// `via`: the router; none = the network is on the link itself.
    pub via: Option<IpAddr>,
    /// `metric`: lower wins; none = that of the interface's other routes.
    pub metric: Option<u32>,
}

/// `[[network.vlan]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Vlan {
    /// `name` of the interface that is made.
    pub name: String,
    /// `link`: name or MAC address of the interface that carries it, or a bond's name.
    pub link: String,
    /// `id`, from 1 to 4094.
    pub id: u16,
    /// `mtu`: bytes.
    pub mtu: Option<u32>,
}

/// `[[network.bond]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bond {
    /// `name` of the interface that is made.
    pub name: String,
    /// `interfaces`: names or MAC addresses of the members.
    pub interfaces: Vec<String>,
    /// `mode`, one of [`BOND_MODES`].
    pub mode: String,
    /// `miimon`: milliseconds.
    pub miimon: u32,
    /// `lacp_rate`, one of [`LACP_RATES`].
    pub lacp_rate: Option<String>,
    /// `xmit_hash_policy`, one of [`BOND_HASHES`].
    pub xmit_hash_policy: Option<String>,
    /// `primary`: one of the members, in the same words.
    pub primary: Option<String>,
}

impl Default for Bond {
    fn default() -> Self {
        Self {
            name: String::new(),
            interfaces: Vec::new(),
            mode: String::new(),
            miimon: 100,
            lacp_rate: None,
            xmit_hash_policy: None,
            primary: None,
        }
    }
}

/// Modes of a bond, in the order of the kernel's numbers (`if_bonding.h`).
pub const BOND_MODES: [&str; 7] =
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];
/// A bond's `lacp_rate`, in the order of the kernel's numbers.
pub const LACP_RATES: [&str; 2] = ["slow", "fast"];
/// A bond's `xmit_hash_policy`, in the order of the kernel's numbers.
pub const BOND_HASHES: [&str; 6] = ["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"];
