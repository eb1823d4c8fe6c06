//! The units' network: the bridge, a pair of interfaces a unit, and who has which address.
//!
//! The agent never enters a unit's network namespace, which would take CAP_SYS_ADMIN: the kernel makes the unit's end
//! of the pair in a namespace named by a descriptor, and the rest is said over a netlink socket that was opened
//! inside, by the container's own setup, and passed on.
//!
//! Every unit sees the gateway and nobody else: its port on the bridge is isolated, its address is a network of its
//! own, and the neighbour tables on both sides are written, not learned, so nobody answers in another's name. What
//! units send each other goes through the gateway, and its packet filter.

use crate::netlink::{self, Addr, Ipv4Conf, Route, Socket};
use crate::plan::{Ipv6Net, Place};
use crate::{limits, plan};
use berth_units::model::Port;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Why a unit got no network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The ride-alongs are not what the protocol says.
    #[error("PID 1 sent {0} descriptors; a network namespace and a netlink socket from inside it are needed")]
    Descriptors(usize),
    /// Somebody else has the port.
    #[error("port {port} is published by unit {unit} already; publish another port or stop that unit")]
    PortTaken {
        /// As written in the unit.
        port: String,
        /// Who has it.
        unit: String,
    },
    /// No address is left.
    #[error("all addresses of {}/{} are in use", plan::NETWORK, plan::PREFIX)]
    Full,
    /// The kernel said no.
    #[error("{step}: {error}")]
    Kernel {
        /// What was being done.
        step: &'static str,
        /// What it said.
        error: netlink::Error,
    },
}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, AttachError>;
}

impl<T> Step<T> for netlink::Result<T> {
    fn step(self, step: &'static str) -> Result<T, AttachError> {
        self.map_err(|error| AttachError::Kernel { step, error })
    }
}

/// What is known of one unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    place: Place,
    ports: Vec<Port>,
    attached: bool,
    /// It has an IPv6 address too.
    #[serde(default)]
    ipv6: bool,
}

/// All units that have, or had, an address.
#[derive(Debug)]
pub struct Units {
    entries: BTreeMap<String, Entry>,
    next: Place,
    bridge: Option<u32>,
    ipv6: Option<Ipv6Net>,
    file: PathBuf,
}

impl Units {
    /// Reads what an earlier agent of this boot has left in `file`; `interfaces`: the names of those that there are.
    pub fn load(file: &Path, interfaces: &[String]) -> Self {
        let mut units =
            Self { entries: read(file), next: Place::FIRST, bridge: None, ipv6: None, file: file.to_owned() };
        for entry in units.entries.values_mut() {
            entry.attached &= interfaces.contains(&entry.place.port());
        }
        units
    }

    /// The IPv6 network of units that are attached from now on.
    pub fn set_ipv6(&mut self, net: Option<Ipv6Net>) {
        self.ipv6 = net;
    }

    /// Whether any unit is attached.
    pub fn any(&self) -> bool {
        self.entries.values().any(|entry| entry.attached)
    }

    /// What is published, and where each port leads.
    pub fn published(&self) -> Vec<(Port, Ipv4Addr)> {
        let attached = self.entries.values().filter(|entry| entry.attached);
        attached.flat_map(|entry| entry.ports.iter().map(|port| (*port, entry.place.address()))).collect()
    }

    /// A unit's addresses, if it is attached.
    pub fn addresses(&self, unit: &str) -> impl Iterator<Item = IpAddr> {
        self.entries.get(unit).filter(|entry| entry.attached).into_iter().flat_map(|entry| self.of(entry))
    }

    fn of(&self, entry: &Entry) -> impl Iterator<Item = IpAddr> {
        let ipv6 = self.ipv6.filter(|_| entry.ipv6).map(|net| net.address(entry.place).into());
        [IpAddr::from(entry.place.address())].into_iter().chain(ipv6)
    }

    /// The unit that has an address.
    pub fn at(&self, ip: IpAddr) -> Option<&str> {
        let mut attached = self.entries.iter().filter(|(_, entry)| entry.attached);
        attached.find(|(_, entry)| self.of(entry).any(|theirs| theirs == ip)).map(|(unit, _)| unit.as_str())
    }

