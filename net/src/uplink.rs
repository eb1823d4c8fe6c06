//! One Ethernet interface towards the outside: brought up, given its fixed addresses, or those of a lease.

mod settings;
mod six;

pub use settings::{Fixed, Settings, matches, settings};
pub use six::Six;

use crate::dhcp::client::{Client, Effect, Event, Lease, Listen};
use crate::dhcp::message::Message;
use crate::dhcp::port::Port;
use crate::dhcp6;
use crate::netlink::{self, Addr, Ipv4Conf, Link, Route, Socket};
use crate::plan;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

/// Metric of our routes, before the interface's index is added: below what is made by hand, lower index first.
const METRIC: u32 = 1000;
/// The same for the config's `routes`, which come before what is learned.
const FIXED_METRIC: u32 = 500;

/// Settings of IPv6 that netlink has no messages for, by interface; the one part of `/proc/sys` that the agent's unit
/// may write.
const IPV6_CONF: &str = "/proc/sys/net/ipv6/conf";

/// Who asks for leases.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Told to DHCP servers.
    pub hostname: String,
    /// What the name in DHCPv6 is made of.
    pub machine_id: String,
    /// For transaction numbers and jitter.
    pub seed: u64,
}

/// One interface that we look after.
#[derive(Debug)]
pub struct Uplink {
    /// The interface as it was last seen.
    pub link: Link,
    settings: Settings,
    client: Option<Client>,
    port: Port,
    /// DHCPv6, where somebody says that there is any.
    six: Option<Six>,
    /// There is an address to ask DHCPv6 servers from.
    link_local: bool,
    identity: Identity,
    /// What a lease put there.
    leased: Option<(Addr, Vec<Route>)>,
    /// MTU before the config or a lease changed it.
    mtu: u32,
    /// The last thing that failed, as a sentence.
    problem: Option<String>,
}

impl Uplink {
    /// Takes over an interface: up, fixed addresses, first question to DHCP.
    pub fn start(
        link: Link,
        settings: Settings,
        identity: Identity,
        now: Duration,
        rtnl: &mut Socket,
    ) -> Self {
        let mut uplink = Self {
            client: settings.dhcp.then(|| Client::new(link.mac, &identity.hostname, identity.seed)),
            port: Port::new(link.index, &link.name),
            six: None,
            link_local: false,
            identity,
            leased: None,
            mtu: link.mtu,
            problem: None,
            link,
            settings,
        };
        uplink.tell_kernel_of_routers();
        if let Some(mtu) = uplink.settings.mtu.filter(|mtu| *mtu != uplink.link.mtu) {
            uplink.set_mtu(mtu, rtnl);
        }
        if !uplink.link.up {
            let outcome = rtnl.set_up(uplink.link.index, true);
            uplink.note("not brought up", outcome);
        }
        uplink.fixed(rtnl);
        // The carrier of most interfaces is there as soon as they are up; no need to wait for the news of it.
        match rtnl.link(&uplink.link.name) {
            Ok(Some(link)) => uplink.changed(link, now, rtnl),
            Ok(None) => {}
            Err(error) => uplink.note("not asked about", Err(error)),
        }
        uplink
    }

    fn fixed(&mut self, rtnl: &mut Socket) {
        let index = self.link.index;
        for (ip, prefix) in self.settings.addresses.clone() {
            let outcome = rtnl.add_address(&Addr::new(index, ip, prefix));
            self.note(&format!("address {ip}/{prefix} not added"), outcome);
        }
        for route in self.fixed_routes() {
            let outcome = rtnl.add_route(&route);
            self.note(&format!("{} not added", shown(&route)), outcome);
        }
    }

    /// Those that need no router first: the others may lead through them.
    fn fixed_routes(&self) -> Vec<Route> {
        let index = self.link.index;
        let default = |via: &IpAddr| Route::default_via(*via, index, METRIC.saturating_add(index));
        let further = |route: &Fixed| Route {
            to: route.to,
            prefix: route.prefix,
            via: route.via,
            metric: route.metric.unwrap_or(FIXED_METRIC.saturating_add(index)),
            ..Route::default_via(route.to, index, 0)
        };
        let on_a_network = |via: IpAddr| {
            // One of these is on any link, and needs no word about it.
            matches!(via, IpAddr::V6(via) if via.is_unicast_link_local())
                || self.settings.addresses.iter().any(|(ip, prefix)| same_network(*ip, *prefix, via))
        };
        let mut routes: Vec<Route> = self.settings.gateways.iter().map(default).collect();
        routes.extend(self.settings.routes.iter().map(further));
        routes.sort_by_key(|route| route.via.is_some());
        for route in &mut routes {
            route.onlink = route.via.is_some_and(|via| !on_a_network(via));
        }
        routes
    }

