//! What the scenarios are made of: namespaces, a DHCP server, a pretended PID 1.

use berth_net::agent::Agent;
use berth_net::dhcp::message::{Kind, Message, Op};
use berth_net::netlink::{Addr, Route, Socket, Veth};
use berth_net::plan;
use berth_units::control::client::Client;
use berth_units::control::{FromWorker, ToInit, ToWorker, packet};
use berth_units::model::{Interface, MachineNetwork, Port};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, UnixAddr, bind, listen,
    sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long anything may take. Generous: the tests' machine is busy.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait for what must not happen.
pub const SHORT: Duration = Duration::from_millis(300);

pub const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";
pub const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const LEASED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);

/// The program, started anew as the agent.
pub fn agent_process(folder: &Path) -> ExitCode {
    let init = Client::connect_to(&folder.join("control.sock")).expect("control socket");
    init.tell(FromWorker::Hello).expect("hello");
    let agent = Agent::new(init, &folder.join("resolv.conf")).expect("agent");
    match agent.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent ends: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A network namespace.
pub struct Netns(File);

impl Netns {
    /// A new one, without anything in it.
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("new network namespace");
            File::open("/proc/thread-self/ns/net").expect("its descriptor")
        };
        let netns = Self(thread::spawn(make).join().expect("thread"));
        netns.run(|| {
            let mut rtnl = rtnl();
            let lo = rtnl.link("lo").expect("lo").expect("lo");
            rtnl.set_up(lo.index, true).expect("lo up");
        });
        netns
    }

    /// Runs `work` inside.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = || {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("enter namespace");
                work()
            };
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `work` inside, beside everything else, as long as it likes.
    pub fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        let netns = self.0.try_clone().expect("descriptor");
        thread::spawn(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET).expect("enter namespace");
            work();
        });
    }

    /// What the container's setup hands on: the namespace, and a netlink socket opened inside.
    pub fn descriptors(&self) -> (OwnedFd, OwnedFd) {
        let open = || {
            let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
            socket(AddressFamily::Netlink, kind.0, kind.1, kind.2).expect("netlink socket")
        };
        (self.0.try_clone().expect("descriptor").into(), self.run(open))
    }

    /// Tries to connect; the text that the server sends.
    pub fn fetch(&self, to: impl Into<SocketAddr>, patience: Duration) -> std::io::Result<String> {
        let to = to.into();
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, patience)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// A server that tells each who comes who it is, as `NAME sees ADDRESS`.
    pub fn serve(&self, name: &'static str, port: u16) {
        let listener = self.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("listen"));
        thread::spawn(move || {
            while let Ok((mut stream, from)) = listener.accept() {
                let _ = write!(stream, "{name} sees {}", from.ip());
            }
        });
    }
}

pub fn rtnl() -> Socket {
    Socket::open(SockProtocol::NetlinkRoute, 0).expect("netlink")
}

/// A unit's namespaces: a user namespace, and a network namespace that belongs to it.
pub struct Unit {
    pub netns: Netns,
    process: Child,
}