    /// Gives a unit a place and its ports; nothing is plumbed yet.
    pub fn admit(&mut self, unit: &str, ports: &[Port]) -> Result<Place, AttachError> {
        for (other, entry) in &self.entries {
            let clash = ports.iter().find(|port| entry.ports.iter().any(|theirs| clashes(port, theirs)));
            if let Some(port) = clash.filter(|_| entry.attached && other != unit) {
                return Err(AttachError::PortTaken { port: show(port), unit: other.clone() });
            }
        }
        let place = match self.entries.get(unit) {
            Some(entry) => entry.place,
            None => self.free_place()?,
        };
        let ipv6 = self.entries.get(unit).is_some_and(|entry| entry.ipv6);
        self.entries.insert(unit.to_owned(), Entry { place, ports: ports.to_vec(), attached: true, ipv6 });
        Ok(place)
    }

    /// The next place that nobody has; those of units that are gone are kept for them as long as there is room.
    fn free_place(&mut self) -> Result<Place, AttachError> {
        if self.entries.len() >= limits::REMEMBERED_ADDRESSES {
            let gone = self.entries.iter().find(|(_, entry)| !entry.attached).map(|(unit, _)| unit.clone());
            self.entries.remove(&gone.ok_or(AttachError::Full)?);
        }
        // One more candidate than there are entries: one of them is free.
        for _ in 0..=self.entries.len() {
            let place = self.next;
            self.next = place.next();
            if self.entries.values().all(|entry| entry.place != place) {
                return Ok(place);
            }
        }
        Err(AttachError::Full)
    }

    /// Connects an admitted unit: `netns` is its namespace, `inside` a netlink socket opened in it. Connected
    /// already (the agent was restarted), it stays as it is.
    pub fn plumb(
        &mut self,
        unit: &str,
        place: Place,
        netns: &OwnedFd,
        inside: OwnedFd,
        rtnl: &mut Socket,
    ) -> Result<(), AttachError> {
        let mut inside = Socket::adopt(inside).step("use the socket inside the unit's network")?;
        let there = inside.link("eth0").step("look at the unit's interfaces")?;
        let here = rtnl.link(&place.port()).step("look at the machine's interfaces")?;
        let bridge = self.bridge(rtnl).step("make the bridge")?;
        if here.is_some() && there.is_some_and(|link| link.mac == place.mac()) {
            return Ok(());
        }
        let port = place.port();
        rtnl.delete_link(&port).step("remove an interface left behind")?;
        rtnl.create_veth(&netlink::Veth {
            name: &port,
            master: bridge,
            peer: "eth0",
            peer_mac: place.mac(),
            netns: netns.as_fd(),
        })
        .step("make a pair of interfaces")?;
        outside(unit, place, bridge, rtnl).and_then(|()| within(place, &mut inside)).inspect_err(|_| {
            let _ = rtnl.delete_link(&port);
        })?;
        let ipv6 = match self.ipv6 {
            Some(net) => match ipv6(net, place, bridge, rtnl, &mut inside) {
                // The kernel's own words for "there is no IPv6 here".
                Err(error) if NO_IPV6.iter().any(|errno| error.is(*errno)) => false,
                outcome => outcome.step("give the unit its IPv6 address").map(|()| true)?,
            },
            None => false,
        };
        if let Some(entry) = self.entries.get_mut(unit) {
            entry.ipv6 = ipv6;
        }
        Ok(())
    }

    /// Whether packets go between a unit that is connected and the machine. The kernel brings that about by itself, a
    /// little after the last command; what is sent before is lost.
    pub fn is_usable(&self, place: Place, rtnl: &mut Socket) -> netlink::Result<bool> {
        let works = |link: Option<netlink::Link>| link.is_some_and(|link| link.works);
        let port = rtnl.link(&place.port())?;
        Ok(port.is_some_and(|port| port.works && port.forwards) && works(rtnl.link(plan::BRIDGE)?))
    }

