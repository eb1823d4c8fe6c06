//! The keys of both versions, by cloud-init's schemas of its release 25.1 and, of version 2, what netplan has besides.

use crate::translation::{Is, Key, deep, key};

const BRIDGES: &str = "there are no bridges on the machine's own interfaces; units have their own";
const FIRST_MAC: &str = "it has the address of the interface below it";
const NO_WAIT: &str = "no start waits for the network";
const OWN_MAC: &str = "an interface keeps its own hardware address";
const BOND: &str = "this parameter of a bond cannot be set; the kernel's default holds";
const DHCP_NAME: &str = "no name is asked for or taken by DHCP";

/// Version 1: the document.
pub const V1: &[Key] =
    &[key("version", Is::Part, "1"), deep("config", Is::Part, "each entry by its `type`", &[])];

/// An entry of version 1 of type `physical`.
pub const PHYSICAL: &[Key] = &[
    key("type", Is::Part, "`physical`"),
    key("name", Is::Part, "`match`, if there is no `mac_address`; what others refer to"),
    key("mac_address", Is::Part, "`match`"),
    key("mtu", Is::Part, "`mtu`"),
    deep("subnets", Is::Part, "see below", SUBNET),
    key("accept-ra", Is::Part, "`ra`"),
    key("wakeonlan", Is::NoOp, "the firmware's setting stays"),
    key("optional", Is::NoOp, NO_WAIT),
];

/// Of type `bond`.
pub const BOND_V1: &[Key] = &[
    key("type", Is::Part, "`bond`"),
    key("name", Is::Part, "`name` of `[[network.bond]]`"),
    key("bond_interfaces", Is::Part, "`interfaces`"),
    key("mtu", Is::Part, "`mtu`"),
    key("params", Is::Part, "see below"),
    deep("subnets", Is::Part, "see below", SUBNET),
    key("accept-ra", Is::Part, "`ra`"),
    key("mac_address", Is::NoOp, FIRST_MAC),
];

/// Of type `vlan`.
pub const VLAN_V1: &[Key] = &[
    key("type", Is::Part, "`vlan`"),
    key("name", Is::Part, "`name` of `[[network.vlan]]`"),
    key("vlan_link", Is::Part, "`link`"),
    key("vlan_id", Is::Part, "`id`"),
    key("mtu", Is::Part, "`mtu`"),
    deep("subnets", Is::Part, "see below", SUBNET),
    key("accept-ra", Is::Part, "`ra`"),
    key("mac_address", Is::NoOp, FIRST_MAC),
];

/// Of type `nameserver`.
pub const NAMESERVER: &[Key] = &[
    key("type", Is::Part, "`nameserver`"),
    key("address", Is::Part, "`[network] dns`"),
    key("search", Is::Part, "`[network] search`"),
    key("interface", Is::NoOp, "name servers are the machine's, not one interface's"),
];

/// Of type `route`, and an entry of a subnet's `routes`.
pub const ROUTE_V1: &[Key] = &[
    key("type", Is::Part, "`route`"),
    key("destination", Is::Part, "`to`"),
    key("network", Is::Part, "`to`"),
    key("netmask", Is::Part, "the length of `to`'s prefix"),
    key("prefix", Is::Part, "the length of `to`'s prefix"),
    key("gateway", Is::Part, "`via`; of a route of its own, it says which interface"),
    key("metric", Is::Part, "`metric`"),
];

/// An entry of `subnets`.
pub const SUBNET: &[Key] = &[
    key(
        "type",
        Is::Part,
        "`dhcp`, `dhcp4`: `dhcp`; `dhcp6`, `ipv6_dhcpv6-stateful`: `dhcp6`; `ipv6_slaac`, `ipv6_dhcpv6-stateless`: `ra`; `static`, \
         `static6`: `address`; `manual`: none",
    ),
    key("address", Is::Part, "`address`"),
    key("netmask", Is::Part, "the length of `address`'s prefix"),
    key("prefix", Is::Part, "the length of `address`'s prefix"),
    key("gateway", Is::Part, "`gateway`"),
    key("dns_nameservers", Is::Part, "`[network] dns`"),
    key("dns_search", Is::Part, "`[network] search`"),
    deep("routes", Is::Part, "`routes`", ROUTE_V1),
    key("control", Is::Part, "`auto`, `hotplug`; `manual` is refused"),
    key("broadcast", Is::NoOp, "it follows from address and prefix"),
    key("scope", Is::NoOp, "it follows from the address"),
    key("ipv4", Is::NoOp, "the address says it"),
    key("ipv6", Is::NoOp, "the address says it"),
    key("metric", Is::Refused, "routes of a subnet have no metric of their own; write it with a route"),
    key("pointopoint", Is::Refused, "write the peer as a route without a gateway"),
];

