//! The few `NETLINK_ROUTE` messages that the agent needs: links, addresses, routes, neighbours.
//!
//! Numbers are those of the kernel's `if_link.h`, `if_addr.h`, `rtnetlink.h`, `neighbour.h` and `ip.h`.

mod made;

pub use made::{BondOptions, Veth};

use super::wire::{Writer, attrs, text, u16_at, u32_at};
use super::{CREATE, DUMP, EXCL, Frame, REPLACE, Result, Socket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const NEWNEIGH: u16 = 28;
const NEWRULE: u16 = 32;
const NEWNDUSEROPT: u16 = 68;

/// Multicast groups that tell of links, of both kinds of addresses (`RTMGRP_*`), and of what routers advertise beyond
/// what the kernel deals with itself: their flags (`RTMGRP_IPV6_IFINFO`), their options (`RTNLGRP_ND_USEROPT`).
pub const EVENTS: u32 = 0x1 | 0x10 | 0x100 | 0x800 | 1 << 19;

const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;

/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// `struct ifaddrmsg`.
const ADDR_HEADER: usize = 8;
/// `struct nduseroptmsg`.
const USER_OPTION_HEADER: usize = 16;

const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_LOWER_UP: u32 = 0x1_0000;
const ARPHRD_ETHER: u16 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_LINK: u16 = 5;
const IFLA_MAX_MTU: u16 = 51;
const IFLA_PERM_ADDRESS: u16 = 54;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_DATA: u16 = 5;
const BRPORT_STATE: u16 = 1;
/// `BR_STATE_FORWARDING`.
const FORWARDING: u8 = 3;
/// `IF_OPER_UP`.
const OPER_UP: u8 = 6;
const INET_CONF: u16 = 1;
const INET6_FLAGS: u16 = 1;
/// `IF_RA_MANAGED`, `IF_RA_OTHERCONF` (the kernel's `if_inet6.h`).
const RA_MANAGED: u32 = 0x40;
const RA_OTHER: u32 = 0x80;
const INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`: no link-local address, so no IPv6 of its own.
const ADDR_GEN_NONE: u8 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;

const IFA_F_NODAD: u8 = 0x02;
/// `IFA_F_TENTATIVE | IFA_F_DADFAILED`.
const NOT_USABLE: u8 = 0x40 | 0x08;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RT_TABLE_MAIN: u8 = 254;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;

const FRA_DST: u16 = 1;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_UID_RANGE: u16 = 20;
const FRA_IP_PROTO: u16 = 22;
const FRA_DPORT_RANGE: u16 = 24;
/// `FR_ACT_PROHIBIT`.
const PROHIBIT: u8 = 8;
const TCP: u8 = 6;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NTF_MASTER: u8 = 0x04;

/// Per-interface IPv4 settings that netlink can change (the others need `/proc/sys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Conf {
    /// Forward what comes in here.
    Forwarding = 1,
    /// Tell senders of a shorter way; also wherever the setting for all interfaces says so.
    SendRedirects = 6,
    /// 1 = drop what would not be answered through here.
    RpFilter = 8,
    /// Treat 127.0.0.0/8 as any other network.
    RouteLocalnet = 26,
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What it is for, where somebody said so (`IFLA_IFALIAS`).
    pub alias: String,
    /// Hardware address; zero if it has none of six bytes.
    pub mac: [u8; 6],
    /// The address that the hardware has of itself, where the kernel knows of one; a bond's member may have another now.
    pub permanent: Option<[u8; 6]>,
    /// Index of the interface that it is made of: a vlan's; 0 = none, or one in another network namespace.
    pub link: u32,
    /// Present MTU.
    pub mtu: u32,
    /// Largest MTU that the driver takes; 0 = no limit known.
    pub max_mtu: u32,
    /// Ethernet, and not the loopback.
    pub ethernet: bool,
    /// Administratively up.
    pub up: bool,
    /// A cable, and somebody at its other end.
    pub carrier: bool,
    /// Packets really go out by it: the kernel sets that a little later than `carrier`.
    pub works: bool,
    /// As a port of a bridge: packets go to and from the bridge.
    pub forwards: bool,
    /// Index of the bridge or bond that it belongs to; 0 = none.
    pub master: u32,
    /// Routers say that addresses are to be had by DHCPv6.
    pub managed: bool,
    /// Routers say that what is no address is to be had by DHCPv6.
    pub other: bool,
    /// Kind of a software interface (`veth`, `bridge`, …); empty for hardware.
    pub kind: String,
}

impl Link {
    /// From the body of a `RTM_NEWLINK`.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let flags = u32_at(body, 8)?;
        let mut link = Self {
            index: u32_at(body, 4)?,
            ethernet: u16_at(body, 2)? == ARPHRD_ETHER && flags & IFF_LOOPBACK == 0,
            up: flags & IFF_UP != 0,
            carrier: flags & IFF_LOWER_UP != 0,
            ..Self::default()
        };
        for (kind, value) in attrs(body.get(LINK_HEADER..)?) {
            match kind {
                IFLA_ADDRESS => link.mac = value.try_into().unwrap_or_default(),
                IFLA_PERM_ADDRESS => link.permanent = value.try_into().ok(),
                IFLA_LINK => link.link = u32_at(value, 0)?,
                IFLA_IFNAME => link.name = text(value),
                IFLA_IFALIAS => link.alias = text(value),
                IFLA_MTU => link.mtu = u32_at(value, 0)?,
                IFLA_MAX_MTU => link.max_mtu = u32_at(value, 0)?,
                IFLA_MASTER => link.master = u32_at(value, 0)?,
                IFLA_LINKINFO => {
                    let kind = attrs(value).find(|(kind, _)| *kind == INFO_KIND);
                    link.kind = kind.map(|(_, value)| text(value)).unwrap_or_default();
                    let port = attrs(value).find(|(kind, _)| *kind == INFO_SLAVE_DATA);
                    let state =
                        port.and_then(|(_, port)| attrs(port).find(|(kind, _)| *kind == BRPORT_STATE));
                    link.forwards = state.is_some_and(|(_, state)| state == [FORWARDING]);
                }
                IFLA_AF_SPEC => {
                    let find =
                        |all, wanted| attrs(all).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
                    let flags = find(value, u16::from(AF_INET6)).and_then(|six| find(six, INET6_FLAGS));
                    let flags = flags.and_then(|flags| u32_at(flags, 0)).unwrap_or(0);
                    (link.managed, link.other) = (flags & RA_MANAGED != 0, flags & RA_OTHER != 0);
                }
                IFLA_OPERSTATE => link.works = value == [OPER_UP],
                _ => {}
            }
        }
        Some(link)
    }
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addr {
    /// Interface index.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// Length of its network's prefix.
    pub prefix: u8,
    /// Global, as opposed to valid on this link or host only.
    pub global: bool,
    /// Seconds that it is good for; none = for ever.
    pub lifetime: Option<u32>,
    /// Of these, seconds in which new connections may use it; none = all of them.
    pub preferred: Option<u32>,
    /// Nobody else can have it, so nobody is asked (IPv6).
    pub sure: bool,
    /// It can be used: nobody else has turned out to have it, or is still being asked.
    pub usable: bool,
}

impl Addr {
    /// A global address without an end.
    pub fn new(index: u32, ip: IpAddr, prefix: u8) -> Self {
        Self { index, ip, prefix, global: true, lifetime: None, preferred: None, sure: false, usable: true }
    }

    /// From the body of a `RTM_NEWADDR`.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let prefix = *body.get(1)?;
        let global = *body.get(3)? == 0;
        let index = u32_at(body, 4)?;
        let (mut address, mut local) = (None, None);
        for (kind, value) in attrs(body.get(ADDR_HEADER..)?) {
            match kind {
                IFA_ADDRESS => address = ip_of(value),
                IFA_LOCAL => local = ip_of(value),
                _ => {}
            }
        }
        let usable = body.get(2)? & NOT_USABLE == 0;
        Some(Self { global, usable, ..Self::new(index, local.or(address)?, prefix) })
    }

    /// Whether it is an IPv6 address on its link that can be asked from.
    pub fn is_link_local(&self) -> bool {
        self.usable && matches!(self.ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
    }

    fn write(&self, m: &mut Writer) {
        let flags = if self.sure { IFA_F_NODAD } else { 0 };
        m.put(&[address_family(self.ip), self.prefix, flags, 0]).put(&self.index.to_ne_bytes());
        let bytes = ip_bytes(self.ip);
        m.attr(IFA_LOCAL, &bytes).attr(IFA_ADDRESS, &bytes);
        if let (IpAddr::V4(ip), 0..=30) = (self.ip, self.prefix) {
            let host_bits = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
            m.attr(IFA_BROADCAST, &(ip.to_bits() | host_bits).to_be_bytes());
        }
        if let Some(seconds) = self.lifetime {
            let preferred = self.preferred.unwrap_or(seconds).min(seconds).to_ne_bytes();
            m.attr(IFA_CACHEINFO, &[preferred, seconds.to_ne_bytes(), [0; 4], [0; 4]].concat());
        }
    }
}

/// An option of a neighbour discovery message that the kernel hands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserOption<'a> {
    /// Index of the interface that it came in by.
    pub index: u32,
    /// ICMPv6 type of the message.
    pub message: u8,
    /// The option: type, length, and so on.
    pub bytes: &'a [u8],
}