    /// What routers advertise here counts.
    pub fn listens_to_routers(&self) -> bool {
        self.settings.ra
    }

    /// Has the kernel make use of what routers advertise, or not. What it has learned already goes with the addresses
    /// when IPv6 is switched off for a moment.
    fn tell_kernel_of_routers(&mut self) {
        let (wanted, folder) =
            (if self.settings.ra { "2" } else { "0" }, Path::new(IPV6_CONF).join(&self.link.name));
        let is = fs::read_to_string(folder.join("accept_ra"));
        if is.as_ref().is_ok_and(|is| is.trim() == wanted) || !folder.exists() {
            return;
        }
        let mut files = vec![("accept_ra", wanted)];
        if self.link.up && !self.settings.ra {
            files.extend([("disable_ipv6", "1"), ("disable_ipv6", "0")]);
        }
        for (file, value) in files {
            if let Err(error) = fs::write(folder.join(file), value) {
                self.problem = Some(format!("{file} not set to {value}: {error}"));
            }
        }
    }

    /// Whether it is looked after in just this way already. A bond takes its first member's hardware address, which leases
    /// hang on.
    pub fn is_as(&self, settings: &Settings, link: &Link) -> bool {
        self.settings == *settings && self.link.name == link.name && self.link.mac == link.mac
    }

    /// Gives it up: what we put there is taken away, but it stays up.
    pub fn stop(&mut self, rtnl: &mut Socket) {
        self.withdraw(rtnl);
        if let Some(mut six) = self.six.take() {
            six.stop(rtnl);
        }
        for route in self.fixed_routes() {
            let _ = rtnl.delete_route(&route);
        }
        for (ip, prefix) in &self.settings.addresses {
            let _ = rtnl.delete_address(&Addr::new(self.link.index, *ip, *prefix));
        }
        if self.settings.mtu.is_some() {
            self.set_mtu(self.mtu, rtnl);
        }
    }

    /// The interface was seen again.
    pub fn changed(&mut self, link: Link, now: Duration, rtnl: &mut Socket) {
        let carrier = link.carrier && link.up;
        self.link = link;
        let event = if carrier { Event::Start } else { Event::Halt };
        self.step(event, now, rtnl);
        self.ask_dhcp6(now, rtnl);
    }

    /// Whether it has an address on its link that it can ask DHCPv6 servers from.
    pub fn has_link_local(&mut self, yes: bool, now: Duration, rtnl: &mut Socket) {
        if self.link_local != yes {
            self.link_local = yes;
            self.ask_dhcp6(now, rtnl);
        }
    }

    /// Begins or ends asking DHCPv6 servers, as config, routers, carrier and addresses have it now.
    fn ask_dhcp6(&mut self, now: Duration, rtnl: &mut Socket) {
        let mode = self.settings.dhcp6(&self.link);
        if self.six.as_ref().map(Six::mode) != mode {
            if let Some(mut before) = self.six.take() {
                before.stop(rtnl);
            }
            self.six = mode.map(|mode| Six::new(mode, &self.link, &self.identity));
        }
        let can = self.link.carrier && self.link.up && self.link_local;
        if let Some(six) = &mut self.six {
            six.step(if can { dhcp6::client::Event::Start } else { dhcp6::client::Event::Halt }, now, rtnl);
        }
    }

    /// Lets it forward what units send and get.
    pub fn forward(&mut self, rtnl: &mut Socket) {
        let outcome = rtnl.set_ipv4_conf(self.link.index, &[(Ipv4Conf::Forwarding, 1)]);
        self.note("does not forward for units", outcome);
    }

