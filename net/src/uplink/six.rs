//! DHCPv6 on one interface: [`dhcp6::client`]'s effects carried out.

use super::{Identity, asking, unanswered};
use crate::dhcp6;
use crate::dhcp6::client::{Client, Effect, Event, Lease, Mode};
use crate::dhcp6::message::Address;
use crate::dhcp6::port::Port;
use crate::netlink::{Addr, Link, Socket};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The client, its socket, and what it put on the interface.
#[derive(Debug)]
pub struct Six {
    index: u32,
    client: Client,
    port: Port,
    leased: Vec<Addr>,
    /// The last thing that failed, as a sentence.
    problem: Option<String>,
}

impl Six {
    /// At rest.
    pub fn new(mode: Mode, link: &Link, identity: &Identity) -> Self {
        let duid = dhcp6::duid(&identity.machine_id, link.permanent.unwrap_or(link.mac));
        Self {
            index: link.index,
            // The other client's numbers are other ones.
            client: Client::new(mode, duid, link.mac, identity.seed.rotate_left(32)),
            port: Port::new(link.index, &link.name),
            leased: Vec::new(),
            problem: None,
        }
    }

    /// What is asked for.
    pub fn mode(&self) -> Mode {
        self.client.mode()
    }

    /// What is in use.
    pub fn lease(&self) -> Option<&Lease> {
        self.client.lease()
    }

    /// The socket to poll.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.port.fd()
    }

    /// When `Event::Timer` is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.client.deadline()
    }

    /// Its socket has something.
    pub fn readable(&mut self, now: Duration, rtnl: &mut Socket) {
        for message in self.port.receive() {
            self.step(Event::Heard(&message), now, rtnl);
        }
    }

    /// Something has happened.
    pub fn step(&mut self, event: Event<'_>, now: Duration, rtnl: &mut Socket) {
        for effect in self.client.step(event, now) {
            match effect {
                // One that could not be sent is not lost for good: the client tries again.
                Effect::Send(message) => {
                    let sent = self.port.send(&message);
                    self.problem =
                        sent.err().map(|error| format!("DHCPv6 {:?} not sent: {error}", message.kind));
                }
                Effect::Apply(lease) => self.apply(&lease, rtnl),
                Effect::Withdraw => self.stop(rtnl),
            }
        }
        if let Err(error) = self.port.set(self.client.listens()) {
            self.problem = Some(format!("DHCPv6's socket not opened: {error}"));
        }
    }

    fn apply(&mut self, lease: &Lease, rtnl: &mut Socket) {
        self.problem = None;
        // Nothing is said of the link's prefix; routers advertise it (RFC 5942).
        let of = |address: &Address| Addr {
            lifetime: Some(address.valid).filter(|seconds| *seconds != u32::MAX),
            preferred: Some(address.preferred),
            ..Addr::new(self.index, address.ip.into(), 128)
        };
        let wanted: Vec<Addr> = lease.addresses.iter().map(of).collect();
        for gone in self.leased.iter().filter(|before| !wanted.iter().any(|address| address.ip == before.ip))
        {
            let _ = rtnl.delete_address(gone);
        }
        for address in &wanted {
            if let Err(error) = rtnl.add_address(address) {
                self.problem = Some(format!("address {} not added: {error}", address.ip));
            }
        }
        self.leased = wanted;
    }

    /// Takes away what was put there.
    pub fn stop(&mut self, rtnl: &mut Socket) {
        for address in std::mem::take(&mut self.leased) {
            if let Err(error) = rtnl.delete_address(&address) {
                self.problem = Some(format!("address {} not removed: {error}", address.ip));
            }
        }
    }

    /// How it is, in words.
    pub fn status(&self, now: Duration) -> Vec<String> {
        let mut parts: Vec<String> =
            self.leased.iter().map(|address| format!("lease {} by DHCPv6", address.ip)).collect();
        parts.extend(self.client.unanswered().map(|end| unanswered("DHCPv6", end, now)));
        if let (None, Some(since)) = (self.client.lease(), self.client.asking_since()) {
            let what = match self.mode() {
                Mode::Address => "an address",
                Mode::Information => "name servers",
            };
            parts.push(asking("DHCPv6", what, since, now));
        }
        parts.extend(self.problem.clone());
        parts
    }
}