impl<'a> UserOption<'a> {
    /// From a `RTM_NEWNDUSEROPT`; none from any other message.
    pub fn of(frame: &Frame<'a>) -> Option<Self> {
        let body = (frame.kind == NEWNDUSEROPT).then_some(frame.payload)?;
        let length = usize::from(u16_at(body, 2)?);
        Some(Self {
            index: u32_at(body, 4)?,
            message: *body.get(8)?,
            bytes: body.get(USER_OPTION_HEADER..)?.get(..length)?,
        })
    }
}

/// Whom a [`Socket::prohibit`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Packets that come in by this interface.
    Interface(&'a str),
    /// Programs on this machine whose user is one of these, the first and the last one.
    Users(u32, u32),
}

/// A route in the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination network.
    pub to: IpAddr,
    /// Length of its prefix; 0 = the default route.
    pub prefix: u8,
    /// Next hop; none = directly connected.
    pub via: Option<IpAddr>,
    /// Interface index.
    pub index: u32,
    /// Lower wins.
    pub metric: u32,
    /// Source address; the route goes when this address goes.
    pub source: Option<Ipv4Addr>,
    /// The next hop is on this link even though no address says so.
    pub onlink: bool,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
}

impl Route {
    /// `RTPROT_STATIC`.
    pub const STATIC: u8 = 4;
    /// `RTPROT_DHCP`.
    pub const DHCP: u8 = 16;

