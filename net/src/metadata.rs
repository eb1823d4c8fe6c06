//! Metadata servers of clouds, which units must not reach: who asks one gets the machine's own credentials.
//!
//! Routing rules refuse them, at once and with an error: for units on the bridge by the interface that their packets come
//! in by, for those on the machine's own network by their users, which are all from [`ID_BASE`] upwards. (System units
//! with users of their own are among them: they talk to strangers, and need no credentials of a cloud.) Only the port of
//! the metadata service is refused: some clouds answer DNS, NTP or DHCP at the same address.

use crate::netlink::{Result, Socket, Whose};
use crate::plan;
use berth_units::limits::ID_BASE;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Of nearly every cloud.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Of the one that has another for IPv6.
pub const ADDRESS_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
const PORT: u16 = 80;
/// After the table of the machine's own addresses (0), before all others.
const PRIORITY: u32 = 80;
/// Ranges of users end before this.
const LAST_USER: u32 = (1 << 31) - 1;

/// Refuses them to units on the bridge, there or not yet.
pub fn refuse_to_bridge(rtnl: &mut Socket) -> Result<()> {
    rtnl.prohibit(Whose::Interface(plan::BRIDGE), ADDRESS.into(), PORT, PRIORITY)
}

/// The same by IPv6, which the machine may not have.
pub fn refuse_to_bridge_ipv6(rtnl: &mut Socket) -> Result<()> {
    rtnl.prohibit(Whose::Interface(plan::BRIDGE), ADDRESS_IPV6.into(), PORT, PRIORITY)
}

/// Refuses one to units on the machine's own network.
pub fn refuse_to_users(rtnl: &mut Socket, address: IpAddr) -> Result<()> {
    rtnl.prohibit(Whose::Users(ID_BASE, LAST_USER), address, PORT, PRIORITY)
}