/// Version 2: the document.
pub const V2: &[Key] = &[
    key("version", Is::Part, "2"),
    key("renderer", Is::NoOp, "Berth has one network agent"),
    deep("ethernets", Is::Part, "`[[network.interface]]`", ETHERNET),
    deep("bonds", Is::Part, "`[[network.bond]]`", BOND_V2),
    deep("vlans", Is::Part, "`[[network.vlan]]`", VLAN_V2),
    key("bridges", Is::Refused, BRIDGES),
    key("wifis", Is::Refused, "there is no wireless network"),
    key("modems", Is::Refused, "there are no modems"),
    key(
        "tunnels",
        Is::Refused,
        "the machine makes no tunnels; run one as a unit with mode = host and NET_ADMIN",
    ),
    key("vrfs", Is::Refused, "there is one routing table"),
    key("dummy-devices", Is::Refused, "the machine makes no such devices"),
    key("virtual-ethernets", Is::Refused, "the machine makes no such devices"),
    key("nm-devices", Is::Refused, "NetworkManager is not here"),
    key("openvswitch", Is::Refused, BRIDGES),
];

macro_rules! interface {
    ($($own:expr),* $(,)?) => {
        &[
            $($own,)*
            key("dhcp4", Is::Part, "`dhcp`"),
            key("dhcp6", Is::Part, "`dhcp6`"),
            key("accept-ra", Is::Part, "`ra`"),
            key("addresses", Is::Part, "`address`"),
            key("gateway4", Is::Part, "`gateway`"),
            key("gateway6", Is::Part, "`gateway`"),
            key("mtu", Is::Part, "`mtu`"),
            deep("nameservers", Is::Part, "`[network] dns` and `search`, for all interfaces", NAMESERVERS),
            deep("routes", Is::Part, "`routes`; to `default` without a metric, `gateway`", ROUTE_V2),
            deep("dhcp4-overrides", Is::Part, "as far as it asks for what holds anyway", OVERRIDES),
            deep("dhcp6-overrides", Is::Part, "as far as it asks for what holds anyway", OVERRIDES),
            key("renderer", Is::NoOp, "Berth has one network agent"),
            key("optional", Is::NoOp, NO_WAIT),
            key("optional-addresses", Is::NoOp, NO_WAIT),
            key("critical", Is::NoOp, "addresses stay while the agent is replaced"),
            key("dhcp-identifier", Is::NoOp, "DHCP goes by the hardware address"),
            key("ignore-carrier", Is::NoOp, "an interface is set up without a carrier, too"),
            key("ipv6-privacy", Is::NoOp, "a server's addresses do not change"),
            key("link-local", Is::Refused, "link-local addresses are the kernel's; leave it out"),
            key("routing-policy", Is::Refused, "there is one routing table"),
            key("activation-mode", Is::Refused, "an interface that is named is up; leave out those that are not to be"),
            key("ipv6-mtu", Is::Refused, "there is one mtu"),
            key("ipv6-address-generation", Is::Refused, "addresses are made of the hardware address"),
            key("ipv6-address-token", Is::Refused, "addresses are made of the hardware address; write this one in addresses"),
        ]
    };
}

/// An entry of `ethernets`.
pub const ETHERNET: &[Key] = interface![
    deep("match", Is::Part, "`match`", MATCH),
    key("set-name", Is::NoOp, "interfaces keep their names"),
    key("wakeonlan", Is::NoOp, "the firmware's setting stays"),
    key("macaddress", Is::Refused, OWN_MAC),
];

/// An entry of `bonds`.
pub const BOND_V2: &[Key] = interface![
    key("interfaces", Is::Part, "`interfaces`"),
    deep("parameters", Is::Part, "see below", PARAMETERS),
    key("macaddress", Is::NoOp, FIRST_MAC),
];

/// An entry of `vlans`.
pub const VLAN_V2: &[Key] = interface![
    key("id", Is::Part, "`id`"),
    key("link", Is::Part, "`link`"),
    key("macaddress", Is::NoOp, FIRST_MAC),
];

/// `match`.
pub const MATCH: &[Key] = &[
    key("macaddress", Is::Part, "`match`"),
    key("name", Is::Part, "`match`, if there is no `macaddress`"),
    key("driver", Is::Refused, "a driver matches whatever it drives; name the interface, or its MAC address"),
];

/// `nameservers`.
pub const NAMESERVERS: &[Key] =
    &[key("addresses", Is::Part, "`[network] dns`"), key("search", Is::Part, "`[network] search`")];