    /// The default route through `via`.
    pub fn default_via(via: IpAddr, index: u32, metric: u32) -> Self {
        let to = match via {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let via = Some(via);
        Self { to, prefix: 0, via, index, metric, source: None, onlink: false, protocol: Self::STATIC }
    }

    fn write(&self, m: &mut Writer) {
        let scope = if self.via.is_none() && self.to.is_ipv4() { RT_SCOPE_LINK } else { 0 };
        let flags = if self.onlink { RTNH_F_ONLINK } else { 0 };
        let family = address_family(self.to);
        m.put(&[family, self.prefix, 0, 0, RT_TABLE_MAIN, self.protocol, scope, RTN_UNICAST]);
        m.put(&flags.to_ne_bytes());
        if self.prefix > 0 {
            m.attr(RTA_DST, &ip_bytes(self.to));
        }
        if let Some(via) = self.via {
            m.attr(RTA_GATEWAY, &ip_bytes(via));
        }
        if let Some(source) = self.source {
            m.attr(RTA_PREFSRC, &source.octets());
        }
        m.u32(RTA_OIF, self.index).u32(RTA_PRIORITY, self.metric);
    }
}

impl Socket {
    /// All interfaces.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        self.query(GETLINK, DUMP, |m| link_header(m, 0, 0, 0, 0), |f| links.extend(link_of(&f)))?;
        Ok(links)
    }

