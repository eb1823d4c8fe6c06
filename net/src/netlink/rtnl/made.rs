//! Interfaces that are made: bridges and their ports, VLANs, bonds, pairs.

use super::{
    AF_BRIDGE, DELLINK, IFLA_ADDRESS, IFLA_IFNAME, IFLA_LINK, IFLA_LINKINFO, IFLA_MASTER, INFO_DATA,
    INFO_KIND, NEWLINK, SETLINK, link_header,
};
use crate::netlink::{CREATE, EXCL, Result, Socket};
use std::os::fd::{AsRawFd, BorrowedFd};

const VLAN_ID: u16 = 1;
const BOND_MODE: u16 = 1;
const BOND_MIIMON: u16 = 3;
const BOND_PRIMARY: u16 = 11;
const BOND_XMIT_HASH_POLICY: u16 = 14;
const BOND_AD_LACP_RATE: u16 = 21;
const IFLA_PROTINFO: u16 = 12;
const IFLA_NET_NS_FD: u16 = 28;
const VETH_INFO_PEER: u16 = 1;
const BR_MCAST_SNOOPING: u16 = 23;
const BRPORT_LEARNING: u16 = 8;
const BRPORT_ISOLATED: u16 = 33;

/// How a bond works, in the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BondOptions {
    /// `BOND_MODE_*`.
    pub mode: u8,
    /// Milliseconds between two looks at the members.
    pub miimon: u32,
    /// `BOND_XMIT_POLICY_*`.
    pub hash: Option<u8>,
    /// 0 = slow, 1 = fast.
    pub lacp_rate: Option<u8>,
}

/// A pair of interfaces, one at home, one in another network namespace.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// Name here.
    pub name: &'a str,
    /// The bridge that it becomes a port of.
    pub master: u32,
    /// Name there.
    pub peer: &'a str,
    /// Hardware address there.
    pub peer_mac: [u8; 6],
    /// The namespace of the peer.
    pub netns: BorrowedFd<'a>,
}

impl Socket {
    /// Makes a bridge, down.
    pub fn create_bridge(&mut self, name: &str, mac: [u8; 6]) -> Result<()> {
        self.request(NEWLINK, CREATE | EXCL, |m| {
            link_header(m, 0, 0, 0, 0);
            m.text(IFLA_IFNAME, name).attr(IFLA_ADDRESS, &mac);
            m.nest(IFLA_LINKINFO, |m| {
                m.text(INFO_KIND, "bridge").nest(INFO_DATA, |m| {
                    m.attr(BR_MCAST_SNOOPING, &[0]);
                });
            });
        })
    }

    /// Makes a VLAN on an interface, down.
    pub fn create_vlan(&mut self, name: &str, on: u32, id: u16) -> Result<()> {
        self.request(NEWLINK, CREATE | EXCL, |m| {
            link_header(m, 0, 0, 0, 0);
            m.text(IFLA_IFNAME, name).u32(IFLA_LINK, on);
            m.nest(IFLA_LINKINFO, |m| {
                m.text(INFO_KIND, "vlan").nest(INFO_DATA, |m| {
                    m.attr(VLAN_ID, &id.to_ne_bytes());
                });
            });
        })
    }

    /// Makes a bond without members, down.
    pub fn create_bond(&mut self, name: &str, bond: BondOptions) -> Result<()> {
        self.request(NEWLINK, CREATE | EXCL, |m| {
            link_header(m, 0, 0, 0, 0);
            m.text(IFLA_IFNAME, name);
            m.nest(IFLA_LINKINFO, |m| {
                m.text(INFO_KIND, "bond").nest(INFO_DATA, |m| {
                    m.attr(BOND_MODE, &[bond.mode]).u32(BOND_MIIMON, bond.miimon);
                    if let Some(hash) = bond.hash {
                        m.attr(BOND_XMIT_HASH_POLICY, &[hash]);
                    }
                    if let Some(rate) = bond.lacp_rate {
                        m.attr(BOND_AD_LACP_RATE, &[rate]);
                    }
                });
            });
        })
    }

    /// Says which member a bond uses whenever it can.
    pub fn set_primary(&mut self, bond: u32, member: u32) -> Result<()> {
        self.request(NEWLINK, 0, |m| {
            link_header(m, 0, bond, 0, 0);
            m.nest(IFLA_LINKINFO, |m| {
                m.text(INFO_KIND, "bond").nest(INFO_DATA, |m| {
                    m.u32(BOND_PRIMARY, member);
                });
            });
        })
    }

    /// Makes an interface that is down a bond's member; the kernel brings it up.
    pub fn set_master(&mut self, index: u32, master: u32) -> Result<()> {
        self.request(SETLINK, 0, |m| {
            link_header(m, 0, index, 0, 0);
            m.u32(IFLA_MASTER, master);
        })
    }

    /// Makes a pair of interfaces, both down.
    pub fn create_veth(&mut self, veth: &Veth<'_>) -> Result<()> {
        let netns = u32::try_from(veth.netns.as_raw_fd()).unwrap_or(u32::MAX);
        self.request(NEWLINK, CREATE | EXCL, |m| {
            link_header(m, 0, 0, 0, 0);
            m.text(IFLA_IFNAME, veth.name).u32(IFLA_MASTER, veth.master);
            m.nest(IFLA_LINKINFO, |m| {
                m.text(INFO_KIND, "veth").nest(INFO_DATA, |m| {
                    m.nest(VETH_INFO_PEER, |m| {
                        link_header(m, 0, 0, 0, 0);
                        m.text(IFLA_IFNAME, veth.peer).attr(IFLA_ADDRESS, &veth.peer_mac);
                        m.u32(IFLA_NET_NS_FD, netns);
                    });
                });
            });
        })
    }

    /// Makes a bridge's port talk to the bridge itself only, and believe no source address but those told by
    /// [`Socket::add_fdb`].
    pub fn isolate_port(&mut self, index: u32) -> Result<()> {
        self.request(SETLINK, 0, |m| {
            link_header(m, AF_BRIDGE, index, 0, 0);
            m.nest(IFLA_PROTINFO, |m| {
                m.attr(BRPORT_ISOLATED, &[1]).attr(BRPORT_LEARNING, &[0]);
            });
        })
    }

    /// Removes an interface; that it is gone already is fine.
    pub fn delete_link(&mut self, name: &str) -> Result<()> {
        let outcome = self.request(DELLINK, 0, |m| {
            link_header(m, 0, 0, 0, 0);
            m.text(IFLA_IFNAME, name);
        });
        match outcome {
            Err(error) if !error.is(nix::Error::ENODEV) => Err(error),
            _ => Ok(()),
        }
    }
}