    /// The sockets to poll.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.port.fd().into_iter().chain(self.six.as_ref().and_then(Six::fd))
    }

    /// When [`Uplink::tick`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        let six = self.six.as_ref().and_then(Six::deadline);
        self.client.as_ref().and_then(Client::deadline).into_iter().chain(six).min()
    }

    /// One of its sockets has something.
    pub fn readable(&mut self, now: Duration, rtnl: &mut Socket) {
        if let Some(six) = &mut self.six {
            six.readable(now, rtnl);
        }
        for message in self.port.receive() {
            self.step(Event::Heard(&message), now, rtnl);
        }
    }

    /// Its deadline has come.
    pub fn tick(&mut self, now: Duration, rtnl: &mut Socket) {
        self.step(Event::Timer, now, rtnl);
        if let Some(six) = &mut self.six {
            six.step(dhcp6::client::Event::Timer, now, rtnl);
        }
    }

    fn step(&mut self, event: Event<'_>, now: Duration, rtnl: &mut Socket) {
        let Some(client) = &mut self.client else { return };
        let effects = client.step(event, now);
        for effect in effects {
            match effect {
                Effect::Broadcast(message) => {
                    let outcome = self.port.broadcast(&message);
                    self.sent(&message, outcome);
                }
                Effect::Unicast(to, message) => {
                    let outcome = self.port.unicast(to, &message);
                    self.sent(&message, outcome);
                }
                Effect::Apply(lease) => self.apply(&lease, rtnl),
                Effect::Withdraw => self.withdraw(rtnl),
            }
        }
        let listen = self.client.as_ref().map_or(Listen::Nothing, Client::listens);
        if let Err(error) = self.port.set(listen) {
            self.problem = Some(format!("DHCP's socket not opened: {error}"));
        }
    }

    /// A message that could not be sent is not lost for good: the client tries again.
    fn sent(&mut self, message: &Message, outcome: std::io::Result<()>) {
        self.problem = outcome.err().map(|error| format!("DHCP {:?} not sent: {error}", message.kind));
    }

    fn apply(&mut self, lease: &Lease, rtnl: &mut Socket) {
        let index = self.link.index;
        let address =
            Addr { lifetime: lease.seconds, ..Addr::new(index, lease.address.into(), lease.prefix) };
        let routes = routes(lease, index);
        if let Some((before, _)) =
            self.leased.take_if(|(before, _)| before.ip != address.ip || before.prefix != address.prefix)
        {
            let _ = rtnl.delete_address(&before);
        }
        self.problem = None;
        if let Some(mtu) = lease.mtu.map(u32::from).filter(|mtu| self.takes_mtu(*mtu)) {
            self.set_mtu(mtu, rtnl);
        }
        let outcome = rtnl.add_address(&address);
        self.note(&format!("address {}/{} not added", address.ip, address.prefix), outcome);
        for route in &routes {
            let outcome = rtnl.add_route(route);
            self.note(&format!("{} not added", shown(route)), outcome);
        }
        if let Some((_, before)) = &self.leased {
            for route in before.iter().filter(|route| !routes.contains(route)) {
                let _ = rtnl.delete_route(route);
            }
        }
        self.leased = Some((address, routes));
    }

    fn takes_mtu(&self, mtu: u32) -> bool {
        self.settings.mtu.is_none()
            && mtu != self.link.mtu
            && (self.link.max_mtu == 0 || mtu <= self.link.max_mtu)
    }

    fn withdraw(&mut self, rtnl: &mut Socket) {
        if let Some((address, routes)) = self.leased.take() {
            for route in &routes {
                let _ = rtnl.delete_route(route);
            }
            let outcome = rtnl.delete_address(&address);
            self.note(&format!("address {} not removed", address.ip), outcome);
            if self.mtu != self.link.mtu && self.settings.mtu.is_none() {
                self.set_mtu(self.mtu, rtnl);
            }
        }
    }

    fn set_mtu(&mut self, mtu: u32, rtnl: &mut Socket) {
        let outcome = rtnl.set_mtu(self.link.index, mtu);
        let most = self.link.max_mtu;
        let what = match most {
            1.. if mtu > most => format!("MTU {mtu} not set, the driver takes {most} at most"),
            _ => format!("MTU {mtu} not set"),
        };
        self.note(&what, outcome);
    }

    fn note(&mut self, what: &str, outcome: netlink::Result<()>) {
        if let Err(error) = outcome {
            self.problem = Some(format!("{what}: {error}"));
        }
    }

    /// The lease, if there is one.
    pub fn lease(&self) -> Option<&Lease> {
        self.client.as_ref().and_then(Client::lease)
    }

    /// What DHCPv6 has told, if there is anything.
    pub fn lease6(&self) -> Option<&dhcp6::client::Lease> {
        self.six.as_ref().and_then(Six::lease)
    }

    /// How it is, in words.
    pub fn status(&self, now: Duration) -> String {
        let name = &self.link.name;
        let mut parts: Vec<String> =
            self.settings.addresses.iter().map(|(ip, prefix)| format!("{ip}/{prefix}")).collect();
        if let Some(client) = &self.client {
            parts.extend(
                client
                    .lease()
                    .map(|lease| format!("lease {}/{} from {}", lease.address, lease.prefix, lease.server)),
            );
            parts.extend(client.unanswered().map(|end| unanswered("DHCP", end, now)));
            if let (None, Some(since)) = (client.lease(), client.asking_since()) {
                parts.push(asking("DHCP", "an address", since, now));
            }
        }
        parts.extend(self.six.iter().flat_map(|six| six.status(now)));
        if parts.is_empty() {
            parts.push("no address of its own".to_owned());
        }
        if !self.link.carrier {
            parts.push("no carrier".to_owned());
        }
        parts.extend(self.problem.clone());
        let overlaps = |ip: &IpAddr| same_network(plan::NETWORK.into(), plan::PREFIX, *ip);
        let leased = self.lease().map(|lease| IpAddr::from(lease.address));
        if self.settings.addresses.iter().map(|(ip, _)| *ip).chain(leased).any(|ip| overlaps(&ip)) {
            parts.push(format!("this is inside the units' own network {}/{}", plan::NETWORK, plan::PREFIX));
        }
        format!("{name}: {}", parts.join(", "))
    }
}