impl Unit {
    pub fn new() -> Self {
        let mut process = Command::new("unshare")
            .args(["-Urn", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().expect("stdout")).read_line(&mut line).expect("a line");
        let netns = File::open(format!("/proc/{}/ns/net", process.id())).expect("its namespace");
        Self { netns: Netns(netns), process }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The machine, the world, a cable between them, and a pretended PID 1.
pub struct Lab {
    pub machine: Netns,
    pub world: Netns,
    pub folder: tempfile::TempDir,
    /// Of packets, whatever its type says.
    listener: UnixListener,
}

impl Lab {
    /// The world knows a way to the units' network through the machine.
    pub fn route_the_world_to_units(&self) {
        self.world.run(|| {
            let mut rtnl = rtnl();
            let index = rtnl.link("w0").unwrap().unwrap().index;
            let via = Some(LEASED.into());
            let default = Route::default_via(LEASED.into(), index, 0);
            rtnl.add_route(&Route { to: plan::NETWORK.into(), prefix: plan::PREFIX, via, ..default })
                .unwrap();
        });
    }

    pub fn new() -> Self {
        let (machine, world) = (Netns::new(), Netns::new());
        machine.run(|| {
            // Berth never loads br_netfilter, which would put what units send each other through the packet filter
            // twice; where it is built into the kernel, this is the same.
            let filter = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
            if filter.exists() {
                fs::write(filter, "0").expect("no packet filter on bridges");
            }
            // As PID 1 has it.
            fs::write("/proc/sys/net/ipv4/conf/all/send_redirects", "0").expect("no redirects");
            fs::write("/proc/sys/net/ipv6/conf/default/accept_ra", "2").expect("advertisements");
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("forwarding");
            let veth = Veth {
                name: "up0",
                master: 0,
                peer: "w0",
                peer_mac: [2, 0, 0, 0, 0, 1],
                netns: world.0.as_fd(),
            };
            rtnl().create_veth(&veth).expect("cable");
        });
        world.run(|| {
            let mut rtnl = rtnl();
            let index = rtnl.link("w0").expect("w0").expect("w0").index;
            rtnl.add_address(&Addr::new(index, WORLD.into(), 24)).expect("address");
        });
        let folder = tempfile::tempdir().expect("folder");
        let kind = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, kind, None).expect("socket");
        let address = UnixAddr::new(&folder.path().join("control.sock")).expect("address");
        bind(listener.as_raw_fd(), &address).expect("bind");
        listen(&listener, Backlog::new(4).expect("backlog")).expect("listen");
        let lab = Self { machine, world, folder, listener: listener.into() };
        lab.cable(true);
        lab
    }

    /// Plugs the cable in or out.
    pub fn cable(&self, plugged: bool) {
        self.world.run(|| {
            let mut rtnl = rtnl();
            let index = rtnl.link("w0").expect("w0").expect("w0").index;
            rtnl.set_up(index, plugged).expect("set up");
        });
    }

    /// Starts the agent with the capabilities that its unit has.
    pub fn agent(&self) -> Init {
        let exe = std::env::current_exe().expect("own path");
        let only = "-all,+net_admin,+net_raw,+net_bind_service";
        let process = self.machine.run(|| {
            Command::new("setpriv")
                .args(["--inh-caps", "-all", "--bounding-set", only])
                .arg(exe)
                .arg("agent")
                .arg(self.folder.path())
                .spawn()
                .expect("setpriv")
        });
        let (stream, _) = self.listener.accept().expect("accept");
        let socket = OwnedFd::from(stream);
        let patience = TimeVal::seconds(i64::try_from(PATIENCE.as_secs()).expect("seconds"));
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).expect("time-out");
        let mut init = Init { socket, process, heard: Vec::new() };
        init.wait("hello", |message| matches!(message, FromWorker::Hello).then_some(()));
        init
    }

    /// A router advertisement (RFC 4861, 4.2) to the machine, with a name server (RFC 8106, 5.1).
    pub fn advertise(&self, lifetime: u32, server: Ipv6Addr) {
        self.advertise_option(&[&[25, 3, 0, 0][..], &lifetime.to_be_bytes(), &server.octets()].concat());
    }

    /// One with a prefix of 64 bits (RFC 4861, 4.6.2) that is on the link and that addresses may be made from, for an hour.
    pub fn advertise_prefix(&self, prefix: Ipv6Addr) {
        let hour = 3600_u32.to_be_bytes();
        self.advertise_option(&[&[3, 4, 64, 0xc0], &hour[..], &hour, &[0; 4], &prefix.octets()].concat());
    }

    /// The machine's address on the cable, as soon as it has one.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        let link_local = |address: &Addr| match address.ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(ip),
            _ => None,
        };
        self.machine.run(|| {
            let mut rtnl = rtnl();
            let index = rtnl.link("up0").expect("up0").expect("up0").index;
            let addresses = rtnl.addresses().expect("addresses");
            addresses.iter().filter(|address| address.index == index).find_map(link_local)
        })
    }

    /// From a router that is nobody's default.
    fn advertise_option(&self, option: &[u8]) {
        let Some(to) = self.link_local() else { return };
        let message = [&[134, 0, 0, 0, 64, 0, 0, 0][..], &[0; 8], option].concat();
        self.world.run(|| {
            let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6);
            let socket = socket(AddressFamily::Inet6, kind.0, kind.1, kind.2).expect("raw socket");
            setsockopt(&socket, sockopt::Ipv6Ttl, &255).expect("hop limit");
            let index = rtnl().link("w0").expect("w0").expect("w0").index;
            let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, index));
            // While our own address is tentative, there is none to send from.
            let _ = sendto(socket.as_raw_fd(), &message, &to, MsgFlags::empty());
        });
    }

    pub fn resolv(&self) -> String {
        fs::read_to_string(self.resolv_path()).expect("resolv.conf").trim_end().to_owned()
    }

    pub fn resolv_path(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }
}

