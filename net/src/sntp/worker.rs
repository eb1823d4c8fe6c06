//! The unit `time`: sockets, names and PID 1 around the [`Client`].

use super::client::{Client, Outcome};
use super::message::{BYTES, PORT};
use crate::limits;
use berth_units::control::client::Client as Init;
use berth_units::control::{FromWorker, ToWorker};
use berth_units::paths;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Asked when neither the config nor DHCP names a server: four names, so that a vote is possible.
pub const DEFAULT_SERVERS: [&str; 4] =
    ["0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org", "3.pool.ntp.org"];

/// The worker's whole life.
pub fn run() -> ExitCode {
    match Init::worker().and_then(|init| Worker::new(init).run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("time: connection to PID 1: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Worker {
    init: Init,
    client: Client,
    /// Of the config; `None` as long as PID 1 has not told.
    wanted: Option<Option<Vec<String>>>,
    sockets: BTreeMap<SocketAddr, UdpSocket>,
    next_round: Duration,
    said: String,
    random: RandomState,
    questions: u64,
}

impl Worker {
    fn new(init: Init) -> Self {
        Self {
            init,
            client: Client::default(),
            wanted: None,
            sockets: BTreeMap::new(),
            next_round: Duration::ZERO,
            said: String::new(),
            // Keyed by the kernel's random numbers.
            random: RandomState::new(),
            questions: 0,
        }
    }

    fn run(mut self) -> io::Result<()> {
        // Nobody's answer is waited for: that the time is not known yet is no fault of this system.
        self.init.tell(FromWorker::Ready)?;
        loop {
            self.wait()?;
            let now = now();
            self.sockets.iter().for_each(|(address, socket)| {
                let mut buffer = [0; 2 * BYTES];
                // More than one datagram is more than was asked for.
                if let Ok(got) = socket.recv(&mut buffer) {
                    self.client.hear(*address, buffer.get(..got).unwrap_or_default(), now);
                }
            });
            if let Some((outcome, rest)) = self.client.finish(now) {
                self.sockets.clear();
                self.next_round = now.saturating_add(rest);
                self.tell(&outcome)?;
            } else if self.client.deadline().is_none() && self.asks() && self.next_round <= now {
                self.ask();
            }
        }
    }

    /// The config is known, and does not say that nobody is to be asked.
    fn asks(&self) -> bool {
        self.wanted.as_ref().is_some_and(|list| list.as_ref().is_none_or(|list| !list.is_empty()))
    }

    /// Until PID 1 says something, an answer comes, or it is time.
    fn wait(&mut self) -> io::Result<()> {
        let due = self.client.deadline().or(self.asks().then_some(self.next_round));
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            let wait = due.saturating_sub(now()) + Duration::from_millis(1);
            PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
        });
        let mut polled = vec![PollFd::new(self.init.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.sockets.values().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polled, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if polled.first().and_then(PollFd::any).unwrap_or(false)
            && let (ToWorker::Time { servers }, _) = self.init.recv()?
        {
            self.wanted = Some(servers);
            self.next_round = Duration::ZERO;
            if self.wanted == Some(Some(Vec::new())) {
                self.say("asks nobody: [time] servers is empty".into())?;
            }
        }
        Ok(())
    }

    /// Begins a round.
    fn ask(&mut self) {
        let (servers, trouble) = self.servers();
        if let Some(trouble) = trouble {
            eprintln!("{trouble}");
        }
        let (random, questions) = (&self.random, &mut self.questions);
        let number = || {
            *questions += 1;
            random.hash_one((*questions, now()))
        };
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = i128::try_from(clock.as_nanos()).unwrap_or_default();
        for (address, question) in self.client.begin(&servers, now(), clock, number) {
            let sent = socket(address).and_then(|socket| socket.send(&question).map(|_| socket));
            match sent {
                Ok(socket) => drop(self.sockets.insert(address, socket)),
                Err(error) => self.client.unreachable(address, error.to_string()),
            }
        }
    }

    /// Whom to ask: those of the config, else DHCP's, else everybody's. Looking names up may take some seconds.
    fn servers(&self) -> (Vec<SocketAddr>, Option<String>) {
        let names: Vec<String> = match &self.wanted {
            Some(Some(list)) => list.clone(),
            _ => match from_dhcp(Path::new(paths::TIME_SERVERS)) {
                found if found.is_empty() => DEFAULT_SERVERS.map(str::to_owned).to_vec(),
                found => found,
            },
        };
        let (mut all, mut trouble) = (Vec::new(), None);
        for name in &names {
            match look_up(name) {
                Ok(found) => all.extend(found.into_iter().take(limits::TIME_ADDRESSES)),
                Err(error) => trouble = Some(format!("{name}: {error}")),
            }
        }
        (all, trouble)
    }

    fn tell(&mut self, outcome: &Outcome) -> io::Result<()> {
        match outcome {
            Outcome::Told(verdict) => {
                let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                self.init.tell(FromWorker::Clock {
                    offset_ns: verdict.offset_ns,
                    error_ns: verdict.error_ns,
                    agree: count(verdict.agree),
                    of: count(verdict.of),
                })?;
                self.say(format!("{} of {} time servers agree", verdict.agree, verdict.of))
            }
            Outcome::Doubted(verdict) => {
                eprintln!(
                    "{} of {} time servers say that the clock is off by {} s; asked again before it is believed",
                    verdict.agree,
                    verdict.of,
                    verdict.offset_ns / 1_000_000_000
                );
                Ok(())
            }
            Outcome::Nothing(why) => self.say(why.clone()),
        }
    }

    /// The sentence for `berth ps` and the console, where it is new.
    fn say(&mut self, text: String) -> io::Result<()> {
        if self.said != text {
            self.init.tell(FromWorker::Status { text: text.clone() })?;
            eprintln!("{text}");
            self.said = text;
        }
        Ok(())
    }
}

/// A socket that hears this server only.
fn socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// `name`, `name:port`, an address, `[address]:port`.
fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![(address, PORT).into()]);
    }
    if let Ok(address) = name.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    match name.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) => Ok((host, port).to_socket_addrs()?.collect()),
        None => Ok((name, PORT).to_socket_addrs()?.collect()),
    }
}

/// What the network agent has written: an address a line.
fn from_dhcp(file: &Path) -> Vec<String> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(limits::TIME_FILE_BYTES).read_to_string(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    text.lines().map(str::trim).filter(|line| line.parse::<IpAddr>().is_ok()).map(str::to_owned).collect()
}

/// Time that never jumps, and goes on while the machine sleeps.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_as_a_config_names_them() {
        for (name, address) in [
            ("192.0.2.1", "192.0.2.1:123"),
            ("2001:db8::1", "[2001:db8::1]:123"),
            ("10.0.2.2:4123", "10.0.2.2:4123"),
            ("[2001:db8::1]:4123", "[2001:db8::1]:4123"),
            ("localhost:4123", "127.0.0.1:4123"),
        ] {
            let found = look_up(name).unwrap();
            assert!(found.contains(&address.parse().unwrap()), "{name}: {found:?}");
        }
    }

    #[test]
    fn of_a_file_only_addresses_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("time-servers");
        assert_eq!(from_dhcp(&file), Vec::<String>::new());
        std::fs::write(&file, "10.0.2.2\nnonsense\n\n192.0.2.7\n").unwrap();
        assert_eq!(from_dhcp(&file), ["10.0.2.2", "192.0.2.7"]);
    }
}