/// How long servers have been asked in vain, in words. In steps, so that the sentence does not change at every look.
fn asking(protocol: &str, what: &str, since: Duration, now: Duration) -> String {
    match now.saturating_sub(since).as_secs() {
        0..4 => format!("asking for {what} by {protocol}"),
        4..60 => format!("no {protocol} server has answered yet"),
        seconds => format!("no {protocol} server has answered for {} min", seconds / 60),
    }
}

/// A lease that is not renewed, in words; in steps, too.
fn unanswered(protocol: &str, end: Duration, now: Duration) -> String {
    match end.saturating_sub(now).as_secs() / 60 {
        0 => format!("its {protocol} server does not answer, the lease ends within a minute"),
        minutes => format!("its {protocol} server does not answer, the lease ends in {minutes} min"),
    }
}

/// A route in words.
fn shown(route: &Route) -> String {
    let via = route.via.map(|via| format!(" through {via}")).unwrap_or_default();
    format!("route to {}/{}{via}", route.to, route.prefix)
}

/// A lease's routes, those to directly connected networks first: the others may lead through them.
fn routes(lease: &Lease, index: u32) -> Vec<Route> {
    let metric = METRIC.saturating_add(index);
    let connected = |via: Ipv4Addr| same_network(lease.address.into(), lease.prefix, via.into());
    let mut routes: Vec<Route> = lease
        .routes
        .iter()
        .map(|route| {
            let via = Some(IpAddr::from(route.via)).filter(|via| !via.is_unspecified());
            Route {
                to: route.to.into(),
                prefix: route.prefix,
                via,
                index,
                metric,
                source: Some(lease.address),
                onlink: via.is_some() && !connected(route.via),
                protocol: Route::DHCP,
            }
        })
        .collect();
    routes.sort_by_key(|route| route.via.is_some());
    routes
}

/// Whether `other` is in the network of `ip`.
fn same_network(ip: IpAddr, prefix: u8, other: IpAddr) -> bool {
    match (ip, other) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            (a.to_bits() ^ b.to_bits()) & mask == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            (a.to_bits() ^ b.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::message::ClasslessRoute;

    #[test]
    fn routes_lead_where_the_lease_says() {
        let ip = |a, b, c, d| Ipv4Addr::new(a, b, c, d);
        let lease = Lease {
            address: ip(10, 128, 0, 5),
            prefix: 32,
            server: ip(169, 254, 169, 254),
            routes: vec![
                ClasslessRoute { to: ip(0, 0, 0, 0), prefix: 0, via: ip(10, 128, 0, 1) },
                ClasslessRoute { to: ip(10, 128, 0, 1), prefix: 32, via: ip(0, 0, 0, 0) },
            ],
            dns: Vec::new(),
            ntp: Vec::new(),
            domain: None,
            mtu: Some(1460),
            seconds: None,
        };
        let [direct, default] = routes(&lease, 2)[..] else { panic!() };
        assert_eq!((direct.via, direct.prefix, direct.onlink), (None, 32, false));
        assert_eq!((default.prefix, default.onlink, default.metric), (0, true, 1002));
        let usual = Lease { prefix: 24, ..lease };
        assert!(routes(&usual, 2).iter().all(|route| !route.onlink));
    }
}
