//! What a DHCP client does next: a state machine without clock, socket or kernel.
//!
//! ```text
//!        Start            OFFER               ACK           T1            T2
//! Idle ───────▶ Selecting ─────▶ Requesting ─────▶ Bound ─────▶ Renewing ─────▶ Rebinding
//!                   ▲  ▲              │ NAK, tries    ▲            │ ACK           │ ACK
//!                   │  └──────────────┘ used up       └────────────┴──────────────┘
//!                   └───── NAK (address withdrawn), lease over (address withdrawn) ─────┘
//! ```
//! The first DISCOVER goes out at once: RFC 2131 wants up to ten seconds of random delay, for buildings full of
//! machines on one hub that get their power back; a boot here takes less than that. Tries that follow are
//! spaced by a doubling wait with jitter. `Halt` (the cable is gone) keeps the lease: its end is timed still, and
//! the next DISCOVER asks for the same address.

use super::message::{self, ClasslessRoute, Kind, Message, Op};
use crate::chance::Chance;
use crate::limits;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What was given, in the form in which it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Ours.
    pub address: Ipv4Addr,
    /// Its network's prefix length.
    pub prefix: u8,
    /// Who gave it.
    pub server: Ipv4Addr,
    /// Routes, the default one among them.
    pub routes: Vec<ClasslessRoute>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Search domain.
    pub domain: Option<String>,
    /// MTU of the network.
    pub mtu: Option<u16>,
    /// Length in seconds; none = for ever.
    pub seconds: Option<u32>,
}

/// Where the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No carrier.
    Idle,
    /// Asking who there is.
    Selecting,
    /// Taking an offer.
    Requesting {
        /// The address offered.
        address: Ipv4Addr,
        /// By whom.
        server: Ipv4Addr,
    },
    /// Has a lease.
    Bound,
    /// Has a lease, asks its server for more.
    Renewing,
    /// Has a lease, asks anybody for more.
    Rebinding,
}

/// What can happen.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// There is a carrier.
    Start,
    /// There is none any more.
    Halt,
    /// A message came.
    Heard(&'a Message),
    /// The deadline has come.
    Timer,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send to everybody, past the kernel's IP.
    Broadcast(Message),
    /// Send to this server by UDP.
    Unicast(Ipv4Addr, Message),
    /// Use this; it replaces what was used before.
    Apply(Lease),
    /// Use nothing any more.
    Withdraw,
}

/// Which socket must be open for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// None.
    Nothing,
    /// A packet socket.
    Packet,
    /// A UDP socket.
    Udp,
}

#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    t1: Duration,
    t2: Duration,
    end: Duration,
}

/// One interface's client. `step` is the only way to change it.
#[derive(Debug, Clone)]
pub struct Client {
    mac: [u8; 6],
    hostname: Option<String>,
    chance: Chance,
    state: State,
    xid: u32,
    /// Tries in this state.
    tries: u32,
    /// NAKs in a row: each makes the next start later.
    naks: u32,
    began: Duration,
    sent: Duration,
    retry: Option<Duration>,
    held: Option<Held>,
}