/// PID 1's end of the connection, and the agent's process.
pub struct Init {
    socket: OwnedFd,
    process: Child,
    heard: Vec<FromWorker>,
}

impl Init {
    pub fn say(&self, message: &ToWorker, fds: Option<(OwnedFd, OwnedFd)>) {
        let fds: Vec<OwnedFd> = fds.into_iter().flat_map(|(a, b)| [a, b]).collect();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        packet::send(self.socket.as_fd(), message, &fds).expect("send");
    }

    /// Waits for a message that `wanted` makes something of.
    pub fn wait<T>(&mut self, what: &str, wanted: impl Fn(&FromWorker) -> Option<T>) -> T {
        loop {
            self.hear(what);
            if let Some(found) = self.heard.last().and_then(&wanted) {
                return found;
            }
        }
    }

    fn hear(&mut self, what: &str) {
        let heard: (ToInit, _) = packet::recv(self.socket.as_fd(), &mut packet::buffer())
            .unwrap_or_else(|error| panic!("no {what}: {error}; heard before: {:#?}", self.heard));
        let ToInit::Worker(message) = heard.0 else { panic!("a worker asks no questions") };
        self.heard.push(message);
    }

    /// Waits until the status contains `part`.
    pub fn wait_status(&mut self, part: &str) {
        let text = |message: &FromWorker| match message {
            FromWorker::Status { text } => Some(text.clone()),
            _ => None,
        };
        while !self.heard.iter().rev().find_map(text).is_some_and(|text| text.contains(part)) {
            self.hear(part);
        }
    }

    /// Waits until the machine's addresses, as last told, have one that `wanted` takes.
    pub fn wait_address(&mut self, what: &str, wanted: impl Fn(&IpAddr, u8) -> bool) -> IpAddr {
        let list = |message: &FromWorker| match message {
            FromWorker::Addresses { addresses } => Some(addresses.clone()),
            _ => None,
        };
        loop {
            let last = self.heard.iter().rev().find_map(list).unwrap_or_default();
            let found = last.iter().find_map(|(_, address)| {
                let (ip, prefix) = address.split_once('/')?;
                let (ip, prefix) = (ip.parse().ok()?, prefix.parse().ok()?);
                wanted(&ip, prefix).then_some(ip)
            });
            if let Some(found) = found {
                return found;
            }
            self.hear(what);
        }
    }