/// An entry of `routes`.
pub const ROUTE_V2: &[Key] = &[
    key("to", Is::Part, "`to`"),
    key("via", Is::Part, "`via`"),
    key("metric", Is::Part, "`metric`"),
    key("on-link", Is::Part, "`true`: a route to `via` itself in front"),
    key("type", Is::Refused, "there are no other types of routes"),
    key("scope", Is::NoOp, "it follows from via"),
    key("table", Is::Refused, "there is one routing table"),
    key("from", Is::Refused, "the source follows from the interface's addresses"),
    key("mtu", Is::Refused, "a route has no mtu of its own"),
];

/// `dhcp4-overrides`, `dhcp6-overrides`. What is refused is so unless it is what holds anyway.
pub const OVERRIDES: &[Key] = &[
    key("hostname", Is::NoOp, DHCP_NAME),
    key("send-hostname", Is::NoOp, DHCP_NAME),
    key("use-hostname", Is::NoOp, DHCP_NAME),
    key("use-dns", Is::Part, "`false` needs name servers of its own, which replace those learned"),
    key("use-ntp", Is::Part, "`false` is refused: `[time] servers` says whose time it is"),
    key(
        "use-routes",
        Is::Part,
        "`false` is refused: with an address by DHCP its routes are taken; give the address itself",
    ),
    key("use-mtu", Is::Part, "`false` is refused: an mtu of its own counts more"),
    key("use-domains", Is::Part, "`false` is refused: search domains of its own replace those learned"),
    key("route-metric", Is::Part, "with one interface it decides nothing; with several it is refused"),
];

/// `parameters` of a bond, and `params` of version 1 without `bond-` in front.
pub const PARAMETERS: &[Key] = &[
    key("mode", Is::Part, "`mode`"),
    key("lacp-rate", Is::Part, "`lacp_rate`"),
    key("mii-monitor-interval", Is::Part, "`miimon`"),
    key("miimon", Is::Part, "`miimon`"),
    key("transmit-hash-policy", Is::Part, "`xmit_hash_policy`"),
    key("xmit-hash-policy", Is::Part, "`xmit_hash_policy`"),
    key("primary", Is::Part, "`primary`"),
    key("slaves", Is::NoOp, "the bond names its interfaces"),
    key("min-links", Is::Refused, BOND),
    key("ad-select", Is::Refused, BOND),
    key("all-slaves-active", Is::Refused, BOND),
    key("all-members-active", Is::Refused, BOND),
    key("arp-interval", Is::Refused, BOND),
    key("arp-ip-target", Is::Refused, BOND),
    key("arp-ip-targets", Is::Refused, BOND),
    key("arp-validate", Is::Refused, BOND),
    key("arp-all-targets", Is::Refused, BOND),
    key("up-delay", Is::Refused, BOND),
    key("updelay", Is::Refused, BOND),
    key("down-delay", Is::Refused, BOND),
    key("downdelay", Is::Refused, BOND),
    key("fail-over-mac", Is::Refused, BOND),
    key("fail-over-mac-policy", Is::Refused, BOND),
    key("gratuitous-arp", Is::Refused, BOND),
    key("gratuitious-arp", Is::Refused, BOND),
    key("packets-per-slave", Is::Refused, BOND),
    key("packets-per-member", Is::Refused, BOND),
    key("primary-reselect", Is::Refused, BOND),
    key("primary-reselect-policy", Is::Refused, BOND),
    key("learn-packet-interval", Is::Refused, BOND),
    key("resend-igmp", Is::Refused, BOND),
    key("ad-actor-key", Is::Refused, BOND),
    key("ad-actor-sys-prio", Is::Refused, BOND),
    key("ad-actor-system", Is::Refused, BOND),
    key("ad-aggregator", Is::Refused, BOND),
    key("ad-num-ports", Is::Refused, BOND),
    key("ad-partner-key", Is::Refused, BOND),
    key("ad-partner-mac", Is::Refused, BOND),
    key("ad-user-port-key", Is::Refused, BOND),
    key("active-slave", Is::Refused, BOND),
    key("lp-interval", Is::Refused, BOND),
    key("mii-status", Is::Refused, BOND),
    key("num-grat-arp", Is::Refused, BOND),
    key("num-unsol-na", Is::Refused, BOND),
    key("peer-notif-delay", Is::Refused, BOND),
    key("queue-id", Is::Refused, BOND),
    key("tlb-dynamic-lb", Is::Refused, BOND),
    key("use-carrier", Is::Refused, BOND),
];

/// Types of version 1 that are not looked into.
pub const REFUSED_TYPES: &[(&str, &str)] =
    &[("bridge", BRIDGES), ("infiniband", "there is no InfiniBand; take this entry out")];
