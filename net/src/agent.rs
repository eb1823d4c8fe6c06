//! The agent's loop: what PID 1 says, what the kernel tells of interfaces and addresses, what DHCP servers answer,
//! what is due. One thread; nothing in it waits but the one `poll`.

use crate::limits;
use crate::links::Links;
use crate::metadata;
use crate::names::{self, Names};
use crate::netlink::{self, Addr, Link, Socket, UserOption};
use crate::nft::{Nft, rules};
use crate::plan::{self, Ipv6Net, Place};
use crate::rdnss::Rdnss;
use crate::resolv::{self, Resolv};
use crate::units::{AttachError, Units};
use crate::uplink::{self, Identity, Uplink};
use berth_units::control::client::Client;
use berth_units::control::{FromWorker, ToWorker};
use berth_units::model::{MachineNetwork, Port};
use berth_units::paths;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::SockProtocol;
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the agent ends. Its unit is restarted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// PID 1 is gone or talks nonsense.
    #[error("PID 1: {0}")]
    Control(#[from] io::Error),
    /// The kernel's network interface does not work at all.
    #[error("network interfaces cannot be looked at: {0}")]
    Kernel(#[from] netlink::Error),
    /// A system call that always works.
    #[error("cannot wait: {0}")]
    Wait(nix::Error),
}

/// What the machine config says, once it is known.
#[derive(Debug, Clone)]
struct Wanted {
    network: MachineNetwork,
    hostname: String,
    machine_id: String,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    init: Client,
    rtnl: Socket,
    events: Socket,
    nft: Option<Nft>,
    wanted: Option<Wanted>,
    links: Links,
    uplinks: BTreeMap<u32, Uplink>,
    /// Of the units.
    ipv6: Option<Ipv6Net>,
    units: Units,
    coming: Vec<Coming>,
    rdnss: Rdnss,
    resolv: Resolv,
    /// What units on the bridge are given.
    bridge_resolv: Resolv,
    names: Names,
    /// Where the unit `time` finds the servers that DHCP named, and who is in it.
    time_file: PathBuf,
    time: Option<Vec<IpAddr>>,
    addresses: Vec<Addr>,
    /// What the packet filter holds.
    filtered: Option<Filtered>,
    /// What PID 1 was told last.
    said: Said,
    random: u64,
    notices: Vec<String>,
}

#[derive(Debug, PartialEq)]
struct Filtered {
    published: Vec<(Port, Ipv4Addr)>,
    local: Vec<Ipv4Addr>,
    ipv6: Option<Ipv6Net>,
}

#[derive(Debug, Default)]
struct Said {
    status: String,
    addresses: Option<Vec<(String, String)>>,
    ready: bool,
}

impl Agent {
    /// An agent that talks to PID 1 over `init` and writes `resolv.conf`, and its own state beside it.
    pub fn new(init: Client, resolv: &Path) -> Result<Self, Error> {
        let events = Socket::open(SockProtocol::NetlinkRoute, netlink::EVENTS)?;
        let mut rtnl = Socket::open(SockProtocol::NetlinkRoute, 0)?;
        let links = rtnl.links()?;
        if let Some(lo) = links.iter().find(|link| link.name == "lo" && !link.up) {
            rtnl.set_up(lo.index, true)?;
        }
        let bridge_file = Path::new(paths::BRIDGE_RESOLV_CONF).file_name().unwrap_or_default();
        let time_file = Path::new(paths::TIME_SERVERS).file_name().unwrap_or_default();
        let names: Vec<String> = links.into_iter().map(|link| link.name).collect();
        let addresses = rtnl.addresses()?;
        Ok(Self {
            init,
            events,
            nft: None,
            wanted: None,
            links: Links::default(),
            uplinks: BTreeMap::new(),
            ipv6: None,
            coming: Vec::new(),
            units: Units::load(&resolv.with_file_name("units.json"), &names),
            rdnss: Rdnss::default(),
            resolv: Resolv::new(resolv),
            bridge_resolv: Resolv::new(&resolv.with_file_name(bridge_file)),
            names: Names::default(),
            time_file: resolv.with_file_name(time_file),
            time: None,
            addresses,
            filtered: None,
            said: Said::default(),
            random: seed(),
            notices: Vec::new(),
            rtnl,
        })
    }

    /// Works until PID 1 goes away.
    pub fn run(mut self) -> Result<(), Error> {
        self.refuse_metadata();
        // Units that the agent before us has attached go on asking.
        if self.units.any() {
            self.listen();
        }
        loop {
            self.turn()?;
            self.publish()?;
        }
    }

    /// Waits until something happens, and deals with it.
    fn turn(&mut self) -> Result<(), Error> {
        let ready = self.wait()?;
        let now = now();
        if ready.init {
            self.hear(now)?;
        }
        if ready.events {
            self.notice_kernel(now)?;
        }
        for (index, uplink) in &mut self.uplinks {
            if ready.uplinks.contains(index) {
                uplink.readable(now, &mut self.rtnl);
            }
            if uplink.deadline().is_some_and(|due| due <= now) {
                uplink.tick(now, &mut self.rtnl);
            }
        }
        for token in ready.names {
            self.names.ready(token, &self.units, now);
        }
        if self.names.deadline().is_some_and(|due| due <= now) {
            self.names.tick(&self.units, now);
        }
        self.arrive(now)
    }

    fn wait(&self) -> Result<Ready, Error> {
        let due = self.uplinks.values().filter_map(Uplink::deadline);
        let due = due.chain(self.coming.iter().map(|coming| coming.until));
        let due = due.chain(self.rdnss.deadline()).chain(self.names.deadline()).min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            // Rounded up: a timer that is asked about too early would be asked about again at once.
            let wait = due.saturating_sub(now()) + Duration::from_millis(1);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        let sockets = self.uplinks.iter().flat_map(|(index, uplink)| uplink.fds().map(|fd| (*index, fd)));
        let (indices, sockets): (Vec<u32>, Vec<_>) = sockets.unzip();
        let mut polled: Vec<PollFd<'_>> = [self.init.as_fd(), self.events.as_fd()]
            .into_iter()
            .chain(sockets)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let names = self.names.watch();
        polled.extend(names.iter().map(|(_, fd, events)| PollFd::new(*fd, *events)));
        match poll(&mut polled, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(Error::Wait(errno)),
        }
        let mut any = polled.iter().map(|fd| fd.any().unwrap_or(true));
        Ok(Ready {
            init: any.next().unwrap_or(false),
            events: any.next().unwrap_or(false),
            // `any` goes first: a pair's first half is taken even where there is no second.
            uplinks: any
                .by_ref()
                .take(indices.len())
                .zip(indices)
                .filter_map(|(any, i)| any.then_some(i))
                .collect(),
            names: any.zip(names).filter_map(|(any, (token, ..))| any.then_some(token)).collect(),
        })
    }

    /// One message of PID 1.
    fn hear(&mut self, now: Duration) -> Result<(), Error> {
        let (message, fds) = self.init.recv()?;
        match message {
            ToWorker::Configure { network, hostname, machine_id } => {
                self.ipv6 = Ipv6Net::of(&machine_id);
                self.units.set_ipv6(self.ipv6);
                self.names.set_ipv6(self.ipv6);
                self.refilter();
                self.wanted = Some(Wanted { network, hostname, machine_id });
                self.links.forget_failures();
                self.look(now)?;
                if !self.said.ready {
                    // The config is applied, the first question asked. That nobody answers, or that no cable is
                    // plugged in, is no fault of this system: an outage elsewhere must not take an update back.
                    self.init.tell(FromWorker::Ready)?;
                    self.said.ready = true;
                }
            }
            ToWorker::Attach { unit, ports } => {
                self.coming.retain(|coming| coming.unit != unit);
                match self.attach(&unit, &ports, fds) {
                    Ok(place) => {
                        let until = now.saturating_add(limits::PORT_SETTLES);
                        self.coming.push(Coming { unit, place, until });
                    }
                    Err(error) => {
                        let error = error.to_string();
                        self.init.tell(FromWorker::AttachFailed { unit, error })?;
                    }
                }
            }
            ToWorker::Detach { unit } => {
                self.coming.retain(|coming| coming.unit != unit);
                let outcome = self.units.detach(&unit, &mut self.rtnl);
                self.notice(outcome.map_err(|error| format!("{unit}'s interface not removed: {error}")));
                self.refilter();
                let saved = self.units.save();
                self.notice(saved);
            }
            ToWorker::Names { names } => self.names.set_table(names),
            // Other workers' messages.
            ToWorker::Look { .. }
            | ToWorker::Glance
            | ToWorker::AskCloud { .. }
            | ToWorker::Prepare { .. }
            | ToWorker::Access { .. }
            | ToWorker::Registries { .. }
            | ToWorker::Time { .. }
            | ToWorker::Fetch { .. }
            | ToWorker::InUse { .. }
            | ToWorker::Collect { .. }
            | ToWorker::Load { .. }
            | ToWorker::UpdateCheck { .. }
            | ToWorker::UpdateWrite { .. }
            | ToWorker::Install { .. } => {}
        }
        Ok(())
    }

    fn attach(&mut self, unit: &str, ports: &[Port], fds: Vec<OwnedFd>) -> Result<Place, AttachError> {
        let count = fds.len();
        let [netns, inside] = <[OwnedFd; 2]>::try_from(fds).map_err(|_| AttachError::Descriptors(count))?;
        let first = !self.units.any();
        let place = self.units.admit(unit, ports)?;
        // The filter comes before the first unit can send anything, and so does the rule about metadata servers.
        let refused = metadata::refuse_to_bridge(&mut self.rtnl)
            .map_err(|error| AttachError::Kernel { step: "keep the unit from metadata servers", error });
        let outcome = refused.and_then(|()| self.filter()).and_then(|()| {
            if first {
                self.uplinks.values_mut().for_each(|uplink| uplink.forward(&mut self.rtnl));
            }
            self.units.plumb(unit, place, &netns, inside, &mut self.rtnl)
        });
        if outcome.is_ok() {
            self.listen();
        }
        if outcome.is_err() {
            let _ = self.units.detach(unit, &mut self.rtnl);
            self.refilter();
        }
        let saved = self.units.save();
        self.notice(saved);
        outcome.map(|()| place)
    }

    /// Tells PID 1 of units whose network has begun to work. The kernel's news of an interface is what wakes the loop.
    fn arrive(&mut self, now: Duration) -> Result<(), Error> {
        for coming in std::mem::take(&mut self.coming) {
            if coming.until > now && !self.units.is_usable(coming.place, &mut self.rtnl).unwrap_or(true) {
                self.coming.push(coming);
                continue;
            }
            let address = coming.place.address().into();
            self.init.tell(FromWorker::Attached { unit: coming.unit, address })?;
        }
        Ok(())
    }

    /// Keeps units from metadata servers. Without the rule for the bridge no unit is attached to it; the others can only
    /// be told of.
    fn refuse_metadata(&mut self) {
        let rtnl = &mut self.rtnl;
        let outcomes = [
            ("IPv4 to units on the bridge", metadata::refuse_to_bridge(rtnl)),
            ("IPv6 to units on the bridge", metadata::refuse_to_bridge_ipv6(rtnl)),
            (
                "IPv4 to units on the host's network",
                metadata::refuse_to_users(rtnl, metadata::ADDRESS.into()),
            ),
            (
                "IPv6 to units on the host's network",
                metadata::refuse_to_users(rtnl, metadata::ADDRESS_IPV6.into()),
            ),
        ];
        for (what, outcome) in outcomes {
            self.notice(
                outcome.map_err(|error| format!("metadata servers are not refused by {what}: {error}")),
            );
        }
    }

    /// Answers questions about names from now on. A unit without names is better than none, so this fails nobody.
    fn listen(&mut self) {
        let outcome = self.names.listen();
        self.notice(outcome.map_err(|error| {
            format!(
                "units are not told names: port 53 of {} on {}: {error}; is another server on port 53 of every address?",
                plan::GATEWAY,
                plan::BRIDGE
            )
        }));
    }

    /// Makes the packet filter hold what is published now.
    fn filter(&mut self) -> Result<(), AttachError> {
        let local = self.addresses.iter().filter_map(|address| match address.ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        // The bridge's address belongs to it, though it may be made only later.
        let mut local: Vec<Ipv4Addr> = local.chain([plan::GATEWAY]).collect();
        local.sort_unstable();
        local.dedup();
        let wanted = Filtered { published: self.units.published(), local, ipv6: self.ipv6 };
        if self.filtered.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let step = "set up the packet filter";
        let nft = match &mut self.nft {
            Some(nft) => nft,
            none => none.insert(Nft::open().map_err(|error| AttachError::Kernel { step, error })?),
        };
        nft.commit(|batch| rules::write(batch, &wanted.published, &wanted.local, wanted.ipv6))
            .map_err(|error| AttachError::Kernel { step, error })?;
        self.filtered = Some(wanted);
        Ok(())
    }

    /// As [`Agent::filter`], where nobody waits for the outcome.
    fn refilter(&mut self) {
        if self.units.any() || self.filtered.is_some() {
            let outcome = self.filter();
            self.notice(outcome);
        }
    }

    /// What the kernel has to tell.
    fn notice_kernel(&mut self, now: Duration) -> Result<(), Error> {
        let (mut links, mut addresses) = (false, false);
        let (uplinks, rdnss) = (&self.uplinks, &mut self.rdnss);
        let lost = self.events.drain(|frame| {
            // The comings and goings of our own ports are no news.
            let ours = Link::parse(frame.payload).is_some_and(|link| plan::is_ours(&link.name));
            links |= netlink::is_link(&frame) && !ours;
            addresses |= netlink::is_address(&frame);
            let listens = |index| uplinks.get(&index).is_some_and(Uplink::listens_to_routers);
            if let Some(option) = UserOption::of(&frame).filter(|option| listens(option.index)) {
                rdnss.hear(&option, now);
            }
        })?;
        if lost || links {
            self.look(now)?;
        }
        if lost || addresses {
            self.addresses = self.rtnl.addresses()?;
            self.refilter();
            self.ask_dhcp6(now);
        }
        Ok(())
    }

    /// Tells uplinks whether they have an address to ask DHCPv6 servers from.
    fn ask_dhcp6(&mut self, now: Duration) {
        for (index, uplink) in &mut self.uplinks {
            let mut own = self.addresses.iter().filter(|address| address.index == *index);
            uplink.has_link_local(own.any(Addr::is_link_local), now, &mut self.rtnl);
        }
    }

    /// Looks at all interfaces, and takes over, changes or lets go of those that the config means.
    fn look(&mut self, now: Duration) -> Result<(), Error> {
        let Some(wanted) = self.wanted.clone() else { return Ok(()) };
        let mut gone = std::mem::take(&mut self.uplinks);
        for link in self.links.arrange(&wanted.network, &mut self.rtnl)? {
            let Some(settings) = uplink::settings(&wanted.network, &link) else { continue };
            let index = link.index;
            let uplink = match gone.remove(&index) {
                Some(mut uplink) if uplink.is_as(&settings, &link) => {
                    uplink.changed(link, now, &mut self.rtnl);
                    uplink
                }
                before => {
                    if let Some(mut before) = before {
                        before.stop(&mut self.rtnl);
                    }
                    self.random = self.random.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let identity = Identity {
                        hostname: wanted.hostname.clone(),
                        machine_id: wanted.machine_id.clone(),
                        seed: self.random,
                    };
                    let mut uplink = Uplink::start(link, settings, identity, now, &mut self.rtnl);
                    if self.units.any() {
                        uplink.forward(&mut self.rtnl);
                    }
                    uplink
                }
            };
            self.uplinks.insert(index, uplink);
        }
        gone.values_mut().for_each(|uplink| uplink.stop(&mut self.rtnl));
        self.ask_dhcp6(now);
        Ok(())
    }

    /// Tells PID 1, and writes down, what is new.
    fn publish(&mut self) -> Result<(), Error> {
        let leases = || self.uplinks.values().filter_map(Uplink::lease);
        let leases6 = || self.uplinks.values().filter_map(Uplink::lease6);
        let configured = self.wanted.as_ref().map(|wanted| wanted.network.dns.clone()).unwrap_or_default();
        let has_carrier = |index| self.uplinks.get(&index).is_some_and(|uplink| uplink.link.carrier);
        self.rdnss.forget(now(), has_carrier);
        let servers: Vec<IpAddr> = match configured.is_empty() {
            // DHCP's come first: a unit's own IPv6 address may lead nowhere, and there are three places.
            true => leases()
                .flat_map(|lease| lease.dns.iter().map(|ip| IpAddr::from(*ip)))
                .chain(leases6().flat_map(|lease| lease.dns.iter().map(|ip| IpAddr::from(*ip))))
                .chain(self.rdnss.servers())
                .collect(),
            false => configured,
        };
        let searched = self.wanted.as_ref().map(|wanted| wanted.network.search.clone()).unwrap_or_default();
        let learned = leases().find_map(|lease| lease.domain.clone()).into_iter();
        let learned = learned.chain(leases6().flat_map(|lease| lease.domains.clone()));
        let domains = if searched.is_empty() { resolv::searched(learned) } else { searched };
        let time: Vec<IpAddr> =
            leases().flat_map(|lease| lease.ntp.iter().map(|ip| IpAddr::from(*ip))).collect();
        let domains = || domains.iter().map(String::as_str);
        let written = self.resolv.set(&servers, domains());
        self.notice(written);
        let domains = [names::DOMAIN].into_iter().chain(domains());
        let written = self.bridge_resolv.set(&[plan::GATEWAY.into()], domains);
        self.notice(written);
        self.names.set_servers(&servers);
        if self.time.as_ref() != Some(&time) {
            let written = resolv::write_time_servers(&self.time_file, &time);
            self.notice(written);
            self.time = Some(time);
        }

        for notice in std::mem::take(&mut self.notices) {
            // Kept as the unit's log.
            eprintln!("{notice}");
        }
        let addresses = self.shown_addresses();
        if self.wanted.is_some() && self.said.addresses.as_ref() != Some(&addresses) {
            self.init.tell(FromWorker::Addresses { addresses: addresses.clone() })?;
            self.said.addresses = Some(addresses);
        }
        let status = self.status(now());
        if status != self.said.status {
            self.init.tell(FromWorker::Status { text: status.clone() })?;
            self.said.status = status;
        }
        Ok(())
    }

    /// Global addresses of the machine towards the outside.
    fn shown_addresses(&self) -> Vec<(String, String)> {
        let shown = self.addresses.iter().filter(|address| address.global);
        shown
            .filter_map(|address| {
                let uplink = self.uplinks.get(&address.index)?;
                Some((uplink.link.name.clone(), format!("{}/{}", address.ip, address.prefix)))
            })
            .collect()
    }

    fn status(&self, now: Duration) -> String {
        let Some(wanted) = &self.wanted else { return String::new() };
        let mut parts: Vec<String> = self.uplinks.values().map(|uplink| uplink.status(now)).collect();
        let absent =
            wanted.network.interfaces.iter().map(|interface| &interface.matches).filter(|matches| {
                !self.uplinks.values().any(|uplink| uplink::matches(matches, &uplink.link))
            });
        parts.extend(absent.map(|matches| format!("{matches}: there is no such Ethernet interface")));
        parts.extend(self.links.troubles().cloned());
        if parts.is_empty() {
            parts.push("there is no Ethernet interface".to_owned());
        }
        parts.join("; ")
    }

    fn notice<E: std::fmt::Display>(&mut self, outcome: Result<(), E>) {
        if let Err(error) = outcome {
            self.notices.push(error.to_string());
        }
    }
}

/// A unit that is connected, and whose interface does not work yet.
#[derive(Debug)]
struct Coming {
    unit: String,
    place: Place,
    until: Duration,
}

/// What `poll` found.
struct Ready {
    init: bool,
    events: bool,
    uplinks: Vec<u32>,
    names: Vec<names::Token>,
}

/// Time that goes on while the machine sleeps, as leases do.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// Differs between machines and boots: the standard library's own seed for hash tables, and the time.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(now())
}
