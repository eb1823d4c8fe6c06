//! What a DHCPv6 client does next: a state machine without clock, socket or kernel.
//!
//! ```text
//!          Start             ADVERTISE             REPLY           T1             T2
//! Idle ────┬───▶ Soliciting ───────────▶ Requesting ─────▶ Bound ─────▶ Renewing ─────▶ Rebinding
//!          │         ▲   ▲                │ none left,       ▲            │ REPLY          │ REPLY
//!          │         │   └────────────────┘ tries used up    └────────────┴────────────────┘
//!          │         └──── the last address's time is over (withdrawn), or the server takes it back ────┘
//!          │
//!          └───▶ Informing ──── REPLY ───▶ Informed ──── refresh ───▶ Informing
//! ```
//! The second row is [`Mode::Information`]: addresses come from elsewhere. Waits are those of RFC 8415, 7.6, but for two:
//! the first question goes out at once, as in DHCPv4 ([`crate::dhcp::client`]), and the longest wait is two minutes
//! ([`limits::DHCP6_LONGEST_WAIT`]) unless the server names another. Advertisements are collected for the first second;
//! then the best is taken, or the first that comes. `Halt` (no carrier, no address on the link) keeps the lease: its end is
//! timed still, and the next Solicit asks for the same addresses.

use super::message::{Address, Association, Kind, Message, Status};
use crate::chance::Chance;
use crate::limits;
use std::net::Ipv6Addr;
use std::time::Duration;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Addresses, and all else.
    Address,
    /// Name servers and domains only.
    Information,
}

/// What was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Ours; none in [`Mode::Information`].
    pub addresses: Vec<Address>,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
    /// Search domains.
    pub domains: Vec<String>,
}

/// Where the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody can be asked.
    Idle,
    /// Asking who there is.
    Soliciting,
    /// Taking an offer.
    Requesting,
    /// Has addresses.
    Bound,
    /// Has addresses, asks its server for more time.
    Renewing,
    /// Has addresses, asks anybody for more time.
    Rebinding,
    /// Asking for what is no address.
    Informing,
    /// Knows it.
    Informed,
}

/// What can happen.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// There is a carrier, and an address on the link to ask from.
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
    /// Send to all servers and relays on the link.
    Send(Message),
    /// Use this; it replaces what was used before.
    Apply(Lease),
    /// Use nothing any more.
    Withdraw,
}

#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    server: Vec<u8>,
    t2: Duration,
    end: Duration,
}

/// A server's offer.
#[derive(Debug, Clone)]
struct Offer {
    server: Vec<u8>,
    addresses: Vec<Address>,
    preference: u8,
}

/// One interface's client. `step` is the only way to change it.
#[derive(Debug, Clone)]
pub struct Client {
    mode: Mode,
    duid: Vec<u8>,
    /// The number of the one association there is.
    id: u32,
    chance: Chance,
    state: State,
    xid: u32,
    /// Tries in this state.
    tries: u32,
    /// Refusals in a row: each makes the next start later.
    refusals: u32,
    began: Duration,
    sent: Duration,
    retry: Option<Duration>,
    /// Longest wait of a Solicit, as a server wants it.
    longest: Duration,
    offer: Option<Offer>,
    held: Option<Held>,
}

impl Client {
    /// A client at rest. `seed` makes transaction numbers and jitter.
    pub fn new(mode: Mode, duid: Vec<u8>, mac: [u8; 6], seed: u64) -> Self {
        let [_, _, a, b, c, d] = mac;
        Self {
            mode,
            duid,
            id: u32::from_be_bytes([a, b, c, d]),
            chance: Chance::new(seed),
            state: State::Idle,
            xid: 0,
            tries: 0,
            refusals: 0,
            began: Duration::ZERO,
            sent: Duration::ZERO,
            retry: None,
            longest: limits::DHCP6_LONGEST_WAIT,
            offer: None,
            held: None,
        }
    }

    /// What it asks for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// What is in use.
    pub fn lease(&self) -> Option<&Lease> {
        self.held.as_ref().map(|held| &held.lease)
    }

    /// When `Event::Timer` is due.
    pub fn deadline(&self) -> Option<Duration> {
        let end = self.held.as_ref().map(|held| held.end).filter(|end| *end != Duration::MAX);
        [self.retry, end].into_iter().flatten().min()
    }

    /// Whether answers may come now.
    pub fn listens(&self) -> bool {
        !matches!(self.state, State::Idle | State::Bound | State::Informed)
    }

    /// For how long it has been asking without an answer.
    pub fn asking_since(&self) -> Option<Duration> {
        let asks = matches!(self.state, State::Soliciting | State::Requesting | State::Informing);
        asks.then_some(self.began)
    }

    /// Until when the addresses are good, if their server has not answered for a while.
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
            Event::Start if self.state == State::Idle => self.start(now),
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

    fn start(&mut self, now: Duration) -> Vec<Effect> {
        self.offer = None;
        self.begin(if self.mode == Mode::Address { State::Soliciting } else { State::Informing }, now);
        self.ask(now)
    }