    /// From now on things may take so long.
    pub fn be_patient(&self, patience: Duration) {
        let patience = TimeVal::seconds(i64::try_from(patience.as_secs()).expect("seconds"));
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &patience).expect("time-out");
    }

    /// Waits until the status does not contain `part`.
    pub fn wait_status_without(&mut self, part: &str) {
        let text = |message: &FromWorker| match message {
            FromWorker::Status { text } => Some(text.clone()),
            _ => None,
        };
        while self.heard.iter().rev().find_map(text).is_none_or(|text| text.contains(part)) {
            self.hear(&format!("status without {part}"));
        }
    }

    /// Waits until the machine's addresses are these.
    pub fn wait_addresses(&mut self, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let list = |message: &FromWorker| match message {
            FromWorker::Addresses { addresses } => Some(addresses.clone()),
            _ => None,
        };
        while self.heard.iter().rev().find_map(list).as_ref() != Some(&expected) {
            self.hear("addresses as expected");
        }
    }

    pub fn configure(&self, interface: Interface) {
        self.configure_with(interface, &[]);
    }

    /// With these name servers instead of the lease's.
    pub fn configure_with(&self, interface: Interface, dns: &[IpAddr]) {
        let network =
            MachineNetwork { interfaces: vec![interface], dns: dns.to_vec(), ..MachineNetwork::default() };
        self.configure_network(network);
    }

    /// With just this.
    pub fn configure_network(&self, network: MachineNetwork) {
        let machine_id = MACHINE_ID.into();
        self.say(&ToWorker::Configure { network, hostname: "node1".into(), machine_id }, None);
    }

    /// Tells whose name is what: `("web", "web.1 web.2")`.
    pub fn names(&self, names: &[(&str, &str)]) {
        let split = |units: &str| units.split_whitespace().map(str::to_owned).collect();
        let names = names.iter().map(|(name, units)| ((*name).to_owned(), split(units))).collect();
        self.say(&ToWorker::Names { names }, None);
    }

    pub fn attach(&mut self, name: &str, unit: &Unit, ports: &[Port]) -> Result<IpAddr, String> {
        let message = ToWorker::Attach { unit: name.into(), ports: ports.to_vec() };
        self.say(&message, Some(unit.netns.descriptors()));
        self.wait("attached", |message| match message {
            FromWorker::Attached { unit, address } if unit == name => Some(Ok(*address)),
            FromWorker::AttachFailed { unit, error } if unit == name => Some(Err(error.clone())),
            _ => None,
        })
    }

    /// Ends the agent as a crash would.
    pub fn kill(mut self) {
        self.process.kill().expect("kill");
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn dhcp_on(matches: &str) -> Interface {
    Interface { matches: matches.into(), ..Interface::default() }
}

/// A DHCP server in the world. What it hears goes to the receiver; it answers while `answers` says so.
pub fn dhcp_server(world: &Netns, answer: fn(&Message) -> Option<Message>) -> mpsc::Receiver<Message> {
    let socket = world.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).expect("port 67");
        socket.set_broadcast(true).expect("broadcast");
        setsockopt(&socket, sockopt::BindToDevice, &"w0".into()).expect("device");
        socket
    });
    let (tell, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok(length) = socket.recv(&mut buffer) {
            let question = berth_net::dhcp::parse(&buffer[..length]).expect("a good question");
            if let Some(reply) = answer(&question) {
                let to = if question.ciaddr.is_unspecified() { Ipv4Addr::BROADCAST } else { question.ciaddr };
                socket.send_to(&reply.to_bytes(), (to, 68)).expect("answer");
            }
            if tell.send(question).is_err() {
                return;
            }
        }
    });
    heard
}

/// What a usual server answers.
pub fn usual(question: &Message) -> Option<Message> {
    let kind = match question.kind {
        Kind::Discover => Kind::Offer,
        Kind::Request => Kind::Ack,
        _ => return None,
    };
    let mut reply = Message::new(Op::Reply, kind, question.xid, question.mac);
    (reply.server, reply.yiaddr, reply.prefix) = (Some(WORLD), LEASED, Some(24));
    (reply.lease, reply.mtu) = (Some(3600), Some(1400));
    (reply.routers, reply.dns) = (vec![WORLD], vec![Ipv4Addr::new(192, 0, 2, 53)]);
    reply.domain = Some("lab.example".into());
    Some(reply)
}