    /// One interface by its name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut found = None;
        let ask = |m: &mut Writer| {
            link_header(m, 0, 0, 0, 0);
            m.text(IFLA_IFNAME, name);
        };
        match self.query(GETLINK, 0, ask, |f| found = link_of(&f)) {
            Err(error) if !error.is(nix::Error::ENODEV) => Err(error),
            _ => Ok(found),
        }
    }

    /// All addresses.
    pub fn addresses(&mut self) -> Result<Vec<Addr>> {
        let mut all = Vec::new();
        let each = |f: Frame<'_>| {
            if f.kind == NEWADDR {
                all.extend(Addr::parse(f.payload));
            }
        };
        self.query(GETADDR, DUMP, |m| _ = m.put(&[0; ADDR_HEADER]), each)?;
        Ok(all)
    }

    /// Makes an interface go up or down.
    pub fn set_up(&mut self, index: u32, up: bool) -> Result<()> {
        let flags = if up { IFF_UP } else { 0 };
        self.request(SETLINK, 0, |m| link_header(m, 0, index, flags, IFF_UP))
    }

    /// Says what it is for. (The kernel takes no alias with a new interface.)
    pub fn set_alias(&mut self, index: u32, alias: &str) -> Result<()> {
        self.request(SETLINK, 0, |m| {
            link_header(m, 0, index, 0, 0);
            m.attr(IFLA_IFALIAS, alias.as_bytes());
        })
    }

    /// Changes the MTU.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        self.request(SETLINK, 0, |m| {
            link_header(m, 0, index, 0, 0);
            m.u32(IFLA_MTU, mtu);
        })
    }

    /// Changes IPv4 settings of one interface.
    pub fn set_ipv4_conf(&mut self, index: u32, settings: &[(Ipv4Conf, u32)]) -> Result<()> {
        self.request(SETLINK, 0, |m| {
            link_header(m, 0, index, 0, 0);
            m.nest(IFLA_AF_SPEC, |m| {
                m.nest(u16::from(AF_INET), |m| {
                    m.nest(INET_CONF, |m| {
                        for (setting, value) in settings {
                            m.u32(*setting as u16, *value);
                        }
                    });
                });
            });
        })
    }

    /// Keeps an interface that is still down from making itself IPv6 addresses.
    pub fn set_no_ipv6(&mut self, index: u32) -> Result<()> {
        self.request(SETLINK, 0, |m| {
            link_header(m, 0, index, 0, 0);
            m.nest(IFLA_AF_SPEC, |m| {
                m.nest(u16::from(AF_INET6), |m| {
                    m.attr(INET6_ADDR_GEN_MODE, &[ADDR_GEN_NONE]);
                });
            });
        })
    }

    /// Adds an address or refreshes its lifetime.
    pub fn add_address(&mut self, address: &Addr) -> Result<()> {
        self.request(NEWADDR, CREATE | REPLACE, |m| address.write(m))
    }

    /// Removes an address; that it is gone already is fine.
    pub fn delete_address(&mut self, address: &Addr) -> Result<()> {
        match self.request(DELADDR, 0, |m| Addr { lifetime: None, ..*address }.write(m)) {
            Err(error) if !error.is(nix::Error::EADDRNOTAVAIL) && !error.is(nix::Error::ENODEV) => Err(error),
            _ => Ok(()),
        }
    }

    /// Adds a route or replaces the one to the same network with the same metric.
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        self.request(NEWROUTE, CREATE | REPLACE, |m| route.write(m))
    }

    /// Removes a route; that it is gone already is fine.
    pub fn delete_route(&mut self, route: &Route) -> Result<()> {
        match self.request(DELROUTE, 0, |m| route.write(m)) {
            Err(error) if !error.is(nix::Error::ESRCH) && !error.is(nix::Error::ENODEV) => Err(error),
            _ => Ok(()),
        }
    }

    /// Refuses TCP connections to one port of one address, as a router with a rule would; again is fine.
    pub fn prohibit(&mut self, whose: Whose<'_>, to: IpAddr, port: u16, priority: u32) -> Result<()> {
        let outcome = self.request(NEWRULE, CREATE | EXCL, |m| {
            let address = ip_bytes(to);
            let bits = u8::try_from(address.len() * 8).unwrap_or(0);
            m.put(&[address_family(to), bits, 0, 0, 0, 0, 0, PROHIBIT, 0, 0, 0, 0]);
            m.attr(FRA_DST, &address).u32(FRA_PRIORITY, priority);
            m.attr(FRA_IP_PROTO, &[TCP])
                .attr(FRA_DPORT_RANGE, [port; 2].map(u16::to_ne_bytes).as_flattened());
            match whose {
                Whose::Interface(name) => m.text(FRA_IIFNAME, name),
                Whose::Users(first, last) => {
                    m.attr(FRA_UID_RANGE, [first, last].map(u32::to_ne_bytes).as_flattened())
                }
            };
        });
        match outcome {
            Err(error) if !error.is(nix::Error::EEXIST) => Err(error),
            _ => Ok(()),
        }
    }

    /// Says once and for all which hardware address an address has.
    pub fn add_neighbour(&mut self, index: u32, ip: IpAddr, mac: [u8; 6]) -> Result<()> {
        self.request(NEWNEIGH, CREATE | REPLACE, |m| {
            neighbour_header(m, address_family(ip), index, NUD_PERMANENT, 0);
            m.attr(NDA_DST, &ip_bytes(ip)).attr(NDA_LLADDR, &mac);
        })
    }

    /// Says once and for all behind which port of a bridge a hardware address is.
    pub fn add_fdb(&mut self, port: u32, mac: [u8; 6]) -> Result<()> {
        self.request(NEWNEIGH, CREATE | REPLACE, |m| {
            neighbour_header(m, AF_BRIDGE, port, NUD_NOARP, NTF_MASTER);
            m.attr(NDA_LLADDR, &mac);
        })
    }
}