    /// The bridge's index; made when it is first needed.
    fn bridge(&mut self, rtnl: &mut Socket) -> netlink::Result<u32> {
        if let Some(index) = self.bridge {
            return Ok(index);
        }
        if rtnl.link(plan::BRIDGE)?.is_none() {
            rtnl.create_bridge(plan::BRIDGE, plan::gateway_mac())?;
        }
        let missing = netlink::Error::Answer("the bridge is not there");
        let index = rtnl.link(plan::BRIDGE)?.ok_or(missing)?.index;
        rtnl.set_no_ipv6(index)?;
        rtnl.set_ipv4_conf(
            index,
            &[
                (Ipv4Conf::Forwarding, 1),
                // There is no shorter way between two units than through here.
                (Ipv4Conf::SendRedirects, 0),
                (Ipv4Conf::RpFilter, 1),
                (Ipv4Conf::RouteLocalnet, 1),
            ],
        )?;
        rtnl.add_address(&Addr::new(index, plan::GATEWAY.into(), plan::PREFIX))?;
        rtnl.set_up(index, true)?;
        self.bridge = Some(index);
        Ok(index)
    }

    /// The unit is gone.
    pub fn detach(&mut self, unit: &str, rtnl: &mut Socket) -> netlink::Result<()> {
        let Some(entry) = self.entries.get_mut(unit) else { return Ok(()) };
        entry.attached = false;
        rtnl.delete_link(&entry.place.port())
    }

    /// Writes down what the next agent of this boot has to know.
    pub fn save(&self) -> io::Result<()> {
        let beside = self.file.with_extension("new");
        let bytes = serde_json::to_vec(&self.entries)?;
        let write = || {
            fs::write(&beside, bytes)?;
            fs::rename(&beside, &self.file)
        };
        write().map_err(|error| {
            io::Error::new(error.kind(), format!("{} not written: {error}", self.file.display()))
        })
    }
}

/// The machine's side of a new pair.
fn outside(unit: &str, place: Place, bridge: u32, rtnl: &mut Socket) -> Result<(), AttachError> {
    let link = rtnl.link(&place.port()).step("find the machine's end")?;
    let port = link.ok_or(netlink::Error::Answer("it is not there")).step("find the machine's end")?.index;
    // Its counters are told under this name.
    rtnl.set_alias(port, unit).step("name the machine's end")?;
    rtnl.isolate_port(port).step("isolate the port")?;
    rtnl.set_no_ipv6(port).step("configure the machine's end")?;
    rtnl.add_fdb(port, place.mac()).step("tell the bridge the unit's hardware address")?;
    rtnl.add_neighbour(bridge, place.address().into(), place.mac())
        .step("tell the machine the unit's address")?;
    rtnl.set_up(port, true).step("bring up the machine's end")
}

/// The unit's side.
fn within(place: Place, inside: &mut Socket) -> Result<(), AttachError> {
    let find = |inside: &mut Socket, name| {
        let link = inside.link(name)?;
        link.map(|link| link.index).ok_or(netlink::Error::Answer("it is not there"))
    };
    let lo = find(inside, "lo").step("find the unit's loopback")?;
    inside.set_up(lo, true).step("bring up the unit's loopback")?;
    let eth0 = find(inside, "eth0").step("find the unit's end")?;
    inside.set_no_ipv6(eth0).step("configure the unit's end")?;
    let address = Addr::new(eth0, place.address().into(), 32);
    inside.add_address(&address).step("give the unit its address")?;
    inside.set_up(eth0, true).step("bring up the unit's end")?;
    inside
        .add_neighbour(eth0, plan::GATEWAY.into(), plan::gateway_mac())
        .step("tell the unit the gateway's hardware address")?;
    inside
        .add_route(&Route { onlink: true, ..Route::default_via(plan::GATEWAY.into(), eth0, 0) })
        .step("give the unit its default route")
}

/// How a kernel without IPv6, or one that is told to do without, refuses.
const NO_IPV6: [nix::Error; 3] = [nix::Error::EAFNOSUPPORT, nix::Error::EOPNOTSUPP, nix::Error::EACCES];

/// IPv6 on both sides, and on the bridge: the same as IPv4, and just as little is left to ask neighbours.
fn ipv6(
    net: Ipv6Net,
    place: Place,
    bridge: u32,
    rtnl: &mut Socket,
    inside: &mut Socket,
) -> netlink::Result<()> {
    let gateway = net.gateway().into();
    let sure = |index, ip: IpAddr, prefix| Addr { sure: true, ..Addr::new(index, ip, prefix) };
    rtnl.add_address(&sure(bridge, gateway, Ipv6Net::PREFIX))?;
    rtnl.add_neighbour(bridge, net.address(place).into(), place.mac())?;
    let eth0 = inside.link("eth0")?.ok_or(netlink::Error::Answer("it is not there"))?.index;
    inside.add_address(&sure(eth0, net.address(place).into(), 128))?;
    inside.add_neighbour(eth0, gateway, plan::gateway_mac())?;
    inside.add_route(&Route { onlink: true, ..Route::default_via(gateway, eth0, 0) })
}