    fn begin(&mut self, state: State, now: Duration) {
        self.state = state;
        self.xid = u32::try_from(self.chance.number() >> 40).unwrap_or(0);
        self.tries = 0;
        self.began = now;
    }

    fn timer(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.held.take_if(|held| held.end <= now).is_some() {
            effects.push(Effect::Withdraw);
            if matches!(self.state, State::Bound | State::Renewing | State::Rebinding) {
                effects.extend(self.start(now));
                return effects;
            }
        }
        if self.retry.is_none_or(|retry| now < retry) {
            return effects;
        }
        let t2 = self.held.as_ref().map_or(now, |held| held.t2);
        match self.state {
            State::Idle => return effects,
            State::Soliciting if self.offer.is_some() => self.begin(State::Requesting, now),
            State::Requesting if self.tries >= limits::DHCP6_REQUESTS => {
                effects.extend(self.start(now));
                return effects;
            }
            State::Bound => self.begin(State::Renewing, now),
            State::Renewing if now >= t2 => self.begin(State::Rebinding, now),
            State::Informed => self.begin(State::Informing, now),
            State::Soliciting | State::Requesting | State::Renewing | State::Rebinding | State::Informing => {
            }
        }
        effects.extend(self.ask(now));
        effects
    }

    fn heard(&mut self, message: &Message, now: Duration) -> Vec<Effect> {
        let Some(server) = &message.server else { return Vec::new() };
        if message.xid != self.xid || message.client != self.duid || !self.listens() {
            return Vec::new();
        }
        if let Some(seconds) = message.solicit_wait.filter(|seconds| (60..=86_400).contains(seconds)) {
            self.longest = Duration::from_secs(seconds.into());
        }
        let ours = message.associations.iter().find(|association| association.id == self.id);
        match (self.state, message.kind) {
            (State::Soliciting, Kind::Advertise) => self.offered(message, server, ours, now),
            (State::Informing, Kind::Reply) if message.status == Status::Success => {
                self.informed(message, now)
            }
            (State::Requesting, Kind::Reply)
                if self.offer.as_ref().is_none_or(|offer| offer.server == *server) =>
            {
                self.replied(message, server, ours, now)
            }
            (State::Renewing | State::Rebinding, Kind::Reply) => self.replied(message, server, ours, now),
            _ => Vec::new(),
        }
    }

    fn offered(
        &mut self,
        message: &Message,
        server: &[u8],
        ours: Option<&Association>,
        now: Duration,
    ) -> Vec<Effect> {
        let addresses = ours.filter(|ours| ours.status == Status::Success).map(usable).unwrap_or_default();
        if message.status != Status::Success || addresses.is_empty() {
            return Vec::new();
        }
        let preference = message.preference;
        if self.offer.as_ref().is_none_or(|best| best.preference < preference) {
            self.offer = Some(Offer { server: server.to_vec(), addresses, preference });
        }
        // RFC 8415, 18.2.9: nobody can be better than this one; after the first wait nobody is waited for.
        if preference < u8::MAX && self.tries <= 1 {
            return Vec::new();
        }
        self.begin(State::Requesting, now);
        self.ask(now)
    }

    fn replied(
        &mut self,
        message: &Message,
        server: &[u8],
        ours: Option<&Association>,
        now: Duration,
    ) -> Vec<Effect> {
        // A server that cannot is one that has not answered: it is asked again, and later each time.
        if message.status == Status::Failed {
            return Vec::new();
        }
        let Some(ours) = ours else { return Vec::new() };
        let status = if ours.status == Status::Success { message.status } else { ours.status };
        match status {
            Status::Failed => Vec::new(),
            // It has forgotten: it may give them anew (RFC 8415, 18.2.10.1).
            Status::NoBinding if self.state != State::Requesting => {
                let addresses = self.lease().map(|lease| lease.addresses.clone()).unwrap_or_default();
                self.offer = Some(Offer { server: server.to_vec(), addresses, preference: 0 });
                self.begin(State::Requesting, now);
                self.ask(now)
            }
            Status::Success if !usable(ours).is_empty() => self.bind(message, server, ours, now),
            _ => self.refused(now),
        }
    }

    /// The addresses are not ours, or not any more. Start over, later each time.
    fn refused(&mut self, now: Duration) -> Vec<Effect> {
        let effects = self.held.take().map(|_| Effect::Withdraw).into_iter().collect();
        self.offer = None;
        self.begin(State::Soliciting, now);
        self.retry = Some(now + self.wait(limits::DHCP6_FIRST_WAIT, self.longest, self.refusals));
        self.refusals = self.refusals.saturating_add(1);
        effects
    }