/// `AF_INET` or `AF_INET6`.
fn address_family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn link_header(m: &mut Writer, family: u8, index: u32, flags: u32, change: u32) {
    m.put(&[family, 0, 0, 0]).put(&index.to_ne_bytes());
    m.put(&flags.to_ne_bytes()).put(&change.to_ne_bytes());
}

fn neighbour_header(m: &mut Writer, family: u8, index: u32, state: u16, flags: u8) {
    m.put(&[family, 0, 0, 0]).put(&index.to_ne_bytes());
    m.put(&state.to_ne_bytes()).put(&[flags, 0]);
}

/// Whether a message is about an address.
pub fn is_address(frame: &Frame<'_>) -> bool {
    matches!(frame.kind, NEWADDR | DELADDR)
}

/// Whether a message is about an interface.
pub fn is_link(frame: &Frame<'_>) -> bool {
    matches!(frame.kind, NEWLINK | DELLINK)
}

fn link_of(frame: &Frame<'_>) -> Option<Link> {
    (frame.kind == NEWLINK).then(|| Link::parse(frame.payload)).flatten()
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|b| Ipv4Addr::from(*b).into()),
        16 => bytes.first_chunk::<16>().map(|b| Ipv6Addr::from(*b).into()),
        _ => None,
    }
}

fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