impl Client {
    /// A client at rest. `seed` makes transaction numbers and jitter; `hostname` is told to the server.
    pub fn new(mac: [u8; 6], hostname: &str, seed: u64) -> Self {
        Self {
            mac,
            hostname: Some(hostname.to_owned()).filter(|name| !name.is_empty() && name.len() <= 63),
            chance: Chance::new(seed),
            state: State::Idle,
            xid: 0,
            tries: 0,
            naks: 0,
            began: Duration::ZERO,
            sent: Duration::ZERO,
            retry: None,
            held: None,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The lease in use.
    pub fn lease(&self) -> Option<&Lease> {
        self.held.as_ref().map(|held| &held.lease)
    }

    /// When `Event::Timer` is due.
    pub fn deadline(&self) -> Option<Duration> {
        let end = self.held.as_ref().map(|held| held.end).filter(|end| *end != Duration::MAX);
        [self.retry, end].into_iter().flatten().min()
    }

    /// The socket that answers come to now.
    pub fn listens(&self) -> Listen {
        match self.state {
            State::Idle | State::Bound => Listen::Nothing,
            State::Renewing => Listen::Udp,
            State::Selecting | State::Requesting { .. } | State::Rebinding => Listen::Packet,
        }
    }

    /// For how long it has been asking without an answer.
    pub fn asking_since(&self) -> Option<Duration> {
        matches!(self.state, State::Selecting | State::Requesting { .. }).then_some(self.began)
    }

    /// Until when the lease is good, if its server has not answered for a while.
    pub fn unanswered(&self) -> Option<Duration> {
        let asked = match self.state {
            State::Renewing => self.tries > 1,
            // Its server was asked before.
            State::Rebinding => true,
            _ => false,
        };
        self.held.as_ref().filter(|_| asked).map(|held| held.end)
    }

    /// What `event`, at `now`, makes of it, and what is to be done.
    pub fn step(&mut self, event: Event<'_>, now: Duration) -> Vec<Effect> {
        match event {
            Event::Start if self.state == State::Idle => self.discover(now),
            Event::Start => Vec::new(),
            Event::Halt => {
                self.state = State::Idle;
                self.retry = None;
                Vec::new()
            }
            Event::Heard(message) => self.heard(message, now),
            Event::Timer => self.timer(now),
        }
    }

    fn timer(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.held.take_if(|held| held.end <= now).is_some() {
            effects.push(Effect::Withdraw);
            if matches!(self.state, State::Bound | State::Renewing | State::Rebinding) {
                effects.extend(self.discover(now));
                return effects;
            }
        }
        if self.retry.is_none_or(|retry| now < retry) {
            return effects;
        }
        let t2 = self.held.as_ref().map_or(now, |held| held.t2);
        effects.extend(match self.state {
            State::Idle => Vec::new(),
            State::Selecting => self.send_discover(now),
            State::Requesting { .. } if self.tries >= limits::DHCP_REQUESTS => self.discover(now),
            State::Requesting { address, server } => self.send_request(address, server, now),
            State::Bound => {
                self.begin(State::Renewing, now);
                self.extend(now)
            }
            State::Renewing if now >= t2 => {
                self.begin(State::Rebinding, now);
                self.extend(now)
            }
            State::Renewing | State::Rebinding => self.extend(now),
        });
        effects
    }

    fn heard(&mut self, message: &Message, now: Duration) -> Vec<Effect> {
        if message.op != Op::Reply || message.xid != self.xid || message.mac != self.mac {
            return Vec::new();
        }
        match (self.state, message.kind, message.server) {
            (State::Selecting, Kind::Offer, Some(server))
                if self.tries > 0 && message::is_host(message.yiaddr) && message::is_host(server) =>
            {
                let address = message.yiaddr;
                self.state = State::Requesting { address, server };
                self.tries = 0;
                self.send_request(address, server, now)
            }
            (State::Requesting { server, .. }, Kind::Ack, from) if from.unwrap_or(server) == server => {
                self.bind(message, server, now)
            }
            (State::Renewing | State::Rebinding, Kind::Ack, from) => {
                let server = from.or(self.lease().map(|lease| lease.server));
                server.map(|server| self.bind(message, server, now)).unwrap_or_default()
            }
            (State::Requesting { server, .. }, Kind::Nak, from) if from.unwrap_or(server) == server => {
                self.refused(now)
            }
            (State::Renewing | State::Rebinding, Kind::Nak, _) => self.refused(now),
            _ => Vec::new(),
        }
    }

    /// A NAK: the address is not ours. Start over, later each time.
    fn refused(&mut self, now: Duration) -> Vec<Effect> {
        let effects = self.held.take().map(|_| Effect::Withdraw).into_iter().collect();
        self.begin(State::Selecting, now);
        self.retry = Some(now + self.wait(self.naks));
        self.naks = self.naks.saturating_add(1);
        effects
    }

    fn bind(&mut self, ack: &Message, server: Ipv4Addr, now: Duration) -> Vec<Effect> {
        let Some(lease) = lease_of(ack, server) else { return Vec::new() };
        let (mut t1, mut t2, mut end) = (Duration::MAX, Duration::MAX, Duration::MAX);
        if let Some(seconds) = lease.seconds {
            let usual = (seconds / 2, seconds - seconds / 8);
            let (one, two) = match (ack.t1, ack.t2) {
                (Some(one), Some(two)) if 0 < one && one < two && two < seconds => (one, two),
                (Some(one), None) if 0 < one && one < usual.1 => (one, usual.1),
                _ => usual,
            };
            // RFC 2131, 4.4.1: the lease counts from when it was asked for.
            let after = |seconds: u32| self.sent + Duration::from_secs(u64::from(seconds));
            (t1, t2, end) = (after(one), after(two), after(seconds));
        }
        self.state = State::Bound;
        self.naks = 0;
        self.retry = Some(t1).filter(|_| t1 != Duration::MAX);
        self.held = Some(Held { lease: lease.clone(), t1, t2, end });
        debug_assert!(self.held.as_ref().is_some_and(|held| held.t1 <= held.t2) && now >= self.sent);
        vec![Effect::Apply(lease)]
    }

    fn begin(&mut self, state: State, now: Duration) {
        self.state = state;
        self.xid = u32::try_from(self.chance.number() >> 32).unwrap_or(0);
        self.tries = 0;
        self.began = now;
    }

    fn discover(&mut self, now: Duration) -> Vec<Effect> {
        self.begin(State::Selecting, now);
        self.send_discover(now)
    }

    fn send_discover(&mut self, now: Duration) -> Vec<Effect> {
        let mut message = self.message(Kind::Discover, now);
        message.requested = self.lease().map(|lease| lease.address);
        self.note_sent(now);
        vec![Effect::Broadcast(message)]
    }

    fn send_request(&mut self, address: Ipv4Addr, server: Ipv4Addr, now: Duration) -> Vec<Effect> {
        let mut message = self.message(Kind::Request, now);
        (message.requested, message.server) = (Some(address), Some(server));
        self.note_sent(now);
        vec![Effect::Broadcast(message)]
    }

    /// Asks for more time (Renewing, Rebinding).
    fn extend(&mut self, now: Duration) -> Vec<Effect> {
        let Some(held) = self.held.clone() else { return self.discover(now) };
        let mut message = self.message(Kind::Request, now);
        message.ciaddr = held.lease.address;
        self.note_sent(now);
        // RFC 2131, 4.4.5: half of the time left, but not more often than once a minute.
        let until = if self.state == State::Renewing { held.t2 } else { held.end };
        let left = until.saturating_sub(now);
        self.retry = Some(now + (left / 2).max(limits::DHCP_RENEW_WAIT).min(left));
        if self.state == State::Renewing {
            vec![Effect::Unicast(held.lease.server, message)]
        } else {
            vec![Effect::Broadcast(message)]
        }
    }

    fn message(&self, kind: Kind, now: Duration) -> Message {
        let mut message = Message::new(Op::Request, kind, self.xid, self.mac);
        let seconds = now.saturating_sub(self.began).as_secs();
        message.secs = u16::try_from(seconds).unwrap_or(u16::MAX);
        message.hostname.clone_from(&self.hostname);
        message
    }

    fn note_sent(&mut self, now: Duration) {
        self.retry = Some(now + self.wait(self.tries));
        self.tries = self.tries.saturating_add(1);
        self.sent = now;
    }

    /// The wait after `tries` earlier ones: doubling, an eighth more or less.
    fn wait(&mut self, tries: u32) -> Duration {
        let doubled = limits::DHCP_FIRST_WAIT * 2_u32.pow(tries.min(16));
        let eighths = u32::try_from(self.chance.number() >> 32).unwrap_or(0) % 257;
        let wait = doubled.min(limits::DHCP_LONGEST_WAIT);
        wait - wait / 8 + wait / 4 * eighths / 256
    }
}

/// What an ACK gives; none if it gives nothing that can be used.
fn lease_of(ack: &Message, server: Ipv4Addr) -> Option<Lease> {
    let seconds = match ack.lease? {
        u32::MAX => None,
        seconds => Some(seconds.max(limits::DHCP_SHORTEST_LEASE)),
    };
    if !message::is_host(ack.yiaddr) {
        return None;
    }
    // RFC 3442: with classless routes, the routers count for nothing.
    let default = |via: &Ipv4Addr| ClasslessRoute { to: Ipv4Addr::UNSPECIFIED, prefix: 0, via: *via };
    let routes = match ack.routes.is_empty() {
        true => ack.routers.first().map(default).into_iter().collect(),
        false => ack.routes.clone(),
    };
    Some(Lease {
        address: ack.yiaddr,
        prefix: ack.prefix.filter(|prefix| *prefix > 0).unwrap_or(classful(ack.yiaddr)),
        server,
        routes,
        dns: ack.dns.clone(),
        ntp: ack.ntp.clone(),
        domain: ack.domain.clone(),
        mtu: ack.mtu.filter(|mtu| *mtu >= limits::SMALLEST_MTU),
        seconds,
    })
}

/// The prefix that an address had before there were masks, for servers that send none.
fn classful(ip: Ipv4Addr) -> u8 {
    match ip.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests;