    fn bind(&mut self, reply: &Message, server: &[u8], ours: &Association, now: Duration) -> Vec<Effect> {
        let lease = Lease { addresses: usable(ours), dns: reply.dns.clone(), domains: reply.domains.clone() };
        let shortest =
            lease.addresses.iter().map(|address| address.preferred).filter(|&seconds| seconds > 0).min();
        let longest = lease.addresses.iter().map(|address| address.valid).max().unwrap_or(0);
        // RFC 8415, 21.4: half and four fifths of the shortest preferred time, where the server leaves it to us.
        let shortest = shortest.unwrap_or(longest);
        let part = |given: u32, fifths: u32| match (given, shortest) {
            (0, u32::MAX) => u32::MAX,
            (0, _) => shortest / 10 * fifths,
            _ => given,
        };
        let t1 = part(ours.t1, 5).max(limits::DHCP6_SHORTEST_RENEWAL);
        let t2 = part(ours.t2, 8).max(t1);
        let after = |seconds: u32| match seconds {
            u32::MAX => Duration::MAX,
            _ => self.sent.saturating_add(Duration::from_secs(seconds.into())),
        };
        let (t1, t2, end) = (after(t1), after(t2), after(longest));
        self.state = State::Bound;
        (self.refusals, self.offer) = (0, None);
        self.retry = Some(t1).filter(|_| t1 != Duration::MAX);
        debug_assert!(t1 <= t2 && now >= self.sent);
        self.held = Some(Held { lease: lease.clone(), server: server.to_vec(), t2, end });
        vec![Effect::Apply(lease)]
    }

    fn informed(&mut self, reply: &Message, now: Duration) -> Vec<Effect> {
        let lease = Lease { addresses: Vec::new(), dns: reply.dns.clone(), domains: reply.domains.clone() };
        let refresh =
            reply.refresh.map_or(limits::DHCP6_REFRESH, |seconds| Duration::from_secs(seconds.into()));
        self.state = State::Informed;
        self.retry = Some(now.saturating_add(refresh.max(limits::DHCP6_SHORTEST_REFRESH)));
        // What is known stays known until somebody says something else.
        self.held =
            Some(Held { lease: lease.clone(), server: Vec::new(), t2: Duration::MAX, end: Duration::MAX });
        vec![Effect::Apply(lease)]
    }

    /// Sends this state's question, and sets when it is sent again.
    fn ask(&mut self, now: Duration) -> Vec<Effect> {
        use limits::{DHCP6_FIRST_WAIT, DHCP6_LONGEST_RENEWAL, DHCP6_LONGEST_REQUEST, DHCP6_RENEWAL};
        let held = self.held.clone();
        let server = held.as_ref().map(|held| held.server.clone());
        let addresses = held.as_ref().map(|held| held.lease.addresses.clone()).unwrap_or_default();
        let offer = self.offer.clone();
        let (kind, server, addresses, first, longest) = match self.state {
            State::Soliciting => (Kind::Solicit, None, addresses, DHCP6_FIRST_WAIT, self.longest),
            State::Requesting => {
                let (server, addresses) =
                    offer.map_or((server, addresses), |offer| (Some(offer.server), offer.addresses));
                (Kind::Request, server, addresses, DHCP6_FIRST_WAIT, DHCP6_LONGEST_REQUEST)
            }
            State::Renewing => (Kind::Renew, server, addresses, DHCP6_RENEWAL, DHCP6_LONGEST_RENEWAL),
            State::Rebinding => (Kind::Rebind, None, addresses, DHCP6_RENEWAL, DHCP6_LONGEST_RENEWAL),
            State::Informing => {
                (Kind::Information, None, Vec::new(), DHCP6_FIRST_WAIT, limits::DHCP6_LONGEST_WAIT)
            }
            State::Idle | State::Bound | State::Informed => return Vec::new(),
        };
        let mut message = Message::new(kind, self.xid, self.duid.clone());
        message.server = server;
        let hundredths = now.saturating_sub(self.began).as_millis() / 10;
        message.elapsed = u16::try_from(hundredths).unwrap_or(u16::MAX);
        if kind != Kind::Information {
            // The times are the server's to say.
            let wish = |address: &Address| Address { preferred: 0, valid: 0, ..*address };
            let addresses = addresses.iter().map(wish).collect();
            message.associations = vec![Association { id: self.id, addresses, ..Association::default() }];
        }
        let mut until = now.saturating_add(self.wait(first, longest, self.tries));
        if self.state == State::Renewing {
            until = until.min(held.map_or(Duration::MAX, |held| held.t2).max(now));
        }
        self.retry = Some(until);
        self.tries = self.tries.saturating_add(1);
        self.sent = now;
        vec![Effect::Send(message)]
    }

    /// The wait after `tries` earlier ones (RFC 8415, 15): doubling, up to a tenth more.
    fn wait(&mut self, first: Duration, longest: Duration, tries: u32) -> Duration {
        let doubled = first.saturating_mul(2_u32.saturating_pow(tries.min(16))).min(longest);
        let part = u32::try_from(self.chance.number() >> 32).unwrap_or(0) % 257;
        doubled + doubled / 10 * part / 256
    }
}

/// The addresses that are good for a time.
fn usable(association: &Association) -> Vec<Address> {
    association.addresses.iter().filter(|address| address.valid > 0).copied().collect()
}

#[cfg(test)]
mod tests;