/// Whether two published ports are one and the same somewhere on the machine.
fn clashes(a: &Port, b: &Port) -> bool {
    let same_address = a.host_address == b.host_address
        || a.host_address.is_unspecified()
        || b.host_address.is_unspecified();
    a.host == b.host && a.protocol == b.protocol && same_address
}

fn show(port: &Port) -> String {
    let protocol = format!("{:?}", port.protocol).to_lowercase();
    if port.host_address.is_unspecified() {
        format!("{}/{protocol}", port.host)
    } else {
        format!("{}:{}/{protocol}", port.host_address, port.host)
    }
}

/// Entries that make sense; a file that does not is as good as none, since units that run are attached anew.
fn read(file: &Path) -> BTreeMap<String, Entry> {
    let size = fs::metadata(file).map_or(0, |metadata| metadata.len());
    if size == 0 || size > limits::STATE_BYTES {
        return BTreeMap::new();
    }
    let entries: Option<BTreeMap<String, Entry>> =
        fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut places = std::collections::BTreeSet::new();
    let mut entries = entries.unwrap_or_default();
    entries.retain(|_, entry| entry.place.is_valid() && places.insert(entry.place));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_units::model::Protocol;

    fn port(host: u16) -> Port {
        Port { host_address: Ipv4Addr::UNSPECIFIED, host, container: 80, protocol: Protocol::Tcp }
    }

    fn units(folder: &tempfile::TempDir) -> Units {
        Units::load(&folder.path().join("units.json"), &[])
    }

    #[test]
    fn a_unit_keeps_its_address_and_others_get_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut units = units(&folder);
        let web = units.admit("web", &[port(8080)]).unwrap();
        let db = units.admit("db", &[]).unwrap();
        assert_eq!((web.address(), db.address()), (Ipv4Addr::new(10, 88, 0, 2), Ipv4Addr::new(10, 88, 0, 3)));
        assert_eq!(units.published(), [(port(8080), web.address())]);
        units.entries.get_mut("web").unwrap().attached = false;
        assert!(units.published().is_empty());
        assert_ne!(units.admit("cache", &[]).unwrap(), web);
        assert_eq!(units.admit("web", &[port(80)]).unwrap(), web);
    }

    #[test]
    fn a_port_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let mut units = units(&folder);
        units.admit("web", &[port(8080)]).unwrap();
        let local = Port { host_address: Ipv4Addr::LOCALHOST, ..port(8080) };
        let error = units.admit("other", &[local]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "port 127.0.0.1:8080/tcp is published by unit web already; publish another port or stop that unit"
        );
        units.admit("other", &[Port { protocol: Protocol::Udp, ..port(8080) }]).unwrap();
        units.admit("web", &[port(8080)]).unwrap();
        units.entries.get_mut("web").unwrap().attached = false;
        units.admit("third", &[local]).unwrap();
    }

    #[test]
    fn the_next_agent_knows_and_rubbish_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("units.json");
        let mut units = units(&folder);
        let web = units.admit("web", &[port(8080)]).unwrap();
        units.admit("db", &[]).unwrap();
        units.save().unwrap();
        let next = Units::load(&file, &[web.port()]);
        assert_eq!(next.published(), [(port(8080), web.address())]);
        assert!(!next.entries["db"].attached, "its interface is gone");

        for rubbish in ["", "[", "{\"a\":{\"place\":1,\"ports\":[],\"attached\":true}}"] {
            fs::write(&file, rubbish).unwrap();
            assert!(Units::load(&file, &[]).entries.is_empty(), "{rubbish}");
        }
    }

    #[test]
    fn places_of_those_who_are_gone_are_used_again_when_memory_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let mut units = units(&folder);
        for n in 0..limits::REMEMBERED_ADDRESSES {
            units.admit(&format!("u{n}"), &[]).unwrap();
        }
        assert!(matches!(units.admit("one-more", &[]), Err(AttachError::Full)));
        units.entries.get_mut("u7").unwrap().attached = false;
        units.admit("one-more", &[]).unwrap();
    }
}
